"""Ollama's lists of models, read entry by entry.

An entry that cannot be read is left out, and costs no other model anything. Nor is its own model
absent for that: while its name can be read, the list is known to have it. Only an answer that is no
list at all, or one without a single name, says nothing.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from crd.names import InvalidNameError, ModelName
from crd.v1alpha1 import UNREADABLE
from ollama_op.base.errors import sanitise
from ollama_op.ollama.wire import LARGEST, Details, Entry, Listing, Loaded, T

FAR_AHEAD: Final = datetime(9000, 1, 1, tzinfo=UTC)  # Ollama's "for ever" is before it
UNSET_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)  # what is before it is Go's zero: no time


class _InMemory(msgspec.Struct):
    name: str
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] = UNSET_TIME
    digest: str = ""


class _Tags(msgspec.Struct):
    models: list[Entry] | None


class _Running(msgspec.Struct):
    models: list[_InMemory] | None


class _Untyped(msgspec.Struct):
    models: list[msgspec.Raw] | UnsetType | None = UNSET


_tags = msgspec.json.Decoder(_Tags)
_running = msgspec.json.Decoder(_Running)
_untyped = msgspec.json.Decoder(_Untyped)


def read_models(raw: bytes) -> Listing[Entry]:
    """Read the answer of `/api/tags`.

    Raises: one of UNREADABLE if it is no list, or no entry of it has a name.
    """
    try:
        found: Iterable[Entry] = _tags.decode(raw).models or ()
    except UNREADABLE:
        return _collect(_read_entry(thing) for thing in _things(raw))
    return _collect((entry.name, entry, None) for entry in found)


def read_running(raw: bytes, skew: timedelta) -> Listing[Loaded]:
    """Read the answer of `/api/ps` from a server whose clock is `skew` behind ours.

    Raises: one of UNREADABLE if it is no list, or no entry of it has a name.
    """
    try:
        found: Iterable[_InMemory] = _running.decode(raw).models or ()
    except UNREADABLE:
        return _collect(_read_loaded(thing, skew) for thing in _things(raw))
    return _collect((one.name, _loaded(one.expires_at, skew, one.digest), None) for one in found)


def _things(raw: bytes) -> list[Any]:
    """Return the entries of a list, whatever they are; None for one that is no JSON.

    Raises: one of UNREADABLE.
    """
    entries = _untyped.decode(raw).models
    if entries is UNSET:
        raise msgspec.ValidationError("no list of models")
    return [_thing(entry) for entry in entries or ()]


def _thing(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE:
        return None


_Read = tuple[str | None, T | None, str | None]  # name, entry, what is wrong with it


def _collect(found: Iterable[_Read[T]]) -> Listing[T]:
    entries: dict[ModelName, T] = {}
    unread: dict[ModelName, str] = {}
    problems: list[str] = []
    nameless = named = 0
    for text, entry, problem in found:
        if text is None:
            nameless += 1
        else:
            named += 1
        if wrong := _sort(text, entry, problem, entries, unread):
            problems.append(f"{_shown(text)}: {wrong}")
    if nameless and not named:
        raise msgspec.ValidationError("no entry has a name")
    for name in unread.keys() & entries.keys():
        del unread[name]  # listed twice, and once it can be read
    return Listing(entries, unread, tuple(problems), nameless)


def _sort(
    text: str | None,
    entry: T | None,
    problem: str | None,
    entries: dict[ModelName, T],
    unread: dict[ModelName, str],
) -> str | None:
    """Put an entry where it belongs; return what is wrong with it."""
    name = None if text is None else _parse(text)
    if name is None:  # whatever its name is, it is none that an object can have
        return problem if text is None else "that is no name of a model"
    if entry is None:
        unread[name] = problem or ""
    elif (first := entries.setdefault(name, entry)).digest != entry.digest:
        return f"it is listed twice; the digest {first.digest} counts"
    return problem


def _shown(name: str | None) -> str:
    return "an entry" if name is None else sanitise(name)


def _name_in(thing: dict[str, Any]) -> str | None:
    """Return the name of an entry; Ollama writes it twice."""
    names = (thing.get("name"), thing.get("model"))
    return next((name for name in names if isinstance(name, str) and name), None)


def _read_entry(thing: Any) -> _Read[Entry]:
    name = _name_in(thing) if isinstance(thing, dict) else None
    if name is None:
        return None, None, "it has no name"
    digest, size = thing.get("digest"), thing.get("size")
    if not isinstance(digest, str) or not digest:
        return name, None, "it has no digest that can be read"
    if type(size) is not int or not 0 <= size <= LARGEST:
        return name, None, "it has no size that can be read"
    host = thing.get("remote_host")
    details, problem = None, None
    try:
        details = msgspec.convert(thing.get("details"), Details | None)
    except msgspec.ValidationError:
        problem = "its details cannot be read"
    remote_host = host if isinstance(host, str) else ""
    return name, Entry(name, digest, size, details, remote_host), problem


def _read_loaded(thing: Any, skew: timedelta) -> _Read[Loaded]:
    name = _name_in(thing) if isinstance(thing, dict) else None
    if name is None:
        return None, None, "it has no name"
    digest = thing.get("digest")
    try:
        one = msgspec.convert({"digest": ""} | thing | {"name": name}, _InMemory)
    except msgspec.ValidationError:
        # It is in memory, whatever else is true of it: better never loaded again than all the time.
        digest = digest if isinstance(digest, str) else ""
        return name, _loaded(FAR_AHEAD, skew, digest), "its times cannot be read"
    return name, _loaded(one.expires_at, skew, one.digest), None


def _loaded(expires_at: datetime, skew: timedelta, digest: str) -> Loaded:
    return Loaded(min(max(expires_at, UNSET_TIME), FAR_AHEAD) + skew, digest)


@lru_cache(maxsize=100_000)  # the same names come with every list
def _parse(text: str) -> ModelName | None:
    try:
        return ModelName.parse(text)
    except InvalidNameError:
        return None
