"""Serves the REST API beside the operator. Imported only where that is wanted."""

import math
import socket
from hashlib import sha256
from typing import Final

import anyio
import structlog

from api.access import Key, Keys
from api.app import ApiOptions, create_api, ignore
from api.front import ObserveRequest
from api.keyfile import InvalidKeyFileError, follow, load
from api.lobby import lobby
from ollama_op.base import tracing
from ollama_op.base.asgi import App, Receive, Scope, Send
from ollama_op.base.parsing import ConfigError
from ollama_op.base.serve import serve
from ollama_op.base.settings import RestSettings, Settings
from ollama_op.rest.gateway import Gateway

log = structlog.get_logger(__name__)

READS_AT_ONCE: Final = ("GET", "HEAD")
READS_PER_S: Final = 10  # that are recorded, besides those of clients' traces
OWN_NAMESPACE = "default"  # as kubectl has it, and the Go operator


def load_keys(settings: RestSettings) -> Keys:
    """Return the keys that are valid at the start.

    Raises: ConfigError.
    """
    digest = sha256((settings.key or "").encode()).digest()
    keys = Keys([Key("api-server-key", digest)] if settings.key else [])
    if settings.key_file is not None:
        try:
            keys.loaded = load(settings.key_file)
        except InvalidKeyFileError as error:
            raise ConfigError(
                f"the key file {settings.key_file} cannot be used: {error}",
                "write `keys:` and under it `- {name: ci, sha256: …}`; see docs/rest.md",
            ) from error
    return keys


class RestServer:
    """The REST API at its address. Until somebody opens it, it says that it is not ready."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        sock: socket.socket,
        *,
        observe: ObserveRequest = ignore,
    ) -> None:
        self._settings, self._keys, self._sock = settings, keys, sock
        self._observe = observe
        self._app: App = lobby

    async def listen(self) -> None:
        """Answer until cancelled."""
        wanted = self._settings.rest
        if not wanted.locked:
            log.warning("rest api asks for no key", address=str(wanted.address))
        log.info("serving rest api", address=str(wanted.address), docs="/docs")
        await serve(self, self._sock, trusted_proxies=wanted.trusted_proxies)

    async def open(self, gateway: Gateway) -> None:
        """Answer with what `gateway` knows, and can, until cancelled."""
        wanted = self._settings.rest
        options = ApiOptions(
            keys=self._keys,
            reviewer=gateway.reviewer if wanted.kubernetes_auth else None,
            locked=wanted.locked,
            local=not wanted.locked and not wanted.insecure,
            cors_origins=wanted.cors_origins,
            namespace=self._settings.namespace or OWN_NAMESPACE,
            only=self._settings.namespace,
            trace_url=wanted.trace_url_template,
        )
        observe = _telling_spans(self._observe) if tracing.is_on() else self._observe
        api = create_api(gateway, gateway, options, observe=observe)
        self._app = traced(api.app) if tracing.is_on() else api.app
        try:
            if wanted.key_file is not None:
                # A key that is gone must not go on watching.
                await follow(wanted.key_file, self._keys, api.feed.hang_up)
            await anyio.sleep_forever()
        finally:
            api.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)


def _telling_spans(observe: ObserveRequest) -> ObserveRequest:
    def tell(route: str, method: str, code: int, duration_s: float) -> None:
        tell_span(route, method, code, duration_s)
        observe(route, method, code, duration_s)

    return tell


def tell_span(route: str, method: str, code: int, _duration_s: float) -> None:
    """Record in the span of a request which route it took, and what was answered."""
    span = tracing.current()
    span.rename(f"{method} {route}")
    span.set({"http.route": route, "http.response.status_code": code})
    if code >= 500:  # noqa: PLR2004 - what a client does wrong is no failure of ours
        span.fail(str(code), f"HTTP {code}")


class _Few:
    """Lets so many through in each second."""

    def __init__(self, per_s: int) -> None:
        self._per_s, self._since, self._taken = per_s, -math.inf, 0

    def take(self) -> bool:
        now = anyio.current_time()
        if now - self._since >= 1:
            self._since, self._taken = now, 0
        self._taken += 1
        return self._taken <= self._per_s


def traced(app: App) -> App:
    """Record each request, as a part of the client's trace if it sends one.

    Of the reads of which no client keeps a trace there are only some: a span takes longer than the
    read, and thousands of them in a second would show nothing more.
    """
    reads = _Few(READS_PER_S)

    async def serve_traced(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        parent = tracing.sent(scope["headers"])
        if parent is None and scope["method"] in READS_AT_ONCE and not reads.take():
            await app(scope, receive, send)
            return
        about = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with tracing.span(
            scope["method"], about, kind="server", parent=parent, root=parent is None
        ):
            await app(scope, receive, send)

    return serve_traced
