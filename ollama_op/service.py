"""The operator as a process: sockets before anything else, then signals, and an orderly end."""

import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

import anyio
import httpx
import structlog

from ollama_op.kubeconfig import check_kubeconfig
from ollama_op.operator import Health, Serve, connect, operate
from ollama_op.settings import Address, BadSetting, Settings, wants_tracing

log = structlog.get_logger(__name__)

EXIT_INTERRUPTED = 130


def run(settings: Settings) -> int:
    """Run until a signal comes; return the exit code.

    Raises: BadSetting if it cannot start.
    """
    check_kubeconfig(settings.kubeconfig)
    check_proxy()
    serve_rest = _get_rest_ready(settings)
    address = settings.health_probe_bind_address
    flag = "--health-probe-bind-address"
    probes = None if address is None else listen(address, "health probes", flag)
    stop_tracing = _start_tracing()
    try:
        with unwrapped(BadSetting):
            return anyio.run(
                _main,
                settings,
                probes,
                serve_rest,
                # Serves a fifth more requests a second, and makes no difference to anything else.
                backend_options={"use_uvloop": serve_rest is not None},
            )
    finally:
        stop_tracing()


def _start_tracing() -> Callable[[], None]:
    """Send spans if the environment says where to; return what ends that.

    Raises: BadSetting.
    """
    if not wants_tracing(os.environ):
        return lambda: None
    from ollama_op import otel  # noqa: PLC0415 - takes 0.15 s

    return otel.start(otel.sender())


def _get_rest_ready(settings: Settings) -> Serve | None:
    """Get ready to serve the REST API, if that is wanted.

    Raises: BadSetting.
    """
    wanted = settings.rest
    wanted.check()
    if wanted.address is None:
        return None
    from ollama_op import rest  # noqa: PLC0415 - Litestar takes half a second

    keys = rest.load_keys(wanted)
    sock = listen(wanted.address, "the REST API", "--api-server-bind-address")
    return partial(rest.serve_rest, settings, keys, sock)


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
    """See that the proxy of the environment, if there is one, is of a kind that httpx knows.

    Raises: BadSetting.
    """
    try:
        httpx.AsyncClient()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise BadSetting(
            "the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used",
            "unset it, or give an http:// proxy; NO_PROXY names hosts to reach without it",
        ) from error


def http_client(url: str) -> httpx.AsyncClient:
    """Make the client of an Ollama server. Pulls are few but long, so nothing waits for a place."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    return httpx.AsyncClient(base_url=url, limits=limits)


async def _main(settings: Settings, probes: socket.socket | None, serve_rest: Serve | None) -> int:
    health = Health()
    log.info("starting", ollama=settings.ollama_api_url, namespace=settings.namespace or "all")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_operate, settings, health, serve_rest)
        if probes is not None:
            tasks.start_soon(_probe, probes, health)
        # Left after the first signal: a second one then ends the process as it always does.
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            number = await anext(aiter(signals))
        log.info("stopping", signal=number.name)
        tasks.cancel_scope.cancel()
    return EXIT_INTERRUPTED if number is signal.SIGINT else 0


async def _operate(settings: Settings, health: Health, serve_rest: Serve | None) -> None:
    cluster = await connect(settings.kubeconfig, rest=serve_rest is not None)
    async with http_client(settings.ollama_api_url) as http:
        await operate(settings, cluster, http, health=health, serve=serve_rest)


async def _probe(sock: socket.socket, health: Health) -> None:
    # The first list is on its way by now, and need not wait for this import.
    from ollama_op.probes import Probes  # noqa: PLC0415
    from ollama_op.serve import serve  # noqa: PLC0415

    await serve(Probes(health), sock)


def listen(address: Address, what: str, flag: str) -> socket.socket:
    """Listen.

    Raises: BadSetting.
    """
    try:
        return address.bind()
    except OSError as error:
        raise BadSetting(
            f"cannot listen on {address} for {what}: {_why(error)}",
            f"set {flag} to a free port, or to 0 for none",
        ) from error


def _why(error: OSError) -> str:
    # Names that do not resolve have negative numbers, of which strerror() knows nothing.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else "no such host"
