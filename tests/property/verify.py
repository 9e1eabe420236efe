"""The property test at length: `verify.py --runs 500`, each up to 200 steps, new ones each time."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from property.machine import Step
from property.play import LONGEST, play, quietly, whatever_happens


def main() -> None:
    """Play until something goes wrong, which is shrunk and shown, or all is played."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    taken: list[int] = []

    def once(steps: list[Step]) -> None:
        taken.append(len(steps))
        play(steps)

    began = time.monotonic()
    quietly()
    whatever_happens(once, runs=runs, longest=LONGEST, derandomize=False)
    seconds = time.monotonic() - began
    print(f"property test: {len(taken)} runs, {sum(taken)} steps, 0 violations ({seconds:.0f} s)")


if __name__ == "__main__":
    main()
