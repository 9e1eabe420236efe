"""Asks a plugin for credentials, as kubectl does: a program that prints an ExecCredential.

What it prints holds secrets and is never repeated; what it complains of is, in one line.

Source: kubernetes.io, "client-go credential plugins"; k8s.io/client-go, in
plugin/pkg/client/auth/exec.
"""

import base64
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import msgspec
from anyio.abc import ByteReceiveStream, Process

from crd.v1alpha1 import UNREADABLE
from ollama_op.base.errors import LoginFailed, sanitise
from ollama_op.kube.access import Access
from ollama_op.kube.kubeconfig import Exec

PLUGIN_LIMIT_S: Final = 60.0  # for one answer; it may ask an identity provider far away
EXTENSION: Final = "client.authentication.k8s.io/exec"  # of a cluster: what a plugin is to know


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _Answer(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    status: _Status | None = None


@dataclass(frozen=True, repr=False)
class Given:
    """What a plugin gave: a token, or a certificate and its key, or both; "" for none."""

    token: str
    certificate: str
    key: str
    expires_at: datetime | None


async def ask(access: Access, plugin: Exec) -> Given:
    """Run the plugin and read what it prints.

    Raises: LoginFailed; it names the plugin and how long it ran.
    """
    began, name = anyio.current_time(), sanitise(Path(plugin.command).name)
    try:
        with anyio.fail_after(PLUGIN_LIMIT_S):
            return _read(await _run(access, plugin), plugin)
    except TimeoutError:
        raise LoginFailed(
            f"the plugin {name} did not end within {PLUGIN_LIMIT_S:g} s, and was stopped"
        ) from None
    except _Trouble as trouble:
        after_s = anyio.current_time() - began
        raise LoginFailed(f"the plugin {name} {trouble} (after {after_s:.1f} s)") from None


class _Trouble(Exception):
    """What went wrong, to be read after the name of the plugin."""


async def _run(access: Access, plugin: Exec) -> bytes:
    command = shutil.which(plugin.command)
    if command is None:
        hint = f"; {plugin.install_hint}" if plugin.install_hint else ""
        raise _Trouble(f"is not there{hint}")
    try:
        process = await anyio.open_process(
            [command, *plugin.args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(access, plugin, os.environ),
            start_new_session=True,  # to end it with all that it has started
        )
    except OSError as error:
        raise _Trouble(f"cannot be started: {error.strerror}") from None
    try:
        printed, complaint = await _outputs(process)
        code = await process.wait()
    finally:
        _end(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    if code:
        raise _Trouble(f"ended with exit code {code}: {_last_line(complaint)}")
    return printed


def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _outputs(process: Process) -> tuple[bytes, bytes]:
    async def read(name: str, stream: ByteReceiveStream | None) -> None:
        if stream is not None:
            found[name] = b"".join([part async for part in stream])

    found: dict[str, bytes] = {}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, "out", process.stdout)
        tasks.start_soon(read, "err", process.stderr)
    return found.get("out", b""), found.get("err", b"")


def _last_line(complaint: bytes) -> str:
    lines = complaint.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"


def environment(access: Access, plugin: Exec, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that the plugin runs in."""
    variables = {variable.name: variable.value for variable in plugin.env}
    return {**environ, **variables, "KUBERNETES_EXEC_INFO": _exec_info(access, plugin)}


def _exec_info(access: Access, plugin: Exec) -> str:
    spec: dict[str, Any] = {"interactive": False}
    if plugin.provide_cluster_info:
        spec["cluster"] = _cluster_info(access)
    info = {"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}
    return msgspec.json.encode(info).decode()


def _cluster_info(access: Access) -> dict[str, Any]:
    cluster = access.cluster
    authority = cluster.certificate_authority_data
    if cluster.certificate_authority:
        content = Path(cluster.certificate_authority).read_bytes()
        authority = base64.b64encode(content).decode()
    info = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": authority,
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
    }
    extension = next((e.extension for e in cluster.extensions if e.name == EXTENSION), None)
    return {key: value for key, value in info.items() if value} | {"config": extension}


def _read(printed: bytes, plugin: Exec) -> Given:
    try:
        answer = msgspec.json.decode(printed, type=_Answer)
    except UNREADABLE:
        raise _Trouble("printed something that is not an ExecCredential") from None
    if (answer.kind, answer.api_version) != ("ExecCredential", plugin.api_version):
        what = sanitise(f"{answer.kind or 'no kind'} of {answer.api_version or 'no apiVersion'}")
        raise _Trouble(f"printed {what}, not an ExecCredential of {plugin.api_version}")
    status = answer.status or _Status()
    given = Given(
        status.token or "",
        status.client_certificate_data or "",
        status.client_key_data or "",
        status.expiration_timestamp,
    )
    if bool(given.certificate) != bool(given.key):
        raise _Trouble("gave only one of certificate and key")
    if not given.token and not given.certificate:
        raise _Trouble("gave neither a token nor a certificate")
    return given
