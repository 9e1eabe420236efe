"""/metrics, for Prometheus. Imported only where that is wanted."""

from collections.abc import Callable
from typing import Final

import anyio
import structlog
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from api.ports import User
from api.tokens import Tokens
from ollama_op.base.asgi import Answer, Receive, Scope, Send
from ollama_op.base.errors import KubeError, KubeUnreachable
from ollama_op.metrics.recorder import Metrics
from ollama_op.reconcile.engine import Engine, VisitReviewer

log = structlog.get_logger(__name__)

METRICS_PATH: Final = "/metrics"


class Exporter:
    """An ASGI application: the metrics, for everybody or for those whom Kubernetes lets read them.

    `locked` says that a token is asked for.
    """

    def __init__(self, metrics: Metrics, *, locked: bool = False) -> None:
        self.metrics = metrics
        self._door = _Door(metrics.engine) if locked else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = await self._answer(scope)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope) -> Answer:
        if scope["type"] != "http" or scope["path"] != METRICS_PATH:
            return _told(404, f"only {METRICS_PATH} is here")
        if scope["method"] not in ("GET", "HEAD"):
            return _told(405, "metrics are read with GET", ("allow", "GET, HEAD"))
        if self._door is not None:
            header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if (refusal := await self._door.refusal(header)) is not None:
                return refusal
        write = self.metrics.scrape()
        # With thousands of models it takes a while, in which the operator goes on.
        text = await anyio.to_thread.run_sync(write)
        return Answer(200, text, headers=[(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode())])


class _Door:
    """Lets those in who may `get` the path."""

    def __init__(self, engine: Callable[[], Engine | None]) -> None:
        self._engine, self._tokens = engine, Tokens(self, anyio.current_time)

    async def refusal(self, header: str) -> Answer | None:
        """Return what there is to answer instead of metrics, if there is."""
        scheme, _, token = header.partition(" ")
        try:
            found = await self._tokens.find(token.strip()) if scheme.lower() == "bearer" else None
            if found is None:
                challenge = ("www-authenticate", 'Bearer realm="ollama-op"')
                return _told(401, "a bearer token that Kubernetes knows is needed", challenge)
            if not await found.may("get", None):
                return _told(403, f"Kubernetes does not let you get {METRICS_PATH}")
        except KubeError as error:
            log.warning("cannot ask kubernetes who wants metrics", problem=str(error))
            return _told(503, "Kubernetes cannot be asked who you are", ("retry-after", "5"))
        return None

    # --- what Tokens asks

    async def who(self, token: str) -> User | None:
        """Return whose token it is."""
        return await self._ask().who(token)

    async def may(self, user: User, _verb: str, _namespace: str | None) -> bool:
        """Return True if somebody may read the metrics."""
        return await self._ask().may_visit(user, METRICS_PATH)

    def _ask(self) -> VisitReviewer:
        if (engine := self._engine()) is None:
            raise KubeUnreachable("the operator has not reached the cluster yet")
        return engine.reviewer


def _told(status: int, text: str, *more: tuple[str, str]) -> Answer:
    headers = [("content-type", "text/plain; charset=utf-8"), *more]
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    return Answer(status, f"{text}\n".encode(), headers=encoded)
