"""The operator as the REST API sees it: what it knows, what it can write, whom it can ask about.

Writes have a connection and slots of their own, so that clients of the API cannot hold back the
operator's, and what was written goes into the store at once, so that the next read finds it.
Questions about tokens have slots apart from those: whoever sends tokens that nobody knows must not
hold back those who write.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import msgspec
from kr8s.asyncio import Api

from api.ports import (
    Changed,
    Forbidden,
    Held,
    Listener,
    Missing,
    Refused,
    Taken,
    Unavailable,
    User,
    WriteError,
)
from crd.names import ModelName
from crd.v1alpha1 import (
    API_VERSION,
    GROUP,
    KIND,
    PLURAL,
    TRACEPARENT,
    UNREADABLE,
    OllamaModel,
    OllamaModelSpec,
    decode,
)
from ollama_op import tracing
from ollama_op.errors import (
    Conflict,
    KubeError,
    KubeUnreachable,
    NotFound,
    NotPermitted,
    sanitise,
)
from ollama_op.kube import MERGE_PATCH, WRITE_LIMIT_S, WRITES_AT_ONCE, answer_behind, request
from ollama_op.reflector import Reflector
from ollama_op.watch import Store
from ollama_op.wire import Entry

WAITING: Final = 64  # calls that may stand in line; who comes after them is sent away
LOOK_S: Final = 1.0  # between looks at whether the watch is up
AUTHENTICATION: Final = "authentication.k8s.io/v1"
AUTHORIZATION: Final = "authorization.k8s.io/v1"


class _Cause(msgspec.Struct):
    field: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Refusal(msgspec.Struct):
    reason: str = ""
    message: str = ""
    details: _Details | None = None


class _Uid(msgspec.Struct):
    uid: str = ""


class _Deletion(msgspec.Struct):
    """What a DELETE answers: a Status about an object that is gone, or the object."""

    kind: str = ""
    details: _Uid | None = None


class _Reviewed(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _Verdict(msgspec.Struct):
    authenticated: bool = False
    user: _Reviewed = msgspec.field(default_factory=_Reviewed)
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Verdict = msgspec.field(default_factory=_Verdict)


class Gateway:
    """Reader, writer and reviewer of the API. `run()` must be running for `age_s` to be right."""

    def __init__(
        self,
        api: Api,
        *,
        store: Store,
        reflector: Reflector,
        on_server: Callable[[], Mapping[ModelName, Entry] | None],
    ) -> None:
        self._api, self._store, self._reflector, self._on_server = api, store, reflector, on_server
        self._writing = anyio.CapacityLimiter(WRITES_AT_ONCE)
        self._asking = anyio.CapacityLimiter(WRITES_AT_ONCE)
        self._in_sync_at = anyio.current_time()

    async def run(self) -> None:
        """Note for ever when the watch was last up."""
        while True:
            if self._reflector.is_in_sync():
                self._in_sync_at = anyio.current_time()
            await anyio.sleep(LOOK_S)

    # --- reader

    def follow(self, listener: Listener) -> None:
        """Tell `listener` of all objects from now on."""
        self._store.follow(listener)

    def is_listed(self) -> bool:
        """Tell whether the first list was complete."""
        return self._reflector.synced.is_set()

    def age_s(self) -> float:
        """Return for how many seconds no news could arrive."""
        if self._reflector.connected:
            return 0
        return anyio.current_time() - self._in_sync_at

    def on_server(self) -> Mapping[ModelName, Held] | None:
        """Return what the Ollama server has."""
        models = self._on_server()
        if models is None:
            return None
        return {name: Held(entry.digest, entry.size) for name, entry in models.items()}

    # --- writer

    async def create(
        self, namespace: str, name: str, spec: OllamaModelSpec, *, dry_run: bool = False
    ) -> OllamaModel:
        """Create an object.

        Raises: WriteError.
        """
        meta: dict[str, Any] = {"name": name}
        if traceparent := tracing.current().traceparent:  # the trace of its life begins here
            meta["annotations"] = {TRACEPARENT: traceparent}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": spec}
        answer = await self._write("POST", PLURAL, namespace, body, dry_run=dry_run)
        return self._known(answer, dry_run=dry_run)

    async def patch(
        self, namespace: str, name: str, change: Mapping[str, Any], *, dry_run: bool = False
    ) -> OllamaModel:
        """Merge `change` into an object.

        Raises: WriteError.
        """
        url = f"{PLURAL}/{name}"
        answer = await self._write(
            "PATCH", url, namespace, change, dry_run=dry_run, headers=MERGE_PATCH
        )
        return self._known(answer, dry_run=dry_run)

    async def delete(
        self, namespace: str, name: str, *, version: str | None = None, dry_run: bool = False
    ) -> None:
        """Delete an object.

        Raises: WriteError.
        """
        options = {"preconditions": {"resourceVersion": version}} if version else {}
        answer = await self._write(
            "DELETE", f"{PLURAL}/{name}", namespace, options, dry_run=dry_run
        )
        if dry_run:
            return
        deletion = _read(_Deletion, answer)
        if deletion.kind == KIND:
            self._known(answer)
        elif deletion.details is not None:
            self._store.forget(deletion.details.uid)

    def _known(self, answer: bytes, *, dry_run: bool = False) -> OllamaModel:
        try:
            model = decode(answer)
        except UNREADABLE as error:
            raise Unavailable("the Kubernetes API answered what is no object") from error
        if not dry_run:
            self._store.put(model)
        return model

    # --- reviewer

    async def who(self, token: str) -> User | None:
        """Return whom a bearer token stands for.

        Raises: WriteError.
        """
        spec = {"token": token}
        verdict = await self._review(AUTHENTICATION, "TokenReview", "tokenreviews", spec)
        if not verdict.authenticated:
            return None
        user = verdict.user
        return User(user.username, user.uid, user.groups, tuple(sorted(user.extra.items())))

    async def may(self, user: User, verb: str, namespace: str | None) -> bool:
        """Tell whether somebody may do something to OllamaModels.

        Raises: WriteError.
        """
        where = {"namespace": namespace} if namespace else {}
        what = {"group": GROUP, "resource": PLURAL, "verb": verb} | where
        return await self._is_allowed(user, resourceAttributes=what)

    async def may_visit(self, user: User, path: str) -> bool:
        """Tell whether somebody may read what is at a path that is no object.

        Raises: WriteError.
        """
        return await self._is_allowed(user, nonResourceAttributes={"verb": "get", "path": path})

    async def _is_allowed(self, user: User, **what: Mapping[str, str]) -> bool:
        person = {"user": user.name, "uid": user.uid, "groups": user.groups}
        spec = {**person, "extra": dict(user.extra), **what}
        plural = "subjectaccessreviews"
        return (await self._review(AUTHORIZATION, "SubjectAccessReview", plural, spec)).allowed

    async def _review(self, version: str, kind: str, plural: str, spec: Any) -> _Verdict:
        body = {"apiVersion": version, "kind": kind, "spec": spec}
        answer = await self._send(self._asking, "POST", plural, None, body, version=version)
        verdict: _Verdict = _read(_Review, answer).status
        return verdict

    # --- both

    async def _write(
        self, method: str, url: str, namespace: str | None, body: object, **how: Any
    ) -> bytes:
        return await self._send(self._writing, method, url, namespace, body, **how)

    async def _send(
        self,
        slots: anyio.CapacityLimiter,
        method: str,
        url: str,
        namespace: str | None,
        body: object,
        *,
        version: str = API_VERSION,
        dry_run: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        if slots.statistics().tasks_waiting >= WAITING:
            raise Unavailable("too many requests are waiting for Kubernetes", retry_after_s=1)
        call: dict[str, Any] = {
            "version": version,
            "url": url,
            "namespace": namespace,
            "params": {"dryRun": "All"} if dry_run else {},
            "content": msgspec.json.encode(body),
            "headers": headers or {"content-type": "application/json"},
            "timeout": WRITE_LIMIT_S,
        }
        # Cancelled halfway, nobody would know whether it was done.
        async with slots:
            with anyio.CancelScope(shield=True):
                try:
                    answer = await request(self._api, method, **call)
                except KubeError as error:
                    raise _as_write_error(error) from error
        return answer


# How the API server says 403 about an object, not about our account: a webhook, a policy, a quota,
# a namespace that is being deleted.
ADMISSION: Final = ("denied the request", "denied request: ", "exceeded quota", "being terminated")
# A policy has no field to name the field in; those of config/policy begin their words with it.
BY_POLICY: Final = re.compile(r" denied request: (spec\.[\w.]+): (.+)")


def _as_write_error(error: KubeError) -> WriteError:
    text, refusal = str(error), _refusal(error)
    match error:
        case KubeUnreachable():
            return Unavailable(text, retry_after_s=error.retry_after_s)
        case NotPermitted() if not any(words in refusal.message for words in ADMISSION):
            return Forbidden(text)
        case NotFound():
            return Missing(text)
        case Conflict() if refusal.reason == "AlreadyExists":
            return Taken(text)
        case Conflict():
            return Changed(text)
        case _:
            return Refused(text, _fields(refusal))


def _fields(refusal: _Refusal) -> list[tuple[str, str]]:
    """Return which fields are refused, and in which words."""
    causes = (refusal.details.causes if refusal.details else None) or ()
    named = [(cause.field, cause.message) for cause in causes if cause.field]
    return [
        (field.removeprefix("spec."), sanitise(message))
        for field, message in named or BY_POLICY.findall(refusal.message)
    ]


def _refusal(error: KubeError) -> _Refusal:
    answer = answer_behind(error)
    if answer is None:
        return _Refusal()
    try:
        return msgspec.json.decode(answer.content, type=_Refusal)
    except UNREADABLE:
        return _Refusal()


def _read(kind: type[Any], answer: bytes) -> Any:
    try:
        return msgspec.json.decode(answer, type=kind)
    except UNREADABLE as error:
        raise Unavailable("the Kubernetes API answered what cannot be read") from error
