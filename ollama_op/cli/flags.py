"""The options of the command line, made from the fields of the settings.

Imports next to nothing: `ollama-op --help` reads this module, and nobody waits for help.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Final

import click

from ollama_op.base.declare import ENV_PREFIX, FLAG, SWITCH, Flag
from ollama_op.base.settings import Settings

# What Kubernetes sets in every pod for a Service whose name begins as ours do.
_OF_SERVICES = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
    rf"|{ENV_PREFIX}(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_.+)?)"
)
_OF_JUST = frozenset(
    {f"{ENV_PREFIX}PYTHON", f"{ENV_PREFIX}CACHE"}
)  # for the recipes of the sources


def flag_options(*, doctor: bool = False) -> list[click.Parameter]:
    """Return the options of `run`, or those of them that the doctor has as well."""
    return [_option(dest, flag) for dest, flag in _flags() if flag.is_for_doctor or not doctor]


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Return settings with the values of these options; the others have their defaults."""
    settings: Settings = _read(Settings, values)
    return settings


def misspelt(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the variables that look like ours and set no flag, each with what to do."""
    found = []
    for name in sorted(environ):
        is_ours = name.startswith(ENV_PREFIX) and name not in _OF_JUST
        if not is_ours or name in VARIABLES or _OF_SERVICES.fullmatch(name):
            continue
        close = get_close_matches(name, VARIABLES, n=1)
        hint = f"did you mean {close[0]}?" if close else "unset it; see ollama-op run --help"
        found.append((name, hint))
    return found


def _option(dest: str, flag: Flag) -> click.Option:
    """Make an option; a switch alone, as in Go, stands for `=true`."""
    alone: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if flag.kind is SWITCH else {}
    return click.Option(
        [flag.name, dest],
        type=flag.kind,
        default=flag.default,
        help=flag.help,
        envvar=flag.variable,
        show_envvar=True,
        show_default=True,
        **alone,
    )


def _flags(settings: Any = Settings, prefix: str = "") -> Iterator[tuple[str, Flag]]:
    """Yield the name of each value and its flag, in the order of the declarations."""
    for each in fields(settings):
        if part := _part(each):
            yield from _flags(part, f"{each.name}_")
        elif flag := each.metadata.get(FLAG):
            yield prefix + each.name, flag


def _read(settings: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    found = {}
    for each in fields(settings):
        if part := _part(each):
            found[each.name] = _read(part, values, f"{each.name}_")
        elif prefix + each.name in values:
            found[each.name] = values[prefix + each.name]
    return settings(**found)


def _part(of: Field[Any]) -> Any:
    """Return the class of settings that a field is made of; None if it is a single value."""
    return of.default_factory if is_dataclass(of.default_factory) else None


VARIABLES: Final = frozenset(flag.variable for _, flag in _flags())  # that set a flag
