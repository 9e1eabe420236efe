import pytest

from ollama_op.base.backoff import Backoff


def test_waits_double_up_to_a_longest():
    """However many failures there have been."""
    backoff = Backoff(first_s=0.5, longest_s=30)
    waits = [backoff.after(failures) for failures in (1, 2, 3, 6, 7, 8, 10**9)]
    assert waits == [0.5, 1, 2, 16, 30, 30, 30]


@pytest.mark.parametrize(("chance", "wait_s"), [(0, 10), (0.5, 11), (0.999, 11.998)])
def test_chance_only_adds_to_a_wait(chance: float, wait_s: float):
    """At the most the jitter; also to one that is never shorter than something asks for."""
    backoff = Backoff(first_s=1, longest_s=60, jitter=0.2)
    assert backoff.after(1, chance=chance, at_least_s=10) == pytest.approx(wait_s)
