"""Serve an ASGI application from inside a task group.

uvicorn wants to own the process: it takes SIGTERM for itself and sends it again when it returns,
and it calls sys.exit when it cannot start. Here it is one task among others, and `cli.py` owns the
signals.
"""

import contextlib
import logging
import socket
import ssl
from collections.abc import Generator, Sequence

import anyio
import uvicorn
from anyio.abc import TaskStatus

from ollama_op.base.asgi import App
from ollama_op.base.draining import drained
from ollama_op.base.forwarded import forwarded

KEEP_ALIVE_S = 5  # how long a connection may stay unused
GRACE_S = 2  # what a request under way gets at shutdown


UNREAD_MS = 60_000  # how long a client may leave unread what was sent to it
# What uvicorn complains of and is no mistake of ours: a stream hung up on who does not read it; and
# whatever a port scanner sends, who must not be able to fill the log.
NO_NEWS = (
    "ASGI callable returned without completing response.",
    "Invalid HTTP request received.",
    "Unsupported upgrade request.",
    "No supported WebSocket library detected.",
)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def serve(
    app: App,
    sock: socket.socket,
    *,
    trusted_proxies: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
    keep_alive_s: int = KEEP_ALIVE_S,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP on a listening socket until cancelled; ready once `task_status` says so.

    From `trusted_proxies`, addresses or networks, X-Forwarded-For and X-Forwarded-Prefix are
    believed; from nobody else.
    With `tls` it is HTTPS; whatever certificate that has is the next connection's.

    Raises: RuntimeError if the server ends by itself.
    """
    # uvicorn writes head and body apart; held back until acknowledged, each answer takes 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: what nobody takes is not kept for ever
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    config = uvicorn.Config(
        forwarded(drained(app), trusted_proxies),
        lifespan="off",
        ws="none",  # whoever asks for one gets what a GET gets
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # done by `forwarded`, on addresses as lists have them
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=GRACE_S,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_announce, server, task_status)
        try:
            # Its own task, so that cancelling this one becomes an orderly shutdown of that one.
            with anyio.CancelScope(shield=True):
                tasks.start_soon(_stop_when_cancelled, server)
                await server.serve(sockets=[sock])
        except SystemExit as error:
            raise RuntimeError("the HTTP server could not start") from error
        if not server.should_exit:
            raise RuntimeError("the HTTP server stopped by itself")


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(NO_NEWS)


async def _announce(server: _Server, task_status: TaskStatus[None]) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await anyio.sleep(0.005)
    task_status.started()


async def _stop_when_cancelled(server: _Server) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        server.should_exit = True
