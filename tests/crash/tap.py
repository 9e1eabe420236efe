"""A tap on the operator's lines to Kubernetes and to Ollama: it notes each write, and spoils one.

It stands before the applications, so the operator's own clients talk to it as they would to a
server. Reads pass, and what users do goes around it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import anyio
import msgspec

from crash.writes import Mishap, Point, Step, Write, is_event, is_watch, is_write
from ollama_op.base.asgi import App, Message, Receive, Send
from ollama_op.sandbox.http import SandboxRequest, answer, chunk, read_request
from ollama_op.sandbox.ollama.server import OllamaSandbox

LATE_S = 1.0
RUNAWAY = 300  # writes: an operator that sends more in one story would never stop
SUCCESS = b'"success"'  # in the last line of a pull
IN_PULL = "max retries exceeded: unexpected status code 503"  # how a pull says so

Act = Callable[[], Awaitable[None]]


class Witness:
    """Who looks at the writes; by default, nobody does."""

    def sent(self, write: Write) -> None:
        """See a write as the operator sends it."""

    def arrives(self, write: Write) -> None:
        """See a write right before its server carries it out."""

    def lands(self, write: Write) -> None:
        """See what a write has done, at the moment when that is done."""


async def nobody() -> None:
    """Do nothing."""


@dataclass
class Tap:
    """Both lines of one operator after another.

    `kill` ends the operator of the moment. Until `revive()` nothing gets out that it still tries.
    """

    point: Point
    witness: Witness = field(default_factory=Witness)
    kill: Callable[[], None] = lambda: None
    somebody: Act = nobody  # who acts when the point says so
    armed: bool = False  # whether writes are noted, and spoiled
    struck: bool = False  # whether the point was reached
    writes: list[Write] = field(default_factory=list)
    events: int = 0
    bugs: list[str] = field(default_factory=list)
    death: anyio.Event = field(default_factory=anyio.Event)

    @property
    def is_spent(self) -> bool:
        """Whether there were so many writes that there is no end to be expected."""
        return len(self.writes) > RUNAWAY

    def die(self) -> None:
        """Kill the operator."""
        self.struck = True
        self.death.set()
        self.kill()

    def revive(self) -> None:
        """Let a new operator through."""
        self.death = anyio.Event()

    def through(self, app: App) -> App:
        """Return the application with the tap before it."""

        async def tapped(scope: Message, receive: Receive, send: Send) -> None:
            request = await read_request(scope, receive)
            if self.death.is_set():
                raise ConnectionResetError("the operator is dead")
            line = _Line(app, scope, _again(request, receive), send, self.witness)
            is_down = isinstance(app, OllamaSandbox) and app.is_down
            try:
                if is_write(request) and not is_down:  # who is not there gets no write
                    await self._write(line, Write(request))
                elif self.armed and is_event(request):
                    await self._event(line)
                else:
                    await self._read(
                        line, Mishap.LATE_NEWS if is_watch(request) else Mishap.LATE_ANSWERS
                    )
            except ConnectionError:
                raise
            except Exception as error:  # the operator would take it for bad luck
                self.bugs.append(f"a bug in the tap, or behind it: {error!r}")
                raise

        return tapped

    async def _read(self, line: "_Line", late: Mishap) -> None:
        is_late = self.point.mishap is late
        self.struck = self.struck or is_late
        await line.pass_on(after_s=LATE_S if is_late else 0)

    async def _event(self, line: "_Line") -> None:
        self.events += 1
        if self.point.mishap is Mishap.NO_EVENTS:
            self.struck = True
            await line.refuse(503)
        else:
            await line.pass_on()

    async def _write(self, line: "_Line", write: Write) -> None:
        self.witness.sent(write)
        if not self.armed:
            await line.carry_out(write)
            return
        self.writes.append(write)
        if self.is_spent:
            self.die()
            raise ConnectionResetError("too many writes")
        if self._is_the_one(write):
            self.struck = True
            await self._spoil(line, write)
        else:
            await line.carry_out(write)

    def _is_the_one(self, write: Write) -> bool:
        """Return True if this newest write is to be spoiled."""
        if self.point.mishap is Mishap.LATE_ANSWERS:
            return True
        if self.point.mishap is Mishap.DIE_AFTER_EACH:
            return str(write) not in map(str, self.writes[:-1])
        return self.point.write == len(self.writes) - 1

    async def _spoil(self, line: "_Line", write: Write) -> None:
        point, then = self.point, nobody
        match point.mishap:
            case Mishap.DIE_BEFORE:
                self.die()
                raise ConnectionResetError("the operator died")
            case Mishap.CONFLICT:
                await line.refuse(409)
                return
            case Mishap.UNAVAILABLE if point.line is None:
                await line.refuse(503)
                return
            case Mishap.UNAVAILABLE:
                then = line.fail
            case Mishap.DIE_AFTER | Mishap.DIE_AFTER_EACH:
                then = partial(self._die_after, line)
            case Mishap.LOST:
                then = line.cut
            case Mishap.SILENCE:
                then = line.mute
            case Mishap.LATE_ANSWERS:
                then = partial(anyio.sleep, LATE_S)
            case _ if point.meanwhile is Step.BEFORE:
                await self.somebody()
            case _:
                then = self.somebody
        await line.carry_out(write, point.line, then)

    async def _die_after(self, line: "_Line") -> None:
        self.die()
        await line.cut()


@dataclass
class _Line:
    """One request on its way to its server, and the answer on its way back."""

    app: App
    scope: Message
    receive: Receive
    send: Send
    witness: Witness
    _server: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _is_cut: bool = False
    _is_mute: bool = False

    async def pass_on(self, *, after_s: float = 0) -> None:
        """Let the server answer, and each word of it wait so long."""

        async def back(message: Message) -> None:
            await anyio.sleep(after_s)
            await self.send(message)

        await self.app(self.scope, self.receive, back if after_s else self.send)

    async def refuse(self, code: int) -> None:
        """Answer in the server's place, in words that are both Kubernetes' and Ollama's."""
        body = {"kind": "Status", "message": "not now", "code": code, "error": "not now"}
        await answer(self.send, code, body)

    async def carry_out(self, write: Write, upto: int | None = None, then: Act = nobody) -> None:
        """Let the server do it, and call `then` once it is done, before the answer goes out.

        In the stream of a pull that is after `upto` lines, by default before the one that says
        success.
        """
        waiting = then is not nobody

        async def back(message: Message) -> None:
            nonlocal waiting
            body = message.get("body", b"")
            if message["type"] == "http.response.start":
                if message["status"] < 300:
                    self.witness.lands(write)
                is_done = not write.is_pull
            else:
                is_done = SUCCESS in body if upto is None else write.lines >= upto
            if waiting and is_done:
                waiting = False
                await then()
            write.lines += body.count(b"\n")
            if not self._is_mute:
                await self.send(message)

        self.witness.arrives(write)
        with self._server:
            await self.app(self.scope, self.receive, back)
        if self._is_cut:
            raise ConnectionResetError("cut by the tap")
        if self._is_mute:
            await anyio.sleep_forever()

    async def cut(self) -> None:
        """Break the connection."""
        self._is_cut = True
        await self._hang_up()

    async def mute(self) -> None:
        """Let nothing more be heard of the server, which goes on."""
        self._is_mute = True

    async def fail(self) -> None:
        """End a pull with an error, as Ollama does: in a last line."""
        await chunk(self.send, msgspec.json.encode({"error": IN_PULL}) + b"\n")
        await self._hang_up()

    async def _hang_up(self) -> None:
        self._server.cancel()
        await anyio.sleep_forever()  # that is, until the cancellation reaches the server


def _again(request: SandboxRequest, receive: Receive) -> Receive:
    """Give a request that was read already to somebody else."""
    body: bytes | None = request.body

    async def receive_again() -> Message:
        nonlocal body
        if body is None:
            return await receive()
        body, taken = None, body
        return {"type": "http.request", "body": taken, "more_body": False}

    return receive_again
