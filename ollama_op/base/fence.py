"""Asked before every change: whether this replica leads for as long as that may take."""

from collections.abc import Callable

Fence = Callable[[float], None]
"""Takes how long a change may take, in seconds. Raises NotLeading if it may not be begun."""


def no_fence(_limit_s: float) -> None:
    """Let everything pass: there is one replica."""
