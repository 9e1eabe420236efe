"""Logged in to one cluster, for all connections: one login at a time, and ahead of time.

All logins happen in `run`, whoever asks for them. So a plugin of five seconds is not ended with
a write that may take four, and who has to wait waits for the same login as everybody else.
"""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import structlog

from ollama_op.base.backoff import Backoff
from ollama_op.base.errors import LoginFailed
from ollama_op.base.parsing import ConfigError
from ollama_op.kube.access import Access, find_access
from ollama_op.kube.credentials import Credentials, log_in

log = structlog.get_logger(__name__)

AHEAD_S: Final = 60.0  # before the end of its credentials, or half of their time, comes a new login
LOGIN_CHECK_S: Final = 60.0  # between looks at files, which kubelet and others renew
LOGIN_PAUSE_S: Final = 10.0  # after a login: what it gave is taken as good, even if it has expired
LOGIN_RETRY: Final = Backoff(first_s=1, longest_s=30)

Look = Callable[[], Access]
"""Reads the kubeconfig anew. Raises: ConfigError."""
LogIn = Callable[[Access, Credentials | None], Awaitable[Credentials]]


class Login:
    """Credentials for one cluster, kept fresh by `run`."""

    def __init__(
        self,
        access: Access,
        look: Look,
        *,
        log_in: LogIn = log_in,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.access = access
        self._look, self._log_in, self._now = look, log_in, now
        self._credentials: Credentials | None = None
        self._refused: Credentials | None = None  # the last that the API server did not take
        self._told_refusal = False
        self._error: LoginFailed | None = None  # of the last login
        self._failures = 0
        self._took_s = 0.0
        self._came_expired = False  # our clock and that of the plugin differ, perhaps
        self._not_before = -math.inf  # when the next login may begin
        self._wanted, self._done = anyio.Event(), anyio.Event()

    @classmethod
    def find(cls, kubeconfig: Path | None) -> "Login":
        """Read the kubeconfig, the default one if None, or else use the pod's own account.

        Raises: ConfigError.
        """
        access = find_access(kubeconfig)
        return cls(access, partial(find_access, kubeconfig, access.context))

    @property
    def server(self) -> str:
        """The address of the API server."""
        return self.access.server

    @property
    def proxy(self) -> str | None:
        """The proxy that it is called through."""
        return self.access.proxy

    def problem(self) -> str:
        """Return why there are no credentials that work; "" if there are, or may be."""
        if self._told_refusal:
            return f"the Kubernetes API does not take the credentials of {self.access.who}"
        return str(self._error) if self._error and not self._is_good() else ""

    async def credentials(self) -> Credentials:
        """Return credentials, waiting for a login where one is due.

        Raises: LoginFailed if that failed, or the last one did and the next is not due yet.
        """
        while self._credentials is None or not self._is_good():
            if self._error is not None and anyio.current_time() < self._not_before:
                raise self._again(self._error)
            self._wanted.set()
            await self._done.wait()
            if self._error is not None and not self._is_good():
                raise self._again(self._error)
        return self._credentials

    def refused(self, used: Credentials) -> bool:
        """Record that the API server answered 401; return True if a new login may help."""
        if used is not self._credentials:
            return True  # there are others by now
        may_help = anyio.current_time() >= self._not_before
        if not may_help and not self._told_refusal:
            log.warning("kubernetes does not take our credentials", by=self.access.who)
            self._told_refusal = True
        self._refused = used
        return may_help

    def accepted(self, used: Credentials) -> None:
        """Record that the API server knew who called."""
        if used is self._refused:
            self._refused = None
        if self._told_refusal and used is self._credentials:
            log.info("kubernetes takes our credentials again", by=self.access.who)
            self._told_refusal = False

    async def run(self) -> None:
        """Log in when somebody needs it, and ahead of time, for ever."""
        while True:
            with anyio.move_on_after(self._due_in_s()):
                await self._wanted.wait()
            await self._renew()

    def _is_good(self) -> bool:
        """Return True if the credentials may be used: they are fresh, or the newest to be had."""
        current = self._credentials
        if current is None:
            return False
        is_newest = self._error is None and anyio.current_time() < self._not_before
        if current is self._refused:
            return is_newest
        return not self._has_expired(current) or (self._came_expired and is_newest)

    def _has_expired(self, credentials: Credentials) -> bool:
        return credentials.expires_at is not None and self._now() >= credentials.expires_at

    def _due_in_s(self) -> float:
        """Return when to log in again though nobody asks for it."""
        pause_s = max(self._not_before - anyio.current_time(), 0)
        current = self._credentials
        if self._error is not None:
            return pause_s
        if current is None:
            return math.inf
        if current.expires_at is None:
            return LOGIN_CHECK_S if current.from_files else math.inf
        left_s = (current.expires_at - self._now()).total_seconds()
        ahead_s = min(max(AHEAD_S, 2 * self._took_s), left_s / 2)
        return math.inf if self._came_expired else max(left_s - ahead_s, pause_s)

    async def _renew(self) -> None:
        began = anyio.current_time()
        try:
            self._access_anew()
            self._credentials = await self._log_in(self.access, self._credentials)
        except LoginFailed as error:
            self._failed(error)
        except ConfigError as error:
            self._failed(LoginFailed(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator goes on
            self._failed(LoginFailed(f"{self.access.who}: cannot log in: {error}"))
        else:
            self._succeeded(self._credentials, anyio.current_time() - began)
        self._done.set()  # also for those who asked meanwhile
        self._wanted, self._done = anyio.Event(), anyio.Event()

    def _access_anew(self) -> None:
        """Read the kubeconfig again, which may have other credentials by now.

        Raises: ConfigError, also if it leads to another cluster: that takes a restart.
        """
        access = self._look()
        if access.server != self.access.server:
            raise ConfigError(
                f"{access.where} now leads to {access.server}, and this operator works on"
                f" {self.access.server}: restart it to change over"
            )
        self.access = access

    def _failed(self, error: LoginFailed) -> None:
        if self._error is None:
            log.warning("not logged in to kubernetes, will retry", problem=str(error))
        self._error, self._failures = error, self._failures + 1
        self._not_before = anyio.current_time() + LOGIN_RETRY.after(self._failures)

    def _succeeded(self, credentials: Credentials, took_s: float) -> None:
        say = log.info if self._error else log.debug
        say("logged in to kubernetes", by=self.access.who, took_s=round(took_s, 1))
        self._error, self._failures, self._took_s = None, 0, took_s
        self._not_before = anyio.current_time() + LOGIN_PAUSE_S
        self._came_expired = self._has_expired(credentials)

    @staticmethod
    def _again(error: LoginFailed) -> LoginFailed:
        return LoginFailed(str(error))  # one error is not raised in many tasks
