"""Two real operators, of which one leads, whatever befalls it."""

import pytest

from support.leaders import leaders

pytestmark = pytest.mark.real

ROUNDS = ("stop", "pause", "kill", "blink", "stop")


def test_one_acts_and_another_follows(cluster, registry, ollama) -> None:
    """Only who holds the lease changes anything in Ollama; it changes hands whatever ends."""
    with leaders(cluster, registry, ollama) as it:
        for kind in ROUNDS:
            it.round(kind)
    assert it.times_s.keys() == {"stop", "pause", "kill"}
