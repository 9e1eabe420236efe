"""Sweep all crash scenarios, or those named, and tell how many points there were and what failed.

Run by `just verify-crash`. Another `--seed` is another order of tasks and other delays.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from crash.scenarios import SCENARIOS
from crash.sweep import sweep


def main() -> int:
    """Sweep; return 0 if every point converged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help="which; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logs", action="store_true", help="show what the operator logged")
    asked = parser.parse_args()
    if unknown := {*asked.names} - {scenario.name for scenario in SCENARIOS}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    chosen = [one for one in SCENARIOS if not asked.names or one.name in asked.names]
    points = failures = 0
    for scenario in chosen:
        count, failed = sweep(scenario, seed=asked.seed)
        points, failures = points + count, failures + len(failed)
        for failure in failed:
            _say(failure, *(failure.logs if asked.logs else ()))
    _say(f"crash sweep: {points} points in {len(chosen)} scenarios, {failures} failures")
    return bool(failures)


def _say(*lines: object) -> None:
    if lines:
        print(*lines, sep="\n  ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
