"""The operator with its REST API, between the sandboxes, in process."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import anyio
import httpx

from api.access import Key, Keys
from api.app import Api, ApiOptions, create_api
from api.ports import Held, Listener
from crd.model import OllamaModel
from crd.placement import Placement
from crd.v1alpha1 import OllamaModelSpec
from ollama_op.app.operator import Readiness, operate
from ollama_op.base.asgi import App
from ollama_op.base.observer import NOBODY
from ollama_op.rest.gateway import Gateway
from ollama_op.rest.serving import tell_span
from ollama_op.sandbox.transport import AppTransport
from support.virtual.models import made
from support.virtual.world import World, world

KEY = "the-key-of-the-tests"


def key(text: str = KEY, **how: Any) -> Key:
    """Make a key."""
    return Key(how.pop("name", "tests"), sha256(text.encode()).digest(), **how)


class Known:
    """A reader that knows what a test puts in."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.listed, self.age = True, 0.0
        self.there: Mapping[Placement, Held] | None = {}

    def follow(self, listener: Listener) -> None:
        self.listener = listener

    def is_listed(self) -> bool:
        return self.listed

    def age_s(self) -> float:
        return self.age

    def on_servers(self) -> Mapping[Placement, Held] | None:
        return self.there

    def put(self, *bodies: dict[str, Any]) -> None:
        """Handle new or changed objects."""
        assert self.listener is not None
        for body in bodies:
            model = made(body)
            self.listener.offer(model.metadata.uid, model)

    def drop(self, uid: str) -> None:
        """Handle the end of an object."""
        assert self.listener is not None
        self.listener.retire(uid)


class Written:
    """A writer that notes what it is told, and answers, or raises, what a test has set."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answer: OllamaModel | Exception | None = None

    async def create(
        self, namespace: str, name: str, spec: OllamaModelSpec, *, dry_run: bool = False
    ) -> OllamaModel:
        return self._do("create", namespace, name, spec, dry_run)

    async def patch(
        self, namespace: str, name: str, change: Mapping[str, Any], *, dry_run: bool = False
    ) -> OllamaModel:
        return self._do("patch", namespace, name, change, dry_run)

    async def delete(
        self, namespace: str, name: str, *, version: str | None = None, dry_run: bool = False
    ) -> None:
        self._do("delete", namespace, name, version, dry_run)

    def _do(self, *call: Any) -> Any:
        self.calls.append(call)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def client_of(api: Api, text: str | None = KEY) -> AsyncGenerator[httpx.AsyncClient]:
    """Be a client of an API, with a key unless that is None."""
    headers = {} if text is None else {"x-api-key": text}
    async with AppTransport(api.app) as transport:
        yield httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)


@asynccontextmanager
async def rest_world(
    start: Callable[[Api], Any] = lambda _api: None,
    through: Callable[[App], App] = lambda app: app,
    **options: Any,
) -> AsyncGenerator[tuple[World, httpx.AsyncClient]]:
    """Run an operator that serves the REST API; hand out its world, and a client with a key."""
    observer = options.pop("observer", NOBODY)
    built: list[Api] = []
    up = anyio.Event()

    async def serve(gateway: Gateway) -> None:
        how = {"keys": Keys([key()]), "locked": True} | options
        if how.pop("kubernetes", False):
            how["reviewer"] = gateway.reviewer
        built.append(create_api(gateway, gateway, ApiOptions(**how), observe=tell_span))
        up.set()
        await anyio.sleep_forever()

    async with world(through) as w:

        async def run() -> None:
            await operate(
                w.settings,
                w.cluster,
                w.ollama_http,
                health=Readiness(),
                serve=serve,
                observer=observer,
                now=w.now,
            )

        w.tasks.start_soon(run)
        await up.wait()
        start(built[0])
        async with client_of(built[0]) as client:
            while (await client.get("/readiness")).is_error:  # noqa: ASYNC110 - no event over HTTP
                await anyio.sleep(0.05)
            yield w, client
