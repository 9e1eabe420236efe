"""What `kubectl apply -k` installs, before a real kube-apiserver and before the command line."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import yaml

from ollama_op.base.rights import WEBHOOK_USE
from ollama_op.base.settings import Settings
from ollama_op.cli.commands import cli
from ollama_op.cli.flags import read_settings as read_flags
from support.kube.controlplane import ControlPlane, KubectlError
from support.kube.manifests import CONFIG, NAMESPACE, Object, named, of_kind, rendered, text_of
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.operator import Models, wait_until

pytestmark = pytest.mark.real

INSTALL = CONFIG.parent / "docs" / "install.md"
WHOLE = ["default", "one-namespace", "with-ollama", "with-webhook", "with-webhook-cert-manager"]
FOREIGN = "cert-manager.io/"  # whose kinds the API server of the tests does not know
WORKLOADS = ("Deployment", "StatefulSet")
PART_OF = "app.kubernetes.io/part-of"
NAME = "app.kubernetes.io/name"
CLUSTERWIDE = {
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
}
APPLY = ("apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-")


def folders() -> list[str]:
    """Return every folder that can be applied by itself."""
    found = (path.parent for path in CONFIG.rglob("kustomization.yaml"))
    return sorted(str(each.relative_to(CONFIG)) for each in found if "components" not in each.parts)


@pytest.fixture(scope="module", autouse=True)
def namespace(cluster: ControlPlane) -> None:
    """Make the namespace, as a dry run cannot: what it holds to is asked of what comes after it."""
    body = named(rendered("default"), "Namespace", NAMESPACE)
    cluster.kubectl("apply", "-f", "-", input=json.dumps(body))


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def templates(objects: list[Object]) -> list[Object]:
    return [each["spec"]["template"] for each in of_kind(objects, *WORKLOADS)]


def containers(objects: list[Object]) -> Iterator[Object]:
    for template in templates(objects):
        yield from template["spec"]["containers"]


def manager(objects: list[Object]) -> Object:
    """Return the operator's container."""
    pod = named(objects, "Deployment", "ollama-op")["spec"]["template"]["spec"]
    container: Object = pod["containers"][0]
    return container


def settings_of(objects: list[Object]) -> dict[str, str]:
    """Return the environment that the operator gets from its ConfigMap."""
    name = manager(objects)["envFrom"][0]["configMapRef"]["name"]
    data: dict[str, str] = named(objects, "ConfigMap", name)["data"]
    return data


# --- rendered, and taken by a real API server


@pytest.mark.parametrize("folder", folders())
def test_each_folder_renders(folder) -> None:
    """Each can be applied by itself."""
    assert rendered(folder)


@pytest.mark.parametrize("folder", WHOLE)
def test_the_api_server_takes_all_of_it_without_a_warning(cluster: ControlPlane, folder) -> None:
    """Not one field that it does not know, and nothing that the namespace's pod security minds."""
    objects = [each for each in rendered(folder) if not each["apiVersion"].startswith(FOREIGN)]
    said = cluster.kubectl(*APPLY, input=yaml.safe_dump_all(objects))
    assert len(said.splitlines()) == len(objects)


@pytest.mark.parametrize("folder", WHOLE)
def test_the_pods_are_as_restricted_as_the_namespace_wants(cluster: ControlPlane, folder) -> None:
    """What is a warning about a Deployment is a refusal of its pods: so they are tried too."""
    for workload in of_kind(rendered(folder), *WORKLOADS):
        body = pod_of(workload)
        cluster.kubectl(*APPLY, input=json.dumps(body))
        del body["spec"]["securityContext"]["seccompProfile"]
        with pytest.raises(KubectlError, match='violates PodSecurity "restricted:latest"'):
            cluster.kubectl(*APPLY, input=json.dumps(body))


def pod_of(workload: Object) -> Object:
    """Return the pod that a controller would make."""
    template = json.loads(json.dumps(workload["spec"]["template"]))
    claims = workload["spec"].get("volumeClaimTemplates", ())
    template["spec"].setdefault("volumes", []).extend(
        {"name": each["metadata"]["name"], "emptyDir": {}} for each in claims
    )
    where = {"name": workload["metadata"]["name"], "namespace": NAMESPACE}
    metadata = template["metadata"] | where
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def test_a_mistake_would_be_seen(cluster: ControlPlane) -> None:
    """Else the tests above could pass on anything."""
    wrong = text_of(CONFIG / "default").replace("readinessProbe:", "readynessProbe:")
    with pytest.raises(KubectlError, match="readynessProbe"):
        cluster.kubectl(*APPLY, input=wrong)
    loose = text_of(CONFIG / "default").replace("runAsNonRoot: true", "runAsNonRoot: false")
    with pytest.raises(KubectlError, match="would violate PodSecurity"):
        cluster.kubectl(*APPLY, input=loose)


def test_the_overlay_of_the_manual_works(cluster: ControlPlane, tmp_path: Path) -> None:
    """A GPU, another image and two settings: from any folder, as docs/install.md shows it."""
    shown, _ = re.findall(r"```yaml\n(.*?)```", INSTALL.read_text(), re.DOTALL)
    where = os.path.relpath(CONFIG, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(shown.replace("../ollama-op/config", where))
    cluster.kubectl(*APPLY, input=text_of(tmp_path))
    objects = rendered(tmp_path)
    ollama = named(objects, "StatefulSet", "ollama")["spec"]["template"]["spec"]
    assert ollama["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert manager(objects)["image"] == "registry.example.com/ollama-op:0.1.0"
    assert settings_of(objects) == settings_of(rendered("with-ollama")) | {
        "OLLAMA_OP_MAX_CONCURRENT_PULLS": "2",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel-collector.observability:4318",
    }


@pytest.mark.parametrize("folder", ["with-webhook", "with-webhook-cert-manager"])
def test_the_webhook_can_be_asked(folder, monkeypatch) -> None:
    """Its Service leads to a port that is open, and that the operator serves."""
    objects = rendered(folder)
    wanted = read_settings(manager(objects), settings_of(objects), monkeypatch).webhook
    service = named(objects, "Service", "ollama-op-webhook")["spec"]
    assert found(templates(objects), service["selector"], ["webhook"])
    assert service["ports"][0]["targetPort"] == "webhook"
    let_in = named(objects, "NetworkPolicy", "ollama-op-webhook")["spec"]["ingress"]
    assert let_in == [{"ports": [{"port": "webhook"}]}]
    for hook in hooks(objects):
        asked = hook["clientConfig"]["service"]
        assert (asked["name"], asked["namespace"]) == ("ollama-op-webhook", NAMESPACE)
        assert asked["port"] == service["ports"][0]["port"]
    assert (wanted.cert_dir is None) is (folder == "with-webhook")


def hooks(objects: list[Object]) -> list[Object]:
    kinds = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    return [hook for each in of_kind(objects, *kinds) for hook in each["webhooks"]]


def test_a_webhook_that_makes_its_certificates_may_keep_them() -> None:
    """Those that it is given, it needs no rights for, and no Secret to fill."""
    objects = rendered("with-webhook")
    roles = [named(objects, kind, "ollama-op-webhook") for kind in ("Role", "ClusterRole")]
    granted = {
        (verb, resource, name)
        for rule in (roles[0]["rules"] + roles[1]["rules"])
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for name in rule["resourceNames"]
    }
    assert granted == {(right.verb, right.resource, right.name) for right in WEBHOOK_USE}
    given = rendered("with-webhook-cert-manager")
    kinds = ("Secret", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    assert [*of_kind(given, *kinds)] == [*of_kind(rendered("default"), *kinds)]


def test_a_certificate_of_cert_manager_is_where_it_is_looked_for(monkeypatch) -> None:
    """For the Service's names, in a Secret that is mounted, and trusted by who calls."""
    objects = rendered("with-webhook-cert-manager")
    certificate = named(objects, "Certificate", "ollama-op-webhook")["spec"]
    cert_dir = read_settings(manager(objects), settings_of(objects), monkeypatch).webhook.cert_dir
    (template,) = templates(objects)
    (volume,) = template["spec"]["volumes"]
    assert volume["secret"]["secretName"] == certificate["secretName"]
    mount = {"name": volume["name"], "mountPath": str(cert_dir), "readOnly": True}
    assert manager(objects)["volumeMounts"] == [mount]
    assert f"ollama-op-webhook.{NAMESPACE}.svc" in certificate["dnsNames"]
    kinds = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    for each in of_kind(objects, *kinds):
        source = each["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
        assert source == f"{NAMESPACE}/ollama-op-webhook"


def test_ca_and_headers_for_ollama_are_where_they_are_looked_for(
    cluster: ControlPlane, tmp_path: Path, monkeypatch
) -> None:
    """In any overlay; each component adds a volume, and takes none away."""
    where = os.path.relpath(CONFIG, tmp_path.resolve())
    components = [f"{where}/components/{n}" for n in ("ollama-access", "webhook-cert-manager")]
    overlay = {"resources": [f"{where}/default"], "components": components}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    objects = rendered(tmp_path)
    deployment = named(objects, "Deployment", "ollama-op")
    cluster.kubectl(*APPLY, input=json.dumps(deployment))
    pod = deployment["spec"]["template"]["spec"]
    mounted = {each["mountPath"]: each["name"] for each in manager(objects)["volumeMounts"]}
    secrets = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"]}
    assert sorted(secrets.values()) == ["ollama-op-ollama-access", "ollama-op-webhook-tls"]
    wanted = read_settings(manager(objects), settings_of(objects), monkeypatch)
    for path in (wanted.ollama_ca_file, wanted.ollama_header_file):
        assert path is not None
        assert secrets[mounted[str(path.parent)]] == "ollama-op-ollama-access"


@pytest.mark.parametrize(
    ("folder", "models", "advice"),
    [("default", "Deny", "Warn"), ("with-webhook", "Audit", "Audit")],
)
def test_a_mistake_is_told_once(folder, models, advice) -> None:
    """By the policies, or by the webhook where there is one: it knows more, and they come first.

    Of annotations nobody but the policy says anything.
    """
    bindings = of_kind(rendered(folder), "ValidatingAdmissionPolicyBinding")
    actions = {each["spec"]["policyName"]: each["spec"]["validationActions"] for each in bindings}
    assert actions == {
        "ollama-op-models": [models],
        "ollama-op-advice": [advice],
        "ollama-op-annotations": ["Warn"],
    }


# --- the command line


def run_command() -> click.Command:
    return cli.commands["run"]


def read_settings(container: Object, settings: dict[str, str], monkeypatch) -> Settings:
    """Read the flags and settings as `ollama-op` would; what is wrong with one raises."""
    command, *flags = container["args"]
    assert command == "run"
    # A flag that is not shown in the help is one of a later version, and refused for now.
    later = {opt for param in run_command().params if is_hidden(param) for opt in param.opts}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    context = run_command().make_context("run", [flag for flag in flags if flag not in later])
    return read_flags(context.params)


def is_hidden(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and param.hidden


@pytest.mark.parametrize("folder", WHOLE)
def test_the_operator_can_be_run_as_it_is_set(folder, monkeypatch) -> None:
    """Every flag and every variable is one that it knows, and together they can be meant."""
    objects = rendered(folder)
    settings = settings_of(objects)
    known = {param.envvar for param in run_command().params if isinstance(param, click.Option)}
    assert {name for name in settings if name.startswith("OLLAMA_OP_")} <= known
    own = {each["name"] for each in manager(objects)["env"]}
    assert own <= known

    read_as = read_settings(manager(objects), settings, monkeypatch)
    read_as.rest.check()
    assert read_as.rest.kubernetes_auth
    ports = {each["name"]: each["containerPort"] for each in manager(objects)["ports"]}
    bound = {
        "probes": read_as.health_probe_bind_address,
        "rest": read_as.rest.address,
        "metrics": read_as.metrics_bind_address,
        "webhook": read_as.webhook.bind_address,
    }
    assert {name: address.port for name, address in bound.items() if address} == ports
    assert {address.host for address in bound.values() if address} == {""}


def test_with_ollama_is_set_to_the_ollama_that_comes_with_it(monkeypatch) -> None:
    """By the name and the port of its Service, which the network policies let pass."""
    objects = rendered("with-ollama")
    url = urlsplit(
        read_settings(manager(objects), settings_of(objects), monkeypatch).ollama_api_url
    )
    service = named(objects, "Service", str(url.hostname))
    assert url.port in [each["port"] for each in service["spec"]["ports"]]
    policy = named(objects, "NetworkPolicy", "ollama-op")["spec"]
    assert {"port": url.port} in [port for rule in policy["egress"] for port in rule["ports"]]


# --- what refers to what


@pytest.mark.parametrize("folder", WHOLE)
def test_every_selector_finds_pods_and_every_port_exists(folder) -> None:
    """Of Services, network policies, budgets and probes."""
    objects = rendered(folder)
    pods = templates(objects)
    for service in of_kind(objects, "Service"):
        wanted = [port["targetPort"] for port in service["spec"]["ports"]]
        assert found(pods, service["spec"]["selector"], wanted), service["metadata"]["name"]
    for policy in of_kind(objects, "NetworkPolicy"):
        rules = policy["spec"].get("ingress", ())
        wanted = [port["port"] for rule in rules for port in rule["ports"]]
        selector = policy["spec"]["podSelector"].get("matchLabels", {})
        assert found(pods, selector, wanted), policy["metadata"]["name"]
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert found(pods, budget["spec"]["selector"]["matchLabels"], [])
    for workload in of_kind(objects, *WORKLOADS):
        template = workload["spec"]["template"]
        assert found([template], workload["spec"]["selector"]["matchLabels"], probes(template))
        for spread in template["spec"].get("topologySpreadConstraints", ()):
            assert found([template], spread["labelSelector"]["matchLabels"], [])


def found(pods: list[Object], selector: dict[str, str], ports: list[str]) -> list[Object]:
    """Return the pods that a selector finds, if they have all these ports."""
    chosen = [pod for pod in pods if selects(selector, pod["metadata"]["labels"])]
    for pod in chosen:
        assert set(ports) <= {p["name"] for c in pod["spec"]["containers"] for p in c["ports"]}
    return chosen


def probes(template: Object) -> list[str]:
    kinds = ("startupProbe", "livenessProbe", "readinessProbe")
    return [c[kind]["httpGet"]["port"] for c in template["spec"]["containers"] for kind in kinds]


def test_prometheus_finds_the_metrics_and_only_those() -> None:
    """The ServiceMonitor's labels and port are those of one Service."""
    monitor = named(rendered("prometheus"), "ServiceMonitor", "ollama-op")["spec"]
    (endpoint,) = monitor["endpoints"]
    chosen = [
        service["metadata"]["name"]
        for service in of_kind(rendered("with-ollama"), "Service")
        if selects(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
        and endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    ]
    assert chosen == ["ollama-op-metrics"]


@pytest.mark.parametrize("folder", WHOLE)
def test_every_binding_binds_what_is_there(folder) -> None:
    """A role, and the account as which the pods run."""
    objects = rendered(folder)
    pod = named(objects, "Deployment", "ollama-op")["spec"]["template"]["spec"]
    account = named(objects, "ServiceAccount", pod["serviceAccountName"])["metadata"]
    subject = {"kind": "ServiceAccount", "name": account["name"], "namespace": NAMESPACE}
    for binding in of_kind(objects, "ClusterRoleBinding", "RoleBinding"):
        assert binding["subjects"] == [subject]
        assert named(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])


@pytest.mark.parametrize("folder", WHOLE)
def test_everything_is_labelled_and_in_the_one_namespace(folder) -> None:
    """`kubectl get -A -l app.kubernetes.io/part-of=ollama-op` shows all of it."""
    for each in rendered(folder):
        labels = each["metadata"]["labels"]
        assert labels[PART_OF] == "ollama-op", each["metadata"]["name"]
        if each["kind"] != "CustomResourceDefinition":
            assert labels[NAME] in ("ollama-op", "ollama")
        assert (each["metadata"].get("namespace") == NAMESPACE) is (each["kind"] not in CLUSTERWIDE)


# --- restrictions that no API server asks for


@pytest.mark.parametrize("folder", WHOLE)
def test_every_container_is_bounded_and_cannot_write_its_image(folder) -> None:
    """Beyond what pod security asks for; and no name of a user has to be looked up in the image."""
    for template in templates(rendered(folder)):
        assert template["spec"]["securityContext"]["runAsUser"] == 65532
    for container in containers(rendered(folder)):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_nothing_passes_that_is_not_named() -> None:
    """The policy for all pods lets nothing in and nothing out."""
    policy = named(rendered("default"), "NetworkPolicy", "default-deny")["spec"]
    assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


# --- the samples


def test_each_sample_becomes_ready(
    models: Models, ollama: OllamaServer, registry: Registry
) -> None:
    """`kubectl apply -k config/samples` ends in six models that can be used."""
    samples = [(each["metadata"]["name"], each["spec"]) for each in rendered("samples")]
    for seed, (_, spec) in enumerate(samples, start=500):
        registry.publish(spec["name"].removeprefix("hf.co/"), spec["tag"], seed=seed)
    models.kubectl("apply", "-k", str(CONFIG / "samples"))
    try:
        for name, spec in samples:
            status: dict[str, Any] = models.ready(name)
            assert f"{spec['name']}:{spec['tag']}" in ollama.digests(), status
        models.until("smollm2-135m-loaded", lambda status: status.get("loaded"))
        # A server that is short of memory may drop it for a moment; it is loaded again then.
        wait_until(lambda: "smollm2:135m" in ollama.running(), lambda: str(ollama.running()))
    finally:
        models.clear()
    left = ollama.digests().keys() & {f"{spec['name']}:{spec['tag']}" for _, spec in samples}
    assert left == {"nomic-embed-text:latest"}  # it asked to be left
    ollama.delete("nomic-embed-text:latest")
