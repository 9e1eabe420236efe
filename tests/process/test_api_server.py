"""The API behind a real socket: what only uvicorn and the kernel can show."""

import logging
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator

import anyio
import httpx
import pytest

from api.access import Keys
from api.app import Api, ApiOptions, create_api
from api.feed import QUEUE
from ollama_op.base.parsing import Address
from ollama_op.base.serve import serve
from support.virtual.models import manifest
from support.virtual.rest import KEY, Known, Written, key


@pytest.fixture
def anyio_backend() -> str:
    """Sockets are real, and so is time."""
    return "asyncio"


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def api(known) -> Api:
    api = create_api(known, Written(), ApiOptions(keys=Keys([key()]), locked=True))
    known.put(manifest("a"))
    return api


@pytest.fixture
async def port(api) -> AsyncGenerator[int]:
    sock = Address("127.0.0.1", 0).bind()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # what each connection has, too
    async with anyio.create_task_group() as tasks:
        await tasks.start(serve, api.app, sock)
        yield sock.getsockname()[1]
        api.close()
        tasks.cancel_scope.cancel()


async def test_who_never_reads_is_hung_up_on(api, port, known, caplog):
    """The connection is closed, its memory is free, and no log says that something is wrong."""
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.connect(("127.0.0.1", port))
        head = f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n"
        slow.sendall(head.encode())
        with anyio.fail_after(5):
            while not len(api.feed):  # noqa: ASYNC110 - it has no event for a test
                await anyio.sleep(0.01)
        with caplog.at_level(logging.INFO), anyio.fail_after(10):
            version = 2
            while len(api.feed):
                for _ in range(QUEUE // 2):
                    known.put(manifest("a", version=version, model=f"{'m' * 80}:1b"))
                    version += 1
                await anyio.sleep(0.01)
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_an_orderly_end_does_not_wait_for_streams(api, port):
    """They are told to end; nobody is cut off in the middle."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        head = f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n"
        await stream.send(head.encode())
        got = b""
        while b"event: snapshot" not in got:
            got += await stream.receive()
        api.close()
        with anyio.fail_after(2):
            while not got.endswith(b"0\r\n\r\n"):
                got += await stream.receive()


async def test_a_websocket_is_not_spoken_and_fills_no_log(port, caplog):
    """Who asks for one gets what a GET gets; no port writes a line, or a traceback, for it."""
    asked = (
        "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with caplog.at_level(logging.WARNING), anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", port) as client:
            await client.send(asked.encode())
            assert (await client.receive()).startswith(b"HTTP/1.1 200 ")
    assert caplog.messages == []


BIG = 2_000_000  # bytes; a body may have 64 KiB
HEADERS = {"x-api-key": KEY, "content-type": "application/json"}


def by_curl(url: str, *more: str) -> int:
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--data-binary", "@-", *more]
    command += [f"-H{name}: {value}" for name, value in HEADERS.items()]
    command += ["--output", "/dev/null", "--write-out", "%{http_code}", url]
    done = subprocess.run(command, input=b"x" * BIG, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def by_curl_at_once(url: str) -> int:
    """Do not wait to be told to go on, as curl does with more than a megabyte."""
    return by_curl(url, "-HExpect:")


def by_httpx(url: str) -> int:
    return httpx.post(url, content=b"x" * BIG, headers=HEADERS, trust_env=False).status_code


def by_httpx_in_chunks(url: str) -> int:
    chunks = (b"x" * 50_000 for _ in range(BIG // 50_000))
    return httpx.post(url, content=chunks, headers=HEADERS, trust_env=False).status_code


def by_httpx_without_a_key(url: str) -> int:
    return httpx.post(url, content=b"x" * BIG, trust_env=False).status_code


def by_urllib(url: str) -> int:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        direct.open(urllib.request.Request(url, b"x" * BIG, HEADERS))
    with caught.value as answer:
        return answer.code


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (by_curl, 413),
        (by_curl_at_once, 413),
        (by_httpx, 413),
        (by_httpx_in_chunks, 413),
        (by_httpx_without_a_key, 401),
        (by_urllib, 413),
    ],
)
async def test_who_sends_too_much_gets_the_answer(port, send, status):
    """Ten times of ten, and never a broken pipe; the same for any other refusal of a long body."""
    url = f"http://127.0.0.1:{port}/api/v1/models"
    answers = [await anyio.to_thread.run_sync(send, url) for _ in range(10)]
    assert answers == [status] * 10


async def test_of_a_body_without_end_not_all_is_read(port):
    """Who announces more than anybody means to send is answered at once, and hung up on."""
    async with await anyio.connect_tcp("127.0.0.1", port) as client:
        head = f"POST /api/v1/models HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
        await client.send(head.encode())
        with anyio.fail_after(5):
            assert (await client.receive()).startswith(b"HTTP/1.1 413 ")
