"""Tells of fields that are written and do not stay: the CRD in the cluster does not know them."""

import re
from collections.abc import Iterable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

# As the API server warns of them, in a header.
UNKNOWN: Final = re.compile(r'unknown field \\?"([\w.\[\]]+)')


class Lost:
    """Says once of each field that it is lost."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def mind(self, warnings: Iterable[str]) -> None:
        """Look through what the API server warns of."""
        found = {field for text in warnings for field in UNKNOWN.findall(text)} - self._told
        if found:
            self._told |= found
            log.warning(
                "the CRD in the cluster is older than this operator: not all of a status is kept",
                fields=", ".join(sorted(found)),
                hint="kubectl apply -k config/crd",
            )
