"""A proxy that connects to wherever it is asked to, and remembers where that was."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Tunnel(BaseHTTPRequestHandler):
    """Answers CONNECT, and notes to where."""

    def do_CONNECT(self) -> None:
        """Carry bytes until one side ends."""
        host, _, port = self.path.rpartition(":")
        self.server.asked.append(self.path)
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            while True:
                ready, _, _ = select.select([self.connection, there], [], [], 60)
                for each in ready:
                    data = each.recv(1 << 16)
                    if not data:
                        return
                    (there if each is self.connection else self.connection).sendall(data)
                if not ready:
                    return

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the library names it
        """Say nothing."""


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """Run a proxy; yields its address, and to where it was asked to connect."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Tunnel) as server:
        server.asked, server.daemon_threads = [], True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", server.asked
        server.shutdown()
