"""Renders msgspec types as a Kubernetes structural schema, the subset of OpenAPI v3 a CRD may use.

A structural schema has one `type` at every level, no `$ref` and no `anyOf`, but for what may be a
whole number or a text. msgspec's own JSON Schema is full of references and unions, so this reads
msgspec's description of the types instead.

An optional field is one that may be left out: absence says it, and null is no second spelling.
Defaults are not rendered: the API server would write them into every object for good, and a later
release could no longer change them.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec.inspect as mi

Schema = dict[str, Any]

# As Kubernetes writes it, in the order of its own CRDs.
_INT_OR_STRING: Schema = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
}

# The bounds of a type, by msgspec's name and by OpenAPI's. An exclusive bound is refused: OpenAPI
# v3.0 spells it as a boolean beside the number, and whole numbers do without.
_STRING_BOUNDS = {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"}
_NUMBER_BOUNDS = {"ge": "minimum", "le": "maximum", "multiple_of": "multipleOf"}
_ARRAY_BOUNDS = {"min_length": "minItems", "max_length": "maxItems"}
_OBJECT_BOUNDS = {"min_length": "minProperties", "max_length": "maxProperties"}


class NotStructuralError(TypeError):
    """The type has no structural schema. The message names the type."""


def structural(kind: Any) -> Schema:
    """Render the type `kind`: a struct, a scalar, or a container of them.

    Raises: NotStructuralError for a union of two types, and for what a CRD cannot say.
    """
    return _schema(mi.type_info(kind))


def _schema(kind: mi.Type) -> Schema:
    """Render what msgspec knows of one type."""
    match kind:
        case mi.Metadata():
            return _described(_schema(kind.type), kind.extra_json_schema or {})
        case mi.UnionType() if _may_be_number_or_text(kind):
            return _INT_OR_STRING
        case mi.UnionType():
            return _schema(_only_member(kind))
        case mi.StructType():
            return _struct(kind)
        case mi.ListType() | mi.VarTupleType():
            return {"type": "array"} | _bounds(kind, _ARRAY_BOUNDS) | _items(kind.item_type)
        case mi.DictType(key_type=mi.StrType()):
            values = {"additionalProperties": _schema(kind.value_type)}
            return {"type": "object"} | _bounds(kind, _OBJECT_BOUNDS) | values
        case _:
            return _scalar(kind)


def _scalar(kind: mi.Type) -> Schema:
    """Render a type that holds one value."""
    match kind:
        case mi.BoolType():
            return {"type": "boolean"}
        case mi.IntType(gt=None, lt=None):
            return {"type": "integer", "format": "int64"} | _bounds(kind, _NUMBER_BOUNDS)
        case mi.StrType():
            return {"type": "string"} | _bounds(kind, _STRING_BOUNDS)
        case mi.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case mi.EnumType():
            return _words(member.value for member in kind.cls)
        case mi.LiteralType():
            return _words(kind.values)
        case _:
            raise NotStructuralError(f"a CRD has no schema for {kind}")


def _struct(kind: mi.StructType) -> Schema:
    """Render a struct under the names that its fields have in JSON."""
    schema: Schema = {"type": "object"}
    # Not inspect.getdoc(): that would fall back on the docstring of msgspec.Struct.
    if kind.cls.__doc__:
        schema["description"] = _first_paragraph(kind.cls.__doc__)
    if required := [field.encode_name for field in kind.fields if field.required]:
        schema["required"] = required
    properties = {field.encode_name: _schema(field.type) for field in kind.fields}
    return schema | {"properties": properties}


def _first_paragraph(docstring: str) -> str:
    """Return what a docstring says to everybody; what follows is for who reads the code."""
    return " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split())


def _items(kind: mi.Type) -> Schema:
    return {"items": _schema(kind)}


def _described(schema: Schema, extra: dict[str, Any]) -> Schema:
    """Add what a field's Meta says to the schema of its type; the field knows better."""
    own = {"type": schema["type"]} if "type" in schema else {}
    return own | extra | {k: v for k, v in schema.items() if k not in extra}


def _may_be_number_or_text(kind: mi.UnionType) -> bool:
    members = {type(member) for member in kind.types}
    return members - {mi.NoneType} == {mi.IntType, mi.StrType}


def _only_member(kind: mi.UnionType) -> mi.Type:
    """Return what an optional type is when it is there."""
    members = [member for member in kind.types if not isinstance(member, mi.NoneType)]
    if len(members) != 1:
        raise NotStructuralError(f"a CRD field has one type, not {len(members)}: {kind}")
    return members[0]


def _words(values: Iterable[object]) -> Schema:
    """Render a closed set of strings."""
    words = list(values)
    if not all(isinstance(word, str) for word in words):
        raise NotStructuralError(f"a CRD can enumerate strings, not {words}")
    return {"type": "string", "enum": [str(word) for word in words]}


def _bounds(kind: mi.Type, names: dict[str, str]) -> Schema:
    """Render those bounds of a type that are set."""
    found = {openapi: getattr(kind, name) for name, openapi in names.items()}
    return {key: bound for key, bound in found.items() if bound is not None}
