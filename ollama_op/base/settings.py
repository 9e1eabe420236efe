"""What can be set.

Imports next to nothing: `ollama-op --help` reads this module, and nobody waits for help.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ollama_op.base.parsing import Address, ConfigError, Service, parse_url

ENV_PREFIX = "OLLAMA_OP_"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
OTLP = "http/protobuf"  # the one way in which spans are sent
WEBHOOK_SERVICE = "ollama-op-webhook"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "json", "text")


def pod_namespace() -> str | None:
    """Return the namespace of the pod that this process runs in; None outside of any."""
    try:
        return NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


def wants_tracing(environ: Mapping[str, str]) -> bool:
    """Return True if the variables of OpenTelemetry ask for spans to be sent.

    Raises: BadSetting for a way to send them that is not here.
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

    Raises: BadSetting. Its message never repeats what could be a key.
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


class UsageError(ConfigError):
    """Values that are invalid together: a mistake on the command line."""


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
        """Check that a server that everybody can reach lets not everybody in.

        Raises: Misuse.
        """
        if self.address is None or self.locked or self.insecure or self.address.is_loopback():
            return
        raise UsageError(
            f"the REST API at {self.address} could be used by everybody who can reach it",
            "give it a key with --api-server-key-file or --api-server-key, or listen on"
            " --api-server-bind-address=127.0.0.1:8082; --api-server-insecure goes without",
        )


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
        raise UsageError(
            "outside a pod, the namespace of the webhook's Service is not known",
            f"set --webhook-service={WEBHOOK_SERVICE}.my-namespace",
        )

    def check(self) -> None:
        """Check that what is set can be kept.

        Raises: Misuse.
        """
        if self.makes_certificates:
            self.named_service()
        if self.allowed_registries and self.bind_address is None:
            raise UsageError(
                "--allowed-registries is kept by the webhook alone, and that is off",
                "turn it on with --webhook-bind-address=:9443, or see config/policy",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run the operator. Times are in seconds."""

    ollama_api_url: str = "http://localhost:11434"
    ollama_ca_file: Path | None = None  # None: the usual CAs, or those of SSL_CERT_FILE
    ollama_header_file: Path | None = None
    namespace: str | None = None  # None for all
    kubeconfig: Path | None = None  # None: KUBECONFIG, ~/.kube/config or the pod's own account
    health_probe_bind_address: Address | None = field(default=Address("", 8081))
    health_interval_s: float = 60
    stall_timeout_s: float = 300
    progress_interval_s: float = 5  # between writes of a pull's progress
    max_concurrent_pulls: int = 4
    deletion_grace_s: float = 0  # in which the model of an object that is gone can be taken over
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
