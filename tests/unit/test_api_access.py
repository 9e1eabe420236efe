import hashlib
from collections.abc import AsyncGenerator

import anyio
import httpx
import pytest

from api.access import Failures, Keys
from api.app import ApiOptions, create_api
from api.ports import User
from api.tokens import ALLOWED_S, BAD_S, DENIED_S, GOOD_S, REMEMBERED, Tokens
from ollama_op.base.errors import KubeUnreachable
from support.virtual.models import manifest
from support.virtual.rest import KEY, Known, Written, client_of, key

MODELS = "/api/v1/models"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- keys


def test_a_key_is_found_by_its_hash_only():
    """Whatever its place among the others; a hash is no key."""
    keys = Keys([key("one", name="1"), key("two", name="2")])
    keys.loaded = (key("three", name="3"),)
    found = [keys.find(text) for text in (b"one", b"two", b"three", b"four", b"")]
    assert [k and k.name for k in found] == ["1", "2", "3", None, None]
    assert keys.find(hashlib.sha256(b"one").digest()) is None


@pytest.mark.parametrize(
    ("how", "allowed"),
    [
        ({}, {("get", "a"), ("get", "b"), ("create", "a"), ("create", "b"), ("list", None)}),
        ({"writes": False}, {("get", "a"), ("get", "b"), ("list", None)}),
        ({"namespaces": frozenset("a")}, {("get", "a"), ("create", "a")}),
        ({"namespaces": frozenset("a"), "writes": False}, {("get", "a")}),
    ],
)
async def test_a_key_may_do_what_it_is_for(how, allowed):
    """Scopes and namespaces both narrow it."""
    asked = [("get", "a"), ("get", "b"), ("create", "a"), ("create", "b"), ("list", None)]
    assert {ask for ask in asked if await key(**how).may(*ask)} == allowed


# --- failures


def test_too_many_failures_close_the_door_for_a_while():
    """For that address alone, until the window has ended."""
    clock = Clock()
    failures = Failures(clock, limit=3, window_s=60)
    for guess in (b"1", b"2", b"3"):
        assert failures.wait_s("10.0.0.1") == 0
        failures.note("10.0.0.1", guess)
    assert (failures.wait_s("10.0.0.1"), failures.wait_s("10.0.0.2")) == (60, 0)
    clock.now += 59
    assert failures.wait_s("10.0.0.1") == 1
    clock.now += 1
    assert failures.wait_s("10.0.0.1") == 0
    failures.note("10.0.0.1", b"4")
    assert failures.wait_s("10.0.0.1") == 0


def test_the_table_of_failures_is_bounded():
    """Who sends from ever new addresses costs no memory."""
    failures = Failures(Clock(), addresses=100)
    for n in range(1000):
        failures.note(f"10.0.{n // 250}.{n % 250}", b"no")
    assert len(failures) == 100


def test_an_ipv6_network_counts_as_one_address():
    """Everybody has 2**64 of them."""
    failures = Failures(Clock(), limit=1)
    failures.note("2001:db8::1", b"no")
    assert failures.wait_s("2001:db8::ffff") > 0
    assert failures.wait_s("2001:db8:0:1::1") == 0
    assert failures.wait_s("nonsense") == 0


# --- the door


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
async def client(known) -> AsyncGenerator[httpx.AsyncClient]:
    keys = Keys(
        [
            key(),
            key("reader", name="reader", writes=False),
            key("of-ai", name="of-ai", namespaces=frozenset({"ai"})),
        ]
    )
    api = create_api(known, Written(), ApiOptions(keys=keys, locked=True))
    known.put(manifest("a"), manifest("b", namespace="ai"), manifest("c", namespace="web"))
    async with client_of(api, None) as client:
        yield client


async def test_a_key_sent_as_a_token_is_told_where_it_belongs(client):
    """Where no tokens are taken, only the other header is read."""
    answer = await client.get(MODELS, headers={"authorization": "Bearer secret"})
    assert (answer.status_code, answer.json()["detail"].split(".")[0]) == (
        401,
        "No key was sent as X-API-Key",
    )


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"x-api-key": "no"}])
async def test_without_a_key_nothing_is_told(client, headers):
    """401 as JSON, also for paths that do not exist; the way to authenticate is named."""
    for path in (MODELS, f"{MODELS}/a", "/api/v1/plan", "/api/v1/events", "/api/nowhere"):
        answer = await client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("ApiKey")
        assert answer.json()["error"] == answer.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
@pytest.mark.parametrize(
    "path", ["{}", "{}/", "/{}", "//{}", "/%2f{}", "{}/a", "{}//a", "/{}/a", "/{}/a/"]
)
async def test_no_spelling_of_a_path_leads_past_the_door(client, path, method):
    """More slashes, also encoded ones, are no other way in."""
    url = client.base_url.copy_with(raw_path=path.format(MODELS).encode())
    answer = await client.request(method, url)
    assert answer.status_code in (401, 404)
    assert b"items" not in answer.content


@pytest.mark.parametrize(
    "path", ["/health", "/readiness", "/docs", "/openapi.json", "/", "/docs/problems"]
)
async def test_what_is_open_asks_for_no_key(client, path):
    """Probes, the docs and the page."""
    assert (await client.get(path)).status_code == 200


async def test_wrong_keys_are_limited_by_address(client):
    """After ten a minute no key is looked at, not even a right one; then it is again."""
    for n in range(10):
        assert (await client.get(MODELS, headers={"x-api-key": f"no-{n}"})).status_code == 401
    answer = await client.get(MODELS, headers={"x-api-key": KEY})
    assert (answer.status_code, answer.json()["title"]) == (429, "Too many failures")
    await anyio.sleep(int(answer.headers["retry-after"]))
    assert (await client.get(MODELS, headers={"x-api-key": KEY})).status_code == 200


async def test_the_same_wrong_key_again_is_no_guess(client):
    """A client with yesterday's key does not lock out all who share its address."""
    for _ in range(50):
        assert (await client.get(MODELS, headers={"x-api-key": "old"})).status_code == 401
    assert (await client.get(MODELS, headers={"x-api-key": KEY})).status_code == 200


async def test_no_key_at_all_is_no_guess(client):
    """A page that is not signed in does not lock itself out."""
    for _ in range(50):
        await client.get(MODELS)
    assert (await client.get(MODELS, headers={"x-api-key": KEY})).status_code == 200


@pytest.mark.parametrize(
    ("text", "method", "path", "code"),
    [
        ("reader", "GET", f"{MODELS}/a", 200),
        ("reader", "GET", MODELS, 200),
        ("reader", "DELETE", f"{MODELS}/a", 403),
        ("reader", "POST", f"{MODELS}/a/refresh", 403),
        ("of-ai", "GET", f"{MODELS}/a", 403),
        ("of-ai", "GET", f"{MODELS}/b?namespace=ai", 200),
        ("of-ai", "GET", f"{MODELS}?namespace=web", 403),
        ("of-ai", "GET", f"{MODELS}/c/events?namespace=web", 403),
        ("of-ai", "GET", "/api/v1/plan", 200),
        ("of-ai", "DELETE", f"{MODELS}/a", 403),
        ("of-ai", "DELETE", f"{MODELS}/b?namespace=ai", 204),
    ],
)
async def test_scopes_and_namespaces_hold_on_every_route(client, text, method, path, code):
    """403 for what a key is not for, before anything is looked up."""
    answer = await client.request(method, path, headers={"x-api-key": text})
    assert answer.status_code == code


async def test_a_key_of_one_namespace_sees_no_other_one(client):
    """Lists are narrowed, and hints name nothing that the key may not read."""
    mine = {"x-api-key": "of-ai"}
    items = (await client.get(MODELS, headers=mine)).json()["items"]
    assert [item["name"] for item in items] == ["b"]
    detail = (await client.get(f"{MODELS}/c?namespace=ai", headers=mine)).json()["detail"]
    assert detail == "No OllamaModel 'c' in namespace 'ai'."


async def test_the_key_of_an_api_without_keys_is_nobodys(known):
    """With --api-server-insecure everybody may do everything."""
    api = create_api(known, Written(), ApiOptions())
    async with client_of(api, None) as client:
        assert (await client.get(MODELS)).status_code == 200
        assert (await client.delete(f"{MODELS}/a")).status_code == 204


@pytest.mark.parametrize(
    ("origin", "code"),
    [(None, 204), ("http://api", 204), ("http://evil", 403), ("null", 403), ("http://ok", 204)],
)
async def test_without_a_key_no_page_of_somebody_else_changes_anything(known, origin, code):
    """A form on any page could send it; reading is the browser's business to forbid."""
    api = create_api(known, Written(), ApiOptions(cors_origins=["http://ok"]))
    headers = {} if origin is None else {"origin": origin}
    async with client_of(api, None) as client:
        assert (await client.delete(f"{MODELS}/a", headers=headers)).status_code == code
        assert (await client.get(MODELS, headers=headers)).status_code == 200


# --- bearer tokens


class Reviews:
    """A Kubernetes that knows the token `good`, and lets its owner read in `ai`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False

    async def who(self, token: str) -> User | None:
        self.asked.append(token)
        if self.fails:
            raise KubeUnreachable("away")
        return User("alice", groups=("devs",)) if token == "good" else None  # noqa: S105 - of this test

    async def may(self, user: User, verb: str, namespace: str | None) -> bool:
        self.asked.append(f"{user.name} {verb} {namespace}")
        if self.fails:
            raise KubeUnreachable("away")
        return (verb, namespace) in {("get", "ai"), ("list", "ai")}


async def test_a_bearer_token_has_the_rights_that_kubernetes_grants(known):
    """TokenReview says who, SubjectAccessReview what; a key is still a key."""
    options = ApiOptions(keys=Keys([key()]), reviewer=Reviews(), locked=True)
    api = create_api(known, Written(), options)
    known.put(manifest("b", namespace="ai"))

    async def code(path: str, token: str, method: str = "GET") -> int:
        headers = {"authorization": f"Bearer {token}"}
        return (await client.request(method, path, headers=headers)).status_code

    async with client_of(api, None) as client:
        assert await code(f"{MODELS}/b?namespace=ai", "good") == 200
        assert await code(f"{MODELS}?namespace=ai", "good") == 200
        assert await code(MODELS, "good") == 403
        assert await code(f"{MODELS}/b?namespace=ai", "good", "DELETE") == 403
        assert await code(f"{MODELS}/b?namespace=ai", "bad") == 401
        assert (await client.get(MODELS, headers={"x-api-key": KEY})).status_code == 200
        challenge = (await client.get(MODELS)).headers["www-authenticate"]
        assert "Bearer" in challenge


async def test_kubernetes_is_asked_now_and_then_only():
    """As controller-runtime does; a token that is no good is asked about again soon."""
    reviews, clock = Reviews(), Clock()
    tokens = Tokens(reviews, clock)

    async def asked_after(seconds: float, token: str) -> bool:
        clock.now += seconds
        before = len(reviews.asked)
        await tokens.find(token)
        return len(reviews.asked) > before

    assert await asked_after(0, "good")
    assert not await asked_after(GOOD_S - 1, "good")
    assert await asked_after(1, "good")
    assert await asked_after(0, "bad")
    assert not await asked_after(BAD_S - 1, "bad")
    assert await asked_after(1, "bad")
    user = await tokens.find("good")
    assert user is not None
    for verb, lasts_s in (("get", ALLOWED_S), ("delete", DENIED_S)):
        await user.may(verb, "ai")
        before = len(reviews.asked)
        clock.now += lasts_s - 1
        await user.may(verb, "ai")
        assert len(reviews.asked) == before
        clock.now += 1
        await user.may(verb, "ai")
        assert len(reviews.asked) == before + 1


async def test_who_asks_the_same_at_the_same_time_shares_one_question():
    """A hundred requests with a new token are one TokenReview; so are their failures."""
    reviews = Reviews()
    gate = anyio.Event()

    async def who(token: str) -> User | None:
        await gate.wait()
        return await Reviews.who(reviews, token)

    reviews.who = who  # type: ignore[method-assign]
    tokens, found = Tokens(reviews, Clock()), []

    async def find() -> None:
        try:
            found.append(await tokens.find("good"))
        except KubeUnreachable as error:
            found.append(error)

    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def leave() -> None:
            with first:
                await find()

        tasks.start_soon(leave)
        await anyio.wait_all_tasks_blocked()
        for _ in range(100):
            tasks.start_soon(find)
        await anyio.wait_all_tasks_blocked()
        first.cancel()  # who asked for all of them has left
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert len(found) == 100
    assert all(each is not None and each.name == "alice" for each in found)
    assert reviews.asked == ["good"]

    tokens, reviews.fails, gate = Tokens(reviews, Clock()), True, anyio.Event()
    found.clear()
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(find)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert [type(each) for each in found] == [KubeUnreachable] * 100
    assert reviews.asked == ["good", "good"]


async def test_what_is_remembered_of_tokens_is_bounded_and_no_token():
    """A flood of tokens costs no memory; a memory dump shows none."""
    tokens = Tokens(Reviews(), Clock())
    for n in range(REMEMBERED + 10):
        await tokens.find(f"token-{n}")
    assert len(tokens._users._known) == REMEMBERED
    assert all(isinstance(each, bytes) for each in tokens._users._known)


async def test_kubernetes_away_is_503_for_a_token(known):
    """Nobody is taken for a stranger because their identity could not be checked."""
    reviews = Reviews()
    reviews.fails = True
    api = create_api(known, Written(), ApiOptions(reviewer=reviews, locked=True))
    async with client_of(api, None) as client:
        answer = await client.get(MODELS, headers={"authorization": "Bearer good"})
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


async def test_kubernetes_away_is_503_also_when_only_a_right_is_to_be_asked(known):
    """Who somebody is may be remembered, and what they may do not."""
    reviews = Reviews()
    api = create_api(known, Written(), ApiOptions(reviewer=reviews, locked=True))
    headers = {"authorization": "Bearer good"}
    async with client_of(api, None) as client:
        assert (await client.get(f"{MODELS}?namespace=ai", headers=headers)).status_code == 200
        reviews.fails = True
        for method in ("GET", "DELETE"):
            answer = await client.request(method, f"{MODELS}/a?namespace=web", headers=headers)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


# --- other origins


async def test_other_origins_are_let_in_only_where_that_is_set(known):
    """By default no header says so; with CORS on, errors can be read as well."""
    origin = {"origin": "https://models.example"}
    asks = origin | {"access-control-request-method": "DELETE"}
    for allowed, expected in (((), None), (("https://models.example",), origin["origin"])):
        api = create_api(
            known, Written(), ApiOptions(keys=Keys([key()]), locked=True, cors_origins=allowed)
        )
        async with client_of(api, None) as client:
            for answer in (
                await client.get(MODELS, headers=origin),
                await client.get(MODELS, headers=origin | {"x-api-key": KEY}),
                await client.options(MODELS, headers=asks),
            ):
                assert answer.headers.get("access-control-allow-origin") == expected
            other = await client.get(MODELS, headers={"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost:8082", 200),
        ("ollama-op.localhost", 200),
        ("127.0.0.1:8082", 200),
        ("[::1]:8082", 200),
        ("evil.example:8082", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
async def test_without_a_key_nobody_elses_name_leads_here(known, host, code):
    """A browser that was told that evil.example is 127.0.0.1 would take that page for ours."""
    api = create_api(known, Written(), ApiOptions(local=True))
    async with client_of(api, None) as client:
        for path in (MODELS, "/", "/openapi.json"):
            answer = await client.get(path, headers={"host": host})
            assert answer.status_code == code
            assert (code == 200) or "--api-server-insecure" in answer.json()["detail"]
    api = create_api(known, Written(), ApiOptions(keys=Keys([key()]), locked=True))
    async with client_of(api) as client:
        assert (await client.get(MODELS, headers={"host": host})).status_code == 200
