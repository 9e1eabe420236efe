"""Which of several replicas acts: the one that holds a Lease of Kubernetes.

The records are those of client-go, and so are the rules, with less trust in four places. Who holds
the lease acts for RENEW_S after it *asked* for the last renewal that succeeded. Who waits takes
over once it has *had* the same record for the whole duration that is written in it. Each counts on
its own clock, so what two machines think the time is never matters; between the two moments lie
five seconds. Who begins a change asks whether what is left is longer than the change may take
(`check`). And a lease that is not there may have been deleted under a leader that does not know it
yet, so its absence is waited out like a silent holder, and so is a record of the past, which a
restored etcd has; only what was released is free at once.
"""

import math
import random
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import anyio
import msgspec
import structlog

from crd.v1alpha1 import UNREADABLE
from ollama_op.base.errors import (
    Conflict,
    KubeError,
    KubeUnreachable,
    LoginFailed,
    NotFound,
    NotLeading,
)
from ollama_op.base.json import Object
from ollama_op.kube.client import KubeClient
from ollama_op.kube.lease_record import (
    DURATION_S,
    LEASE_VERSION,
    claimed,
    holder_of,
    released,
    spec_of,
    transitions_of,
)

log = structlog.get_logger(__name__)

RENEW_S: Final = 10.0  # without a renewal, after which the leader stops
LEASE_RETRY_S: Final = 2.0  # between two attempts to get or to renew the lease
CALL_LIMIT_S: Final = 4.0  # of one attempt, so that there is time for a second one
RELEASE_LIMIT_S: Final = 2.0  # nobody waits longer for a process to end
LEASE_JITTER: Final = 0.1  # of RETRY_S, up and down: replicas that start together drift apart
# Unlike Python's monotonic clock, it goes on while the machine sleeps.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_NOTHING_YET: Final[Object] = {"not": "read"}  # like no record


def boot_clock() -> float:
    """Return the seconds since some moment. The event loop's clock may lag behind."""
    return time.clock_gettime(_CLOCK)


def identify() -> str:
    """Make a name for this process, that no other one has: a pod's containers share a host name."""
    return f"{socket.gethostname()}_{uuid4().hex[:8]}"


class Leadership:
    """One replica's part in the election by the Lease `name`; `run()` takes it.

    `clock` measures, `now` is only written down.
    """

    def __init__(
        self,
        api: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = boot_clock,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._api, self._namespace, self._name = api, namespace, name
        self.identity = identity
        self._clock, self._now, self._chance = clock, now, chance
        self._valid_until = -math.inf
        self._lease: Object | None = None  # as we wrote it last, to be renewed without reading it
        self._seen: Object | None = dict(_NOTHING_YET)  # the newest record; None for no lease
        self._seen_at = math.inf  # when it was first had
        self._is_set_back = False  # whether it is of a time before that of the record before it
        self._is_failing = False

    @property
    def is_leading(self) -> bool:
        """Whether this replica, and no other, may act."""
        return self.remaining_s() > 0

    def remaining_s(self) -> float:
        """Return for how long it leads without another renewal; 0 if it does not."""
        return max(self._valid_until - self._clock(), 0)

    def check(self, limit_s: float) -> None:
        """Let something begin that takes no longer than `limit_s`.

        Raises: NotLeading if it might still be under way when another replica leads.
        """
        if (left_s := self.remaining_s()) <= limit_s:
            raise NotLeading(f"leading for {left_s:.1f} s more, and {limit_s:g} s may be needed")

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Stand for election for ever; `lead` runs while this replica leads.

        It is cancelled when the lease is lost, and has to end within RENEW_S less what it gave to
        `check`. At an orderly end the lease is released, once `lead` has ended.
        """
        while True:
            began = await self._attempt()
            if self.is_leading:
                await self._lead(lead)
            else:
                await self._sleep(began)

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        log.info("leading", lease=self._where, identity=self.identity)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._renew, tasks.cancel_scope)
                await lead()
                tasks.cancel_scope.cancel()
        finally:
            to_release = self.is_leading
            self._valid_until = -math.inf
            log.info("leading no more", lease=self._where, lost=not to_release)
            if to_release:
                with anyio.move_on_after(RELEASE_LIMIT_S, shield=True):
                    await self._release()
            self._lease = None

    async def _renew(self, term: anyio.CancelScope) -> None:
        """Keep the lease. `term` ends with it at the latest, whatever is waited for here."""
        while self.is_leading:
            term.deadline = anyio.current_time() + self.remaining_s()
            await anyio.sleep(self._pause_s())
            await self._attempt()
        term.cancel()

    async def _sleep(self, began: float) -> None:
        """Wait for the next attempt: soon, and right when a silent holder's time is over."""
        due = began + self._pause_s()
        if began < self._expires_at < due:
            due = self._expires_at
        await anyio.sleep(max(due - self._clock(), 0))

    def _pause_s(self) -> float:
        return LEASE_RETRY_S * (1 + LEASE_JITTER * (2 * self._chance() - 1))

    async def _attempt(self) -> float:
        """Try once to get or to renew the lease; return when that was begun."""
        began = self._clock()
        try:
            await self._api.login.credentials()  # however long that takes
            began = self._clock()
            with anyio.fail_after(CALL_LIMIT_S):
                await self._try(began)
        except (Conflict, NotFound) as error:  # somebody was faster: look again
            self._lease = None
            log.debug("lease has changed", lease=self._where, problem=str(error))
        except LoginFailed:  # nothing was asked, and the login tells of itself
            pass
        except (KubeError, TimeoutError) as error:
            self._lease = None  # whether it was written is not known
            self._tell_failure(str(error) or f"no answer within {CALL_LIMIT_S:g} s")
        else:
            if self._is_failing:
                log.info("lease reached again", lease=self._where)
            self._is_failing = False
        return began

    async def _try(self, began: float) -> None:
        lease = self._lease
        if lease is None:
            lease = await self._read()
            self._take_in(lease)
        if self._is_free(lease):
            self._lease = await self._write(lease, claimed(lease, self.identity, self._now()))
            self._valid_until = began + RENEW_S  # whenever it was written, that was not before
            self._take_in(self._lease)
        else:
            self._valid_until = -math.inf

    def _is_free(self, lease: Object | None) -> bool:
        """Return True if this replica may write itself into the record that it has read last."""
        is_silent = self._clock() >= self._expires_at
        if lease is None:
            return is_silent or self.is_leading  # while it leads, it was ours that was deleted
        if self._is_set_back and not self.is_leading:
            return is_silent
        return is_silent or holder_of(spec_of(lease)) in ("", self.identity)

    @property
    def _expires_at(self) -> float:
        duration_s = float((self._seen or {}).get("leaseDurationSeconds") or DURATION_S)
        if self._is_set_back:
            duration_s = max(duration_s, DURATION_S)  # of a leader that it does not name
        return self._seen_at + duration_s

    def _take_in(self, lease: Object | None) -> None:
        """Record a record, and since when it is the same. To be called once it has arrived."""
        record = None if lease is None else spec_of(lease)
        if record == self._seen:
            return
        before, holder = holder_of(self._seen), holder_of(record)
        self._is_set_back = transitions_of(record) < transitions_of(self._seen)
        self._seen, self._seen_at = record, self._clock()
        if holder and holder not in (before, self.identity):
            log.info("another replica leads", lease=self._where, leader=holder)
        elif record is None and not self.is_leading:
            log.info("no lease yet, will take it", lease=self._where, wait_s=DURATION_S)

    async def _release(self) -> None:
        try:
            while True:
                lease = self._lease or await self._read()
                if lease is None or holder_of(spec_of(lease)) != self.identity:
                    return
                try:
                    await self._write(lease, released(lease, self._now()))
                except Conflict:  # with a renewal that was cut off, and arrived
                    self._lease = None
                else:
                    return
        except KubeError as error:
            log.warning("lease not released", lease=self._where, problem=str(error))

    def _tell_failure(self, problem: str) -> None:
        """Log an outage once, in its beginning."""
        say = log.debug if self._is_failing else log.warning
        say("lease not reached, will retry", lease=self._where, problem=problem)
        self._is_failing = True

    @property
    def _where(self) -> str:
        return f"{self._namespace}/{self._name}"

    async def _read(self) -> Object | None:
        try:
            return await self._call("GET", f"leases/{self._name}")
        except NotFound:
            return None

    async def _write(self, lease: Object | None, spec: Object) -> Object:
        """Replace the lease, provided nobody else has since it was read; or create it."""
        body: Object = {"apiVersion": LEASE_VERSION, "kind": "Lease", "spec": spec}
        if lease is None:
            body["metadata"] = {"name": self._name, "namespace": self._namespace}
            return await self._call("POST", "leases", body)
        body["metadata"] = lease["metadata"]  # with its resourceVersion
        return await self._call("PUT", f"leases/{self._name}", body)

    async def _call(self, method: str, url: str, body: Object | None = None) -> Object:
        how: Object = {} if body is None else {"content": msgspec.json.encode(body)}
        answer = await self._api.request(
            method,
            version=LEASE_VERSION,
            url=url,
            namespace=self._namespace,
            timeout=CALL_LIMIT_S,
            **how,
        )
        try:
            return msgspec.json.decode(answer, type=Object)
        except UNREADABLE as error:
            raise KubeUnreachable(f"the lease cannot be read: {error}") from error
