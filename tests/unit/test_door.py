"""One spec gets one answer, at whichever door it comes."""

import msgspec
import pytest

from api.access import Keys
from api.app import ApiOptions, create_api
from crd.door import mended, normal, problems
from crd.model import OllamaModel, decode
from crd.names import ModelName
from crd.options import options
from crd.reasons import Verdict
from crd.v1alpha1 import OllamaModelSpec
from support.virtual.inputs import REFUSED, TAKEN, Refused, Taken
from support.virtual.models import made, manifest, raw
from support.virtual.rest import Known, Written, client_of, key
from support.virtual.reviews import client as api_server
from support.virtual.reviews import review

ids = [str(row.spec)[:60] for row in (*TAKEN, *REFUSED)]
taken = pytest.mark.parametrize("row", TAKEN, ids=ids[: len(TAKEN)])
refused = pytest.mark.parametrize("row", REFUSED, ids=ids[len(TAKEN) :])


async def posted(body: object) -> tuple[int, dict]:
    """Send a body to the REST API; return what it answers. Each has one Kubernetes."""
    written = Written()
    written.answer = made(manifest("a", version=7))
    api = create_api(Known(), written, ApiOptions(keys=Keys([key()]), locked=True))
    async with client_of(api) as client:
        answer = await client.post("/api/v1/models", json=body)
    if answer.status_code == 201:
        (call,) = written.calls
        return 201, msgspec.to_builtins(call[3])
    assert written.calls == []
    return answer.status_code, answer.json()


# --- what has one meaning


@taken
def test_what_has_one_meaning_is_taken_and_cared_for(row: Taken):
    """The status has nothing to say, and the operator acts on what is meant."""
    model = decode(raw(manifest() | {"spec": row.spec}))
    assert isinstance(model.spec, OllamaModelSpec)
    assert problems(model.spec) == []
    assert model.desired.name == ModelName.parse(row.model)
    care = options(model.spec)
    assert {name: getattr(care, name) for name in row.care} == row.care


@taken
async def test_the_rest_api_writes_it_in_its_best_form(row: Taken):
    """Name and tag in their fields; keepAlive as the text that any version of the CRD takes."""
    code, spec = await posted(row.spec)
    assert code == 201
    assert ":" not in spec["name"].rpartition("/")[2]
    assert ModelName.of(spec["name"], spec["tag"]) == ModelName.parse(row.model)
    assert isinstance(spec.get("keepAlive", ""), str)
    again = msgspec.convert(spec, OllamaModelSpec)
    assert normal(again) == again


@taken
async def test_the_webhook_lets_it_in(row: Taken):
    """As it was written, or rewritten if that is asked of it."""
    async with api_server() as client:
        for path in ("/mutate", "/validate"):
            answer = await client.post(path, json=review(row.spec))
            assert answer.json()["response"]["allowed"] is True


@pytest.mark.parametrize(
    "body",
    [
        {"model": "llama3.2:1b"},
        {"model": "llama3.2", "tag": "1b"},
        {"name": "llama3.2:1b"},
        {"name": "llama3.2:1b", "tag": None},
    ],
)
async def test_a_body_of_ollamas_own_api_is_understood(body):
    """Its `model` has name and tag in one, and means nothing else."""
    code, spec = await posted(body)
    assert (code, spec) == (201, {"name": "llama3.2", "tag": "1b"})


# --- what has none


def asked(model: OllamaModel) -> tuple[object, object]:
    return model.desired.name, model.desired.options


def told(row: Refused) -> str:
    return f"spec.{row.field}: {row.says}"


@refused
def test_the_status_says_the_field_and_what_to_write(row: Refused):
    """In the words of the other doors, and of nobody's programming language."""
    model = decode(raw(manifest() | {"spec": row.spec}))
    verdicts = [each for each in asked(model) if isinstance(each, Verdict)]
    assert verdicts[0].message == f"{told(row)}. Correct the spec."


@refused
async def test_the_rest_api_says_the_same(row: Refused):
    """400 for the wrong form, 422 for the rest."""
    code, problem = await posted(row.spec)
    assert code == (400 if row.form else 422)
    assert problem["errors"] == [{"field": row.field, "message": row.says}]
    assert problem["detail"] == f"{row.field}: {row.says}"


@refused
async def test_the_webhook_says_the_same(row: Refused):
    """So do the policies of config/policy: tests/e2e/test_door.py."""
    async with api_server() as client:
        answer = await client.post("/validate", json=review(row.spec))
    response = answer.json()["response"]
    assert response["allowed"] is False
    assert response["status"]["message"] == told(row)


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({"model": "llama3.2"}, "tag", "the tag is required; write for example 1b, or latest"),
        ({"name": "registry.gitlab.com/group/project/model:x"}, "name", "the name has 4 parts"),
        ({"name": "a/b/c/d"}, "name", "the name has 4 parts"),
        ({"name": "https://hf.co/a/b"}, "name", "the name is a URL"),
        ({"name": "a", "tag": "b", "interval": 10}, "interval",
         '10 is a number without a unit; write "10s", "10m" or "10h"'),
        ({"name": "a", "tag": "b", "timeout": 10}, "timeout", 'write "10s", "10m" or "10h"'),
        ({"name": "a", "tag": "b", "refreshInterval": 24}, "refreshInterval", 'write "24s", "24m"'),
        ({"name": "a", "tag": "b", "refreshWindow": {"schedule": "0 2 * * 6", "duration": 4}},
         "refreshWindow.duration", 'write "4s", "4m" or "4h"'),
        ({"name": "a", "tag": "b", "interval": True}, "interval", "true is a boolean"),
        ({"tag": "1b"}, "name", "is required"),
        ({"model": "a:1", "name": "b", "tag": "1"}, "model", "is not known here"),
        ({"name": "a", "tag": "b", "modelname": 1}, "modelname", "is not known here"),
        ({"name": "a", "tag": "b", "keepalive": 1}, "keepalive", "did you mean keepAlive?"),
        ({"name": ["a"], "tag": "b"}, "name", "is a list; write a text"),
        ({"name": "a", "tag": "b", "refreshWindow": {"duration": "1h"}},
         "refreshWindow.schedule", "is required"),
        ([], "body", "is a list; write an object with fields"),
        ({"name": "a", "tag": "b", "namespace": "A.b"}, "namespace", "a-z, 0-9 and -"),
    ],
)  # fmt: skip
async def test_a_body_of_another_form_is_told_in_words(body, field, says):
    """No Python type, no regular expression."""
    code, problem = await posted(body)
    assert code in (400, 422)
    (error,) = problem["errors"]
    assert error["field"] == field
    assert says in error["message"]
    for word in ("Expected", "`", "regex", "str", "^", "length"):
        assert word not in error["message"]


async def test_a_query_of_another_form_is_told_in_words():
    """As a body is."""
    api = create_api(Known(), Written(), ApiOptions(keys=Keys([key()]), locked=True))
    async with client_of(api) as client:
        for query in ("limit=x", "limit=0", "state=ready", "namespace=A.b", "names=a", "limit=1e9"):
            answer = await client.get(f"/api/v1/models?{query}")
            assert answer.status_code == 400
            detail = answer.json()["detail"]
            for word in ("Expected", "`", "regex", " str", "^", "length"):
                assert word not in detail, detail


def test_what_is_repeated_is_short():
    """A status holds 1,024 characters, and a spec may have a megabyte."""
    for spec in (
        {"name": "a", "tag": "b", "interval": "9" * 5000},
        {"name": "a", "tag": "b", "interval": "x" * 5000},
        {"name": "a" * 862, "tag": "b"},
        {"name": "a", "tag": 10**60},
    ):
        model = decode(raw(manifest() | {"spec": spec}))
        verdicts = [each for each in asked(model) if isinstance(each, Verdict)]
        assert len(verdicts[0].message) < 300


def test_json_that_is_no_spec_stays_what_it_is():
    """So that whoever reads it says what is wrong."""
    for body in (None, [], "x", {"name": 5}, {"model": 5}, {"name": "a", "tag": 5}):
        assert mended(body) == body


async def test_a_new_tag_takes_the_one_in_the_name_away():
    """Else an object that kubectl made as `llama3.2:1b` could never get another tag over REST."""
    known, written = Known(), Written()
    written.answer = made(manifest("a", version=7))
    api = create_api(known, written, ApiOptions(keys=Keys([key()]), locked=True))
    known.put(manifest("a") | {"spec": {"name": "llama3.2:1b", "tag": "1b", "keepAlive": -1}})
    async with client_of(api) as client:
        said = (await client.get("/api/v1/models/a")).json()
        assert (said["modelName"], said["tag"], said["keepAlive"]) == ("llama3.2", "1b", "-1")
        answer = await client.patch("/api/v1/models/a", json={"tag": "3b"})
        assert answer.status_code == 200
        await client.patch("/api/v1/models/a", json={"interval": "1d"})
    changes = [call[3] for call in written.calls]
    assert changes == [{"spec": {"tag": "3b", "name": "llama3.2"}}, {"spec": {"interval": "1d"}}]
