"""`ollama-op demo`: the whole system in one process, and a story that shows what it is for.

The cluster is the sandbox; so is Ollama, unless OLLAMA_HOST names a real one. The operator is the
real one, connected by sockets as it would be anywhere.
"""

import json
import os
import signal
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
import msgspec
from anyio.abc import TaskGroup

from crd.model import decode
from crd.names import ModelName
from crd.v1alpha1 import REFRESH
from ollama_op.app.operator import Readiness, operate
from ollama_op.app.process import http_client, unwrapped
from ollama_op.base.asgi import App
from ollama_op.base.errors import OllamaError
from ollama_op.base.logs import set_up_logging
from ollama_op.base.parsing import ConfigError, parse_url
from ollama_op.base.serve import serve
from ollama_op.base.settings import Settings
from ollama_op.demo.recording import Recording
from ollama_op.demo.screen import Screen
from ollama_op.demo.story import MODELS_PATH, BrokenPromise, Cast, Story, object_name
from ollama_op.demo.tree import drawn
from ollama_op.kube.cluster import connect
from ollama_op.kube.login import Login
from ollama_op.ollama.client import OllamaClient
from ollama_op.sandbox.kube.server import KubeSandbox, kubeconfig
from ollama_op.sandbox.ollama.pulls import PullTrouble
from ollama_op.sandbox.ollama.server import OllamaSandbox

MB = 1_000_000
SCRIPTED = Cast(first="llama3.2:1b", second="gemma3:4b", troubled="qwen3:1.7b")
REAL = Cast(
    first="all-minilm:22m", second="smollm2:135m", troubled="all-minilm:no-such-tag", mend_tag="33m"
)
SIZES = {  # bytes of the layers
    "llama3.2:1b": (1_240 * MB, 80 * MB, 2 * MB),
    "gemma3:4b": (2_400 * MB, 90 * MB),
    "qwen3:1.7b": (1_360 * MB, 2 * MB),
    "phi4:14b": (4_000 * MB, 2 * MB),
    "all-minilm:22m": (45 * MB, 1 * MB),
    "hf.co/Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M": (490 * MB, 1 * MB),
}
YAML = """\
apiVersion: ollama.smithforge.dev/v1alpha1
kind: OllamaModel
metadata: {name: llama3.2-1b}
spec:
  name: llama3.2
  tag: 1b
"""
TRACED = "How one of them went, as Jaeger shows it with OTEL_EXPORTER_OTLP_ENDPOINT set:"
NEXT = "Next: `just demo --keep` leaves it running, for you to try kubectl on."
REGISTRY_DOWN = "EOF"
SPEED = 400e6  # bytes a second: quick enough to watch, slow enough to see
REDRAW_EVERY_S, LAST_LOOK_S = 0.1, 0.4  # the last picture shows how it ended
SETTINGS = Settings(health_interval_s=1, progress_interval_s=0.5)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_demo(*, keep: bool) -> int:
    """Play the demo; return 0 if every promise held.

    Raises: ConfigError when OLLAMA_HOST cannot be used.
    """
    set_up_logging("error", "text")
    for name in PROXIES:  # the cluster is in this process, and no proxy's concern
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    recording = Recording()
    stop = recording.start()
    with tempfile.TemporaryDirectory(prefix="ollama-op-demo-") as folder:
        try:
            with unwrapped(ConfigError), unwrapped(BrokenPipeError):
                return anyio.run(_run, keep, Path(folder), recording)
        except BrokenPipeError:  # `| head`: whoever watched has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        finally:
            stop()


async def _run(keep: bool, folder: Path, recording: Recording) -> int:  # noqa: FBT001 - anyio.run passes no keywords
    code, ended = 0, list[int]()
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        tasks.start_soon(_end_by_signal, tasks.cancel_scope, ended)
        page = _page_socket() if keep else None
        scene = await _set_scene(tasks, stack, folder, page)
        with Screen(scene.title, prologue=YAML) as screen:
            tasks.start_soon(keep_showing, scene.kube, screen)
            code = await play(scene, screen, keep=keep)
            await anyio.sleep(LAST_LOOK_S)
        if code == 0:
            trace = drawn(recording.life_of(object_name(scene.cast.troubled)))
            screen.print(TRACED, trace, *(() if keep else ("", NEXT)))
        if keep and code == 0:
            print(_what_to_try(scene, _url(page)), flush=True)  # noqa: T201 - stdout is what a demo is for
            await anyio.sleep_forever()
        tasks.cancel_scope.cancel()
    return 128 + ended[0] if ended else code


async def _end_by_signal(scope: anyio.CancelScope, ended: list[int]) -> None:
    """End the demo as it always ends: with the cursor back, and nothing left behind."""
    with anyio.open_signal_receiver(*ENDS) as signals:
        async for number in signals:
            ended.append(number)
            scope.cancel()


@dataclass(frozen=True)
class Stage:
    """A running cluster, an Ollama, and the operator between them."""

    kube: httpx.AsyncClient
    kube_url: str
    kubeconfig: Path
    ollama: OllamaClient
    sandbox: OllamaSandbox | None  # None if a real Ollama plays

    @property
    def cast(self) -> Cast:
        """The models that play."""
        return SCRIPTED if self.sandbox else REAL

    @property
    def title(self) -> str:
        """Print which parts are real."""
        if self.sandbox is None:
            return f"ollama-op demo · sandboxed cluster, the real Ollama at {self.ollama.where}"
        return "ollama-op demo · embedded sandbox, nothing leaves this machine"


async def _set_scene(
    tasks: TaskGroup, stack: AsyncExitStack, folder: Path, page: socket.socket | None
) -> Stage:
    sandbox, url = None, os.environ.get("OLLAMA_HOST", "")
    if url:
        url = _ollama_url(url)
    else:
        sandbox = OllamaSandbox(bytes_per_second=SPEED)
        publish(sandbox)
        url = await _listen(tasks, sandbox)
    cluster = KubeSandbox()
    stack.callback(cluster.hang_up)  # or its watches would hold up the server's end
    kube_url = await _listen(tasks, cluster)
    path = folder / "kubeconfig"
    path.write_text(json.dumps(kubeconfig(kube_url)))
    http = await stack.enter_async_context(http_client(url))
    kube = await stack.enter_async_context(httpx.AsyncClient(base_url=kube_url))
    scene = Stage(kube, kube_url, path, OllamaClient(http), sandbox)
    if sandbox is None:
        await _see_that_nothing_is_lost(scene)
    tasks.start_soon(_operate, path, http, page)
    return scene


def publish(sandbox: OllamaSandbox) -> None:
    """Publish the models of the story, one of which cannot be had at first."""
    for name, sizes in SIZES.items():
        sandbox.publish(name, *sizes)
    sandbox.trouble(SCRIPTED.troubled, PullTrouble(error=REGISTRY_DOWN, after_bytes=300 * MB))


async def _listen(tasks: TaskGroup, app: App) -> str:
    sock = socket.create_server(("127.0.0.1", 0))
    await tasks.start(serve, app, sock)
    return _url(sock)


def _page_socket() -> socket.socket:
    """Listen on the REST API's own port, or else on any free port."""
    usual = SETTINGS.rest.bind_address
    try:
        return socket.create_server(("127.0.0.1", usual.port if usual else 0))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _url(sock: socket.socket | None) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}" if sock else ""


async def _operate(path: Path, http: httpx.AsyncClient, page: socket.socket | None) -> None:
    login = Login.find(path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(login.run)
        cluster = await connect(login, rest=page is not None)
        if page is None:
            await operate(SETTINGS, cluster, http, health=Readiness())
            return
        from api.access import Keys  # noqa: PLC0415 - half a second of import
        from ollama_op.rest.serving import RestServer  # noqa: PLC0415 - likewise

        rest = RestServer(SETTINGS, Keys(), page)
        tasks.start_soon(rest.listen)
        await operate(SETTINGS, cluster, http, health=Readiness(), serve=rest.open)


def _ollama_url(host: str) -> str:
    """Read OLLAMA_HOST as Ollama's own client does: the port can be left out."""
    url = httpx.URL(parse_url(host))
    if url.port is None and "://" not in host:
        url = url.copy_with(port=httpx.URL(SETTINGS.ollama_api_url).port)
    if url.host == "0.0.0.0":  # noqa: S104 - where a server listens is not where one calls it
        url = url.copy_with(host="127.0.0.1")
    return str(url).rstrip("/")


async def _see_that_nothing_is_lost(scene: Stage) -> None:
    """Refuse to play with models that were there before: the story deletes its own."""
    try:
        there = await scene.ollama.tags()
    except OllamaError as error:
        raise ConfigError(str(error), "start Ollama, or unset OLLAMA_HOST") from error
    for model in (REAL.first, REAL.second, f"all-minilm:{REAL.mend_tag}"):
        if ModelName.parse(model) in there:
            raise ConfigError(
                f"{model} is on {scene.ollama.where} already, and the demo would delete it",
                f"ollama rm {model}, or unset OLLAMA_HOST",
            )


# --- playing


async def play(scene: Stage, screen: Screen, *, keep: bool) -> int:
    """Play the story; return 0 if every promise held."""
    story = Story(
        kube=scene.kube,
        ollama=scene.ollama,
        fate=_Fate(scene),
        cast=scene.cast,
        tell=screen,
        patience_s=60 if scene.sandbox else 900,
    )
    try:
        with unwrapped(BrokenPromise):
            await story.play(keep=keep)
    except BrokenPromise as error:
        screen.say("✗", f"did not come true in time: {error}")
        return 1
    screen.say("✔", f"{story.kept} promises shown")
    return 0


class _Fate:
    """What befalls the models, in the sandbox or in a real Ollama."""

    def __init__(self, scene: Stage) -> None:
        self._scene = scene

    async def lose(self, name: str) -> None:
        await self._scene.ollama.delete(ModelName.parse(name))

    async def publish_again(self, name: str) -> bool:
        if self._scene.sandbox is None:
            return False
        self._scene.sandbox.publish(name, *SIZES[name], seed="v2", shared=name)
        return True


async def keep_showing(kube: httpx.AsyncClient, screen: Screen) -> None:
    """Show how the models are, for ever."""
    while True:
        items = msgspec.json.decode((await kube.get(MODELS_PATH)).content, type=_List).items
        screen.show([decode(raw) for raw in items])
        await anyio.sleep(REDRAW_EVERY_S)


class _List(msgspec.Struct):
    items: list[msgspec.Raw]


def _what_to_try(scene: Stage, page: str) -> str:
    first, second = object_name(SCRIPTED.first), object_name(SCRIPTED.second)
    if scene.sandbox is None:
        first, second = object_name(REAL.first), object_name(REAL.second)
    return f"""
It keeps running; Ctrl-C ends it.
In a browser, {page} shows the models, and {page}/docs the API.
The CRD is installed already. In another terminal:

  export KUBECONFIG={scene.kubeconfig}
  kubectl get om -w
  kubectl describe om {first}
  kubectl annotate om {first} {REFRESH}=true --overwrite
  kubectl delete om {second}
  curl -s {page}/api/v1/models
  curl -s {scene.ollama.where}/api/tags
  curl -s {scene.kube_url}{MODELS_PATH}/{first}/status
"""
