"""The real API server is the judge of the CRD, and of what the operator writes into its objects."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crd.model import decode
from crd.render import crd
from crd.v1alpha1 import (
    API_VERSION,
    FINALIZER,
    KIND,
    PLURAL,
    Condition,
    OllamaModelStatus,
    Progress,
    State,
)
from support.kube.controlplane import ControlPlane, KubectlError
from support.process.operator import PATIENCE, RESOURCE, wait_until

pytestmark = pytest.mark.real

CONFIG = Path(__file__).parents[2] / "config"
OLDER = "older.example.com"
NOW = datetime(2025, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
FULL = OllamaModelStatus(
    observed_generation=1,
    state=State.PULLING,
    model="llama3.2:1b",
    digest="a" * 64,
    size=2**40,
    formatted_size="1.0 TiB",
    last_pull_time=NOW,
    error="\N{SNOWMAN}" * 1024,  # the limit counts characters, not bytes
    progress=Progress(completed_bytes=1, total_bytes=2, percent=42, text="42%", eta_seconds=3),
    attempts=1,
    next_retry_time=NOW,
    last_handled_refresh="true",
    owned_models=("registry.ollama.ai/library/llama3.2:1b",),
    conditions=(
        Condition(
            type="Ready",
            status="Unknown",
            reason="Pulling",
            message="Downloading 0.5 of 1.2 GiB.",
            observed_generation=1,
            last_transition_time=NOW,
        ),
        Condition(
            type="Reconciling",
            status="True",
            reason="Pulling",
            message="Downloading 0.5 of 1.2 GiB.",
            observed_generation=1,
            last_transition_time=NOW,
        ),
    ),
)


def manifest(name: str, api_version: str = API_VERSION, **parts: object) -> str:
    metadata = {"name": name}
    return json.dumps({"apiVersion": api_version, "kind": KIND, "metadata": metadata, **parts})


@pytest.fixture
def create(cluster: ControlPlane) -> Iterator[Callable[..., None]]:
    """Return what makes an object from its name and parts; the object goes with the test."""
    names: list[str] = []

    def create(name: str, **parts: object) -> None:
        cluster.kubectl("create", "-f", "-", input=manifest(name, **parts))
        names.append(name)

    yield create
    for name in names:
        cluster.kubectl("delete", RESOURCE, name)


def stored(cluster: ControlPlane, name: str) -> dict[str, Any]:
    return json.loads(cluster.kubectl("get", RESOURCE, name, "-o", "json"))


def write_status(cluster: ControlPlane, name: str, status: OllamaModelStatus) -> None:
    patch = msgspec.json.encode([{"op": "add", "path": "/status", "value": status}]).decode()
    cluster.kubectl("patch", RESOURCE, name, "--subresource=status", "--type=json", "-p", patch)


def explain(cluster: ControlPlane, field: str) -> str:
    """Return what kubectl knows of a field; the server publishes schemas a moment late."""
    text = ""

    def look() -> bool:
        nonlocal text
        text = cluster.kubectl("explain", field, check=False)
        return "DESCRIPTION" in text and "<empty>" not in text

    wait_until(look, lambda: text)
    return " ".join(text.split())


def of_another_group(schema: dict[str, Any] | None = None) -> str:
    """Return the CRD under a group where it meets nobody's objects, maybe with another schema."""
    made = crd()
    made["metadata"]["name"] = f"{PLURAL}.{OLDER}"
    made["spec"]["group"] = OLDER
    made["spec"]["names"] |= {"shortNames": [], "categories": []}
    if schema is not None:
        made["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    return json.dumps(made)


@pytest.fixture
def older(cluster: ControlPlane) -> Iterator[str]:
    """Return the name of a resource of another group, whose CRD takes any object."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    cluster.kubectl("create", "-f", "-", input=of_another_group(anything))
    name = f"{PLURAL}.{OLDER}"
    cluster.kubectl("wait", "--for=condition=Established", "crd", name)
    yield name
    cluster.kubectl("delete", "crd", name, PATIENCE)


def test_the_server_takes_the_crd_without_a_warning(cluster):
    """A first `kubectl apply -k config/crd` prints nothing that a newcomer has to look up."""
    unknown_to_the_server = of_another_group()  # some warnings are only for the first time
    command = ("create", "--dry-run=server", "--warnings-as-errors", "-f", "-")
    cluster.kubectl(*command, input=unknown_to_the_server)
    cluster.kubectl("apply", "--server-side", "--warnings-as-errors", "-k", CONFIG / "crd")
    conditions = json.loads(cluster.kubectl("get", "crd", RESOURCE, "-o", "json"))["status"][
        "conditions"
    ]
    held = {condition["type"] for condition in conditions if condition["status"] == "True"}
    assert held == {"NamesAccepted", "Established"}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("ollamamodel", "spec <Object> -required- Which model should be there, and how"),
        ("om.spec", "name <string> -required- Model name as Ollama knows it, without a tag"),
        ("om.spec.tag", "Tag of the model: `latest`, `1b`."),
        ("om.status", "enum: Pending, Pulling, Ready, Failed"),
        ("om.status.conditions", "status <string> -required- enum: False, True, Unknown"),
    ],
)
def test_kubectl_explains_every_field(cluster, field, text):
    """The descriptions in the structs are the manual that people have at hand."""
    assert text in explain(cluster, field)


def test_the_samples_are_accepted(cluster):
    """`kubectl apply -k config/samples` works as it stands."""
    command = ("apply", "--dry-run=server", "--warnings-as-errors", "-k", CONFIG / "samples")
    assert cluster.kubectl(*command).count("created") == 6


def test_kubectl_prints_the_columns_in_order(cluster, create):
    """What is unknown stays blank, and free text comes last."""
    create("columns", spec={"name": "llama3.2", "tag": "1b"})
    write_status(cluster, "columns", FULL)
    plain = cluster.kubectl("get", "om", "columns").splitlines()
    wide = cluster.kubectl("get", "om", "columns", "-o", "wide").splitlines()
    heads = "NAME TAG STATE SIZE AGE READY REASON PROGRESS"
    assert plain[0].split() == heads.split()
    assert wide[0].split() == [*heads.split(), "MODEL", "REMOTE", "MESSAGE"]
    name, tag, state, size, unit, _age, *rest = wide[1].split(maxsplit=10)
    assert (name, tag, state, size, unit) == ("columns", "1b", "Pulling", "1.0", "TiB")
    assert rest == ["Unknown", "Pulling", "42%", "llama3.2", "Downloading 0.5 of 1.2 GiB."]
    assert "columns" in cluster.kubectl("get", "ollama")  # the category


def test_an_untouched_object_shows_that_nobody_has_looked_at_it(cluster, create):
    """The server itself sets -1, and ignores a status that the creator brings along."""
    create("untouched", spec={"name": "m", "tag": "t"}, status={"state": "Ready"})
    assert stored(cluster, "untouched")["status"] == {"observedGeneration": -1}


def test_a_status_replaces_whatever_stood_there(cluster, create):
    """The server takes every field, and what is absent from the next status is gone."""
    create("replaced", spec={"name": "m", "tag": "t"})
    write_status(cluster, "replaced", FULL)
    assert decode(json.dumps(stored(cluster, "replaced")).encode()).status == FULL
    later = OllamaModelStatus(observed_generation=1, progress=Progress(text="1%"))
    write_status(cluster, "replaced", later)
    assert decode(json.dumps(stored(cluster, "replaced")).encode()).status == later
    left = stored(cluster, "replaced")["status"]
    assert left == {"observedGeneration": 1, "progress": {"text": "1%"}}


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (None, "spec: Required value"),
        ({"name": "m"}, "spec.tag: Required value"),
        ({"name": "m", "tag": 3}, "must be of type string"),
        ({"name": "", "tag": "t"}, "should be at least 1 chars long"),
        ({"name": "m", "tag": "t" * 256}, "may not be more than 255"),
        ({"name": "m", "tag": "t", "tags": "u"}, 'unknown field "spec.tags"'),
    ],
)
def test_what_is_no_spec_is_turned_away_at_the_door(create, spec, complaint):
    """The message names the field, so nobody waits for an object that cannot work."""
    with pytest.raises(KubectlError, match=complaint):
        create("rejected", **({} if spec is None else {"spec": spec}))


WINDOW = {"schedule": "0 2 * * 6", "duration": "4h"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"interval": 30}, "spec.interval: Invalid value"),
        ({"deletionPolicy": "Orphan"}, 'spec.deletionPolicy: Unsupported value: "Orphan"'),
        ({"suspend": "yes"}, "spec.suspend: Invalid value"),
        ({"insecure": 1}, "spec.insecure: Invalid value"),
        ({"refreshWindow": {"duration": "4h"}}, "spec.refreshWindow.schedule: Required value"),
        ({"refreshWindow": WINDOW | {"zone": "UTC"}}, 'unknown field "spec.refreshWindow.zone"'),
    ],
)
def test_an_option_that_cannot_be_is_turned_away_by_name(cluster, options, complaint):
    """`kubectl apply` names the field. Texts are judged by the policies, in words of their own."""
    body = manifest("refused", spec={"name": "m", "tag": "t"} | options)
    with pytest.raises(KubectlError, match=complaint):
        cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=body)


@pytest.mark.parametrize(
    "options",
    [
        {"suspend": True, "insecure": True, "deletionPolicy": "Retain"},
        {"interval": "1m30s", "timeout": "1.5h", "refreshInterval": "24h", "keepAlive": "10m"},
        {"keepAlive": "-1", "expectedDigest": "a" * 64},
        {"expectedDigest": "sha256:" + "a" * 64, "timeout": "500ms"},
        {"refreshInterval": "168h", "refreshWindow": WINDOW | {"timeZone": "Europe/Berlin"}},
    ],
)
def test_what_may_be_wished_is_taken_as_it_is(cluster, create, options):
    """And comes back without a word added or changed."""
    spec = {"name": "m", "tag": "t"} | options
    create("wishful", spec=spec)
    assert stored(cluster, "wishful")["spec"] == spec


def test_an_illegal_name_gets_in(cluster, create):
    """The object exists, so its own status can say what is wrong with it."""
    create("illegal", spec={"name": "https://a\n\x01\N{SNOWMAN}:1b", "tag": "../1b"})
    assert stored(cluster, "illegal")["spec"]["tag"] == "../1b"


@pytest.mark.parametrize(
    "parts",
    [
        {"spec": {"name": "m", "tag": "t"}, "status": {"state": "ready", "other": 1}},
        {"spec": {"name": "m", "tag": "t" * 90}},
        {"spec": {"name": 1}},
        {"spec": {"name": "m", "tag": "t", "more": True}},
    ],
    ids=["foreign-status", "long-tag", "wrong-types", "unknown-field"],
)
def test_an_object_from_before_the_schema_can_be_told_and_deleted(cluster, older, parts):
    """A stricter schema never locks an object in: status and finalizer can still be written."""
    old = manifest("old", f"{OLDER}/v1alpha1", **parts)
    cluster.kubectl("create", "-f", "-", input=old)
    if "status" in parts:
        patch = json.dumps({"status": parts["status"]})
        cluster.kubectl("patch", older, "old", "--subresource=status", "--type=merge", "-p", patch)
    cluster.kubectl("replace", "-f", "-", input=of_another_group())
    wait_until_enforced(cluster)

    hold = json.dumps({"metadata": {"finalizers": [FINALIZER]}})
    cluster.kubectl("patch", older, "old", "--type=merge", "-p", hold)
    patch = msgspec.json.encode({"status": FULL}).decode()
    cluster.kubectl("patch", older, "old", "--subresource=status", "--type=merge", "-p", patch)
    cluster.kubectl("delete", older, "old", "--wait=false")
    release = json.dumps({"metadata": {"finalizers": None}})
    cluster.kubectl("patch", older, "old", "--type=merge", "-p", release)
    assert "NotFound" in cluster.kubectl("get", older, "old", check=False)


def wait_until_enforced(cluster: ControlPlane) -> None:
    """Return once the server holds new objects of the older group to the schema."""
    probe = manifest("probe", f"{OLDER}/v1alpha1")

    def ask() -> str:
        return cluster.kubectl("create", "--dry-run=server", "-f", "-", input=probe, check=False)

    wait_until(lambda: "spec: Required value" in ask(), ask)
