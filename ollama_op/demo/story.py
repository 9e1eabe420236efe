"""The demo's story: six promises, each made true before the eyes of who watches.

A user's part is played through the Kubernetes API, as kubectl would; fate's part (a registry that
fails, somebody who deletes a model) behind the scenes of Ollama.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import httpx
import msgspec

from crd.model import OllamaModel, decode
from crd.names import ModelName
from crd.v1alpha1 import API_VERSION, KIND, PLURAL, REFRESH, State
from ollama_op.ollama.client import OllamaClient

MODELS_PATH = f"/apis/{API_VERSION}/namespaces/default/{PLURAL}"
LOOK_EVERY_S = 0.1


class BrokenPromise(Exception):
    """Something that the demo promises did not come true in time."""


class Fate(Protocol):
    """What happens to a model without the operator's doing."""

    async def lose(self, name: str) -> None:
        """Delete a model inside Ollama."""

    async def publish_again(self, name: str) -> bool:
        """Publish a new version upstream; tell whether that is possible here."""


class Tell(Protocol):
    """Shows the story."""

    def say(self, mark: str, text: str) -> None:
        """Show a line."""


@dataclass(frozen=True)
class Cast:
    """The models of the story, each as name:tag."""

    first: str
    second: str
    troubled: str  # the one whose first pulls fail
    mend_tag: str = ""  # the tag that mends it; empty if time does


class Story:
    """Plays it. `patience_s` is how long any promise may take to come true."""

    def __init__(
        self,
        *,
        kube: httpx.AsyncClient,
        ollama: OllamaClient,
        fate: Fate,
        cast: Cast,
        tell: Tell,
        patience_s: float,
    ) -> None:
        self._kube, self._ollama, self._fate = kube, ollama, fate
        self._cast, self._tell, self._patience_s = cast, tell, patience_s
        self.kept = 0

    async def play(self, *, keep: bool = False) -> None:
        """Show every promise, in order; with `keep`, leave the models there.

        Raises: BrokenPromise.
        """
        cast = self._cast
        first, second, troubled = map(object_name, (cast.first, cast.second, cast.troubled))
        self._tell.say("$", "kubectl apply: three OllamaModels of six lines each")
        for model in (cast.first, cast.second, cast.troubled):
            await self._apply(object_name(model), model)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._see_trouble_mended, troubled)
            await self._promise(
                "pulled side by side, Ready only once Ollama shows them",
                self._all(self._is(first, State.READY), self._is(second, State.READY)),
            )
        await self._see_loss_healed(second)
        await self._see_refresh(first)
        await self._see_sharing(second)
        if not keep:
            await self._see_removal(first, second, troubled)

    async def _see_trouble_mended(self, troubled: str) -> None:
        await self._until(self._is(troubled, State.FAILED), "it never failed")
        if failed := await self._get(troubled):
            self._tell.say("!", f"{troubled} fails: {failed.status.error or ''}")
        if self._cast.mend_tag:
            self._tell.say("$", f"kubectl patch: spec.tag of {troubled} → {self._cast.mend_tag}")
            await self._patch(troubled, {"spec": {"tag": self._cast.mend_tag}})
        await self._promise("a failure says its reason, and heals", self._is(troubled, State.READY))

    async def _see_loss_healed(self, name: str) -> None:
        model = await self._model(name)
        self._tell.say("!", f"somebody deletes {model} inside Ollama")
        await self._fate.lose(model)
        await self._until(self._not(self._is(name, State.READY)), "the loss went unnoticed")
        self._tell.say("→", "noticed at the next look, pulling again")
        await self._promise("what is lost comes back", self._is(name, State.READY))

    async def _see_refresh(self, name: str) -> None:
        model, before = await self._model(name), await self._digest(name)
        is_new = await self._fate.publish_again(model)
        if is_new:
            self._tell.say("!", f"a new version of {model} appears upstream")
        self._tell.say("$", f"kubectl annotate om {name} {REFRESH}=true")
        await self._patch(name, {"metadata": {"annotations": {REFRESH: "true"}}})

        async def done() -> bool:
            found = await self._get(name)
            served = found and str(found.metadata.annotations.refresh).startswith("completed-")
            return bool(served) and (not is_new or await self._digest(name) != before)

        after = "a refresh brings the new version" if is_new else "a refresh asks for a new version"
        await self._promise(after, done)
        digest = await self._digest(name)
        self._tell.say("→", f"digest {before[:8]} → {digest[:8]}, Ready all the while")

    async def _see_sharing(self, name: str) -> None:
        model, twin = await self._model(name), f"{name}-twin"
        self._tell.say("$", f"kubectl apply: {twin}, a second resource for {model}")
        await self._apply(twin, model)
        await self._until(self._is(twin, State.READY), "the twin never became Ready")
        self._tell.say("$", f"kubectl delete om {twin}")
        await self._delete(twin)
        await self._promise(
            "a model that another resource names is not deleted",
            self._all(self._is_gone(twin), self._has(model)),
        )

    async def _see_removal(self, *names: str) -> None:
        models = [await self._model(name) for name in names]
        self._tell.say("$", "kubectl delete om --all")
        for name in names:
            await self._delete(name)
        await self._promise(
            "the last resource of a model takes it along",
            self._all(
                *(self._is_gone(name) for name in names),
                *(self._not(self._has(model)) for model in models),
            ),
        )

    # --- promises

    async def _promise(self, text: str, holds: "StoryCheck") -> None:
        await self._until(holds, text)
        self.kept += 1
        self._tell.say("✔", text)

    async def _until(self, holds: "StoryCheck", otherwise: str) -> None:
        with anyio.move_on_after(self._patience_s):
            while not await holds():  # noqa: ASYNC110 - the other side of an API has no event
                await anyio.sleep(LOOK_EVERY_S)
            return
        raise BrokenPromise(otherwise)

    def _is(self, name: str, state: State) -> "StoryCheck":
        async def check() -> bool:
            found = await self._get(name)
            return found is not None and found.status.state == state

        return check

    def _is_gone(self, name: str) -> "StoryCheck":
        async def check() -> bool:
            return await self._get(name) is None

        return check

    def _has(self, model: str) -> "StoryCheck":
        async def check() -> bool:
            return ModelName.parse(model) in await self._ollama.tags()

        return check

    @staticmethod
    def _not(check: "StoryCheck") -> "StoryCheck":
        async def inverted() -> bool:
            return not await check()

        return inverted

    @staticmethod
    def _all(*checks: "StoryCheck") -> "StoryCheck":
        async def every() -> bool:
            return all([await check() for check in checks])

        return every

    # --- what a user does

    async def _apply(self, name: str, model: str) -> None:
        repo, _, tag = model.rpartition(":")
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name},
            "spec": {"name": repo, "tag": tag},
        }
        (await self._kube.post(MODELS_PATH, json=body)).raise_for_status()

    async def _patch(self, name: str, body: dict[str, Any]) -> None:
        headers = {"content-type": "application/merge-patch+json"}
        content = msgspec.json.encode(body)
        answer = await self._kube.patch(f"{MODELS_PATH}/{name}", content=content, headers=headers)
        answer.raise_for_status()

    async def _delete(self, name: str) -> None:
        (await self._kube.delete(f"{MODELS_PATH}/{name}")).raise_for_status()

    async def _get(self, name: str) -> OllamaModel | None:
        answer = await self._kube.get(f"{MODELS_PATH}/{name}")
        return decode(answer.content) if answer.is_success else None

    async def _model(self, name: str) -> str:
        found = await self._get(name)
        return (found.status.model or "") if found else ""

    async def _digest(self, name: str) -> str:
        found = await self._get(name)
        return (found.status.digest or "") if found else ""


StoryCheck = Callable[[], Awaitable[bool]]


def object_name(model: str) -> str:
    """Name the object of a model as the samples do: `llama3.2:1b` is llama3.2-1b."""
    return model.replace("/", "-").replace(":", "-").lower()
