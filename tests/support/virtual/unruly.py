"""A Kubernetes API that misbehaves on cue: the sandbox, behind a wire that a test can break.

A cue is what one list or one watch gets instead of the sandbox's answer; cues are used up one
request each, and without one the sandbox answers.
"""

import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import anyio
import httpx
import msgspec

from crd.v1alpha1 import PLURAL
from ollama_op.base.asgi import Message, Receive, Send
from ollama_op.kube.client import KubeClient
from ollama_op.kube.credentials import Credentials, Identity
from ollama_op.kube.login import Login
from ollama_op.sandbox.kube.server import KubeSandbox

App = Callable[[Message, Receive, Send], Awaitable[None]]
Cue = App


class LoggedIn:
    """A login that never ends."""

    server, proxy = "http://kube", None
    _credentials = Credentials((), Identity(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    async def credentials(self) -> Credentials:
        return self._credentials

    def refused(self, used: Credentials) -> bool:  # noqa: ARG002 - there are no others
        return False

    def accepted(self, used: Credentials) -> None:
        pass

    def problem(self) -> str:
        return ""


class Wire(KubeClient):
    """Our client of Kubernetes, its connections going through a transport."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        use: str = "test",
        login: LoggedIn | Login | None = None,
    ) -> None:
        super().__init__(login or LoggedIn(), use, transport=transport)


@dataclass(frozen=True)
class Asked:
    """One list or watch that came in, and when (in seconds of virtual time)."""

    at: float
    kind: str
    path: str
    query: dict[str, str]

    @property
    def version(self) -> str:
        """The resourceVersion that it asked for."""
        return self.query.get("resourceVersion", "")


@dataclass
class UnrulyApi:
    """The sandbox's API as an ASGI application, with cues for lists and watches of models."""

    kube: KubeSandbox
    lists: deque[Cue] = field(default_factory=deque)
    watches: deque[Cue] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    _break: anyio.Event = field(default_factory=anyio.Event)
    _silent: bool = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] != "GET" or not scope["path"].endswith(PLURAL):
            await self.kube(scope, receive, send)
            return
        query = dict(parse_qsl(scope["query_string"].decode()))
        kind = "watch" if "watch" in query else "list"
        self.asked.append(Asked(anyio.current_time(), kind, scope["path"], query))
        cues = self.watches if kind == "watch" else self.lists
        answer = cues.popleft() if cues else self.kube
        if kind == "watch":
            await self._on_wire(answer, scope, receive, send)
        else:
            await answer(scope, receive, send)

    def count(self, kind: str) -> int:
        """Count the lists or the watches so far."""
        return sum(asked.kind == kind for asked in self.asked)

    def watches_at(self) -> list[float]:
        """Return when each watch was asked for."""
        return [asked.at for asked in self.asked if asked.kind == "watch"]

    # --- what can happen to watches under way

    def reset(self) -> None:
        """Cut every watch under way with a connection reset."""
        self._break.set()
        self._break = anyio.Event()

    def fall_silent(self) -> None:
        """Let every watch under way live on, but never say a word again."""
        self._silent = True
        self.reset()

    async def _on_wire(self, answer: App, scope: Message, receive: Receive, send: Send) -> None:
        broken, error = self._break, None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_at, broken, tasks.cancel_scope)
            try:
                await answer(scope, receive, send)
            except ConnectionError as caught:  # by itself, not in a group of exceptions
                error = caught
            tasks.cancel_scope.cancel()
        if error is not None:
            raise error
        if broken.is_set() and self._silent:
            self._silent = False
            await anyio.sleep_forever()
        if broken.is_set():
            raise ConnectionResetError("reset by the test")


async def _cancel_at(moment: anyio.Event, scope: anyio.CancelScope) -> None:
    await moment.wait()
    scope.cancel()


# --- cues


def refuse(code: int, message: str = "no", **headers: str) -> Cue:
    """Answer with an HTTP error, as the API server words it."""
    body = {"kind": "Status", "status": "Failure", "message": message, "code": code}
    return answer(code, msgspec.json.encode(body), **headers)


def answer(code: int, body: bytes, **headers: str) -> Cue:
    """Answer with exactly this."""
    fields = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]

    async def play(_scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": code, "headers": fields})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return play


def stream(*chunks: bytes, then: Callable[[], Awaitable[None]] | None = None) -> Cue:
    """Answer a watch with these bytes; `then` says how it ends, by default with a clean EOF."""

    async def play(_scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if then is not None:
            await then()

    return play


async def reset() -> None:
    """End a stream with a connection reset."""
    raise ConnectionResetError("reset by the test")


def event(kind: str, obj: object) -> bytes:
    """Write one line of a watch."""
    return msgspec.json.encode({"type": kind, "object": obj}) + b"\n"


def error_event(code: int) -> bytes:
    """Write the line with which the API server ends a watch that has gone wrong."""
    return event("ERROR", {"kind": "Status", "message": "told to", "code": code, "metadata": {}})
