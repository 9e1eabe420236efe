"""Who may ask: keys by their SHA-256, what each may do, and a limit on wrong ones.

A key is compared with every known one in constant time, so the time that it takes says neither how
much of a key was right nor which one it was.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol


class KeyScope(StrEnum):
    """What a key is for. Who may write may read."""

    READ = "read"
    WRITE = "write"


READS: Final = frozenset({"get", "list", "watch"})


class Caller(Protocol):
    """The sender of a request."""

    @property
    def name(self) -> str:
        """For the log."""

    @property
    def sees_all(self) -> bool:
        """Return True if this caller may, without anybody being asked, read all models."""

    async def may(self, verb: str, namespace: str | None) -> bool:
        """Return True if the caller may do this. `verb` is Kubernetes'; None is all namespaces."""

    async def visible(self) -> Collection[str] | None:
        """Return the namespaces that a list without one is narrowed to; None for no limit."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, as a caller. `sha256` is the digest of the key itself."""

    name: str
    sha256: bytes
    writes: bool = True
    namespaces: frozenset[str] | None = None

    @property
    def sees_all(self) -> bool:
        """Return True if no namespace is out of its reach."""
        return self.namespaces is None

    async def may(self, verb: str, namespace: str | None) -> bool:
        """Return True if the key is for this verb and namespace."""
        here = self.namespaces is None or namespace in self.namespaces
        return here and (self.writes or verb in READS)

    async def visible(self) -> Collection[str] | None:
        """Return the key's namespaces."""
        return self.namespaces


ANYBODY: Final = Key("anybody", b"")  # where no key is asked for
NO_CALLER: Final = Key("nobody", b"", writes=False, namespaces=frozenset())  # outside of the API


class Keys:
    """The keys that are valid now; they may be replaced at any time."""

    def __init__(self, keys: Collection[Key] = ()) -> None:
        self.fixed: tuple[Key, ...] = tuple(keys)
        self.loaded: tuple[Key, ...] = ()

    def __bool__(self) -> bool:
        """Return True if there is any key."""
        return bool(self.fixed or self.loaded)

    def find(self, presented: bytes) -> Key | None:
        """Return the key that was presented, if it is one."""
        # The hash may be that of a file that ends with a line feed, which no header can have.
        digests = [sha256(presented + end).digest() for end in (b"", b"\n", b"\r\n")]
        found = None
        for key in (*self.fixed, *self.loaded):
            for digest in digests:
                if hmac.compare_digest(key.sha256, digest):
                    found = key  # and go on, so that each takes as long as any other
        return found


class Failures:
    """Counts the different wrong keys of an address, in windows of time. The table is bounded.

    One wrong key that comes again and again is no guess but a client that was not told of a new
    key, and must not lock out all who share its address.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        limit: int = 10,
        window_s: float = 60,
        addresses: int = 10_000,
    ) -> None:
        self._now, self._limit, self._window_s, self._addresses = now, limit, window_s, addresses
        self._table: OrderedDict[str, tuple[float, set[bytes]]] = OrderedDict()  # since when, what

    def __len__(self) -> int:
        """Count the addresses that are remembered."""
        return len(self._table)

    def wait_s(self, address: str) -> float:
        """Return for how long no key from this address is looked at; 0 if it is."""
        if not self._table or (entry := self._table.get(_network(address))) is None:
            return 0
        began, wrong = entry
        left_s = began + self._window_s - self._now()
        return max(left_s, 0) if len(wrong) >= self._limit else 0

    def note(self, address: str, presented: bytes) -> None:
        """Record a wrong key."""
        network, now = _network(address), self._now()
        began, wrong = self._table.pop(network, (now, set[bytes]()))
        if now - began >= self._window_s:
            began, wrong = now, set()
        wrong.add(sha256(presented).digest()[:8])
        self._table[network] = (began, wrong)
        if len(self._table) > self._addresses:
            self._table.popitem(last=False)  # the one that has failed least recently


def _network(address: str) -> str:
    """Return what one attacker has: an IPv4 address, or 2**64 of IPv6."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address) and not ip.ipv4_mapped:
        return str(int(ip) >> 64)
    return address
