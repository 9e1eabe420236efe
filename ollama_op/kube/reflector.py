"""List, then watch: a sink that is told of every object, and never misses a deletion.

A watch ends all the time: the API server closes it after some minutes, load balancers cut it,
etcd forgets the past. It goes on from the last resourceVersion seen, provided that the last watch
brought something. Everything is listed anew where that version is gone (410), and after a watch
that was refused or brought nothing: etcd may have been restored from a snapshot meanwhile, and then
the API server takes a version that is yet to come, and is silent until then. What a list no longer
has was deleted meanwhile.
"""

import random
from contextlib import aclosing
from typing import Any, Protocol

import anyio
import msgspec
import structlog

from crd.resource import Resource
from crd.v1alpha1 import UNREADABLE
from ollama_op.base.backoff import Backoff
from ollama_op.base.errors import (
    Expired,
    KubeError,
    KubeUnreachable,
    LoginFailed,
    NotFound,
    NotPermitted,
)
from ollama_op.base.lines import LineTooLong, split_lines
from ollama_op.base.observer import NOBODY, Observer
from ollama_op.kube.client import KubeClient
from ollama_op.kube.failures import status_error

log = structlog.get_logger(__name__)

LIST_PAGE = 500  # objects in one answer to a list
LIST_TIMEOUT_S = 30.0
SILENCE_S = 90.0  # bookmarks come about once a minute: no word for longer is a dead connection
WATCH_S = (240, 300)  # how long a watch is asked to last; spread, so that replicas do not meet
WATCH_LINE_LIMIT = 8 << 20  # bytes; etcd refuses objects of more than about 1.5 MiB
WATCH_RETRY = Backoff(first_s=0.25, longest_s=15, jitter=1)
AT_LEAST_S = 0.05
HEALTHY_S = 5.0  # a watch that lasted this long had worked: the next end counts as the first


class Sink(Protocol):
    """Receives what the reflector finds: raw JSON, whatever is in it."""

    def seen(self, raw: msgspec.Raw) -> str:
        """Handle an object as it is now; return its uid."""

    def listing(self) -> None:
        """Expect a list: what is seen from now on until `listed` is its content."""

    def deleted(self, raw: msgspec.Raw) -> None:
        """Handle the end of an object."""

    def listed(self, uids: set[str], resource_version: str) -> None:
        """Handle the end of a list: these were all objects at `resource_version`."""


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _Meta
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Head(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    code: int = 0
    message: str = ""


_page = msgspec.json.Decoder(_Page)
_event = msgspec.json.Decoder(_Event)
_head = msgspec.json.Decoder(_Head)


class Reflector:
    """Mirrors the objects of one kind, in one namespace or in all, into a sink."""

    def __init__(
        self,
        api: KubeClient,
        sink: Sink,
        resource: Resource[Any],
        *,
        namespace: str | None = None,
        observer: Observer = NOBODY,
    ) -> None:
        self._api, self._sink, self._resource, self._observer = api, sink, resource, observer
        self._where: dict[str, Any] = {
            "version": resource.api_version,
            "url": resource.plural,
            "namespace": namespace,
        }
        self._version = ""  # where the next watch begins; empty asks for a list first
        self._newest = ""  # the last version that was seen
        self.synced = anyio.Event()  # set when the first list is complete
        self.connected = False  # false while the API server cannot be heard
        self._answered = False  # whether it was heard since the last end
        self._told: type[KubeError] | None = None  # the outage that the log has been told of

    def is_in_sync(self) -> bool:
        """Return True if everything was listed and the watch is up."""
        return self.synced.is_set() and self.connected

    async def run(self) -> None:
        """Mirror for ever. What ends at once, however it ends, is tried again ever more slowly."""
        quick_ends = 0
        while True:
            began, trouble, cause = anyio.current_time(), None, "closed"
            self._answered = False
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Expired:
                cause = "expired"
            except KubeError as error:
                trouble, cause = error, "broken"
            if self._answered and anyio.current_time() - began > HEALTHY_S:
                quick_ends = 0
            chance = random.random()  # noqa: S311 - no secret
            backoff_s = WATCH_RETRY.after(quick_ends + 1, chance=chance)
            wait_s = backoff_s if quick_ends or trouble else AT_LEAST_S
            if trouble:
                wait_s = max(wait_s, trouble.retry_after_s)
                self._complain(trouble, quick_ends, wait_s)
            quick_ends += 1
            self._observer.watch_ended(cause)
            await anyio.sleep(wait_s)

    async def _list(self) -> None:
        uids, token, version = set[str](), "", ""
        self._sink.listing()
        while True:
            params = {"limit": str(LIST_PAGE)} | ({"continue": token} if token else {})
            body = await self._api.request(
                "GET", params=params, timeout=LIST_TIMEOUT_S, **self._where
            )
            page = _decode(_page, body)
            uids.update(map(self._sink.seen, page.items))
            version, token = page.metadata.resource_version, page.metadata.continue_
            if not token:
                break
        self._sink.listed(uids, version)
        if _number(version) < _number(self._newest):
            log.warning("the cluster was set back, all is read anew", was=self._newest, now=version)
        self._version = self._newest = version
        self.synced.set()

    async def _watch(self) -> None:
        """Watch from `_version` on. At the end it is empty unless one may go on from there."""
        begin, self._version = self._version, ""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": begin,
            "timeoutSeconds": str(random.randint(*WATCH_S)),  # noqa: S311 - no secret
        }
        news = self._api.stream("GET", params=params, silence_s=SILENCE_S, **self._where)
        async with news as parts:
            self._heard()
            try:
                async with aclosing(split_lines(parts, limit=WATCH_LINE_LIMIT)) as lines:
                    async for line in lines:
                        self._take(_decode(_event, line))
            except KubeUnreachable as error:
                if error.is_silence:
                    self._version = ""  # bookmarks were due
                raise
            except LineTooLong as error:
                self._version = ""  # the only way past that line is around it
                raise KubeUnreachable(f"the watch sent {error}") from error

    def _take(self, event: _Event) -> None:
        head = _decode(_head, event.object)
        match event.type:
            case "ERROR":
                self._version = ""
                raise status_error(head.code, head.message)
            case "DELETED":
                self._sink.deleted(event.object)
            case "ADDED" | "MODIFIED":
                self._sink.seen(event.object)
            case _:  # BOOKMARK carries nothing but a version
                pass
        self._version = self._newest = head.metadata.resource_version or self._newest

    def _heard(self) -> None:
        if not self.connected:
            log.info("watching ollamamodels", namespace=self._where["namespace"] or "all")
        self.connected = self._answered = True
        self._told = None

    def _complain(self, error: KubeError, failures: int, wait_s: float) -> None:
        routine = self._answered and failures == 0
        self.connected = self.connected and routine
        is_known = self._told is type(error) or isinstance(error, LoginFailed)  # told by the login
        say = log.debug if routine or is_known else log.warning
        self._told = self._told if routine else type(error)
        say(
            "watch broken, will retry",
            problem=str(error),
            retry_in_s=wait_s,
            **_hint(error, self._resource),
        )


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0


def _hint(error: KubeError, resource: Resource[Any]) -> dict[str, str]:
    match error:
        case NotFound():
            return {
                "hint": f"this cluster does not know {resource.kind}: kubectl apply -k config/crd"
            }
        case NotPermitted():
            return {"hint": f"kubectl auth can-i watch {resource.plural} --all-namespaces"}
        case _:
            return {}


def _decode(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw) -> Any:
    try:
        return decoder.decode(raw)
    except UNREADABLE as error:
        raise KubeUnreachable(f"the Kubernetes API sent what is no JSON of its: {error}") from error
