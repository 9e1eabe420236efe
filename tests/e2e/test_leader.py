"""Two real operators, of which one leads, whatever befalls it."""

import pytest

from support.leaders import HANDOVER_S, TAKEOVER_S, leaders

pytestmark = pytest.mark.real

ROUNDS = ("stop", "pause", "kill", "blink", "stop")


def test_one_acts_and_another_follows(cluster, registry, ollama) -> None:
    """Only who holds the lease changes anything in Ollama; it changes hands in time."""
    with leaders(cluster, registry, ollama) as it:
        for kind in ROUNDS:
            it.round(kind)
    assert max(it.times_s["stop"]) <= HANDOVER_S
    assert max(it.times_s["pause"] + it.times_s["kill"]) <= TAKEOVER_S
