"""Whose turn it is in memory: of models that do not fit there together, the one pushed out yields.

Loaded again at once, it would push out the other, and be pushed out again, for ever. So it waits,
longer each time, and staying for a while between two waits changes nothing about that: only a long
stay does. The first time that a model is out too early may be a person who unloaded it, and it is
loaded again at once; unless another model that is kept in memory has taken its place.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from crd.names import ModelName
from ollama_op.base.errors import LoadFailed
from ollama_op.ollama.wire import Loaded

PAUSES_S: Final = (300.0, 600.0, 1200.0, 1800.0)  # the last one from then on
STEADY_S: Final = 3600.0  # a stay as long as this is none that was too short
NAMED: Final = 3  # others in a message


@dataclass
class _Stay:
    """How a model came into memory, and what became of it."""

    since_s: float
    until_s: float  # when it leaves by itself; infinite for never
    beside: Collection[ModelName]  # in memory with it at its beginning
    is_over: bool = False
    too_short: int = 0  # stays in a row, this one included
    due_s: float = -math.inf  # when it may come back
    rivals: list[ModelName] = field(default_factory=list)  # that came since, when it was out


class Turns:
    """Remembers who came into memory when. Times are those of the event loop, in seconds."""

    def __init__(self) -> None:
        self._stays: dict[ModelName, _Stay] = {}

    def forget(self, name: ModelName) -> None:
        """Forget a model that nobody wants to keep in memory any more."""
        self._stays.pop(name, None)

    def left(self, name: ModelName) -> None:
        """Record that a model is taken out of memory on purpose, and may come back at once."""
        if stay := self._stays.get(name):
            stay.is_over = True

    def came(
        self, name: ModelName, keep_alive_s: float, memory: Mapping[ModelName, Loaded], now_s: float
    ) -> None:
        """Record that a model was loaded, or for longer, and what is in memory since."""
        stay = self._stays.get(name)
        if stay is None or stay.is_over:
            before = 0 if stay is None else stay.too_short
            # One that is out again at once was pushed out by what is there.
            others = frozenset(memory) - {name} if name in memory else frozenset[ModelName]()
            self._stays[name] = stay = _Stay(now_s, math.inf, others, too_short=before)
        stay.until_s = now_s + keep_alive_s

    def check(self, name: ModelName, memory: Mapping[ModelName, Loaded], now_s: float) -> None:
        """Raise LoadFailed if it is not this model's turn, with how long it has to wait."""
        stay = self._stays.get(name)
        if stay is None or name in memory:
            return
        if not stay.is_over:
            self._end(stay, memory, now_s)
        if now_s < stay.due_s:
            raise _yielding(name, stay, now_s)

    def _end(self, stay: _Stay, memory: Mapping[ModelName, Loaded], now_s: float) -> None:
        stay.is_over = True
        stay.rivals = sorted(memory.keys() - stay.beside, key=str)
        if now_s - stay.since_s >= STEADY_S:
            stay.too_short = 0
        if not stay.rivals and now_s >= stay.until_s:
            return  # its time was over
        stay.too_short += 1
        if stay.too_short > 1 or any(self._is_kept(rival) for rival in stay.rivals):
            stay.due_s = now_s + PAUSES_S[min(stay.too_short, len(PAUSES_S)) - 1]

    def _is_kept(self, name: ModelName) -> bool:
        stay = self._stays.get(name)
        return stay is not None and not stay.is_over


def _yielding(name: ModelName, stay: _Stay, now_s: float) -> LoadFailed:
    others = ", ".join(map(str, stay.rivals[:NAMED])) or "nothing else"
    return LoadFailed(
        f"{name} was pushed out of memory; {others} came in",
        "if they do not fit there together, take keepAlive from one, or give Ollama more memory",
        patience_s=stay.due_s - now_s,
    )
