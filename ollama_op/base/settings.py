"""What can be set, and how. A new flag is a field here, and the module that uses the value.

The order of the fields is that of the flags in the help and in docs/reference.md.

Imports next to nothing: `ollama-op --help` reads this module, and nobody waits for help.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ollama_op.base.declare import (
    ADDRESS,
    DURATION_OR_OFF,
    DURATION_PARAM,
    FILE,
    KEY,
    NAME_PARAM,
    NAMESPACE_NAME,
    NETWORKS,
    ORIGINS,
    REGISTRIES,
    SERVICE,
    SWITCH,
    TRACE_URL,
    URL,
    OneOf,
    WholeNumber,
    setting,
)
from ollama_op.base.parsing import OFF, Address, Service, UsageError

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
WEBHOOK_SERVICE = "ollama-op-webhook"


def pod_namespace() -> str | None:
    """Return the namespace of the pod that this process runs in; None outside of any."""
    try:
        return NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestSettings:
    """How to serve the REST API, if at all."""

    enabled: bool = setting(
        "--enable-api-server", SWITCH, "Serve the REST API.", default="false", doctor=True
    )
    bind_address: Address | None = setting(
        "--api-server-bind-address",
        ADDRESS,
        "Where the REST API is, with a page at / and docs at /docs.",
        default=":8082",
    )
    key: str | None = setting(
        "--api-server-key", KEY, "The key that clients send as X-API-Key.", shown=False
    )
    key_file: Path | None = setting(
        "--api-server-key-file",
        FILE,
        "File of several keys, with scopes and namespaces; read again when it changes.",
    )
    kubernetes_auth: bool = setting(
        "--api-server-kubernetes-auth",
        SWITCH,
        "Let bearer tokens in that Kubernetes knows, with the rights that it grants.",
        default="false",
        doctor=True,
    )
    insecure: bool = setting(
        "--api-server-insecure",
        SWITCH,
        "Let everybody in when there is no key, also from other machines.",
        default="false",
    )
    cors_origins: tuple[str, ...] = setting(
        "--api-server-cors-origins",
        ORIGINS,
        "Origins whose pages may call it, separated by commas; default is none.",
        default=(),
    )
    trusted_proxies: tuple[str, ...] = setting(
        "--api-server-trusted-proxies",
        NETWORKS,
        "Addresses or networks whose X-Forwarded-For and X-Forwarded-Prefix are believed; default"
        " is none.",
        default=(),
    )
    trace_url_template: str = setting(
        "--trace-url-template",
        TRACE_URL,
        "Where the page links to for a trace: https://jaeger.example/trace/{trace_id}",
        default="",
    )

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

        Raises: UsageError.
        """
        if self.address is None or self.locked or self.insecure or self.address.is_loopback():
            return
        raise UsageError(
            f"the REST API at {self.address} could be used by everybody who can reach it",
            "give it a key with --api-server-key-file or --api-server-key, or listen on"
            f" --api-server-bind-address=127.0.0.1:{self.address.port}; --api-server-insecure goes"
            " without",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """How to serve the admission webhook, if at all."""

    bind_address: Address | None = setting(
        "--webhook-bind-address",
        ADDRESS,
        "Where the admission webhook is, over TLS: :9443; 0 is off.",
        default=OFF,
        doctor=True,
    )
    cert_dir: Path | None = setting(
        "--webhook-cert-dir",
        FILE,
        "Folder with its tls.crt and tls.key, read again when they change; without it the operator"
        " makes its own.",
        doctor=True,
    )
    service: Service | None = setting(
        "--webhook-service",
        SERVICE,
        f"Service for which it makes them; default is {WEBHOOK_SERVICE}, in its namespace.",
        doctor=True,
    )
    allowed_registries: tuple[str, ...] = setting(
        "--allowed-registries",
        REGISTRIES,
        "Hosts of which the webhook, and nothing else, lets models in; default is all.",
        default=(),
    )

    @property
    def makes_certificates(self) -> bool:
        """Whether the certificates are the operator's own."""
        return self.bind_address is not None and self.cert_dir is None

    def named_service(self) -> Service:
        """Return the Service that certificates are for.

        Raises: UsageError if it is not known.
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

        Raises: UsageError.
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

    ollama_api_url: str = setting(
        "--ollama-api-url",
        URL,
        "The Ollama server.",
        default="http://localhost:11434",
        doctor=True,
    )
    ollama_ca_file: Path | None = setting(
        "--ollama-ca-file",
        FILE,
        "File of CAs to trust for an https:// Ollama, instead of the usual ones; read again when it"
        " changes.",
        doctor=True,
    )
    ollama_header_file: Path | None = setting(
        "--ollama-header-file",
        FILE,
        "File of headers for each call of Ollama, lines `Name: value`, as for a token; read again"
        " when it changes.",
        doctor=True,
    )
    kubeconfig: Path | None = setting(
        "--kubeconfig",
        FILE,
        "Instead of KUBECONFIG, ~/.kube/config or the pod's own account.",
        doctor=True,
    )
    namespace: str | None = setting(
        "--namespace", NAMESPACE_NAME, "Watch only this one; default is all.", doctor=True
    )
    health_interval_s: float = setting(
        "--health-interval", DURATION_PARAM, "Time between looks at Ollama.", default="60s"
    )
    stall_timeout_s: float = setting(
        "--stall-timeout",
        DURATION_PARAM,
        "Longest time that a pull may show no progress.",
        default="5m",
    )
    progress_interval_s: float = 5  # between writes of a pull's progress
    max_concurrent_pulls: int = setting(
        "--max-concurrent-pulls", WholeNumber(1), "Downloads at a time.", default=4
    )
    deletion_grace_s: float = setting(
        "--deletion-grace",
        DURATION_OR_OFF,
        "How long a model stays on Ollama, under another name, after its last object has gone, for"
        " an object made anew; 0 removes it at once.",
        default=OFF,
    )
    health_probe_bind_address: Address | None = setting(
        "--health-probe-bind-address",
        ADDRESS,
        "Where /healthz and /readyz are; 0 is off.",
        default=":8081",
    )
    log_level: str = setting(
        "--log-level",
        OneOf(("debug", "info", "warning", "error")),
        "Least important lines.",
        default="info",
    )
    log_format: str = setting(
        "--log-format",
        OneOf(("auto", "json", "text")),
        "auto is text on a terminal, JSON elsewhere.",
        default="auto",
    )
    rest: RestSettings = field(default_factory=RestSettings)
    metrics_bind_address: Address | None = setting(
        "--metrics-bind-address", ADDRESS, "Where /metrics is; 0 is off.", default=OFF, doctor=True
    )
    metrics_per_model: bool = setting(
        "--metrics-per-model",
        SWITCH,
        "Have series for each single model among the metrics.",
        default="true",
    )
    metrics_kubernetes_auth: bool = setting(
        "--metrics-kubernetes-auth",
        SWITCH,
        "Let only those read them whose bearer token Kubernetes lets get /metrics.",
        default="false",
        doctor=True,
    )
    webhook: WebhookSettings = field(default_factory=WebhookSettings)
    leader_elect: bool = setting(
        "--leader-elect",
        SWITCH,
        "Let one of several replicas act, elected by a Lease.",
        default="false",
        doctor=True,
    )
    leader_elect_namespace: str | None = setting(
        "--leader-elect-namespace",
        NAMESPACE_NAME,
        "Where the Lease is; default is the pod's own, else --namespace, else default.",
        doctor=True,
    )
    leader_elect_id: str = setting(
        "--leader-elect-id", NAME_PARAM, "Name of the Lease.", default="ollama-op"
    )

    @property
    def reviews_tokens(self) -> bool:
        """Whether Kubernetes is asked about bearer tokens."""
        rest = self.rest.enabled and self.rest.kubernetes_auth
        return rest or (self.metrics_bind_address is not None and self.metrics_kubernetes_auth)

    @property
    def lease_namespace(self) -> str:
        """Where the lease is by which replicas elect a leader: by default where they run."""
        return self.leader_elect_namespace or pod_namespace() or self.namespace or "default"
