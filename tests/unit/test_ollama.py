import itertools
import json
import socket
import ssl
from collections.abc import Callable
from itertools import chain
from typing import Any, Self

import anyio
import httpx
import pytest

from crd.names import ModelName
from ollama_op.base.errors import (
    ModelUnknown,
    NotOllama,
    OllamaError,
    OllamaUnreachable,
    ProtocolError,
    PullFailed,
)
from ollama_op.ollama.client import CALLS_AT_ONCE, OllamaClient
from ollama_op.ollama.failures import VIA
from ollama_op.ollama.steps import LINE_LIMIT
from ollama_op.ollama.wire import Step

LLAMA = ModelName.parse("llama3.2:1b")
DIGEST = "sha256:" + "15cb" * 16
SUCCESS = {"status": "success"}

Respond = Callable[[httpx.Request], Any]


def client(respond: Respond, *, url: str = "http://ollama:11434") -> OllamaClient:
    return OllamaClient(httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url=url))


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError()
    error.reason = reason
    return error


def answering(status: int, body: bytes | object = b"") -> OllamaClient:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client(lambda _request: httpx.Response(status, content=content))


def failing(error: Exception) -> OllamaClient:
    def respond(_request: httpx.Request) -> httpx.Response:
        raise error

    return client(respond)


class Pull(httpx.AsyncByteStream):
    """The answer to a pull: lines, one each `every_s` seconds, and then an end of some kind.

    No generator, so that leaving it early needs no closing.
    """

    def __init__(
        self,
        *lines: bytes | dict[str, Any],
        repeat: int = 1,
        every_s: float = 0,
        end: Exception | None = None,
    ) -> None:
        self._lines = chain.from_iterable(itertools.repeat(lines, repeat))
        self._every_s = every_s
        self._end = end
        self.closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await anyio.sleep(self._every_s)
        for line in self._lines:
            return line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
        raise self._end or StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


async def pulled(stream: httpx.AsyncByteStream) -> list[Step]:
    """Pull to the end."""
    ollama = client(lambda _request: httpx.Response(200, stream=stream))
    async with ollama.pull(LLAMA) as steps:
        return [step async for step in steps]


# --- what is asked


@pytest.mark.parametrize(
    ("ask", "method", "path", "body"),
    [
        (lambda o: o.tags(), "GET", "/api/tags", None),
        (lambda o: o.running(), "GET", "/api/ps", None),
        (lambda o: o.show(LLAMA), "POST", "/api/show", {"model": "llama3.2:1b"}),
        (lambda o: o.delete(LLAMA), "DELETE", "/api/delete", {"model": "llama3.2:1b"}),
        (
            lambda o: o.unload(LLAMA),
            "POST",
            "/api/generate",
            {"model": "llama3.2:1b", "keep_alive": 0, "stream": False},
        ),
    ],
    ids=["tags", "ps", "show", "delete", "unload"],
)
async def test_each_call_is_the_documented_request(ask, method, path, body):
    """Method, path and body are those of Ollama's docs/api.md; a path in the base URL is kept."""
    asked = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, json.loads(request.content or b"null")))
        said = {"models": [], "details": {}, "model": "llama3.2:1b"}
        return httpx.Response(200, json=said)

    await ask(client(respond))
    await ask(client(respond, url="http://proxy/ollama"))
    assert asked == [(method, path, body), (method, f"/ollama{path}", body)]


async def test_a_list_is_by_name_however_it_is_spelled():
    """A model is found by any spelling."""
    entry = {"name": "Llama3.2:1B", "digest": "d1", "size": 7, "details": {"family": "x"}}
    tags = await answering(200, {"models": [entry]}).tags()
    assert {str(name): (e.digest, e.size) for name, e in tags.items()} == {"Llama3.2:1B": ("d1", 7)}
    assert LLAMA in tags


@pytest.mark.parametrize("body", [{"models": None}, {"models": []}])
async def test_no_models_is_an_empty_list(body):
    """Go writes an empty list as null now and then."""
    assert await answering(200, body).tags() == {}
    assert await answering(200, body).running() == {}


async def test_a_loaded_model_is_found():
    """By its name, in any spelling."""
    assert LLAMA in await answering(200, {"models": [{"name": "LLAMA3.2:1b"}]}).running()


# --- what is answered


@pytest.mark.parametrize("call", ["delete", "unload"])
async def test_what_is_not_there_needs_no_removal(call):
    """Asked twice, the second time is no error."""
    await getattr(answering(404, {"error": "model 'llama3.2:1b' not found"}), call)(LLAMA)


CALLS = {
    "tags": lambda o: o.tags(),
    "ps": lambda o: o.running(),
    "show": lambda o: o.show(LLAMA),
    "delete": lambda o: o.delete(LLAMA),
    "unload": lambda o: o.unload(LLAMA),
}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"models":7}',
        b'{"models":[{"name":"\xff"}]}',
        b"[" * 100_000,
    ],
    ids=["empty", "html", "array", "no list", "wrong type", "no unicode", "deep"],
)
@pytest.mark.parametrize("call", ["tags", "ps"])
async def test_an_answer_that_cannot_be_read_is_not_ollamas(call, body):
    """A proxy's page, or anything else, is no list of models; above all, it is not an empty one."""
    with pytest.raises(NotOllama):
        await CALLS[call](answering(200, body))


@pytest.mark.parametrize("call", CALLS)
async def test_a_body_with_a_broken_encoding_is_an_error_of_ours(call):
    """A proxy may say gzip and send something else."""
    headers = {"content-encoding": "gzip"}
    ollama = client(lambda _request: httpx.Response(200, content=Pull(b"no"), headers=headers))
    with pytest.raises(OllamaError):
        await CALLS[call](ollama)


def caused(error: Exception, *causes: BaseException) -> Exception:
    """Put causes behind an error: one, or a group of them where several addresses were tried."""
    error.__cause__ = causes[0] if len(causes) == 1 else BaseExceptionGroup("tried", list(causes))
    return error


def untrusted(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, message
    return error


def unconnected(*causes: BaseException) -> Exception:
    return caused(httpx.ConnectError("All connection attempts failed"), *causes)


@pytest.mark.parametrize(
    ("error", "words", "hint"),
    [
        (unconnected(ConnectionRefusedError(111, "x")), "refused the connection", "start Ollama"),
        (
            unconnected(OSError(101, "x"), ConnectionRefusedError(111, "x")),
            "refused the connection",
            "start Ollama",
        ),
        (
            unconnected(OSError(113, "x")),
            "cannot be reached: no route to host",
            "network policies",
        ),
        (
            unconnected(OSError(101, "x"), OSError(101, "x")),
            "cannot be reached: network is unreachable",
            "network policies",
        ),
        (unconnected(OSError("x")), "cannot be reached: no connection", "network policies"),
        (
            unconnected(socket.gaierror(socket.EAI_NONAME, "x")),
            "has a host name that cannot be resolved: DNS knows no such name",
            "correct --ollama-api-url",
        ),
        (
            unconnected(socket.gaierror(socket.EAI_AGAIN, "x")),
            "has a host name that cannot be resolved: DNS does not answer",
            "port 53",
        ),
        (
            unconnected(untrusted(18, "self-signed certificate")),
            "shows a certificate that is not trusted: self-signed certificate",
            "--ollama-ca-file",
        ),
        (
            unconnected(untrusted(62, "Hostname mismatch")),
            "shows a certificate for another name: Hostname mismatch",
            "a name that is in the certificate",
        ),
        (
            unconnected(untrusted(10, "certificate has expired")),
            "shows a certificate that is not valid now: certificate has expired",
            "renew",
        ),
        (unconnected(tls_error("WRONG_VERSION_NUMBER")), "does not speak TLS", "http://"),
        (
            caused(httpx.ReadError("x"), tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED")),
            "ended TLS: TLSV13_ALERT_CERTIFICATE_REQUIRED",
            "what ends TLS",
        ),
        (httpx.ConnectTimeout("x"), "does not answer: no connection in time", "network policies"),
        (
            caused(httpx.ConnectTimeout("x"), socket.gaierror(socket.EAI_AGAIN, "x")),
            "has a host name that cannot be resolved: DNS does not answer",
            "port 53",
        ),
        (
            caused(httpx.ConnectTimeout("x"), ssl.SSLWantReadError()),
            "does not answer: no connection in time",
            "network policies",
        ),
        (
            httpx.ReadTimeout("x"),
            "does not answer: connected, but no answer in time",
            "Ollama's log",
        ),
        (httpx.ReadError("x"), "broke the connection", "Ollama's log"),
        (httpx.RemoteProtocolError("x"), "broke the connection", "Ollama's log"),
        (httpx.WriteError("x"), "broke the connection", "Ollama's log"),
        (
            httpx.ProxyError("407 Proxy Authentication Required"),
            "is not reached: the proxy asks for credentials",
            "HTTPS_PROXY",
        ),
        (
            httpx.ProxyError("502 Bad Gateway"),
            "is not reached: the proxy answers HTTP 502 Bad Gateway",
            "NO_PROXY",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_no_answer_is_unreachable_and_says_why(error, words, hint):
    """Each cause in words of its own, with the server's name and the one thing to do."""
    with pytest.raises(OllamaUnreachable) as caught:
        await failing(error).tags()
    assert caught.value.problem == f"http://ollama:11434 {words}"
    assert hint in caught.value.hint
    told = caught.value.hint[0].upper() + caught.value.hint[1:]
    assert str(caught.value) == f"{caught.value.problem}. {told}"


@pytest.mark.parametrize("call", CALLS)
async def test_every_call_says_it(call):
    """Whatever was asked."""
    with pytest.raises(OllamaUnreachable, match="refused the connection"):
        await CALLS[call](failing(unconnected(ConnectionRefusedError(111, "x"))))


def by_proxy(error: httpx.RequestError) -> Any:
    """Fail every call so, sent through a proxy."""

    def respond(request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, VIA: "http://proxy:3128"}
        raise error

    return client(respond)


async def test_a_proxy_in_between_is_named():
    """It is as likely to be why."""
    with pytest.raises(OllamaUnreachable) as caught:
        await by_proxy(httpx.ReadError("x")).tags()
    assert caught.value.problem == (
        "http://ollama:11434 (through the proxy http://proxy:3128) broke the connection"
    )


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (unconnected(ConnectionRefusedError(111, "x")), "refused the connection"),
        (
            unconnected(socket.gaierror(socket.EAI_NONAME, "x")),
            "has a host name that cannot be resolved: DNS knows no such name",
        ),
        (httpx.ConnectTimeout("x"), "does not answer: no connection in time"),
    ],
    ids=["refused", "no name", "silent"],
)
async def test_a_proxy_that_is_not_reached_is_to_blame(monkeypatch, name, error, words):
    """Not Ollama, which nobody has asked; the variable is named as it is set."""
    monkeypatch.setenv(name, "proxy:3128")
    with pytest.raises(OllamaUnreachable) as caught:
        await by_proxy(error).tags()
    assert caught.value.problem == (
        f"http://ollama:11434 is not reached: the proxy http://proxy:3128 ({name}) {words}"
    )
    assert caught.value.hint == f"correct {name}, or name ollama in NO_PROXY"


async def test_a_silent_server_does_not_answer():
    """After half a minute."""

    async def hang(request: httpx.Request) -> httpx.Response:
        with anyio.move_on_after(request.extensions["timeout"]["read"]):
            await anyio.sleep_forever()
        raise httpx.ReadTimeout("silent")

    with pytest.raises(OllamaUnreachable):
        await client(hang).tags()
    assert anyio.current_time() == pytest.approx(30)


async def test_a_password_in_the_url_is_not_repeated():
    """The server's address is part of messages that everybody can read."""

    def respond(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    ollama = client(respond, url="http://user:hunter2@ollama:11434/base/?key=hunter2")
    assert ollama.where == "http://ollama:11434/base"
    with pytest.raises(OllamaUnreachable) as caught:
        await ollama.tags()
    assert "hunter2" not in str(caught.value)


async def test_few_calls_at_once_and_pulls_beside_them():
    """Calls wait for each other; a pull waits for none of them."""
    under_way, most = 0, 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        if request.url.path == "/api/pull":
            return httpx.Response(200, stream=Pull(SUCCESS))
        under_way += 1
        most = max(most, under_way)
        await anyio.sleep(1)
        under_way -= 1
        return httpx.Response(200, json={"details": {}})

    ollama = client(slow)
    async with anyio.create_task_group() as tasks:
        for _ in range(5 * CALLS_AT_ONCE):
            tasks.start_soon(ollama.show, LLAMA)
        await anyio.sleep(0.5)
        async with ollama.pull(LLAMA) as steps:
            assert [step.status async for step in steps] == ["success"]
        assert anyio.current_time() == pytest.approx(0.5)
    assert (most, anyio.current_time()) == (CALLS_AT_ONCE, pytest.approx(5))


async def test_models_are_deleted_one_after_the_other():
    """Real Ollama answers 500 to a deletion if another one takes a manifest away meanwhile."""
    under_way, most = 0, 0

    async def slow(_request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await anyio.sleep(1)
        under_way -= 1
        return httpx.Response(200)

    ollama = client(slow)
    async with anyio.create_task_group() as tasks:
        for tag in range(20):
            tasks.start_soon(ollama.delete, ModelName.of("m", str(tag)))
    assert (most, anyio.current_time()) == (1, 20)


async def test_a_deletion_asks_once_more_when_its_turn_has_come():
    """Whoever has come to need the model while others were served keeps it."""
    needed, asked = False, []

    async def slow(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        await anyio.sleep(1)
        return httpx.Response(200, json={"details": {}})

    ollama, deleted = client(slow), []

    async def delete() -> None:
        deleted.append(await ollama.delete(LLAMA, lambda: needed))

    async with anyio.create_task_group() as tasks:
        for _ in range(CALLS_AT_ONCE):
            tasks.start_soon(ollama.show, LLAMA)
        await anyio.sleep(0.5)
        tasks.start_soon(delete)
        await anyio.sleep(0.1)
        needed = True
    assert (deleted, set(asked)) == ([False], {"POST"})
    needed = False
    assert await ollama.delete(LLAMA, lambda: needed)
    assert asked[-1] == "DELETE"


# --- pulls


async def test_a_pull_yields_what_ollama_streams():
    """One step a line; fields that are not there are zero or empty, unknown ones are ignored."""
    layer = {"status": "pulling 15cb", "digest": DIGEST, "total": 100}
    steps = await pulled(
        Pull({"status": "pulling manifest"}, layer, {**layer, "completed": 60, "new": []}, SUCCESS)
    )
    assert steps == [
        Step(status="pulling manifest"),
        Step(status="pulling 15cb", digest=DIGEST, total=100),
        Step(status="pulling 15cb", digest=DIGEST, total=100, completed=60),
        Step(status="success"),
    ]


async def test_the_steps_end_with_success():
    """Whatever Ollama sends after it, or if it keeps the connection open."""
    stream = Pull(SUCCESS, {"status": "encore"}, end=httpx.ReadError("late"))
    assert await pulled(stream) == [Step(status="success")]
    assert stream.closed


async def test_a_pull_may_take_hours():
    """No timeout cuts a slow download; only connecting has one."""
    slow = Pull(*[{"status": "pulling"}] * 9, SUCCESS, every_s=3600)
    asked = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request.extensions["timeout"])
        return httpx.Response(200, stream=slow)

    async with client(respond).pull(LLAMA) as steps:
        assert len([step async for step in steps]) == 10
    assert anyio.current_time() == pytest.approx(36_000, abs=2)
    assert asked == [{"connect": 5, "read": None, "write": None, "pool": None}]


@pytest.mark.parametrize("half", [[], [b'{"status":"success"}']])
async def test_an_end_without_success_is_a_failure(half):
    """So ends the stream of a server that was killed; half a line may be half a word."""
    with pytest.raises(ProtocolError, match="ended without success"):
        await pulled(Pull({"status": "writing manifest"}, *half))


async def test_an_error_line_after_200_is_the_failure():
    """Nearly all failures of a pull come so."""
    with pytest.raises(ModelUnknown, match=r"no llama3\.2:1b"):
        await pulled(
            Pull(
                {"status": "pulling manifest"},
                {"error": "pull model manifest: file does not exist"},
            )
        )


async def test_an_error_status_before_the_stream_is_a_failure():
    """Ollama answers 400 to a name that it does not take."""
    ollama = answering(400, {"error": "invalid model name"})
    with pytest.raises(PullFailed, match="invalid model name"):
        async with ollama.pull(LLAMA):
            pass


@pytest.mark.parametrize(
    "line",
    [b"<html>\n", b"[]\n", b'{"status":7}\n', b'{"status":"\xff"}\n', b"[" * 100_000 + b"\n"],
    ids=["html", "array", "wrong type", "no unicode", "deep"],
)
@pytest.mark.parametrize("before", [[], [{"status": "pulling manifest"}]])
async def test_a_line_that_cannot_be_read_is_not_ollamas(before, line):
    """It is no success, at the beginning and in the middle."""
    with pytest.raises(NotOllama):
        await pulled(Pull(*before, line, SUCCESS))


async def test_an_endless_line_is_a_protocol_error():
    """And memory does not fill."""
    chunk = b"x" * 65_536
    with pytest.raises(ProtocolError, match="more than"):
        await pulled(Pull(*[chunk] * (LINE_LIMIT // len(chunk) + 1)))


@pytest.mark.parametrize("error", [httpx.ReadError("x"), httpx.RemoteProtocolError("x")])
async def test_a_cut_connection_is_unreachable(error):
    """In the middle of a pull as before it."""
    with pytest.raises(OllamaUnreachable, match="broke the connection"):
        await pulled(Pull({"status": "pulling"}, end=error))
    with pytest.raises(OllamaUnreachable, match="broke the connection"):
        async with failing(error).pull(LLAMA):
            pass


async def test_leaving_a_pull_closes_the_connection():
    """That is what ends the download on the server; cancelled or left, it is closed."""
    left, cancelled = (Pull({"status": "pulling"}, repeat=99, every_s=1) for _ in range(2))
    async with client(lambda _request: httpx.Response(200, stream=left)).pull(LLAMA) as steps:
        assert (await anext(aiter(steps))).status == "pulling"
    assert left.closed
    with anyio.move_on_after(10):
        await pulled(cancelled)
    assert cancelled.closed


async def test_a_bug_of_the_reader_is_not_taken_for_ollamas():
    """What is raised inside the context leaves it as it is."""
    ollama = client(lambda _request: httpx.Response(200, stream=Pull(SUCCESS)))
    with pytest.raises(ZeroDivisionError):
        async with ollama.pull(LLAMA):
            raise ZeroDivisionError
