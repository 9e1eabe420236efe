"""The command line: flags, commands, the doctor."""
