import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest

from crd.model import OLLAMA_MODELS, OllamaModel, decode
from crd.occasions import Occasion
from ollama_op.kube import events
from ollama_op.kube.events import EVENTS_WAITING, EventRecorder
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.server import ApiFault, KubeSandbox
from ollama_op.sandbox.transport import AppTransport
from support.virtual.models import manifest
from support.virtual.unruly import Wire

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
PATH = "/api/v1/namespaces/default/events"
MODELS = "/apis/ollama.smithforge.dev/v1alpha1/namespaces/default/ollamamodels"


@dataclass
class Bench:
    """Who tells, the API server that is told, and one object."""

    server: KubeSandbox
    events: EventRecorder
    wire: Wire
    user: httpx.AsyncClient
    model: OllamaModel
    busy: bool = False

    async def tell(
        self, occasion: Occasion = Occasion.PULLED, message: str = "Pulled llama3.2:1b."
    ) -> None:
        """Tell, and give it time to arrive."""
        self.events.tell(self.model, occasion, message)
        await anyio.sleep(1)

    async def told(self) -> list[dict[str, Any]]:
        """List the events."""
        items: list[dict[str, Any]] = (await self.user.get(PATH)).json()["items"]
        return items

    def on(self, method: str, fault: ApiFault) -> None:
        """Let requests of this method meet a fault."""

        def intercept(request: SandboxRequest) -> ApiFault | None:
            return fault if request.method == method else None

        self.server.intercept = intercept


@pytest.fixture
async def b() -> AsyncGenerator[Bench]:
    async with bench() as it:
        yield it


@asynccontextmanager
async def bench() -> AsyncGenerator[Bench]:
    clock = lambda: EPOCH + timedelta(seconds=anyio.current_time())  # noqa: E731 - one line that is used once
    server = KubeSandbox(now=clock)
    async with AppTransport(server) as transport, anyio.create_task_group() as tasks:
        user = httpx.AsyncClient(transport=transport, base_url="http://kube")
        body = manifest("llama")
        del body["metadata"]["uid"], body["metadata"]["resourceVersion"]
        model = decode((await user.post(MODELS, json=body)).raise_for_status().content)
        wire = Wire(transport, "events")
        it = Bench(
            server,
            EventRecorder(wire, OLLAMA_MODELS, is_busy=lambda: it.busy, now=clock),
            wire,
            user,
            model,
        )
        tasks.start_soon(it.events.run)
        yield it
        tasks.cancel_scope.cancel()


async def test_an_event_tells_of_its_object(b: Bench):
    """It is what `kubectl describe` shows under the object."""
    await b.tell()
    (event,) = await b.told()
    assert (event["type"], event["reason"], event["count"]) == ("Normal", "Pulled", 1)
    assert event["message"] == "Pulled llama3.2:1b."
    assert event["involvedObject"] == {
        "apiVersion": "ollama.smithforge.dev/v1alpha1",
        "kind": "OllamaModel",
        "namespace": "default",
        "name": "llama",
        "uid": b.model.metadata.uid,
        "resourceVersion": b.model.metadata.resource_version,
    }


async def test_what_happens_again_is_counted(b: Bench):
    """One event says how often and when last; another message is another event."""
    for _ in range(3):
        await b.tell(Occasion.PULL_FAILED, "No space left.")
        await anyio.sleep(300)
    await b.tell(Occasion.PULL_FAILED, "No such host.")
    events = {e["message"]: e for e in await b.told()}
    again = events["No space left."]
    assert (len(events), again["count"]) == (2, 3)
    assert again["firstTimestamp"] < again["lastTimestamp"]
    assert events["No such host."]["count"] == 1


@pytest.mark.parametrize("code", [0, 403, 429, 500])
async def test_an_event_whose_count_fails_is_counted_on(b: Bench, code: int):
    """It is there all the same: the next time it tells of all, and there is no second one."""
    await b.tell(Occasion.PULL_FAILED, "No space left.")
    b.on("PATCH", ApiFault(code=code))
    await b.tell(Occasion.PULL_FAILED, "No space left.")
    b.server.intercept = lambda _request: None
    await b.tell(Occasion.PULL_FAILED, "No space left.")
    (event,) = await b.told()
    assert event["count"] == 3


async def test_a_forgotten_event_is_told_anew(b: Bench):
    """The API server drops events after an hour; what happens then is told from the beginning."""
    await b.tell()
    (event,) = await b.told()
    await b.user.delete(f"{PATH}/{event['metadata']['name']}")
    await b.tell()
    (event,) = await b.told()
    assert event["count"] == 1
    await b.tell()
    (event,) = await b.told()
    assert event["count"] == 2


async def test_what_is_remembered_is_bounded(b: Bench, monkeypatch: pytest.MonkeyPatch):
    """The oldest moment is forgotten first."""
    monkeypatch.setattr(events, "EVENTS_REMEMBERED", 2)
    for message in "abc":
        await b.tell(message=message)
    assert [moment.message for moment in b.events._sent] == ["b", "c"]


async def test_events_give_way_to_writes(b: Bench):
    """While something is written they wait, but not for ever."""
    b.busy = True
    await b.tell()
    assert await b.told() == []
    await anyio.sleep(2)
    assert len(await b.told()) == 1


async def test_events_never_stand_in_the_way(b: Bench):
    """A server that does not take them delays nobody; what does not fit is dropped."""
    b.on("POST", ApiFault(delay_s=math.inf))
    began = anyio.current_time()
    for number in range(EVENTS_WAITING + 100):
        b.events.tell(b.model, Occasion.PULLED, f"Number {number}.")
    assert anyio.current_time() == began


async def test_an_event_that_is_denied_is_dropped(b: Bench):
    """The next one is tried all the same."""
    b.on("POST", ApiFault(code=403, reason="Forbidden"))
    await b.tell(Occasion.MODEL_LOST, "Nobody sees this.")
    b.on("POST", ApiFault(code=0))
    await b.tell(Occasion.MODEL_LOST, "Nor this.")
    b.server.intercept = lambda _request: None
    await b.tell()
    assert [event["reason"] for event in await b.told()] == ["Pulled"]


async def test_an_event_after_the_end_is_no_error():
    """At shutdown, tasks may still have something to tell."""
    async with bench() as b:
        pass
    b.events.tell(b.model, Occasion.PULLED, "Too late.")
