"""How long to wait before something that failed is tried again."""

from dataclasses import dataclass

LONGEST_DOUBLING = 16  # no wait grows further, and no number overflows


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double with each failure in a row, up to a longest.

    `jitter` is the part of a wait that chance may add, so that failures do not come back in step.
    """

    first_s: float
    longest_s: float
    jitter: float = 0

    def after(self, failures: int, *, chance: float = 0, at_least_s: float = 0) -> float:
        """Return the seconds to wait after so many failures, 1 or more; `chance` is in [0, 1)."""
        doubled_s = self.first_s * 2.0 ** min(failures - 1, LONGEST_DOUBLING)
        return max(min(doubled_s, self.longest_s), at_least_s) * (1 + self.jitter * chance)
