"""All models, ready to be sent: each is put into JSON once per change, however often it is read.

The view listens to the operator's store and keeps one Entry per object, in the order in which a
list shows them. The list of all is joined from those and kept until something changes.
"""

import base64
import binascii
import hashlib
import re
import secrets
from bisect import bisect_right, insort
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from zlib import crc32

import msgspec

from api.bodies import Model, describe
from api.problems import invalid_field
from crd.model import OllamaModel
from crd.v1alpha1 import State
from ollama_op.base.asgi import JSON, REVALIDATE, Answer

ViewKey = tuple[str, str]
"""Namespace and name."""

_CODING = re.compile(rb'[-;+](?:gzip|br|deflate|zstd)"$')  # which a proxy adds to a tag
MAX_CONTINUE = 1024  # characters of a `continue`; the longest that can be ours is shorter


class ViewEntry:
    """One object as it is sent."""

    __slots__ = ("body", "etag", "haystack", "key", "model", "state", "uid")

    def __init__(self, model: OllamaModel) -> None:
        meta = model.metadata
        said = describe(model)
        self.model, self.uid, self.key = model, meta.uid, (meta.namespace, meta.name)
        self.state: State = said.state
        self.body = msgspec.json.encode(said)
        self.haystack = _haystack(said)
        # A restored etcd gives a resourceVersion out again: what is sent has to be the same too.
        self.etag = f'"{meta.resource_version}.{crc32(self.body):08x}"'.encode()

    def answer(self, if_none_match: bytes = b"") -> Answer:
        """Answer with the model, unless the client has it already."""
        headers = ((b"etag", self.etag), REVALIDATE)
        if if_none_match and matches(if_none_match, self.etag):
            return Answer(304, headers=headers)
        return Answer(200, self.body, (JSON, *headers))


def matches(header: bytes, etag: bytes) -> bool:
    """Return True if an If-None-Match names this entity tag, also if a proxy has made it weak."""
    if header == etag:
        return True
    tags = [_CODING.sub(b'"', tag.strip().removeprefix(b"W/")) for tag in header.split(b",")]
    return etag in tags or tags == [b"*"]


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list is narrowed to. `namespaces` None is all of them."""

    namespaces: Collection[str] | None = None
    state: State | None = None
    text: str = ""

    def takes(self, entry: ViewEntry) -> bool:
        """Return True if an object is in the list."""
        return (
            (self.namespaces is None or entry.key[0] in self.namespaces)
            and (self.state is None or entry.state is self.state)
            and (not self.text or self.text in entry.haystack)
        )

    def mark(self) -> str:
        """Return a short text that differs for different filters."""
        spaces = None if self.namespaces is None else sorted(self.namespaces)
        raw = msgspec.json.encode([spaces, self.state, self.text])
        return hashlib.sha256(raw).hexdigest()[:12]


class View:
    """The newest version of every object. Tells `changed` and `gone` of what happens."""

    def __init__(self) -> None:
        self.changed: Callable[[ViewEntry], None] = lambda _entry: None
        self.gone: Callable[[ViewEntry], None] = lambda _entry: None
        self.epoch = secrets.token_hex(4)  # versions of another process mean something else
        self.version = 0
        self._by_uid: dict[str, ViewEntry] = {}
        self._by_key: dict[ViewKey, ViewEntry] = {}
        self._keys: list[ViewKey] = []  # sorted
        self._all: Answer | None = None
        self._etag = b""

    # --- what the store says

    def offer(self, key: str, item: OllamaModel) -> None:
        """Handle a new or changed object."""
        entry = ViewEntry(item)
        self._by_uid[key] = entry
        holder = self._by_key.get(entry.key)
        if holder is not None and holder.uid != key and not _is_later(entry, holder):
            return  # late news of an object whose name another one has by now
        if holder is None:
            insort(self._keys, entry.key)
        self._by_key[entry.key] = entry
        self._touch()
        self.changed(entry)

    def retire(self, key: str) -> None:
        """Forget an object, unless another one has its name by now."""
        entry = self._by_uid.pop(key, None)
        holder = None if entry is None else self._by_key.get(entry.key)
        if entry is None or holder is None or holder.uid != key:
            return
        del self._by_key[entry.key]
        del self._keys[bisect_right(self._keys, entry.key) - 1]
        self._touch()
        self.gone(entry)

    def _touch(self) -> None:
        self.version += 1
        self._all = None

    # --- what is read

    def get(self, key: ViewKey) -> ViewEntry | None:
        """Return the object of this namespace and name."""
        return self._by_key.get(key)

    def named(self, name: str) -> list[ViewEntry]:
        """Return the objects of this name, in whatever namespace. For explanations: it is slow."""
        return [entry for key, entry in self._by_key.items() if key[1] == name]

    def entries(self, wanted: Filter) -> list[ViewEntry]:
        """Return what is in a list, in its order."""
        return [entry for key in self._keys if wanted.takes(entry := self._by_key[key])]

    def models(self) -> list[OllamaModel]:
        """Return all objects."""
        return [entry.model for entry in self._by_key.values()]

    def all(self) -> Answer:
        """Return the list of all models."""
        if self._all is None:
            self._etag = f'"{self.epoch}-{self.version}"'.encode()
            body = joined([self._by_key[key] for key in self._keys])
            self._all = Answer(200, body, (JSON, (b"etag", self._etag), REVALIDATE))
        return self._all

    @property
    def etag(self) -> bytes:
        """The entity tag of the list of all models."""
        self.all()
        return self._etag

    def page(self, wanted: Filter, *, limit: int | None, after: ViewKey | None) -> list[ViewEntry]:
        """Return at most `limit` of the objects after `after`."""
        start = bisect_right(self._keys, after) if after else 0
        entries = (self._by_key[key] for key in islice(self._keys, start, None))
        return list(islice(filter(wanted.takes, entries), limit))


def _is_later(entry: ViewEntry, other: ViewEntry) -> bool:
    """Return True if an object was made after the other one of its name."""
    made = [each.model.metadata.creation_timestamp for each in (entry, other)]
    if made[0] is not None and made[1] is not None and made[0] != made[1]:
        return made[0] > made[1]
    going = [each.model.metadata.deletion_timestamp is not None for each in (entry, other)]
    return not going[0] or going[1]


def joined(entries: list[ViewEntry], token: str | None = None) -> bytes:
    """Write a list from what is written already."""
    tail = b"]" if token is None else b'],"continue":' + msgspec.json.encode(token)
    return b'{"items":[' + b",".join([entry.body for entry in entries]) + tail + b"}"


def token_for(entry: ViewEntry, wanted: Filter) -> str:
    """Return what asks for the objects after this one."""
    raw = msgspec.json.encode([*entry.key, wanted.mark()])
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def key_from(token: str, wanted: Filter) -> ViewKey:
    """Read a `continue`.

    Raises: Problem 422 for one that is not ours, or belongs to other filters.
    """
    try:
        padded = token[:MAX_CONTINUE] + "=" * (-len(token) % 4)
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
        namespace, name, mark = msgspec.json.decode(raw, type=tuple[str, str, str])
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        raise invalid_field("continue", "is not a value that a list has returned") from None
    if mark != wanted.mark():
        raise invalid_field("continue", "belongs to a list with other filters")
    return namespace, name


def _haystack(said: Model) -> str:
    return f"{said.name}\n{said.model_name}:{said.tag}\n{said.reason or ''}".lower()
