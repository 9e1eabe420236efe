"""What is known of one Ollama server at one moment. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from crd.names import ModelName
from ollama_op.ollama.wire import Entry, Listing, Loaded

_NOTHING: Final[Mapping[ModelName, Any]] = {}

TAGS, PS = "/api/tags", "/api/ps"  # whose entries are counted in `unreadable`


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one look has found. What was not asked, or not answered, is None."""

    models: Mapping[ModelName, Entry]
    outage: str | None = None  # why the server cannot be asked; None while it answers
    is_foreign: bool = False  # in an outage: something answers, and it is not Ollama
    memory: Mapping[ModelName, Loaded] | None = None
    version: str | None = None
    # Why `memory` has not been known for so long that nothing can be said of it any more.
    memory_problem: str | None = None
    # What the server has, though its entry in the list cannot be read: why not.
    unread: Mapping[ModelName, str] = field(default_factory=dict)
    perhaps: frozenset[ModelName] = frozenset()  # what it may have: an entry has no name
    nameless: int = 0  # entries without a name
    unreadable: Mapping[str, int] = field(default_factory=dict)  # entries, by endpoint


def perhaps_there(before: Snapshot, found: Listing[Entry]) -> frozenset[ModelName]:
    """Return the models that left the list as an entry without a name came: it may be theirs."""
    if found.nameless > before.nameless:
        missing = {*before.models, *before.unread, *before.perhaps}
    else:
        missing = {*before.perhaps} if found.nameless else set()
    return frozenset(missing - found.keys() - found.unread.keys())


def under_all_names(
    running: Mapping[ModelName, Loaded], models: Mapping[ModelName, Entry]
) -> Mapping[ModelName, Loaded]:
    """Add the other names of what is in memory: Ollama lists a model there only once."""
    loaded = {each.digest: each for each in running.values() if each.digest}
    others = {name: loaded[e.digest] for name, e in models.items() if e.digest in loaded}
    return others | dict(running)


def changed(before: Snapshot, now: Snapshot) -> Collection[ModelName]:
    """Return the models of which two snapshots do not say the same."""
    found: set[ModelName] = {*(before.perhaps ^ now.perhaps)}
    pairs = (
        (before.models, now.models),
        (before.unread, now.unread),
        (before.memory or _NOTHING, now.memory or _NOTHING),
    )
    for old, new in pairs:
        if old is not new:
            found |= old.keys() ^ new.keys()
            found.update(name for name, one in new.items() if old.get(name) != one)
    return found


def knows_memory(snapshot: Snapshot) -> tuple[bool, bool]:
    """Return whether what is in memory is known, and whether it has been unknown for too long."""
    return snapshot.memory is not None, snapshot.memory_problem is not None
