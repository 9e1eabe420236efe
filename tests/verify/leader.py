"""Pause, kill and end the leader of two operators again and again: `leader.py [--rounds N]`.

On the real kube-apiserver and the real Ollama. A round ends in bounded time, or fails.
"""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.kube.controlplane import controlplane
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.leaders import KINDS, leaders
from support.process.operator import apply_crd

LIMITS_S = {"stop": 3.0, "pause": 20.0, "kill": 20.0}  # until another one leads
CRD = Path(__file__).parents[2] / "config" / "crd"


def main() -> int:
    """Play the rounds; return 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = parser.parse_args()
    dice, began = random.Random(given.seed), time.monotonic()  # noqa: S311 - no secret
    print(f"{given.rounds} rounds, seed {given.seed}")
    with controlplane() as cluster, Registry() as registry, OllamaServer(registry) as ollama:
        apply_crd(cluster, CRD)
        with leaders(cluster, registry, ollama) as it:
            for n in range(given.rounds):
                kind, at = dice.choice(KINDS), time.monotonic()
                it.round(kind)
                print(f"{n + 1:4} {kind:6} {time.monotonic() - at:5.1f} s", flush=True)
    late = False
    for kind, times_s in sorted(it.times_s.items()):
        middle, longest = statistics.median(times_s), max(times_s)
        print(f"{kind}: {len(times_s)} times, {middle:.1f} s, at most {longest:.1f} s")
        late = late or longest > LIMITS_S[kind]
    print(f"deleted again by a successor: {len(it.deleted_twice)}")
    how = "too late" if late else "all well"
    print(f"{how}, in {time.monotonic() - began:.0f} s")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
