"""What can be set, and how it is written.

Imports next to nothing: `ollama-op --help` reads this module, and nobody waits for help.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from crd.durations import InvalidDurationError, parse_seconds

ENV_PREFIX = "OLLAMA_OP_"
OFF = "0"  # instead of an address, as Kubernetes' own components have it
LAST_PORT = 65535
LONGEST_NAME = 253
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_ADDRESS = re.compile(r"(?P<host>[^\s/]*):(?P<port>[0-9]{1,5})")
_TRACE_URL = re.compile(r"https?://[^\s<>\"{}/@]+(/[^\s<>\"{}]*)?")
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
OTLP = "http/protobuf"  # the one way in which spans are sent
_ORIGIN = re.compile(r"https?://[^/\s]+")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PRINTABLE = re.compile(r"[!-~]+")
_SERVICE = re.compile(
    r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
)
_REGISTRY = re.compile(r"[a-z0-9_][a-z0-9_.:-]*")
WEBHOOK_SERVICE = "ollama-op-webhook"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "json", "text")


class BadSetting(ValueError):
    """A value that cannot be meant. The message says what is wrong; `hint`, what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host means every interface, port 0 any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address | None":
        """Read `host:port` or `:port`; None for `0`, which means not to listen at all.

        Raises: BadSetting.
        """
        if text == OFF:
            return None
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match["port"]) > LAST_PORT:
            raise BadSetting(f"{text!r} is no address", "write :8081, 127.0.0.1:8081, or 0 for off")
        return cls(match["host"].strip("[]"), int(match["port"]))

    def bind(self) -> socket.socket:
        """Listen.

        Raises: OSError.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.create_server((self.host, self.port), family=family)

    def is_loopback(self) -> bool:
        """Tell whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_switch(text: str) -> bool:
    """Read a boolean in any of Go's spellings.

    Raises: BadSetting.
    """
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("", "0", "f", "false"):
        return False
    raise BadSetting(f"{text!r} is neither true nor false", "write true or false")


def parse_list(text: str) -> tuple[str, ...]:
    """Read texts that are parted by commas."""
    return tuple(part for part in (part.strip() for part in text.split(",")) if part)


def parse_origins(text: str) -> tuple[str, ...]:
    """Read the origins that browsers may come from.

    Raises: BadSetting.
    """
    origins = parse_list(text)
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise BadSetting(f"{origin!r} is no origin", "write https://models.example, or *")
    return origins


def parse_networks(text: str) -> tuple[str, ...]:
    """Read addresses or networks.

    Raises: BadSetting.
    """
    networks = parse_list(text)
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            raise BadSetting(f"{network!r} is no address", "write 10.0.0.7 or 10.0.0.0/8") from None
    return networks


def parse_registries(text: str) -> tuple[str, ...]:
    """Read the hosts of registries, in lower case.

    Raises: BadSetting.
    """
    registries = parse_list(text.lower())
    for registry in registries:
        if not _REGISTRY.fullmatch(registry):
            raise BadSetting(f"{registry!r} is no registry", "write registry.ollama.ai,hf.co")
    return registries


def parse_duration(text: str) -> float:
    """Read a duration as Go writes it, `90s` or `1h30m`, into seconds.

    Raises: BadSetting.
    """
    try:
        return parse_seconds(text)
    except InvalidDurationError as error:
        what, _, hint = str(error).partition("; ")
        raise BadSetting(what, hint) from None


def parse_url(text: str) -> str:
    """Check the address of an Ollama server; an `http://` that is missing is put before it.

    Raises: BadSetting. Its message never repeats what could be a password.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url if _PRINTABLE.fullmatch(url) else "")
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise BadSetting(
            "the Ollama URL is no http:// or https:// address", "write http://ollama:11434"
        )
    if parts.query or parts.fragment:
        raise BadSetting("the Ollama URL has a query or a fragment", "write http://ollama:11434")
    if parts.username or parts.password:
        raise BadSetting(
            "the Ollama URL carries credentials, which would end up in process lists and manifests",
            "put a proxy that adds them before Ollama, and give the proxy's address here",
        )
    return url.rstrip("/")


def parse_trace_url(text: str) -> str:
    """Read the address of a trace, with `{trace_id}` in the place of its id.

    Raises: BadSetting.
    """
    plain = text.replace("{trace_id}", "")
    if text and (plain == text or not _TRACE_URL.fullmatch(plain)):
        raise BadSetting(
            "that is no address of a trace", "write https://jaeger.example/trace/{trace_id}"
        )
    return text


def parse_name(text: str) -> str:
    """Check the name of an object of Kubernetes.

    Raises: BadSetting.
    """
    if not _NAME.fullmatch(text) or len(text) > LONGEST_NAME:
        raise BadSetting(f"{text!r} cannot be a name", "write a-z, 0-9, - and . as in ollama-op")
    return text


def pod_namespace() -> str | None:
    """Return the namespace of the pod that this process runs in; None outside of any."""
    try:
        return NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


def wants_tracing(environ: Mapping[str, str]) -> bool:
    """Tell from the variables of OpenTelemetry whether spans are to be sent somewhere.

    Raises: BadSetting for a way to send them that is not here.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    exporter = environ.get("OTEL_TRACES_EXPORTER") or (
        "otlp" if any(environ.get(name) for name in endpoints) else "none"
    )
    if exporter not in ("otlp", "none"):
        raise BadSetting(f"OTEL_TRACES_EXPORTER={exporter} is not known here", "set it to otlp")
    protocol = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or OTLP
    )
    if exporter == "otlp" and protocol != OTLP:
        raise BadSetting(
            f"traces cannot be sent by {protocol}",
            f"set OTEL_EXPORTER_OTLP_PROTOCOL={OTLP}; collectors take it on port 4318",
        )
    if exporter == "otlp":
        for name in endpoints:
            _check_endpoint(name, environ.get(name))
    return exporter == "otlp"


def _check_endpoint(name: str, text: str | None) -> None:
    """See that spans could be sent to an address.

    Raises: BadSetting. Its message never repeats what could be a key.
    """
    if not text:
        return
    try:
        parse_url(text if "://" in text else f"none://{text}")
    except BadSetting:
        raise BadSetting(
            f"{name} is no plain http:// or https:// address",
            f"set it to http://collector:4318; a key belongs in {HEADERS}",
        ) from None


class Misuse(BadSetting):
    """Values that cannot be meant together: a mistake on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestSettings:
    """How to serve the REST API, if at all."""

    enabled: bool = False
    bind_address: Address | None = field(default=Address("", 8082))
    key: str | None = field(default=None, repr=False)
    key_file: Path | None = None
    kubernetes_auth: bool = False
    insecure: bool = False  # let everybody in, from everywhere
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    trace_url_template: str = ""

    @property
    def locked(self) -> bool:
        """Whether a key or a token is asked for."""
        return bool(self.key or self.key_file or self.kubernetes_auth)

    @property
    def address(self) -> Address | None:
        """Where to listen; None for not at all."""
        return self.bind_address if self.enabled else None

    def check(self) -> None:
        """See that a server that everybody can reach lets not everybody in.

        Raises: Misuse.
        """
        if self.address is None or self.locked or self.insecure or self.address.is_loopback():
            return
        raise Misuse(
            f"the REST API at {self.address} could be used by everybody who can reach it",
            "give it a key with --api-server-key-file or --api-server-key, or listen on"
            " --api-server-bind-address=127.0.0.1:8082; --api-server-insecure goes without",
        )


@dataclass(frozen=True, slots=True)
class Service:
    """The Kubernetes Service at which something of ours is found."""

    name: str
    namespace: str

    @classmethod
    def parse(cls, text: str) -> "Service":
        """Read `name.namespace`.

        Raises: BadSetting.
        """
        match = _SERVICE.fullmatch(text)
        if match is None:
            raise BadSetting(f"{text!r} is no Service", "write ollama-op-webhook.my-namespace")
        return cls(*match.groups())

    @property
    def hosts(self) -> tuple[str, ...]:
        """Its names in DNS; and this machine's own, for an operator outside the cluster."""
        base = f"{self.name}.{self.namespace}"
        return (f"{base}.svc", f"{base}.svc.cluster.local", base, "localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """How to serve the admission webhook, if at all."""

    bind_address: Address | None = None
    cert_dir: Path | None = None  # None: the operator makes its own certificates
    service: Service | None = None  # None: by its usual name, in the pod's namespace
    allowed_registries: tuple[str, ...] = ()  # none for all

    @property
    def makes_certificates(self) -> bool:
        """Whether the certificates are the operator's own."""
        return self.bind_address is not None and self.cert_dir is None

    def named_service(self) -> Service:
        """Return the Service that certificates are for.

        Raises: Misuse if it is not known.
        """
        if self.service is not None:
            return self.service
        if (namespace := pod_namespace()) is not None:
            return Service(WEBHOOK_SERVICE, namespace)
        raise Misuse(
            "outside a pod, the namespace of the webhook's Service is not known",
            f"set --webhook-service={WEBHOOK_SERVICE}.my-namespace",
        )

    def check(self) -> None:
        """See that what is set can be kept.

        Raises: Misuse.
        """
        if self.makes_certificates:
            self.named_service()
        if self.allowed_registries and self.bind_address is None:
            raise Misuse(
                "--allowed-registries is kept by the webhook alone, and that is off",
                "turn it on with --webhook-bind-address=:9443, or see config/policy",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run the operator. Times are in seconds."""

    ollama_api_url: str = "http://localhost:11434"
    namespace: str | None = None  # None for all
    kubeconfig: Path | None = None  # None: KUBECONFIG, ~/.kube/config or the pod's own account
    health_probe_bind_address: Address | None = field(default=Address("", 8081))
    health_interval_s: float = 60
    stall_timeout_s: float = 300
    progress_interval_s: float = 5  # between writes of a pull's progress
    max_concurrent_pulls: int = 4
    metrics_bind_address: Address | None = None
    metrics_per_model: bool = True
    metrics_kubernetes_auth: bool = False
    leader_elect: bool = False
    leader_elect_namespace: str | None = None
    leader_elect_id: str = "ollama-op"
    rest: RestSettings = field(default_factory=RestSettings)
    webhook: WebhookSettings = field(default_factory=WebhookSettings)

    @property
    def reviews_tokens(self) -> bool:
        """Whether Kubernetes is asked about bearer tokens."""
        rest = self.rest.enabled and self.rest.kubernetes_auth
        return rest or (self.metrics_bind_address is not None and self.metrics_kubernetes_auth)

    @property
    def lease_namespace(self) -> str:
        """Where the lease is by which replicas elect a leader: by default where they run."""
        return self.leader_elect_namespace or pod_namespace() or self.namespace or "default"
