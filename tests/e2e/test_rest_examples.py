"""The examples in docs/ run, and the API's description holds, on an operator between sandboxes."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

from api.app import Api
from ollama_op.base.parsing import Address
from ollama_op.base.serve import serve
from support.virtual.rest import KEY, rest_world

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
COMMANDS = {"models.sh": "bash", "models.py": sys.executable, "models.mjs": "node"}
ARGUMENTS = 2


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run an operator with a REST API in a thread of its own; its registry has two models."""
    sock = Address("127.0.0.1", 0).bind()

    async def run(*, task_status: TaskStatus[None]) -> None:
        made: list[Api] = []
        async with anyio.create_task_group() as tasks, rest_world(made.append) as (w, _client):
            w.ollama.publish("llama3.2:1b", 5_000_000)
            w.ollama.publish("hf.co/Org/Model:Q4_K_M", 5_000_000)
            await tasks.start(serve, made[0].app, sock)
            task_status.started()
            with contextlib.suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
            made[0].close()
            tasks.cancel_scope.cancel()

    with start_blocking_portal() as portal:
        future, _ = portal.start_task(run)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        future.cancel()


def test_every_example_is_tried() -> None:
    """A new one needs a command here."""
    assert sorted(COMMANDS) == sorted(path.name for path in EXAMPLES.iterdir())


def example(name: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run an example with what stands on its command line."""
    if shutil.which(COMMANDS[name]) is None:
        pytest.skip(f"{COMMANDS[name]} is not here")
    return subprocess.run(
        [COMMANDS[name], str(EXAMPLES / name), *words],
        check=False,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k not in ("URL", "KEY")} | env,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("model", "tag", "resource"),
    [
        ("llama3.2", "1b", "llama3.2-1b"),
        ("hf.co/Org/Model", "Q4_K_M", "hf-co-org-model-q4-k-m-b224e814"),
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_works_as_it_stands(
    url: str, name: str, model: str, tag: str, resource: str
) -> None:
    """It asks for a model, sees it become ready, and deletes it; it complains of nothing."""
    done = example(name, model, tag, URL=url, KEY=KEY)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "ready" in done.stdout.lower()
    assert resource in done.stdout
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=30) as api:
        left = api.get(f"/api/v1/models/{resource}")
    assert left.status_code == HTTPStatus.NOT_FOUND or left.json()["deleting"]


@pytest.mark.parametrize("words", [(), ("llama3.2",), ("llama3.2", "1b")])
@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_says_how_to_call_it(name: str, words: tuple[str, ...]) -> None:
    """Without a name, a tag or a key it prints one usage and ends with 2."""
    done = example(name, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: " in done.stderr
    assert "KEY" in done.stderr or len(words) < ARGUMENTS
    assert "Traceback" not in done.stderr


def test_an_example_shows_why_a_model_is_refused(url: str) -> None:
    """The answer of the API is what a user of curl needs to see."""
    done = example("models.sh", "a b", "1b", URL=url, KEY=KEY)
    assert done.returncode == 1
    assert '"errors"' in done.stderr


def test_the_api_is_as_it_describes_itself() -> None:
    """Schemathesis finds nothing in a short run; `just verify-api` is the long one."""
    command = [sys.executable, str(ROOT / "tests/verify/rest.py"), "--max-examples=5", "--seed=1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-5000:]
