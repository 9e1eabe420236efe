"""The examples in docs/ run, and the API's description holds, on an operator between sandboxes."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

from api.app import Api
from ollama_op.parsing import Address
from ollama_op.serve import serve
from support.rest import KEY, rest_world

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
COMMANDS = {"models.sh": "bash", "models.py": sys.executable, "models.mjs": "node"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run an operator with a REST API in a thread of its own; its registry has llama3.2:1b."""
    sock = Address("127.0.0.1", 0).bind()

    async def run(*, task_status: TaskStatus[None]) -> None:
        made: list[Api] = []
        async with anyio.create_task_group() as tasks, rest_world(made.append) as (w, _client):
            w.ollama.publish("llama3.2:1b", 5_000_000)
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


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_works_as_it_stands(url: str, name: str) -> None:
    """It asks for a model, sees it become ready, and lets it go."""
    if shutil.which(COMMANDS[name]) is None:
        pytest.skip(f"{COMMANDS[name]} is not here")
    done = subprocess.run(
        [COMMANDS[name], str(EXAMPLES / name), "llama3.2", "1b"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"URL": url, "KEY": KEY},
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready" in done.stdout.lower()
    assert "llama3.2-1b" in done.stdout


def test_the_api_is_as_it_describes_itself() -> None:
    """Schemathesis finds nothing in a short run; `just verify-api` is the long one."""
    command = [sys.executable, str(ROOT / "tests/verify/rest.py"), "--max-examples=5", "--seed=1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-5000:]
