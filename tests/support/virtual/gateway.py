"""A gateway before Ollama that answers in its place on cue: a 503, a web page, a login, nothing.

`Gateway` stands in a `World`; `support.ollama.gateway_server` has the one for real servers. Both
are told the same way: `gateway.answer(UNAVAILABLE, "POST /api/show", for_s=10)`. A request that no
rule is about goes through.
"""

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from ollama_op.base.asgi import App, Message, Receive, Send
from ollama_op.sandbox.http import chunk, read_request

EVERY = "*"  # the route that stands for all of them


@dataclass(frozen=True)
class Answer:
    """What is said in Ollama's place, after `delay_s`; without a status, Ollama answers then."""

    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0


def slow(delay_s: float) -> Answer:
    """Let Ollama answer itself, so much later; `math.inf` is never."""
    return Answer(None, delay_s=delay_s)


def as_json(status: int, body: object) -> Answer:
    """Answer with JSON, as Ollama itself would."""
    return Answer(status, json.dumps(body).encode(), {"content-type": "application/json"})


_HTML: Final = {"content-type": "text/html"}
WEB_PAGE: Final = (
    b"<!doctype html><html><head><title>Welcome</title></head><body>Hello</body></html>"
)

# What comes from no Ollama, whatever was asked; by a name for the test's id.
FOREIGN: Final[Mapping[str, Answer]] = {
    "503": Answer(503, b"no healthy upstream", {"content-type": "text/plain"}),
    "503 JSON": as_json(503, {"message": "no healthy upstream", "status": 503}),
    "502 empty": Answer(502),
    "503 name": as_json(503, {"error": "Service Unavailable"}),
    "500 name": as_json(500, {"error": "Internal Server Error", "path": "/api/show"}),
    "404 name": as_json(404, {"error": "Not Found", "status": 404, "path": "/api/show"}),
    "504 HTML": Answer(504, b"<html><h1>504 Gateway Time-out</h1></html>", _HTML),
    "404 HTML": Answer(404, b"<html><h1>404 Not Found</h1></html>", _HTML),
    "404 text": Answer(404, b"404 page not found\n", {"content-type": "text/plain"}),
    "500 HTML": Answer(500, b"<html><h1>Internal Server Error</h1></html>", _HTML),
    "400 text": Answer(400, b"Bad Request: plain HTTP was sent to an HTTPS port"),
    "401": Answer(401, b"Unauthorized", {"www-authenticate": 'Basic realm="staff"'}),
    "403 HTML": Answer(403, b"<html><h1>403 Forbidden</h1></html>", _HTML),
    "407": Answer(407, b"", {"proxy-authenticate": "Basic"}),
    "302": Answer(302, b"", {"location": "https://login.example/"}),
    "308": Answer(308, b"", {"location": "https://ollama:11434/"}),
    "200 HTML": Answer(200, WEB_PAGE, _HTML),
    "200 empty": Answer(200),
    "200 other JSON": as_json(200, ["ok"]),
}


@dataclass
class _Rule:
    answer: Answer
    routes: tuple[str, ...]
    model: str | None
    until: float
    left: float

    def is_about(self, route: str, model: str | None) -> bool:
        return (
            (EVERY in self.routes or route in self.routes or route.split(" ")[1] in self.routes)
            and self.model in (None, model)
        )  # fmt: skip


class Script:
    """What a gateway says to whom, and for how long; and which requests came, by route.

    A route is `POST /api/show`, or `/api/show` for any method, or EVERY.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.calls: Counter[str] = Counter()  # everything that came
        self.answered: Counter[str] = Counter()  # what was answered, or held back, here
        self._clock, self._lock = clock, threading.Lock()
        self._rules: list[_Rule] = []

    def answer(
        self,
        answer: Answer,
        *routes: str,
        model: str | None = None,
        for_s: float = math.inf,
        times: float = math.inf,
    ) -> None:
        """Answer these routes so, from now on for so long, so many times; the newest rule counts.

        With `model`, only requests that name it, in the spelling of the request.
        """
        rule = _Rule(answer, routes, model, self._clock() + for_s, times)
        with self._lock:
            self._rules.insert(0, rule)

    def let_through(self) -> None:
        """Forget every rule."""
        with self._lock:
            self._rules.clear()

    def take(self, method: str, path: str, body: bytes) -> Answer | None:
        """Note a request; return what it gets, None if it goes through."""
        route = f"{method} {path}"
        with self._lock:
            self.calls[route] += 1
            for rule in self._rules:
                if rule.left > 0 and self._clock() < rule.until and rule.is_about(route, _of(body)):
                    rule.left -= 1
                    self.answered[route] += 1
                    return rule.answer
        return None


class Gateway(Script):
    """The gateway of a World, in virtual time."""

    def __init__(self) -> None:
        super().__init__(anyio.current_time)

    def before(self, app: App) -> App:
        """Return the application with the gateway before it."""

        async def guarded(scope: Message, receive: Receive, send: Send) -> None:
            request = await read_request(scope, receive)
            told = self.take(request.method, request.path, request.body)
            if told is not None:
                await anyio.sleep(told.delay_s)
            if told is None or told.status is None:
                await app(scope, _once_more(request.body, receive), send)
                return
            fields = [(k.encode(), v.encode()) for k, v in told.headers.items()]
            await send({"type": "http.response.start", "status": told.status, "headers": fields})
            await chunk(send, told.body, more=False)

        return guarded


def _once_more(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that begins with a body which was read already."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def _of(body: bytes) -> str | None:
    """Return the model that the body of a request names."""
    try:
        asked: Any = json.loads(body or b"null")
    except ValueError:
        return None
    return asked.get("model") if isinstance(asked, dict) else None
