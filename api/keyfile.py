"""Keys from a file, such as a mounted Secret: read at the start, and again whenever it changes.

    keys:
    - name: ci
      sha256: 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
      scopes: [read]
      namespaces: [ai]

YAML or JSON. `sha256` is what `printf %s "$KEY" | sha256sum` prints, or `sha256sum FILE` of a file
that ends with a line feed. Without `scopes` a key may read and write; without `namespaces`, in all
of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import anyio.to_thread
import msgspec
import structlog
import yaml
from msgspec import Meta

from api.access import Key, Keys, KeyScope
from api.bodies import NAMESPACE_PATTERN
from crd.form import ALIEN, complaint

log = structlog.get_logger(__name__)

POLL_S: Final = 2.0
MAX_BYTES: Final = 1 << 20  # what a Secret may have


class InvalidKeyFileError(ValueError):
    """The file has no keys that can be used. The message never repeats a value of it."""


_TAKES: Final = {"sha256": "is no SHA-256; write the 64 hex digits that `sha256sum` prints"}
_Namespace = Annotated[str, Meta(pattern=NAMESPACE_PATTERN)]


# Also as `sha256sum` prints it, with the name of its file behind it.
_SHA256: Final = r"^(sha256:)?[0-9A-Fa-f]{64}(\s+\*?\S*)?\s*$"


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    sha256: Annotated[str, Meta(pattern=_SHA256)]
    scopes: Annotated[list[KeyScope], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: [KeyScope.READ, KeyScope.WRITE]
    )
    namespaces: Annotated[list[_Namespace], Meta(min_length=1)] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: Annotated[list[_Key], Meta(min_length=1)]


def parse(text: bytes) -> tuple[Key, ...]:
    """Read the content of a key file.

    Raises: InvalidKeyFileError.
    """
    read: object = None
    try:
        read = yaml.safe_load(text)
        listed = msgspec.convert(read, _File).keys
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidKeyFileError(f"no YAML{f' (line {mark.line + 1})' if mark else ''}") from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidKeyFileError(_without_values(error, read)) from None
    except ValueError:
        raise InvalidKeyFileError("no YAML") from None
    names = [key.name for key in listed]
    if len(set(names)) < len(names):
        raise InvalidKeyFileError("two keys have the same name")
    return tuple(
        Key(
            name=key.name,
            sha256=bytes.fromhex(key.sha256.split()[0].removeprefix("sha256:")),
            writes=KeyScope.WRITE in key.scopes,
            namespaces=None if key.namespaces is None else frozenset(key.namespaces),
        )
        for key in listed
    )


def load(path: Path) -> tuple[Key, ...]:
    """Read a key file.

    Raises: InvalidKeyFileError.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidKeyFileError(error.strerror or "cannot be read") from None
    if len(text) > MAX_BYTES:
        raise InvalidKeyFileError("has more than 1 MiB")
    return parse(text)


async def follow(path: Path, keys: Keys, changed: Callable[[], None] = lambda: None) -> None:
    """Read each change of the file, for ever, and then call `changed`.

    One that cannot be used changes nothing.

    The file is told by its inode as well as its time: Kubernetes swaps a link when a Secret moves.
    """
    seen = None  # whatever `keys` was read from: that may be long ago
    while True:
        mark = await anyio.to_thread.run_sync(_mark, path)
        if mark != seen:
            seen = mark
            before = keys.loaded
            await reload(path, keys)
            if keys.loaded != before:
                changed()
        await anyio.sleep(POLL_S)


async def reload(path: Path, keys: Keys) -> None:
    """Read what the file has now; if that cannot be used, keep what was valid."""
    try:
        keys.loaded = await anyio.to_thread.run_sync(load, path)
    except InvalidKeyFileError as error:
        log.error("key file cannot be used, keeping the old keys", problem=str(error))  # noqa: TRY400 - the problem is said, no stack
    else:
        log.info("key file read", keys=len(keys.loaded))


def _mark(path: Path) -> Any:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _without_values(error: Exception, read: object) -> str:
    """Return what is wrong, and where, without repeating a key that was pasted as its hash."""
    where, problem = complaint(error, read, _File, secret=True)
    if problem == ALIEN:
        problem = _TAKES.get(where.rpartition(".")[2], "is no name of a namespace")
    return f"{where}: {problem}" if where else problem
