import io
import re
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode
from rich.console import Console

from ollama_op.demo.tree import TIMES, TreeSpan, drawn, duration, finished, lines

GIB = 1024**3
PULL = [
    TreeSpan(name="OllamaModel demo/llama3.2-1b", span_id="1", start_s=100, end_s=103.2),
    TreeSpan(name="PATCH ollamamodels", span_id="2", parent_id="1", start_s=100, end_s=100.004),
    TreeSpan(
        name="POST /api/pull",
        span_id="3",
        parent_id="1",
        start_s=100.1,
        end_s=103,
        attributes={"http.request.method": "POST", "model": "llama3.2:1b", "size": 5 * GIB // 4},
        events=[(102.9, "verifying"), (100.6, "stalled")],
    ),
    TreeSpan(name="layer 74701a8c35f6", span_id="4", parent_id="3", start_s=100.2, end_s=102.8),
    TreeSpan(
        name="GET /api/tags",
        span_id="5",
        parent_id="1",
        start_s=103.1,
        end_s=103.105,
        ok=False,
        attributes={"error": "connection refused", "attempt": 2},
    ),
]
GOLDEN = """\
OllamaModel demo/llama3.2-1b                                 3.2 s  ████████████
├── PATCH ollamamodels                                        4 ms  █
├── POST /api/pull  llama3.2:1b  1.2 GiB                     2.9 s  ███████████▏
│   ├── layer 74701a8c35f6                                   2.6 s  ▕█████████▍
│   ├── ⚠ stalled after 500 ms
│   └── • verifying after 2.8 s
└── ✗ failed  GET /api/tags  connection refused  attempt…     5 ms             █
"""


def patches(count: int) -> list[TreeSpan]:
    """Children of PULL's first span that look alike, after all others."""
    return [
        TreeSpan(
            name="PATCH status",
            span_id=f"p{i}",
            parent_id="1",
            start_s=103.11 + i / 100,
            end_s=103.114 + i / 100,
        )
        for i in range(count)
    ]


def test_a_trace_is_a_tree_with_durations_and_bars() -> None:
    """What happened stands below where it happened, in order of time, whatever order it came in."""
    assert GOLDEN.splitlines() == lines(reversed(PULL), 80)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_line_fits_the_width(width: int) -> None:
    """Names are cut; where they end, the durations are still in one column."""
    spans = [replace(span, name=span.name + " and so on" * 10) for span in PULL]

    drawing = lines(spans, width)

    assert len(GOLDEN.splitlines()) == len(drawing)
    assert max(map(len, drawing)) <= width
    ends = [match.end() for line in drawing if (match := re.search(r"…\s+\d\S* m?s", line))]
    assert [width - 14] * 5 == ends


def test_no_spans_are_said_to_be_none() -> None:
    """Nothing recorded is a line, not an empty screen."""
    assert lines([], 80) == ["no spans"]


def test_an_orphan_is_at_the_top() -> None:
    """A span whose parent was not recorded is shown all the same, with what is below it."""
    orphans = [replace(span, parent_id="gone") if span.span_id == "3" else span for span in PULL]

    drawing = lines(orphans[1:], 80)

    assert [line for line in drawing if line.startswith("POST /api/pull")]
    assert [line for line in drawing if line.startswith("├── layer")]


def test_four_alike_in_a_row_are_one_line() -> None:
    """It says how many there were, and shows the time from the first to the last."""
    last = " ".join(lines(PULL + patches(5), 80)[-1].split())

    assert last.startswith(f"└── PATCH status {TIMES} 5 each up to 4 ms 44 ms")
    assert f"{TIMES} 4" in lines(PULL + patches(4), 80)[-1]


def test_three_alike_are_three_lines() -> None:
    """A few are shown as they were."""
    assert len(GOLDEN.splitlines()) + 3 == len(lines(PULL + patches(3), 80))


def test_a_failure_is_not_folded_away() -> None:
    """The one that differs stays a line of its own."""
    alike = patches(9)
    alike[4] = replace(alike[4], ok=False)

    before, between, after = lines(PULL + alike, 80)[-3:]

    assert before.startswith(f"├── PATCH status {TIMES} 4 ")
    assert between.startswith("├── ✗ failed  PATCH status ")
    assert after.startswith(f"└── PATCH status {TIMES} 4 ")


def test_colour_is_for_terminals_and_never_alone() -> None:
    """Into a file goes no escape sequence, and what failed says so in words."""
    plain, terminal = io.StringIO(), io.StringIO()
    Console(file=plain, width=80).print(drawn(PULL))
    Console(file=terminal, width=80, force_terminal=True).print(drawn(PULL))

    assert "\x1b" not in plain.getvalue()
    assert "✗ failed  GET /api/tags" in plain.getvalue()
    assert "\x1b[31m" in terminal.getvalue()


def test_a_span_cannot_write_on_the_terminal() -> None:
    """Line breaks and escape sequences in what a server said stay within their line."""
    span = TreeSpan(
        name="a\nb", span_id="1", start_s=0, end_s=1, ok=False, attributes={"error": "\x1b[2J"}
    )

    assert len(lines([span], 80)) == 1
    assert "\x1b" not in lines([span], 80)[0]


def test_spans_of_the_sdk_are_taken_as_they_are() -> None:
    """Names, parents, attributes, failures and events come along."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("outer", start_time=1_000_000_000) as outer:
        inner = tracer.start_span("inner", start_time=2_000_000_000, attributes={"model": "a:b"})
        inner.add_event("stalled", {"layer": "0123"}, timestamp=2_500_000_000)
        inner.set_status(Status(StatusCode.ERROR, "EOF"))
        inner.end(4_000_000_000)
        outer.end(5_000_000_000)

    child, parent = finished(exporter.get_finished_spans())

    assert TreeSpan(
        name="inner",
        span_id=child.span_id,
        parent_id=parent.span_id,
        start_s=2,
        end_s=4,
        ok=False,
        attributes={"model": "a:b", "error": "EOF"},
        events=[(2.5, "stalled: 0123")],
    ) == replace(child, start_s=round(child.start_s, 6), end_s=round(child.end_s, 6))
    assert parent.parent_id is None
    assert parent.ok


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "<1 ms"),
        (0.0042, "4 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1m00s"),
        (125, "2m05s"),
        (3599.6, "1h00m"),
        (90_000, "25h00m"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    """Two or three digits, in the unit that fits; none is ever 1000 ms or 60 s."""
    assert text == duration(seconds)
