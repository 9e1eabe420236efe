"""One declaration per setting: the flag, its variable and its default are those of a field."""

import ast
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from ollama_op.base.settings import Settings
from ollama_op.cli.commands import cli

ROOT = Path(__file__).parents[2]
DECLARED = ROOT / "ollama_op/base/settings.py"
SOURCES = sorted({*(ROOT / "ollama_op").rglob("*.py")} - {DECLARED})
RUN = [each for each in cli.commands["run"].params if isinstance(each, click.Option)]


def named(settings: Any = Settings, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Yield the name of each value, with the name of its part before it, and its field."""
    for each in fields(settings):
        if is_dataclass(each.default_factory):
            yield from named(each.default_factory, f"{each.name}_")
        else:
            yield prefix + each.name, each


FIELDS = dict(named())


@pytest.mark.parametrize("option", RUN, ids=lambda option: option.opts[0])
def test_a_flag_and_its_field_have_one_default(option: click.Option) -> None:
    """Whoever makes Settings in code gets what `run` without flags gets."""
    context = click.Context(cli.commands["run"])
    default = option.type_cast_value(context, option.get_default(context))
    assert default == FIELDS[option.name].default
    assert type(default) is type(FIELDS[option.name].default)


def test_every_field_has_a_flag() -> None:
    """But those that only the demo and the tests change."""
    assert {*FIELDS} - {option.name for option in RUN} == {"progress_interval_s"}


def test_a_variable_is_named_after_its_flag() -> None:
    """And each name is of one flag only."""
    for option in RUN:
        (flag,) = option.opts
        assert option.envvar == f"OLLAMA_OP_{flag.removeprefix('--').replace('-', '_').upper()}"
    assert len({option.envvar for option in RUN}) == len(RUN)


def test_the_doctor_takes_the_flags_of_run() -> None:
    """With the same words and in the same order; the only other one is about its own output."""
    told = [option.to_info_dict() for option in RUN]
    doctor = [each.to_info_dict() for each in cli.commands["doctor"].params]
    shared = [each for each in doctor if each["name"] != "output"]
    assert shared == [each for each in told if each in shared]
    assert len(shared) == len(doctor) - 1


def test_no_other_module_declares_a_flag_of_run() -> None:
    """To add one takes its field, and the module that uses the value."""
    flags = {option.opts[0] for option in RUN}
    found = [
        f"{path.relative_to(ROOT)}: {each.value}"
        for path in SOURCES
        for call in calls(path)
        for each in call.args
        if isinstance(each, ast.Constant) and each.value in flags and declares(call)
    ]
    assert found == []


def test_no_other_module_has_a_default_of_a_setting() -> None:
    """A parameter that is named as a setting gets its value from the settings."""
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in defaulted(path)
        if name in FIELDS
    ]
    assert found == []


def calls(path: Path) -> Iterator[ast.Call]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def declares(call: ast.Call) -> bool:
    """Return True if a call that names a flag says more of it than a mention does."""
    return bool({"help", "type", "default"} & {each.arg for each in call.keywords})


def defaulted(path: Path) -> Iterator[str]:
    """Yield the parameters that have a default other than None."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arguments):
            placed = [*node.posonlyargs, *node.args]
            found = [*zip(reversed(placed), reversed(node.defaults), strict=False)]
            found += zip(node.kwonlyargs, node.kw_defaults, strict=True)
            for argument, default in found:
                if default is not None and ast.unparse(default) != "None":
                    yield argument.arg
