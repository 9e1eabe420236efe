import ssl
from dataclasses import replace

import anyio
import httpx
import pytest

from ollama_op.base import pool
from ollama_op.kube.credentials import Credentials, Identity
from ollama_op.kube.transport import CREDENTIALS, Authenticated


class Transport(httpx.AsyncBaseTransport):
    """Answers everything, and notes what is open."""

    made: list["Transport"]

    def __init__(self, *, verify: ssl.SSLContext, **_: object) -> None:
        self.verify, self.is_open = verify, True
        self.requests: list[httpx.Request] = []
        self.made.append(self)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(1)
        self.requests.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"body"))

    async def aclose(self) -> None:
        self.is_open = False


@pytest.fixture(autouse=True)
def made(monkeypatch) -> list[Transport]:
    """Return all transports that are made in a test."""
    Transport.made = []
    monkeypatch.setattr(pool.httpx, "AsyncHTTPTransport", Transport)
    return Transport.made


def login() -> Credentials:
    headers = ((b"Authorization", b"Bearer x"), (b"Impersonate-Group", b"a"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return Credentials((*headers, (b"Impersonate-Group", b"b")), Identity(b"", b"", b""), context)


def call(credentials: Credentials) -> httpx.Request:
    return httpx.Request("GET", "https://kube/version", extensions={CREDENTIALS: credentials})


async def test_credentials_go_with_the_request_and_are_seen_nowhere_else(made):
    """An error that carries its request would show them otherwise."""
    request = call(login())
    await Authenticated(None).handle_async_request(request)
    (sent,) = made[0].requests
    assert sent.headers.get_list("impersonate-group") == ["a", "b"]
    assert sent.headers["authorization"] == "Bearer x"
    assert "authorization" not in request.headers
    assert CREDENTIALS not in sent.extensions


async def test_the_name_of_the_server_can_be_another_than_its_address(made):
    """With `tls-server-name`."""
    named = replace(login(), identity=Identity(server_name="kube.example"))
    await Authenticated(None).handle_async_request(call(named))
    assert made[0].requests[0].extensions["sni_hostname"] == "kube.example"


async def test_another_certificate_is_for_new_connections_and_ends_no_old_ones(made):
    """A watch that is under way goes on; its connection is closed when it ends."""
    door, first, second = Authenticated(None), login(), login()
    watch = await door.handle_async_request(call(first))
    await door.handle_async_request(call(second))
    old, new = made
    assert (old.is_open, new.is_open) == (True, True)
    await watch.aclose()
    await watch.aclose()
    assert (old.is_open, new.is_open) == (False, True)


async def test_a_new_token_uses_the_connections_that_there_are(made):
    """They belong to the certificate, not to the token."""
    door, first = Authenticated(None), login()
    await door.handle_async_request(call(first))
    await door.handle_async_request(call(replace(first, headers=())))
    assert len(made) == 1


async def test_two_changes_at_once_leave_one_set_of_connections(made):
    """Whichever request comes first."""
    door = Authenticated(None)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(_use, door, login())
    assert [each.is_open for each in made] == [False, False, True]


async def _use(door: Authenticated, credentials: Credentials) -> None:
    answer = await door.handle_async_request(call(credentials))
    await answer.aclose()
