"""A wire to Ollama that remembers what was sent over it to change models, and when."""

import contextlib
import re
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Self

_CHANGE = re.compile(
    rb'(?:DELETE|POST) /api/(delete|pull) [^{]*\r\n\r\n\{[^}]*"model": ?"([^"]*)"[^}]*\}', re.DOTALL
)
_TAIL = 4096  # bytes in which a request that came in parts is found


@dataclass(frozen=True)
class Sent:
    """A request that changes a model."""

    at_s: float  # on this process's monotonic clock
    what: str  # `delete` or `pull`
    model: str


class Relay:
    """A TCP port on loopback, between `with` and its end, behind which is `port`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sent: list[Sent] = []
        self.answered: list[Sent] = []  # those of them whose answer reached who asked
        self.late_s = 0.0  # how long each answer is held back
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                try:
                    server = socket.create_connection(("127.0.0.1", self._port))
                except OSError:
                    client.close()
                    continue
                asked: deque[Sent] = deque()  # over this connection, and not answered yet
                for way in ((client, server, asked, True), (server, client, asked, False)):
                    threading.Thread(target=self._carry, args=way, daemon=True).start()

    def _carry(
        self,
        source: socket.socket,
        target: socket.socket,
        asked: deque[Sent],
        is_request: bool,  # noqa: FBT001 - threads pass by place
    ) -> None:
        tail = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_request:
                    tail = self._look(tail + data, asked)
                else:
                    time.sleep(self.late_s)
                target.sendall(data)
                if asked and not is_request:
                    self.answered.append(asked.popleft())
        # The end of one way is the end of both, as it is for a process that was killed.
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        if is_request:
            source.close()
            target.close()

    def _look(self, data: bytes, asked: deque[Sent]) -> bytes:
        end = 0
        for found in _CHANGE.finditer(data):
            what, model = (part.decode() for part in found.groups())
            self.sent.append(sent := Sent(time.monotonic(), what, model))
            asked.append(sent)
            end = found.end()
        return data[end:][-_TAIL:]
