"""`ollama-op doctor`: looks at everything that the operator needs, and says what is missing.

Every check ends after LIMIT_S at the latest, and no failure of one keeps another from its word.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import chain
from typing import Literal

import anyio
import httpx
import msgspec
from kr8s.asyncio import Api
from rich.console import Console
from rich.text import Text

from ollama_op.doctor.checkup import (
    Finding,
    check_cluster,
    check_crd,
    check_rights,
    check_tracing,
    wrong,
)
from ollama_op.doctor.server import check_ollama
from ollama_op.errors import KubeError, OllamaError
from ollama_op.kube.kubeconfig import check_kubeconfig
from ollama_op.ollama.client import OllamaClient
from ollama_op.ollama.failures import Trouble
from ollama_op.operator import login
from ollama_op.parsing import BadSetting
from ollama_op.service import check_proxy, http_client, transport
from ollama_op.settings import Settings

Output = Literal["text", "json"]
Check = Callable[[], Awaitable[list[Finding]]]
LogIn = Callable[[str], Awaitable[Api]]
"""Opens a connection to the cluster, another one for each use."""

LIMIT_S = 10.0  # a check is several requests, and each connection logs in anew
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
HINTS = {
    "cluster": "kubectl cluster-info; name another kubeconfig with --kubeconfig",
    "ollama": Trouble.NO_ANSWER.hint,
}
INDENT = " " * 15


def run(settings: Settings, output: Output) -> int:
    """Check everything and print what was found; return 1 if something fails.

    Raises: BadSetting if the proxy of the environment, or a flag, cannot be used.
    """
    check_proxy()
    settings.webhook.check()
    found = anyio.run(_run, settings)
    show(found, output)
    return 1 if any(each.level == "fail" for each in found) else 0


async def _run(settings: Settings) -> list[Finding]:
    async with http_client(settings.ollama_api_url, transport(settings)) as ollama:
        return await examine(
            settings,
            log_in=partial(login, settings.kubeconfig),
            ollama=ollama,
            web=httpx.AsyncClient,
            environ=os.environ,
        )


async def examine(
    settings: Settings,
    *,
    log_in: LogIn,
    ollama: httpx.AsyncClient,
    web: Callable[..., httpx.AsyncClient],
    environ: Mapping[str, str],
) -> list[Finding]:
    """Make all checks, those that do not need each other at the same time."""
    client = OllamaClient(ollama)
    return await _together(
        lambda: _check_kubernetes(settings, log_in),
        _bounded("ollama", lambda: check_ollama(client)),
        _bounded("tracing", lambda: check_tracing(web, environ)),
    )


async def _check_kubernetes(settings: Settings, log_in: LogIn) -> list[Finding]:
    """Check the cluster, and what is in it only if there is one."""

    async def cluster() -> list[Finding]:
        check_kubeconfig(settings.kubeconfig)
        return await check_cluster(await log_in("doctor"))

    # Connections of their own: a denial makes kr8s log in anew and drop what else one carries.
    async def crd() -> list[Finding]:
        return await check_crd(await log_in("doctor's crd"))

    async def rights() -> list[Finding]:
        return await check_rights(await log_in("doctor's rights"), settings)

    found = await _bounded("cluster", cluster)()
    if any(each.level == "fail" for each in found):
        return found
    return found + await _together(_bounded("crd", crd), _bounded("rights", rights))


async def _together(*checks: Check) -> list[Finding]:
    found: list[list[Finding]] = [[] for _ in checks]

    async def run_one(at: int, check: Check) -> None:
        found[at] = await check()

    async with anyio.create_task_group() as tasks:
        for at, check in enumerate(checks):
            tasks.start_soon(run_one, at, check)
    return [*chain(*found)]


def _bounded(name: str, check: Check) -> Check:
    """Make a check end in time, and in words."""
    hint = HINTS.get(name, "run doctor again; if that does not help, report a bug")

    async def bounded() -> list[Finding]:
        try:
            with anyio.fail_after(LIMIT_S):
                return await check()
        except TimeoutError:
            return [wrong(name, f"no answer within {LIMIT_S:g} s", hint)]
        except BadSetting as error:
            return [wrong(name, str(error), error.hint)]
        except OllamaError as error:
            return [wrong(name, error.problem, error.hint or hint)]
        except KubeError as error:
            return [wrong(name, str(error), hint)]
        except Exception as error:  # noqa: BLE001 - what it says may be a secret; its kind is none
            return [wrong(name, f"cannot be checked: {type(error).__name__}", hint)]

    return bounded


def show(found: list[Finding], output: Output) -> None:
    """Print what was found on standard output, in colours on a terminal."""
    if output == "json":
        ok = all(each.level != "fail" for each in found)
        encoded = msgspec.json.format(msgspec.json.encode({"ok": ok, "checks": found}))
        print(encoded.decode())  # noqa: T201 - it is what was asked for
        return
    console = Console(highlight=False, soft_wrap=True)
    for each in found:
        mark = Text(f"{each.level:5}", style=COLOURS[each.level])
        console.print(mark, f"{each.check:8} {each.message}", markup=False)
        if each.hint:
            console.print(f"{INDENT}{each.hint}", style="dim", markup=False)
