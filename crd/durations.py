"""Durations as Go writes them, `90s` or `1h30m`, in flags and in specs alike."""

import durationpy


class InvalidDurationError(ValueError):
    """The text is no length of time. The message says what would be one."""


def parse_seconds(text: str) -> float:
    """Read a duration into seconds, more than none.

    Raises: InvalidDurationError.
    """
    try:
        seconds = float(durationpy.from_str(text).total_seconds())
    except (durationpy.DurationError, ValueError, OverflowError):
        raise InvalidDurationError(f"{text!r} is no duration; write 90s, 5m or 1h30m") from None
    if seconds <= 0:
        raise InvalidDurationError(f"{text!r} is no time to wait; write 90s, 5m or 1h30m")
    return seconds
