"""A login, in virtual time: what it asks for credentials is a function that a test writes."""

import contextlib
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import anyio
import httpx
import pytest
import structlog

from crd.model import OLLAMA_MODELS, OllamaModel, decode
from ollama_op.base.errors import LoginFailed, NotLeading, Unauthenticated
from ollama_op.base.parsing import ConfigError
from ollama_op.kube.access import Access
from ollama_op.kube.credentials import Credentials, Identity
from ollama_op.kube.kubeconfig import ClusterEntry, UserEntry
from ollama_op.kube.lease import Leadership
from ollama_op.kube.login import Login
from ollama_op.kube.transport import CREDENTIALS
from ollama_op.kube.writes import StatusWriter
from ollama_op.sandbox.kube.server import ApiFault, KubeSandbox
from ollama_op.sandbox.transport import AppTransport
from support.virtual.models import manifest
from support.virtual.unruly import Wire

START = datetime(2026, 1, 1, tzinfo=UTC)
ACCESS = Access("the kubeconfig x", "here", "user 'me'", ClusterEntry("https://kube"), UserEntry())


@dataclass
class Plugin:
    """Gives tokens that are good for `lasts_s` seconds, and takes `takes_s` for it."""

    takes_s: float = 0
    lasts_s: float | None = None
    from_files: bool = False
    skew_s: float = 0  # of its clock
    problem: Exception | None = None
    begun: list[float] = field(default_factory=list)
    ended: int = 0
    access: Access = ACCESS
    tls: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def look(self) -> Access:
        return self.access

    async def log_in(self, _access: Access, _before: Credentials | None) -> Credentials:
        self.begun.append(anyio.current_time())
        await anyio.sleep(self.takes_s)
        self.ended += 1
        if self.problem:
            raise self.problem
        token = f"Bearer {self.ended}".encode()
        expires = None if self.lasts_s is None else now() + timedelta(seconds=self.lasts_s)
        expires = expires and expires + timedelta(seconds=self.skew_s)
        headers = ((b"Authorization", token),)
        return Credentials(headers, Identity(), self.tls, expires, self.from_files)


def now() -> datetime:
    return START + timedelta(seconds=anyio.current_time())


@asynccontextmanager
async def logged_in(plugin: Plugin) -> AsyncGenerator[Login]:
    login = Login(plugin.access, plugin.look, log_in=plugin.log_in, now=now)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(login.run)
        yield login
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def server(plugin: Plugin) -> AsyncGenerator[tuple[Wire, KubeSandbox, list[str]]]:
    """Serve Kubernetes to whoever has a token that has not expired; also list who called."""
    kube, callers = KubeSandbox(now=now), list[str]()

    class Door(AppTransport):
        async def handle_async_request(self, call: httpx.Request) -> httpx.Response:
            credentials: Credentials = call.extensions[CREDENTIALS]
            callers.append(credentials.headers[0][1].decode())
            if credentials.expires_at and credentials.expires_at <= now():
                return httpx.Response(401, json={"message": "Unauthorized"}, request=call)
            return await super().handle_async_request(call)

    async with Door(kube) as door, logged_in(plugin) as login:
        yield Wire(door, login=login), kube, callers


async def ask(api: Wire) -> bytes:
    return await api.request("GET", version="", base="/version")


# --- when, and how often


async def test_all_who_wait_wait_for_one_login():
    """However many connections there are."""
    plugin = Plugin(takes_s=5)
    async with logged_in(plugin) as login, anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(login.credentials)
            await anyio.sleep(0.1)
    assert len(plugin.begun) == 1


@pytest.mark.parametrize(
    ("lasts_s", "ahead_s"), [(20, 10), (90, 45), (900, 60), (3600, 60)], ids=str
)
async def test_a_new_login_comes_before_the_old_one_ends(lasts_s, ahead_s):
    """In the background, so that nobody waits for it."""
    plugin = Plugin(takes_s=5, lasts_s=lasts_s)
    async with logged_in(plugin) as login:
        await login.credentials()
        for _ in range(lasts_s * 5):
            await anyio.sleep(1)
            began = anyio.current_time()
            assert (await login.credentials()).expires_at > now()
            assert anyio.current_time() == began
    assert plugin.begun[1] == 5 + lasts_s - ahead_s
    assert len(plugin.begun) < 5 * lasts_s / (lasts_s - ahead_s) + 2


async def test_a_slow_plugin_is_asked_earlier():
    """Two times the time it took is left for it."""
    plugin = Plugin(takes_s=50, lasts_s=900)
    async with logged_in(plugin) as login:
        await login.credentials()
        await anyio.sleep(900)
    assert plugin.begun[1] == 50 + 900 - 100


async def test_a_plugin_that_keeps_its_token_to_the_end_is_not_asked_all_the_time():
    """Those of clouds hand out the same token until it expires, or shortly before that."""
    end, plugin = START + timedelta(seconds=600), Plugin()

    async def log_in(access: Access, before: Credentials | None) -> Credentials:
        given = await plugin.log_in(access, before)
        return replace(given, expires_at=end if now() < end else end + timedelta(hours=1))

    login = Login(ACCESS, plugin.look, log_in=log_in, now=now)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(login.run)
        await login.credentials()
        await anyio.sleep(599)
        assert len(plugin.begun) <= 6
        await anyio.sleep(12)
        assert (await login.credentials()).expires_at > now()
        tasks.cancel_scope.cancel()


async def test_a_token_that_comes_expired_is_used_all_the_same():
    """The clocks of two machines differ; the API server is the judge."""
    plugin = Plugin(lasts_s=60, skew_s=-120)
    async with logged_in(plugin) as login:
        for _ in range(60):
            await login.credentials()
            await anyio.sleep(1)
    assert len(plugin.begun) <= 7


async def test_files_are_looked_at_every_minute():
    """The kubelet renews the token of an account, and certificates are renewed too."""
    plugin = Plugin(from_files=True)
    async with logged_in(plugin) as login:
        await login.credentials()
        await anyio.sleep(630)
    assert len(plugin.begun) == 11


async def test_what_never_changes_is_read_once():
    """Nobody asks, and nothing expires."""
    plugin = Plugin()
    async with logged_in(plugin) as login:
        await login.credentials()
        await anyio.sleep(36000)
    assert len(plugin.begun) == 1


# --- trouble


async def test_a_failing_login_is_told_once_and_tried_again():
    """At the start too; its end is told as well."""
    plugin = Plugin(problem=LoginFailed("the plugin aws ended with exit code 1 (after 0.1 s)"))
    with structlog.testing.capture_logs() as logs:
        async with logged_in(plugin) as login:
            for _ in range(600):
                with pytest.raises(LoginFailed, match="plugin aws"):
                    await login.credentials()
                assert "plugin aws" in login.problem()
                await anyio.sleep(1)
            plugin.problem = None
            await anyio.sleep(30)
            await login.credentials()
            assert login.problem() == ""
    told = [(line["log_level"], line["event"]) for line in logs if line["log_level"] != "debug"]
    assert told == [
        ("warning", "not logged in to kubernetes, will retry"),
        ("info", "logged in to kubernetes"),
    ]
    assert 20 <= len(plugin.begun) <= 30


@pytest.mark.parametrize("problem", [ConfigError("x"), RuntimeError("x"), OSError("x")], ids=repr)
async def test_nothing_that_a_login_raises_ends_it(problem):
    """Whatever it is, it is tried again."""
    plugin = Plugin(problem=problem)
    async with logged_in(plugin) as login:
        with pytest.raises(LoginFailed):
            await login.credentials()
        plugin.problem = None
        await anyio.sleep(2)
        await login.credentials()


async def test_a_failure_ahead_of_time_disturbs_nobody():
    """What there is is used to its end, and only then there is a problem."""
    plugin = Plugin(lasts_s=900)
    async with logged_in(plugin) as login:
        await login.credentials()
        plugin.problem = LoginFailed("no")
        await anyio.sleep(895)
        await login.credentials()
        assert login.problem() == ""
        await anyio.sleep(10)
        with pytest.raises(LoginFailed):
            await login.credentials()
        assert login.problem() == "no"


async def test_another_cluster_is_not_changed_over_to():
    """Objects of one would be looked for in the other."""
    plugin = Plugin(from_files=True)
    async with logged_in(plugin) as login:
        await login.credentials()
        plugin.access = replace(ACCESS, cluster=ClusterEntry("https://other"))
        with structlog.testing.capture_logs() as logs:
            await anyio.sleep(120)
        assert login.server == "https://kube"
        await login.credentials()  # those of before are good
    (line,) = [line for line in logs if line["log_level"] == "warning"]
    assert "now leads to https://other" in line["problem"]
    assert "restart" in line["problem"]


# --- what calls do


async def test_a_token_that_has_expired_unnoticed_is_replaced_within_the_call():
    """The API server does not know it, so there is one login, and the call is made again."""
    plugin = Plugin(lasts_s=900)
    async with server(plugin) as (api, _kube, callers):
        await ask(api)
        credentials = await api.login.credentials()
        object.__setattr__(credentials, "expires_at", now())
        await anyio.sleep(20)
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask, api)
    assert len(plugin.begun) == 2
    assert callers[-1] == "Bearer 2"


async def test_a_login_that_helps_nothing_is_told_once_and_not_repeated_at_once():
    """An account that was deleted: 401 for everybody, whatever they log in with."""
    plugin = Plugin(lasts_s=900, skew_s=-2000)
    with structlog.testing.capture_logs() as logs:
        async with server(plugin) as (api, _kube, callers):
            for _ in range(300):
                with pytest.raises(Unauthenticated, match="HTTP 401: Unauthorized"):
                    await ask(api)
                assert "does not take the credentials of user 'me'" in api.login.problem()
                await anyio.sleep(1)
    told = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert told == ["kubernetes does not take our credentials"]
    assert len(plugin.begun) <= 31
    assert len(callers) <= 2 * 300


async def test_a_401_that_a_login_mends_is_no_trouble():
    """Tokens whose end no plugin tells end all the same; the operator stays ready meanwhile."""
    plugin = Plugin(takes_s=5, lasts_s=900)
    async with server(plugin) as (api, _kube, _callers):
        await ask(api)
        object.__setattr__(await api.login.credentials(), "expires_at", now())
        plugin.lasts_s = None
        await anyio.sleep(20)
        with structlog.testing.capture_logs() as logs:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, api)
                await anyio.sleep(3)
                assert api.login.problem() == ""
    assert len(plugin.begun) == 2
    assert [line for line in logs if line["log_level"] == "warning"] == []


@pytest.mark.parametrize("code", [403, 404, 409, 500])
async def test_only_a_401_is_a_reason_to_log_in(code):
    """A 403 says that the API server knows very well who called."""
    plugin = Plugin()
    async with server(plugin) as (api, kube, _callers):
        await api.login.credentials()
        await anyio.sleep(60)
        kube.intercept = lambda _request: ApiFault(code)
        for _ in range(5):
            with contextlib.suppress(Exception):
                await ask(api)
    assert len(plugin.begun) == 1


async def test_a_write_waits_for_a_login_outside_its_own_limit():
    """A login may take longer than a write, and does not end with it. The fence is asked after."""
    plugin, fenced = Plugin(takes_s=30), list[float]()
    async with server(plugin) as (api, kube, _callers):
        model = await _model(kube)
        writer = StatusWriter(
            api, OLLAMA_MODELS, fence=lambda _limit_s: fenced.append(anyio.current_time())
        )
        await writer.annotate(model, "a", "b")
    assert (plugin.ended, fenced) == (1, [30])


async def test_a_write_that_waits_for_a_login_can_be_cancelled():
    """It has not begun; the process ends at once, and the plugin with it."""
    plugin = Plugin(takes_s=30)
    async with server(plugin) as (api, kube, _callers):
        model = await _model(kube)
        with anyio.move_on_after(3):
            await StatusWriter(api, OLLAMA_MODELS).annotate(model, "a", "b")
        assert anyio.current_time() == 3
    assert plugin.ended == 0


async def test_who_lost_the_lead_while_it_logged_in_writes_nothing():
    """The login took longer than the lead lasted."""

    def fence(_limit_s: float) -> None:
        if anyio.current_time() > 10:
            raise NotLeading("no more")

    async with server(Plugin(takes_s=30)) as (api, kube, callers):
        model = await _model(kube)
        with pytest.raises(NotLeading):
            await StatusWriter(api, OLLAMA_MODELS, fence=fence).annotate(model, "a", "b")
        assert callers == []


async def test_the_lead_is_kept_over_tokens_of_20_s_and_a_plugin_of_5_s():
    """The lease is renewed every two seconds, whatever the plugin does."""
    plugin, terms = Plugin(takes_s=5, lasts_s=20), list[float]()

    async def lead() -> None:
        terms.append(anyio.current_time())
        await anyio.sleep_forever()

    async with server(plugin) as (api, _kube, _callers), anyio.create_task_group() as tasks:
        leadership = Leadership(
            api, namespace="default", name="op", identity="me", clock=anyio.current_time
        )
        tasks.start_soon(leadership.run, lead)
        await anyio.sleep(600)
        assert leadership.is_leading
        tasks.cancel_scope.cancel()
    assert len(terms) == 1
    assert plugin.ended >= len(plugin.begun) - 1


async def _model(kube: KubeSandbox) -> OllamaModel:
    body = manifest("llama")
    del body["metadata"]["uid"], body["metadata"]["resourceVersion"]
    path = "/apis/ollama.smithforge.dev/v1alpha1/namespaces/default/ollamamodels"
    async with AppTransport(kube) as transport:
        user = httpx.AsyncClient(transport=transport, base_url="http://kube")
        return decode((await user.post(path, json=body)).raise_for_status().content)
