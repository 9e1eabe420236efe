"""Where the process begins: with the one thing that cannot wait for the imports."""

import os
import signal
import sys


def main() -> None:
    """Run the command line, ready from the first moment on to be told to stop."""
    if sys.argv[1:2] == ["run"]:
        # `service` puts its own in place of this one before anything has begun that needs an end.
        # Without it, SIGTERM would end this as a failure; and to the first process of a container
        # it would not come at all.
        signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    from ollama_op.cli import commands as cli  # noqa: PLC0415 - takes a while

    cli.main()


if __name__ == "__main__":
    main()
