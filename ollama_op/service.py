"""The operator as a process: sockets before anything else, then signals, and an orderly end."""

import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import structlog
import yaml

from ollama_op.operator import Health, connect, operate
from ollama_op.settings import BadSetting, Settings

log = structlog.get_logger(__name__)

EXIT_INTERRUPTED = 130
POD_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def run(settings: Settings) -> int:
    """Run until a signal comes; return the exit code.

    Raises: BadSetting if it cannot start.
    """
    check_kubeconfig(settings.kubeconfig)
    probes = _listen(settings)
    with unwrapped(BadSetting):
        return anyio.run(_main, settings, probes)


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


def http_client(url: str) -> httpx.AsyncClient:
    """Make the client of an Ollama server. Pulls are few but long, so nothing waits for a place."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    return httpx.AsyncClient(base_url=url, limits=limits)


async def _main(settings: Settings, probes: socket.socket | None) -> int:
    health = Health()
    log.info("starting", ollama=settings.ollama_api_url, namespace=settings.namespace or "all")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_operate, settings, health)
        if probes is not None:
            tasks.start_soon(_probe, probes, health)
        # Left after the first signal: a second one then ends the process as it always does.
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            number = await anext(aiter(signals))
        log.info("stopping", signal=number.name)
        tasks.cancel_scope.cancel()
    return EXIT_INTERRUPTED if number is signal.SIGINT else 0


async def _operate(settings: Settings, health: Health) -> None:
    cluster = await connect(settings.kubeconfig)
    async with http_client(settings.ollama_api_url) as http:
        await operate(settings, cluster, http, health=health)


async def _probe(sock: socket.socket, health: Health) -> None:
    # The first list is on its way by now, and need not wait for this import.
    from ollama_op.probes import Probes  # noqa: PLC0415
    from ollama_op.serve import serve  # noqa: PLC0415

    await serve(Probes(health), sock)


def _listen(settings: Settings) -> socket.socket | None:
    address = settings.health_probe_bind_address
    if address is None:
        return None
    try:
        return address.bind()
    except OSError as error:
        raise BadSetting(
            f"cannot listen on {address} for health probes: {os.strerror(error.errno or 0)}",
            "set --health-probe-bind-address to a free port, or to 0 for none",
        ) from error


def check_kubeconfig(path: Path | None) -> None:
    """See that there are credentials to try, and that they can be read.

    Raises: BadSetting.
    """
    source = "--kubeconfig"
    if path is None:
        if POD_TOKEN.exists():
            return
        source = "KUBECONFIG" if os.environ.get("KUBECONFIG") else "the default"
        paths = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)
        path = next((p for p in map(Path, paths) if p.expanduser().exists()), Path(paths[0]))
    hint = "name one with --kubeconfig; without a cluster: ollama-op demo"
    try:
        content = yaml.safe_load(path.expanduser().read_text())
    except FileNotFoundError:
        raise BadSetting(f"no kubeconfig at {path} (from {source})", hint) from None
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        why = str(error).splitlines()[0]
        raise BadSetting(f"the kubeconfig {path} cannot be read: {why}", hint) from None
    if not isinstance(content, dict) or not content.get("current-context"):
        raise BadSetting(
            f"the kubeconfig {path} has no current context",
            "kubectl config use-context NAME",
        )
