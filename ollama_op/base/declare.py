"""How a setting is declared: once, as a field of `base/settings.py`.

From that field come the flag, its environment variable, its help, the default, the check of what is
written, and the row in docs/reference.md. `cli/flags.py` makes them.

Imports next to nothing: `ollama-op --help` reads this module, and nobody waits for help.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

from ollama_op.base.parsing import (
    Address,
    ConfigError,
    Service,
    UsageError,
    parse_duration,
    parse_duration_or_off,
    parse_key,
    parse_name,
    parse_namespace,
    parse_networks,
    parse_origins,
    parse_registries,
    parse_switch,
    parse_trace_url,
    parse_url,
)

T = TypeVar("T")

ENV_PREFIX: Final = "OLLAMA_OP_"
FLAG: Final = "flag"  # under this name, the metadata of a field has its Flag


# --- kinds of value


class Parsed(click.ParamType[T]):
    """A value that one of the functions of `parsing` reads. `name` stands for it in the help."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name, self._parse = name, parse

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,  # noqa: ARG002 - click passes it
    ) -> T:
        """Return what a text says; a value that is no text is returned as it is.

        Raises: UsageError.
        """
        if not isinstance(value, str):
            return cast("T", value)
        try:
            return self._parse(value)
        except ConfigError as error:
            raise UsageError(f"{_prefix(param)}{error}", error.hint) from error


class WholeNumber(click.IntRange):
    """A whole number that has a minimum."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number.

        Raises: UsageError.
        """
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            message = f"{_prefix(param)}{value!r} is not a whole number of at least {self.min}"
            hint = f"write a number in digits; the default is {param.default}" if param else ""
            raise UsageError(message, hint) from error


class OneOf(click.Choice[str]):
    """One of a few words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word.

        Raises: UsageError if it looks like one of them; else click.BadParameter.
        """
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            close = get_close_matches(str(value).lower(), self.choices, n=1)
            if not close:
                raise
            message = error.format_message().rstrip(".")
            raise UsageError(message, f"did you mean {close[0]}?") from error


def _prefix(param: click.Parameter | None) -> str:
    return f"{param.opts[0]}: " if param else ""


DURATION_PARAM: Final = Parsed("duration", parse_duration)
DURATION_OR_OFF: Final = Parsed("duration", parse_duration_or_off)
ADDRESS: Final = Parsed("address", Address.parse)
URL: Final = Parsed("url", parse_url)
SWITCH: Final = Parsed("true|false", parse_switch)
ORIGINS: Final = Parsed("origins", parse_origins)
TRACE_URL: Final = Parsed("url", parse_trace_url)
NAME_PARAM: Final = Parsed("name", parse_name)
NAMESPACE_NAME: Final = Parsed("name", parse_namespace)
KEY: Final = Parsed("key", parse_key)
NETWORKS: Final = Parsed("networks", parse_networks)
REGISTRIES: Final = Parsed("hosts", parse_registries)
SERVICE: Final = Parsed("name.namespace", Service.parse)
FILE: Final = cast("click.ParamType[Path]", click.Path(path_type=Path))


# --- the declaration


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """The flag of a setting. `default` is what one would write; None if there is none."""

    name: str
    kind: click.ParamType[Any]
    help: str
    default: Any
    is_for_doctor: bool

    @property
    def variable(self) -> str:
        """The environment variable that sets it as well."""
        return ENV_PREFIX + self.name.strip("-").replace("-", "_").upper()


def setting(
    name: str,
    kind: click.ParamType[T],
    text: str,
    *,
    default: Any = None,
    doctor: bool = False,
    shown: bool = True,
) -> T:
    """Declare a field that the flag `name` sets, with `text` as its help.

    `doctor`: the doctor has this flag as well. `shown`: the value is in the repr.
    """
    flag = Flag(name=name, kind=kind, help=text, default=default, is_for_doctor=doctor)
    value = None if default is None else kind.convert(default, None, None)
    return cast("T", field(default=value, repr=shown, metadata={FLAG: flag}))
