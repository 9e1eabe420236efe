"""Keeps the webhook's own certificates in a Secret, and has Kubernetes trust them.

All replicas share the Secret: who comes first writes it, and the others go by it. Each of them sees
to it that the API server trusts an authority before it serves what that has signed.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import anyio
import msgspec
import structlog

from crd.v1alpha1 import UNREADABLE
from ollama_op.admission.certificates import CertBundle, expires_at, is_broken, renewed
from ollama_op.base.errors import Conflict, KubeError, LoginFailed, NotFound, NotPermitted, Rejected
from ollama_op.base.parsing import Service
from ollama_op.base.rights import WEBHOOK_CONFIGURATION, WEBHOOK_SECRET
from ollama_op.kube.client import KubeClient
from ollama_op.kube.writes import JSON_PATCH, MERGE_PATCH, WRITE_LIMIT_S

log = structlog.get_logger(__name__)

T = TypeVar("T")

ROTATE_CHECK_S: Final = 30.0  # between looks at whether all is as it should be
ROTATE_RETRY_S: Final = 5.0  # likewise, while there is nothing to serve with
SETTLE_S: Final = 10.0  # in which every API server has heard of another authority
TRIES: Final = 5
ADMISSION_GROUP: Final = "admissionregistration.k8s.io/v1"
WEBHOOK_KINDS: Final = ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
APPLY: Final = "kubectl apply -k config/webhook"
GRANT: Final = (
    f"{APPLY} has the Secret, config/components/webhook the rights; ollama-op doctor names what"
    " is missing"
)
_KEYS: Final = {
    "ca.crt": "authorities",
    "ca.key": "authority_key",
    "tls.crt": "certificate",
    "tls.key": "key",
}


class Install(Protocol):
    """Serves with another certificate from now on."""

    def __call__(self, certificate: bytes, key: bytes, /) -> None:
        """Take both as PEM."""


class _Meta(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 - as it is written


class _Secret(msgspec.Struct):
    metadata: _Meta
    data: dict[str, str] | None = None


class _Client(msgspec.Struct):
    caBundle: str = ""  # noqa: N815 - Kubernetes spells it so


class _Hook(msgspec.Struct):
    name: str
    clientConfig: _Client  # noqa: N815 - Kubernetes spells it so


class _Configuration(msgspec.Struct):
    webhooks: tuple[_Hook, ...] = ()


class CertRotator:
    """Has certificates for `service` at all times, and `install`s them. `run()` does it."""

    def __init__(
        self,
        api: KubeClient,
        service: Service,
        install: Install,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api, self._service, self._install, self._now = api, service, install, now
        self._installed: CertBundle | None = None
        self._problem = ""  # as told last
        self._missing: set[str] = set()

    async def run(self) -> None:
        """Look after the certificates for ever. What does not work is tried again."""
        while True:
            try:
                await self.rotate()
            except KubeError as error:
                self._tell(error)
            else:
                self._problem = ""
            await anyio.sleep(ROTATE_CHECK_S if self._installed else ROTATE_RETRY_S)

    async def rotate(self) -> None:
        """Check that a good certificate is there, trusted and served.

        Raises: KubeError.
        """
        held = await self._agree()
        for plural in WEBHOOK_KINDS:
            await self._spread(plural, held.authorities)
        if held == self._installed:
            return
        if self._installed is not None:
            await anyio.sleep(SETTLE_S)
        self._install(held.certificate, held.key)
        self._installed = held
        log.info("serving webhook certificate", expires_at=expires_at(held).isoformat())

    async def _agree(self) -> CertBundle:
        """Return what is in the Secret, once that is good.

        Raises: KubeError.
        """
        for _ in range(TRIES):
            found = await self._read()
            held = None if found is None else _held(found.data or {})
            good = renewed(held, self._service.hosts, self._now())
            if good is held:
                return good
            try:
                await self._write(good, found)
            except Conflict:
                continue  # another replica was faster; what it wrote will do
            if found is not None and found.data and held is not None and is_broken(held):
                log.warning("the Secret held no usable certificates", secret=WEBHOOK_SECRET)
            log.info("webhook certificates renewed", expires_at=expires_at(good).isoformat())
            return good
        raise Conflict(f"the Secret {WEBHOOK_SECRET} changes all the time")

    async def _read(self) -> _Secret | None:
        try:
            return _decode(_Secret, await self._secret("GET", f"secrets/{WEBHOOK_SECRET}"))
        except NotFound:
            return None

    async def _write(self, good: CertBundle, found: _Secret | None) -> None:
        """Write the Secret, provided it has not changed.

        Raises: Conflict if it has; other KubeErrors.
        """
        data = {key: _base64(getattr(good, part)) for key, part in _KEYS.items()}
        if found is None:
            meta = {"name": WEBHOOK_SECRET, "namespace": self._service.namespace}
            body: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
            await self._secret("POST", "secrets", body | {"data": data})
        else:
            body = {"metadata": {"resourceVersion": found.metadata.resourceVersion}, "data": data}
            await self._secret("PATCH", f"secrets/{WEBHOOK_SECRET}", body, MERGE_PATCH)

    async def _spread(self, plural: str, authorities: bytes) -> None:
        """Make the API server trust the authorities where it calls us.

        Raises: KubeError.
        """
        url, bundle = f"{plural}/{WEBHOOK_CONFIGURATION}", _base64(authorities)
        try:
            there = _decode(_Configuration, await self._call("GET", ADMISSION_GROUP, url))
        except NotFound:
            if plural not in self._missing:  # who wants only one of the two may delete the other
                log.warning("the cluster has no such webhook", configuration=url, hint=APPLY)
            self._missing.add(plural)
            return
        self._missing.discard(plural)
        steps = []
        for index, hook in enumerate(there.webhooks):
            if hook.clientConfig.caBundle != bundle:
                at = f"/webhooks/{index}"
                steps += [
                    {"op": "test", "path": f"{at}/name", "value": hook.name},
                    {"op": "add", "path": f"{at}/clientConfig/caBundle", "value": bundle},
                ]
        if steps:
            await self._call("PATCH", ADMISSION_GROUP, url, body=steps, headers=JSON_PATCH)
            log.info("webhook configuration trusts this operator", configuration=url)

    async def _secret(
        self, method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        namespace = self._service.namespace
        return await self._call(method, "v1", url, namespace=namespace, body=body, headers=headers)

    async def _call(
        self,
        method: str,
        version: str,
        url: str,
        *,
        namespace: str | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        call: dict[str, Any] = {"version": version, "url": url, "namespace": namespace}
        if body is not None:
            call["content"] = msgspec.json.encode(body)
            call["headers"] = headers or {"content-type": "application/json"}
        return await self._api.request(method, timeout=WRITE_LIMIT_S, **call)

    def _tell(self, error: KubeError) -> None:
        """Log a problem once, until it is another."""
        if (problem := str(error)) == self._problem or isinstance(error, LoginFailed):
            return  # a login tells of itself
        self._problem = problem
        hint = {NotPermitted: {"hint": GRANT}, NotFound: {"hint": APPLY}}.get(type(error), {})
        log.warning("webhook certificates not kept, will retry", problem=problem, **hint)


def _held(data: Mapping[str, str]) -> CertBundle:
    """Read the Secret; what is missing or no base64 is empty, and so is found to be no good."""
    return CertBundle(**{part: _bytes(data.get(key, "")) for key, part in _KEYS.items()})


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decode(kind: type[T], answer: bytes) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except UNREADABLE as error:
        raise Rejected("the Kubernetes API answered what cannot be read") from error
