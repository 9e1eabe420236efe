"""The operator in process, in virtual time, on the sandbox."""
