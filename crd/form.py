"""Says in words what is wrong with the form of a spec, or of any other JSON that people write.

msgspec finds the mistake and names it in Python's types. Here that becomes: which field, what was
written, what to write instead. The value is repeated where it is short and cannot be a secret.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec
import msgspec.inspect as mi

_AT: Final = re.compile(r" - at `(?:key in )?\$?\.?(.*)`$")
_FIELD: Final = re.compile(r"field `(.*)`")
_GOT: Final = re.compile(r"Expected `(.+?)`, got `(.+?)`")
_BOUND: Final = re.compile(r"Expected `(?:.+?)` of length (>=|<=) ([0-9]+)")
_NUMBER_BOUND: Final = re.compile(r"Expected `(?:int|float)(?: \| null)?` (>=|<=) ([0-9.]+)")
_STEP: Final = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")
ALIEN: Final = "has a character that is not allowed there, or is too long"
IS_DURATION: Final = "duration"  # what is said of a text that is one, as `extra` of its type
_SHOWN: Final = 40  # characters of a value that are repeated

# What is there, and what is to be there, by msgspec's names.
_IS: Final = {
    "str": "a text", "int": "a number", "float": "a number", "bool": "a boolean",
    "null": "empty", "object": "an object", "array": "a list",
}  # fmt: skip
_WRITE: Final = {
    "str": "a text", "int": "a whole number", "float": "a number",
    "bool": "true or false, without quotes", "object": "an object with fields", "array": "a list",
}  # fmt: skip


def complaint(
    error: Exception, raw: object, kind: type[Any], *, secret: bool = False
) -> tuple[str, str]:
    """Return the field that is wrong, as a path, and what is wrong with it.

    `raw` is what was read, as plain objects, and `kind` what it should have been. The path is empty
    where the whole is wrong. Of what is `secret`, no value is repeated.
    """
    if not isinstance(error, msgspec.ValidationError):
        return "", "is not JSON"
    text = str(error)
    at = _AT.search(text)
    what, path = (text[: at.start()], at[1]) if at else (text, "")
    if named := _FIELD.search(what):
        problem = "is required" if "missing" in what else _unknown(named[1], kind, path)
        return f"{path}.{named[1]}".lstrip("."), problem
    value = None if secret else _value(raw, path)
    if "enum" in what or isinstance(_type_at(kind, path), mi.EnumType):
        return path, _no_word(value, kind, path)
    return path, _problem(what, value, kind, path)


def _problem(what: str, value: object, kind: type[Any], path: str) -> str:
    if got := _GOT.match(what):
        if type(value) is int and _is_duration(kind, path) and len(str(value)) <= _SHOWN:
            return f'{value} is a number without a unit; write "{value}s", "{value}m" or "{value}h"'
        return _other_type(got[1].split(" | "), got[2], value)
    if bound := _BOUND.match(what):
        if bound[1] == ">=":
            return "is empty" if bound[2] == "1" else f"is shorter than {bound[2]} characters"
        return f"is longer than {bound[2]} characters"
    if bound := _NUMBER_BOUND.match(what):
        return f"is {'less' if bound[1] == '>=' else 'more'} than {bound[2]}"
    if "regex" in what:
        return ALIEN
    return "is out of range" if "range" in what else "has another form than it should"


def _no_word(value: object, kind: type[Any], path: str) -> str:
    written = f"{value!r} " if isinstance(value, str) and len(value) <= _SHOWN else ""
    found = _type_at(kind, path)
    words = [str(each.value) for each in found.cls] if isinstance(found, mi.EnumType) else []
    return f"{written}is not known there; write {' or '.join(words)}"


def _unknown(name: str, kind: type[Any], path: str) -> str:
    found = _type_at(kind, path)
    known = [each.encode_name for each in found.fields] if isinstance(found, mi.StructType) else []
    close = get_close_matches(name, known, n=1)
    return "is not known here" + (f"; did you mean {close[0]}?" if close else "")


def _other_type(wanted: list[str], got: str, value: object) -> str:
    """Return what was found in place of what."""
    found = _IS.get(got, "something else")
    shown = msgspec.json.encode(value).decode() if isinstance(value, bool | int | float) else ""
    if "str" in wanted and shown and len(shown) <= _SHOWN:
        return f'{shown} is {found}; write it as a text, in quotes: "{shown}"'
    words = " or ".join(_WRITE[each] for each in wanted if each in _WRITE) or "something else"
    return f"is {found}; write {words}"


def _value(raw: object, path: str) -> object:
    """Return what was written at a path, if that can be found."""
    here: Any = raw
    for name, index in _STEP.findall(path):
        if name and isinstance(here, Mapping):
            here = here.get(name)
        elif index and isinstance(here, list) and int(index) < len(here):
            here = here[int(index)]
        else:
            return None
    return here


def _is_duration(kind: type[Any], path: str) -> bool:
    """Return True if what should be at a path is a text that is a length of time."""
    above, _, name = path.rpartition(".")
    here = _type_at(kind, above)
    fields = here.fields if isinstance(here, mi.StructType) else ()
    declared = next((each.type for each in fields if each.encode_name == name), None)
    parts = declared.types if isinstance(declared, mi.UnionType) else (declared,)
    return any(
        isinstance(each, mi.Metadata) and IS_DURATION in (each.extra or {}) for each in parts
    )


def _type_at(kind: type[Any], path: str) -> mi.Type | None:
    """Return what should be at a path, if that can be found."""
    here: mi.Type | None = _inner(mi.type_info(kind))
    for name, _ in _STEP.findall(path):
        match here:
            case mi.StructType() if name:
                fields = {each.encode_name: each.type for each in here.fields}
                here = _inner(fields[name]) if name in fields else None
            case mi.ListType():
                here = _inner(here.item_type)
            case _:
                return None
    return here


def _inner(kind: mi.Type) -> mi.Type:
    """Return a type without what is said about it, and without the absence that it allows."""
    while isinstance(kind, mi.Metadata):
        kind = kind.type
    if isinstance(kind, mi.UnionType):
        return _inner(next(each for each in kind.types if not isinstance(each, mi.NoneType)))
    return kind
