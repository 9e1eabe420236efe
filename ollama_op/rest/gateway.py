"""The operator as the REST API sees it: what it knows, and what it can write.

Writes have a connection and slots of their own, so that clients of the API cannot hold back the
operator's, and what was written goes into the store at once, so that the next read finds it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import msgspec

from api.ports import Held, Listener
from crd.model import OllamaModel, decode
from crd.placement import Placement
from crd.v1alpha1 import API_VERSION, KIND, PLURAL, TRACEPARENT, UNREADABLE, OllamaModelSpec
from ollama_op.base import tracing
from ollama_op.base.errors import KubeUnreachable
from ollama_op.kube.calls import KubeCalls, read_object
from ollama_op.kube.reflector import Reflector
from ollama_op.kube.store import Store
from ollama_op.kube.writes import MERGE_PATCH
from ollama_op.ollama.wire import Entry
from ollama_op.rest.reviewer import KubeReviewer

SERVER_LIST_S: Final = 1.0  # between looks at whether the watch is up


class _Uid(msgspec.Struct):
    uid: str = ""


class _Deletion(msgspec.Struct):
    """What a DELETE answers: a Status about an object that is gone, or the object."""

    kind: str = ""
    details: _Uid | None = None


class Gateway:
    """Reader and writer of the API. `run()` must be running for `age_s` to be right."""

    def __init__(
        self,
        calls: KubeCalls,
        *,
        store: Store[OllamaModel],
        reflector: Reflector,
        reviewer: KubeReviewer,
        on_servers: Callable[[], Mapping[Placement, Entry] | None],
    ) -> None:
        self._calls, self._store, self._reflector = calls, store, reflector
        self._on_servers, self.reviewer = on_servers, reviewer
        self._in_sync_at = anyio.current_time()

    async def run(self) -> None:
        """Record for ever when the watch was last up."""
        while True:
            if self._reflector.is_in_sync():
                self._in_sync_at = anyio.current_time()
            await anyio.sleep(SERVER_LIST_S)

    # --- reader

    def follow(self, listener: Listener) -> None:
        """Notify `listener` of all objects from now on."""
        self._store.follow(listener)

    def is_listed(self) -> bool:
        """Return True if the first list was complete."""
        return self._reflector.synced.is_set()

    def age_s(self) -> float:
        """Return for how many seconds no news could arrive."""
        if self._reflector.connected:
            return 0
        return anyio.current_time() - self._in_sync_at

    def on_servers(self) -> Mapping[Placement, Held] | None:
        """Return what the Ollama servers have; None while that is not known."""
        models = self._on_servers()
        if models is None:
            return None
        return {where: Held(entry.digest, entry.size) for where, entry in models.items()}

    # --- writer

    async def create(
        self, namespace: str, name: str, spec: OllamaModelSpec, *, dry_run: bool = False
    ) -> OllamaModel:
        """Create an object.

        Raises: KubeError.
        """
        meta: dict[str, Any] = {"name": name}
        if traceparent := tracing.current().traceparent:  # the trace of its life begins here
            meta["annotations"] = {TRACEPARENT: traceparent}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": spec}
        answer = await self._calls.send("POST", PLURAL, body, namespace=namespace, dry_run=dry_run)
        return self._known(answer, dry_run=dry_run)

    async def patch(
        self, namespace: str, name: str, change: Mapping[str, Any], *, dry_run: bool = False
    ) -> OllamaModel:
        """Merge `change` into an object.

        Raises: KubeError.
        """
        answer = await self._calls.send(
            "PATCH",
            f"{PLURAL}/{name}",
            change,
            namespace=namespace,
            dry_run=dry_run,
            headers=MERGE_PATCH,
        )
        return self._known(answer, dry_run=dry_run)

    async def delete(
        self, namespace: str, name: str, *, version: str | None = None, dry_run: bool = False
    ) -> None:
        """Delete an object.

        Raises: KubeError.
        """
        options = {"preconditions": {"resourceVersion": version}} if version else {}
        answer = await self._calls.send(
            "DELETE", f"{PLURAL}/{name}", options, namespace=namespace, dry_run=dry_run
        )
        if dry_run:
            return
        deletion = read_object(_Deletion, answer)
        if deletion.kind == KIND:
            self._known(answer)
        elif deletion.details is not None:
            self._store.forget(deletion.details.uid)

    def _known(self, answer: bytes, *, dry_run: bool = False) -> OllamaModel:
        try:
            model = decode(answer)
        except UNREADABLE as error:
            raise KubeUnreachable("the Kubernetes API answered what is no object") from error
        if not dry_run:
            self._store.put(model)
        return model
