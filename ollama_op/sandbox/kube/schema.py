"""Prune, default and validate an object by the structural schema of its CRD.

This is the subset of OpenAPI that structural schemas use. CEL (`x-kubernetes-validations`) is not
evaluated, formats other than date-time are not checked, and patterns are read by Python's `re`
instead of Go's RE2. The sentences are those of kube-apiserver.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from ollama_op.base.json import Object
from ollama_op.sandbox.status import Cause

SchemaNode = dict[str, Any]

_TYPES: dict[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def prune(schema: SchemaNode, value: Any, path: str = "") -> tuple[Any, list[str]]:
    """Drop the fields that the schema does not know; return what is left and what was dropped."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return value, []
    dropped: list[str] = []
    if isinstance(value, list) and "items" in schema:
        pairs = [prune(schema["items"], v, f"{path}[{i}]") for i, v in enumerate(value)]
        return [v for v, _ in pairs], [name for _, names in pairs for name in names]
    if not isinstance(value, dict):
        return value, []
    kept: Object = {}
    for name, inner in value.items():
        at = f"{path}.{name}" if path else name
        below = _schema_of(schema, name)
        if below is None:
            dropped.append(at)
            continue
        kept[name], more = prune(below, inner, at)
        dropped += more
    return kept, dropped


def default(schema: SchemaNode, value: Any) -> Any:
    """Fill in the defaults. A null where none may be counts as absent."""
    if isinstance(value, list):
        return [default(schema["items"], v) for v in value] if "items" in schema else value
    if not isinstance(value, dict):
        return value
    nullable = {
        name for name, inner in schema.get("properties", {}).items() if inner.get("nullable")
    }
    filled = {k: v for k, v in value.items() if v is not None or k in nullable}
    for name, inner in schema.get("properties", {}).items():
        if name not in filled and "default" in inner:
            filled[name] = inner["default"]
    for name, inner in filled.items():
        below = _schema_of(schema, name)
        filled[name] = inner if below is None else default(below, inner)
    return filled


def check_schema(schema: SchemaNode, value: object, path: str) -> Iterator[Cause]:
    """Yield all that is wrong with a value."""
    if value is None and schema.get("nullable"):
        return
    kind = schema.get("type")
    if kind is not None and not _TYPES[kind](value):
        found = '"null"' if value is None else _quote(_type_of(value))
        message = f"Invalid value: {found}: {path} in body must be of type {kind}: {found}"
        yield Cause(path, "FieldValueTypeInvalid", message)
        return
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(map(_quote, schema["enum"]))
        message = f"Unsupported value: {_quote(value)}: supported values: {allowed}"
        yield Cause(path, "FieldValueNotSupported", message)
    match value:
        case dict():
            yield from _validate_object(schema, value, path)
        case list():
            yield from _validate_list(schema, value, path)
        case str():
            yield from _validate_text(schema, value, path)
        case int() | float():
            yield from _validate_number(schema, value, path)
        case _:  # a boolean or a null has nothing more to check
            pass


def _validate_object(schema: SchemaNode, value: Object, path: str) -> Iterator[Cause]:
    for name in schema.get("required", ()):
        if name not in value:
            yield Cause(f"{path}.{name}".lstrip("."), "FieldValueRequired", "Required value")
    for name, inner in value.items():
        below = _schema_of(schema, name)
        if below is not None:
            yield from check_schema(below, inner, f"{path}.{name}".lstrip("."))


def _validate_list(schema: SchemaNode, value: list[Any], path: str) -> Iterator[Cause]:
    if (limit := schema.get("maxItems", len(value))) < len(value):
        message = f"Too many: {len(value)}: must have at most {limit} items"
        yield Cause(path, "FieldValueTooMany", message)
    if (limit := schema.get("minItems", 0)) > len(value):
        yield _invalid(path, value, f"should have at least {limit} items")
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: list[Object] = []
    for index, inner in enumerate(value):
        if keys and isinstance(inner, dict):
            key = {name: inner.get(name) for name in keys}
            if key in seen:
                message = f"Duplicate value: {_quote(key)}"
                yield Cause(f"{path}[{index}]", "FieldValueDuplicate", message)
            seen.append(key)
        yield from check_schema(schema.get("items", {}), inner, f"{path}[{index}]")


def _validate_text(schema: SchemaNode, value: str, path: str) -> Iterator[Cause]:
    if len(value) < (limit := schema.get("minLength", 0)):
        yield _invalid(path, value, f"should be at least {limit} chars long")
    if len(value) > (limit := schema.get("maxLength", len(value))):
        message = f"Too long: may not be more than {limit} bytes"
        yield Cause(path, "FieldValueTooLong", message)
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield _invalid(path, value, f"should match '{schema['pattern']}'")
    if schema.get("format") == "date-time" and not _is_time(value):
        message = f"Invalid value: {_quote(value)}: {path} in body must be of type date-time"
        yield Cause(path, "FieldValueTypeInvalid", message)


def _validate_number(schema: SchemaNode, value: float, path: str) -> Iterator[Cause]:
    if value < (limit := schema.get("minimum", value)):
        yield _invalid(path, value, f"should be greater than or equal to {limit}")
    if value > (limit := schema.get("maximum", value)):
        yield _invalid(path, value, f"should be less than or equal to {limit}")


def _schema_of(schema: SchemaNode, name: str) -> SchemaNode | None:
    """Return the schema of a field of an object; None if the object has no such field."""
    known: SchemaNode | None = schema.get("properties", {}).get(name)
    if known is not None:
        return known
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"x-kubernetes-preserve-unknown-fields": True}
    match schema.get("additionalProperties"):
        case dict() as rest:
            return rest
        case True:
            return {"x-kubernetes-preserve-unknown-fields": True}
        case _:
            return None


def _invalid(path: str, value: object, rule: str) -> Cause:
    message = f"Invalid value: {_quote(value)}: {path} in body {rule}"
    return Cause(path, "FieldValueInvalid", message)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _type_of(value: object) -> str:
    return next((name for name, fits in _TYPES.items() if fits(value)), "null")


def _quote(value: object) -> str:
    return msgspec.json.encode(value).decode()
