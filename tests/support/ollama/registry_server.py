"""The HTTP side of the model registry: its proxy, its answers, and how they fail."""

import contextlib
import json
import re
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from types import MappingProxyType
from typing import cast
from urllib.parse import urlsplit

from support.ollama.faults import Faults, FaultSwitch, Kind
from support.ollama.registry_content import Content, Exchange, digest_of

_PATH = re.compile(r"/v2/(?P<repo>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CHUNK_BYTES = 64 * 1024
_CHUNKS_A_SECOND = 20  # when the rate is limited: often enough to look steady
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Server(ThreadingTCPServer):
    """Listens on a free port; one thread for each connection."""

    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, host: str, content: Content, switch: FaultSwitch, identity: tuple[Path, Path]
    ) -> None:
        super().__init__((host, 0), _Handler)
        self.content = content
        self.switch = switch
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(*identity)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closing = False

    def serve(self) -> None:
        """Answer requests until closed."""
        self.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """Stop accepting, cut every connection and wait for its thread."""
        self.shutdown()
        with self._lock:
            self._closing = True
            for connection in self._open:
                _cut(connection)
        self.server_close()

    def track(self, connection: socket.socket) -> None:
        """Remember an open connection, so that `close` can cut it."""
        with self._lock:
            self._open.add(connection)
            if self._closing:
                _cut(connection)

    def untrack(self, connection: socket.socket) -> None:
        """Forget a connection that ends."""
        with self._lock:
            self._open.discard(connection)


class _Handler(BaseHTTPRequestHandler):
    """One connection: plain, or TLS from CONNECT on."""

    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.track(self.connection)

    def handle(self) -> None:
        # The client may leave whenever it likes; Ollama does so after each look at a blob.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle()

    def finish(self) -> None:
        super().finish()
        self.server.untrack(self.connection)
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Write no log: the exchanges are one."""

    def do_CONNECT(self) -> None:
        """Be the proxy and the host behind it: end TLS here and answer what comes next."""
        self._record()
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.server.untrack(self.connection)
        self.rfile.close()
        self.request = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.setup()
        self.close_connection = False

    def do_GET(self) -> None:
        """Answer with a manifest, a blob, a token, or the fault that is in force."""
        exchange = self._record()
        faults = self.server.switch.of(exchange.repo)
        self.server.switch.pause(faults.delay)
        if faults.unreachable:
            self.close_connection = True
        elif urlsplit(self.path).path == "/token":
            self._answer(exchange, 200, b'{"token":"for-tests"}')
        elif faults.auth and self._lacks_token(exchange):
            self._ask_for_token(exchange)
        elif exchange.kind and exchange.kind in faults.status:
            self._answer(exchange, faults.status[exchange.kind], faults.body.encode())
        elif exchange.kind == "blobs":
            self._blob(exchange)
        else:
            self._manifest(exchange)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _record(self) -> Exchange:
        path = urlsplit(self.path).path
        exchange = Exchange(
            method=self.command,
            host=self.headers.get("Host", ""),
            path=path,
            range=self.headers.get("Range"),
        )
        if found := _PATH.fullmatch(path):
            exchange.repo, exchange.kind = found["repo"], cast("Kind", found["kind"])
        self.server.content.exchanges.append(exchange)
        return exchange

    def _lacks_token(self, exchange: Exchange) -> bool:
        # Parts of a blob need none: real registries send to a signed link for them, and Ollama
        # fetches them without a token.
        token = self.headers.get("Authorization", "").startswith("Bearer ")
        return not token and exchange.range is None

    def _ask_for_token(self, exchange: Exchange) -> None:
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        challenge = (
            f'Bearer realm="{scheme}://{exchange.host}/token",service="registry",'
            f'scope="repository:{exchange.repo}:pull"'
        )
        self._answer(exchange, 401, b"", {"WWW-Authenticate": challenge})

    def _manifest(self, exchange: Exchange) -> None:
        body = self.server.content.manifest(exchange.repo, exchange.path.rpartition("/")[2])
        if body is None:
            self._unknown(exchange, "MANIFEST_UNKNOWN")
        else:
            headers = {"Content-Type": _MANIFEST, "Docker-Content-Digest": digest_of(body)}
            self._answer(exchange, 200, body, headers)

    def _blob(self, exchange: Exchange) -> None:
        """Answer with a whole blob, or with a part of it and the faults that concern data.

        Ollama asks for the whole first, reads only where that answer says the blob is, and then
        fetches it in parts.
        """
        data = self.server.content.blobs.get(exchange.path.rpartition("/")[2])
        if data is None:
            self._unknown(exchange, "BLOB_UNKNOWN")
        elif asked := _RANGE.fullmatch(exchange.range or ""):
            first = int(asked[1])
            last = min(int(asked[2] or len(data)), len(data) - 1)
            span = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
            self._begin(exchange, 206, last + 1 - first, span)
            self._send_part(exchange, memoryview(data)[: last + 1], first)
        else:
            place = {} if self.server.switch.of(exchange.repo).in_place else {"Location": self.path}
            self._answer(exchange, 200, data, place | {"Accept-Ranges": "bytes"})

    def _send_part(self, exchange: Exchange, data: memoryview, first: int) -> None:
        """Send `data` from `first` on, at the pace that the faults allow just then."""
        switch, at = self.server.switch, first
        while at < len(data):
            faults = switch.of(exchange.repo)
            if faults.stalls(at):
                switch.hold(exchange.repo, at, self._client_left)
                if self._client_left():
                    break
                continue
            if faults.drop_after is not None and at - first >= faults.drop_after:
                break
            chunk = bytes(data[at : _chunk_end(at, len(data), faults, first)])
            self.wfile.write(bytes([chunk[0] ^ 1]) + chunk[1:] if faults.corrupt else chunk)
            at += len(chunk)
            exchange.sent_bytes += len(chunk)
            if faults.rate:
                switch.pause(len(chunk) / faults.rate)
        if at < len(data):
            self.close_connection = True

    def _client_left(self) -> bool:
        """Say whether the client has closed: it sends nothing while it waits for an answer."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable)

    def _unknown(self, exchange: Exchange, code: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": code.lower()}]})
        self._answer(exchange, 404, body.encode())

    def _answer(
        self,
        exchange: Exchange,
        status: int,
        body: bytes,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._begin(exchange, status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)
            exchange.sent_bytes = len(body)

    def _begin(
        self, exchange: Exchange, status: int, length: int, headers: Mapping[str, str]
    ) -> None:
        exchange.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _chunk_end(at: int, end: int, faults: Faults, first: int) -> int:
    """Say how far the next chunk goes: never past a point where a fault sets in."""
    length = max(1, faults.rate // _CHUNKS_A_SECOND) if faults.rate else _CHUNK_BYTES
    ends = [end, at + min(length, _CHUNK_BYTES)]
    if faults.stall_after is not None:
        ends.append(faults.stall_after)
    if faults.drop_after is not None:
        ends.append(first + faults.drop_after)
    return min(ends)


def _cut(connection: socket.socket) -> None:
    """End both directions of a connection, from any thread."""
    with contextlib.suppress(OSError):
        # Not SSLSocket's own shutdown(): it takes the TLS state from under the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
