"""What can be read: lists, single models, streams of events, the plan. Nothing waits for I/O."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.handlers import get
from litestar.params import FromPath, SkipValidation

from api.access import Caller
from api.bodies import Status
from api.feed import Feed, Stream
from api.plan import plan
from api.ports import Reader
from api.problems import Kind, Problem
from api.requests import EventsQuery, ListQuery, OneQuery, legal_namespace, read_query
from api.telling import no_model
from api.view import Filter, View, ViewEntry, ViewKey, joined, key_from, matches, token_for
from ollama_op.base.asgi import JSON, NO_STORE, REVALIDATE, Answer, Header

MODELS: Final = "/api/v1/models"
MODEL_ROUTE: Final = "/api/v1/models/{name:str}"
ROUTE: Final = "/api/v1/models/{name}"  # as it is counted
HEALTH: Final = "/health"
OK: Final = Answer(200, msgspec.json.encode(Status("ok")), (JSON, NO_STORE))
SOON: Final = {"retry-after": "2"}

RequestParams = Request[Caller, Any, Any]


@dataclass(frozen=True)
class Reads:
    """What is known, and how it is told. `namespace` is the one meant where none is named."""

    view: View
    feed: Feed
    reader: Reader
    namespace: str
    only: str | None = None  # the one that the operator looks after, if it is not all of them

    def all(self, if_none_match: bytes = b"") -> Answer:
        """Answer with all models.

        Raises: Problem 503 before the first list.
        """
        self.require_list()
        answer = self.view.all()
        if if_none_match and matches(if_none_match, self.view.etag):
            answer = Answer(304, headers=((b"etag", self.view.etag), REVALIDATE))
        return self.dated(answer)

    def one(self, key: ViewKey, if_none_match: bytes = b"") -> Answer:
        """Answer with one model.

        Raises: Problem 404; 503 before the first list.
        """
        self.require_list()
        entry = self.view.get(key)
        if entry is None:
            raise no_model(key[1], key[0])
        return self.dated(entry.answer(if_none_match))

    def hot(self, path: str, if_none_match: bytes) -> tuple[str, Answer] | None:
        """Answer the two requests that come most often, where all is well; None for all others."""
        if not self.reader.is_listed():
            return None
        if path == MODELS:
            return MODELS, self.all(if_none_match)
        head, _, name = path.rpartition("/")
        key = (self.namespace, name)
        if head != MODELS or self.view.get(key) is None:
            return None
        return ROUTE, self.one(key, if_none_match)

    def require_own(self, namespace: str) -> None:
        """Check that the operator watches this namespace: nobody acts on what is elsewhere.

        Raises: Problem 404.
        """
        if self.only not in (None, namespace):
            detail = f"This operator looks after namespace {self.only!r} only."
            raise Problem(Kind.NAMESPACE_NOT_FOUND, detail)

    def require_list(self) -> None:
        """Check that all models are known.

        Raises: Problem 503.
        """
        if not self.reader.is_listed():
            raise Problem(Kind.NOT_READY, "Not all models are known yet.", headers=SOON)

    def dated(self, answer: Answer) -> Answer:
        """Return the header that says how old the view is, if it is old."""
        age_s = self.reader.age_s()
        return answer if age_s < 1 else answer.having((b"x-view-age", b"%d" % age_s))


Known = NamedDependency[SkipValidation[Reads]]


async def permit(request: RequestParams, verb: str, namespace: str | None) -> None:
    """Check that the caller may do this there.

    Raises: Problem 403.
    """
    if not await request.user.may(verb, namespace):
        where = "in all namespaces" if namespace is None else f"in namespace {namespace!r}"
        hint = "; name one with ?namespace=" if namespace is None else ""
        raise Problem(Kind.FORBIDDEN, f"You may not {verb} models {where}{hint}.")


async def _visible(
    request: RequestParams, verb: str, namespace: str | None
) -> Collection[str] | None:
    """Return the namespaces that a list shows, None for all.

    Raises: Problem 403.
    """
    if namespace is not None:
        await permit(request, verb, namespace)
        return (namespace,)
    visible = await request.user.visible()
    if visible is None:
        await permit(request, verb, None)
    return visible


def _named(query: OneQuery) -> str | None:
    return legal_namespace(query.namespace, "") or None


@get(MODELS)
async def list_models(request: RequestParams, reads: Known) -> Answer:
    """List models, in the order of their namespaces and names."""
    query = read_query(request, ListQuery)
    namespaces = await _visible(request, "list", _named(query))
    if_none_match = request.headers.get("if-none-match", "").encode("latin-1")
    limit = query.limit or None
    wanted = Filter(namespaces, query.state or None, query.q.lower())
    if wanted == Filter() and limit is None and not query.continue_:
        return reads.all(if_none_match)
    reads.require_list()
    after = key_from(query.continue_, wanted) if query.continue_ else None
    found = reads.view.page(wanted, limit=None if limit is None else limit + 1, after=after)
    shown = found[:limit]
    token = token_for(shown[-1], wanted) if len(found) > len(shown) else None
    etag = f'"{reads.view.epoch}-{reads.view.version}-{wanted.mark()}"'.encode()
    headers: tuple[Header, ...] = ((b"etag", etag), REVALIDATE)
    if if_none_match and matches(if_none_match, etag):
        return reads.dated(Answer(304, headers=headers))
    return reads.dated(Answer(200, joined(shown, token), (JSON, *headers)))


@get(MODEL_ROUTE)
async def get_model(request: RequestParams, reads: Known, name: FromPath[str]) -> Answer:
    """Read one model."""
    namespace = legal_namespace(read_query(request, OneQuery).namespace, reads.namespace)
    await permit(request, "get", namespace)
    try:
        return reads.one((namespace, name), request.headers.get("if-none-match", "").encode())
    except Problem as problem:
        raise await _helped(problem, request, reads, name) from None


async def _helped(problem: Problem, request: RequestParams, reads: Known, name: str) -> Problem:
    """Return where else there is a model of this name, if the caller may know."""
    if problem.kind is not Kind.MODEL_NOT_FOUND:
        return problem
    others = [entry.key[0] for entry in reads.view.named(name)[:10]]
    seen = [each for each in others if await request.user.may("get", each)]
    if not seen:
        return problem
    hint = " or ".join(f"?namespace={each}" for each in seen)
    return Problem(problem.kind, f"{problem.detail} There is one with {hint}.")


@get(f"{MODEL_ROUTE}/events")
async def watch_model(request: RequestParams, reads: Known, name: FromPath[str]) -> Stream:
    """Follow one model, by server-sent events."""
    namespace = legal_namespace(read_query(request, EventsQuery).namespace, reads.namespace)
    await permit(request, "watch", namespace)
    reads.require_list()
    key = (namespace, name)
    last_id = request.headers.get("last-event-id", "")

    def is_meant(other: ViewKey) -> bool:
        return other == key

    def snapshot() -> bytes:
        entry = reads.view.get(key)
        return reads.feed.frame("model", entry.body) if entry else b""

    if reads.view.get(key) is None and not reads.feed.missed(last_id, is_meant):
        raise no_model(name, namespace)
    return Stream(reads.feed, is_meant, snapshot, last_id, one=True)


@get("/api/v1/events")
async def watch_models(request: RequestParams, reads: Known) -> Stream:
    """Follow all models, by server-sent events."""
    query = read_query(request, EventsQuery)
    namespaces = await _visible(request, "watch", _named(query))
    reads.require_list()

    def is_meant(key: ViewKey) -> bool:
        return namespaces is None or key[0] in namespaces

    def snapshot() -> bytes:
        whole = namespaces is None
        entries: list[ViewEntry] = [] if whole else reads.view.entries(Filter(namespaces))
        return reads.feed.frame("snapshot", reads.view.all().body if whole else joined(entries))

    return Stream(reads.feed, is_meant, snapshot, request.headers.get("last-event-id", ""))


@get("/api/v1/plan")
async def get_plan(request: RequestParams, reads: Known) -> Answer:
    """Answer what will be pulled and deleted, and what is there without an OllamaModel."""
    namespaces = await _visible(request, "list", _named(read_query(request, OneQuery)))
    reads.require_list()
    there = reads.reader.on_servers()
    if there is None:
        detail = "The Ollama server does not answer, so there is nothing to compare with."
        raise Problem(Kind.OLLAMA_UNAVAILABLE, detail, headers={"retry-after": "10"})
    body = msgspec.json.encode(plan(reads.view.models(), there, namespaces))
    return reads.dated(Answer(200, body, (JSON, NO_STORE)))


@get(HEALTH)
async def health() -> Answer:
    """Answer that the process is up."""
    return OK


@get("/readiness")
async def readiness(reads: Known) -> Answer:
    """Return True if all models are known."""
    reads.require_list()
    return OK
