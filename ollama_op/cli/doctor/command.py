"""`ollama-op doctor`: looks at everything that the operator needs, and says what is missing.

Every check ends after LIMIT_S at the latest, and no failure of one keeps another from its word.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from itertools import chain
from typing import Literal

import anyio
import httpx
import msgspec
from rich.console import Console
from rich.text import Text

from ollama_op.app.process import http_client, transport
from ollama_op.base.errors import KubeError, OllamaError
from ollama_op.base.parsing import ConfigError
from ollama_op.base.settings import Settings
from ollama_op.base.trouble import Trouble
from ollama_op.cli.doctor.checkup import (
    Finding,
    check_cluster,
    check_crd,
    check_namespace,
    check_rights,
    check_tracing,
    wrong,
)
from ollama_op.cli.doctor.environment import check_environment
from ollama_op.cli.doctor.server import check_ollama
from ollama_op.kube.client import KubeClient
from ollama_op.kube.login import Login
from ollama_op.kube.plugin import PLUGIN_LIMIT_S
from ollama_op.ollama.client import OllamaClient

Output = Literal["text", "json"]
DoctorCheck = Callable[[], Awaitable[list[Finding]]]
DoctorLogin = Callable[[], Awaitable[KubeClient]]
"""Logs in to the cluster. Raises: ConfigError, LoginFailed."""

LIMIT_S = 10.0  # a check is several requests
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
CONNECT_HINTS = {
    "cluster": "kubectl cluster-info; name another kubeconfig with --kubeconfig",
    "ollama": Trouble.NO_ANSWER.hint,
}
INDENT = " " * 15


def run_doctor(settings: Settings, output: Output, unknown: Iterable[tuple[str, str]] = ()) -> int:
    """Check everything and print what was found; return 1 if something fails.

    `unknown` are variables that set nothing, each with what to do.

    Raises: ConfigError if the proxy of the environment, or a flag, cannot be used.
    """
    found = check_environment(settings, unknown) + anyio.run(_run, settings)
    show(found, output)
    return 1 if any(each.level == "fail" for each in found) else 0


async def _run(settings: Settings) -> list[Finding]:
    async with (
        http_client(settings.ollama_api_url, transport(settings)) as ollama,
        anyio.create_task_group() as tasks,
        AsyncExitStack() as stack,
    ):

        async def log_in() -> KubeClient:
            login = Login.find(settings.kubeconfig)
            tasks.start_soon(login.run)
            await login.credentials()
            api = KubeClient(login, "doctor")
            stack.push_async_callback(api.close)
            return api

        found = await examine(
            settings, log_in=log_in, ollama=ollama, web=httpx.AsyncClient, environ=os.environ
        )
        tasks.cancel_scope.cancel()
    return found


async def examine(
    settings: Settings,
    *,
    log_in: DoctorLogin,
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


async def _check_kubernetes(settings: Settings, log_in: DoctorLogin) -> list[Finding]:
    """Check the cluster, and what is in it only if there is one."""
    api: list[KubeClient] = []

    async def login() -> list[Finding]:
        api.append(await log_in())
        return []

    found = await _bounded("cluster", login, PLUGIN_LIMIT_S + LIMIT_S)()
    found += await _bounded("cluster", lambda: check_cluster(api[0]))() if api else []
    if any(each.level == "fail" for each in found):
        return found
    return found + await _together(
        _bounded("cluster", lambda: check_namespace(api[0], settings.namespace)),
        _bounded("crd", lambda: check_crd(api[0])),
        _bounded("rights", lambda: check_rights(api[0], settings)),
    )


async def _together(*checks: DoctorCheck) -> list[Finding]:
    found: list[list[Finding]] = [[] for _ in checks]

    async def run_one(at: int, check: DoctorCheck) -> None:
        found[at] = await check()

    async with anyio.create_task_group() as tasks:
        for at, check in enumerate(checks):
            tasks.start_soon(run_one, at, check)
    return [*chain(*found)]


def _bounded(name: str, check: DoctorCheck, limit_s: float = LIMIT_S) -> DoctorCheck:
    """Make a check end in time, and in words."""
    hint = CONNECT_HINTS.get(name, "run doctor again; if that does not help, report a bug")

    async def bounded() -> list[Finding]:
        try:
            with anyio.fail_after(limit_s):
                return await check()
        except TimeoutError:
            return [wrong(name, f"no answer within {limit_s:g} s", hint)]
        except ConfigError as error:
            return [wrong(name, str(error), error.hint)]
        except OllamaError as error:
            return [wrong(name, error.problem, error.hint or hint)]
        except KubeError as error:
            return [wrong(name, str(error), error.hint or hint)]
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
