"""What the manifests permit is what the operator asks for: no less, and not one verb more."""

import re
from collections.abc import Iterator

import httpx
import pytest
import yaml

from ollama_op.base.rights import ENGINE, REST_API, REVIEW_API, WEBHOOK_USE, Right, rights
from support.kube.audit import AuditLog, Permission, compared, granted_to, permissions_of
from support.kube.controlplane import ControlPlane, controlplane
from support.kube.manifests import CONFIG, NAMESPACE, of_kind, rendered
from support.ollama.registry import Faults, Registry
from support.ollama.server import OllamaServer
from support.process.child import free_port
from support.process.operator import Models, Operator, apply_crd, reason, wait_until
from support.virtual.door import hooks_at, put

pytestmark = pytest.mark.real

ACCOUNT = "ollama-op"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
KEY = "the-key-of-permissions"
MODELS = "/api/v1/models"
WHOLE = "with-webhook"  # all that the operator can do without cert-manager
INSTALL = CONFIG.parent / "docs" / "install.md"
RBAC = ("ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
HOOK_ROLE = "ollama-op-webhook"  # a Role and a ClusterRole
HOOKS = ("Secret", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    return AuditLog(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def cluster(audit: AuditLog) -> Iterator[ControlPlane]:
    """Run a Kubernetes API that notes who asks for what, with the rights of the manifests."""
    with controlplane(audit.flags) as plane:
        apply_crd(plane, CONFIG / "crd")
        plane.kubectl("create", "namespace", NAMESPACE)
        put(plane, of_kind(rendered(WHOLE), *RBAC))
        yield plane


@pytest.fixture(scope="module")
def mortal(registry: Registry) -> Iterator[OllamaServer]:
    """Run an Ollama that may be stopped."""
    with OllamaServer(registry) as ollama:
        yield ollama


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def metrics() -> str:
    return f"http://127.0.0.1:{free_port()}/metrics"


@pytest.fixture(scope="module")
def operator(
    cluster: ControlPlane, mortal: OllamaServer, url: str, metrics: str
) -> Iterator[Operator]:
    """Run the operator as the account of the manifests, with all that it can do."""
    port = free_port()
    put(cluster, hooks_at(port, of_kind(rendered(WHOLE), *HOOKS)))
    kubeconfig = cluster.kubeconfig_for(ACCOUNT, token_of(cluster, ACCOUNT, NAMESPACE))
    flags = [
        "--enable-api-server",
        f"--api-server-bind-address={url.removeprefix('http://')}",
        f"--api-server-key={KEY}",
        "--api-server-kubernetes-auth",
        f"--metrics-bind-address={metrics.removeprefix('http://').removesuffix('/metrics')}",
        "--metrics-kubernetes-auth",
        "--leader-elect",
        f"--leader-elect-namespace={NAMESPACE}",
        f"--webhook-bind-address=127.0.0.1:{port}",
        f"--webhook-service=ollama-op-webhook.{NAMESPACE}",
    ]
    with Operator(kubeconfig, mortal.url, *flags) as operator:
        wait_until(lambda: httpx.get(f"{url}/readiness").is_success, operator.tail)
        yield operator
        assert operator.bugs() == []


@pytest.fixture(scope="module")
def models(cluster: ControlPlane, operator: Operator) -> Models:  # noqa: ARG001 - it runs
    return Models(cluster)


def token_of(cluster: ControlPlane, account: str, namespace: str = "default") -> str:
    return cluster.kubectl("create", "token", account, "--namespace", namespace).strip()


def client_of(cluster: ControlPlane, name: str, *roles: str) -> dict[str, str]:
    """Make an account with roles of config/rbac in the namespace default; return its header."""
    cluster.kubectl("create", "serviceaccount", name)
    for role in roles:
        bound = (f"--clusterrole={role}", f"--serviceaccount=default:{name}")
        cluster.kubectl("create", "rolebinding", f"{name}-{role}", *bound)
    return {"authorization": f"Bearer {token_of(cluster, name)}"}


def as_permissions(rights: tuple[Right, ...]) -> set[Permission]:
    return {Permission(right.verb, right.resource, right.group, right.name) for right in rights}


# --- the life that it leads


def test_a_life_from_the_first_pull_to_the_last_deletion(models, mortal, registry) -> None:
    """Progress, refreshes, another tag, sharing, loss: all with the rights of the manifests."""
    registry.publish("may", "1", size=3_000_000)
    registry.publish("may", "2", seed=1)
    registry.set_faults("may", Faults(rate=500_000))
    models.apply("one", "may:1")
    models.until("one", lambda s: s.get("progress", {}).get("percent", 0) > 0)
    registry.faults = Faults()
    models.ready("one")
    for token in ("a", "b"):  # the second time, the event is counted
        models.annotate("one", "refresh", token)
        models.until("one", lambda s, token=token: s.get("lastHandledRefresh") == token)
    models.annotate("one", "refresh", "true")
    wait_until(lambda: "completed-" in str(models.get("one")["metadata"]), lambda: "no refresh")

    models.apply("one", "may:2")
    models.until("one", lambda s: s.get("model") == "may:2" and s.get("state") == "Ready")
    models.apply("two", "may:2")
    models.ready("two")

    mortal.delete("may:2")

    def said() -> list[str]:  # whichever of the two brings it back says so
        return models.events("one") + models.events("two")

    wait_until(lambda: "ModelRestored" in said(), lambda: str(said()))
    models.ready("one", "two")
    models.delete("one", "two")
    models.gone("one", "two")
    assert mortal.digests() == {}


def test_a_deletion_is_forced(models, mortal, registry) -> None:
    """Which also takes the finalizer off."""
    registry.publish("forced", seed=2)
    models.apply("forced", "forced:latest")
    models.ready("forced")
    mortal.stop()
    try:
        models.delete("forced")
        models.until("forced", lambda status: reason(status) == "DeletionBlocked")
        models.annotate("forced", "force-delete", "true")
        models.gone("forced")
    finally:
        mortal.start()


@pytest.mark.parametrize("by", ["key", "token"])
def test_the_rest_api_makes_changes_and_deletes(cluster, models, registry, url, by) -> None:
    """For whoever has the key, and for whom config/rbac's roles for people are given to."""
    registry.publish(f"by-{by}", seed=3)
    roles = ("ollama-op-models-viewer", "ollama-op-models-editor")
    headers = {"x-api-key": KEY} if by == "key" else client_of(cluster, "editor", *roles)
    one = f"{MODELS}/by-{by}-latest"
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        assert client.post(MODELS, json={"name": f"by-{by}", "tag": "latest"}).status_code == 201
        models.ready(f"by-{by}-latest")
        assert client.patch(one, json={"interval": "30s"}).status_code == 200
        assert client.post(f"{one}/refresh").status_code == 202
        assert client.delete(one).status_code == 204
    models.gone(f"by-{by}-latest")


def test_who_may_only_look_may_only_look(cluster, models, url) -> None:  # noqa: ARG001 - it runs
    """The role for viewers lets nobody change a thing."""
    headers = client_of(cluster, "viewer", "ollama-op-models-viewer")
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        assert client.get(MODELS, params={"namespace": "default"}).status_code == 200
        assert client.post(MODELS, json={"name": "a", "tag": "b"}).status_code == 403


def test_metrics_are_for_their_readers(cluster, operator, metrics) -> None:  # noqa: ARG001 - it runs
    """Who is bound to the role may read them, and nobody else."""
    headers = client_of(cluster, "prometheus")
    assert httpx.get(metrics, headers=headers, trust_env=False).status_code == 403
    bound = ("--clusterrole=ollama-op-metrics-reader", "--serviceaccount=default:prometheus")
    cluster.kubectl("create", "clusterrolebinding", "ollama-op-metrics-reader", *bound)
    again = {"authorization": f"Bearer {token_of(cluster, 'prometheus')}"}  # refusals are kept
    assert httpx.get(metrics, headers=again, trust_env=False).status_code == 200


# --- and what it asked for meanwhile: these read what the tests above made it do


def test_nothing_was_denied(audit: AuditLog, operator: Operator) -> None:  # noqa: ARG001 - it runs
    """Not one request, however little it mattered."""
    assert audit.asked(USER, "forbid") == {}


def test_what_is_granted_is_what_was_used(audit: AuditLog, operator: Operator) -> None:  # noqa: ARG001 - it runs
    """Not counting what Kubernetes lets everybody do. `just permissions` shows the table."""
    granted = granted_to(ACCOUNT, rendered(WHOLE))
    every = set().union(*granted.values())
    allowed = audit.asked(USER, "allow", granted=every)
    used = {asked for asked, why in allowed.items() if '"system:' not in why}
    print(f"\n{compared(granted, used)}")  # noqa: T201 - shown where it fails, and if asked for
    assert sorted(every) == sorted(used)


def test_the_roles_are_the_parts_of_the_one_list() -> None:
    """Each that can be left out has what the doctor asks for with its flags, and no more."""
    granted = granted_to(ACCOUNT, rendered(WHOLE))
    once = {role: permissions for role, permissions in granted.items() if role != HOOK_ROLE}
    assert once == {
        "ollama-op": as_permissions(ENGINE),
        "ollama-op-rest-api": as_permissions(REST_API),
        "ollama-op-token-reviews": as_permissions(REVIEW_API),
        "ollama-op-leader-election": as_permissions(rights(lease_in=NAMESPACE)[len(ENGINE) :]),
    }
    assert granted[HOOK_ROLE] == as_permissions(WEBHOOK_USE)
    assert granted_to(ACCOUNT, rendered("default")) == once


def test_the_manual_says_what_is_granted_and_by_which_file() -> None:
    """The table of docs/install.md has a row for each kind of object, and a reason in each row."""
    granted: dict[tuple[str, ...], set[str]] = {}
    for path in [*CONFIG.glob("rbac/*.yaml"), *CONFIG.glob("components/*/rights.yaml")]:
        for role in of_kind([*yaml.safe_load_all(path.read_text())], "Role", "ClusterRole"):
            bound = role["metadata"]["name"] in granted_to(ACCOUNT, rendered(WHOLE))
            for each in permissions_of(role) if bound else ():
                where = NAMESPACE if role["kind"] == "Role" else ""
                file = str(path.relative_to(CONFIG.parent))
                key = (each.resource, each.group, each.name, where, file)
                granted.setdefault(key, set()).add(each.verb)
    rows = re.findall(
        r"^\| ([a-z, ]+) \| `([\w/]+)(?:\.([\w.]+))?`(?: named `([\w-]+)`)?(?: in `([\w-]+)`)?"
        r" \| (.+) \| `(config/[\w/.-]+)` \|$",
        INSTALL.read_text(),
        re.MULTILINE,
    )
    said = {
        (resource, group, name, where, file): set(verbs.split(", "))
        for verbs, resource, group, name, where, _, file in rows
    }
    assert said == granted
    assert len(rows) == len(said)


def test_the_roles_for_people_are_added_to_those_of_the_cluster() -> None:
    """Who may view, edit or administer a namespace may do so with its models."""
    roles = {
        label.rpartition("-")[2]: role
        for role in rendered("rbac")
        for label in role["metadata"]["labels"]
        if label.startswith("rbac.authorization.k8s.io/aggregate-to-")
    }
    verbs = {name: role["rules"][0]["verbs"] for name, role in roles.items()}
    assert verbs == {
        "view": ["get", "list", "watch"],
        "edit": ["create", "update", "patch", "delete"],
        "admin": ["deletecollection"],
    }
