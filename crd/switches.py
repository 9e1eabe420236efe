"""Yes and no as people write them, in flags and in annotations alike."""

from typing import Final

YES: Final = ("true", "t", "1", "yes", "y", "on")
NO: Final = ("", "false", "f", "0", "no", "n", "off")


def read_switch(text: str) -> bool | None:
    """Return what a text says, whatever its case; None if it says neither yes nor no."""
    word = text.strip().lower()
    if word in YES:
        return True
    return False if word in NO else None
