"""What the API server, or the network before it, can do to a list and a watch."""

import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest
import structlog

from crd.model import OLLAMA_MODELS, Malformed, OllamaModel
from crd.v1alpha1 import API_VERSION, PLURAL
from ollama_op.base.asgi import Message, Receive, Send
from ollama_op.kube.reflector import WATCH_LINE_LIMIT, Reflector
from ollama_op.kube.store import Store
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.server import ApiFault, KubeSandbox
from ollama_op.sandbox.kube.storage import Backup
from ollama_op.sandbox.transport import AppTransport
from support.virtual import unruly
from support.virtual.models import manifest
from support.virtual.unruly import UnrulyApi, Wire

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = f"/apis/{API_VERSION}/namespaces/default/{PLURAL}"
PATCH = {"content-type": "application/merge-patch+json"}
MANY = 10_000  # cues that last for the whole test


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    """Let the jitter of retries be the same in every run."""
    random.seed(1)


class News:
    """Notes what the store tells, and that it makes sense."""

    def __init__(self) -> None:
        self.alive: dict[str, OllamaModel] = {}
        self.retired: list[str] = []
        self.may_go_back = False

    def offer(self, key: str, item: OllamaModel) -> None:
        """Note a version, which must be newer than the one before."""
        if not self.may_go_back:
            assert key not in self.retired
            if before := self.alive.get(key):
                assert version(before) < version(item)
        self.alive[key] = item

    def poke(self, key: str) -> None:
        """Note nothing: what is shared is not the subject here."""

    def retire(self, key: str) -> None:
        """Note an end."""
        self.alive.pop(key, None)
        self.retired.append(key)


@dataclass
class Mirror:
    """A reflector between an unruly API server and a store."""

    api: UnrulyApi
    user: httpx.AsyncClient
    reflector: Reflector
    store: Store = field(default_factory=Store)
    news: News = field(default_factory=News)

    @property
    def kube(self) -> KubeSandbox:
        """The API server as it would be on a good day."""
        return self.api.kube

    async def create(self, name: str, **metadata: Any) -> str:
        """Create an object; return its uid."""
        body = manifest(name, **metadata)
        del body["metadata"]["uid"], body["metadata"]["resourceVersion"]
        answer = (await self.user.post(MODELS, json=body)).raise_for_status()
        uid: str = answer.json()["metadata"]["uid"]
        return uid

    async def touch(self, name: str, tag: str = "new") -> bytes:
        """Change an object; return it as it is then."""
        body = {"spec": {"tag": tag}}
        answer = await self.user.patch(f"{MODELS}/{name}", json=body, headers=PATCH)
        return answer.raise_for_status().content

    async def delete(self, name: str) -> None:
        """Delete an object."""
        (await self.user.delete(f"{MODELS}/{name}")).raise_for_status()

    def put(self, name: str, **changes: Any) -> None:
        """Store an object past all validation."""
        self.kube.store.put(PLURAL, ("default", name), manifest(name) | changes)

    def held(self) -> dict[str, int]:
        """Return what the mirror shows: the version of each object, by uid."""
        return {uid: version(model) for uid, model in self.news.alive.items()}

    def truth(self) -> dict[str, int]:
        """Return what the API server has."""
        objects = self.kube.store.at(PLURAL, self.kube.store.revision).values()
        metas = [obj["metadata"] for obj in objects]
        return {meta["uid"]: int(meta["resourceVersion"]) for meta in metas}

    async def in_step(self, *, within_s: float) -> float:
        """Wait until the mirror shows the truth; return when that was."""
        with anyio.move_on_after(within_s):
            while not (self.reflector.is_in_sync() and self.held() == self.truth()):  # noqa: ASYNC110 - two facts, without an event
                await anyio.sleep(0.01)
        assert self.held() == self.truth()
        assert self.reflector.is_in_sync()
        return anyio.current_time()

    async def seconds_out_of_sync(self, during_s: float) -> float:
        """Let time pass; return for how much of it the mirror did not trust itself."""
        lost, step_s = 0, 0.1
        for _ in range(round(during_s / step_s)):
            await anyio.sleep(step_s)
            lost += not self.reflector.is_in_sync()
        return lost * step_s


def version(model: OllamaModel) -> int:
    return int(model.metadata.resource_version)


@asynccontextmanager
async def mirroring(
    *cues: Callable[[UnrulyApi], None], namespace: str | None = None, objects: int = 3
) -> AsyncGenerator[Mirror]:
    """Run a reflector on an API server that has some objects; the cues are there from the start."""
    kube = KubeSandbox(now=lambda: EPOCH + timedelta(seconds=anyio.current_time()))
    api, store, news = (
        UnrulyApi(kube),
        Store(OLLAMA_MODELS, lambda model: model.desired.placement),
        News(),
    )
    for number in range(objects):
        kube.store.put(PLURAL, ("default", f"m{number}"), manifest(f"m{number}"))
    for cue in cues:
        cue(api)
    store.attach(news)
    async with AppTransport(api) as transport, anyio.create_task_group() as tasks:
        reflector = Reflector(Wire(transport), store, OLLAMA_MODELS, namespace=namespace)
        tasks.start_soon(reflector.run)
        user = httpx.AsyncClient(transport=transport, base_url="http://kube")
        yield Mirror(api, user, reflector, store, news)
        tasks.cancel_scope.cancel()


def on_watch(*cues: unruly.Cue) -> Callable[[UnrulyApi], None]:
    return lambda api: api.watches.extend(cues)


def on_list(*cues: unruly.Cue) -> Callable[[UnrulyApi], None]:
    return lambda api: api.lists.extend(cues)


async def test_changes_arrive_at_once():
    """New, changed and deleted objects are known in the moment they happen."""
    async with mirroring() as m:
        await m.in_step(within_s=0.1)
        began = anyio.current_time()
        await m.create("new")
        await m.touch("m1")
        await m.delete("m0")
        assert await m.in_step(within_s=0.1) - began < 0.1
        assert m.news.retired == ["uid-of-m0"]
        assert (m.api.count("list"), m.api.count("watch")) == (1, 1)


async def test_the_end_of_a_watch_is_routine():
    """It goes on from where it was: no list, no gap, and nobody is told of trouble."""
    async with mirroring() as m:
        await anyio.sleep(10)
        await m.touch("m1")
        with structlog.testing.capture_logs() as logs:
            m.kube.hang_up()
            await m.create("meanwhile")
            assert await m.seconds_out_of_sync(60) == 0
        await m.in_step(within_s=0.1)
        assert m.api.count("list") == 1
        first, second = (asked for asked in m.api.asked if asked.kind == "watch")
        assert int(second.version) > int(first.version)
        assert second.at - 10 < 0.2
        assert [line for line in logs if line["log_level"] != "debug"] == []


async def test_a_watch_is_renewed_every_few_minutes():
    """Each asks for four to five minutes, and for bookmarks; an hour needs no second list."""
    async with mirroring() as m:
        for number in range(60):
            await anyio.sleep(60)
            await m.touch("m0", f"t{number}")
        await m.in_step(within_s=1)
        asked = [asked.query for asked in m.api.asked if asked.kind == "watch"]
        assert 12 <= len(asked) <= 16
        assert all(240 <= int(query["timeoutSeconds"]) <= 300 for query in asked)
        assert {query["allowWatchBookmarks"] for query in asked} == {"true"}
        assert m.api.count("list") == 1


async def test_a_bookmark_moves_the_place_to_resume_from():
    """After a quiet hour the history since the last change may be gone; bookmarks spare a list."""
    async with mirroring() as m:
        for number in range(7):
            await anyio.sleep(30)
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"n{number}"}}
            await m.user.post("/api/v1/namespaces", json=body)
        m.kube.store.compact(m.kube.store.revision - 5)
        m.api.reset()
        await m.create("new")
        await m.in_step(within_s=5)
        assert m.api.count("list") == 1


async def test_a_quiet_cluster_is_no_outage():
    """Where nothing changes not even bookmarks come; that is no reason to be unready or to warn.

    It cannot be told from a watch that will never say anything again, so it costs a list each time.
    """
    async with mirroring() as m:
        await m.in_step(within_s=1)
        with structlog.testing.capture_logs() as logs:
            assert await m.seconds_out_of_sync(1800) == 0
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == []
        assert m.api.count("list") <= m.api.count("watch") <= 1800 / 90 + 1


async def test_http_410_means_to_list_anew():
    """The past that was asked for is gone; what was deleted meanwhile is found by comparison."""
    async with mirroring() as m:
        await anyio.sleep(10)
        m.api.watches.append(unruly.refuse(410, "too old resource version"))
        m.api.reset()
        await m.delete("m0")
        await m.create("new")
        await m.in_step(within_s=3)
        assert (m.news.retired, m.api.count("list")) == (["uid-of-m0"], 2)


async def test_an_error_event_410_means_to_list_anew():
    """As it does when the history is compacted behind a watch that was away."""
    async with mirroring() as m:
        await anyio.sleep(10)
        mark = unruly.event("BOOKMARK", {"metadata": {"resourceVersion": "5"}})
        m.api.watches.append(unruly.stream(mark, then=unruly.reset))
        await m.touch("m1")
        m.api.reset()
        await m.delete("m0")
        await m.create("new")
        m.kube.store.compact()
        await m.in_step(within_s=6)
        assert (m.news.retired, m.api.count("list")) == (["uid-of-m0"], 2)


async def test_any_other_error_event_asks_for_a_list_too():
    """A refusal in the stream is one all the same, whatever came before it."""
    async with mirroring() as m:
        await anyio.sleep(10)
        mark = unruly.event("BOOKMARK", {"metadata": {"resourceVersion": "999"}})
        m.api.watches.append(unruly.stream(mark, unruly.error_event(500)))
        await m.touch("m1")
        m.kube.hang_up()
        await m.create("new")
        await m.in_step(within_s=3)
        assert m.api.count("list") == 2


async def test_server_errors_are_retried_ever_more_slowly():
    """Half a second, then twice as long each time, a little less by chance; unready meanwhile."""
    async with mirroring(on_list(*[unruly.refuse(500)] * 4)) as m:
        await m.in_step(within_s=30)
        times = [asked.at for asked in m.api.asked if asked.kind == "list"]
        gaps = [b - a for a, b in pairwise(times)]
        assert len(gaps) == 4
        for gap, longest in zip(gaps, (0.5, 1, 2, 4), strict=True):
            assert longest / 2 <= gap <= longest + 0.01


async def test_a_watch_that_is_refused_goes_on_afterwards():
    """Server errors lose nothing; they cost a list, since the server may come from a backup."""
    async with mirroring() as m:
        await anyio.sleep(10)
        m.api.watches.extend([unruly.refuse(500)] * 3)
        await m.touch("m0")
        m.api.reset()
        await m.delete("m0")
        await anyio.sleep(0.8)
        assert not m.reflector.is_in_sync()
        await m.in_step(within_s=10)
        assert (m.api.count("list"), m.api.count("watch")) == (4, 5)


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_kept(code):
    """A server that says how long it needs is not asked before."""
    async with mirroring(on_list(unruly.refuse(code, retry_after="7"))) as m:
        await m.in_step(within_s=20)
        first, second = (asked.at for asked in m.api.asked if asked.kind == "list")
        assert 7 <= second - first < 8


async def test_a_reset_in_mid_line_loses_nothing():
    """Half a line is no event; the watch goes on from the last whole one."""
    async with mirroring() as m:
        await anyio.sleep(10)
        start = m.kube.store.revision
        await m.touch("m1")
        lost = unruly.event("ADDED", manifest("half", version=start + 1))[:-20]
        mark = unruly.event("BOOKMARK", {"metadata": {"resourceVersion": str(start + 1)}})
        m.api.watches.append(unruly.stream(mark, lost, then=unruly.reset))
        m.api.reset()
        await m.delete("m2")
        await m.in_step(within_s=3)
        assert [int(asked.version) for asked in m.api.asked if asked.kind == "watch"] == [
            start,
            start + 1,
            start + 1,
        ]
        assert m.news.retired == ["uid-of-m2"]


async def test_a_half_open_connection_is_left_after_ninety_seconds():
    """Silence for longer than bookmarks take is a dead connection."""
    async with mirroring() as m:
        await anyio.sleep(10)
        await m.touch("m1")
        m.api.fall_silent()
        began = anyio.current_time()
        await m.delete("m0")
        await anyio.sleep(85)
        assert "uid-of-m0" in m.held()
        assert 90 <= await m.in_step(within_s=30) - began < 92
        assert m.api.count("list") == 2


async def test_a_server_that_never_answers_is_asked_again():
    """A list has half a minute, a watch until silence is too long."""

    async def hang(_scope: Message, _receive: Receive, _send: Send) -> None:
        await anyio.sleep_forever()

    async with mirroring(on_list(hang), on_watch(hang)) as m:
        await anyio.sleep(200)
        await m.in_step(within_s=0.1)
        kinds = [asked.kind for asked in m.api.asked[:5]]
        times = [asked.at for asked in m.api.asked[:5]]
        assert kinds == ["list", "list", "watch", "list", "watch"]
        assert 30 <= times[1] < 31
        assert 90 <= times[3] - times[2] < 92


async def test_a_server_that_has_gone_makes_unready():
    """As long as no request is answered, and no longer."""
    async with mirroring() as m:
        await anyio.sleep(10)
        m.kube.intercept = lambda _request: ApiFault(code=0)
        m.api.reset()
        await anyio.sleep(5)
        assert not m.reflector.is_in_sync()
        assert await m.seconds_out_of_sync(600) == pytest.approx(600)
        m.kube.intercept = lambda _request: None
        began = anyio.current_time()
        assert await m.in_step(within_s=60) - began <= 30


async def test_a_server_that_takes_requests_and_says_nothing_makes_unready():
    """To wait long for an answer is not to have been connected for long."""
    async with mirroring() as m:
        await anyio.sleep(10)
        m.kube.intercept = lambda _request: ApiFault(delay_s=math.inf)
        m.api.reset()
        await anyio.sleep(100)
        assert not m.reflector.is_in_sync()
        assert await m.seconds_out_of_sync(600) == pytest.approx(600)


async def test_after_a_good_time_a_break_counts_as_the_first():
    """However many failures there were before it."""
    async with mirroring() as m:
        await anyio.sleep(10)
        m.api.watches.extend([unruly.refuse(500)] * 8)
        m.api.reset()
        await anyio.sleep(5)
        assert not m.reflector.is_in_sync()
        await m.in_step(within_s=120)
        await anyio.sleep(60)
        m.api.reset()
        began = anyio.current_time()
        await m.delete("m0")
        assert await m.in_step(within_s=60) - began <= 0.6


async def test_a_single_break_now_and_then_is_routine():
    """Load balancers cut connections; one that is back in half a second was no outage."""
    async with mirroring() as m:
        await m.in_step(within_s=1)
        with structlog.testing.capture_logs() as logs:
            for number in range(10):
                m.api.reset()
                await m.touch("m0", f"t{number}")
                assert await m.seconds_out_of_sync(30) == 0
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == []


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"<html>502</html>\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ADDED","object":null}\n',
        b'["ADDED"]\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
    ids=["text", "html", "no object", "null object", "array", "no unicode", "deep"],
)
async def test_a_garbage_line_breaks_only_that_watch(line):
    """What cannot be read is asked for again."""
    async with mirroring(on_watch(unruly.stream(line))) as m:
        await anyio.sleep(0.1)
        await m.delete("m0")
        await m.in_step(within_s=3)
        assert (m.api.count("list"), m.api.count("watch")) == (2, 2)


async def test_an_endless_line_is_left_by_a_list():
    """Asking for the same line again would not help: the only way is around it."""
    chunk = b"x" * (1 << 20)
    endless = unruly.stream(*[chunk] * ((WATCH_LINE_LIMIT >> 20) + 1), then=anyio.sleep_forever)
    async with mirroring(on_watch(endless)) as m:
        await anyio.sleep(0.1)
        await m.delete("m0")
        await m.in_step(within_s=3)
        assert (m.api.count("list"), m.api.count("watch")) == (2, 2)


@pytest.mark.parametrize("odd", ["\u0085", "\u2028", "\u2029", "\x1e", "\U0001f999"])
async def test_odd_characters_in_strings_pass(odd):
    """Any tenant can put one into an annotation; no line ends there, in no list and no watch."""
    wish = {"annotations": {"ollama.smithforge.dev/refresh": f"a{odd}b"}}
    async with mirroring() as m:
        await m.in_step(within_s=1)
        uid = await m.create("odd", **wish)
        await m.in_step(within_s=0.1)
        assert m.news.alive[uid].metadata.annotations.refresh == f"a{odd}b"
        assert m.api.count("watch") == 1
        m.api.watches.append(unruly.refuse(410))
        m.api.reset()
        await anyio.sleep(3)
        await m.in_step(within_s=0.1)
        assert m.api.count("list") == 2


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "watched"])
async def test_a_bad_spec_comes_as_malformed(listed):
    """Its owner can be told, it can be deleted, and the others never notice."""

    def poison(api: UnrulyApi) -> None:
        spec = {"name": 5, "tag": []}
        api.kube.store.put(PLURAL, ("default", "bad"), manifest("bad") | {"spec": spec})

    async with mirroring(*([poison] if listed else [])) as m:
        await anyio.sleep(1)
        if not listed:
            poison(m.api)
        await m.create("after")
        await m.in_step(within_s=0.1)
        assert isinstance(m.news.alive["uid-of-bad"].spec, Malformed)
        await m.delete("bad")
        await m.in_step(within_s=0.1)
        assert (m.api.count("list"), m.api.count("watch")) == (1, 1)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "watched"])
@pytest.mark.parametrize(
    "metadata",
    [{"deletionTimestamp": "soon"}, {"finalizers": 7}, {"annotations": ["x"]}, {"name": None}],
    ids=lambda metadata: next(iter(metadata)),
)
async def test_bad_metadata_hides_only_that_object(metadata, listed):
    """It is logged and passed over; the watch goes on, and once mended it is taken in."""

    def put(api: UnrulyApi, changes: dict[str, Any]) -> None:
        body = manifest("bad")
        body["metadata"] |= changes
        api.kube.store.put(PLURAL, ("default", "bad"), body)

    def poison(api: UnrulyApi) -> None:
        put(api, metadata)

    async with mirroring(*([poison] if listed else [])) as m:
        await anyio.sleep(1)
        if not listed:
            poison(m.api)
        uid = await m.create("after")
        await anyio.sleep(0.1)
        assert set(m.held()) == {"uid-of-m0", "uid-of-m1", "uid-of-m2", uid}
        put(m.api, {})
        await m.in_step(within_s=0.1)
        assert (m.api.count("list"), m.api.count("watch")) == (1, 1)


async def test_a_long_list_comes_in_pages():
    """Of five hundred each; nothing is told before the last one is there."""
    told = []

    async def last_page(scope: Message, receive: Receive, send: Send) -> None:
        told.append(len(m.news.alive))
        await m.kube(scope, receive, send)

    def script(api: UnrulyApi) -> None:
        api.lists.extend([api.kube, api.kube, last_page])

    async with mirroring(script, objects=1100) as m:
        await m.in_step(within_s=1)
        asked = [asked.query for asked in m.api.asked if asked.kind == "list"]
        assert [query["limit"] for query in asked] == ["500"] * 3
        assert ["continue" in query for query in asked] == [False, True, True]
        assert (told, len(m.news.alive)) == ([0], 1100)


async def test_a_list_that_expires_midway_begins_again():
    """Half a list proves no deletion, and makes nothing known."""

    def script(api: UnrulyApi) -> None:
        api.lists.extend([api.kube, unruly.refuse(410, "continue token is too old")])

    async with mirroring(script, objects=700) as m:
        await anyio.sleep(0.01)
        assert (len(m.news.alive), m.reflector.synced.is_set()) == (0, False)
        await m.in_step(within_s=3)
        assert m.news.retired == []
        assert m.api.count("list") == 4


async def test_a_later_list_that_breaks_midway_deletes_nothing():
    """What the pages that came do not have may stand on those that did not."""
    async with mirroring(objects=700) as m:
        await anyio.sleep(10)
        m.api.watches.append(unruly.refuse(410))
        m.api.lists.extend([m.kube, unruly.answer(200, b'{"metadata":{},"items":[{"meta')])
        m.api.reset()
        await m.delete("m650")
        await m.in_step(within_s=10)
        assert m.news.retired == ["uid-of-m650"]


async def test_a_name_that_was_used_again_is_another_object():
    """Deleted and created anew during an outage: the old one has gone, the new one has come."""
    async with mirroring() as m:
        await anyio.sleep(10)
        m.api.watches.append(unruly.refuse(410))
        m.api.reset()
        await m.delete("m0")
        new = await m.create("m0")
        await m.in_step(within_s=3)
        assert (m.news.retired, new in m.news.alive) == (["uid-of-m0"], True)


async def test_a_list_does_not_undo_what_was_written_meanwhile():
    """An answer under way shows the past: what we wrote since is newer, and stays."""

    async def late(scope: Message, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await m.kube(scope, receive, hold)
        m.store.seen(await m.touch("m1"))  # as the answers to our own writes are taken in
        await m.create("ours")
        m.store.seen(await m.touch("ours"))
        for message in held:
            await send(message)
        shown.update({model.metadata.name for model in m.news.alive.values()})

    shown = set[str]()
    async with mirroring() as m:
        await anyio.sleep(10)
        m.api.watches.append(unruly.refuse(410))
        m.api.lists.append(late)
        m.api.reset()
        await anyio.sleep(3)
        await m.in_step(within_s=0.1)
        assert shown == {"m0", "m1", "m2", "ours"}
        assert m.news.retired == []  # News saw to it that no version went back


@pytest.mark.parametrize(
    "cue",
    [
        unruly.stream(),
        unruly.stream(then=unruly.reset),
        unruly.stream(b"garbage\n"),
        unruly.stream(unruly.error_event(500)),
        unruly.stream(unruly.error_event(410)),
        unruly.refuse(410),
        unruly.refuse(500),
        unruly.refuse(404),
        unruly.refuse(403),
        unruly.refuse(401),
        unruly.refuse(429),
        unruly.answer(400, b"[]"),
        unruly.answer(502, b"<html>"),
        unruly.answer(403, "<html>refus\xe9</html>".encode("latin-1")),
    ],
    ids=[
        "EOF",
        "reset",
        "garbage",
        "ERROR 500",
        "ERROR 410",
        "410",
        "500",
        "404",
        "403",
        "401",
        "429",
        "400 with a list",
        "502 of a proxy",
        "403 of a proxy in Latin-1",
    ],
)
async def test_what_goes_on_for_ever_costs_few_requests(cue):
    """Whatever ends a watch at once: about two tries a minute in the long run, each with a list."""
    async with mirroring(on_watch(*[cue] * MANY)) as m:
        await anyio.sleep(1200)
        tries = len(m.api.asked) / 2
        assert 1200 / 30 <= tries <= 1200 / 15 + 6
        m.api.watches.clear()
        await m.delete("m0")
        await m.in_step(within_s=40)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (404, "this cluster does not know OllamaModel: kubectl apply -k config/crd"),
        (403, "kubectl auth can-i watch ollamamodels --all-namespaces"),
    ],
)
async def test_what_an_administrator_must_mend_is_said_and_waited_for(code, hint):
    """The log says the command that helps; once it was given, all is well without a restart."""
    with structlog.testing.capture_logs() as logs:
        async with mirroring(on_list(*[unruly.refuse(code)] * MANY)) as m:
            await anyio.sleep(300)
            assert not m.reflector.is_in_sync()
            m.api.lists.clear()
            await m.in_step(within_s=31)
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert {line["hint"] for line in warnings} == {hint}
    assert f"HTTP {code}" in warnings[0]["problem"]


async def test_only_the_wanted_namespace_is_asked_for():
    """An operator for one namespace needs no rights in another."""
    async with mirroring(namespace="default") as m:
        await m.in_step(within_s=1)
        assert {asked.path for asked in m.api.asked} == {MODELS}
    async with mirroring() as m:
        await m.in_step(within_s=1)
        assert {asked.path for asked in m.api.asked} == {f"/apis/{API_VERSION}/{PLURAL}"}


async def test_an_empty_cluster_is_in_step():
    """No objects are a complete answer too."""
    async with mirroring(objects=0) as m:
        await m.in_step(within_s=0.1)
        assert m.held() == {}
        await m.create("first")
        await m.in_step(within_s=0.1)


# --- a cluster that has gone back in time: etcd was emptied, or restored from a snapshot


async def rewound(m: Mirror) -> None:
    """Let m0 be deleted and created, m1 change, a ghost appear; then take all of it back."""
    await m.in_step(within_s=1)
    copy = m.kube.store.save()
    await m.delete("m0")
    await m.create("m0")
    for number in range(20):
        await m.touch("m1", f"t{number}")
    await m.create("ghost")
    await m.in_step(within_s=1)
    m.news.may_go_back = True
    m.kube.store.restore(copy)
    await m.create("new")


async def test_a_silent_watch_from_the_future_is_left_by_a_list():
    """The API server takes the old version and says nothing; two minutes later the truth is known.

    What was deleted is there again, under its old uid and an older version; what was made is not.
    """
    async with mirroring() as m:
        await rewound(m)
        began = anyio.current_time()
        assert await m.in_step(within_s=120) - began > 60
        assert {model.metadata.name for model in m.store} == {"m0", "m1", "m2", "new"}
        assert "uid-of-m0" in m.held()


@pytest.mark.parametrize("outage", [0.5, 20, 300], ids=lambda s: f"{s:g} s")
async def test_a_server_that_comes_back_from_a_backup_is_listed_at_once(outage):
    """It refused for some time, so where the watch was may mean something else by now."""
    async with mirroring() as m:
        await rewound(m)
        m.kube.intercept = lambda _request: ApiFault(code=0)
        m.api.reset()
        await anyio.sleep(outage)
        m.kube.intercept = lambda _request: None
        began = anyio.current_time()
        assert await m.in_step(within_s=31) - began <= 30
        assert m.held()["uid-of-m1"] < m.kube.store.revision


async def test_the_next_news_after_a_backup_arrive_at_once():
    """Versions that were known before the backup hide nothing of what comes after it."""
    async with mirroring() as m:
        await rewound(m)
        m.api.watches.append(unruly.refuse(503))
        m.api.reset()
        await m.in_step(within_s=5)
        await m.touch("m0", "again")
        await m.delete("m2")
        await m.in_step(within_s=0.1)


async def test_a_stale_mirror_says_so():
    """Once its watch has fallen silent, and as long as the list that is due does not come."""
    async with mirroring() as m:
        await rewound(m)
        m.api.lists.extend([unruly.refuse(503)] * MANY)
        await anyio.sleep(95)
        assert await m.seconds_out_of_sync(600) == pytest.approx(600)
        m.api.lists.clear()
        await m.in_step(within_s=31)


async def test_an_emptied_cluster_is_empty():
    """Whatever the versions of what was there: the list is the whole truth, and is told as such."""
    async with mirroring() as m:
        empty = Backup(1, {})
        await rewound(m)
        m.kube.store.restore(empty)
        with structlog.testing.capture_logs() as logs:
            await m.in_step(within_s=120)
        assert m.held() == {}
        (said,) = (line for line in logs if line["log_level"] == "warning")
        assert said["event"] == "the cluster was set back, all is read anew"


async def test_a_watch_that_ends_without_a_line_is_followed_by_a_list():
    """The server's own limit of time may be shorter than what is silence to us."""
    async with mirroring() as m:
        await rewound(m)
        m.kube.hang_up()
        await anyio.sleep(30)
        assert m.held() != m.truth()
        m.kube.hang_up()
        await m.in_step(within_s=5)


# --- all of it at once


class Storm:
    """Users who change things, and a network that breaks, both by chance."""

    def __init__(self, m: Mirror, seed: int) -> None:
        self.m, self.dice, self.count = m, random.Random(seed), 0  # noqa: S311 - a test's dice
        self.raging = True
        m.kube.intercept = self.fault

    def fault(self, request: SandboxRequest) -> ApiFault | None:
        """Spoil a list or a watch now and then; the users' requests always pass."""
        if not self.raging or request.method != "GET" or self.dice.random() > 0.2:
            return None
        return self.dice.choice(
            [
                ApiFault(code=500),
                ApiFault(code=0),
                ApiFault(code=410, reason="Expired"),
                ApiFault(code=429, retry_after_s=2),
                ApiFault(delay_s=3, code=503),
            ]
        )

    async def rage(self, seconds: float) -> None:
        """Make it happen."""
        end = anyio.current_time() + seconds
        while anyio.current_time() < end:
            await self._user()
            if self.dice.random() < 0.02:
                self._network()
            await anyio.sleep(self.dice.expovariate(3))
        self.raging = False
        self.m.api.watches.clear()
        self.m.kube.intercept = lambda _request: None

    async def _user(self) -> None:
        names = [name for _, name in self.m.kube.store.at(PLURAL, self.m.kube.store.revision)]
        act: list[Callable[[], Awaitable[object]]] = [self._create]
        if names:
            name = self.dice.choice(names)
            act += [lambda: self.m.touch(name, f"t{self.count}"), lambda: self.m.delete(name)]
        self.count += 1
        await self.dice.choice(act)()

    async def _create(self) -> None:
        taken = self.m.kube.store.at(PLURAL, self.m.kube.store.revision)
        name = f"s{self.dice.randrange(30)}"
        if ("default", name) not in taken:
            await self.m.create(name)

    def _network(self) -> None:
        m, store = self.m, self.m.kube.store
        cues = [
            unruly.stream(),
            unruly.stream(b'{"type":"MODIF'),
            unruly.stream(b"garbage\n"),
            unruly.stream(unruly.error_event(410)),
            unruly.stream(unruly.error_event(500)),
        ]
        happens: list[Callable[[], None]] = [
            m.kube.hang_up,
            m.api.reset,
            lambda: m.api.watches.append(self.dice.choice(cues)),
            lambda: store.compact(self.dice.randint(store.compacted, store.revision)),
        ]
        self.dice.choice(happens)()
        if self.dice.random() < 0.2:  # an outage with a lost history
            m.api.reset()
            store.compact()
        if self.dice.random() < 0.03:
            m.api.fall_silent()


@pytest.mark.parametrize("seed", [1, 2])
async def test_after_a_storm_the_mirror_shows_the_truth(seed):
    """Five minutes of changes and faults by chance; then every object is shown as it is."""
    random.seed(seed)
    async with mirroring() as m:
        await Storm(m, seed).rage(300)
        assert len(m.news.retired) > 50
        await m.in_step(within_s=130)
        assert {uid: version(model) for uid, model in m.store._models.items()} == m.truth()
        assert len(m.api.asked) < 800
