"""Calls that the REST API has Kubernetes answer, in a line that is bounded.

What is here is meant for clients, not for the engine: `Kube` writes what the engine decides.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

import anyio
import msgspec

from crd.v1alpha1 import API_VERSION, UNREADABLE
from ollama_op.base.errors import KubeUnreachable, LoginFailed
from ollama_op.kube.client import KubeClient
from ollama_op.kube.writes import WRITE_LIMIT_S, WRITES_AT_ONCE

T = TypeVar("T")

CALLS_WAITING: Final = 64  # calls that may stand in a line; who comes after them is sent away
JSON_TYPE: Final = {"content-type": "application/json"}


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

        Raises: KubeError.
        """
        if self._slots.statistics().tasks_waiting >= CALLS_WAITING:
            problem = "too many requests are waiting for Kubernetes"
            raise KubeUnreachable(problem, retry_after_s=1)
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
                raise KubeUnreachable("the Kubernetes API does not answer in time") from None

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

    Raises: KubeUnreachable if it is not of that kind.
    """
    try:
        return msgspec.json.decode(answer, type=kind)
    except UNREADABLE as error:
        raise KubeUnreachable("the Kubernetes API answered what cannot be read") from error
