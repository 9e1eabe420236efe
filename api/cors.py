"""Which other origins a browser may call this API from. By default none."""

from collections.abc import Collection
from typing import Final

from ollama_op.base.asgi import Answer, Header, Message, Send

ANY_ORIGIN: Final = "*"
_ALLOWED: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, if-match, if-none-match, last-event-id, x-api-key",
    ),
    (b"access-control-max-age", b"600"),
)
_EXPOSED: Final[Header] = (
    b"access-control-expose-headers",
    b"etag, location, retry-after, x-view-age",
)


class Cors:
    """Lets these origins in, or all of them. Never with cookies: there are none."""

    def __init__(self, origins: Collection[str]) -> None:
        self._all = ANY_ORIGIN in origins
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)

    def allows(self, origin: bytes) -> bool:
        """Return True if pages of this origin may call."""
        return self._all or origin in self._origins

    def preflight(self, method: str, headers: dict[bytes, bytes]) -> Answer | None:
        """Answer a browser that asks whether it may ask; None for any other request."""
        if method != "OPTIONS" or b"access-control-request-method" not in headers:
            return None
        allowed = self._headers(headers)
        return Answer(204, headers=(*allowed, *(_ALLOWED if len(allowed) > 1 else ())))

    def wrapped(self, headers: dict[bytes, bytes], send: Send) -> Send:
        """Return a `send` that tells the browser who may read the answer."""
        more = self._headers(headers)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *more, _EXPOSED]}
            await send(message)

        return sending

    def _headers(self, headers: dict[bytes, bytes]) -> list[Header]:
        origin = headers.get(b"origin", b"")
        if self._all:
            return [(b"access-control-allow-origin", b"*"), (b"vary", b"origin")]
        if origin and origin in self._origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        return [(b"vary", b"origin")]
