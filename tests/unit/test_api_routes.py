import json
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.access import Keys
from api.app import HANDLERS, ApiOptions, create_api
from api.bodies import describe
from api.front import Front
from api.naming import LONGEST_OBJECT_NAME, resource_name
from api.ports import Held
from api.problems import Kind
from api.requests import is_legal_name
from crd.names import InvalidNameError, ModelName
from crd.reasons import Mode, Reason
from crd.v1alpha1 import FINALIZER, REFRESH, OllamaModelSpec
from ollama_op.base.errors import (
    Conflict,
    Expired,
    KubeError,
    KubeUnreachable,
    LoginFailed,
    NotFound,
    NotPermitted,
    Rejected,
)
from support.virtual.models import DIGEST, condition, made, manifest, placed
from support.virtual.rest import KEY, Known, Written, client_of, key

MODELS = "/api/v1/models"
NEW = {"name": "llama3.2", "tag": "1b"}
ON_MARS = {"schedule": "0 2 * * 6", "duration": "4h", "timeZone": "Mars/Base"}
PEERS_FIELDS = ["name", "namespace", "modelName", "tag", "state"]
PEERS_FIELDS += ["size", "formattedSize", "lastPullTime", "error"]
SECRET = "hunter2"  # noqa: S105 - of nobody


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def written() -> Written:
    written = Written()
    written.answer = made(manifest("a", version=7))
    return written


@pytest.fixture
async def client(known, written) -> AsyncGenerator[httpx.AsyncClient]:
    api = create_api(known, written, ApiOptions(keys=Keys([key()]), locked=True))
    known.put(
        manifest("b", model="qwen3:32b", version=3)
        | {
            "status": {
                "state": "Failed",
                "error": "No space left.",
                "conditions": [condition("Ready", "False", "InsufficientStorage")],
            }
        },
        manifest("a", model="llama3.2:1b", version=5),
        manifest("a", model="llama3.2:1b", namespace="ai", uid="ai-a", version=6)
        | {"status": {"state": "Ready", "size": 3}},
    )
    async with client_of(api) as client:
        yield client


def names(answer: httpx.Response) -> list[str]:
    """Return what a list has, as namespace/name."""
    return [f"{item['namespace']}/{item['name']}" for item in answer.json()["items"]]


# --- what is said


def test_a_model_is_said_with_the_fields_of_the_go_operator():
    """Under the same names and in the same order; ours follow; what is not so is left out."""
    status = {
        "state": "Failed",
        "size": 1,
        "formattedSize": "1 B",
        "lastPullTime": "2026-01-01T00:00:00Z",
        "error": "No space left.",
        "digest": DIGEST,
        "conditions": [
            condition("Ready", "False", "InsufficientStorage"),
            condition("Stalled", "True", "InsufficientStorage"),
        ],
    }
    said = json.loads(msgspec.json.encode(describe(made(manifest() | {"status": status}))))
    assert list(said)[: len(PEERS_FIELDS)] == PEERS_FIELDS
    assert (said["ready"], said["reason"], said["stalled"]) == (False, "InsufficientStorage", True)
    assert (said["message"], said["digest"]) == ("so", DIGEST)
    assert "progress" not in said


def test_a_model_nobody_has_looked_at_is_pending():
    """There is always a state."""
    said = json.loads(msgspec.json.encode(describe(made(manifest()))))
    assert said == {
        "name": "llama",
        "namespace": "default",
        "modelName": "llama3.2",
        "tag": "1b",
        "state": "Pending",
        "ready": False,
    }


def test_a_spec_that_is_none_is_said_to_be_wrong():
    """The object is listed all the same."""
    said = describe(made(manifest() | {"spec": {"name": 5}}))
    assert (said.model_name, said.error is not None) == ("", True)


# --- lists


async def test_a_list_is_in_the_order_of_namespaces_and_names(client, known):
    """Whatever the order of changes."""
    assert names(await client.get(MODELS)) == ["ai/a", "default/a", "default/b"]
    known.put(manifest("0", namespace="zoo"), manifest("0", namespace="a", uid="a-0"))
    known.drop("uid-of-a")
    assert names(await client.get(MODELS)) == ["a/0", "ai/a", "default/b", "zoo/0"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("namespace=ai", ["ai/a"]),
        ("namespace=none", []),
        ("state=Failed", ["default/b"]),
        ("state=Pending", ["default/a"]),
        ("q=QWEN3", ["default/b"]),
        ("q=llama3.2:1b&namespace=default", ["default/a"]),
        ("q=insufficient", ["default/b"]),
        ("q=", ["ai/a", "default/a", "default/b"]),
        ("limit=2", ["ai/a", "default/a"]),
    ],
)
async def test_a_list_can_be_narrowed(client, query, expected):
    """By namespace, state, and text in name, model or reason."""
    assert names(await client.get(f"{MODELS}?{query}")) == expected


@pytest.mark.parametrize("filters", ["", "&state=Pending", "&q=m&namespace=default"])
async def test_pages_together_are_the_list(client, known, filters):
    """Nothing twice, nothing missing, and no `continue` on the last."""
    known.put(*(manifest(f"m{n}") for n in range(10)))
    whole = names(await client.get(f"{MODELS}?{filters.lstrip('&')}"))
    for limit in (1, 3, len(whole), 100):
        found, token = [], ""
        while True:
            page = await client.get(f"{MODELS}?limit={limit}{filters}{token}")
            found += names(page)
            if "continue" not in page.json():
                break
            token = f"&continue={page.json()['continue']}"
        assert found == whole


async def test_a_page_goes_on_where_it_was_though_models_come_and_go(client, known):
    """The token names a place, not a number."""
    page = (await client.get(f"{MODELS}?limit=1")).json()
    known.drop("ai-a")
    known.put(manifest("0"))
    rest = await client.get(f"{MODELS}?limit=9&continue={page['continue']}")
    assert names(rest) == ["default/0", "default/a", "default/b"]


async def test_a_token_belongs_to_its_filters(client):
    """422 where it could only give a list that never was."""
    token = (await client.get(f"{MODELS}?limit=1")).json()["continue"]
    for query in (
        f"continue={token}&state=Failed",
        "continue=x",
        "continue=eA",
        f"continue={token}x",
    ):
        answer = await client.get(f"{MODELS}?{query}")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "continue")


@pytest.mark.parametrize(
    "path", [MODELS, f"{MODELS}/a", f"{MODELS}?state=Pending", f"{MODELS}/a?namespace=default"]
)
async def test_what_has_not_changed_is_not_sent_again(client, known, path):
    """ETag and If-None-Match, on every way to the same bytes; a change brings a new one."""
    first = await client.get(path)
    etag = first.headers["etag"]
    for header in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = await client.get(path, headers={"if-none-match": header})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    known.put(manifest("a", model="llama3.2:1b", version=9))
    after = await client.get(path, headers={"if-none-match": etag})
    assert (after.status_code, after.headers["etag"] != etag) == (200, True)


async def test_both_ways_to_a_model_give_the_same_bytes(client):
    """The short way past Litestar, and the long way through it."""
    short, long = await client.get(f"{MODELS}/a"), await client.get(f"{MODELS}/a?namespace=default")
    assert (short.content, short.headers) == (long.content, long.headers)
    short, long = await client.get(MODELS), await client.get(f"{MODELS}?q=")
    assert (short.content, short.headers) == (long.content, long.headers)


async def test_another_object_of_a_name_takes_its_place(client, known):
    """The end of the old one, told later, does not remove the new one."""
    known.put(manifest("a", uid="new", version=20, model="phi3:mini"))
    known.drop("uid-of-a")
    assert (await client.get(f"{MODELS}/a")).json()["tag"] == "mini"


async def test_head_is_get_without_the_body(client):
    """As HTTP has it; a stream has no end to wait for, and no HEAD."""
    assert (await client.head(MODELS)).headers["etag"] == (await client.get(MODELS)).headers["etag"]
    assert (await client.head("/api/v1/events")).status_code == 405


async def test_options_lists_the_methods(client):
    """All of them."""
    assert (await client.options(f"{MODELS}/a")).headers["allow"] == "GET, PATCH, DELETE"


# --- while things are not as they should be


async def test_before_the_first_list_nothing_is_told(client, known):
    """503, for half a list would be a lie; health is a matter of its own."""
    known.listed = False
    for path in (
        MODELS,
        f"{MODELS}/a",
        f"{MODELS}?q=x",
        "/api/v1/plan",
        "/api/v1/events",
        "/readiness",
    ):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["type"]) == (503, "/docs/problems#not-ready")
        assert "retry-after" in answer.headers
    assert (await client.get("/health")).status_code == 200


async def test_an_old_view_says_how_old_it_is(client, known):
    """On lists, models and 304s; a view that is current says nothing."""
    assert "x-view-age" not in (await client.get(MODELS)).headers
    known.age = 42.9
    for path in (MODELS, f"{MODELS}/a", f"{MODELS}?q=", "/api/v1/plan"):
        assert (await client.get(path)).headers["x-view-age"] == "42"
    known.age = 0
    assert "x-view-age" not in (await client.get(MODELS)).headers


# --- one model


async def test_a_model_in_another_namespace_is_hinted_at(client, known):
    """Who forgot ?namespace= is told of it."""
    known.put(manifest("only", namespace="ai", uid="only"))
    answer = await client.get(f"{MODELS}/only")
    assert answer.status_code == 404
    detail = "No OllamaModel 'only' in namespace 'default'. There is one with ?namespace=ai."
    assert (await client.get(f"{MODELS}/only?namespace=default")).json()["detail"] == detail


# --- writes


async def test_a_post_makes_an_object(client, written):
    """Named after its model; 201 at once, with where it is."""
    answer = await client.post(MODELS, json=NEW)
    spec = OllamaModelSpec(name="llama3.2", tag="1b")
    assert written.calls == [("create", "default", "llama3.2-1b", spec, False)]
    assert (answer.status_code, answer.headers["location"]) == (201, f"{MODELS}/llama3.2-1b")


async def test_a_post_may_say_everything(client, written):
    """Name, namespace and options."""
    more = {
        "resourceName": "mine",
        "namespace": "ai",
        "interval": "30s",
        "deletionPolicy": "Retain",
    }
    more["refreshInterval"] = "24h"
    more["refreshWindow"] = {"schedule": "0 2 * * 6", "duration": "4h"}
    answer = await client.post(f"{MODELS}?dryRun=true", json=NEW | more)
    _, namespace, name, spec, dry_run = written.calls[0]
    assert (namespace, name, dry_run) == ("ai", "mine", True)
    sent = json.loads(msgspec.json.encode(spec))
    del more["resourceName"], more["namespace"]
    assert (sent, answer.status_code) == (NEW | more, 200)
    answer = await client.post(f"{MODELS}?namespace=ai", json=NEW)
    assert answer.headers["location"] == f"{MODELS}/llama3.2-1b?namespace=ai"


async def test_a_patch_is_merged(client, written):
    """Null sets an option back; a default that is sent is a change, too."""
    change = {"tag": "3b", "suspend": False, "interval": None}
    for kind in ("application/json", "application/merge-patch+json; charset=utf-8"):
        answer = await client.patch(
            f"{MODELS}/a", content=json.dumps(change), headers={"content-type": kind}
        )
        assert answer.status_code == 200
        assert written.calls.pop() == ("patch", "default", "a", {"spec": change}, False)


@pytest.mark.parametrize(
    ("ask", "call", "code"),
    [
        ("POST /a/suspend", ("patch", "default", "a", {"spec": {"suspend": True}}, False), 200),
        ("POST /a/resume", ("patch", "default", "a", {"spec": {"suspend": None}}, False), 200),
        (
            "POST /a/refresh?namespace=ai",
            (
                "patch",
                "ai",
                "a",
                {"metadata": {"annotations": {"ollama.smithforge.dev/refresh": "true"}}},
                False,
            ),
            202,
        ),
        ("DELETE /a", ("delete", "default", "a", None, False), 204),
        ("DELETE /a?dryRun=true", ("delete", "default", "a", None, True), 204),
    ],
)
async def test_each_write_is_one_to_kubernetes(client, written, ask, call, code):
    """And the operator does the rest."""
    method, path = ask.split()
    assert (await client.request(method, MODELS + path)).status_code == code
    assert written.calls == [call]


async def test_if_match_holds_a_write_to_a_version(client, written):
    """With the ETag of a read; a conflict then is 412, and 409 without it."""
    etag = (await client.get(f"{MODELS}/a")).headers["etag"]
    version = {"resourceVersion": "5"}
    await client.patch(f"{MODELS}/a", json={"tag": "3b"}, headers={"if-match": etag})
    assert written.calls.pop()[3] == {"spec": {"tag": "3b"}, "metadata": version}
    await client.post(f"{MODELS}/a/refresh", headers={"if-match": etag})
    assert written.calls.pop()[3]["metadata"].items() >= version.items()
    await client.delete(f"{MODELS}/a", headers={"if-match": etag})
    assert written.calls.pop()[3] == "5"
    written.answer = Conflict("no")
    answers = {etag: 412, "5": 412, "*": 409, "x": 400, "": 400, '"5': 400, '"5", x': 400}
    answers |= {f"W/{etag}": 412, 'W/"5"': 412, '"4", "5"': 412, '"of-another"': 412}
    for header, code in answers.items():
        answer = await client.post(f"{MODELS}/a/suspend", headers={"if-match": header})
        assert answer.status_code == code
    assert (await client.post(f"{MODELS}/a/suspend")).status_code == 409


@pytest.mark.parametrize(
    ("header", "version"),
    [
        ('W/"5"', "5"),
        ('"5-gzip"', "5"),
        ('W/"5;br"', "5"),
        ('"4", "5"', "5"),
        ('"4" , W/"5","6"', "5"),
        ('"of-another", "5"', "5"),
        ('"3", "4"', "4"),
        ("5", "5"),
    ],
)
async def test_if_match_takes_weak_tags_and_lists(client, written, header, version):
    """A proxy that compresses hands out weak ones; of a list the one counts that the model has."""
    answer = await client.post(f"{MODELS}/a/suspend", headers={"if-match": header})
    assert answer.status_code == 200
    assert written.calls.pop()[3]["metadata"] == {"resourceVersion": version}
    await client.delete(f"{MODELS}/a", headers={"if-match": header})
    assert written.calls.pop()[3] == version


async def test_if_match_of_others_tags_only_is_412_and_asks_nobody(client, written):
    """They are tags, and none is of a version of ours."""
    answer = await client.delete(f"{MODELS}/a", headers={"if-match": '"x", W/"y-1"'})
    assert answer.status_code == 412
    assert written.calls == []


async def test_a_version_that_a_backup_gives_out_again_is_sent_anew(client, known):
    """After a restore of etcd, one resourceVersion may stand for two states of an object."""
    known.put(manifest("c", uid="c", version=9))
    etag = (await client.get(f"{MODELS}/c")).headers["etag"]
    known.drop("c")
    known.put(manifest("c", uid="c", version=9, model="other:1"))
    answer = await client.get(f"{MODELS}/c", headers={"if-none-match": etag})
    assert (answer.status_code, answer.json()["modelName"]) == (200, "other")


async def test_if_none_match_knows_a_tag_that_a_proxy_changed(client):
    """Else each read would be sent in full behind it."""
    ours = (await client.get(f"{MODELS}/a")).headers["etag"].strip('"')
    for form in ('"{}"', 'W/"{}"', '"{}-gzip"', 'W/"{};br"', '"4", "{}"'):
        tag = form.format(ours)
        answer = await client.get(f"{MODELS}/a", headers={"if-none-match": tag})
        assert answer.status_code == 304


@pytest.mark.parametrize("made", ["2026-01-01T00:00:05Z", "2026-01-01T00:00:00Z"])
async def test_a_name_that_another_object_has_by_now_stays_with_it(client, known, made):
    """Late news of the one that is about to go, or its end, takes nobody from the list."""
    first = "2026-01-01T00:00:00Z"
    old = manifest("c", uid="old", version=8, creationTimestamp=first)
    going = {"resourceVersion": "10", "deletionTimestamp": first, "finalizers": ["x/y"]}
    new = manifest("c", uid="new", version=9, creationTimestamp=made)
    known.put(old, new, old | {"metadata": old["metadata"] | going})
    assert (await client.get(f"{MODELS}/c")).headers["etag"].startswith('"9.')
    known.drop("old")
    assert (await client.get(f"{MODELS}/c")).headers["etag"].startswith('"9.')
    known.drop("new")
    assert (await client.get(f"{MODELS}/c")).status_code == 404


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (KubeUnreachable(SECRET), 503, Kind.KUBERNETES_UNAVAILABLE),
        (LoginFailed(SECRET), 503, Kind.KUBERNETES_UNAVAILABLE),
        (NotPermitted(SECRET), 503, Kind.KUBERNETES_DENIES),
        (NotPermitted(SECRET, by_admission=True), 422, Kind.INVALID),
        (Conflict(SECRET), 409, Kind.CONFLICT),
        (Expired(SECRET), 422, Kind.INVALID),
        (Rejected(SECRET), 422, Kind.INVALID),
        (Rejected(SECRET, fields=[("tag", "is too old")]), 422, Kind.INVALID),
        (RuntimeError(SECRET), 500, Kind.INTERNAL),
    ],
)
async def test_what_kubernetes_says_becomes_a_problem_without_its_words(
    client, written, error, code, kind
):
    """Codes and kinds are the API's own; internal text stays in the log."""
    written.answer = error
    for answer in (
        await client.post(MODELS, json=NEW),
        await client.patch(f"{MODELS}/a", json={"tag": "2"}),
        await client.delete(f"{MODELS}/a"),
        await client.post(f"{MODELS}/a/refresh"),
    ):
        assert (answer.status_code, answer.json()["title"]) == (code, kind.title)
        assert SECRET not in answer.text
        assert ("retry-after" in answer.headers) is (code == 503)
        assert isinstance(error, KubeError) or "Traceback" not in answer.text


async def test_taken_and_missing_mean_what_was_asked(client, written):
    """A namespace is missing for a new object, an object for a change."""
    written.answer = Conflict("no", reason="AlreadyExists")
    assert (await client.post(MODELS, json=NEW)).json()["title"] == "Model exists"
    written.answer = NotFound("no")
    assert (await client.post(MODELS, json=NEW)).json()["title"] == "Namespace not found"
    assert (await client.delete(f"{MODELS}/a")).json()["title"] == "Model not found"


async def test_a_wait_that_kubernetes_asks_for_is_passed_on(client, written):
    """In Retry-After, rounded up."""
    written.answer = KubeUnreachable("busy", retry_after_s=17.2)
    assert (await client.delete(f"{MODELS}/a")).headers["retry-after"] == "18"


# --- what is wrong with a request


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", 400, "body"),
        (b"{", 400, "body"),
        (b"\xff", 400, "body"),
        (b"[]", 400, "body"),
        (b"null", 400, "body"),
        (b"[" * 5000, 400, "body"),
        (b'{"tag":"1b"}', 400, "name"),
        (b'{"name":"llama3.2"}', 422, "tag"),
        (b'{"name":"llama3.2","tag":1}', 400, "tag"),
        (b'{"name":"","tag":"1b"}', 400, "name"),
        (b'{"name":"llama3.2","tag":"1b","colour":"red"}', 400, "colour"),
        (b'{"name":"llama3.2","tag":"1b","suspend":"true"}', 400, "suspend"),
        (b'{"name":"llama3.2","tag":"1b","namespace":"Not Legal"}', 400, "namespace"),
        (b'{"name":"llama3.2","tag":"1b","namespace":"a\\n"}', 400, "namespace"),
        (b'{"name":"llama3.2","tag":"1b","resourceName":"../x"}', 400, "resourceName"),
        (b'{"name":"llama3.2","tag":"1b","resourceName":"x\\n"}', 422, "resourceName"),
        (b'{"name":"llama3.2:1b","tag":"3b"}', 422, "name"),
        (b'{"name":"a b","tag":"1b"}', 422, "name"),
        (b'{"name":"http://x/y","tag":"1b"}', 422, "name"),
        (b'{"name":"llama3.2","tag":"1 b"}', 422, "tag"),
        (b'{"name":"llama3.2","tag":"1b","interval":"soon"}', 422, "interval"),
        (b'{"name":"llama3.2","tag":"1b","interval":"1ms"}', 422, "interval"),
        (b'{"name":"llama3.2","tag":"1b","expectedDigest":"x"}', 422, "expectedDigest"),
        (
            b'{"name":"x","tag":"y","refreshWindow":{"schedule":"0 2 * * 6","duration":"4h"}}',
            422,
            "refreshWindow",
        ),
        (
            json.dumps(NEW | {"refreshInterval": "1h", "refreshWindow": ON_MARS}).encode(),
            422,
            "refreshWindow.timeZone",
        ),
        (
            b'{"name":"x","tag":"y","refreshWindow":{"schedule":"x","duration":"4h","z":1}}',
            400,
            "refreshWindow.z",
        ),
    ],
)
async def test_a_wrong_body_is_told_by_field(client, written, body, code, field):
    """400 for the wrong form, 422 for what is invalid; Kubernetes hears of neither."""
    answer = await client.post(MODELS, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (code, field)
    assert answer.json()["errors"][0]["message"]
    assert written.calls == []


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"name": "other"}, 400, "name"),
        ({"tag": None}, 400, "tag"),
        ({"tag": "1 b"}, 422, "tag"),
        ({"timeout": "0s"}, 422, "timeout"),
        ({"refreshWindow": {"schedule": "0 2 * * 6", "duration": "4h"}}, 422, "refreshWindow"),
    ],
)
async def test_a_wrong_patch_is_told_by_field(client, written, body, code, field):
    """Judged together with what the object says already."""
    answer = await client.patch(f"{MODELS}/a", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (code, field)
    assert written.calls == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=Gone", "state"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("namespace=A", "namespace"),
        ("namespace=", "namespace"),
        ("namespcae=ai", "namespcae"),
    ],
)
async def test_a_wrong_parameter_is_told_by_name(client, query, field):
    """A misspelt one as well, so that nothing is done to a model that was not meant."""
    answer = await client.get(f"{MODELS}?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("POST", MODELS, NEW | {"intervall": "1m"}, "did you mean interval?"),
        ("PATCH", f"{MODELS}/a", {"refresh_interval": "1h"}, "did you mean refreshInterval?"),
        ("DELETE", f"{MODELS}/a?namspace=ai", None, "did you mean namespace?"),
        ("POST", MODELS, NEW | {"colour": "red"}, "is not known here"),
        ("PATCH", f"{MODELS}/a", {"name": "other"}, "is not known here"),
    ],
)
async def test_what_is_misspelt_is_told_with_what_may_be_meant(client, method, path, body, told):
    """If anything is like it."""
    answer = await client.request(method, path, json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"].endswith(told)


async def test_a_body_has_a_limit_and_a_type(client):
    """413 beyond 64 KiB, 415 for what is no JSON."""
    as_json = {"content-type": "application/json"}
    big = json.dumps(NEW | {"timeout": "1" * (64 << 10)})
    assert (await client.post(MODELS, content=big, headers=as_json)).status_code == 413
    for kind in ("text/plain", "application/merge-patch+json", ""):
        answer = await client.post(MODELS, content="{}", headers={"content-type": kind})
        assert (answer.status_code, answer.json()["title"]) == (415, "Media type not supported")


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/api/v1/nothing", Kind.PATH_NOT_FOUND),
        ("GET", "/api/v2/models", Kind.PATH_NOT_FOUND),
        ("GET", "/nothing", Kind.PATH_NOT_FOUND),
        ("GET", "/docs/nothing", Kind.PATH_NOT_FOUND),
        ("GET", "/page/..%2Fapp.py", Kind.PATH_NOT_FOUND),
        ("PUT", f"{MODELS}/a", Kind.METHOD_NOT_ALLOWED),
        ("DELETE", MODELS, Kind.METHOD_NOT_ALLOWED),
        ("POST", "/health", Kind.METHOD_NOT_ALLOWED),
        ("GET", f"{MODELS}/nope", Kind.MODEL_NOT_FOUND),
        ("DELETE", f"{MODELS}/Not_Legal", Kind.MODEL_NOT_FOUND),
        ("POST", f"{MODELS}/a%0A/refresh", Kind.MODEL_NOT_FOUND),
    ],
)
async def test_every_error_is_a_problem_of_its_type(client, written, method, path, kind):
    """With a fixed title, where it is explained, and `error` for older clients."""
    answer = await client.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    code = kind.status
    assert (answer.status_code, body["status"], body["title"]) == (code, code, kind.title)
    assert body["type"] == f"/docs/problems#{kind.slug}"
    assert body["error"] == body["detail"] != ""
    assert ("allow" in answer.headers) is (code == 405)
    assert written.calls == []


async def test_a_host_header_that_is_none_is_a_problem(client):
    """Litestar refuses it; the answer is ours."""
    answer = await client.get("/health", headers={"host": "a b"})
    assert (answer.status_code, answer.json()["title"]) == (400, Kind.BAD_REQUEST.title)


# --- one model


@pytest.mark.parametrize(
    ("value", "handled", "asked"),
    [
        ("true", None, True),
        ("deploy-7", None, True),
        ("deploy-7", "deploy-6", True),
        ("deploy-7", "deploy-7", False),
        ("completed-2026-01-01T00:00:00Z", None, False),
        ("", None, False),
    ],
)
def test_a_refresh_is_requested_until_it_is_served(value, handled, asked):
    """Whether it is `true`, which is replaced, or a token, which stays."""
    body = manifest(annotations={REFRESH: value}) | {"status": {"lastHandledRefresh": handled}}
    assert describe(made(body)).refresh_requested == asked


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.SUSPENDED}))
def test_what_is_wrong_is_tried_again_or_needs_a_person(reason):
    """One of the two, and none of them where all is well: the page says so, and so may clients."""
    row = reason.row
    conditions = [condition("Ready", row.ready, reason)]
    if row.mode.value:
        conditions.append(condition(row.mode.value, "True", reason))
    told = describe(made(manifest() | {"status": {"state": row.state, "conditions": conditions}}))
    assert told.stalled + told.retrying == (not row.is_fine)
    assert told.stalled == (row.mode is Mode.STALLED)


@pytest.mark.parametrize(
    ("reason", "in_vain"),
    [
        (Reason.INVALID_NAME, True),
        (Reason.INVALID_SPEC, True),
        (Reason.SERVER_TOO_OLD, True),
        (Reason.MODEL_UNSUPPORTED, False),  # the registry may have another digest by now
        (Reason.MODEL_UNKNOWN, False),
        (Reason.AUTHENTICATION_FAILED, False),
        (Reason.AVAILABLE, False),
    ],
)
def test_it_is_told_where_no_refresh_can_help(reason, in_vain):
    """Where the spec or the server has to change, no button offers to try again."""
    conditions = [condition("Ready", "False", reason)]
    told = describe(made(manifest() | {"status": {"conditions": conditions}}))
    assert told.refresh_in_vain == in_vain


# --- the plan


async def test_the_plan_sorts_what_is_wanted_and_what_is_there(client, known):
    """To pull, to keep, to delete; and what nobody has asked for."""
    known.there = {
        placed(text): Held("d" * 64, 5)
        for text in ("llama3.2:1b", "dying:1", "stays:1", "old:1", "stranger:1")
    }
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FINALIZER]}
    retained = manifest("kept", model="stays:1", **gone)
    retained["spec"]["deletionPolicy"] = "Retain"
    paused = manifest("paused", model="paused:1")
    paused["spec"]["suspend"] = True
    known.put(manifest("dying", model="dying:1", **gone), retained, paused)
    known.put(manifest("moved", model="new:1") | {"status": {"ownedModels": ["old:1", "new:1"]}})
    plan = (await client.get("/api/v1/plan")).json()
    assert {part: [line["model"] for line in lines] for part, lines in plan.items()} == {
        "pull": ["new:1", "qwen3:32b"],
        "keep": ["llama3.2:1b"],
        "delete": ["dying:1", "old:1"],
        "paused": ["paused:1"],
        "unmanaged": ["stays:1", "stranger:1"],
    }
    keep = plan["keep"][0]
    assert [ref["namespace"] for ref in keep["wantedBy"]] == ["ai", "default"]
    assert (keep["size"], keep["digest"]) == (5, "d" * 64)


async def test_the_plan_of_a_namespace_is_silent_about_others(client, known):
    """What others have, and what is nobody's, is not told."""
    known.there = {placed("stranger:1"): Held("d" * 64, 5)}
    plan = (await client.get("/api/v1/plan?namespace=ai")).json()
    assert plan["pull"][0]["wantedBy"] == [{"namespace": "ai", "name": "a"}]
    assert plan["unmanaged"] == []
    assert len(plan["pull"]) == 1


async def test_without_ollama_there_is_no_plan(client, known):
    """503: with nothing to compare, everything would seem to be missing."""
    known.there = None
    answer = await client.get("/api/v1/plan")
    assert (answer.status_code, answer.json()["title"]) == (503, "Ollama unavailable")


# --- names


@pytest.mark.parametrize(
    ("name", "tag", "expected"),
    [
        ("llama3.2", "1b", "llama3.2-1b"),
        ("qwen2.5-coder", "0.5b", "qwen2.5-coder-0.5b"),
        ("hf.co/Org/Model", "Q4_K_M", r"hf-co-org-model-q4-k-m-[0-9a-f]{8}"),
        ("user/model", "latest", r"user-model-latest-[0-9a-f]{8}"),
        ("_", "_", r"[0-9a-f]{8}"),
        ("x" * 80, "y" * 80, r"x{54}-[0-9a-f]{8}"),
    ],
)
def test_an_object_is_named_after_its_model(name, tag, expected):
    """As the Go operator does where that is legal; else readably, told apart by a hash."""
    found = resource_name(OllamaModelSpec(name=name, tag=tag))
    assert re.fullmatch(expected, found) is not None


@given(st.from_regex(r"([A-Za-z0-9_.-]{1,9}/)?[A-Za-z0-9_.-]{1,70}", fullmatch=True))
def test_every_name_of_a_model_gives_a_legal_name_of_an_object(name):
    """Two spellings of one model give one name, where it has a hash."""
    try:
        ModelName.of(name, "1b")
    except InvalidNameError:
        return
    found = resource_name(OllamaModelSpec(name=name, tag="1b"))
    assert is_legal_name(found)
    assert len(found) <= LONGEST_OBJECT_NAME


# --- what is counted


async def test_each_request_is_told_by_its_route(known, written):
    """Never by its path, which anybody can choose; the short way is told like the long one."""
    seen: list[tuple[str, str, int]] = []

    def observe(route: str, method: str, code: int, duration_s: float) -> None:
        assert duration_s >= 0
        seen.append((route, method, code))

    options = ApiOptions(keys=Keys([key()]), locked=True)
    api = create_api(known, written, options, observe=observe)
    known.put(manifest("a"))
    async with client_of(api) as client:
        for path in ("", "/a", "/b", "/a?namespace=default", "?q=x"):
            await client.get(MODELS + path)
        await client.get("/api/v1/models", headers={"x-api-key": "no"})
        await client.get("/nowhere/at/all")
        await client.delete(f"{MODELS}/a")
    one = "/api/v1/models/{name}"
    assert seen == [
        (MODELS, "GET", 200),
        (one, "GET", 200),
        (one, "GET", 404),
        (one, "GET", 200),
        (MODELS, "GET", 200),
        ("unmatched", "GET", 401),  # who is not let in is not led anywhere
        ("unmatched", "GET", 404),
        (one, "DELETE", 204),
    ]


# --- the docs


async def test_the_description_has_every_route_and_no_other(client):
    """What is served is described; each operation has an id, errors and who may."""
    described = (await client.get("/openapi.json")).json()
    served: dict[str, set[str]] = {}
    for handler in HANDLERS:
        for path in handler.paths:
            methods = {method.lower() for method in handler.http_methods}
            served.setdefault(path.replace(":str", ""), set()).update(methods)
    told = {path: set(item) - {"parameters"} for path, item in described["paths"].items()}
    assert told == served
    operations = [
        op for item in described["paths"].values() for m, op in item.items() if m != "parameters"
    ]
    assert len({op["operationId"] for op in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert operation.get("security") == [] or {"401", "403", "429"} <= set(
            operation["responses"]
        )


async def test_every_type_of_problem_is_explained(client):
    """Its URL leads to an anchor that exists."""
    page = (await client.get("/docs/problems")).text
    assert all(f'id="{kind.slug}"' in page for kind in Kind)


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/problems"])
async def test_pages_load_nothing_from_elsewhere(client, path):
    """Every address in them is the process's own, scripts are files, and the policy says so."""
    answer = await client.get(path)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', answer.text)
    assert not [link for link in links if ":" in link or link.startswith("/")]
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=", answer.text)
    for link in links:
        assert (await client.get(link)).status_code == 200
    etag = {"if-none-match": answer.headers["etag"]}
    assert (await client.get(path, headers=etag)).status_code == 304


async def test_no_secret_is_in_any_answer(client, known, written):
    """Neither the key that was sent, nor an object's foreign parts, nor an error's words."""
    body = manifest("s", annotations={"password": SECRET}, labels={"x": SECRET})
    known.put(body | {"spec": NEW | {"apiKey": SECRET}})
    written.answer = KubeUnreachable(f"Bearer {SECRET} at https://{SECRET}@host")
    requests: list[Callable[[], Any]] = [
        lambda: client.get(MODELS),
        lambda: client.get(f"{MODELS}/s"),
        lambda: client.get("/api/v1/plan"),
        lambda: client.get("/openapi.json"),
        lambda: client.delete(f"{MODELS}/s"),
        lambda: client.post(MODELS, json=NEW),
        lambda: client.get(f"{MODELS}/none"),
        lambda: client.get(MODELS, headers={"x-api-key": SECRET}),
    ]
    for request in requests:
        answer = await request()
        told = answer.text + str(answer.headers)
        assert SECRET not in told
        assert KEY not in told
    assert isinstance(create_api(Known(), written, ApiOptions()).app, Front)
