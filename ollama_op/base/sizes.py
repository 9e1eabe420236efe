"""Sizes as people read them."""

from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def formatted_size(size_bytes: int) -> str:
    """Write a size for people, in binary units with one decimal: `1.7 GiB`."""
    power = _power(size_bytes)
    return f"{size_bytes / 1024**power:.{min(power, 1)}f} {_UNITS[power]}"


def formatted_part(part_bytes: int, whole_bytes: int) -> tuple[str, str]:
    """Write a part and its whole in the whole's unit: `0.5` and `1.2 GiB`."""
    power = _power(whole_bytes)
    return f"{part_bytes / 1024**power:.{min(power, 1)}f}", formatted_size(whole_bytes)


def _power(size_bytes: int) -> int:
    return min(max(size_bytes.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
