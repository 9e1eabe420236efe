"""Two real operators, of which one leads, whatever befalls it."""

import pytest

from support.process.leaders import leaders
from support.process.operator import Models, Operator, wait_until
from support.virtual.relay import Relay

pytestmark = pytest.mark.real

ROUNDS = ("stop", "pause", "kill", "blink", "stop")


def test_one_acts_and_another_follows(cluster, registry, ollama) -> None:
    """Only who holds the lease changes anything in Ollama; it changes hands whatever ends."""
    with leaders(cluster, registry, ollama) as it:
        for kind in ROUNDS:
            it.round(kind)
    assert it.times_s.keys() == {"stop", "pause", "kill"}


def test_a_deletion_under_way_is_seen_through_at_the_end(cluster, registry, ollama) -> None:
    """Who is told to stop waits for Ollama's answer, so nobody has to ask for it again."""
    registry.publish("last", seed=990)
    models = Models(cluster)
    with Relay(ollama.port) as relay, Operator(cluster.kubeconfig, relay.url) as operator:
        models.apply("last", "last:latest")
        models.ready("last")
        relay.sent.clear()
        relay.answered.clear()
        relay.late_s = 0.5
        models.delete("last")
        wait_until(lambda: bool(relay.sent), operator.tail)
        assert operator.stop() == 0
        assert [sent.what for sent in relay.answered] == ["delete"]
        relay.late_s = 0
        operator.start()
        models.gone("last")
        assert len(relay.sent) == 1
