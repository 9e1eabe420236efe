"""Whether spans are sent, as the variables of OpenTelemetry say."""

from collections.abc import Mapping

from ollama_op.base.parsing import ConfigError, parse_url

HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
OTLP = "http/protobuf"  # the one way in which spans are sent


def wants_tracing(environ: Mapping[str, str]) -> bool:
    """Return True if the variables of OpenTelemetry ask for spans to be sent.

    Raises: ConfigError for a way to send them that is not here.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    exporter = environ.get("OTEL_TRACES_EXPORTER") or (
        "otlp" if any(environ.get(name) for name in endpoints) else "none"
    )
    if exporter not in ("otlp", "none"):
        raise ConfigError(
            f"OTEL_TRACES_EXPORTER={exporter} is not known here", "set OTEL_TRACES_EXPORTER=otlp"
        )
    protocol = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or OTLP
    )
    if exporter == "otlp" and protocol != OTLP:
        raise ConfigError(
            f"traces cannot be sent by {protocol}",
            f"set OTEL_EXPORTER_OTLP_PROTOCOL={OTLP}; collectors take it on port 4318",
        )
    if exporter == "otlp":
        for name in endpoints:
            _check_endpoint(name, environ.get(name))
    return exporter == "otlp"


def _check_endpoint(name: str, text: str | None) -> None:
    """Check that spans could be sent to an address.

    Raises: ConfigError. Its message never repeats what could be a key.
    """
    if not text:
        return
    try:
        parse_url(text if "://" in text else f"none://{text}")
    except ConfigError:
        raise ConfigError(
            f"{name} is no plain http:// or https:// address",
            f"set it to http://collector:4318; a key belongs in {HEADERS}",
        ) from None
