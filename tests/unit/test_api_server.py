"""The API behind a real socket: what only uvicorn and the kernel can show."""

import logging
import socket
from collections.abc import AsyncGenerator

import anyio
import pytest

from api.access import Keys
from api.app import Api, Options, create_api
from api.feed import QUEUE
from ollama_op.parsing import Address
from ollama_op.serve import serve
from support.models import manifest
from support.rest import KEY, Known, Written, key


@pytest.fixture
def anyio_backend() -> str:
    """Sockets are real, and so is time."""
    return "asyncio"


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def api(known) -> Api:
    api = create_api(known, Written(), Options(keys=Keys([key()]), locked=True))
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
