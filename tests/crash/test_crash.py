"""The operator may die, or be told nonsense, at any write: the end is the same."""

from functools import partial

import anyio
import pytest

from crash.play import Scenario, run
from crash.scenarios import SCENARIOS
from crash.sweep import points, sweep, undisturbed
from crash.tap import Tap
from crash.writes import CALM, Mishap, Point
from ollama_op.base.asgi import Message, Receive, Send

BY_NAME = pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.name for each in SCENARIOS])


@BY_NAME
def test_whatever_befalls_a_write_the_end_is_the_same(scenario: Scenario) -> None:
    """After a death, a lost answer, silence, 409 or 503 all ends as if there had been none.

    On the way no finalizer goes before its model, no model that somebody names is deleted, nothing
    is pulled without a finalizer, no write hits another object, and few writes are made twice.
    """
    _, failures = sweep(scenario)
    assert not failures, "\n".join(map(str, failures))


def test_the_sweep_is_as_wide_as_promised() -> None:
    """There are at least 400 points, of every kind."""
    found = [p for scenario in SCENARIOS for p in points(scenario, undisturbed(scenario))]
    assert len(found) >= 400
    assert {point.mishap for point in found} == {*Mishap}


def test_nothing_gets_out_of_a_dead_operator() -> None:
    """What it still tries while it dies reaches nobody; its successor is heard."""
    heard: list[str] = []

    async def app(scope: Message, _receive: Receive, _send: Send) -> None:
        heard.append(scope["path"])

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}"}

    async def play() -> None:
        tap = Tap(CALM)
        ask = partial(tap.through(app), receive=receive, send=receive)
        scope = {"method": "DELETE", "query_string": b"", "headers": []}
        tap.die()
        with pytest.raises(ConnectionResetError):
            await ask(scope | {"path": "/late"})
        tap.revive()
        await ask(scope | {"path": "/new"})

    anyio.run(play)
    assert heard == ["/new"]


def test_a_run_can_be_repeated() -> None:
    """The same seed is the same course, write by write, so a failure can be looked into."""
    scenario = next(each for each in SCENARIOS if each.name == "share")
    point = Point(Mishap.DIE_AFTER, write=3)
    first, second = (run(scenario, point) for _ in range(2))
    assert [str(write) for write in first.writes] == [str(write) for write in second.writes]
    assert first.facts == second.facts
