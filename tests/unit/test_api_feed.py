import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from api.access import Keys
from api.app import Api, ApiOptions, create_api
from api.feed import MEMORY, PING_S, QUEUE, STREAM_S
from support.virtual.models import manifest
from support.virtual.rest import Known, Written, client_of, key

ALL, ONE = "/api/v1/events", "/api/v1/models/a/events"


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def api(known) -> Api:
    api = create_api(known, Written(), ApiOptions(keys=Keys([key()]), locked=True))
    known.put(manifest("a"), manifest("b", namespace="ai"))
    return api


@pytest.fixture
async def client(api) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(api) as client:
        yield client


class Events:
    """What a stream says, part by part: events as (kind, data), pings as "ping"."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer, self.last_id = answer, ""
        self._chunks, self._held = answer.aiter_text(), ""

    async def next(self) -> Any:
        """Return the next part that is not `retry`; None at the end."""
        while True:
            while "\n\n" not in self._held:
                try:
                    self._held += await anext(self._chunks)
                except StopAsyncIteration:
                    return None
            part, _, self._held = self._held.partition("\n\n")
            if part.startswith(":"):
                return part.removeprefix(": ")
            lines = dict(line.split(": ", 1) for line in part.split("\n"))
            if "retry" in lines:
                assert lines == {"retry": "3000"}
                continue
            self.last_id = lines["id"]
            return lines["event"], json.loads(lines["data"])


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, path: str, last_id: str = ""
) -> AsyncGenerator[Events]:
    headers = {"last-event-id": last_id} if last_id else {}
    async with client.stream("GET", path, headers=headers, timeout=None) as answer:
        assert answer.status_code == 200
        yield Events(answer)


async def test_a_stream_begins_with_what_is_so(client, known):
    """Of all: a list; of one: the model. Then come the changes."""
    async with watching(client, ALL) as events, watching(client, ONE) as one:
        assert events.answer.headers["content-type"].startswith("text/event-stream")
        assert events.answer.headers["cache-control"] == "no-cache"
        kind, data = await events.next()
        assert (kind, [m["name"] for m in data["items"]]) == ("snapshot", ["b", "a"])
        kind, data = await one.next()
        assert (kind, data["tag"]) == ("model", "1b")
        known.put(manifest("a", version=2, model="llama3.2:3b"))
        for each in (events, one):
            kind, data = await each.next()
            assert (kind, data["name"], data["tag"]) == ("model", "a", "3b")


async def test_the_end_of_a_model_ends_its_stream(client, known):
    """The stream of all goes on."""
    async with watching(client, ALL) as events, watching(client, ONE) as one:
        await events.next()
        await one.next()
        known.drop("uid-of-a")
        gone = ("deleted", {"name": "a", "namespace": "default"})
        assert (await events.next(), await one.next(), await one.next()) == (gone, gone, None)
        known.put(manifest("c"))
        assert (await events.next())[1]["name"] == "c"


async def test_a_stream_can_be_narrowed_to_a_namespace(client, known):
    """Snapshot and changes alike."""
    async with watching(client, f"{ALL}?namespace=ai") as events:
        assert [m["name"] for m in (await events.next())[1]["items"]] == ["b"]
        known.put(manifest("a", version=2), manifest("b", namespace="ai", version=3))
        assert (await events.next())[1]["name"] == "b"


async def test_silence_is_filled_with_pings(client):
    """So that proxies, and the client, know that the stream lives."""
    async with watching(client, ALL) as events:
        await events.next()
        began = anyio.current_time()
        assert (await events.next(), await events.next()) == ("ping", "ping")
        assert anyio.current_time() - began == pytest.approx(2 * PING_S, abs=0.1)


async def test_who_comes_back_is_told_what_was_missed(client, known):
    """By Last-Event-ID, without a new snapshot; of one model likewise, its end included."""
    async with watching(client, ALL) as events:
        await events.next()
        last_id = events.last_id
    known.put(manifest("a", version=2), manifest("c", version=3))
    async with watching(client, ALL, last_id) as events:
        assert [(await events.next())[1]["name"] for _ in range(2)] == ["a", "c"]
        known.put(manifest("d", version=4))
        assert (await events.next())[1]["name"] == "d"
        assert events.last_id != last_id
    known.drop("uid-of-a")
    async with watching(client, ONE, last_id) as one:
        assert [(await one.next())[0], (await one.next())[0], await one.next()] == [
            "model",
            "deleted",
            None,
        ]


@pytest.mark.parametrize("last_id", ["x", "deadbeef-1", "-", "é", "{epoch}-99999", "{epoch}-x"])
async def test_an_id_that_means_nothing_brings_a_snapshot(client, api, last_id):
    """From another process, from the future, or no id at all."""
    last_id = last_id.format(epoch=api.feed._view.epoch)
    headers = {b"last-event-id": last_id.encode()}
    async with client.stream("GET", ALL, headers=headers, timeout=None) as answer:
        assert (await Events(answer).next())[0] == "snapshot"


async def test_a_gap_that_is_too_wide_brings_a_snapshot(client, known):
    """What is not remembered any more cannot be told."""
    async with watching(client, ALL) as events:
        await events.next()
    for version in range(2, MEMORY + 3):
        known.put(manifest("a", version=version))
    async with watching(client, ALL, events.last_id) as again:
        assert (await again.next())[0] == "snapshot"


async def test_a_slow_reader_is_hung_up_on_and_holds_back_nobody(api, client, known):
    """The others are told of every change at once; the slow one is told again from the start."""
    async with anyio.create_task_group() as tasks:
        stuck = anyio.Event()

        async def never(message: Any) -> None:
            if message["type"] == "http.response.body" and message["body"]:
                stuck.set()
                await anyio.sleep_forever()

        async def silent() -> Any:
            await anyio.sleep_forever()

        scope = {
            "type": "http",
            "method": "GET",
            "path": ALL,
            "query_string": b"",
            "headers": [(b"x-api-key", b"the-key-of-the-tests")],
            "root_path": "",
        }
        tasks.start_soon(api.app, scope, silent, never)
        await stuck.wait()
        async with watching(client, ALL) as events:
            await events.next()
            assert len(api.feed) == 2
            for version in range(2, QUEUE + 4):
                known.put(manifest("a", version=version))
                assert (await events.next())[0] == "model"
            await anyio.lowlevel.checkpoint()
            assert len(api.feed) == 1
    # The task group is left: the request of the slow reader has ended.


async def test_a_change_is_put_into_bytes_once(api, known):
    """However many watch."""
    with api.feed.reading(lambda _key: True) as one, api.feed.reading(lambda _key: True) as two:
        known.put(manifest("a", version=2))
        assert one.queue[0].frame is two.queue[0].frame


async def test_closing_ends_every_stream_in_order(api, client):
    """So that a shutdown need not wait for them; a late one ends at once."""
    async with watching(client, ALL) as events:
        await events.next()
        api.close()
        assert await events.next() is None
    async with watching(client, ALL) as late:
        assert (await late.next())[0] == "snapshot"
        assert await late.next() is None


async def test_hanging_up_ends_the_streams_that_there_are(api, client):
    """So that whoever watches shows a key again; who comes back is served."""
    async with watching(client, ALL) as events:
        await events.next()
        api.feed.hang_up()
        assert await events.next() is None
    async with watching(client, ALL) as again:
        assert (await again.next())[0] == "snapshot"
        assert len(api.feed) == 1


async def test_no_stream_outlives_its_permission_for_long(client):
    """A key that was withdrawn is noticed when the client has to come back."""
    began = anyio.current_time()
    async with watching(client, ALL) as events:
        while await events.next() is not None:
            pass
    assert anyio.current_time() - began == pytest.approx(STREAM_S, abs=1)


@pytest.mark.parametrize("path", [f"{ONE}?namespace=ai", "/api/v1/models/none/events"])
async def test_a_model_that_is_not_there_cannot_be_watched(client, path):
    """404, as for reading it."""
    assert (await client.get(path)).status_code == 404


async def test_a_model_may_be_called_events(client, known):
    """The stream of all has a path of its own."""
    known.put(manifest("events"))
    assert (await client.get("/api/v1/models/events")).json()["name"] == "events"
