"""Runs the demo with a real Jaeger that takes its traces: `just jaeger`.

Jaeger listens on the ports that it usually has. Ctrl-C ends both, after the traces that came have
been drawn: the Jaeger that can be built from Go modules alone has its query API, but not its UI.

Environment:
    JAEGER_UI          a folder with a built Jaeger UI (its index.html); it is then served
    OTEL_SERVICE_NAME  the name under which the operator's traces are kept; default: ollama-op
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import httpx
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from ollama_op.demo.tree import drawn
from support.process.child import ProcessFailedError
from support.process.jaeger import Jaeger, records

QUERY_PORT, OTLP_PORT = 16686, 4318
SERVICE = "ollama-op"  # unless OTEL_SERVICE_NAME says otherwise
DEMO = [str(Path(sys.executable).with_name("ollama-op")), "demo", "--keep"]
LOOKED_AT, SHOWN = 500, 10  # traces, at the end
NO_UI = """\
Jaeger's query API. Its UI is not in this build (JAEGER_UI can name a
folder with one): Ctrl-C draws the traces here, and ends all."""
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run both until the demo ends; return its exit code."""
    console = Console(highlight=False, markup=False)
    service = os.environ.get("OTEL_SERVICE_NAME", SERVICE)
    ui = os.environ.get("JAEGER_UI")
    ports = {"query_port": QUERY_PORT, "otlp_port": OTLP_PORT}
    try:
        with Jaeger(**ports, ui=Path(ui) if ui else None) as jaeger:
            console.print(_where(jaeger, service), soft_wrap=True)
            code = _play(jaeger, service)
            _show(jaeger, service, console)
    except ProcessFailedError as error:
        console.print(f"error: {error}", soft_wrap=True)
        console.print(f"hint: are ports {QUERY_PORT} and {OTLP_PORT} free?")
        return 1
    except KeyboardInterrupt:  # before there was a demo that could be asked to end
        return 128 + signal.SIGINT
    return code


def _play(jaeger: Jaeger, service: str) -> int:
    """Run the demo; whatever asks this process to end asks the demo, once.

    Its process group is its own, or the terminal would send it a second Ctrl-C while it cleans up.
    """
    env = os.environ | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": service,
    }
    demo = subprocess.Popen(DEMO, env=env, process_group=0)

    def pass_on(number: int, _: FrameType | None) -> None:
        demo.send_signal(number)

    before = [(number, signal.signal(number, pass_on)) for number in ENDS]
    try:
        return demo.wait()
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _where(jaeger: Jaeger, service: str) -> str:
    what = "Jaeger, its UI and its query API." if jaeger.has_ui else NO_UI
    ask = f"curl -s '{jaeger.query_url}/api/traces?service={service}'"
    return f"{jaeger.query_url} is {what}\n  {ask}\n"


def _show(jaeger: Jaeger, service: str, console: Console) -> None:
    """Draw the newest traces, the oldest of them first."""
    try:
        # Most are of looks at Ollama, of one call each.
        traces = [each for each in jaeger.traces(service, LOOKED_AT) if len(each) > 1][:SHOWN]
    except httpx.HTTPError as error:
        console.print(f"Jaeger does not answer any more: {error}")
        return
    if not traces:
        console.print(f"\nNo trace of {service} came; services: {jaeger.services() or 'none'}")
    for spans in sorted(traces, key=lambda spans: min(span["startTime"] for span in spans)):
        console.print()
        console.print(drawn(records(spans)))


if __name__ == "__main__":
    sys.exit(main())
