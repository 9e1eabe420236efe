"""The API, put together: `create_api` makes the ASGI application from what it needs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, cast

import anyio
import structlog
from litestar import Litestar, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler, route

from api import reads, writes
from api.access import Failures, Keys
from api.cors import Cors
from api.feed import Feed
from api.files import get_file, served
from api.front import Authenticator, Front, ObserveRequest
from api.openapi import document
from api.ports import Reader, Reviewer, Writer
from api.problems import Kind, Problem
from api.reads import RequestParams
from api.requests import MAX_BODY
from api.telling import as_problem
from api.tokens import Tokens
from api.view import View
from ollama_op.base.asgi import PREFIX, Answer, App
from ollama_op.base.errors import KubeError

log = structlog.get_logger(__name__)

HANDLERS: Final = (
    reads.list_models,
    reads.get_model,
    reads.watch_model,
    reads.watch_models,
    reads.get_plan,
    reads.health,
    reads.readiness,
    writes.create_model,
    writes.update_model,
    writes.delete_model,
    writes.refresh_model,
    writes.suspend_model,
    writes.resume_model,
)
_KINDS: Final = {
    400: Kind.BAD_REQUEST,
    404: Kind.PATH_NOT_FOUND,
    405: Kind.METHOD_NOT_ALLOWED,
    413: Kind.TOO_LARGE,
}


@dataclass(frozen=True, kw_only=True)
class ApiOptions:
    """How to serve. Without keys and without a reviewer, everybody may do everything."""

    keys: Keys = field(default_factory=Keys)
    reviewer: Reviewer | None = None
    locked: bool = False  # whether a key is asked for
    local: bool = False  # whether only this machine is meant to use it, and no key is asked for
    cors_origins: Collection[str] = ()
    namespace: str = "default"  # the one meant where a request names none
    only: str | None = None  # the one that the operator looks after; None for all
    trace_url: str = ""  # where the page links to for a trace, with `{trace_id}` in it


def ignore(_route: str, _method: str, _code: int, _duration_s: float) -> None:
    """Observe nothing."""


@dataclass(frozen=True)
class Api:
    """The application, and the end of it."""

    app: App
    feed: Feed

    def close(self) -> None:
        """Let the streams of events end, which would hold back an orderly shutdown."""
        self.feed.close()


def create_api(
    reader: Reader, writer: Writer, options: ApiOptions, *, observe: ObserveRequest = ignore
) -> Api:
    """Make the API of what `reader` knows and `writer` can change."""
    view = View()
    feed = Feed(view)
    reader.follow(view)
    known = reads.Reads(view, feed, reader, options.namespace, options.only)
    tokens = Tokens(options.reviewer, anyio.current_time) if options.reviewer else None
    door = Authenticator(options.keys, Failures(anyio.current_time), tokens, locked=options.locked)
    front = Front(
        _routes(known, writer, tokens=tokens is not None, trace_url=options.trace_url),
        door,
        known.hot,
        observe=observe,
        cors=Cors(options.cors_origins) if options.cors_origins else None,
        local=options.local,
    )
    return Api(front, feed)


def _routes(known: reads.Reads, writer: Writer, *, tokens: bool, trace_url: str) -> Any:
    static = served(document(version("ollama-op"), tokens=tokens), trace_url)
    values = {"reads": known, "writer": writer, "static": static}
    return Litestar(
        [*_options(), *HANDLERS, get_file],
        dependencies={
            name: Provide(_give(value), sync_to_thread=False) for name, value in values.items()
        },
        exception_handlers={
            Problem: _tell,
            KubeError: _tell_write,
            HTTPException: _tell_http,
            Exception: _tell_bug,
        },
        openapi_config=None,  # `openapi.py` describes more than what handlers show of themselves
        logging_config=None,
        request_max_body_size=MAX_BODY,
    )


def _options() -> list[HTTPRouteHandler]:
    """Answer OPTIONS with all methods of a path; Litestar itself tells only the first of them."""
    methods: dict[str, list[str]] = {}
    for handler in HANDLERS:
        for path in handler.paths:
            methods.setdefault(path, []).extend(sorted(handler.http_methods))
    return [_allowing(path, ", ".join(allowed)) for path, allowed in methods.items()]


def _allowing(path: str, methods: str) -> HTTPRouteHandler:
    answer = Answer(204, headers=[(b"allow", methods.encode())])

    @route(path, http_method=["OPTIONS"])
    async def options() -> Answer:
        return answer

    return options


def _give(value: object) -> Callable[[], Any]:
    return lambda: value


class _Told(Response[None]):
    """A problem, in the form that Litestar wants it."""

    def __init__(self, problem: Problem, scope: Mapping[str, Any]) -> None:
        super().__init__(None)
        self._answer = problem.answer(scope["path"], scope.get(PREFIX, ""))

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Return the answer, which sends itself."""
        return self._answer


def _tell(request: RequestParams, problem: Problem) -> _Told:
    return _Told(problem, cast("Mapping[str, Any]", request.scope))


def _tell_write(request: RequestParams, error: KubeError) -> _Told:
    return _tell(request, as_problem(error))


def _tell_http(request: RequestParams, error: HTTPException) -> _Told:
    if error.status_code >= 500:  # noqa: PLR2004 - HTTP's own number
        return _tell_bug(request, error)
    kind = _KINDS.get(error.status_code, Kind.BAD_REQUEST)
    allow = (error.headers or {}).get("allow")
    return _tell(request, Problem(kind, kind.help, headers={"allow": allow} if allow else None))


def _tell_bug(request: RequestParams, error: Exception) -> _Told:
    log.error("request failed", exc_info=error, path=request.scope["path"])
    return _tell(request, Problem(Kind.INTERNAL, "Something went wrong here."))
