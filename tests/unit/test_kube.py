import contextlib
import math
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio
import httpx
import pytest
from msgspec.structs import replace

from crd.model import OLLAMA_MODELS, OllamaModel, decode
from crd.v1alpha1 import FINALIZER, REFRESH, OllamaModelStatus, State
from ollama_op.base.asgi import App, Message, Receive, Send
from ollama_op.base.errors import (
    Conflict,
    Expired,
    KubeError,
    KubeUnreachable,
    NotFound,
    NotPermitted,
    Rejected,
    Unauthenticated,
)
from ollama_op.kube.writes import WRITES_AT_ONCE, StatusWriter
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.server import ApiFault, KubeSandbox
from ollama_op.sandbox.transport import AppTransport
from support.virtual.models import manifest
from support.virtual.unruly import Wire

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = "/apis/ollama.smithforge.dev/v1alpha1/namespaces/default/ollamamodels"
READY = OllamaModelStatus(state=State.READY, observed_generation=1)


@dataclass
class Bench:
    """The writer, the API server that it writes to, and a user."""

    server: KubeSandbox
    front: App  # what requests meet first; by default the server
    kube: StatusWriter = field(init=False)
    user: httpx.AsyncClient = field(init=False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.front(scope, receive, send)

    async def create(self, name: str = "llama") -> OllamaModel:
        """Create an object."""
        body = manifest(name)
        del body["metadata"]["uid"], body["metadata"]["resourceVersion"]
        return decode((await self.user.post(MODELS, json=body)).raise_for_status().content)

    async def get(self, name: str = "llama") -> OllamaModel:
        """Read an object."""
        return decode((await self.user.get(f"{MODELS}/{name}")).raise_for_status().content)

    def on(self, method: str, fault: ApiFault) -> None:
        """Let requests of this method meet a fault."""

        def intercept(request: SandboxRequest) -> ApiFault | None:
            return fault if request.method == method else None

        self.server.intercept = intercept


@asynccontextmanager
async def bench() -> AsyncGenerator[Bench]:
    server = KubeSandbox(now=lambda: EPOCH + timedelta(seconds=anyio.current_time()))
    b = Bench(server, server)
    async with AppTransport(b) as transport:
        b.kube = StatusWriter(Wire(transport, "writes"), OLLAMA_MODELS)
        b.user = httpx.AsyncClient(transport=transport, base_url="http://kube")
        yield b


async def test_a_status_replaces_the_one_before():
    """Fields that the new status does not have are gone; the answer is the object as it is."""
    async with bench() as b:
        model = await b.create()
        error = replace(READY, error="bad", state=State.FAILED)
        first = await b.kube.patch_status(model, error)
        second = await b.kube.patch_status(first, READY)
        assert (first.status, second.status) == (error, READY)
        assert await b.get() == second


async def test_a_status_does_not_wait_for_the_newest_version():
    """Nobody else writes it, so an annotation set meanwhile is no conflict."""
    async with bench() as b:
        model = await b.create()
        await b.kube.annotate(model, REFRESH, "now")
        written = await b.kube.patch_status(model, READY)
        assert (written.status, written.metadata.annotations.refresh) == (READY, "now")


async def test_a_status_is_not_given_to_another_object_of_the_name():
    """The object was deleted and created anew."""
    async with bench() as b:
        old = await b.create()
        await b.user.delete(f"{MODELS}/llama")
        await b.create()
        with pytest.raises(Conflict):
            await b.kube.patch_status(old, READY)
        assert (await b.get()).status == OllamaModelStatus()


async def test_finalizers_are_replaced_as_a_whole():
    """Ours is put beside somebody else's, and taken away again."""
    async with bench() as b:
        model = await b.create()
        theirs = await b.kube.set_finalizers(model, ("example.com/theirs",))
        both = await b.kube.set_finalizers(theirs, ("example.com/theirs", FINALIZER))
        assert (await b.get()).metadata.finalizers == ("example.com/theirs", FINALIZER)
        await b.kube.set_finalizers(both, ("example.com/theirs",))
        assert (await b.get()).metadata.finalizers == ("example.com/theirs",)


@pytest.mark.parametrize(
    "write",
    [
        lambda kube, model: kube.set_finalizers(model, (FINALIZER,)),
        lambda kube, model: kube.annotate(model, REFRESH, "done"),
    ],
    ids=["finalizers", "annotation"],
)
async def test_what_depends_on_the_object_conflicts_with_a_change_of_it(write):
    """A finalizer that somebody has just added is not overwritten."""
    async with bench() as b:
        model = await b.create()
        await b.kube.set_finalizers(model, ("example.com/theirs",))
        with pytest.raises(Conflict):
            await write(b.kube, model)
        assert (await b.get()).metadata.finalizers == ("example.com/theirs",)


async def test_finalizers_are_not_given_to_another_object_of_the_name():
    """The object was deleted and created anew."""
    async with bench() as b:
        old = await b.create()
        await b.user.delete(f"{MODELS}/llama")
        await b.create()
        with pytest.raises(Conflict):
            await b.kube.set_finalizers(old, (FINALIZER,))
        assert (await b.get()).metadata.finalizers == ()


async def test_a_write_to_what_has_gone_is_not_found():
    """Its lifecycle ends then."""
    async with bench() as b:
        model = await b.create()
        await b.user.delete(f"{MODELS}/llama")
        with pytest.raises(NotFound):
            await b.kube.patch_status(model, READY)
        with pytest.raises(NotFound):
            await b.kube.set_finalizers(model, (FINALIZER,))


async def test_few_writes_at_once():
    """More cost CPU and bring nothing; none is lost."""
    under_way, most = 0, 0

    async def counting(scope, receive, send):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await anyio.sleep(1)
        await b.server(scope, receive, send)
        under_way -= 1

    async with bench() as b:
        models = [await b.create(f"m{number}") for number in range(20)]
        b.front, began = counting, anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for model in models:
                tasks.start_soon(b.kube.patch_status, model, READY)
        b.front = b.server
        assert most == WRITES_AT_ONCE
        assert anyio.current_time() - began == pytest.approx(math.ceil(20 / WRITES_AT_ONCE))
        assert [(await b.get(f"m{number}")).status for number in range(20)] == [READY] * 20


async def test_a_write_once_begun_is_not_cancelled():
    """Or nobody would know whether it was done."""

    async def slow(scope, receive, send):
        await anyio.sleep(2)
        await b.server(scope, receive, send)

    async with bench() as b:
        model = await b.create()
        b.front = slow
        with anyio.move_on_after(1):
            await b.kube.patch_status(model, READY)
        b.front = b.server
        assert anyio.current_time() == pytest.approx(2)
        assert (await b.get()).status == READY


async def test_a_write_that_waits_for_its_turn_can_be_cancelled():
    """Not begun, it is no loss; shutting down does not work through a queue."""
    async with bench() as b:
        model = await b.create()
        b.on("PATCH", ApiFault(delay_s=3))

        async def write() -> None:
            with contextlib.suppress(KubeUnreachable):
                await b.kube.patch_status(model, READY)

        async with anyio.create_task_group() as tasks:
            for _ in range(WRITES_AT_ONCE * 5):
                tasks.start_soon(write)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        assert anyio.current_time() == pytest.approx(3)
        assert [method for method, _ in b.server.requests].count("PATCH") == WRITES_AT_ONCE


async def test_a_write_ends_soon_by_itself():
    """As it cannot be cancelled, a dead connection must not hold it for long."""
    async with bench() as b:
        model = await b.create()
        b.on("PATCH", ApiFault(delay_s=math.inf))
        with pytest.raises(KubeUnreachable, match="does not answer"):
            await b.kube.patch_status(model, READY)
        assert anyio.current_time() == pytest.approx(4)


# --- whatever the other side says becomes one of our errors


async def ask(status: int, body: bytes = b"", **headers: str | bytes) -> KubeError:
    """Make one call that is answered like this; return the error."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def respond(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers=fields)

    with pytest.raises(KubeError) as caught:
        await Wire(httpx.MockTransport(respond)).request("GET", url="x", version="v1")
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Unauthenticated),
        (403, NotPermitted),
        (404, NotFound),
        (409, Conflict),
        (410, Expired),
        (422, Rejected),
        (429, KubeUnreachable),
        (500, KubeUnreachable),
        (503, KubeUnreachable),
        (504, KubeUnreachable),
    ],
)
async def test_a_status_code_says_which_error_it_is(status, kind):
    """And the error repeats the server's words."""
    error = await ask(status, b'{"kind":"Status","message":"these words"}')
    assert type(error) is kind
    assert str(error).startswith(f"HTTP {status}: ")
    assert status >= 500 or "these words" in str(error)


async def test_a_uid_that_does_not_match_is_a_conflict():
    """In these words the API server says that the test in a JSON patch does not hold."""
    words = b"the server rejected our request due to an error in our request"
    assert type(await ask(422, b'{"reason":"Invalid","message":"%s"}' % words)) is Conflict


async def test_a_status_that_breaks_the_schema_is_no_conflict():
    """Whatever words its rejection has: to look again would not help."""
    words = b'{"message":"OllamaModel \\"test\\" is invalid: spec.tag: \\"latest\\""}'
    assert type(await ask(422, words)) is Rejected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"<html>",
        b"{",
        b'{"message":null}',
        "<html>refus\xe9</html>".encode("latin-1"),
    ],
)
@pytest.mark.parametrize(
    ("status", "kind"), [(400, Rejected), (403, NotPermitted), (409, Conflict)]
)
async def test_a_status_code_counts_whatever_the_body_is(status, kind, body):
    """Proxies and webhooks answer with bodies of their own."""
    error = await ask(status, body)
    assert type(error) is kind


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("", 0), ("-3", 0), ("soon", 0), ("1.5", 0), ("\xb2", 0)],
)
async def test_retry_after_is_read_when_it_is_a_number(text, seconds):
    """Anything else in that header is as good as none."""
    error = await ask(429, retry_after=text.encode("latin-1"))
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            httpx.ConnectError("x"),
            "the Kubernetes API at http://kube cannot be reached: no connection",
        ),
        (httpx.ConnectTimeout("t"), "the Kubernetes API at http://kube does not answer: no conn"),
        (httpx.ReadTimeout("t"), "the Kubernetes API at http://kube does not answer: connected"),
        (httpx.ReadError("reset"), "the connection to the Kubernetes API broke: reset"),
        (httpx.RemoteProtocolError("eh"), "the connection to the Kubernetes API broke: eh"),
        (OSError("gone"), "the connection to the Kubernetes API broke: gone"),
        (RuntimeError("client closed"), "the connection to the Kubernetes API broke: client"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_no_answer_is_an_error_that_says_why(cause, words):
    """All of them mean: try again later."""

    def respond(_request: httpx.Request) -> httpx.Response:
        raise cause

    with pytest.raises(KubeUnreachable) as caught:
        await Wire(httpx.MockTransport(respond)).request("GET", url="x", version="v1")
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {}, "HTTP 401: Unauthorized"),
        (503, {}, "HTTP 503: Service Unavailable"),
        (520, {}, "HTTP 520: no reason given"),
        (302, {"location": "https://sso.example/login?key=x"}, "https://sso.example/login?…"),
    ],
)
async def test_a_refusal_without_words_has_some_all_the_same(status, headers, words):
    """What a code means, or where a login page is; never a colon with nothing after it."""
    assert words in str(await ask(status, **headers))


def behind(cause: Exception) -> httpx.ConnectError:
    """Return what httpx makes of an error of the socket, of TLS or of DNS."""
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = cause
    return error


def untrusted(code: int, words: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "raw words (_ssl.c:1006)")
    error.verify_code, error.verify_message = code, words
    return error


@pytest.mark.parametrize(
    ("cause", "words", "hint"),
    [
        (ConnectionRefusedError(111, "x"), "refused the connection", "`server`"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "cannot be resolved", "`server`"),
        (OSError(113, "x"), "cannot be reached: no route to host", "VPN"),
        (untrusted(18, "self-signed certificate"), "not trusted", "certificate-authority"),
        (untrusted(62, "Hostname mismatch"), "for another name", "tls-server-name"),
        (untrusted(10, "certificate has expired"), "not valid now", "renew"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_no_connection_is_told_in_the_words_of_ollamas(cause, words, hint):
    """With what to do in the kubeconfig, and never in those of a library."""

    def respond(_request: httpx.Request) -> httpx.Response:
        raise behind(cause)

    with pytest.raises(KubeUnreachable, match=words) as caught:
        await Wire(httpx.MockTransport(respond)).request("GET", url="x", version="v1")
    assert hint in caught.value.hint
    assert "_ssl.c" not in str(caught.value)
    assert "attempts" not in str(caught.value)


async def test_a_proxy_that_is_not_reached_is_named():
    """And nothing is said of Kubernetes, which nobody has asked."""

    def respond(_request: httpx.Request) -> httpx.Response:
        raise behind(ConnectionRefusedError(111, "x"))

    wire = Wire(httpx.MockTransport(respond))
    wire.login.proxy = "http://me:hunter2@proxy:3128"
    with pytest.raises(KubeUnreachable) as caught:
        await wire.request("GET", url="x", version="v1")
    assert str(caught.value) == (
        "the Kubernetes API at http://kube is not reached: the proxy http://proxy:3128 refused the"
        " connection"
    )
    assert "proxy-url" in caught.value.hint


async def test_a_failure_through_a_proxy_names_it():
    """Without its password."""

    def respond(request: httpx.Request) -> httpx.Response:
        raise httpx.ProxyError("407 Proxy Authentication Required", request=request)

    wire = Wire(httpx.MockTransport(respond))
    wire.login.proxy = "http://me:hunter2@proxy:3128"
    with pytest.raises(KubeUnreachable) as caught:
        await wire.request("GET", url="x", version="v1")
    assert str(caught.value) == (
        "the Kubernetes API at http://kube through the proxy http://proxy:3128"
        " is not reached: the proxy asks for credentials"
    )


async def test_an_answer_that_breaks_off_is_an_error():
    """Half a body is none."""

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"met', "more_body": True})
        raise ConnectionResetError("cut")

    async with AppTransport(app) as transport:
        with pytest.raises(KubeUnreachable, match="broke: cut"):
            await Wire(transport).request("GET", url="x", version="v1")


@pytest.mark.parametrize("body", [b"<html>", b'{"metadata": "\xff"}', b"[" * 100_000])
async def test_a_write_whose_answer_cannot_be_read_is_an_error_of_ours(body):
    """A page of a proxy, say: it is tried again, and no task ends of it."""

    async def garbage(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async with bench() as b:
        model = await b.create()
        b.front = garbage
        with pytest.raises(KubeUnreachable, match="cannot be read"):
            await b.kube.annotate(model, "a", "b")
