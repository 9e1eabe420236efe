import math
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import httpx
import msgspec
import pytest
from trio.testing import MockClock

from ollama_op.sandbox.kube.server import ApiFault, KubeSandbox
from ollama_op.sandbox.kube.table import age
from ollama_op.sandbox.status import ApiError
from ollama_op.sandbox.transport import AppTransport

MODELS = "/apis/ollama.smithforge.dev/v1alpha1/namespaces/default/ollamamodels"
PATCH = {"content-type": "application/merge-patch+json"}
TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def anyio_backend():
    """Run in virtual time: when all tasks wait, the clock jumps to the first that is due."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
async def sandbox():
    """Return a sandbox whose timestamps follow virtual time."""
    return KubeSandbox(now=lambda: EPOCH + timedelta(seconds=anyio.current_time()))


@pytest.fixture
async def client(sandbox):
    """Return a client that calls the sandbox in process."""
    transport = AppTransport(sandbox)
    async with httpx.AsyncClient(transport=transport, base_url="http://kube") as client:
        yield client


async def create(client, name, **metadata):
    body = {
        "apiVersion": "ollama.smithforge.dev/v1alpha1",
        "kind": "OllamaModel",
        "metadata": {"name": name, **metadata},
        "spec": {"name": "phi3", "tag": "mini"},
    }
    answer = await client.post(MODELS, json=body)
    return answer.raise_for_status().json()


async def watch(client, events, *, seconds=600, **query):
    """Append each event of a watch, with the time at which it came."""
    begin = anyio.current_time()
    asked = {"watch": "true", "timeoutSeconds": seconds, **query}
    timeout = httpx.Timeout(None)
    async with client.stream("GET", MODELS, params=asked, timeout=timeout) as answer:
        async for line in answer.aiter_lines():
            events.append((anyio.current_time() - begin, msgspec.json.decode(line)))


async def test_a_watch_delivers_at_once(client):
    """An event comes while the response is still under way, not at its end."""
    events = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, client, events)
        await anyio.sleep(5)
        await create(client, "phi")
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    ((at, event),) = events
    assert (at, event["type"]) == (5, "ADDED")


async def test_a_watch_ends_when_its_time_is_up(client):
    """Quietly, as the real one does; without a wish after half an hour."""
    begin = anyio.current_time()
    await watch(client, [], seconds=90)
    assert anyio.current_time() - begin == 90
    await watch(client, [], seconds="")
    assert anyio.current_time() - begin == 90 + 1800


async def test_bookmarks_come_once_a_minute(client):
    """While there is news of any resource, and once more just before the end."""

    async def write_every_second():
        for number in range(200):
            await client.post("/api/v1/namespaces", json=namespace(f"n{number}"))
            await anyio.sleep(1)

    events = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_every_second)
        await watch(client, events, seconds=150, resourceVersion="1", allowWatchBookmarks="true")
        tasks.cancel_scope.cancel()
    assert [event["type"] for _, event in events] == ["BOOKMARK"] * 3
    assert [round(at) for at, _ in events] == [60, 120, 148]


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


async def test_a_change_behind_a_bookmark_is_not_lost(client):
    """A client that is slow to take a bookmark gets what happened meanwhile right after it."""
    asked = {"watch": "true", "resourceVersion": "1", "allowWatchBookmarks": "true"}
    await create(client, "a")
    async with client.stream("GET", MODELS, params=asked) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        await client.post("/api/v1/namespaces", json=namespace("news"))
        await anyio.sleep(90)
        await create(client, "b")
        begin = anyio.current_time()
        types = [msgspec.json.decode(await anext(lines))["type"] for _ in range(2)]
        assert (anyio.current_time() - begin, types) == (0, ["BOOKMARK", "ADDED"])


async def test_compaction_reaches_a_watch_that_fell_behind(client, sandbox):
    """It is told so, and then it ends."""
    begin = sandbox.store.revision
    await create(client, "phi")
    sandbox.store.compact()
    events = []
    await watch(client, events, resourceVersion=str(begin))
    ((at, event),) = events
    assert (at, event["type"], event["object"]["code"]) == (0, "ERROR", 410)


async def test_compaction_does_not_disturb_a_watch_that_is_up_to_date(client, sandbox):
    """It has all there was, so it misses nothing."""
    events = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, client, events)
        for name in ("a", "b"):
            await anyio.sleep(1)
            await create(client, name)
            await anyio.sleep(1)
            sandbox.store.compact()
        tasks.cancel_scope.cancel()
    assert [event["type"] for _, event in events] == ["ADDED", "ADDED"]


async def test_the_next_page_of_a_compacted_list_is_gone(client, sandbox):
    """The client must begin again."""
    for name in ("a", "b"):
        await create(client, name)
    first = (await client.get(MODELS, params={"limit": "1"})).json()
    await create(client, "c")
    sandbox.store.compact()
    query = {"continue": first["metadata"]["continue"]}
    assert (await client.get(MODELS, params=query)).status_code == 410


async def test_old_changes_are_forgotten_by_themselves(sandbox):
    """The log does not grow for ever; what is kept is never less than half of its limit."""
    begin = sandbox.store.revision
    for number in range(20_001):
        sandbox.store.put("leases", ("default", "leader"), {"metadata": {"name": str(number)}})
    with pytest.raises(ApiError, match="too old"):
        sandbox.store.since(begin)
    assert len(sandbox.store.since(sandbox.store.revision - 10_000)) == 10_000


async def test_a_resource_version_from_the_future_is_refused(client):
    """As after a restart of the sandbox, whose counter begins again: a list is, a watch is not."""
    answer = await client.get(MODELS, params={"resourceVersion": "999"})
    assert answer.status_code == 504
    events = []
    await watch(client, events, resourceVersion="999", timeoutSeconds="100")
    assert events == []


async def test_a_server_that_hangs_up_ends_all_watches(client, sandbox):
    """They end quietly; the next one works."""
    events = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, client, events)
        await anyio.sleep(7)
        sandbox.hang_up()
    assert anyio.current_time() == pytest.approx(7)
    await create(client, "phi")
    await watch(client, events, seconds=1)
    assert len(events) == 1


async def test_timestamps_and_ages_follow_the_clock(client):
    """Of the sandbox, not of the wall."""
    await anyio.sleep(86_400)
    made = await create(client, "phi", finalizers=["test/one"])
    await anyio.sleep(200)
    gone = (await client.delete(f"{MODELS}/phi")).json()
    assert made["metadata"]["creationTimestamp"] == "2026-01-02T00:00:00Z"
    assert gone["metadata"]["deletionTimestamp"] == "2026-01-02T00:03:20Z"
    table = (await client.get(MODELS, headers=TABLE)).json()
    assert table["rows"][0]["cells"][4] == "3m20s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (49 * 3600, "2d1h"),
        (9 * 86_400, "9d"),
        (800 * 86_400, "2y70d"),
        (10 * 365 * 86_400, "10y"),
        (-1, "0s"),
        (-5, "<invalid>"),
    ],
)
def test_an_age_is_written_as_kubectl_does(seconds, text):
    """Two units where the smaller one still matters."""
    assert age(EPOCH.isoformat(), EPOCH + timedelta(seconds=seconds)) == text


async def test_writes_can_be_counted(client, sandbox):
    """Every request is on record, refused ones as well."""
    await create(client, "phi")
    await client.patch(f"{MODELS}/psi", json={}, headers=PATCH)
    assert sandbox.requests == [("POST", MODELS), ("PATCH", f"{MODELS}/psi")]


async def test_a_fault_can_stand_for_an_answer(client, sandbox):
    """With its code, its Retry-After and its delay; nothing is written."""
    sandbox.intercept = lambda request: (
        ApiFault(code=429, reason="TooManyRequests", retry_after_s=3, delay_s=2)
        if request.method == "POST"
        else None
    )
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await create(client, "phi")
    answer = caught.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert anyio.current_time() == pytest.approx(2)
    assert (await client.get(MODELS)).json()["items"] == []


async def test_an_answer_can_be_lost_after_the_write(client, sandbox):
    """The client sees a cut connection, the object is there."""
    sandbox.intercept = lambda request: (
        ApiFault(code=0, done=True) if request.method == "POST" else None
    )
    with pytest.raises(httpx.ReadError):
        await create(client, "phi")
    assert len((await client.get(MODELS)).json()["items"]) == 1


async def test_a_dead_connection_is_silent_until_the_client_gives_up(client, sandbox):
    """The read timeout of the request is kept."""
    sandbox.intercept = lambda _request: ApiFault(delay_s=math.inf)
    with pytest.raises(httpx.ReadTimeout):
        await client.get(MODELS, timeout=30)
    assert anyio.current_time() == pytest.approx(30)


async def test_a_silent_stream_times_out_too(client):
    """Between two chunks as before the first."""
    asked = {"watch": "true"}
    async with client.stream("GET", MODELS, params=asked, timeout=30) as answer:
        with pytest.raises(httpx.ReadTimeout):
            await answer.aread()


async def test_closing_a_response_ends_the_application(sandbox):
    """No task is left behind that nobody reads from."""
    ended = anyio.Event()

    async def app(scope, receive, send):
        try:
            await sandbox(scope, receive, send)
        finally:
            ended.set()

    async with httpx.AsyncClient(transport=AppTransport(app), base_url="http://kube") as client:
        async with client.stream("GET", MODELS, params={"watch": "true"}):
            assert not ended.is_set()
        with anyio.fail_after(1):
            await ended.wait()


async def test_a_bug_in_an_application_reaches_the_caller():
    """As the exception that it is, before and after the response has begun."""

    async def broken(scope, _receive, send):
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ZeroDivisionError

    async with httpx.AsyncClient(transport=AppTransport(broken), base_url="http://app") as client:
        for path in ("/early", "/late"):
            with pytest.raises(ZeroDivisionError):
                await client.get(path)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncio_will_do_as_well(client):
    """The application and the transport are for both event loops."""
    begin = (await create(client, "phi"))["metadata"]["resourceVersion"]
    events = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: watch(client, events, resourceVersion=begin))
        await client.patch(f"{MODELS}/phi", json={"spec": {"tag": "new"}}, headers=PATCH)
        while not events:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert events[0][1]["type"] == "MODIFIED"
