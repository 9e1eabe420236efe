"""`kubectl apply -k config/default`: from then on nothing invalid gets in.

The policies that come with it are kept by a real kube-apiserver; no operator needs to run.
"""

import json
from collections.abc import Iterator

import pytest
from msgspec.structs import fields

from crd.v1alpha1 import FINALIZER, FORCE_DELETE, GROUP, Annotations
from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import CONFIG
from support.ollama.server import OllamaServer
from support.process.child import free_port
from support.process.operator import RESOURCE, Models, Operator, clear, reason, wait_until
from support.virtual.door import BAD, create, refusal_over_rest
from support.virtual.inputs import REFUSED, TAKEN

pytestmark = pytest.mark.real

DEFAULT = ("apply", "--warnings-as-errors", "-k", CONFIG / "default")
BINDING = "validatingadmissionpolicybinding/ollama-op-models"
MERGE = ("--type=merge", "--patch")
EVERY_FIELD = {
    "suspend": True,
    "deletionPolicy": "Retain",
    "interval": "1m30s",
    "refreshInterval": "24h",
    "refreshWindow": {"schedule": "0 2 * * 6", "duration": "4h", "timeZone": "Europe/Berlin"},
    "timeout": "2.5h",
    "insecure": True,
    "expectedDigest": "sha256:" + "a" * 64,
    "keepAlive": "10m",
}
OVERFLOWS = [  # more than CEL's own duration() can hold
    ({"interval": "9999999h"}, "spec.interval: '9999999h' is too long; at most 87600h"),
    ({"keepAlive": "999999999999s"}, "spec.keepAlive: '999999999999s' is too long"),
    ({"timeout": "200000000m"}, "spec.timeout: '200000000m' is too long; at most 87600h"),
]
# What kube-apiserver says itself, for which nobody else is asked.
BY_SCHEMA = [
    ({"tag": 3.2}, "must be of type string"),
    ({"tag": None}, "spec.tag: Required value"),
    ({"keepAlive": 1.5}, "must be of type"),
    ({"deletionPolicy": "retain"}, 'supported values: "Delete", "Retain"'),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """Run a Kubernetes API that knows nothing of ours until the one command, given twice."""
    with controlplane() as plane:
        for _ in range(2):
            plane.kubectl(*DEFAULT)
        wait_until_refused(Models(plane))
        yield plane


def wait_until_refused(models: Models) -> None:
    wait_until(
        lambda: "denied request" in create(models, "probe", "--dry-run=server", tag="a/b"),
        lambda: "the policy is not in force",
    )


def is_allowed(spec: dict[str, object]) -> bool:
    """Return True if it takes a list of registries to refuse it."""
    return str(spec.get("name")).startswith("evil.example")


def test_what_cannot_be_meant_is_refused_with_a_word_for_the_field(cluster) -> None:
    """For every mistake that CEL can see, and in our words: CEL's own say what no user wrote."""
    models = Models(cluster, "refused")
    seen = [(spec, field) for spec, field, _ in BAD if not is_allowed(spec)]
    for spec, field in [*seen, *OVERFLOWS]:
        said = create(models, "bad", **spec)
        assert f"denied request: {field}" in said, said
    assert not models.exists("bad")


def test_what_can_be_meant_gets_in_without_a_word(cluster) -> None:
    """With every field of the spec, and with none but those that have to be there."""
    models = Models(cluster, "taken")
    for name, spec in (("plain", {}), ("whole", EVERY_FIELD)):
        said = create(models, name, **spec)
        assert said == f"ollamamodel.ollama.smithforge.dev/{name} created\n"
    for field, value in EVERY_FIELD.items():
        more = {"refreshInterval": "24h"} if field == "refreshWindow" else {}
        said = create(models, "one", "--dry-run=server", **{field: value}, **more)
        assert said == "ollamamodel.ollama.smithforge.dev/one created (server dry run)\n"


@pytest.mark.parametrize("row", REFUSED, ids=[str(row.spec)[:60] for row in REFUSED])
def test_the_policy_says_what_the_other_doors_say(cluster, row) -> None:
    """Word for word; what is of another form the API server refuses by itself."""
    said = create(Models(cluster, "refused"), "bad", "--dry-run=server", **row.spec)
    assert (
        "is invalid: " if row.form else f"denied request: spec.{row.field}: {row.says}\n"
    ) in said


@pytest.mark.parametrize("row", TAKEN, ids=[str(row.spec)[:60] for row in TAKEN])
def test_what_has_one_meaning_gets_in(cluster, row) -> None:
    """However it is written; numbers stay numbers."""
    said = create(Models(cluster, "taken"), "one", "--dry-run=server", **row.spec)
    assert said == "ollamamodel.ollama.smithforge.dev/one created (server dry run)\n"


def test_no_regular_expression_reaches_anybody(cluster) -> None:
    """Kubernetes would put a pattern of the schema into its answer; there is none."""
    models = Models(cluster, "refused")
    for spec, says in BY_SCHEMA:
        said = create(models, "bad", "--dry-run=server", **spec)
        assert says in said
        assert "should match" not in said


def test_a_tag_that_moves_gets_in_with_one_warning(cluster) -> None:
    """Which is no error, and says what would be better."""
    said = create(Models(cluster, "taken"), "moving", tag="latest")
    assert said.count("Warning: ") == 1
    assert "spec.tag: latest moves; expectedDigest would pin it" in said
    assert said.startswith("ollamamodel.ollama.smithforge.dev/moving created\n")


def test_an_annotation_that_means_nothing_is_told(cluster) -> None:
    """By its name, and whatever is done; those that mean something, or are others', are fine."""
    models = Models(cluster, "annotated")
    create(models, "one")
    others = ["example.com/refesh=1", "kubernetes.io/change-cause=b"]
    known = [f"{field.encode_name}=1" for field in fields(Annotations)]
    said = models.kubectl("annotate", RESOURCE, "one", *others, *known, check=False)
    assert said.splitlines() == [f"{RESOURCE.replace('s.', '.', 1)}/one annotated"]

    unclear = f"{FORCE_DELETE}=please"
    said = models.kubectl("annotate", RESOURCE, "one", unclear, "--overwrite", check=False)
    assert f"{FORCE_DELETE} is 'please', which is neither yes nor no; write true" in said
    models.kubectl("annotate", RESOURCE, "one", f"{FORCE_DELETE}=Yes", "--overwrite")

    said = models.kubectl("annotate", RESOURCE, "one", f"{GROUP}/refesh=true", check=False)
    assert f"metadata.annotations: {GROUP}/refesh means nothing; refresh and force-del" in said
    assert "/one annotated\n" in said
    assert "Warning: " in models.kubectl("label", RESOURCE, "one", "a=b", check=False)


def test_what_was_there_before_can_be_told_released_and_deleted(
    cluster: ControlPlane, ollama: OllamaServer
) -> None:
    """Status, finalizer, labels and deletion pass, though the spec is wrong; its change does not.

    The operator has said in the status of one what is wrong with it, and let it go.
    """
    models = Models(cluster, "before")
    cluster.kubectl("delete", BINDING)
    wait_until(
        lambda: "created" in create(models, "probe", "--dry-run=server", tag="a/b"),
        lambda: "the policy is still in force",
    )
    for name in ("one", "other"):
        create(models, name, tag="a/b", interval="1ms")
    cluster.kubectl(*DEFAULT)
    wait_until_refused(models)

    models.kubectl("label", RESOURCE, "one", "a=b")
    models.kubectl("annotate", RESOURCE, "one", "a=b")
    hold = json.dumps({"metadata": {"finalizers": [FINALIZER]}})
    models.kubectl("patch", RESOURCE, "one", *MERGE, hold)
    status = json.dumps({"status": {"error": "told"}})
    models.kubectl("patch", RESOURCE, "one", "--subresource=status", *MERGE, status)
    assert models.get("one")["status"]["error"] == "told"
    suspend = json.dumps({"spec": {"suspend": True}})
    said = models.kubectl("patch", RESOURCE, "one", *MERGE, suspend, check=False)
    assert "denied request: spec.tag: the tag has '/'" in said
    mended = json.dumps({"spec": {"tag": "1b", "interval": None}})
    models.kubectl("patch", RESOURCE, "other", "--dry-run=server", *MERGE, mended)
    models.delete("one")
    models.kubectl("patch", RESOURCE, "one", *MERGE, suspend)  # nor when it is about to go
    models.kubectl("patch", RESOURCE, "one", *MERGE, json.dumps({"metadata": {"finalizers": []}}))
    assert not models.exists("one")

    with Operator(cluster.kubeconfig, ollama.url) as operator:
        assert reason(models.until("other", reason)) == "InvalidName"
        models.delete("other")
        models.gone("other")
        assert operator.bugs() == []


def test_the_rest_api_says_which_field_it_is(cluster: ControlPlane, ollama: OllamaServer) -> None:
    """Also of what only the cluster's own policy knows: here, which registries are allowed."""
    allowed = [
        {"op": "replace", "path": "/spec/variables/0/expression", "value": "['registry.ollama.ai']"}
    ]
    policy = "validatingadmissionpolicy/ollama-op-models"
    cluster.kubectl("patch", policy, "--type=json", "--patch", json.dumps(allowed))
    wait_until(
        lambda: (
            "are not allowed" in create(Models(cluster), "x", "--dry-run=server", name="b.c/d/e")
        ),
        lambda: "the registries are not in force",
    )
    address = f"127.0.0.1:{free_port()}"
    flags = ("--enable-api-server", f"--api-server-bind-address={address}")
    with Operator(cluster.kubeconfig, ollama.url, *flags):
        refused = refusal_over_rest(address)
    assert refused.startswith("models of the registry evil.example are not allowed here")
    cluster.kubectl(*DEFAULT)


def test_nothing_that_refuses_is_left_behind(cluster: ControlPlane, ollama: OllamaServer) -> None:
    """In the order of docs/install.md: the objects while an operator runs, then all else."""
    with Operator(cluster.kubeconfig, ollama.url):
        clear(cluster)
    cluster.kubectl("delete", "-k", CONFIG / "crd")
    cluster.kubectl("delete", "-k", CONFIG / "default", "--ignore-not-found", "--wait=false")
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings,crd,clusterroles"
    assert "ollama" not in cluster.kubectl("get", kinds, "-o", "name")
