"""The stream of a pull: one step a line, until Ollama says success."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from http import HTTPStatus

import anyio
import httpx
import msgspec

from crd.names import ModelName
from crd.v1alpha1 import UNREADABLE
from ollama_op.base.errors import ProtocolError, Refused
from ollama_op.base.lines import LineTooLong, split_lines
from ollama_op.base.trouble import Unanswered, explained
from ollama_op.ollama.answers import foreign, refusal
from ollama_op.ollama.pull_errors import pull_failed
from ollama_op.ollama.wire import Step

DRAIN_S = 1.0  # what a stream gets to end after its last line
LINE_LIMIT = 1 << 20  # bytes; a line of a pull has about a hundred

_step = msgspec.json.Decoder(Step)


async def expect_stream(answer: httpx.Response, name: ModelName) -> None:
    """Read why there is no stream, if there is none: Ollama refuses only a bad request before it.

    Raises: NotOllama, Refused, PullFailed.
    """
    if answer.status_code == HTTPStatus.OK:
        return
    await answer.aread()
    no = refusal(answer)
    if isinstance(no, Refused) and no.status == HTTPStatus.BAD_REQUEST:
        raise pull_failed(no.words, name)
    raise no


async def read_steps(
    answer: httpx.Response, name: ModelName, took: Callable[[Step], None]
) -> AsyncGenerator[Step]:
    """Yield the steps of a pull; hand each to `took` first.

    Raises: NotOllama, ProtocolError, or the PullFailed that fits Ollama's words.
    """
    is_ollamas = False
    try:
        async with aclosing(split_lines(answer.aiter_bytes(), limit=LINE_LIMIT)) as lines:
            async for line in lines:
                step = _read(line, answer)
                is_ollamas = True
                if step.error:
                    raise pull_failed(step.error, name)
                took(step)
                yield step
                if step.status == "success":
                    await _drain(lines)
                    return
    except LineTooLong as error:
        raise ProtocolError(f"Ollama's answer to a pull has {error}") from error
    if not is_ollamas:
        raise foreign(answer, b"")
    raise ProtocolError(f"The pull of {name} ended without success")


def _read(line: bytes, answer: httpx.Response) -> Step:
    try:
        step = _step.decode(line)
    except UNREADABLE as error:
        raise foreign(answer, line) from error
    if not (step.status or step.error):
        raise foreign(answer, line)
    return step


async def _drain(lines: AsyncGenerator[bytes]) -> None:
    """Read to the end, which leaves the connection fit for another call; nothing else counts."""
    with anyio.move_on_after(DRAIN_S), suppress(Unanswered, LineTooLong), explained():
        async for _ in lines:
            pass
