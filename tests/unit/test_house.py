"""The order of the house, as it can be counted."""

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import grimp
import httpx
import pytest

from crd.reasons import Reason

ROOT = Path(__file__).parents[2]
PACKAGES = ("ollama_op", "api", "crd")
CONVENTIONS = {"T", "log", "main"}  # a type variable, a module's logger, a script's start


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES)


def unit(module: str) -> str:
    """Return the folder that a module is in, or the module if it is in none."""
    depth = 2 if module.startswith("ollama_op.") else 1
    return ".".join(module.split(".")[:depth])


def imports(graph: grimp.ImportGraph, unit_of=lambda module: module) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        others = {unit_of(each) for each in graph.find_modules_directly_imported_by(module)}
        found.setdefault(unit_of(module), set()).update(others - {unit_of(module)})
    return found


def test_no_import_leads_back(graph: grimp.ImportGraph) -> None:
    """Neither folders nor modules stand in a ring; a ring would be named."""
    for found in (imports(graph, unit), imports(graph)):
        TopologicalSorter(found).prepare()


def test_each_folder_says_what_belongs_there() -> None:
    """In one sentence at least, and no two of them say the same."""
    said = [each.read_text(encoding="utf-8") for each in packages()]
    assert all(text.startswith('"""') and text.count(" ") > 4 for text in said)
    assert len({*said}) == len(said)


def test_a_reason_that_a_pull_fails_for_is_a_row_and_a_class() -> None:
    """To add one more, nothing else of the code is touched; docs/reasons.md has its section."""
    plain = [
        each for each in Reason if each.row in (Reason.PULL_FAILED.row, Reason.MODEL_UNKNOWN.row)
    ]
    code = {path: path.read_text(encoding="utf-8") for path in modules()}
    for reason in plain:
        naming = [path for path, text in code.items() if f"Reason.{reason.name}" in text]
        assert naming == [ROOT / "ollama_op/base/errors.py"], reason
    assert len(plain) > 10  # most of them


def test_a_public_name_is_defined_once() -> None:
    """One name, one thing: of the classes, functions and constants of all modules."""
    found: dict[str, list[str]] = {}
    for path in modules():
        for name in defined(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    twice = {name: where for name, where in found.items() if len(where) > 1}
    assert twice == {}


def test_what_is_imported_is_declared() -> None:
    """No package needs what only developers have: what renders docs is not among the packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {plain(re.split(r"[^\w-]", each)[0]) for each in project["dependencies"]}
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    tops = {each.split(".")[0] for each in graph.modules if graph.is_module_squashed(each)}
    brought_by = packages_distributions()
    undeclared = [
        top
        for top in tops - sys.stdlib_module_names
        if declared.isdisjoint(map(plain, brought_by.get(top, ())))
    ]
    assert undeclared == []


def plain(distribution: str) -> str:
    """Return the name of a distribution as registries compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_one_module_imports_kr8s() -> None:
    """Everybody else calls that module, and could be given another library."""
    assert having(lambda tree: "kr8s" in imported(tree)) == {"ollama_op/kube/client.py"}


def test_one_module_reads_the_errors_of_httpx() -> None:
    """Others catch what it makes of them. The sandbox raises them, as the network would."""
    seams = {"ollama_op/base/trouble.py", "ollama_op/sandbox/transport.py"}
    assert having(errors_of_httpx) == seams


def test_an_error_of_httpx_would_be_found() -> None:
    """Whatever is done with it, and however it was imported."""
    for text in (
        "try:\n    f()\nexcept (OSError, httpx.ReadTimeout):\n    pass",
        "isinstance(error, httpx.InvalidURL)",
        "with suppress(httpx.HTTPError):\n    pass",
        "from httpx import RequestError as Failed",
    ):
        assert errors_of_httpx(ast.parse(text))
    assert not errors_of_httpx(ast.parse("httpx.Timeout(3), httpx.AsyncClient()"))


def having(found: Callable[[ast.Module], object]) -> set[str]:
    """Return the modules in which something is found."""
    return {
        str(path.relative_to(ROOT))
        for path in modules()
        if found(ast.parse(path.read_text(encoding="utf-8")))
    }


def imported(module: ast.Module) -> set[str]:
    """Return the packages that are imported anywhere in a module."""
    names = set[str]()
    for node in ast.walk(module):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(name)):
                names.add(name)
            case _:
                pass
    return {name.partition(".")[0] for name in names}


def errors_of_httpx(module: ast.Module) -> set[str]:
    """Return the exceptions of httpx that are named anywhere in a module."""
    names = set[str]()
    for node in ast.walk(module):
        match node:
            case ast.Attribute(value=ast.Name(id="httpx"), attr=name):
                names.add(name)
            case ast.ImportFrom(module="httpx", names=aliases):
                names |= {alias.name for alias in aliases}
            case _:
                pass
    things = {name: getattr(httpx, name) for name in names}
    return {
        name
        for name, thing in things.items()
        if isinstance(thing, type) and issubclass(thing, Exception)
    }


def defined(module: ast.Module) -> Iterator[str]:
    """Yield the public names that a module defines at its top."""
    for node in module.body:
        match node:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                names = [name]
            case ast.Assign(targets=targets):
                names = [
                    each.id
                    for target in targets
                    for each in ast.walk(target)
                    if isinstance(each, ast.Name)
                ]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        yield from (name for name in names if not name.startswith("_") and name not in CONVENTIONS)


def modules() -> Iterator[Path]:
    for top in PACKAGES:
        yield from (ROOT / top).rglob("*.py")


def packages() -> Iterator[Path]:
    for top in PACKAGES:
        yield from (ROOT / top).rglob("__init__.py")


def test_a_ring_would_be_found() -> None:
    """The check above can fail."""
    ring = dict(pairwise("abca"))
    with pytest.raises(ValueError, match="cycle"):
        TopologicalSorter({each: {other} for each, other in ring.items()}).prepare()


def test_docstrings_say_what_is_returned() -> None:
    """They begin with Return, Raise, Wait, Write and so on, as those of any library do."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {text.splitlines()[0]}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (text := ast.get_docstring(node) or "")
        and text.startswith(("Tell whether", "Say ", "Take in", "See that", "Hear that"))
    ]
    assert found == []
