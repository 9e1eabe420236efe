"""What `kubectl get` prints: a `meta.k8s.io/v1 Table`, computed from a resource's columns."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import jsonpath

from ollama_op.base.json import Object
from ollama_op.sandbox.kube.resources import APIResource, Column

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY
_NAME = {"name": "Name", "type": "string", "format": "name", "priority": 0, "description": ""}


def table(
    resource: APIResource,
    objects: Sequence[Object],
    *,
    now: datetime,
    include: str = "Metadata",
    metadata: Object | None = None,
    headed: bool = True,
) -> Object:
    """Make a table with one row per object (in stored form).

    `include` is the query parameter includeObject: Object, Metadata or None.
    """
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata or {},
        "columnDefinitions": _definitions(resource) if headed else None,
        "rows": [_row(resource, obj, now, include) for obj in objects],
    }


def _definitions(resource: APIResource) -> list[Object]:
    columns = [
        {
            "name": column.name,
            "type": column.type,
            "format": "",
            "priority": column.priority,
            "description": column.description,
        }
        for column in resource.columns
    ]
    return [_NAME, *columns]


def _row(resource: APIResource, obj: Object, now: datetime, include: str) -> Object:
    cells = [_cell(column, obj, now) for column in resource.columns]
    row: Object = {"cells": [obj["metadata"].get("name", ""), *cells]}
    if include == "Object":
        row["object"] = resource.shown(obj)
    elif include == "Metadata":
        meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        row["object"] = {**meta, "metadata": obj["metadata"]}
    return row


def _cell(column: Column, obj: Object, now: datetime) -> Any:
    found = _path(column.path).findall(obj)
    if not found:
        return None
    match column.type, found[0]:
        case "date", str() as text:
            return age(text, now)
        case "integer", int() | float() as value:
            return int(value)
        case ("string", str()) | ("boolean", bool()) | ("number", int() | float()):
            return found[0]
        case _:
            return None


@cache
def _path(path: str) -> jsonpath.JSONPath | jsonpath.CompoundJSONPath:
    return jsonpath.compile(f"${path}")


def age(text: str, now: datetime) -> str:
    """Write the time since a timestamp as kubectl does: 5s, 3m20s, 4h, 12d, 2y."""
    try:
        seconds = int((now - datetime.fromisoformat(text)).total_seconds())
    except (ValueError, TypeError):
        return "<invalid>"
    if seconds < 0:
        return "0s" if seconds >= -2 else "<invalid>"  # noqa: PLR2004  clocks differ a little
    for below, unit, symbol, rest_unit, rest_symbol in _STEPS:
        if seconds < below:
            whole, rest = divmod(seconds, unit)
            rest //= rest_unit
            tail = f"{rest}{rest_symbol}" if rest_symbol and rest else ""
            return f"{whole}{symbol}{tail}"
    return f"{seconds // _YEAR}y"


# Up to this age: so many of a unit, and of a smaller one where it is still worth showing.
_STEPS = (
    (2 * _MINUTE, 1, "s", 1, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 1, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 1, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 1, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)
