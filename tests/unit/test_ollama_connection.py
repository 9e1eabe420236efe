"""Connections to Ollama over real sockets: TLS, proxies, and files that change meanwhile."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import structlog

from ollama_op.app.process import http_client
from ollama_op.base.errors import NotOllama, OllamaUnreachable
from ollama_op.base.parsing import ConfigError, UsageError
from ollama_op.metrics.recorder import Metrics
from ollama_op.ollama.client import OllamaClient
from ollama_op.ollama.connection import OllamaTransport, parse_headers
from support.kube.certificate import write_certificate
from support.kube.mounted import swap
from support.process.child import closed_port

TOKEN = "canary4711"  # noqa: S105 - it is here to be looked for
TAGS = b'{"models":[]}'


@pytest.fixture
def anyio_backend() -> str:
    """Sockets are real, and so is time."""
    return "asyncio"


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    """Collect the lines of the log."""
    found: list[dict[str, Any]] = []

    def keep(_logger: object, _method: str, line: dict[str, Any]) -> str:
        found.append(dict(line))
        return ""

    structlog.configure(processors=[keep], logger_factory=structlog.ReturnLoggerFactory())
    return found


class Server:
    """An Ollama without models, or something else that answers `reply`, on loopback."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []  # of the requests that came
        self.end = b"\r\n\r\n"  # of a request
        self.reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(TAGS), TAGS)
        self.rest = b""  # of the reply, which is sent once there is `more`
        self.more = asyncio.Event()
        self.port, self.hung_up = 0, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(self.end):
                self.heads.append(head)
                writer.write(self.reply)
                await writer.drain()
                if self.rest:
                    await self.more.wait()
                    writer.write(self.rest)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.hung_up += 1
            writer.close()


@asynccontextmanager
async def server(tls: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
    it = Server()
    listening = await asyncio.start_server(it.serve, "127.0.0.1", 0, ssl=tls)
    it.port = listening.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        listening.close()


def identity(folder: Path, hosts: tuple[str, ...] = ("localhost",), **how: Any) -> Any:
    """Return a server's TLS, and the file with the certificate that it shows."""
    folder.mkdir(exist_ok=True)
    certificate, key = write_certificate(folder, hosts, **how)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


@asynccontextmanager
async def client(url: str, **files: Path) -> AsyncGenerator[OllamaClient]:
    async with http_client(url, OllamaTransport(url, **files)) as http:
        yield OllamaClient(http)


async def problem(url: str, **files: Path) -> tuple[str, str]:
    """Ask for a list; return what is wrong, after the server's address, and what to do."""
    async with client(url, **files) as ollama:
        with pytest.raises(OllamaUnreachable) as caught:
            await ollama.tags()
    return caught.value.problem.removeprefix(url).strip(), caught.value.hint


async def test_who_is_not_there_refused_the_connection():
    """And only who is not there."""
    with closed_port() as port:
        assert await problem(f"http://127.0.0.1:{port}") == (
            "refused the connection",
            "start Ollama, or set --ollama-api-url",
        )


async def test_a_certificate_that_is_not_trusted_is_told_with_the_flag(tmp_path):
    """The CA can be given; then all is well."""
    tls, ca = identity(tmp_path)
    async with server(tls) as it:
        url = f"https://127.0.0.1:{it.port}"
        what, hint = await problem(url)
        assert what == "shows a certificate that is not trusted: self-signed certificate"
        assert "--ollama-ca-file" in hint
        async with client(url, ca_file=ca) as ollama:
            assert await ollama.tags() == {}


async def test_a_file_of_cas_that_lacks_the_one_is_named(tmp_path):
    """To give one more would not help."""
    tls, _ = identity(tmp_path / "server")
    _, other = identity(tmp_path / "other")
    async with server(tls) as it:
        what, hint = await problem(f"https://127.0.0.1:{it.port}", ca_file=other)
    assert what.startswith("shows a certificate that is not trusted: ")
    assert what.endswith(f"; {other} (--ollama-ca-file) does not hold its CA")
    assert hint == f"put the CA of this certificate into {other}"


async def test_a_certificate_for_another_name_is_told(tmp_path):
    """A CA would not help."""
    tls, ca = identity(tmp_path, ("ollama.ai.svc",), loopback=False)
    async with server(tls) as it:
        what, hint = await problem(f"https://127.0.0.1:{it.port}", ca_file=ca)
    assert what.startswith("shows a certificate for another name: IP address mismatch")
    assert hint == "set --ollama-api-url to a name that is in the certificate"


async def test_a_certificate_that_has_expired_is_told(tmp_path):
    """It has to be renewed; to trust it would not help."""
    tls, ca = identity(tmp_path, until=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    async with server(tls) as it:
        what, hint = await problem(f"https://127.0.0.1:{it.port}", ca_file=ca)
    assert what == "shows a certificate that is not valid now: certificate has expired"
    assert hint == "renew the certificate"


async def test_a_server_without_tls_is_told():
    """The scheme is wrong; an HTTP server says so in plain text."""
    async with server() as it:
        it.end = b"\x16\x03"  # so begins TLS
        what, hint = await problem(f"https://127.0.0.1:{it.port}")
    assert what == "does not speak TLS"
    assert "http://" in hint


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"407 Proxy Authentication Required", "is not reached: the proxy asks for credentials"),
        (b"502 Bad Gateway", "is not reached: the proxy answers HTTP 502 Bad Gateway"),
    ],
)
async def test_a_proxy_that_does_not_let_through_is_named(monkeypatch, reply, words):
    """Without the credentials that its address carries."""
    async with server() as proxy:
        proxy.reply = b"HTTP/1.1 " + reply + b"\r\ncontent-length: 0\r\n\r\n"
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{TOKEN}@127.0.0.1:{proxy.port}")
        what, _ = await problem("https://ollama.example")
        assert what == f"(through the proxy http://127.0.0.1:{proxy.port}) {words}"
        assert proxy.heads[0].startswith(b"CONNECT ollama.example:443 ")


async def test_a_proxy_that_is_away_is_named(monkeypatch):
    """It refused, not Ollama."""
    with closed_port() as port:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{port}")
        what, hint = await problem("http://ollama.example:11434")
    assert hint == "correct HTTP_PROXY, or name ollama.example in NO_PROXY"
    assert what == (
        f"is not reached: the proxy http://127.0.0.1:{port} (HTTP_PROXY) refused the connection"
    )


async def test_a_network_in_no_proxy_is_called_directly(monkeypatch):
    """Which httpx by itself does not know."""
    async with server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        async with client("http://198.51.100.7:11434") as ollama:
            assert await ollama.tags() == {}
        assert proxy.heads[0].startswith(b"GET http://198.51.100.7:11434/api/tags ")
        monkeypatch.setenv("NO_PROXY", "198.51.100.0/24")
        assert OllamaTransport("http://198.51.100.7:11434")._proxy is None


async def test_names_that_dns_keeps_silent_about_are_told(monkeypatch):
    """The time for a connection goes by in the lookup; whose fault it was is asked once more."""
    url = "http://ollama.example:11434"

    async def silent(*_: object, **__: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silent)
    transport = OllamaTransport(url)
    request = httpx.Request("GET", url, extensions={"timeout": {"connect": 0.05}})
    with pytest.raises(httpx.ConnectTimeout) as caught:
        await transport.handle_async_request(request)
    assert "no answer in time" in str(caught.value.__cause__)


# --- the files


async def test_headers_are_sent_and_shown_to_nobody(tmp_path, lines):
    """Not by a request, an error, the transport or the log."""
    path = tmp_path / "headers"
    path.write_text(f"Authorization: Bearer {TOKEN}\r\n\nX-Team: {TOKEN}\n")
    async with server() as it:
        url = f"http://127.0.0.1:{it.port}"
        transport = OllamaTransport(url, header_file=path)
        async with http_client(url, transport) as http:
            answer = await http.get("/api/tags")
        assert f"authorization: Bearer {TOKEN}".encode() in it.heads[0].lower().replace(
            b"bearer", b"Bearer"
        )
        assert f"X-Team: {TOKEN}".encode() in it.heads[0]
    shown = [repr(vars(each)) for each in (transport, answer.request, answer)]
    shown += [repr(answer.request.headers.raw), repr(http.headers.raw), repr(lines)]
    assert [text for text in shown if TOKEN in text] == []
    assert [line["event"] for line in lines] == [
        "headers of --ollama-header-file are sent without TLS"
    ]


async def test_a_header_of_the_file_takes_the_place_of_a_usual_one(tmp_path):
    """As of `Host`, by which a gateway finds Ollama: with two of it no request is one."""
    path = tmp_path / "headers"
    path.write_text("Host: ollama.internal\nuser-agent: mine\n")
    async with server() as it:
        url = f"http://127.0.0.1:{it.port}"
        async with http_client(url, OllamaTransport(url, header_file=path)) as http:
            await OllamaClient(http).tags()
    names = [line.partition(b":")[0].lower() for line in it.heads[0].split(b"\r\n")]
    assert (names.count(b"host"), names.count(b"user-agent")) == (1, 1)
    assert b"Host: ollama.internal" in it.heads[0]


async def test_no_span_and_no_metric_has_headers(tmp_path, spans):
    """Of a call that succeeds, and of one that does not."""
    path, metrics = tmp_path / "headers", Metrics()
    path.write_text(f"Authorization: Bearer {TOKEN}\n")
    async with server() as it:
        url = f"http://127.0.0.1:{it.port}"
        async with http_client(url, OllamaTransport(url, header_file=path), metrics.client) as http:
            await OllamaClient(http).tags()
            it.reply = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
            with pytest.raises(NotOllama) as caught:
                await OllamaClient(http).tags()
    assert len(it.heads) == len(spans.named("GET /api/tags")) == 2
    said = [span.to_json() for span in spans.all()] + [metrics.scrape()().decode()]
    said += [str(caught.value), repr(caught.value), repr(vars(caught.value))]
    assert [text for text in said if TOKEN in text] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it has no line `Name: value`"),
        (b"\n\n", "it has no line `Name: value`"),
        (TOKEN.encode(), "line 1 is not of the form `Name: value`"),
        (b"X-A: 1\nX B: " + TOKEN.encode(), "line 2 is not of the form `Name: value`"),
        (b"X-A:", "line 1 is not of the form `Name: value`"),
        (b"X-A: \x01" + TOKEN.encode(), "line 1 is not of the form `Name: value`"),
        (b"X-A: \xff", "it is no text"),
        (
            b"\n# for the gateway\nX-A: 1",
            "line 2 begins with #, and a line `Name: value` never does",
        ),
        (b" #X-A: " + TOKEN.encode(), "line 1 begins with #, and a line `Name: value` never does"),
        (
            "X-A: 1\nX-B: ключ".encode(),
            "line 2 has a character outside ASCII, which no header can have",
        ),
        (b"Content-Length: 0", "line 1 names a header that the operator sets itself"),
    ],
)
def test_a_header_file_that_cannot_be_used_is_an_error_at_the_start(tmp_path, content, words):
    """Without it the operator would go as nobody; what is in it is not repeated."""
    path = tmp_path / "headers"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        OllamaTransport("https://ollama", header_file=path)
    assert str(caught.value) == f"--ollama-header-file {path} cannot be used: {words}"
    assert TOKEN not in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_file_that_cannot_be_used_is_an_error_at_the_start(tmp_path, content):
    """Never are other CAs trusted instead."""
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="it holds no certificates in PEM"):
        OllamaTransport("https://ollama", ca_file=path)


@pytest.mark.parametrize("flag", ["ca_file", "header_file"])
def test_a_file_that_is_not_there_is_an_error_at_the_start(tmp_path, flag):
    """With its flag and path."""
    with pytest.raises(ConfigError, match=r"none cannot be used: No such file or directory"):
        OllamaTransport("https://ollama", **{flag: tmp_path / "none"})


def test_a_ca_file_for_plain_http_is_a_misuse(tmp_path):
    """Who gives one believes that there is TLS."""
    with pytest.raises(UsageError, match="without TLS"):
        OllamaTransport("http://ollama", ca_file=tmp_path / "ca.pem")


def test_cas_that_the_environment_names_and_cannot_be_read_are_told(monkeypatch):
    """No traceback."""
    monkeypatch.setenv("SSL_CERT_FILE", "/none")
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        OllamaTransport("https://ollama")


def test_blank_lines_and_spaces_around_a_value_mean_nothing():
    """As people, and `kubectl create secret`, write files."""
    assert parse_headers(b"\r\nA:b\r\n  \nC: \t d e \n") == ((b"A", b"b"), (b"C", b"d e"))


async def test_headers_are_read_again_when_they_change(tmp_path, lines):
    """With the very next call; what cannot be used leaves the old in place, and is told once."""
    swap(tmp_path, "1", headers=b"X-Token: one\n")
    path = tmp_path / "headers"
    async with server() as it, client(f"http://127.0.0.1:{it.port}", header_file=path) as ollama:
        await ollama.tags()
        swap(tmp_path, "2", headers=b"X-Token: two\n")
        await ollama.tags()
        swap(tmp_path, "3", headers=b"")
        await ollama.tags()
        await ollama.tags()
        (tmp_path / "..data").unlink()
        await ollama.tags()
        (tmp_path / "..3" / "headers").write_bytes(b"X-Token: four\n")
        (tmp_path / "..data").symlink_to("..3")
        await ollama.tags()
    sent = [head.partition(b"X-Token: ")[2].partition(b"\r\n")[0].decode() for head in it.heads]
    assert sent == ["one", "two", "two", "two", "two", "four"]
    assert [line["event"] for line in lines[1:]] == [
        "file read again",
        "file cannot be used, keeping what it said",
        "file cannot be used, keeping what it said",
        "file read again",
    ]


async def test_cas_are_read_again_when_they_change(tmp_path, lines):
    """A withdrawn one is not trusted any more, also over connections that were kept."""
    (one, old), (two, new) = identity(tmp_path / "one"), identity(tmp_path / "two")
    async with server(one) as before, server(two) as after:
        swap(tmp_path, "1", ca_pem=old.read_bytes())
        path = tmp_path / "ca.pem"
        async with client(f"https://127.0.0.1:{before.port}", ca_file=path) as ollama:
            await ollama.tags()
            swap(tmp_path, "2", ca_pem=new.read_bytes())
            with pytest.raises(OllamaUnreachable, match="not trusted"):
                await ollama.tags()
            swap(tmp_path, "3", ca_pem=b"nothing")
            with pytest.raises(OllamaUnreachable, match="not trusted"):
                await ollama.tags()
            swap(tmp_path, "4", ca_pem=old.read_bytes() + new.read_bytes())
            await ollama.tags()
        async with client(f"https://127.0.0.1:{after.port}", ca_file=path) as ollama:
            await ollama.tags()
    assert [line["event"] for line in lines] == [
        "file read again",
        "file cannot be used, keeping what it said",
        "file read again",
    ]


async def test_an_answer_under_way_outlives_a_change_of_cas(tmp_path):
    """A download of hours goes on; its connections are closed with it."""
    tls, ca = identity(tmp_path / "server")
    swap(tmp_path, "1", ca_pem=ca.read_bytes())
    path = tmp_path / "ca.pem"
    async with server(tls) as it:
        it.reply, it.rest = it.reply[:-5], it.reply[-5:]
        url = f"https://127.0.0.1:{it.port}"
        transport = OllamaTransport(url, ca_file=path)
        async with http_client(url, transport) as http:
            async with http.stream("GET", "/") as answer:
                swap(tmp_path, "2", ca_pem=ca.read_bytes())
                old = transport._pool
                it.more.set()
                assert (await http.get("/")).content == TAGS
                assert transport._pool is not old
                assert await answer.aread() == TAGS
            async with asyncio.timeout(5):
                # The connection of the old ones; the new one is kept.
                while not it.hung_up:  # noqa: ASYNC110 - a server has no event for it
                    await asyncio.sleep(0.01)
            assert (await http.get("/")).content == TAGS
            assert it.hung_up == 1
