"""Durations as Go writes them, `90s` or `1h30m`, also in days and weeks; in flags and in specs."""

import re
from typing import Final

import durationpy

EXAMPLES: Final = "write 90s, 5m or 1h30m"
_SHOWN: Final = 40  # characters of a text that a complaint repeats
DURATION: Final = re.compile(r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+")
NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class InvalidDurationError(ValueError):
    """The text is no length of time. The message says what would be one."""


def parse_seconds(text: str) -> float:
    """Read a duration into seconds, more than none.

    Raises: InvalidDurationError.
    """
    written = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    if NUMBER.fullmatch(text) and float(text) > 0:
        units = f"write {text}s, {text}m or {text}h" if written == text else EXAMPLES
        raise InvalidDurationError(f"{written!r} has no unit; {units}")
    seconds = _seconds(text.removeprefix("-"))
    if seconds is None:
        raise InvalidDurationError(f"{written!r} is no duration; {EXAMPLES}")
    if seconds <= 0 or text.startswith("-"):
        raise InvalidDurationError(f"{written!r} is no time to wait; {EXAMPLES}")
    return seconds


def _seconds(text: str) -> float | None:
    if NUMBER.fullmatch(text):
        return 0  # or less than that, without a unit
    if not DURATION.fullmatch(text):
        return None
    try:
        return float(durationpy.from_str(text).total_seconds())
    except (durationpy.DurationError, ValueError, OverflowError):
        return None
