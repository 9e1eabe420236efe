"""Play a story and write down what users see of it: statuses, REST answers, events, log lines.

What differs from run to run for no reason that a user could see (uids, trace ids) is left out;
times are seconds of the story.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import anyio
import msgspec
import trio.testing
from structlog.contextvars import merge_contextvars
from structlog.processors import add_log_level
from structlog.testing import capture_logs
from structlog.typing import EventDict, WrappedLogger

from api.bodies import describe
from crash.play import LIMIT_S, SETTINGS, TICK_S, Scenario, repeatable
from crd.model import decode
from crd.v1alpha1 import PLURAL
from ollama_op.sandbox.kube.storage import Change
from support.virtual.world import START, Object, World, world

_TIME: Final = re.compile(
    r"2026-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z|2026-\d\d-\d\d \d\d:\d\d:\d\dZ"
)
_UID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_QUIET: Final = {"uid", "level", "log_level", "event", "timestamp", "trace_id"}


class Recorder:
    """Takes lines down in the order in which they happen."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._clock: World | None = None

    def follow(self, w: World) -> None:
        """Tell the time by this world's clock from now on."""
        self._clock = w

    def log(self, _: WrappedLogger, __: str, line: EventDict) -> EventDict:
        """Take down a log line, as a processor of structlog."""
        if line["level"] != "debug":
            about = {key: str(line[key]) for key in sorted(line.keys() - _QUIET)}
            self._take("log", f"{line['level']} {line['event']}", about)
        return line

    def change(self, change: Change) -> None:
        """Take down what a user of Kubernetes or of the REST API sees of a change."""
        if change.plural == "events" and change.after:
            about = change.after
            what = f"{about['type']} {about['reason']}: {about['message']}"
            self._take("event", f"{about['involvedObject']['name']} {what}", {})
        elif change.plural == PLURAL:
            self._object(change.key[1], change.after)

    def _object(self, name: str, now: Object | None) -> None:
        if now is None:
            self._take("gone", name, {})
            return
        meta = now["metadata"]
        about = {key: meta[key] for key in ("finalizers", "annotations") if key in meta}
        self._take("object", name, about | {"status": now.get("status", {})})
        answer = msgspec.json.encode(describe(decode(msgspec.json.encode(now))))
        self._take("rest", name, json.loads(answer))

    def _take(self, kind: str, what: str, about: Mapping[str, Any]) -> None:
        now = f"{(self._clock.now() - START).total_seconds():9.2f}" if self._clock else "   before"
        rest = f" {json.dumps(about, sort_keys=True)}" if about else ""
        self.lines.append(f"{now} {kind} {_plain(what + rest)}")


def _plain(text: str) -> str:
    text = _UID.sub("UID", text)
    return _TIME.sub(lambda found: f"T+{_seconds(found[0]):g}", text)


def _seconds(time: str) -> float:
    return (datetime.fromisoformat(time.replace(" ", "T")) - START).total_seconds()


def record(scenario: Scenario) -> list[str]:
    """Play the story undisturbed and return its lines."""
    recorder = Recorder()
    time = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    processors = [merge_contextvars, add_log_level, recorder.log]
    with capture_logs(processors=processors), repeatable(0):
        anyio.run(_play, scenario, recorder, backend="trio", backend_options=time)
    return [*_once(recorder.lines)]


async def _play(scenario: Scenario, recorder: Recorder) -> None:
    async with world(**SETTINGS, **scenario.settings) as w:
        recorder.follow(w)
        w.ollama.downloads.tick_s = TICK_S
        w.tasks.start_soon(_watch, w, recorder)
        w.start()
        with anyio.fail_after(LIMIT_S):
            await scenario.given(w)
            await w.rest(quiet_s=10)
            await scenario.when(w)
            await w.rest()


async def _watch(w: World, recorder: Recorder) -> None:
    store = w.kube.store
    seen = store.revision
    while True:
        await store.change()
        for change in store.since(seen):
            recorder.change(change)
        seen = store.revision


def _once(lines: list[str]) -> Iterator[str]:
    """Leave out what says the same of the same object as the line before it of its kind did."""
    last: dict[tuple[str, ...], str] = {}
    for line in lines:
        kind, _, what = line[10:].partition(" ")
        key = (kind, what.partition(" ")[0]) if kind in {"object", "rest"} else (line,)
        if kind not in {"object", "rest"} or last.get(key) != what:
            yield line
        last[key] = what
