"""Tries the REST API against its own description, with schemathesis: `rest.py [FLAG...]`.

The operator runs in this process, between the sandboxes; flags are schemathesis' own. Streams of
events have no end and are left out.
"""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from api.app import Api
from ollama_op.base.parsing import Address
from ollama_op.base.serve import serve
from support.virtual.rest import KEY, rest_world

CONFIG = Path(__file__).with_name("schemathesis.toml")
COMMAND = Path(sys.executable).with_name("schemathesis")


def main(*flags: str) -> int:
    """Run schemathesis; return its exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    return anyio.run(_verify, flags)


async def _verify(flags: tuple[str, ...]) -> int:
    sock = Address("127.0.0.1", 0).bind()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    made: list[Api] = []
    async with anyio.create_task_group() as tasks, rest_world(made.append):
        await tasks.start(serve, made[0].app, sock)
        command = [str(COMMAND), "--config-file", str(CONFIG), "run", f"{url}/openapi.json"]
        code: int = await anyio.to_thread.run_sync(
            lambda: (
                subprocess.run(
                    [*command, *flags], check=False, env=os.environ | {"API_KEY": KEY}
                ).returncode
            )
        )
        tasks.cancel_scope.cancel()
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
