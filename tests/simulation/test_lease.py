"""Of several replicas one acts, and never two."""

import random
from collections.abc import AsyncGenerator
from datetime import timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from crd.names import ModelName
from crd.placement import DEFAULT_SERVER
from ollama_op.base.asgi import App, Message, Receive, Send
from ollama_op.base.errors import NotLeading
from ollama_op.base.settings import Settings
from ollama_op.kube.lease import DURATION_S, RENEW_S, Leadership
from ollama_op.ollama.client import OllamaClient
from ollama_op.sandbox.kube.storage import Backup
from ollama_op.sandbox.transport import AppTransport
from support.virtual.replicas import LEASE, NAME, Replicas, make_lease, replicas
from support.virtual.unruly import Wire
from support.virtual.world import MB, World, world

HANDOVER_S, TAKEOVER_S = 3, 20
M = ModelName.parse("m:1")


@pytest.fixture
async def r() -> AsyncGenerator[Replicas]:
    """Have a world without a replica."""
    async with replicas() as it:
        yield it


async def two(r: Replicas):
    """Start two replicas; return the leader first."""
    first = await r.start()
    await r.led_by(first, within_s=HANDOVER_S)
    return first, await r.start()


# --- the operator


async def test_one_acts_and_all_know(r):
    """The other one has the same objects and the same view of Ollama, and changes nothing."""
    a, b = await two(r)
    r.w.ollama.publish("m:1", 50 * MB)
    await r.w.apply("m", "m:1")
    await r.w.ready("m")
    await anyio.sleep(61)  # until the other one has looked at Ollama again
    assert (a.is_leading, b.is_leading) == (True, False)
    assert len(a.acts()) > 2
    assert b.acts() == []
    engine = b.health.engine
    assert [m.metadata.name for m in engine.store] == ["m"]
    assert [str(name) for name in engine.servers[DEFAULT_SERVER].monitor.now.models] == ["m:1"]
    assert (b.health.is_ready(), len(engine.tasks)) == (True, 0)


async def test_a_clean_end_hands_over_at_once(r):
    """The lease is released, after the last write; nothing is pulled twice or told twice."""
    a, b = await two(r)
    r.w.ollama.publish("m:1", 50 * MB)
    await r.w.apply("m", "m:1")
    await r.w.ready("m")
    before = r.w.ollama.calls["POST /api/pull"]
    await a.stop()
    last = a.line.sent[-1]
    assert (last[1], last[2]) == ("PUT", f"{LEASE}/{NAME}")
    assert (await r.lease())["holderIdentity"] == ""
    assert await r.led_by(b, within_s=HANDOVER_S) < HANDOVER_S
    await anyio.sleep(120)
    assert (r.w.ollama.calls["POST /api/pull"], b.acts()) == (before, [])
    await r.w.delete("m")
    await r.w.gone("m")
    assert r.w.ollama.models == {}


async def test_a_killed_leader_is_followed(r):
    """After its lease has run out, and not before."""
    a, b = await two(r)
    await anyio.sleep(10)
    a.kill()
    assert DURATION_S - 3 < await r.led_by(b, within_s=TAKEOVER_S) < TAKEOVER_S
    r.w.ollama.publish("m:1", 50 * MB)
    await r.w.apply("m", "m:1")
    await r.w.ready("m")


async def test_what_a_killed_leader_was_pulling_is_pulled_on(r):
    """The status says what was under way; the successor does it."""
    a, b = await two(r)
    r.w.ollama.publish("m:1", 400 * MB)
    await r.w.apply("m", "m:1")
    await r.w.until("m", lambda s: s.get("state") == "Pulling")
    a.kill()
    await r.led_by(b, within_s=TAKEOVER_S)
    await r.w.ready("m")
    assert r.w.ollama.downloads.most == 1


async def test_a_leader_that_cannot_renew_ends_its_pulls(r):
    """Its process goes on, and leads again once it can; in between somebody else does."""
    a, b = await two(r)
    r.w.ollama.publish("m:1", 2000 * MB)
    await r.w.apply("m", "m:1")
    await r.w.until("m", lambda s: s.get("state") == "Pulling")
    a.line.is_silent = lambda path: path.startswith(LEASE)
    cut_at = anyio.current_time()
    with anyio.fail_after(RENEW_S + 0.1):
        while r.w.ollama.pulls:  # noqa: ASYNC110 - a sandbox has no event
            await anyio.sleep(0.1)
    assert not a.is_leading
    assert len(a.health.engine.tasks) == 0
    await r.led_by(b, within_s=TAKEOVER_S - RENEW_S)
    assert all(at < cut_at + RENEW_S for at, *_ in a.acts())
    await r.w.ready("m")
    assert b.acts()[0][0] > a.acts()[-1][0]
    a.line.is_silent = lambda _path: False
    await anyio.sleep(5)
    assert (a.is_leading, b.is_leading) == (False, True)
    await b.stop()
    await r.led_by(a, within_s=HANDOVER_S)
    await r.w.delete("m")
    await r.w.gone("m")


async def test_nothing_is_begun_that_may_outlast_the_lease(r):
    """Not a deletion in Ollama, though the lease runs for a few seconds more."""
    a, b = await two(r)
    r.w.ollama.publish("m:1", 50 * MB)
    await r.w.apply("m", "m:1")
    await r.w.ready("m")
    cut_at = anyio.current_time()
    a.line.is_silent = lambda path: path.startswith(LEASE)
    await anyio.sleep(RENEW_S - 3)
    assert a.is_leading
    await r.w.delete("m")
    await r.led_by(b, within_s=TAKEOVER_S)
    assert [each for each in a.acts() if each[0] > cut_at] == []
    await r.w.gone("m")


async def test_neither_is_a_write(r):
    """A status that comes late could write over what the next leader has said."""
    a, _ = await two(r)
    cut_at = anyio.current_time()
    a.line.is_silent = lambda path: path.startswith(LEASE)
    await anyio.sleep(RENEW_S - 3)
    await r.w.apply("m", "m:1")
    await anyio.sleep(0.5)
    assert a.is_leading
    assert [each for each in a.acts() if each[0] > cut_at] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.delete(M),
        lambda it: it.load(M, 60),
        lambda it: it.unload(M),
        lambda it: it.pull(M).__aenter__(),
    ],
)
async def test_nothing_is_changed_in_ollama_that_the_fence_does_not_let_pass(change):
    """It is told how long the call may take to arrive; whoever only reads need not ask."""
    asked = []

    def fence(limit_s: float) -> None:
        asked.append(limit_s)
        raise NotLeading("not for so long")

    async with world() as w:
        it = OllamaClient(w.ollama_http, fence=fence)
        with pytest.raises(NotLeading):
            await change(it)
        await it.tags()
        await it.running()
        assert asked == [5]
        assert list(w.ollama.calls) == ["GET /api/tags", "GET /api/ps"]


async def test_loading_asks_the_fence_before_each_of_its_two_requests():
    """The answer to the first, of a model that only embeds, may have taken long."""
    asked = []

    def fence(limit_s: float) -> None:
        asked.append(limit_s)
        if len(asked) > 1:
            raise NotLeading("no longer")

    async with world() as w:
        w.ollama.publish("m:1", MB)
        w.ollama.preload("m:1")
        w.ollama.only_embeds = {"m:1"}
        with pytest.raises(NotLeading):
            await OllamaClient(w.ollama_http, fence=fence).load(M, 60)
        assert w.ollama.calls["POST /api/embed"] == 0


@pytest.mark.parametrize("body", [b"<html>", b'{"spec": "\xff"}', b"[" * 100_000])
async def test_a_lease_that_cannot_be_read_is_an_outage_and_no_end(body):
    """Whatever bytes come: a page of a proxy, a broken encoding, brackets without end."""

    async def garbage(_scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async with AppTransport(garbage) as transport:
        it = Leadership(Wire(transport), namespace="default", name=NAME, identity="me")
        with capture_logs() as logs, anyio.move_on_after(5):
            await it.run(anyio.sleep_forever)
    warned = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert warned == ["lease not reached, will retry"]


async def test_clocks_that_disagree_do_not_matter(r):
    """Not by an hour, in either direction."""
    for skew in (timedelta(hours=1), timedelta(hours=-1)):
        first = await r.start(skew)
        await r.led_by(first, within_s=HANDOVER_S)
        second = await r.start(-skew)
        await anyio.sleep(40)
        assert (first.is_leading, second.is_leading) == (True, False)
        first.kill()
        assert await r.led_by(second, within_s=TAKEOVER_S) > DURATION_S - 3
        await second.stop()


async def test_a_lease_deleted_by_hand_is_made_again_by_who_leads(r):
    """Who waits does not take its absence for a chance."""
    a, b = await two(r)
    for _ in range(3):
        await anyio.sleep(5)
        await r.w.call("DELETE", f"{LEASE}/{NAME}")
        await anyio.sleep(5)
        assert (a.is_leading, b.is_leading) == (True, False)
        assert (await r.lease())["leaseTransitions"] == 0


async def test_without_a_lease_the_first_replica_waits_before_it_makes_one():
    """There may be a leader that does not know of the lease's deletion. The wait is told, once."""
    async with replicas() as r:
        await r.w.call("DELETE", f"{LEASE}/{NAME}")
        with capture_logs() as logs:
            a = await r.start()
            assert await r.led_by(a, within_s=DURATION_S + 1) > DURATION_S
    told = [line["event"] for line in logs if "lease" in line]
    assert told == ["no lease yet, will take it", "leading"]


async def test_a_write_in_between_costs_no_leadership(r):
    """As by somebody who annotates the lease: 409, and another look."""
    a, b = await two(r)
    for _ in range(10):
        await anyio.sleep(1.7)
        note = {"metadata": {"annotations": {"at": str(anyio.current_time())}}}
        await r.w.call("PATCH", f"{LEASE}/{NAME}", note)
        assert (a.is_leading, b.is_leading) == (True, False)
    transitions = (await r.lease())["leaseTransitions"]
    await anyio.sleep(5)
    assert ((await r.lease())["leaseTransitions"], transitions) == (1, 1)


@pytest.mark.parametrize("is_released", [False, True], ids=["held", "released"])
async def test_a_lease_that_was_set_back_makes_no_second_leader(r, is_released):
    """A restored etcd has a record of before: nobody leads on its account without a wait."""
    a, b = await two(r)
    held = r.w.kube.store.save()
    a.line.is_silent = lambda path: path.startswith(LEASE)
    await r.led_by(b, within_s=TAKEOVER_S)
    a.line.is_silent = lambda _path: False
    await anyio.sleep(5)
    b.line.is_silent = lambda path: path.startswith(LEASE)  # it has just renewed, and leads on
    r.w.kube.store.restore(held)
    if is_released:
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        await r.w.call("PATCH", f"{LEASE}/{NAME}", {"spec": spec})
    led = set[str]()
    for _ in range(400):
        await anyio.sleep(0.1)
        leading = {each for each, it in (("a", a), ("b", b)) if it.health.engine.is_leading()}
        assert len(leading) <= 1
        led |= leading
    assert led == {"a", "b"}


async def test_who_leads_goes_on_with_a_lease_that_was_set_back(r):
    """Its own record of before, or none at all, is no reason to stop."""
    a, b = await two(r)
    held = r.w.kube.store.save()
    for copy in (held, Backup(held.revision, {})):
        await anyio.sleep(9)
        r.w.kube.store.restore(copy)
        for _ in range(300):
            await anyio.sleep(0.1)
            assert (a.health.engine.is_leading(), b.health.engine.is_leading()) == (True, False)


# --- the record


async def test_the_record_is_that_of_client_go():
    """With times in microseconds; a transition is counted when the holder changes."""
    async with replicas() as r:
        await r.w.call("DELETE", f"{LEASE}/{NAME}")
        await make_lease(
            r.w,
            holderIdentity="go_1",
            leaseDurationSeconds=15,
            acquireTime="2025-12-31T23:00:00.000001Z",
            renewTime="2025-12-31T23:59:59.123456Z",
            leaseTransitions=7,
            strategy="OldestEmulationVersion",
        )
        a = await r.start()
        assert await r.led_by(a, within_s=TAKEOVER_S) > DURATION_S
        first = await r.lease()
        assert first["leaseTransitions"] == 8
        assert first["acquireTime"] == "2026-01-01T00:00:15.000000Z" == first["renewTime"]
        assert (first["leaseDurationSeconds"], first["strategy"]) == (15, "OldestEmulationVersion")
        await anyio.sleep(10)
        later = await r.lease()
        assert later == first | {"renewTime": later["renewTime"]}
        assert later["renewTime"] > first["renewTime"]
        await a.stop()
        last = await r.lease()
        assert (last["holderIdentity"], last["leaseDurationSeconds"]) == ("", 1)
        assert (last["leaseTransitions"], last["acquireTime"]) == (8, first["acquireTime"])


async def test_a_holder_is_given_the_time_that_it_asked_for():
    """Another version of this operator may have another duration."""
    async with replicas() as r:
        await r.w.call("DELETE", f"{LEASE}/{NAME}")
        await make_lease(r.w, holderIdentity="slow", leaseDurationSeconds=40)
        assert await r.led_by(await r.start(), within_s=43) > 40


async def test_a_renewal_counts_from_when_it_was_asked_for():
    """Nobody knows when, before its answer, it was written."""

    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] == "PUT":
            await anyio.sleep(3)
        await w.kube(scope, receive, send)

    async with world() as w, AppTransport(slow) as transport:
        await make_lease(w)
        it = Leadership(
            Wire(transport),
            namespace="default",
            name=NAME,
            identity="me",
            clock=anyio.current_time,
            now=w.now,
        )
        left_s = []

        async def lead() -> None:
            left_s.append(it.remaining_s())

        with anyio.move_on_after(4):
            await it.run(lead)
        assert left_s == [RENEW_S - 3]


# --- never two


class Unreliable:
    """A way to the API server that has good and bad minutes."""

    def __init__(self, app: App, dice: random.Random) -> None:
        self._app, self._dice = app, dice
        self.kinds = ["fine"]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or not."""
        if self._dice.random() < 0.1:
            self.kinds = self._dice.sample(["fine", "slow", "lost", "dead", "late", "cut"], 2)
        kind = self._dice.choice(self.kinds)
        if kind == "dead":
            await anyio.sleep_forever()
        if kind == "cut":
            raise ConnectionResetError("cut by the test")
        if kind == "late":  # the client has given up, and then it arrives
            with anyio.CancelScope(shield=True):
                await anyio.sleep(self._dice.uniform(0, 9))
                await self._app(scope, receive, _nowhere)
            await anyio.sleep_forever()
        if kind == "slow":
            await anyio.sleep(self._dice.uniform(0, 5))
        await self._app(scope, receive, _nowhere if kind == "lost" else send)
        if kind == "lost":
            await anyio.sleep_forever()


async def _nowhere(_message: Message) -> None:
    pass


class Electorate:
    """Candidates who act whenever they may; two at a time is what must never be."""

    def __init__(self, w: World, seed: int) -> None:
        self.w, self.dice = w, random.Random(seed)  # noqa: S311 - no secret
        self.candidates: list[Leadership] = []
        self.acting: set[str] = set()
        self.acts: list[str] = []

    async def stand(self, identity: str) -> None:
        """Stand for election, again and again; now and then end, in an orderly way or not."""
        rate, offset = self.dice.uniform(0.95, 1.05), self.dice.uniform(-1e6, 1e6)
        while True:
            way = Unreliable(self.w.kube, self.dice)
            async with AppTransport(way) as transport:
                it = Leadership(
                    Wire(transport),
                    namespace="default",
                    name=NAME,
                    identity=f"{identity}_{self.dice.random()}",
                    clock=lambda: anyio.current_time() * rate + offset,
                    now=lambda: self.w.now() + timedelta(seconds=offset),
                    chance=self.dice.random,
                )
                self.candidates.append(it)
                with anyio.move_on_after(self.dice.expovariate(1 / 60)):
                    await it.run(lambda it=it: self.act(it))
                self.candidates.remove(it)
            await anyio.sleep(self.dice.uniform(0, 10))

    async def act(self, it: Leadership) -> None:
        """Do things that take as long as was asked for, and that nothing can stop."""
        while True:
            await anyio.sleep(self.dice.uniform(0, 3))
            limit_s = self.dice.choice([0.5, 4, 5])
            try:
                it.check(limit_s)
            except NotLeading:
                continue
            assert not self.acting, "two act"
            self.acting.add(it.identity)
            self.acts.append(it.identity)
            with anyio.CancelScope(shield=True):
                await anyio.sleep(limit_s)
            self.acting.remove(it.identity)

    async def watch(self) -> None:
        """Check that no two believe to be leading."""
        while True:
            assert sum(it.is_leading for it in self.candidates) <= 1
            await anyio.sleep(0.05)


@pytest.mark.parametrize("seed", range(8))
async def test_never_do_two_act(seed):
    """Whatever is lost, late or silent; their clocks differ, in what they show and how they go."""
    async with world() as w:
        await make_lease(w)
        them = Electorate(w, seed)
        with anyio.move_on_after(400):
            async with anyio.create_task_group() as tasks:
                for identity in "abc":
                    tasks.start_soon(them.stand, identity)
                tasks.start_soon(them.watch)
        assert len(them.acts) > 10
        assert len(set(them.acts)) > 2


# --- settings


def test_the_lease_is_where_the_pods_are(tmp_path, monkeypatch):
    """Else where the models are, if that is one namespace; said aloud, there."""
    file = tmp_path / "namespace"
    monkeypatch.setattr("ollama_op.base.settings.NAMESPACE_FILE", file)
    assert Settings().lease_namespace == "default"
    assert Settings(namespace="ai").lease_namespace == "ai"
    file.write_text("ollama-op-system\n")
    assert Settings(namespace="ai").lease_namespace == "ollama-op-system"
    assert Settings(leader_elect_namespace="x").lease_namespace == "x"
