"""What the scripted Ollama and the real one have in common: all that the operator relies on."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

import anyio
import httpx
import pytest

from crd.names import ModelName
from ollama_op.base.errors import (
    DigestMismatch,
    LoadFailed,
    ModelAbsent,
    ModelBroken,
    ModelUnknown,
    NameRefused,
    OllamaUnreachable,
    ProtocolError,
    PullFailed,
    RegistryUnavailable,
)
from ollama_op.ollama.client import OllamaClient
from ollama_op.ollama.wire import Step
from ollama_op.sandbox.ollama.pulls import PullTrouble
from ollama_op.sandbox.ollama.server import OllamaSandbox
from ollama_op.sandbox.transport import AppTransport
from support.ollama.registry import Faults, Registry
from support.ollama.server import OllamaServer

SMALL = 400_000  # bytes
BIG = 4_000_000
PART = 1_000_000  # of BIG, which comes before it stands still
SHARED = 65_536
UNUSABLE = 'template: :1: function "frobnicate" not defined'
ILLEGAL = ModelName("registry.ollama.ai", "library", "b@d", "latest")


@dataclass
class Stage:
    """A server, and the registry behind it."""

    http: httpx.AsyncClient

    def __post_init__(self) -> None:
        self.client = OllamaClient(self.http)

    def publish(
        self,
        repo: str,
        *,
        version: int = 1,
        size: int = SMALL,
        shared: str = "",
        embeds: bool = False,
    ) -> str:
        """Publish a model; those with one `shared` have their first layer in common.

        One that `embeds` does not generate.
        """
        raise NotImplementedError

    def publish_again(self, repo: str, tag: str) -> None:
        """Publish a model under one more tag."""
        raise NotImplementedError

    def publish_plainly(self, repo: str) -> str:
        """Publish a model in a registry without TLS; return its full name."""
        raise NotImplementedError

    def hold(self, repo: str) -> None:
        """Let pulls of a model of BIG bytes come to a standstill on the way."""
        raise NotImplementedError

    def release(self) -> None:
        """Let them all go on."""
        raise NotImplementedError

    def publish_unusable(self, repo: str) -> None:
        """Publish a model whose template needs a function that no Ollama has."""
        raise NotImplementedError

    def publish_index(self, repo: str) -> None:
        """Publish a list of images."""
        raise NotImplementedError

    def spoil(self, repo: str) -> None:
        """Publish a model, and let what comes of the next pull not be what it should be."""
        raise NotImplementedError

    async def pull(self, name: str, *, insecure: bool = False) -> list[Step]:
        """Pull a model to the end."""
        async with self.client.pull(ModelName.parse(name), insecure=insecure) as steps:
            return [step async for step in steps]

    async def standstill(self, steps: AsyncIterator[Step]) -> Step:
        """Read a pull on hold until it stands still."""
        last, same = Step(), 0
        async for step in steps:
            same = same + 1 if step.completed and step == last else 0
            if same == 10:
                return step
            last = step
        raise AssertionError("it never stood still")

    async def load(self, repo: str, seconds: float = 300, **published: Any) -> ModelName:
        """Publish a model, pull it, and load it into memory."""
        name = ModelName.parse(repo)
        self.publish(repo, **published)
        await self.pull(repo)
        await self.client.load(name, seconds)
        return name

    async def left_s(self, name: ModelName) -> float:
        """Ask for how many more seconds a model stays in memory."""
        loaded = (await self.client.running())[name]
        return (loaded.expires_at - datetime.now(UTC)).total_seconds()

    async def unloaded(self, name: str) -> None:
        """Wait until a model is in memory no more: a moment after Ollama was asked."""
        with anyio.fail_after(10):
            while ModelName.parse(name) in await self.client.running():  # noqa: ASYNC110 - polled
                await anyio.sleep(0.05)


@dataclass
class SandboxStage(Stage):
    app: OllamaSandbox
    go: anyio.Event = field(default_factory=anyio.Event)

    def publish(self, repo, *, version=1, size=SMALL, shared="", embeds=False) -> str:
        small = (13, 31, 484)
        if embeds:
            self.app.only_embeds.add(str(ModelName.parse(repo)))
        sizes = (SHARED, size, *small) if shared else (size, 15, *small)
        return self.app.publish(repo, *sizes, seed=str(version), shared=shared)

    def publish_again(self, repo, tag) -> None:
        self.app.publish_again(repo, tag)

    def publish_plainly(self, repo) -> str:
        self.app.downloads.plain_hosts.add("127.0.0.1:5000")
        self.publish(name := f"127.0.0.1:5000/library/{repo}")
        return name

    def hold(self, repo) -> None:
        self.app.downloads.bytes_per_second = PART / self.app.downloads.tick_s
        self.app.trouble(repo, PullTrouble(after_bytes=PART, until=self.go))

    def release(self) -> None:
        self.go.set()

    def publish_unusable(self, repo) -> None:
        self.publish(repo)
        self.app.unusable[str(ModelName.parse(repo))] = UNUSABLE

    def publish_index(self, repo) -> None:
        self.app.publish_index(repo)

    def spoil(self, repo) -> None:
        self.publish(repo)
        self.app.trouble(
            repo, PullTrouble(error="digest mismatch, file must be downloaded again", spoils=True)
        )


@dataclass
class RealStage(Stage):
    registry: Registry

    def publish(self, repo, *, version=1, size=SMALL, shared="", embeds=False) -> str:
        return self.registry.publish(
            repo,
            seed=zlib.crc32(repo.encode()) + version,
            size=size,
            shared_layer_seed=zlib.crc32(shared.encode()) if shared else None,
            embeds=embeds,
        )

    def publish_again(self, repo, tag) -> None:
        self.registry.publish(repo, tag, seed=zlib.crc32(repo.encode()) + 1, size=SMALL)

    def publish_plainly(self, repo) -> str:
        self.publish(repo)
        return f"{self.registry.address}/library/{repo}"

    def hold(self, repo) -> None:
        self.registry.set_faults(repo, Faults(stall_after=PART))

    def release(self) -> None:
        self.registry.faults = Faults()

    def publish_unusable(self, repo) -> None:
        self.registry.publish(repo, seed=zlib.crc32(repo.encode()), template="{{ frobnicate }}")

    def publish_index(self, repo) -> None:
        self.registry.publish_index(repo, seed=zlib.crc32(repo.encode()))

    def spoil(self, repo) -> None:
        self.publish(repo)
        self.registry.set_faults(repo, Faults(corrupt=True))


@pytest.fixture
def anyio_backend() -> str:
    """Real time, as a real server has no other."""
    return "asyncio"


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.real)])
def server(request: pytest.FixtureRequest) -> tuple[OllamaServer, Registry] | None:
    """Return the real server and its registry, or None for the scripted one."""
    if request.param == "sandbox":
        return None
    return request.getfixturevalue("ollama"), request.getfixturevalue("registry")


@pytest.fixture
async def stage(server: tuple[OllamaServer, Registry] | None) -> AsyncGenerator[Stage]:
    """Give each test a server: the sandbox's, then the real one."""
    if server is None:
        app = OllamaSandbox()
        async with (
            AppTransport(app) as transport,
            httpx.AsyncClient(transport=transport, base_url="http://ollama:11434") as http,
        ):
            yield SandboxStage(http, app)
    else:
        ollama, registry = server
        async with httpx.AsyncClient(base_url=ollama.url, trust_env=False) as http:
            yield RealStage(http, registry)
            registry.faults = Faults()


# What is there


async def test_a_pulled_model_is_listed_with_its_digest(stage) -> None:
    """The digest is the one it was published with; the size counts all layers."""
    digest = stage.publish("c-listed")
    await stage.pull("c-listed")
    entry = (await stage.client.tags())[ModelName.parse("c-listed")]
    assert (entry.name, entry.digest) == ("c-listed:latest", digest)
    assert SMALL < entry.size < SMALL + 2_000


async def test_what_is_listed_can_be_shown(stage) -> None:
    """Both together are what makes a model Ready."""
    stage.publish("c-shown")
    await stage.pull("c-shown")
    await stage.client.show(ModelName.parse("c-shown"))


async def test_what_is_absent_cannot_be_shown(stage) -> None:
    """Absent is an answer of its own, and no failure of the server."""
    with pytest.raises(ModelAbsent):
        await stage.client.show(ModelName.parse("c-absent"))
    assert ModelName.parse("c-absent") not in await stage.client.tags()


async def test_case_does_not_tell_models_apart(stage) -> None:
    """Whoever names it in another case means the same model."""
    stage.publish("c-team/cased")
    await stage.pull("c-team/cased")
    shouted = ModelName.parse("C-TEAM/Cased:LATEST")
    await stage.client.show(shouted)
    assert (await stage.client.tags())[shouted].name == "c-team/cased:latest"
    await stage.client.delete(shouted)
    assert shouted not in await stage.client.tags()


async def test_deleting_twice_is_no_error(stage) -> None:
    """Once deleted, a model is gone; what is gone can be deleted."""
    name = ModelName.parse("c-deleted")
    stage.publish("c-deleted")
    await stage.pull("c-deleted")
    await stage.client.delete(name)
    assert name not in await stage.client.tags()
    with pytest.raises(ModelAbsent):
        await stage.client.show(name)
    await stage.client.delete(name)


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    """No connection is an outage, and never an absent model."""
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9", trust_env=False) as http:
        with pytest.raises(OllamaUnreachable, match="refused the connection"):
            await OllamaClient(http).show(ModelName.parse("any"))


# How a pull goes


async def test_a_pull_ends_in_success(stage) -> None:
    """Manifest, layers, verification, manifest again, success: in this order."""
    stage.publish("c-phases")
    phases = list(dict.fromkeys(step.status for step in await stage.pull("c-phases")))
    assert phases[0] == "pulling manifest"
    assert all(phase.startswith("pulling ") for phase in phases[1:-3])
    assert phases[-3:] == ["verifying sha256 digest", "writing manifest", "success"]


async def test_layers_say_how_far_they_are(stage) -> None:
    """Each step of a layer has its digest and size; the last one of each is complete."""
    stage.publish("c-layers")
    steps = [step for step in await stage.pull("c-layers") if step.digest]
    assert all(step.digest.startswith("sha256:") for step in steps)
    assert all(step.status == f"pulling {step.digest[7:19]}" for step in steps)
    assert all(0 <= step.completed <= step.total for step in steps)
    last = {step.digest: step for step in steps}
    assert all(step.completed == step.total for step in last.values())
    assert max(step.total for step in last.values()) == SMALL
    entry = (await stage.client.tags())[ModelName.parse("c-layers")]
    assert sum(step.total for step in last.values()) == entry.size


async def test_a_pull_again_changes_nothing(stage) -> None:
    """What is there already is complete from the first step on."""
    stage.publish("c-again")
    await stage.pull("c-again")
    name = ModelName.parse("c-again")
    before = (await stage.client.tags())[name]
    steps = await stage.pull("c-again")
    assert all(step.completed == step.total for step in steps if step.digest)
    assert steps[-1].status == "success"
    assert before == (await stage.client.tags())[name]


async def test_a_pull_again_brings_a_new_version(stage) -> None:
    """A refresh is a pull: afterwards the digest is the new one, and the old layers are dropped."""
    old = stage.publish("c-renewed", version=1)
    await stage.pull("c-renewed")
    new = stage.publish("c-renewed", version=2)
    phases = [step.status for step in await stage.pull("c-renewed")]
    assert phases[-2:] == ["removing unused layers", "success"]
    name = ModelName.parse("c-renewed")
    assert old != new == (await stage.client.tags())[name].digest
    await stage.client.show(name)


async def test_an_unknown_model_fails_after_http_200(stage) -> None:
    """Only the last line says that the registry has no such model."""
    name = "c-nobody/has:it"
    answer = await stage.http.post("/api/pull", json={"model": name}, timeout=30)
    assert answer.status_code == 200
    with pytest.raises(ModelUnknown, match=name):
        await stage.pull(name)


async def test_an_illegal_name_is_refused_at_once(stage) -> None:
    """Pull and delete say 400; the client's errors say it was no outage."""
    for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete")):
        answer = await stage.http.request(method, path, json={"model": str(ILLEGAL)})
        assert answer.status_code == 400
        assert "invalid" in answer.json()["error"]
    with pytest.raises(PullFailed, match="invalid model name"):
        async with stage.client.pull(ILLEGAL):
            pass
    with pytest.raises(ProtocolError, match="invalid"):
        await stage.client.delete(ILLEGAL)


async def test_a_name_that_is_too_long_for_the_server_is_refused_in_its_words(stage) -> None:
    """80 characters for each part pass in these versions, and 81 do not."""
    with pytest.raises(NameRefused, match="takes no such name: invalid model name"):
        async with stage.client.pull(ModelName.parse(f"{'m' * 81}:1")):
            pass
    with pytest.raises(ModelUnknown):
        await stage.pull(f"{'m' * 80}:1")


async def test_a_stalled_pull_still_has_steps(stage) -> None:
    """They come as often as ever, and say the same every time."""
    stage.publish("c-stalled", size=BIG)
    stage.hold("c-stalled")
    async with stage.client.pull(ModelName.parse("c-stalled")) as steps:
        stood = await stage.standstill(steps)
        assert 0 < stood.completed <= PART
        assert await anext(steps) == stood
        stage.release()
        assert [step async for step in steps][-1].status == "success"


async def test_leaving_a_pull_ends_it_and_keeps_the_part(stage) -> None:
    """The model does not come by itself; the next pull begins where this one was left."""
    name = ModelName.parse("c-left")
    stage.publish("c-left", size=BIG)
    stage.hold("c-left")
    async with stage.client.pull(name) as steps:
        stood = await stage.standstill(steps)
    await anyio.sleep(0.3)  # for the server to notice
    assert name not in await stage.client.tags()
    async with stage.client.pull(name) as steps:
        assert (await _first_bytes(steps)).completed == stood.completed
    stage.release()
    await stage.pull("c-left")
    await stage.client.show(name)


async def test_two_pulls_of_one_model_both_succeed(stage) -> None:
    """Whoever comes second follows the download under way."""
    stage.publish("c-both", size=BIG)
    ends: list[str] = []

    async def pull() -> None:
        ends.append((await stage.pull("c-both"))[-1].status)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pull)
        tasks.start_soon(pull)
    assert ends == ["success", "success"]
    await stage.client.show(ModelName.parse("c-both"))


# Copies


async def test_a_copy_is_the_same_model_under_one_more_name(stage) -> None:
    """Nothing is downloaded for it, and it has the digest of what it is a copy of."""
    name, to = ModelName.parse("c-copied"), ModelName.parse("c-team/copy:1767226200")
    digest = stage.publish("c-copied")
    await stage.pull("c-copied")
    await stage.client.copy(name, to)
    found = await stage.client.tags()
    assert (found[name].digest, found[to].digest) == (digest, digest)
    await stage.client.delete(to)


async def test_a_copy_outlives_the_original_and_can_be_copied_back(stage) -> None:
    """The layers stay as long as any name has them, so what comes back is whole."""
    name, to = ModelName.parse("c-back"), ModelName.parse("c-team/back:1767226200")
    digest = stage.publish("c-back")
    await stage.pull("c-back")
    await stage.client.copy(name, to)
    await stage.client.delete(name)
    await stage.client.show(to)
    await stage.client.copy(to, name)
    await stage.client.delete(to)
    await stage.client.show(name)
    assert (await stage.client.tags())[name].digest == digest
    await stage.load("c-back")


async def test_a_copy_replaces_what_has_its_name(stage) -> None:
    """Whoever copies has to see first that nothing is there."""
    name, to = ModelName.parse("c-source"), ModelName.parse("c-target")
    digest = stage.publish("c-source")
    stage.publish("c-target", version=2)
    for repo in ("c-source", "c-target"):
        await stage.pull(repo)
    await stage.client.copy(name, to)
    assert (await stage.client.tags())[to].digest == digest


async def test_what_is_not_there_cannot_be_copied(stage) -> None:
    """It is absent, as it is for everything else."""
    with pytest.raises(ModelAbsent):
        await stage.client.copy(ModelName.parse("c-nobody"), ModelName.parse("c-else"))


# Traps


async def test_deleting_one_model_keeps_what_another_shares(stage) -> None:
    """As long as nothing is being pulled, a shared layer stays."""
    for repo in ("c-a", "c-b"):
        stage.publish(repo, shared="kept")
        await stage.pull(repo)
    await stage.client.delete(ModelName.parse("c-a"))
    await stage.client.show(ModelName.parse("c-b"))


async def test_deleting_one_model_breaks_a_pull_that_shares_a_layer(stage) -> None:
    """That pull says success and its model is listed, but it is whole only when pulled again."""
    name = ModelName.parse("c-heir")
    stage.publish("c-giver", shared="lost")
    stage.publish("c-heir", size=BIG, shared="lost")
    await stage.pull("c-giver")
    stage.hold("c-heir")
    async with stage.client.pull(name) as steps:
        await _past_the_shared_layer(steps)
        await stage.standstill(steps)
        await stage.client.delete(ModelName.parse("c-giver"))
        stage.release()
        assert [step async for step in steps][-1].status == "success"
    assert name in await stage.client.tags()
    with pytest.raises(ModelAbsent):
        await stage.client.show(name)
    await stage.pull("c-heir")
    await stage.client.show(name)


async def test_a_new_version_breaks_a_pull_that_shares_an_old_layer(stage) -> None:
    """A pull drops the layers of the version that it replaces, just as a deletion does."""
    name = ModelName.parse("c-follower")
    stage.publish("c-mover", shared="moved")
    stage.publish("c-follower", size=BIG, shared="moved")
    await stage.pull("c-mover")
    stage.publish("c-mover", version=2)
    stage.hold("c-follower")
    async with stage.client.pull(name) as steps:
        await _past_the_shared_layer(steps)
        await stage.standstill(steps)
        await stage.pull("c-mover")
        stage.release()
        assert [step async for step in steps][-1].status == "success"
    with pytest.raises(ModelAbsent):
        await stage.client.show(name)
    await stage.pull("c-follower")
    await stage.client.show(name)


async def test_a_bad_configuration_stays_until_it_is_deleted(stage) -> None:
    """The next pull says success, and the model is in no list; DELETE removes what there is."""
    name = ModelName.parse("c-spoilt")
    stage.spoil("c-spoilt")
    with pytest.raises(DigestMismatch):
        await stage.pull("c-spoilt")
    stage.release()
    for _ in range(2):
        assert (await stage.pull("c-spoilt"))[-1].status == "success"
        assert name not in await stage.client.tags()
        with pytest.raises(ModelBroken, match="invalid character") as caught:
            await stage.client.show(name)
        assert not caught.value.whole
    assert await stage.client.delete(name)
    with pytest.raises(ModelAbsent):
        await stage.client.show(name)
    await stage.pull("c-spoilt")
    assert name in await stage.client.tags()
    await stage.client.show(name)


async def test_a_model_for_another_ollama_is_listed_and_cannot_be_used(stage) -> None:
    """It says why, for a look and for a load; nothing is wrong with what was downloaded."""
    name = ModelName.parse("c-unusable")
    stage.publish_unusable("c-unusable")
    assert (await stage.pull("c-unusable"))[-1].status == "success"
    assert name in await stage.client.tags()
    with pytest.raises(ModelBroken) as caught:
        await stage.client.show(name)
    assert UNUSABLE in str(caught.value)
    assert caught.value.whole
    with pytest.raises(LoadFailed, match="not defined"):
        await stage.client.load(name, 60)


async def test_an_index_is_listed_and_not_known(stage) -> None:
    """A pull of it says success; it has no bytes, and Ollama has no such model."""
    name = ModelName.parse("c-index")
    stage.publish_index("c-index")
    assert (await stage.pull("c-index"))[-1].status == "success"
    assert (await stage.client.tags())[name].size == 0
    with pytest.raises(ModelAbsent):
        await stage.client.show(name)
    assert await stage.client.delete(name)
    assert name not in await stage.client.tags()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/tags", None, 200),
        ("GET", "/api/ps", None, 200),
        ("GET", "/api/version", None, 200),
        ("POST", "/api/show", {"model": "c-nobody"}, 404),
        ("POST", "/api/generate", {"model": "c-nobody", "keep_alive": 0}, 404),
        ("POST", "/api/copy", {"source": "c-nobody", "destination": "c-else"}, 404),
        ("POST", "/api/copy", {"source": "c-form", "destination": "c-f@rm"}, 400),
        ("DELETE", "/api/delete", {"model": "c-nobody"}, 404),
        ("DELETE", "/api/delete", {"model": "c-form"}, 200),
    ],
)
async def test_every_answer_has_ollamas_form(stage, method, path, body, status) -> None:
    """JSON for an endpoint that has something to say, a string `error` for a no; else nothing."""
    stage.publish("c-form")
    await stage.pull("c-form")
    answer = await stage.http.request(method, path, json=body)
    assert answer.status_code == status
    if status == 404:
        assert list(answer.json()) == ["error"]
        assert isinstance(answer.json()["error"], str)
    elif method == "DELETE":
        assert answer.content == b""
    else:
        assert isinstance(answer.json(), dict)


async def test_a_loaded_model_can_be_unloaded(stage) -> None:
    """What is in memory is listed there, until it is told to go; telling twice is no error."""
    name = ModelName.parse("c-loaded")
    assert name not in await stage.client.running()
    await stage.load("c-loaded")
    assert name in await stage.client.running()
    await stage.client.unload(ModelName.parse("C-LOADED"))
    await stage.unloaded("c-loaded")
    await stage.client.unload(name)
    await stage.client.unload(ModelName.parse("c-never-was"))


async def test_a_model_is_loaded_for_so_long_and_no_longer(stage) -> None:
    """How long it stays is told; once that is over, it is in memory no more."""
    name = await stage.load("c-brief", 2)
    loaded = (await stage.client.running())[name]
    assert 0 < await stage.left_s(name) <= 2
    assert not loaded.is_for_ever(datetime.now(UTC))
    await stage.unloaded("c-brief")


async def test_a_model_is_loaded_for_ever(stage) -> None:
    """Ollama says so with a time that nobody lives to see; it is unloaded all the same."""
    name = await stage.load("c-ever", inf)
    assert (await stage.client.running())[name].is_for_ever(datetime.now(UTC))
    await stage.client.unload(name)
    await stage.unloaded("c-ever")


async def test_loading_again_counts_from_then_on(stage) -> None:
    """The last word holds, be it for longer, for ever or for a shorter time than before."""
    name = await stage.load("c-again-loaded", 60)
    await anyio.sleep(1.2)
    before = await stage.left_s(name)
    for seconds, least in ((60, before), (inf, 1e9), (90, 60)):
        await stage.client.load(name, seconds)
        await anyio.sleep(0.2)  # Ollama counts from the end of the call, and notices it a bit late
        assert least < await stage.left_s(name) <= seconds
    await stage.client.unload(name)


async def test_one_model_under_two_tags_is_in_memory_once(stage) -> None:
    """Only the first of the names is listed; the digest tells that the other one is there too."""
    first = await stage.load("c-alias", 60)
    stage.publish_again("c-alias", "second")
    second = ModelName.parse("c-alias:second")
    await stage.pull("c-alias:second")
    await stage.client.load(second, inf)
    await anyio.sleep(0.2)
    running = await stage.client.running()
    assert second not in running
    assert running[first].digest == (await stage.client.tags())[second].digest
    assert running[first].is_for_ever(datetime.now(UTC))
    await stage.client.unload(second)
    await stage.unloaded("c-alias")


async def test_what_is_not_there_cannot_be_loaded(stage) -> None:
    """Absent is an answer of its own here too."""
    with pytest.raises(ModelAbsent):
        await stage.client.load(ModelName.parse("c-unheard-of"), 60)


async def test_a_model_that_only_embeds_is_loaded_too(stage) -> None:
    """Ollama refuses to let it talk; it is loaded and unloaded like any other all the same."""
    name = await stage.load("c-embeds", embeds=True)
    answer = await stage.http.post("/api/generate", json={"model": "c-embeds", "prompt": "a"})
    assert (answer.status_code, "support generate" in answer.text) == (400, True)
    assert 250 < await stage.left_s(name) <= 300
    await stage.client.unload(name)
    await stage.unloaded("c-embeds")


async def test_the_server_says_which_ollama_it_is(stage) -> None:
    """A version is what it says, and the same one every time."""
    version = await stage.client.version()
    assert version
    assert version == await stage.client.version()


async def test_a_registry_without_tls_is_used_only_if_that_is_allowed(stage) -> None:
    """Ollama expects TLS unless told otherwise, and that is the registry's fault."""
    name = stage.publish_plainly("c-plain")
    with pytest.raises(RegistryUnavailable, match=name):
        await stage.pull(name)
    await stage.pull(name, insecure=True)
    await stage.client.show(ModelName.parse(name))


async def test_a_loaded_model_that_is_deleted_stays_loaded(stage) -> None:
    """It is gone from the list, remains in memory, and can no longer be told to go."""
    name = await stage.load("c-ghost")
    await stage.client.delete(name)
    assert name not in await stage.client.tags()
    await stage.client.unload(name)
    await anyio.sleep(0.3)
    assert name in await stage.client.running()


async def _past_the_shared_layer(steps: AsyncIterator[Step]) -> None:
    async for step in steps:
        if step.total == SHARED and step.completed == SHARED:
            return


async def _first_bytes(steps: AsyncIterator[Step]) -> Step:
    async for step in steps:
        if step.completed:
            return step
    raise AssertionError("no bytes ever came")
