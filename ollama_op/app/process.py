"""The operator as a process: sockets before anything else, then signals, and an orderly end."""

import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import httpx
import structlog

from ollama_op.app.operator import Readiness, operate
from ollama_op.base.exits import EXIT_INTERRUPTED
from ollama_op.base.observer import NOBODY
from ollama_op.base.otlp import wants_tracing
from ollama_op.base.parsing import Address, ConfigError
from ollama_op.base.proxies import check_proxies
from ollama_op.base.settings import Settings
from ollama_op.kube.cluster import connect
from ollama_op.kube.login import Login
from ollama_op.ollama.connection import OllamaTransport

if TYPE_CHECKING:  # imported where it is wanted
    from ollama_op.admission.webhook import Certificate
    from ollama_op.metrics.exporter import Exporter
    from ollama_op.rest.serving import RestServer

log = structlog.get_logger(__name__)

CLOSE_LIMIT_S = 1.5  # what deletions under way get to end; who leads next is to wait 3 s at most


@dataclass(frozen=True)
class _Ready:
    """What is ready before the event loop runs; None for what is not wanted."""

    login: Login
    health: Readiness
    ollama: OllamaTransport
    probes: socket.socket | None
    metrics: "tuple[Exporter, socket.socket] | None"
    rest: "RestServer | None"
    webhook: "tuple[socket.socket, Certificate] | None"


def run_operator(settings: Settings) -> int:
    """Run until a signal comes; return the exit code.

    Raises: ConfigError if it cannot start.
    """
    login = Login.find(settings.kubeconfig)
    check_proxy()
    ollama = transport(settings)
    health = Readiness(login=login)
    metrics = _get_metrics_ready(settings, health)
    rest = _get_rest_ready(settings, metrics[0] if metrics else None)
    webhook = _get_webhook_ready(settings, health, metrics[0] if metrics else None)
    address = settings.health_probe_bind_address
    flag = "--health-probe-bind-address"
    probes = None if address is None else listen(address, "health probes", flag)
    stop_tracing = start_tracing()
    try:
        with unwrapped(ConfigError):
            return anyio.run(
                _main,
                settings,
                _Ready(login, health, ollama, probes, metrics, rest, webhook),
                # Serves a fifth more requests a second, and makes no difference to anything else.
                backend_options={"use_uvloop": rest is not None},
            )
    finally:
        stop_tracing()


def start_tracing() -> Callable[[], None]:
    """Send spans if the environment says where to; return what ends that.

    Clusters inject such variables into every pod, for other programs too. What cannot be done
    here is logged, and there are no traces.
    """
    try:
        if not wants_tracing(os.environ):
            return _nothing
        from ollama_op.app import otel  # noqa: PLC0415 - takes 0.15 s

        return otel.start_recording(otel.sender())
    except ConfigError as error:
        log.warning("no traces are sent", problem=str(error), hint=error.hint)
        return _nothing


def _nothing() -> None:
    """End what was not begun."""


def _get_metrics_ready(
    settings: Settings, health: Readiness
) -> "tuple[Exporter, socket.socket] | None":
    """Get ready to measure, if that is wanted.

    Raises: ConfigError.
    """
    if settings.metrics_bind_address is None:
        return None
    from ollama_op.metrics.exporter import Exporter  # noqa: PLC0415 - where nothing is measured, it costs
    from ollama_op.metrics.recorder import Metrics  # noqa: PLC0415 - no time and no memory

    sock = listen(settings.metrics_bind_address, "metrics", "--metrics-bind-address")
    metrics = Metrics(lambda: health.engine, per_model=settings.metrics_per_model)
    return Exporter(metrics, locked=settings.metrics_kubernetes_auth), sock


def _get_rest_ready(settings: Settings, exporter: "Exporter | None") -> "RestServer | None":
    """Get ready to serve the REST API, if that is wanted.

    Raises: ConfigError.
    """
    wanted = settings.rest
    wanted.check()
    if wanted.address is None:
        return None
    from ollama_op.rest import serving  # noqa: PLC0415 - Litestar takes half a second

    keys = serving.load_keys(wanted)
    sock = listen(wanted.address, "the REST API", "--api-server-bind-address")
    how = {"observe": exporter.metrics.served.note} if exporter else {}
    return serving.RestServer(settings, keys, sock, **how)


def _get_webhook_ready(
    settings: Settings, health: Readiness, exporter: "Exporter | None"
) -> "tuple[socket.socket, Certificate] | None":
    """Get ready to be asked about objects, if that is wanted.

    Raises: ConfigError.
    """
    wanted = settings.webhook
    wanted.check()
    if wanted.bind_address is None:
        return None
    from ollama_op.admission.webhook import Certificate  # noqa: PLC0415 - uvicorn need not be waited for

    certificate = Certificate()
    if wanted.cert_dir is not None:
        certificate.install_from(wanted.cert_dir)
    if exporter is not None:
        from ollama_op.metrics.served import Admitted  # noqa: PLC0415 - as it measures

        exporter.metrics.admitted = Admitted(lambda: certificate.expires_at)
    health.is_admitting = False
    return listen(wanted.bind_address, "the webhook", "--webhook-bind-address"), certificate


@contextmanager
def unwrapped(kind: type[Exception]) -> Generator[None]:
    """Let an error of this kind out as itself: every task group that it leaves wraps it once."""
    try:
        yield
    except BaseExceptionGroup as group:
        found: BaseException | None = group.split(kind)[0]
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found or group from None


def check_proxy() -> None:
    """Check the proxies of the environment; log what in NO_PROXY is not understood.

    Raises: ConfigError for a proxy that cannot be used.
    """
    if unknown := check_proxies():
        log.warning("entries of NO_PROXY are not understood, and exempt nothing", entries=unknown)


def http_client(
    url: str,
    way: OllamaTransport | None = None,
    make: Callable[..., httpx.AsyncClient] = httpx.AsyncClient,
) -> httpx.AsyncClient:
    """Make the client of an Ollama server, which nothing else in the environment has a say in."""
    return make(base_url=url, transport=way or OllamaTransport(url), trust_env=False)


def transport(settings: Settings) -> OllamaTransport:
    """Return the way to the Ollama server.

    Raises: ConfigError.
    """
    return OllamaTransport(
        settings.ollama_api_url,
        ca_file=settings.ollama_ca_file,
        header_file=settings.ollama_header_file,
    )


async def _main(settings: Settings, ready: _Ready) -> int:
    log.info("starting", ollama=settings.ollama_api_url, namespace=settings.namespace or "all")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ready.login.run)
        tasks.start_soon(_operate, settings, ready)
        if ready.probes is not None:
            log.info("serving health probes", address=str(settings.health_probe_bind_address))
            tasks.start_soon(_probe, ready.probes, ready.health)
        if ready.metrics is not None:
            log.info("serving metrics", address=str(settings.metrics_bind_address))
            tasks.start_soon(_export, *ready.metrics)
        if ready.rest is not None:
            tasks.start_soon(ready.rest.listen)
        if ready.webhook is not None:
            tasks.start_soon(_admit, settings, ready, *ready.webhook)
        # Left after the first signal: a second one then ends the process as it always does.
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            number = await anext(aiter(signals))
        log.info("stopping", signal=number.name)
        if (engine := ready.health.engine) is not None:
            with anyio.move_on_after(CLOSE_LIMIT_S):
                await engine.servers.close()
        tasks.cancel_scope.cancel()
    return EXIT_INTERRUPTED if number is signal.SIGINT else 0


async def _operate(settings: Settings, ready: _Ready) -> None:
    metrics = ready.metrics[0].metrics if ready.metrics else None
    asks = ready.rest is not None or settings.metrics_kubernetes_auth
    cluster = await connect(ready.login, rest=asks, lease=settings.leader_elect)
    make = metrics.client if metrics else httpx.AsyncClient
    async with http_client(settings.ollama_api_url, ready.ollama, make) as http:
        await operate(
            settings,
            cluster,
            http,
            health=ready.health,
            serve=ready.rest.open if ready.rest else None,
            observer=metrics or NOBODY,
        )


async def _export(exporter: "Exporter", sock: socket.socket) -> None:
    from ollama_op.base.serve import serve  # noqa: PLC0415 - uvicorn, as for the probes

    await serve(exporter, sock)


async def _admit(
    settings: Settings, ready: _Ready, sock: socket.socket, certificate: "Certificate"
) -> None:
    from ollama_op.admission.webhook import serve_webhook  # noqa: PLC0415 - as above

    admitted = ready.metrics[0].metrics.admitted if ready.metrics else None
    await serve_webhook(
        settings,
        sock,
        certificate,
        login=ready.login,
        sharers=ready.health.sharers,
        ready=ready.health.admits,
        observe=admitted.note if admitted else None,
    )


async def _probe(sock: socket.socket, health: Readiness) -> None:
    # The first list is on its way by now, and need not wait for this import.
    from ollama_op.app.probes import Probes  # noqa: PLC0415 - see above
    from ollama_op.base.serve import serve  # noqa: PLC0415 - see above

    await serve(Probes(health), sock)


def listen(address: Address, what: str, flag: str) -> socket.socket:
    """Listen.

    Raises: ConfigError.
    """
    try:
        return address.bind()
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address} for {what}: {_why(error)}",
            f"set {flag} to a free port, or to 0 for none",
        ) from error


def _why(error: OSError) -> str:
    # Names that do not resolve have negative numbers, of which strerror() knows nothing.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else "no such host"
