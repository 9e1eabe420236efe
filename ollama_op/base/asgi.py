"""An answer that is ready to be sent, as an ASGI application."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from copy import copy
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

PREFIX: Final = "prefix"  # in a scope: the path below which a proxy, that is trusted, has the API

JSON: Final[Header] = (b"content-type", b"application/json")
JSON_PROBLEM: Final[Header] = (b"content-type", b"application/problem+json")
NO_STORE: Final[Header] = (b"cache-control", b"no-store")
# A browser asks each time whether what it has is still good; nobody between keeps anything.
REVALIDATE: Final[Header] = (b"cache-control", b"private, no-cache")
NO_SNIFFING: Final[Header] = (b"x-content-type-options", b"nosniff")
_WITHOUT_BODY: Final = frozenset({204, 304})


class Answer:
    """Status, headers and body of one answer. May be sent many times."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: Sequence[Header] = ()) -> None:
        self.status, self.body, self.headers = status, body, [*headers, NO_SNIFFING]
        if status not in _WITHOUT_BODY:
            self.headers.append((b"content-length", b"%d" % len(body)))

    def having(self, header: Header) -> "Answer":
        """Return the same answer with one more header."""
        answer = copy(self)
        answer.headers = [*self.headers, header]
        return answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI has them
        """Send it."""
        # A list of its own: a server, or what stands before it, may change what it is given.
        start = {"type": "http.response.start", "status": self.status, "headers": [*self.headers]}
        await send(start)
        await send({"type": "http.response.body", "body": self.body})
