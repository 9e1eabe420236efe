import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from crd.model import Malformed, decode
from crd.names import ModelName
from crd.render import PATH, crd, main, manifest
from crd.structural import NotStructuralError, structural
from crd.switches import NO, YES
from crd.v1alpha1 import (
    API_VERSION,
    KIND,
    Condition,
    OllamaModelSpec,
    OllamaModelStatus,
    Progress,
    State,
)
from ollama_op.base.json import merge_patch

SAMPLES = Path(__file__).parents[2] / "config" / "samples"
METADATA = {"name": "tiny", "namespace": "default", "uid": "1"}
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
STATUS = OllamaModelStatus(
    observed_generation=3,
    state=State.PULLING,
    model="llama3.2:1b",
    digest="a" * 64,
    size=1_321_098_329,
    formatted_size="1.2 GiB",
    last_pull_time=NOON,
    error="connection refused",
    progress=Progress(completed_bytes=1, total_bytes=2, percent=50, text="50%", eta_seconds=1),
    attempts=2,
    next_retry_time=NOON,
    last_handled_refresh="true",
    owned_models=("registry.ollama.ai/library/llama3.2:1b",),
    conditions=(
        Condition(
            type="Ready",
            status="Unknown",
            reason="Pulling",
            message="Downloading 0.5 of 1.2 GiB.",
            observed_generation=3,
            last_transition_time=NOON,
        ),
    ),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def version() -> dict:
    return crd()["spec"]["versions"][0]


def root() -> dict:
    return version()["schema"]["openAPIV3Schema"]


def schemas(schema: dict) -> Iterator[dict]:
    """Walk a schema and all that it is made of."""
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from schemas(inner)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from schemas(schema[key])


def problems(schema: dict, value: object, at: str = "") -> list[str]:
    """Check a value as the API server would, as far as these schemas go."""
    match schema.get("type", "string"), value:
        case "object", dict():
            missing = set(schema.get("required", ())) - value.keys()
            unknown = value.keys() - schema["properties"].keys()
            inner = [
                problem
                for key in value.keys() - unknown
                for problem in problems(schema["properties"][key], value[key], f"{at}.{key}")
            ]
            return inner + [f"{at}.{key}" for key in missing | unknown]
        case "array", list():
            return [p for item in value for p in problems(schema["items"], item, f"{at}[]")]
        case "string", str():
            short = len(value) < schema.get("minLength", 0)
            long = len(value) > schema.get("maxLength", len(value))
            alien = value not in schema.get("enum", [value])
            if schema.get("format") == "date-time":
                datetime.fromisoformat(value)
            return [at] if short or long or alien else []
        case "integer", int():
            low, high = schema.get("minimum", value), schema.get("maximum", value)
            return [] if low <= value <= high else [at]
    return [at]


def patched(status: OllamaModelStatus) -> dict:
    """Return what a merge patch with this status leaves on an object that had none."""
    return merge_patch({}, msgspec.json.decode(msgspec.json.encode(status)))


def decoded(**parts: object):
    return decode(msgspec.json.encode({"metadata": METADATA, **parts}))


# -- the file


def test_the_file_in_config_is_what_the_structs_say():
    """Who changes a struct runs `just crd`; nobody edits the YAML by hand."""
    assert manifest() == PATH.read_text(encoding="utf-8")


def test_the_file_reads_back_as_the_manifest():
    """No text is lost or changed on its way through YAML."""
    assert crd() == yaml.safe_load(manifest())


def test_the_command_writes_the_file(tmp_path, monkeypatch):
    """`just crd` renews the file where it is."""
    monkeypatch.setattr("crd.render.PATH", tmp_path / "crd.yaml")
    main()
    assert manifest() == (tmp_path / "crd.yaml").read_text(encoding="utf-8")


def test_the_nouns_need_no_network():
    """Importing the package pulls in no client, no server and no event loop."""
    code = (
        "import sys, crd.render; "
        "print(*{'anyio', 'httpx', 'kr8s', 'litestar', 'ollama_op', 'api'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*-*.yaml")), ids=lambda path: path.stem)
def test_each_sample_is_a_legal_object_that_the_kustomization_lists(path):
    """A newcomer's first `kubectl apply` works, and the names are ones that Ollama takes."""
    sample = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (API_VERSION, KIND, path.stem) == (
        sample["apiVersion"],
        sample["kind"],
        sample["metadata"]["name"],
    )
    assert problems(root()["properties"]["spec"], sample["spec"]) == []
    assert ModelName.of(sample["spec"]["name"], sample["spec"]["tag"])
    listed = yaml.safe_load((SAMPLES / "kustomization.yaml").read_text(encoding="utf-8"))
    assert path.name in listed["resources"]


# -- the schema


def test_every_schema_has_one_type_and_no_alternatives():
    """The API server takes only structural schemas: no references, no unions, no null."""
    for schema in schemas(root()):
        if schema.get("x-kubernetes-int-or-string"):  # the one union that there is
            assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}]
            continue
        assert schema["type"] in {"object", "array", "string", "integer", "boolean"}
        assert not schema.keys() & {"$ref", "$defs", "anyOf", "oneOf", "allOf", "not", "nullable"}
        assert "pattern" not in schema  # the API server would answer with it
        assert not schema.keys() & {"title", "exclusiveMinimum", "exclusiveMaximum", "const"}


def test_every_property_says_what_it_is():
    """`kubectl explain` never shows an empty description, nor one made for programmers."""
    for schema in schemas(root()):
        for name, inner in schema.get("properties", {}).items():
            assert inner.get("description", "").endswith("."), name
            assert "\n" not in inner["description"], name


def test_the_columns_keep_their_order():
    """Scripts read columns by position, so the first four stay where they always were."""
    columns = version()["additionalPrinterColumns"]
    plain = [column["name"] for column in columns if not column.get("priority")]
    wide = [column["name"] for column in columns if column.get("priority")]
    assert plain == ["Tag", "State", "Size", "Age", "Ready", "Reason", "Progress"]
    assert wide == ["Model", "Remote", "Message"]


def test_every_column_shows_a_field_that_exists():
    """A renamed field cannot leave an empty column behind."""
    for column in version()["additionalPrinterColumns"]:
        schema = root() | {
            "properties": root()["properties"]
            | {"metadata": {"properties": {"creationTimestamp": {"type": "string"}}}}
        }
        path = column["jsonPath"].replace('[?(@.type=="Ready")]', ".[]")
        for step in path.strip(".").split("."):
            schema = schema["items"] if step == "[]" else schema["properties"][step]
        assert schema["type"] == "string"


def test_only_the_operators_status_is_optional():
    """An object without a spec, or with half of one, is turned away at the door."""
    assert root()["required"] == ["spec"]
    assert root()["properties"]["spec"]["required"] == ["name", "tag"]
    assert "required" not in root()["properties"]["status"]


@pytest.mark.parametrize("name", ["llama3.2:1b", "https://hf.co/a/b", "m\n", "é", "../m", "-m"])
def test_an_illegal_name_gets_in(name):
    """Its own status can then say what is wrong, however the object was made."""
    assert problems(root()["properties"]["spec"], {"name": name, "tag": "1b"}) == []


def test_every_legal_name_fits():
    """The longest name that Ollama takes is within the bounds of the two fields."""
    longest = ModelName("h" * 350, "n" * 80, "m" * 80, "t" * 80)
    name, _, tag = longest.canonical.rpartition(":")
    assert problems(root()["properties"]["spec"], {"name": name, "tag": tag}) == []


def test_an_untouched_object_says_that_nobody_has_looked_at_it():
    """Tools that wait for an object see -1 and go on waiting."""
    assert root()["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_conditions_are_those_of_kubernetes():
    """Tools read them as `metav1.Condition`, and patches merge them by type."""
    conditions = root()["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert {"True", "False", "Unknown"} == set(conditions["items"]["properties"]["status"]["enum"])
    assert {"type", "status", "reason", "message", "lastTransitionTime"} == set(
        conditions["items"]["required"]
    )


@pytest.mark.parametrize("status", [STATUS, OllamaModelStatus()], ids=["full", "empty"])
def test_a_status_that_the_operator_writes_is_one_that_the_server_takes(status):
    """What the structs encode passes the schema made from them, and comes back the same."""
    written = patched(status)
    assert problems(root()["properties"]["status"], written) == []
    assert status == decoded(spec={"name": "m", "tag": "t"}, status=written).status


def test_a_schema_keeps_what_the_types_say():
    """Bounds, words, lists and maps all have their OpenAPI spelling."""

    class Sample(msgspec.Struct, rename="camel"):
        """Anything that a field may be.

        And a word for who reads the code.
        """

        a_flag: bool
        word: Literal["b", "a"]
        few: Annotated[list[Annotated[str, Meta(pattern="^a$")]], Meta(max_length=3)]
        labels: Annotated[dict[str, int], Meta(min_length=1)]
        maybe: Annotated[int, Meta(ge=1, le=9, multiple_of=2)] | UnsetType = UNSET
        when: Annotated[datetime | None, Meta(description="When.")] = None

    assert structural(Sample) == {
        "type": "object",
        "description": "Anything that a field may be.",
        "required": ["aFlag", "word", "few", "labels"],
        "properties": {
            "aFlag": {"type": "boolean"},
            "word": {"type": "string", "enum": ["a", "b"]},
            "few": {"type": "array", "maxItems": 3, "items": {"type": "string", "pattern": "^a$"}},
            "labels": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": "integer", "format": "int64"},
            },
            "maybe": {
                "type": "integer",
                "format": "int64",
                "minimum": 1,
                "maximum": 9,
                "multipleOf": 2,
            },
            "when": {"type": "string", "format": "date-time", "description": "When."},
        },
    }


@pytest.mark.parametrize(
    "kind",
    [int | bool, Literal[1, 2], bytes, Annotated[int, Meta(gt=0)], dict[int, str], None, object],
)
def test_what_a_crd_cannot_say_is_refused(kind):
    """A field whose schema would be wrong stops `just crd`, not the API server."""
    with pytest.raises(NotStructuralError, match="a CRD"):
        structural(kind)


# -- objects as the server holds them


@pytest.mark.parametrize(
    "spec",
    [
        None,
        "llama3.2",
        [],
        {},
        {"name": "llama3.2"},
        {"name": 3, "tag": "1b"},
        {"name": "llama3.2", "tag": None},
        {"name": "", "tag": "1b"},
        {"name": "n" * 863, "tag": "1b"},
        {"name": "llama3.2", "tag": "t" * 256},
    ],
)
def test_a_spec_that_is_none_says_why(spec):
    """Its owner can be told, and the object can still be deleted."""
    spec = decoded(spec=spec).spec
    assert isinstance(spec, Malformed)
    assert spec.problem.startswith("spec")
    assert ": is " in spec.problem or "write" in spec.problem
    assert "`" not in spec.problem


def test_an_object_without_spec_and_status_is_still_an_object():
    """Deletion needs no more than the metadata."""
    assert isinstance(decoded().spec, Malformed)
    assert OllamaModelStatus() == decoded().status


@pytest.mark.parametrize(
    "status",
    [
        None,
        "ready",
        {"state": "ready"},
        {"state": "Ready", "size": "1.2 GiB"},
        {"size": -1},
        {"lastPullTime": "yesterday"},
        {"lastPullTime": "2025-06-01T12:00:00"},
        {"conditions": {"Ready": True}},
        {"conditions": [{"type": "Ready", "status": "true"}]},
    ],
)
def test_a_status_that_another_operator_wrote_counts_as_none(status):
    """All of it can be found again, so nothing in it is worth an error."""
    assert OllamaModelStatus() == decoded(status=status).status


def test_a_status_of_the_first_release_is_understood():
    """The fields that have always been there keep their meaning."""
    old = {"state": "Ready", "size": 5, "lastPullTime": "2025-06-01T12:00:00Z", "error": ""}
    assert (
        OllamaModelStatus(state=State.READY, size=5, last_pull_time=NOON, error="")
        == decoded(status=old).status
    )


@given(anything, anything)
def test_no_spec_or_status_keeps_an_object_from_being_read(spec, status):
    """One object's poison stops nobody: whatever stands in it, the metadata is there."""
    model = decoded(spec=spec, status=status)
    assert model.metadata.name == "tiny"
    assert isinstance(model.spec, OllamaModelSpec | Malformed)


@pytest.mark.parametrize("raw", [b"", b"null", b"{}", b'{"metadata":{}}', b'{"metadata":', b"[]"])
def test_what_is_no_kubernetes_object_is_an_error(raw):
    """Without name, namespace and uid there is nobody to tell."""
    with pytest.raises(msgspec.MsgspecError):
        decode(raw)


def test_the_policy_takes_the_words_that_the_operator_takes():
    """Where CEL repeats what Python knows, it cannot drift away."""
    policy = (SAMPLES.parent / "policy" / "annotations.yaml").read_text()
    words = ", ".join(f"'{word}'" for word in (*YES, *NO))
    assert f"variables.force in [{words}]" in policy
