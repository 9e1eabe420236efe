"""Calls that the REST API has Kubernetes answer: in a line that is bounded, with errors of its own.

What is here is meant for clients, not for the engine: `Kube` writes what the engine decides.
"""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

import anyio
import msgspec

from api.ports import Changed, Forbidden, Missing, Taken, Unavailable, WriteError, WriteRefused
from crd.v1alpha1 import API_VERSION, UNREADABLE
from ollama_op.base.errors import (
    Conflict,
    KubeError,
    KubeUnreachable,
    LoginFailed,
    NotFound,
    NotPermitted,
    sanitise,
)
from ollama_op.kube.client import KubeClient
from ollama_op.kube.writes import WRITE_LIMIT_S, WRITES_AT_ONCE

T = TypeVar("T")

CALLS_WAITING: Final = 64  # calls that may stand in a line; who comes after them is sent away
JSON_TYPE: Final = {"content-type": "application/json"}


class _Cause(msgspec.Struct):
    field: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Refusal(msgspec.Struct):
    reason: str = ""
    message: str = ""
    details: _Details | None = None


class KubeCalls:
    """One line of calls: so many at once, so many that wait."""

    def __init__(self, api: KubeClient) -> None:
        self._api, self._slots = api, anyio.CapacityLimiter(WRITES_AT_ONCE)

    async def send(
        self,
        method: str,
        url: str,
        body: object,
        *,
        namespace: str | None = None,
        version: str = API_VERSION,
        dry_run: bool = False,
        headers: Mapping[str, str] = JSON_TYPE,
    ) -> bytes:
        """Send `body` as JSON; return what is answered. Once begun, it is seen through.

        Raises: WriteError.
        """
        if self._slots.statistics().tasks_waiting >= CALLS_WAITING:
            raise Unavailable("too many requests are waiting for Kubernetes", retry_after_s=1)
        call: dict[str, Any] = {
            "version": version,
            "url": url,
            "namespace": namespace,
            "params": {"dryRun": "All"} if dry_run else {},
            "content": msgspec.json.encode(body),
            "headers": headers,
            "timeout": WRITE_LIMIT_S,
        }
        async with self._slots:
            try:
                await self._see_that_we_are_logged_in()
                # Cancelled halfway, nobody would know whether it was done.
                return await self._api.request(method, within=_to_its_end, **call)
            except TimeoutError:  # of the whole: httpx limits each part of a call only
                raise Unavailable("the Kubernetes API does not answer in time") from None
            except KubeError as error:
                raise _as_write_error(error) from error

    async def _see_that_we_are_logged_in(self) -> None:
        """Wait for a login, but not longer than a client waits.

        Raises: LoginFailed.
        """
        try:
            with anyio.fail_after(WRITE_LIMIT_S):
                await self._api.login.credentials()
        except TimeoutError:
            raise LoginFailed("the login takes its time", retry_after_s=1) from None


def _to_its_end() -> AbstractContextManager[object]:
    return anyio.fail_after(WRITE_LIMIT_S, shield=True)


def read_object(kind: type[T], answer: bytes) -> T:
    """Decode an answer.

    Raises: Unavailable if it is not of that kind.
    """
    try:
        return msgspec.json.decode(answer, type=kind)
    except UNREADABLE as error:
        raise Unavailable("the Kubernetes API answered what cannot be read") from error


# How the API server says 403 about an object, not about our account: a webhook, a policy, a quota,
# a namespace that is being deleted.
ADMISSION_PATH: Final = (
    "denied the request",
    "denied request: ",
    "exceeded quota",
    "being terminated",
)
# A policy has no field to name the field in; those of config/policy begin their words with it.
BY_POLICY: Final = re.compile(r" denied request: (spec\.[\w.]+): (.+)")


def _as_write_error(error: KubeError) -> WriteError:
    text, refusal = str(error), _refusal(error)
    match error:
        case LoginFailed():  # why is the operator's own affair
            text = "the operator is not logged in to Kubernetes"
            return Unavailable(text, retry_after_s=error.retry_after_s)
        case KubeUnreachable():
            return Unavailable(text, retry_after_s=error.retry_after_s)
        case NotPermitted() if not any(words in refusal.message for words in ADMISSION_PATH):
            return Forbidden(text)
        case NotFound():
            return Missing(text)
        case Conflict() if refusal.reason == "AlreadyExists":
            return Taken(text)
        case Conflict():
            return Changed(text)
        case _:
            return WriteRefused(text, _fields(refusal))


def _fields(refusal: _Refusal) -> list[tuple[str, str]]:
    """Return which fields are refused, and in which words."""
    causes = (refusal.details.causes if refusal.details else None) or ()
    named = [(cause.field, cause.message) for cause in causes if cause.field]
    return [
        (field.removeprefix("spec."), sanitise(message))
        for field, message in named or BY_POLICY.findall(refusal.message)
    ]


def _refusal(error: KubeError) -> _Refusal:
    try:
        return msgspec.json.decode(error.body, type=_Refusal)
    except UNREADABLE:
        return _Refusal()
