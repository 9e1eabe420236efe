from typing import Any

import anyio
import httpx
import msgspec
import pytest

from api.lobby import lobby
from crd.v1alpha1 import FINALIZER, PLURAL
from ollama_op.base.asgi import App
from ollama_op.kube.calls import CALLS_WAITING
from ollama_op.kube.writes import WRITE_LIMIT_S
from ollama_op.sandbox.kube.server import ApiFault
from ollama_op.sandbox.transport import AppTransport
from support.virtual.rest import KEY, rest_world

MODELS = "/api/v1/models"
NEW = {"name": "llama3.2", "tag": "1b"}


async def test_before_the_cluster_is_reached_it_says_so():
    """At once, and to everybody, that it is not ready; and that the process is well."""
    async with AppTransport(lobby) as transport:
        client = httpx.AsyncClient(transport=transport, base_url="http://api")
        answer = await client.get(MODELS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "The operator has not reached Kubernetes yet."
        assert (await client.get("/readiness")).status_code == 503
        assert (await client.get("/health")).json() == {"status": "ok"}


async def test_what_was_written_is_read_at_once():
    """A GET right after the 201 finds it, in the list and alone; and it is pulled."""
    async with rest_world() as (w, client):
        made = await client.post(MODELS, json=NEW)
        assert made.status_code == 201
        assert (await client.get(made.headers["location"])).status_code == 200
        assert len((await client.get(MODELS)).json()["items"]) == 1
        w.ollama.publish("llama3.2:1b", 1000)
        await w.ready("llama3.2-1b")
        found = (await client.get(f"{MODELS}/llama3.2-1b")).json()
        assert (found["state"], found["ready"], found["reason"]) == ("Ready", True, "Available")


async def test_a_model_that_is_deleted_goes_from_ollama_and_then_from_the_api():
    """`deleting` meanwhile; 404 in the end."""
    async with rest_world() as (w, client):
        w.ollama.publish("llama3.2:1b", 1000)
        await client.post(MODELS, json=NEW)
        await w.ready("llama3.2-1b")
        assert (await client.delete(f"{MODELS}/llama3.2-1b")).status_code == 204
        assert (await client.get(f"{MODELS}/llama3.2-1b")).json()["deleting"] is True
        await w.gone("llama3.2-1b")
        assert (await client.get(f"{MODELS}/llama3.2-1b")).status_code == 404
        assert (await client.delete(f"{MODELS}/llama3.2-1b")).status_code == 404


async def test_an_object_without_finalizers_is_gone_at_once():
    """Its deletion needs nobody; the API does not wait for the watch to say so."""
    async with rest_world() as (w, client):
        # The operator cannot put its finalizer on it.
        w.kube.intercept = lambda r: ApiFault() if r.method == "PATCH" else None
        await client.post(MODELS, json=NEW | {"suspend": True, "resourceName": "a"})
        assert (await client.delete(f"{MODELS}/a")).status_code == 204
        assert (await client.get(f"{MODELS}/a")).status_code == 404


async def test_suspend_resume_refresh_and_patch_reach_the_operator():
    """And their answers are the object as it is then."""
    async with rest_world() as (w, client):
        w.ollama.publish("llama3.2:1b", 1000)
        w.ollama.publish("llama3.2:3b", 3000)
        await client.post(MODELS, json=NEW)
        await w.ready("llama3.2-1b")
        one = f"{MODELS}/llama3.2-1b"
        assert (await client.post(f"{one}/suspend")).json()["suspend"] is True
        assert "suspend" not in (await client.post(f"{one}/resume")).json()
        asked = await client.post(f"{one}/refresh")
        assert (asked.status_code, asked.json()["refreshRequested"]) == (202, True)
        while "refreshRequested" in (await client.get(one)).json():  # noqa: ASYNC110 - no event
            await anyio.sleep(0.1)
        changed = await client.patch(one, json={"tag": "3b", "interval": "30s"})
        assert (changed.json()["tag"], changed.json()["interval"]) == ("3b", "30s")
        await w.until("llama3.2-1b", lambda s: s.get("model") == "llama3.2:3b")


async def test_two_who_change_the_same_version_do_not_overwrite_each_other():
    """If-Match with the ETag that both read: the second is told."""
    async with rest_world() as (_w, client):
        made = await client.post(MODELS, json=NEW | {"suspend": True})
        etag = {"if-match": made.headers["etag"]}
        one = f"{MODELS}/llama3.2-1b"
        await client.patch(one, json={"interval": "10s"})
        assert (await client.patch(one, json={"interval": "20s"}, headers=etag)).status_code == 412
        assert (await client.delete(one, headers=etag)).status_code == 412
        etag = {"if-match": (await client.get(one)).headers["etag"]}
        assert (await client.delete(one, headers=etag)).status_code == 204


async def test_a_dry_run_changes_nothing():
    """Kubernetes gives its verdict, and that is all."""
    async with rest_world() as (_w, client):
        assert (await client.post(f"{MODELS}?dryRun=true", json=NEW)).status_code == 200
        assert (await client.get(MODELS)).json()["items"] == []
        await client.post(MODELS, json=NEW | {"suspend": True})
        taken = await client.post(f"{MODELS}?dryRun=true", json=NEW)
        assert (taken.status_code, taken.json()["title"]) == (409, "Model exists")
        one = f"{MODELS}/llama3.2-1b"
        dry = await client.patch(f"{one}?dryRun=true", json={"interval": "10s"})
        assert dry.json()["interval"] == "10s"
        assert (await client.delete(f"{one}?dryRun=true")).status_code == 204
        found = (await client.get(one)).json()
        assert "interval" not in found
        assert "deleting" not in found


async def test_reads_go_on_while_kubernetes_is_away():
    """With their age; writes are 503 and say when to come back."""
    async with rest_world() as (w, client):
        await client.post(MODELS, json=NEW | {"suspend": True})
        w.kube.intercept = lambda _request: ApiFault(code=503, retry_after_s=7)
        w.kube.hang_up()
        await anyio.sleep(60)
        answer = await client.get(f"{MODELS}/llama3.2-1b")
        assert answer.status_code == 200
        assert 50 <= int(answer.headers["x-view-age"]) <= 60
        for write in (client.post(MODELS, json=NEW), client.delete(f"{MODELS}/llama3.2-1b")):
            refused = await write
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
        w.kube.intercept = lambda _request: None
        await anyio.sleep(60)
        assert "x-view-age" not in (await client.get(MODELS)).headers


async def test_what_the_api_server_refuses_is_told_by_field():
    """Its schema may know more than we do."""
    cause = {"field": "spec.timeout", "reason": "FieldValueInvalid", "message": "is no good"}

    body = {"kind": "Status", "message": "invalid", "code": 422, "details": {"causes": [cause]}}

    async with rest_world() as (w, client):
        answer_of = w.kube._answer

        async def answer(request, receive, send):
            if request.method != "POST":
                await answer_of(request, receive, send)
                return
            await send({"type": "http.response.start", "status": 422, "headers": []})
            await send({"type": "http.response.body", "body": msgspec.json.encode(body)})

        w.kube._answer = answer
        refused = await client.post(MODELS, json=NEW)
        assert (refused.status_code, refused.json()["errors"]) == (
            422,
            [{"field": "timeout", "message": "is no good"}],
        )


@pytest.mark.parametrize(
    ("fault", "code", "title"),
    [
        (ApiFault(code=403), 503, "Operator not permitted"),
        (ApiFault(code=404), 404, "Namespace not found"),
        (ApiFault(), 503, "Kubernetes unavailable"),
        (ApiFault(code=0), 503, "Kubernetes unavailable"),
        (ApiFault(delay_s=100), 503, "Kubernetes unavailable"),
        (ApiFault(code=400), 422, "Not possible"),
    ],
)
async def test_every_failure_of_kubernetes_is_a_problem(fault, code, title):
    """Never a 500, and in bounded time."""
    async with rest_world() as (w, client):
        w.kube.intercept = lambda request: fault if request.method == "POST" else None
        answer = await client.post(MODELS, json=NEW)
        assert (answer.status_code, answer.json()["title"]) == (code, title)
        assert "injected" not in answer.text


async def test_a_flood_of_writes_is_turned_away():
    """What waits for Kubernetes is bounded; the operator has slots of its own."""
    async with rest_world() as (w, client):
        w.kube.intercept = lambda r: ApiFault(delay_s=3) if r.method == "POST" else None
        codes: list[int] = []

        async def post(n: int) -> None:
            answer = await client.post(MODELS, json={"name": f"m{n}", "tag": "1"}, timeout=None)
            codes.append(answer.status_code)

        async with anyio.create_task_group() as tasks:
            for n in range(CALLS_WAITING * 2):
                tasks.start_soon(post, n)
        assert codes.count(503) >= CALLS_WAITING - 4


async def test_tokens_of_nobody_do_not_hold_back_who_writes():
    """However many are being asked about, a write with a key goes through."""
    async with rest_world(kubernetes=True) as (w, client):
        del client.headers["x-api-key"]
        w.kube.intercept = lambda r: ApiFault(delay_s=3) if "tokenreviews" in r.path else None
        codes: list[int] = []

        async def ask(n: int) -> None:
            headers = {"authorization": f"Bearer guess-{n}"}
            codes.append((await client.get(MODELS, headers=headers)).status_code)

        async with anyio.create_task_group() as tasks:
            for n in range(CALLS_WAITING):
                tasks.start_soon(ask, n)
            await anyio.sleep(0.1)
            with anyio.fail_after(1):
                answer = await client.post(MODELS, json=NEW, headers={"x-api-key": KEY})
                assert answer.status_code == 201
            tasks.cancel_scope.cancel()
        assert codes == []


async def test_a_write_has_one_limit_for_the_whole_of_it():
    """An answer that comes in drops, each in time, holds no slot of the line for ever."""

    def drip(app: App) -> App:
        async def dripping(scope: Any, receive: Any, send: Any) -> None:
            if scope["method"] != "POST" or not scope["path"].endswith(PLURAL):
                await app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 201, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await anyio.sleep(1)

        return dripping

    async with rest_world(through=drip) as (_, client):
        began = anyio.current_time()
        answer = await client.post(MODELS, json=NEW, timeout=60)
        assert answer.status_code == 503
        assert anyio.current_time() - began < 2 * WRITE_LIMIT_S


async def test_bearer_tokens_are_reviewed_by_kubernetes():
    """Who, and what they may do; Kubernetes is not asked for each request."""
    async with rest_world(kubernetes=True) as (w, client):
        w.kube.people = {"alice": {("get", "default"), ("create", "")}}
        await client.post(MODELS, json=NEW | {"suspend": True})
        client.headers.pop("x-api-key")
        client.headers["authorization"] = "Bearer alice"
        for _ in range(3):
            assert (await client.get(f"{MODELS}/llama3.2-1b")).status_code == 200
        assert (await client.get(MODELS)).status_code == 403
        assert (await client.post(MODELS, json=NEW)).status_code == 409
        assert (await client.delete(f"{MODELS}/llama3.2-1b")).status_code == 403
        reviews = [path.rpartition("/")[2] for _, path in w.kube.requests if "reviews" in path]
        assert reviews.count("tokenreviews") == 1
        assert reviews.count("subjectaccessreviews") == 4
        client.headers["authorization"] = "Bearer mallory"
        assert (await client.get(MODELS)).status_code == 401


async def test_the_plan_knows_what_is_on_the_server():
    """As the operator's own list of it says."""
    async with rest_world() as (w, client):
        w.ollama.publish("llama3.2:1b", 1000)
        await client.post(MODELS, json=NEW)
        await w.ready("llama3.2-1b")
        plan = (await client.get("/api/v1/plan")).json()
        assert [line["model"] for line in plan["keep"]] == ["llama3.2:1b"]
        assert (await w.get("llama3.2-1b"))["metadata"]["finalizers"] == [FINALIZER]


async def test_a_namespace_that_nobody_looks_after_takes_no_model():
    """With --namespace, the changes of an object elsewhere would never be seen."""
    async with rest_world(only="ai", namespace="ai") as (w, client):
        assert (await client.post(MODELS, json=NEW)).status_code == 201
        answer = await client.post(MODELS, json=NEW | {"namespace": "other"})
        assert (answer.status_code, answer.json()["type"]) == (
            404,
            "/docs/problems#namespace-not-found",
        )
        assert "looks after namespace 'ai' only" in answer.json()["detail"]
        refresh = f"{MODELS}/llama3.2-1b/refresh?namespace=other"
        assert (await client.post(refresh)).status_code == 404
        assert not await w.exists("llama3.2-1b", namespace="other")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('ollamamodels "a" is forbidden: exceeded quota: models', 422),
        ("unable to create new content in namespace x because it is being terminated", 422),
        ('ollamamodels is forbidden: User "op" cannot create resource', 503),
    ],
)
async def test_who_is_refused_is_told_apart(message, code):
    """A quota is the client's to mind, a missing right the administrator's."""
    async with rest_world() as (w, client):
        fault = ApiFault(code=403, reason="Forbidden", message=message)
        w.kube.intercept = lambda request: fault if request.method == "POST" else None
        assert (await client.post(MODELS, json=NEW)).status_code == code


async def test_a_policy_says_which_field_it_is():
    """As those of config/policy begin their words with it; other policies may refuse with 403."""
    async with rest_world() as (w, client):
        words = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: "
        message = f'ollamamodels "a" is invalid: : {words}spec.refreshWindow.duration: at least 1m'
        w.kube.intercept = lambda request: (
            ApiFault(code=422, reason="Invalid", message=message)
            if request.method == "POST"
            else None
        )
        problem = (await client.post(MODELS, json=NEW)).json()
        assert problem["errors"] == [{"field": "refreshWindow.duration", "message": "at least 1m"}]
        message = f'ollamamodels "a" is forbidden: {words}not on a Friday'
        w.kube.intercept = lambda request: (
            ApiFault(code=403, reason="Forbidden", message=message)
            if request.method == "POST"
            else None
        )
        assert (await client.post(MODELS, json=NEW)).status_code == 422
