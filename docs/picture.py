"""Draws docs/demo.svg, one moment of the demo: `just picture`.

The demo's own story and screen are played between the sandboxes, as in the tests: in virtual time,
so that a second drawing is of the same moment.
"""

import io
import random
import sys
from pathlib import Path

import anyio
import structlog
import trio.testing
from rich.console import Console
from rich.terminal_theme import TerminalTheme

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ollama_op.demo.command import (
    SCRIPTED,
    SETTINGS,
    SPEED,
    YAML,
    Stage,
    keep_showing,
    play,
    publish,
)
from ollama_op.demo.screen import Screen
from ollama_op.demo.story import object_name
from ollama_op.ollama.client import OllamaClient
from support.virtual.world import World, world

FILE = Path(__file__).with_name("demo.svg")
WIDTH, HEIGHT = 80, 24
HALFWAY = 50  # percent of the model that is fetched again
LOOK_EVERY_S = 0.1
THEME = TerminalTheme(  # dark: it stands out on a light page, and is framed on a dark one
    (22, 27, 34),
    (230, 237, 243),
    [
        (72, 79, 88),  # black
        (255, 123, 114),  # red
        (63, 185, 80),  # green
        (227, 179, 65),  # yellow
        (121, 192, 255),  # blue
        (210, 168, 255),  # magenta
        (86, 211, 221),  # cyan
        (230, 237, 243),  # white
    ],
)
# Rich's own template loads a font from elsewhere. Every letter has its place, whatever the font.
FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>ollama-op demo</title>
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre;
}}
.{unique_id}-title {{ font: 18px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Write the picture."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    FILE.write_text(render(), encoding="utf-8")


def render() -> str:
    """Play the demo until the moment of the picture, and draw that."""
    random.seed(0)  # of the delays before a second try
    clock = trio.testing.MockClock(autojump_threshold=0)
    return anyio.run(_render, backend="trio", backend_options={"clock": clock})


async def _render() -> str:
    console = Console(
        file=io.StringIO(),
        record=True,
        force_terminal=True,
        highlight=False,
        width=WIDTH,
        height=HEIGHT,
    )
    async with world() as w:
        w.ollama.downloads.bytes_per_second, w.settings = SPEED, SETTINGS
        publish(w.ollama)
        w.start()
        scene = Stage(w.http, "", Path(), OllamaClient(w.ollama_http), w.ollama)
        screen = Screen(scene.title, YAML, console=console, now=anyio.current_time)
        w.tasks.start_soon(keep_showing, w.http, screen)
        w.tasks.start_soon(_play, scene, screen)
        await _until_something_is_mended(w)
        screen.open()
        console.print(screen.draw())
    return console.export_svg(title="just demo", theme=THEME, code_format=FORMAT, unique_id="demo")


async def _play(scene: Stage, screen: Screen) -> None:
    await play(scene, screen, keep=False)


async def _until_something_is_mended(w: World) -> None:
    """Wait until the model that somebody deleted is halfway back."""
    name = object_name(SCRIPTED.second)
    await anyio.sleep(LOOK_EVERY_S)
    await w.ready(name, every_s=LOOK_EVERY_S)
    await w.until(
        name,
        lambda s: s["state"] == "Pulling" and s.get("progress", {}).get("percent", 0) >= HALFWAY,
        every_s=LOOK_EVERY_S,
    )
    await anyio.sleep(LOOK_EVERY_S)  # the screen looks as often


if __name__ == "__main__":
    main()
