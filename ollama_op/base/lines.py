"""Cut a byte stream into lines, at line feeds only.

The obvious `aiter_lines` splits as `str.splitlines` does, also at U+0085 and U+2028, which are
legal inside a JSON string: any tenant who puts one into an annotation would break the stream.
"""

from collections.abc import AsyncGenerator, AsyncIterable


class LineTooLong(Exception):
    """A line passed the limit; the rest of the stream cannot be trusted."""


async def split_lines(chunks: AsyncIterable[bytes], *, limit: int) -> AsyncGenerator[bytes]:
    """Yield the non-empty lines of a stream; a last line without its end is dropped.

    Raises: LineTooLong when a line has more than `limit` bytes.
    """
    parts: list[bytes] = []
    held = 0
    async for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        held += len(first)
        if held > limit:
            raise LineTooLong(f"a line of more than {limit} bytes")
        if not rest:
            continue
        *whole, last = (b"".join(parts), *rest)
        for line in whole:
            if len(line) > limit:
                raise LineTooLong(f"a line of more than {limit} bytes")
            if line.strip():
                yield line
        parts, held = [last], len(last)
