"""The reference of flags and fields, rendered from the code into docs/ by `just reference`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from crd.render import crd
from ollama_op.cli import cli

PATH: Final = Path(__file__).parents[1] / "docs" / "reference.md"
HEAD: Final = """\
# Reference

Rendered from the code by `just reference`. Condition reasons are in [reasons.md](reasons.md),
metrics in [metrics.md](metrics.md), alerts in [alerts.md](alerts.md), the REST API is described at
`/docs` of a running operator.
"""


def main() -> None:
    """Write the page."""
    PATH.write_text(page(), encoding="utf-8")


def page() -> str:
    """Render the page."""
    return "\n".join([HEAD, *_flags(), *_fields(), ""])


def _flags() -> Iterator[str]:
    for name, command in sorted(cli.commands.items()):
        yield f"## ollama-op {name}\n"
        yield "| flag | environment | default | |"
        yield "|---|---|---|---|"
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                yield _row(
                    f"`{'`, `'.join(option.opts)}`",
                    f"`{option.envvar}`" if option.envvar else "",
                    _default(option),
                    option.help or "",
                )
        yield ""


def _default(option: click.Option) -> str:
    value = option.default
    return f"`{value}`" if isinstance(value, str | int) and str(value) else ""


def _fields() -> Iterator[str]:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        yield f"## {part}\n"
        yield "| field | type | |"
        yield "|---|---|---|"
        yield from _rows(schema["properties"][part], part)
        yield ""


def _rows(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        full, kind = f"{path}.{name}", field["type"]
        needed = " (required)" if name in schema.get("required", ()) else ""
        yield _row(f"`{full}`{needed}", kind, field.get("description", ""))
        yield from _rows(field, full)
        yield from _rows(field.get("items", {}), f"{full}[]")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    main()
