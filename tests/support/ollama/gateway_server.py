"""The gateway of `support.virtual.gateway` as a server on loopback, before a real Ollama."""

import contextlib
import http.client
import math
import ssl
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self, cast

from support.virtual.gateway import FOREIGN, Answer, Script

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
_WITHOUT_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
_POLL_S = 0.1  # how soon somebody who is held back notices that the gateway ends


class GatewayServer(Script):
    """A port on loopback before `port`, between `with` and its end. With `tls`, it speaks TLS.

    With `token`, who does not send it as a bearer gets a 401. With `below`, a path, it has there
    what is behind it, and says so.
    """

    def __init__(
        self, port: int, *, tls: ssl.SSLContext | None = None, token: str = "", below: str = ""
    ) -> None:
        super().__init__(time.monotonic)
        self.behind, self.closing = port, threading.Event()
        self.token, self.below = token, below
        self.headers: list[dict[str, str]] = []  # of each request, by names in lower case
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.gateway = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, delay_s: float) -> None:
        """Wait, or until the gateway ends."""
        if delay_s:
            self.closing.wait(None if math.isinf(delay_s) else delay_s)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a connection that is kept alive would hold it up
    gateway: GatewayServer

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients go away, which is no failure."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        gateway = cast("_Server", self.server).gateway
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        gateway.headers.append({name.lower(): value for name, value in self.headers.items()})
        is_below = self.path.startswith(f"{gateway.below}/")
        self.path = self.path.removeprefix(gateway.below)
        told = gateway.take(self.command, self.path.partition("?")[0], body)
        if gateway.token and self.headers.get("authorization") != f"Bearer {gateway.token}":
            told = FOREIGN["401"]
        if not is_below:
            told = FOREIGN["404 HTML"]
        if told is not None:
            gateway.hold(told.delay_s)
        if told is None or told.status is None:
            self._pass_on(gateway.behind, body)
        else:
            self._say(told, told.status)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _say(self, told: Answer, status: int) -> None:
        self.send_response(status)
        for name, value in told.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(told.body)))
        self.end_headers()
        self.wfile.write(told.body)

    def _pass_on(self, port: int, body: bytes) -> None:
        headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP}
        if below := cast("_Server", self.server).gateway.below:
            headers["x-forwarded-prefix"] = below
        upstream = http.client.HTTPConnection("127.0.0.1", port)
        with contextlib.closing(upstream):
            try:
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
            except OSError:
                self.close_connection = True  # as if nothing were behind it
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            if answer.status in _WITHOUT_BODY:
                # One byte of a body would be read as the next answer on this connection.
                self.end_headers()
                return
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            # As it comes: a pull is a stream. A client that has left ends it with an error.
            while part := answer.read1(65536):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Write no log: tests look at `calls`."""
