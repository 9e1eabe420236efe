"""An embedded Kubernetes API: enough for the operator, for kubectl, and for their tests.

It is a plain ASGI application on anyio alone. Waiting follows `anyio.current_time()`, timestamps
follow an injected clock, so it runs in virtual time in process as well as behind a socket. The
contract tests hold it to the real kube-apiserver.

Left out: server-side apply (415), strategic merge patch (415), set-based selectors (400),
managedFields, CEL and admission, warnings, aggregated discovery, OpenAPI v2, protobuf,
authentication (everybody may do everything; reviews of others are answered from `people`), owner
references, and the emptying of a deleted namespace. Namespaces need not exist to be used.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec

from crd import render
from ollama_op.base.asgi import Message, Receive, Send
from ollama_op.base.json import Object
from ollama_op.sandbox.http import SandboxRequest, answer, chunk, read_request, send_start
from ollama_op.sandbox.kube import watching
from ollama_op.sandbox.kube.discovery import ACCESS_REVIEW_PATH, SERVED, documents
from ollama_op.sandbox.kube.resources import BUILTIN, custom
from ollama_op.sandbox.kube.reviews import REVIEW_KINDS, People
from ollama_op.sandbox.kube.rules import RuleWriter
from ollama_op.sandbox.kube.selectors import selector
from ollama_op.sandbox.kube.storage import ObjectStore
from ollama_op.sandbox.kube.verbs import ObjectRef, Verbs
from ollama_op.sandbox.status import ApiError, no_such_path, not_allowed

_HEALTHY = ("/healthz", "/livez", "/readyz")


@dataclass(frozen=True, kw_only=True)
class ApiFault:
    """What a request gets instead of its answer."""

    code: int = 500
    """The HTTP status; 0 cuts the connection."""
    reason: str = "InternalError"
    message: str = "injected fault"
    retry_after_s: int | None = None
    delay_s: float = 0
    """How long it takes; `math.inf` is a connection that has died without a word."""
    done: bool = False
    """Whether the request is carried out all the same, and only its answer is lost."""


class KubeSandbox:
    """The application.

    `crd` is the manifest of the one custom resource, by default OllamaModel's. `now` is the clock
    of timestamps and ages. Tests may read `store` and `requests` (method and path of every request
    so far), and set `intercept`, which is asked before each request for a Fault, and `people`, whom
    reviews know.
    """

    def __init__(
        self,
        *,
        crd: Object | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = ObjectStore()
        self.requests: list[tuple[str, str]] = []
        self.intercept: Callable[[SandboxRequest], ApiFault | None] = lambda _request: None
        self.people: People = {}
        self._verbs = Verbs(self.store, RuleWriter(self.store, now), now)
        crd = render.crd() if crd is None else crd
        resources = (*BUILTIN, custom(crd))
        self._resources = {(r.api_version, r.plural): r for r in resources}
        self._documents = documents(sorted(resources, key=lambda r: r.api_version))
        self._seed(crd)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"only http, not {scope['type']}")
        try:
            request = await read_request(scope, receive)
            self.requests.append((request.method, request.path))
            fault = self.intercept(request)
            if fault is None:
                await self._answer(request, receive, send)
                return
            if fault.done:
                await self._answer(request, receive, _to_nobody)
            await _fail(fault)
        except ApiError as error:
            await answer(send, error.code, error.status(), error.headers)

    def hang_up(self) -> None:
        """End every watch under way as a server does that is restarted: quietly."""
        self.store.wake(end=True)

    def _seed(self, crd: Object) -> None:
        """Make what is there before anybody came: the default namespace and the CRD."""
        create = self._verbs.writer.create
        create(self._resources["v1", "namespaces"], "", {"metadata": {"name": "default"}})
        condition = {"type": "Established", "status": "True", "reason": "InitialNamesAccepted"}
        status = {
            "acceptedNames": crd["spec"]["names"],
            "conditions": [condition],
            "storedVersions": [version["name"] for version in crd["spec"]["versions"]],
        }
        definitions = self._resources["apiextensions.k8s.io/v1", "customresourcedefinitions"]
        create(definitions, "", definitions.stored({**crd, "status": status}))

    async def _answer(self, request: SandboxRequest, receive: Receive, send: Send) -> None:
        path = request.path.rstrip("/")
        if path in _HEALTHY:
            await answer(send, 200, "ok")
        elif path in self._documents:
            await answer(send, 200, self._documents[path])
        elif path == ACCESS_REVIEW_PATH and request.method == "POST":
            await answer(send, 201, SERVED)
        elif path in REVIEW_KINDS and request.method == "POST":
            await answer(send, 201, REVIEW_KINDS[path](request.json_object(), self.people))
        else:
            target = self._target(path)
            if request.method == "GET" and target.name is None and request.flag("watch"):
                await self._watch(target, request, receive, send)
            else:
                await answer(send, *self._verbs.call(target, request))

    def _target(self, path: str) -> ObjectRef:
        """Resolve a path.

        Raises: ApiError 404.
        """
        match path.strip("/").split("/"):
            case ["api", version, *rest]:
                api_version = version
            case ["apis", group, version, *rest]:
                api_version = f"{group}/{version}"
            case _:
                raise no_such_path()
        namespace = None
        if len(rest) > 2 and rest[0] == "namespaces":  # noqa: PLR2004  two name a namespace itself
            _, namespace, *rest = rest
        plural, name, subresource, *more = [*rest, *[None] * 3][: max(3, len(rest))]
        resource = self._resources.get((api_version, plural or ""))
        if resource is None or more:
            raise no_such_path()
        if subresource and not (resource.has_status and subresource == "status"):
            raise no_such_path()
        return ObjectRef(resource, namespace if resource.namespaced else "", name, subresource)

    async def _watch(
        self, target: ObjectRef, request: SandboxRequest, receive: Receive, send: Send
    ) -> None:
        resource = target.resource
        watch = _watch_of(target, request)
        headed = True

        async def emit(kind: str, obj: Any) -> None:
            nonlocal headed
            if kind != "ERROR":  # whose object is a Status, in any form of the answer
                obj = self._verbs.shown(resource, obj, request, headed=headed)
                headed = False
            await chunk(send, msgspec.json.encode({"type": kind, "object": obj}) + b"\n")

        await send_start(send, 200)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
            await watching.stream_changes(self.store, watch, emit)
            await chunk(send, b"", more=False)
            tasks.cancel_scope.cancel()


def kubeconfig(url: str) -> Object:
    """Return the kubeconfig of a sandbox that listens at `url`."""
    name = "sandbox"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def _watch_of(target: ObjectRef, request: SandboxRequest) -> watching.Watch:
    """Read what the query of a watch asks for.

    Raises: ApiError 400, 405.
    """
    if "watch" not in target.resource.verbs:
        raise not_allowed()
    # With a resourceVersion this means "not older than", which the present always is.
    from_now = request.flag("sendInitialEvents")
    return watching.Watch(
        plural=target.resource.plural,
        selects=selector(target.resource, target.only_namespace, request),
        since=None if from_now else request.number("resourceVersion") or None,
        timeout_s=request.number("timeoutSeconds") or watching.DEFAULT_TIMEOUT_S,
        bookmarks=request.flag("allowWatchBookmarks"),
    )


async def _fail(fault: ApiFault) -> None:
    if math.isinf(fault.delay_s):
        await anyio.sleep_forever()
    await anyio.sleep(fault.delay_s)
    if not fault.code:
        raise ConnectionResetError("cut by a fault")
    headers = {} if fault.retry_after_s is None else {"retry-after": str(fault.retry_after_s)}
    raise ApiError(fault.code, fault.reason, fault.message, headers=headers)


async def _to_nobody(message: Message) -> None:
    """Send nothing anywhere."""


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
