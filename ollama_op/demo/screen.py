"""What the demo looks like: a live table on a terminal, plain timed lines elsewhere."""

import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from crd.model import OllamaModel
from crd.v1alpha1 import State
from ollama_op.base.sizes import formatted_part

BAR_CELLS = 12
STATE_COLOURS = {State.READY: "green", State.FAILED: "red", State.PULLING: "yellow"}
MARKS = {"✔": "green", "✗": "red", "!": "yellow", "→": "cyan", "$": "bold"}


@dataclass(frozen=True)
class Line:
    """Something that happened; `at_s` is seconds since the curtain rose."""

    at_s: float
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{clock_time(self.at_s)} {self.mark} {self.text}"


def clock_time(seconds: float) -> str:
    """Write seconds as mm:ss."""
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"


class Screen:
    """Shows the models and what happens to them. On a terminal it is redrawn as a whole."""

    def __init__(
        self,
        title: str,
        prologue: str = "",
        *,
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._prologue, self._now = title, prologue, now
        self._began = now()
        self._models: list[OllamaModel] = []
        self._lines: list[Line] = []
        self._said: dict[str, str] = {}
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # not every terminal has a tick
        self.console = console or Console(highlight=False)
        self._is_live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._live = Live(
            get_renderable=self.draw, console=self.console, refresh_per_second=8, transient=False
        )

    def __enter__(self) -> Self:
        self.open()
        if self._is_live:
            self._live.start()
        else:
            self._print(self._title)
        return self

    def open(self) -> None:
        """Show what stands above all that happens."""
        if self._prologue:
            self.console.print(self._prologue, style="dim", markup=False)

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._live.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the curtain rose."""
        return self._now() - self._began

    def say(self, mark: str, text: str) -> None:
        """Print what happened."""
        line = Line(self.elapsed_s, mark, text)
        self._lines.append(line)
        if not self._is_live:
            self._print(str(line))

    def show(self, models: list[OllamaModel]) -> None:
        """Record how the models are now."""
        self._models = models
        if self._is_live:
            return
        for model in models:
            text = _plain(model)
            if self._said.get(model.metadata.uid) != text:
                self._said[model.metadata.uid] = text
                self._print(f"{clock_time(self.elapsed_s)}   {text}")

    def print(self, *parts: RenderableType) -> None:
        """Show something below all that, once it is over."""
        for part in ("", *parts):
            self.console.print(part, markup=False)

    def draw(self) -> Group:
        """Draw how things are now, to fit the terminal."""
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        head.add_row(Text(f" {self._title}", style="bold"), Text(f"{clock_time(self.elapsed_s)} "))
        body = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
        for name, width in (("NAME", 14), ("STATE", 7), ("PROGRESS", 32), ("REASON", 19)):
            body.add_column(name, min_width=width, no_wrap=True, overflow="ellipsis")
        for model in self._models:
            body.add_row(*_row(model))
        # Everything fits on one screen; what happened first gives way.
        room = max(self.console.height - len(self._models) - 5, 4)
        happened = [_coloured(line) for line in self._lines[-room:]]
        rule = Rule("what just happened", style="dim", align="left")
        return Group(head, body, rule, *happened)

    def _print(self, text: str) -> None:
        print(text, file=sys.stdout, flush=True)  # noqa: T201 - stdout is what a demo is for


def _row(model: OllamaModel) -> tuple[Any, ...]:
    status = model.status
    state = status.state or State.PENDING
    return (
        model.metadata.name,
        Text(state, style=STATE_COLOURS.get(state, "dim")),
        _progress(model),
        _reason(model),
    )


def _progress(model: OllamaModel) -> Text:
    status = model.status
    if status.state == State.READY and not status.progress:
        return Text(status.formatted_size or "", style="dim")
    if status.attempts and status.next_retry_time:
        return Text(f"attempt {status.attempts} failed, next {status.next_retry_time:%H:%M:%SZ}")
    progress = status.progress
    if progress is None or not progress.total_bytes:
        return Text("")
    full = BAR_CELLS * (progress.percent or 0) // 100
    done, total = formatted_part(progress.completed_bytes, progress.total_bytes)
    bar = "█" * full + " " * (BAR_CELLS - full)
    return Text(f"▕{bar}▏ {progress.text:>3}  {done}/{total}")


def _reason(model: OllamaModel) -> str:
    ready = model.status.condition("Ready")
    return ready.reason if ready else ""


def _plain(model: OllamaModel) -> str:
    status = model.status
    progress = status.progress
    quarter = f" {progress.percent // 25 * 25}%" if progress and progress.percent else ""
    reason = _reason(model)
    tail = f" ({reason})" if reason and reason != status.state else ""
    return f"{model.metadata.name:<14} {status.state or State.PENDING}{quarter}{tail}"


def _coloured(line: Line) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f" {clock_time(line.at_s)} ", style="dim")
    text.append(f"{line.mark} ", style=MARKS.get(line.mark, ""))
    return text.append(line.text)
