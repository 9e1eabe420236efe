"""All Ollama servers that models are placed on. Today there is one."""

from collections.abc import Iterator, Mapping

from crd.markers import Marker
from crd.placement import Placement, ServerRef
from ollama_op.ollama.wire import Entry
from ollama_op.server.instance import Instance


class Servers:
    """The servers by their ref."""

    def __init__(self, by_ref: Mapping[ServerRef, Instance]) -> None:
        self._by_ref = dict(by_ref)

    def __getitem__(self, ref: ServerRef) -> Instance:
        """Return the server that `ref` names. Raises: KeyError."""
        return self._by_ref[ref]

    def __iter__(self) -> Iterator[Instance]:
        """Go through the servers."""
        return iter(self._by_ref.values())

    def items(self) -> Iterator[tuple[ServerRef, Instance]]:
        """Go through the servers with their refs."""
        return iter(self._by_ref.items())

    async def close(self) -> None:
        """Begin no more deletions on any server, and wait for those under way."""
        for server in self:
            await server.close()

    def listed(self) -> Mapping[Placement, Entry] | None:
        """Return what the newest lists have; None unless each server has one that can be trusted.

        Without what is kept for a grace: it is no model of its own, and goes by itself.
        """
        found = dict[Placement, Entry]()
        for ref, server in self.items():
            monitor = server.monitor
            if not monitor.looked.is_set() or monitor.outage is not None:
                return None
            for name, entry in monitor.now.models.items():
                if Marker.read(name) is None:
                    found[Placement(ref, name)] = entry
        return found
