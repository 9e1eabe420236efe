"""A small REST API for the page, on loopback, which does what a test says."""

import json
import queue
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from litestar import Litestar, Request, Response, delete, get, post
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from api.files import get_file, served
from api.openapi import document
from api.problems import Problem
from crd.door import mended
from ollama_op.base.serve import serve

Item = dict[str, Any]
Asked = Request[Any, Any, Any]


class Refused(Exception):
    """Ends a request with a problem."""

    def __init__(self, status: int, slug: str, title: str, detail: str, **more: Any) -> None:
        self.body = {"type": f"/docs/problems#{slug}", "title": title, "status": status}
        self.body |= {"detail": detail, "error": detail, **more}
        super().__init__(detail)


def item(model: str, state: str = "Ready", **fields: Any) -> Item:
    """Make a model as the API shows it."""
    name, tag = model.rsplit(":", 1)
    fields = {"reason": "Available" if state == "Ready" else state, **fields}
    base = {"name": f"{name}-{tag}".replace("/", "-").lower(), "namespace": "ai", "modelName": name}
    return {**base, "tag": tag, "state": state, "ready": state == "Ready", **fields}


def pulling(model: str, percent: int | None, **fields: Any) -> Item:
    """Make a model that is being downloaded, of 1.2 GiB in all."""
    total = 1_321_098_329
    progress: Item = {"completedBytes": total * (percent or 0) // 100, "bytesPerSecond": 32_505_856}
    if percent is not None:
        left = (total - progress["completedBytes"]) // 32_505_856
        progress |= {"totalBytes": total, "percent": percent, "etaSeconds": left}
    return item(model, "Pulling", progress=progress, message="Downloading.", **fields)


class FakeApi:
    """The models there are, and the requests that came; to be changed from any thread."""

    SILENCE: ClassVar[float] = 15.0

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self.models: dict[tuple[str, str], Item] = {}
        self.key: str | None = None
        self.down = False  # the event stream answers 503
        self.requests: list[tuple[str, str]] = []
        self.refusal: Refused | None = None  # what the next change is answered with
        self.last_ids: list[str | None] = []
        self.readers: list[queue.SimpleQueue[bytes | None]] = []
        self.count = 0

    def put(self, *models: Item) -> None:
        """Have models, and tell who listens."""
        for model in models:
            self.models[model["namespace"], model["name"]] = model
            self._tell("model", model)

    def drop(self, model: Item) -> None:
        """Have a model no more."""
        self.models.pop((model["namespace"], model["name"]), None)
        self._tell("deleted", {"name": model["name"], "namespace": model["namespace"]})

    def hang_up(self) -> None:
        """End all event streams."""
        for reader in self.readers:
            reader.put(None)
        self.readers.clear()

    def _tell(self, kind: str, data: Item) -> None:
        self.count += 1
        for reader in self.readers:
            reader.put(self._event(kind, data))

    def _event(self, kind: str, data: Item) -> bytes:
        return f"event: {kind}\nid: {self.count}\ndata: {json.dumps(data)}\n\n".encode()

    def check(self, request: Asked) -> None:
        """Let a request pass, or not."""
        self.requests.append((request.method, request.url.path))
        sent = {request.headers.get("x-api-key"), request.headers.get("authorization")}
        if self.key is not None and self.key not in sent:
            raise Refused(401, "unauthorized", "Key missing or wrong", "Send a key.")

    def change(self, request: Asked) -> None:
        """Let a change pass, or not."""
        self.check(request)
        refusal, self.refusal = self.refusal, None
        if refusal:
            raise refusal

    async def events(self) -> AsyncGenerator[bytes]:
        """Yield the stream of one reader."""
        reader: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.readers.append(reader)
        yield b"retry: 3000\n\n"
        yield self._event("snapshot", {"items": list(self.models.values())})
        while True:
            while reader.empty():  # noqa: ASYNC110 - the other side is a thread without a loop
                await anyio.sleep(0.01)
            if (event := reader.get()) is None:
                return
            yield event


def app(fake: FakeApi) -> Litestar:
    """Build the application: the page as it is, and the fake API."""

    @get("/api/v1/events")
    async def events(request: Asked) -> Stream:
        """Follow all models."""
        fake.check(request)
        if fake.down:
            raise Refused(503, "not-ready", "Operator is not ready", "It has only just started.")
        fake.last_ids.append(request.headers.get("last-event-id"))
        return Stream(fake.events(), media_type="text/event-stream")

    @get("/api/v1/models")
    async def index(request: Asked) -> dict[str, list[Item]]:
        """List all models."""
        fake.check(request)
        return {"items": list(fake.models.values())}

    @post("/api/v1/models")
    async def add(request: Asked) -> Item:
        """Have one more model."""
        fake.change(request)
        body = mended(await request.json())
        assert isinstance(body, dict)
        made = item(f"{body['name']}:{body['tag']}", "Pending", reason="Queued")
        made["namespace"] = body.get("namespace", made["namespace"])
        fake.put(made)
        return made

    @delete("/api/v1/models/{name:str}")
    async def remove(request: Asked, name: FromPath[str], namespace: FromQuery[str]) -> None:
        """Have one less."""
        fake.change(request)
        fake.put(fake.models[namespace, name] | {"deleting": True})

    @post("/api/v1/models/{name:str}/{verb:str}", status_code=202)
    async def act(
        request: Asked, name: FromPath[str], namespace: FromQuery[str], verb: FromPath[str]
    ) -> None:
        """Do something to a model."""
        fake.change(request)
        if verb == "resume":
            fake.put(fake.models[namespace, name] | {"suspend": False})

    static = served(document("1", tokens=False), "https://jaeger.example/trace/{trace_id}?a&b")
    return Litestar(
        [events, index, add, remove, act, get_file],
        dependencies={"static": Provide(lambda: static, sync_to_thread=False)},
        exception_handlers={Refused: _problem, Problem: _absent, NotFoundException: _absent},
        openapi_config=None,
    )


def _problem(_: Asked, error: Refused) -> Response[bytes]:
    body = json.dumps(error.body).encode()
    status = error.body["status"]
    return Response(body, status_code=status, media_type="application/problem+json")  # type: ignore[arg-type]


def _absent(request: Asked, _: Exception) -> Response[bytes]:
    return _problem(request, Refused(404, "no-such-path", "Nothing is here", "Nothing is here."))


@contextmanager
def serving(fake: FakeApi) -> Iterator[str]:
    """Serve it while the block runs; yields its address."""
    with start_blocking_portal() as portal, socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with _started(portal, fake, sock):
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
            fake.hang_up()


@contextmanager
def _started(portal: BlockingPortal, fake: FakeApi, sock: socket.socket) -> Iterator[None]:
    future, _ = portal.start_task(serve, app(fake), sock)
    try:
        yield
    finally:
        fake.hang_up()
        future.cancel()
