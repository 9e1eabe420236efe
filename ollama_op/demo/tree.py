"""What a trace looks like on a terminal: a tree of spans, and when in the trace each of them ran.

A line is a span: what it was about, how long it took, and a bar from its start to its end on the
scale of the whole trace. What happened inside stands below it, in order of time.
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_span_id
from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ollama_op.base.sizes import formatted_size

DIGEST = "sha256:"  # of which twelve digits are enough for people
NO_SPANS = "no spans"
FOLD_ABOVE = 3  # so many of a kind in a row are still shown one by one
TIMES = "\N{MULTIPLICATION SIGN}"
TREE_BAR_CELLS = 12
DURATION_CELLS = 7
NS = 1e-9  # seconds
# What the name of a span of an HTTP call says already, and a stack trace, which is no single line.
LEFT_OUT = (
    *("http.", "url.", "server.", "network.", "exception.stacktrace", "exception.escaped"),
    # What tells objects apart for a machine.
    *("k8s.", "error.", "ollama_op.uid", "ollama_op.generation", "ollama_op.api_version"),
    "ollama_op.resource",
)
TROUBLE = ("stall", "fail", "error", "exception", "retry")  # in an event's name


SpanEvent = frozenset[object]
"""Values of attributes."""


@dataclass(frozen=True, kw_only=True)
class TreeSpan:
    """One span. Times are in seconds since any moment that all spans of a trace share.

    Events are (time, name). A failed span's `error` attribute may say why it failed.
    """

    name: str
    span_id: str
    parent_id: str | None = None
    start_s: float
    end_s: float
    ok: bool = True
    attributes: Mapping[str, object] = field(default_factory=dict)
    events: Sequence[tuple[float, str]] = ()

    @property
    def duration_s(self) -> float:
        """How long it took; never negative, though clocks may be set back."""
        return max(self.end_s - self.start_s, 0)


def finished(spans: Iterable[ReadableSpan]) -> list[TreeSpan]:
    """Take what OpenTelemetry's SDK hands an exporter."""
    return [_finished(span) for span in spans]


def told_of(event: str, attributes: Mapping[str, object]) -> str:
    """Return an event and its attributes as one line."""
    details = ", ".join(_details(attributes, besides=event))
    return f"{event}: {details}" if details else event


def drawn(spans: Iterable[TreeSpan]) -> RenderableType:
    """Draw the spans of a trace; a span whose parent is not among them is at the top."""
    spans = list(spans)
    if not spans:
        return Text(NO_SPANS, style="dim")
    known = {span.span_id for span in spans}
    children: dict[str | None, list[TreeSpan]] = defaultdict(list)
    for span in sorted(spans, key=attrgetter("start_s")):
        children[span.parent_id if span.parent_id in known else None].append(span)
    begin_s = min(span.start_s for span in spans)
    drawing = _Drawing(children, begin_s, max(span.end_s for span in spans) - begin_s)
    tree = Tree("", guide_style="dim", hide_root=True)
    drawing.grow(tree, None)
    return tree


def lines(spans: Iterable[TreeSpan], width: int) -> list[str]:
    """Draw the spans as plain text that is `width` columns wide at most."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(drawn(spans))
    return [line.rstrip() for line in captured.get().splitlines()]


def duration(seconds: float) -> str:
    """Write a duration with two or three digits: 4 ms, 3.2 s, 2m05s, 1h02m."""
    if round(seconds * 1000) < 1:
        return "<1 ms"
    if round(seconds * 1000) < 1000:  # noqa: PLR2004 - a second
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


@dataclass(frozen=True)
class _Drawing:
    """Children by their parent's id, each in order of start; and the scale of the bars."""

    children: Mapping[str | None, Sequence[TreeSpan]]
    begin_s: float
    total_s: float

    def grow(self, branch: Tree, parent: TreeSpan | None, said: SpanEvent = frozenset()) -> None:
        """Draw what happened in a span: events and spans in order of time.

        What stands in `said`, further up, is not said again.
        """
        said |= set(parent.attributes.values()) if parent else set()
        inside = self.children.get(parent.span_id if parent else None, ())
        rows: list[tuple[float, RenderableType, TreeSpan | None]] = [
            (run[0].start_s, self._row(run, said), run[0]) for run in self._runs(inside)
        ]
        if parent:
            rows += [
                (at_s, _event(name, at_s - parent.start_s), None) for at_s, name in parent.events
            ]
        for _, row, span in sorted(rows, key=itemgetter(0)):
            twig = branch.add(row)
            if span:
                self.grow(twig, span, said)

    def _runs(self, siblings: Sequence[TreeSpan]) -> Iterator[list[TreeSpan]]:
        """Join those in a row that differ in nothing one has to see."""

        def kind(span: TreeSpan) -> tuple[str, str | None]:
            is_plain = span.ok and not span.events and not self.children.get(span.span_id)
            return span.name, None if is_plain else span.span_id

        for _, group in groupby(siblings, key=kind):
            run = list(group)
            if len(run) > FOLD_ABOVE:
                yield run
            else:
                yield from ([span] for span in run)

    def _row(self, run: Sequence[TreeSpan], said: SpanEvent) -> Table:
        start_s, end_s = run[0].start_s, max(span.end_s for span in run)
        row = Table.grid(padding=(0, 2, 0, 0), pad_edge=False, expand=True)
        row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        row.add_column(width=DURATION_CELLS, justify="right", no_wrap=True)
        row.add_column(width=TREE_BAR_CELLS, no_wrap=True)
        label = _label(run[0], said) if len(run) == 1 else _folded(run)
        row.add_row(label, duration(max(end_s - start_s, 0)), self._bar(start_s, end_s, run[0].ok))
        return row

    def _bar(self, start_s: float, end_s: float, ok: bool) -> Bar:  # noqa: FBT001 - one call
        total_s, least = self.total_s or 1, 1 / TREE_BAR_CELLS  # even a moment is seen
        begin = min((start_s - self.begin_s) / total_s, 1 - least)
        end = max((end_s - self.begin_s) / total_s, begin + least)
        return Bar(1, begin, end, width=TREE_BAR_CELLS, color="cyan" if ok else "red")


def _label(span: TreeSpan, said: SpanEvent) -> Text:
    text = Text()
    if not span.ok:  # first, so that no long name can push it out
        text.append("✗ failed  ", style="red")
    text.append(_one_line(span.name), style="bold" if span.parent_id is None else "")
    news = {key: value for key, value in span.attributes.items() if value not in said}
    for detail in dict.fromkeys(_details(news, besides=span.name)):
        text.append(f"  {detail}", style="dim")
    return text


def _folded(run: Sequence[TreeSpan]) -> Text:
    longest = duration(max(span.duration_s for span in run))
    text = Text(f"{_one_line(run[0].name)} {TIMES} {len(run)}")
    return text.append(f"  each up to {longest}", style="dim")


def _event(name: str, after_s: float) -> Text:
    is_trouble = any(word in name.lower() for word in TROUBLE)
    mark, style = ("⚠", "yellow") if is_trouble else ("•", "dim")
    text = Text(f"{mark} ", style=style, no_wrap=True, overflow="ellipsis")
    return text.append(f"{_one_line(name)} after {duration(max(after_s, 0))}")


def _details(attributes: Mapping[str, object], *, besides: str) -> Iterator[str]:
    """Return what is worth a place beside the name and is not in it."""
    for key, value in attributes.items():
        *_, last = key.rpartition(".")
        if key.startswith(LEFT_OUT) or str(value) in besides:
            continue
        match value:
            case None | False | "":
                pass
            case True:
                yield last
            case int() if last.endswith(("size", "bytes")):
                yield formatted_size(value)
            case int() | float():
                yield f"{last} {value:g}"
            case str() if value.startswith(DIGEST):
                yield value.removeprefix(DIGEST)[:12]
            case _:
                yield _one_line(str(value))


def _one_line(text: str) -> str:
    """Let nothing through that could move the cursor or change a colour."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )


def _finished(span: ReadableSpan) -> TreeSpan:
    start_ns = span.start_time or 0
    attributes: dict[str, object] = dict(span.attributes or {})
    if span.status.description:
        attributes["error"] = span.status.description
    return TreeSpan(
        name=span.name,
        span_id=format_span_id(span.context.span_id) if span.context else "",
        parent_id=format_span_id(span.parent.span_id) if span.parent else None,
        start_s=start_ns * NS,
        end_s=(span.end_time or start_ns) * NS,
        ok=span.status.status_code is not StatusCode.ERROR,
        attributes=attributes,
        events=[
            (event.timestamp * NS, told_of(event.name, event.attributes or {}))
            for event in span.events
        ],
    )
