"""A real Jaeger on loopback that takes traces over OTLP and keeps the newest in memory."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from ollama_op.demo.tree import TreeSpan, told_of
from support.process.assets import assets
from support.process.child import Process, free_port

MAX_TRACES = 1000  # that it keeps, the oldest make room
WITHIN_S = 120  # spans wait in their exporter and in Jaeger's queue before they are found
_POLL_S = 0.05
_US = 1e-6  # seconds
# What else listens in this binary and cannot be left out: on any free port, where nobody looks.
_UNUSED = (
    "collector.http-server.host-port",
    "collector.otlp.grpc.host-port",
    "http-server.host-port",
    "processor.jaeger-binary.server-host-port",
    "processor.jaeger-compact.server-host-port",
    "processor.zipkin-compact.server-host-port",
    "query.grpc-server.host-port",
)
# Tags that are no attributes of a span, but what Jaeger makes of all else that it has.
_ADDED = ("otel.", "internal.", "span.kind")

Json = dict[str, Any]


class Jaeger:
    """Jaeger all-in-one between `with` and its end; what it was told ends with it.

    `otlp_url` is what OTEL_EXPORTER_OTLP_ENDPOINT takes; `query_url` is where it is asked. `ui` is
    a folder with a built Jaeger UI, as there is none in a build from Go modules.
    """

    def __init__(
        self,
        *,
        query_port: int | None = None,
        otlp_port: int | None = None,
        ui: Path | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="jaeger-")
        query, otlp, admin = query_port or free_port(), otlp_port or free_port(), free_port()
        self.query_url = f"http://127.0.0.1:{query}"
        self.otlp_url = f"http://127.0.0.1:{otlp}"
        self._admin_url = f"http://127.0.0.1:{admin}"
        flags = {
            "query.http-server.host-port": f"127.0.0.1:{query}",
            "collector.otlp.http.host-port": f"127.0.0.1:{otlp}",
            "admin.http.host-port": f"127.0.0.1:{admin}",
            # Not on any port: its own agent calls it by this address.
            "collector.grpc-server.host-port": f"127.0.0.1:{free_port()}",
            **dict.fromkeys(_UNUSED, "127.0.0.1:0"),
            "memory.max-traces": str(MAX_TRACES),
            "query.static-files": str(ui or ""),
        }
        self.process = Process(
            [assets() / "jaeger", *(f"--{name}={value}" for name, value in flags.items())],
            log=Path(self._folder.name) / "jaeger.log",
            ready=self._is_ready,
            # It would trace that it is asked for traces, and try for long to send that on.
            env={"OTEL_TRACES_SAMPLER": "always_off"},
        )
        self._client = httpx.Client(base_url=self.query_url, trust_env=False)

    @property
    def has_ui(self) -> bool:
        """Whether a browser finds a UI, and not the page that says that it was not built in."""
        return "not the Jaeger UI" not in self._client.get("/").raise_for_status().text

    def services(self) -> list[str]:
        """Return the names of the services that spans came from."""
        return sorted(self._data("/api/services"))

    def traces(self, service: str, limit: int = 20) -> list[list[Json]]:
        """Return the newest traces of a service, each as its spans in Jaeger's JSON."""
        found = self._data(f"/api/traces?service={service}&limit={limit}")
        return [trace["spans"] for trace in found]

    def trace(self, trace_id: str, *, spans: int = 1, within_s: float = WITHIN_S) -> list[Json]:
        """Wait until a trace (32 hex digits) has so many spans; return them in Jaeger's JSON.

        Raises: AssertionError if it has fewer after `within_s`.
        """
        deadline = time.monotonic() + within_s
        while True:
            answer = self._client.get(f"/api/traces/{trace_id}")
            found: list[Json] = []
            if answer.status_code != httpx.codes.NOT_FOUND:
                found = answer.raise_for_status().json()["data"][0]["spans"]
            if len(found) >= spans:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"trace {trace_id} has {len(found)} of {spans} spans; "
                    f"there are services {self.services()}"
                )
            time.sleep(_POLL_S)

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()
        self._client.close()
        self._folder.cleanup()

    def _data(self, path: str) -> list[Any]:
        return list(self._client.get(path).raise_for_status().json()["data"] or ())

    def _is_ready(self) -> bool:
        return httpx.get(self._admin_url, trust_env=False).is_success


def records(spans: Sequence[Json]) -> list[TreeSpan]:
    """Read spans in Jaeger's JSON as those that can be drawn."""
    return [_record(span) for span in spans]


def _record(span: Json) -> TreeSpan:
    tags = _fields(span["tags"])
    parents = [each["spanID"] for each in span["references"] if each["refType"] == "CHILD_OF"]
    start_s = span["startTime"] * _US
    attributes = {key: value for key, value in tags.items() if not key.startswith(_ADDED)}
    if attributes.pop("error", False) and "otel.status_description" in tags:
        attributes["error"] = tags["otel.status_description"]
    return TreeSpan(
        name=span["operationName"],
        span_id=span["spanID"],
        parent_id=parents[0] if parents else None,
        start_s=start_s,
        end_s=start_s + span["duration"] * _US,
        ok=tags.get("otel.status_code") != "ERROR",
        attributes=attributes,
        events=[(log["timestamp"] * _US, _event(_fields(log["fields"]))) for log in span["logs"]],
    )


def _event(fields: Json) -> str:
    return told_of(fields.pop("event", "event"), fields)


def _fields(pairs: Sequence[Json]) -> Json:
    return {pair["key"]: pair["value"] for pair in pairs}
