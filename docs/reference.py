"""The reference of all that has a name, rendered from the code into docs/ by `just reference`."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import reference_tables as tables
from reference_tables import head, row

from crd.render import crd
from ollama_op.base.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from ollama_op.cli.commands import cli

PATH: Final = Path(__file__).with_name("reference.md")
HEAD: Final = """\
# Reference

Every name that you can write or meet, rendered from the code by `just reference`. Alerts are in
[alerts.md](alerts.md), the REST API is described at `/docs` of a running operator.
"""
EXITS: Final = {
    0: "Done. `run` was ended by SIGTERM, `doctor` has found nothing that fails.",
    EXIT_FAILED: "Failed: `run` cannot start, `doctor` found what fails, `demo` broke a promise.",
    EXIT_USAGE: "A flag, a variable or a combination of them is invalid.",
    EXIT_INTERRUPTED: "Ended by Ctrl-C. `demo` ends with 128 and the number of any signal.",
}
OTLP: Final = "OTEL_EXPORTER_OTLP_"
TRACES: Final = "OTEL_EXPORTER_OTLP_TRACES_"  # each variable of OTLP has such a one, which wins
LIMITS: Final = "A limit of what a span holds."
OPENTELEMETRY: Final = {
    f"{OTLP}ENDPOINT": "Where spans are sent: `http://collector:4318`. Turns tracing on.",
    f"{OTLP}HEADERS": "What is sent along, as a key: `authorization=Bearer%20…`.",
    f"{OTLP}PROTOCOL": "`http/protobuf`, the only one that is there.",
    f"{OTLP}TIMEOUT": "Seconds that one export may take; default is 10.",
    f"{OTLP}COMPRESSION": "`gzip`, `deflate` or `none`, the default.",
    f"{OTLP}CERTIFICATE": "File of the authorities that the collector's certificate may be of.",
    f"{OTLP}CLIENT_CERTIFICATE": "File of the operator's own certificate, for mutual TLS.",
    f"{OTLP}CLIENT_KEY": "File of its key.",
    "OTEL_TRACES_EXPORTER": "`otlp` sends spans, also to the default endpoint; `none` sends none.",
    "OTEL_SDK_DISABLED": "`true` turns tracing off.",
    "OTEL_SERVICE_NAME": "Name of the service; default is `ollama-op`.",
    "OTEL_RESOURCE_ATTRIBUTES": "More about it: `deployment.environment=prod,team=ai`.",
    "OTEL_TRACES_SAMPLER": "Which traces are kept; default is `parentbased_always_on`, all.",
    "OTEL_TRACES_SAMPLER_ARG": "Its argument, as `0.1` for `parentbased_traceidratio`.",
    "OTEL_BSP_SCHEDULE_DELAY": "Milliseconds between two exports; default is 5000.",
    "OTEL_BSP_MAX_QUEUE_SIZE": "Spans that may wait; more are dropped. Default is 2048.",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "Spans in one export at the most; default is 512.",
    "OTEL_ATTRIBUTE_COUNT_LIMIT": LIMITS,
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": LIMITS,
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": LIMITS,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": LIMITS,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": LIMITS,
    "OTEL_SPAN_LINK_COUNT_LIMIT": LIMITS,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": LIMITS,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": LIMITS,
}
OTHERS: Final = {
    "KUBECONFIG": "Which kubeconfigs, unless `--kubeconfig` names one; several are separated by"
    " colons, and the first wins.",
    "HTTP_PROXY": "Through which proxy `http://` addresses are called; likewise `HTTPS_PROXY` for"
    " `https://`, and `ALL_PROXY` for either. In lower case they win.",
    "NO_PROXY": "What is called without a proxy, separated by commas: names, with all below them;"
    " `.svc` for what is below only; addresses; networks, as `10.0.0.0/8`; each also with a port.",
    "SSL_CERT_FILE": "File of CAs to trust instead of those that come with the operator; or"
    " `SSL_CERT_DIR`. `--ollama-ca-file` wins for Ollama.",
    "OLLAMA_HOST": "A real Ollama for `demo` to play on.",
    "NO_COLOR": "If it is set, nothing is coloured.",
}


def main() -> None:
    """Write the page."""
    PATH.write_text(page(), encoding="utf-8")


def page() -> str:
    """Render the page."""
    parts = {title: list(lines) for title, lines in _parts()}
    contents = [f"- [{title}](#{_anchor(title)})" for title in parts]
    chapters = [line for title, lines in parts.items() for line in (f"## {title}\n", *lines, "")]
    return "\n".join([HEAD, *contents, "", *chapters])


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-").replace("`", "")


def _parts() -> Iterator[tuple[str, Iterator[str]]]:
    for name, command in sorted(cli.commands.items(), reverse=True):
        yield f"ollama-op {name}", _flags(command)
    yield "Exit codes", _exits()
    yield "Variables of OpenTelemetry", _opentelemetry()
    yield "Other variables", _variables(OTHERS)
    yield "spec", _fields("spec")
    yield "status", _fields("status")
    yield "Annotations and finalizer", tables.annotations()
    yield (
        "Condition reasons",
        _told(
            "What each means and what to do is in [reasons.md](reasons.md). The wait between tries"
            " doubles from one second to five minutes. What waits for a person is tried again, too,"
            " when a refresh is requested.",
            tables.reasons,
        ),
    )
    yield (
        "Events",
        _told(
            "`kubectl describe om NAME` shows those of the last hour. They tell of moments; how"
            " things are, the conditions say, even if an event was lost.",
            tables.events,
        ),
    )
    yield (
        "Metrics",
        _told(
            "How they are turned on and what their labels say is in [metrics.md](metrics.md). Those"
            " with † have a series for each OllamaModel, unless `--metrics-per-model=false`.",
            tables.metrics,
        ),
    )


def _told(text: str, table: Callable[[], Iterator[str]]) -> Iterator[str]:
    yield f"{text}\n"
    yield from table()


def _flags(command: click.Command) -> Iterator[str]:
    yield from head("flag", "environment", "default", "")
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            yield row(
                f"`{'`, `'.join(option.opts)}`",
                f"`{option.envvar}`" if option.envvar else "",
                _default(option),
                option.help or "",
            )


def _default(option: click.Option) -> str:
    value = option.default
    return f"`{value}`" if isinstance(value, str | int) and str(value) else ""


def _exits() -> Iterator[str]:
    yield from head("code", "")
    for code, text in EXITS.items():
        yield row(f"{code}", text)


def _opentelemetry() -> Iterator[str]:
    yield (
        f"A name that begins with `{OTLP}` may begin with `{TRACES}` as well, which then wins. See"
        " [traces.md](traces.md).\n"
    )
    yield from _variables(OPENTELEMETRY)


def _variables(texts: Mapping[str, str]) -> Iterator[str]:
    yield from head("variable", "")
    for name, text in texts.items():
        yield row(f"`{name}`", text)


def _fields(part: str) -> Iterator[str]:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield from head("field", "type", "")
    yield from _rows(schema["properties"][part], part)


def _rows(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        full, kind = f"{path}.{name}", field.get("type", "string or integer")
        needed = " (required)" if name in schema.get("required", ()) else ""
        yield row(f"`{full}`{needed}", kind, field.get("description", ""))
        yield from _rows(field, full)
        yield from _rows(field.get("items", {}), f"{full}[]")


if __name__ == "__main__":
    main()
