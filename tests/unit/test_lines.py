import itertools
from collections.abc import Iterable
from typing import Self

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ollama_op.base.lines import LineTooLong, split_lines


class Chunks:
    """A stream that counts how often it was read; no generator, so that nothing needs closing."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.read = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.read += 1
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None


async def lines(chunks: list[bytes], *, limit: int = 1000) -> list[bytes]:
    return [line async for line in split_lines(Chunks(chunks), limit=limit)]


async def until_too_long(chunks: list[bytes], limit: int) -> tuple[list[bytes], bool]:
    """Return the lines that came, and whether the stream was given up."""
    came = []
    try:
        async for line in split_lines(Chunks(chunks), limit=limit):
            came.append(line)  # noqa: PERF401 - what came before the error counts
    except LineTooLong:
        return came, True
    return came, False


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut data at these places, wherever they are."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


PLACES = st.lists(st.integers(0, 200), max_size=12)


@given(st.lists(st.binary(max_size=12).filter(lambda b: b"\n" not in b)), PLACES)
def test_any_chunking_gives_the_same_lines(whole, places):
    """Where the network cuts the stream makes no difference to its lines."""
    data = b"".join(line + b"\n" for line in whole)
    came = trio.run(lines, cut(data, places))
    assert came == [line for line in whole if line.strip()]


@given(st.lists(st.sampled_from([b"a", b"bb", b"ccc", b"dddd", b"eeeeee"])), PLACES)
def test_any_chunking_meets_the_same_limit(whole, places):
    """A line is too long by its own length, whatever else came in the same chunk."""
    data = b"".join(line + b"\n" for line in whole)
    at_once = trio.run(until_too_long, whole_lines(whole), 3)
    assert trio.run(until_too_long, cut(data, places), 3) == at_once


def whole_lines(whole: list[bytes]) -> list[bytes]:
    """Make each line, and each line feed, a chunk of its own."""
    return [chunk for line in whole for chunk in (line, b"\n")]


@pytest.mark.parametrize("odd", ["\u0085", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\r"])
async def test_only_a_line_feed_ends_a_line(odd):
    """What else Python takes for a line's end is legal inside a JSON string."""
    line = f'{{"note":"a{odd}b"}}'.encode()
    assert await lines([line + b"\n"]) == [line]


async def test_a_line_without_its_end_is_dropped():
    """A stream cut in mid-line has not said that line."""
    assert await lines([b"one\ntw", b"o"]) == [b"one"]


async def test_blank_lines_are_skipped():
    """Keep-alive line feeds are no news."""
    assert await lines([b"\n\r\none\n", b"\n \n", b"two\n"]) == [b"one", b"two"]


async def test_a_line_may_be_as_long_as_the_limit():
    """The limit is the last length that passes."""
    assert await lines([b"x" * 9, b"x\n"], limit=10) == [b"x" * 10]


async def test_a_line_that_never_ends_is_given_up():
    """Memory is bounded: the error comes with the chunk that passes the limit, not at the end."""
    endless = Chunks(itertools.repeat(b"x" * 10))
    with pytest.raises(LineTooLong, match="more than 100 bytes"):
        await anext(split_lines(endless, limit=100))
    assert endless.read == 11
