"""A typed client of Ollama's HTTP API: one method an endpoint, errors of our own tree.

Nothing here decides. What Ollama says in words is turned into a class of error in one place,
because a pull reports nearly every failure as text after HTTP 200.

Source: Ollama, docs/api.md.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any

import anyio
import httpx
import msgspec

from crd.names import ModelName
from ollama_op.base.errors import ModelAbsent, ModelBroken, OllamaUnreachable, Refused
from ollama_op.base.fence import Fence, no_fence
from ollama_op.ollama.answers import heard, is_unusable
from ollama_op.ollama.calls import COPY, SEND_LIMIT_S, OllamaCalls
from ollama_op.ollama.layers import layers
from ollama_op.ollama.listing import read_models, read_running
from ollama_op.ollama.pull_errors import load_failed
from ollama_op.ollama.steps import expect_stream, read_steps
from ollama_op.ollama.wire import Entry, Listing, Loaded, Step

# A large model from a slow disk takes its time.
LOAD_TIMEOUT = httpx.Timeout(900, connect=SEND_LIMIT_S)
COURTESY_LIMIT_S = 5.0
CALLS_AT_ONCE = 4  # besides pulls; httpx looks through its connections for every call
SAME_TIME = timedelta(seconds=3)  # a difference between clocks that makes no difference


class _Version(msgspec.Struct):
    version: str


class _Shown(msgspec.Struct):
    details: dict[str, Any]


class _Done(msgspec.Struct):
    """What a load or an unload says."""

    model: str


_version = msgspec.json.Decoder(_Version)
_shown = msgspec.json.Decoder(_Shown)
_done = msgspec.json.Decoder(_Done)
_object = msgspec.json.Decoder(dict[str, Any] | None)


class OllamaClient:
    """Calls to one Ollama server, through a client whose base URL is that server's.

    What changes something there is begun only if `fence` lets it, which may raise NotLeading. Once
    begun it has reached the server, or failed, after SEND_LIMIT_S. `now` is the clock by which the
    times of answers are told.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        fence: Fence = no_fence,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._calls, self._fence, self._now = OllamaCalls(http), fence, now
        self._slots = anyio.CapacityLimiter(CALLS_AT_ONCE)
        # Ollama looks through all manifests for each deletion. If another deletion takes one away
        # meanwhile it answers 500, or still has the model: seen with 0.6.5, 20 deletions at once.
        self._deletion = anyio.Lock()

    @property
    def where(self) -> str:
        """The server's address, without what is secret in it."""
        return self._calls.where

    async def tags(self) -> Listing[Entry]:
        """List the models that the server has.

        Raises: OllamaUnreachable, NotOllama, ProtocolError.
        """
        # Past the queue: this is how it is noticed that the server does not answer.
        return heard(await self._calls.send("GET", "/api/tags"), read_models)

    async def running(self) -> Listing[Loaded]:
        """List the models that are loaded into memory.

        A model that has two names is listed under the one by which it was loaded first. Times are
        those of our clock, however wrong that of the server goes. A courtesy: see there.

        Raises: OllamaUnreachable, NotOllama, ProtocolError.
        """
        answer = await self._courtesy("GET", "/api/ps")
        return heard(answer, partial(read_running, skew=_skew(answer, self._now())))

    async def version(self) -> str:
        """Return the version of Ollama. A courtesy: see there.

        Raises: OllamaUnreachable, NotOllama, ProtocolError.
        """
        return heard(await self._courtesy("GET", "/api/version"), _version.decode).version

    async def show(self, name: ModelName) -> None:
        """Check that the server can read a model that it has.

        Raises: ModelAbsent, ModelBroken, OllamaUnreachable, NotOllama, ProtocolError.
        """
        answer = await self._request("POST", "/api/show", {"model": str(name)})
        try:
            heard(answer, _shown.decode)
        except Refused as no:
            if _is_absent(no):
                raise ModelAbsent(f"Ollama has no {name}") from None
            if no.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                problem = f"Ollama cannot show {name}: {no.words}"
                raise ModelBroken(problem, whole=is_unusable(no.words)) from None
            raise

    async def load(self, name: ModelName, keep_alive_s: float) -> None:
        """Load a model, and keep it there so long after each use; infinite is for ever.

        Raises: ModelAbsent, ModelUnsupported, LoadFailed, OllamaUnreachable, NotOllama.
        """
        keep_alive = -1 if math.isinf(keep_alive_s) else math.ceil(keep_alive_s)
        body: dict[str, Any] = {"model": str(name), "keep_alive": keep_alive}
        try:
            try:
                await self._load("/api/generate", body | {"stream": False})
            except Refused as no:
                if no.status != HTTPStatus.BAD_REQUEST:
                    raise
                await self._load("/api/embed", body | {"input": ""})  # it embeds, and does not talk
        except Refused as no:
            if _is_absent(no):
                raise ModelAbsent(f"Ollama has no {name}") from None
            raise load_failed(no.words, name) from None

    async def _load(self, path: str, body: Mapping[str, Any]) -> None:
        self._fence(SEND_LIMIT_S)
        # Past the queue, in which nobody else is to wait for a large model.
        heard(await self._calls.send("POST", path, body, limits=LOAD_TIMEOUT), _done.decode)

    async def unload(self, name: ModelName) -> None:
        """Drop a model from memory; one that is not loaded is no error. A courtesy: see there.

        Raises: OllamaUnreachable, NotOllama, ProtocolError.
        """
        body = {"model": str(name), "keep_alive": 0, "stream": False}
        self._fence(SEND_LIMIT_S)
        _there_or_not(await self._courtesy("POST", "/api/generate", body), _done.decode)

    async def delete(self, name: ModelName, unless: Callable[[], bool] = lambda: False) -> bool:
        """Delete a model, if `unless` is false when its turn has come; return True if it was.

        One that is not there is no error. Models are deleted one after the other.

        Raises: OllamaUnreachable, NotOllama, ProtocolError.
        """
        async with self._deletion, self._slots:
            if unless():
                return False
            self._fence(SEND_LIMIT_S)
            answer = await self._calls.send("DELETE", "/api/delete", {"model": str(name)})
        _there_or_not(answer, _nothing)
        return True

    async def copy(self, name: ModelName, to: ModelName) -> None:
        """Give a model one more name, which moves no bytes; what had that name is replaced.

        Raises: ModelAbsent, OllamaUnreachable, NotOllama, ProtocolError.
        """
        body = {"source": str(name), "destination": str(to)}
        async with self._slots:
            self._fence(SEND_LIMIT_S)
            answer = await self._calls.send("POST", COPY, body)
        try:
            heard(answer, _nothing)
        except Refused as no:
            if no.status == HTTPStatus.NOT_FOUND:
                raise ModelAbsent(f"Ollama has no {name}") from None
            raise

    @asynccontextmanager
    async def pull(
        self, name: ModelName, *, insecure: bool = False
    ) -> AsyncGenerator[AsyncIterator[Step]]:
        """Pull a model; the steps end when Ollama has said success.

        `insecure` is for a registry without TLS: with it, Ollama uses plain HTTP and nothing else.

        Leaving the context closes the connection, which ends the download on the server; the
        part that is there already is kept for the next pull. No timeout: whoever reads the steps
        knows best what is too slow.

        Raises: OllamaUnreachable, NotOllama, ProtocolError, or the error that fits the words.
        """
        body = {"model": str(name)} | ({"insecure": True} if insecure else {})
        self._fence(SEND_LIMIT_S)
        async with self._calls.stream("POST", "/api/pull", body) as (answer, span):
            await expect_stream(answer, name)
            with layers(span) as took:
                async with aclosing(read_steps(answer, name, took)) as steps:
                    yield steps

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        async with self._slots:
            return await self._calls.send(method, path, body)

    async def _courtesy(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """Send what nothing depends on: past the queue, and with a short limit for the whole.

        Raises: OllamaUnreachable, ProtocolError.
        """
        try:
            with anyio.fail_after(COURTESY_LIMIT_S):
                return await self._calls.send(method, path, body)
        except TimeoutError:
            problem = f"does not answer {method} {path} within {COURTESY_LIMIT_S:g} s"
            raise OllamaUnreachable(f"{self.where} {problem}") from None


def _is_absent(no: Refused) -> bool:
    """Return True if Ollama says that it does not have the model: `model 'x' not found`.

    A look-alike that has no such endpoint says "not found" too, and of no model.
    """
    return no.status == HTTPStatus.NOT_FOUND and "model" in no.words.lower()


def _there_or_not(answer: httpx.Response, form: Callable[[bytes], object]) -> None:
    """Read an answer about a model that need not be there.

    Raises: Refused, NotOllama.
    """
    try:
        heard(answer, form)
    except Refused as no:
        if no.status != HTTPStatus.NOT_FOUND:
            raise


def _nothing(raw: bytes) -> None:
    """Read the body of a deletion's answer: Ollama sends none."""
    if raw.strip():
        _object.decode(raw)


def _skew(answer: httpx.Response, now: datetime) -> timedelta:
    """Return how far our clock is ahead of the server's; HTTP's date has whole seconds."""
    try:
        skew = now - parsedate_to_datetime(answer.headers.get("date", ""))
    except (TypeError, ValueError):  # no date, or none with a time zone
        return timedelta()
    return skew if abs(skew) > SAME_TIME else timedelta()
