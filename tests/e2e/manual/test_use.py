"""The pages for those who want models: caring for one, the REST API, being told of mistakes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from ollama_op.admission.trust import ADMISSION_GROUP, WEBHOOK_KINDS
from ollama_op.base.rights import WEBHOOK_CONFIGURATION
from support.kube.controlplane import ControlPlane
from support.kube.manifests import CONFIG, NAMESPACE
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.child import free_port
from support.process.deployed import Deployed, release_lease
from support.process.manual import Page, Terminal
from support.process.operator import (
    GROUP,
    RESOURCE,
    Models,
    Object,
    Operator,
    apply_crd,
    manifest,
    wait_until,
)

pytestmark = pytest.mark.real

NAME, MODEL = "llama3.2-1b", "llama3.2:1b"
SERVICE = f"{WEBHOOK_CONFIGURATION}.{NAMESPACE}"


@pytest.fixture
def models(cluster: ControlPlane) -> Models:
    """Return the objects of a cluster that has the CRD only."""
    apply_crd(cluster, CONFIG / "crd")
    return Models(cluster)


def test_a_model_is_cared_for(
    models: Models, ollama: OllamaServer, terminal: Terminal, registry: Registry
) -> None:
    """Each wish of docs/care.md is fulfilled as it says."""
    with Page("docs/care.md", terminal) as page, Operator(models.cluster.kubeconfig, ollama.url):
        models.apply(NAME, MODEL)
        models.ready(NAME)

        newer = registry.publish("llama3.2", "1b", seed=720)
        page.run("refresh=true")
        models.until(NAME, lambda status: status.get("digest") == newer)
        wait_until(lambda: "completed-" in refresh_of(models), lambda: refresh_of(models))
        (schedule,) = page.fenced("yaml")
        models.kubectl("patch", RESOURCE, NAME, "--type=merge", f"--patch={schedule}")
        models.until(NAME, lambda status: status.get("nextRefreshTime"))

        page.run("expectedDigest")
        assert models.get(NAME)["spec"]["expectedDigest"] == newer
        models.until(NAME, lambda status: "nextRefreshTime" not in status)

        page.run("keepAlive")
        models.until(NAME, lambda status: status.get("loaded"))
        # The status tells of a look at Ollama, where the model may have been on its way still.
        wait_until(lambda: MODEL in ollama.running(), lambda: f"loaded: {ollama.running()}")

        page.run("suspend")
        generation = models.get(NAME)["metadata"]["generation"]
        models.until(NAME, lambda status: status.get("observedGeneration") == generation)

        ollama.stop()
        page.run("force-delete")
        models.gone(NAME)
        ollama.start()
        assert MODEL in ollama.digests()

        models.apply(NAME, MODEL)
        page.run("kubectl wait")
        models.clear()


def refresh_of(models: Models) -> str:
    """Return what became of the wish for a refresh."""
    return str(models.get(NAME)["metadata"]["annotations"][f"{GROUP}/refresh"])


def test_the_rest_api_is_used(models: Models, terminal: Terminal) -> None:
    """With one key and with several, and no kubeconfig."""
    theirs = Models(models.cluster, "ai")
    with Page("docs/rest.md", terminal) as page:
        page.put(terminal.rest, "localhost:8082")
        with page.operator("OLLAMA_OP_API_SERVER_KEY"):
            assert json.loads(page.run("--json"))["name"] == NAME
            models.ready(NAME)

        (terminal.cwd / "keys.yaml").write_text(*page.fenced("yaml"))
        with page.operator("--api-server-key-file=keys.yaml"):
            # Whose hashes are on the page: those of two keys that nobody should take.
            assert statuses(terminal, "secret", "default") == (200, 403)
            assert statuses(terminal, "123456", "default") == (403, 403)
            assert statuses(terminal, "123456", "ai") == (200, 201)
            models.clear()
            theirs.clear()

        key, told = page.run("openssl rand").splitlines()
        assert told.split()[0] == hashlib.sha256(key.encode()).hexdigest()


def statuses(terminal: Terminal, key: str, namespace: str) -> tuple[int, int]:
    """Return what is answered to who wants to see, and to make, a model in a namespace."""
    with httpx.Client(
        base_url=f"http://{terminal.rest}/api/v1/models",
        headers={"x-api-key": key},
        params={"namespace": namespace},
        trust_env=False,
    ) as client:
        made = client.post("", json={"name": "qwen3", "tag": "0.6b"})
        return client.get("").status_code, made.status_code


@pytest.mark.usefixtures("cert_manager")
def test_mistakes_are_refused_at_the_door(
    models: Models, ollama: OllamaServer, terminal: Terminal
) -> None:
    """With the words that docs/webhook.md shows; without the webhook, with the policies'."""
    cluster, port = models.cluster, free_port()
    cluster.kubectl("create", "namespace", NAMESPACE)
    release_lease(cluster)
    with Page("docs/webhook.md", terminal) as page:
        assert "['registry.ollama.ai', 'hf.co']" in overlaid(terminal, *page.fenced("yaml"))

        page.run("kubectl apply -k config/with-webhook ")
        where = {"BIND_ADDRESS": f"127.0.0.1:{port}", "SERVICE": SERVICE}
        env = {f"OLLAMA_OP_WEBHOOK_{name}": value for name, value in where.items()}
        with dialled(cluster, port), Deployed(cluster, ollama.url, **env):
            _, refused, _, *taken = page.shown("bad.yaml").splitlines()
            wait_until(
                lambda: applied(models, "bad", interval="1ms") == {refused},
                lambda: f"the webhook does not say {refused}",
            )
            assert applied(models, "llama3.2") == set(taken)
            models.clear()

        page.run("kubectl delete -k config/policy")
        assert "ollama-op" not in cluster.kubectl("get", "validatingadmissionpolicies")
        page.run("kubectl apply -k config/with-webhook-cert-manager ")
        with dialled(cluster, port):
            assert "failed calling webhook" in str(applied(models, "new"))
        page.run("kubectl delete validatingwebhookconfiguration")
        wait_until(
            lambda: taken[-1].replace("/llama3.2", "/new") in applied(models, "new"),
            lambda: "the webhooks are still asked",
        )
        page.run("kubectl delete -k config/webhook")
        # A dry run: what once got past the policies would be no change, and never be judged again.
        bad = partial(applied, models, "bad", "--dry-run=server", interval="1ms")
        wait_until(
            lambda: "denied request: spec.interval" in str(bad()),
            lambda: "the policies are not in force",
        )
        models.clear()


def overlaid(terminal: Terminal, text: str) -> str:
    """Return what an overlay beside the checkout would make."""
    folder = terminal.home / "my-policy"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(text)
    return terminal.run("kubectl apply -k ../my-policy --dry-run=server --output=yaml")


@contextmanager
def dialled(cluster: ControlPlane, port: int) -> Iterator[None]:
    """Have the API server call this machine meanwhile: no Service leads to a pod here."""
    services = {}
    for hook in hooks_of(cluster):
        services[hook["name"]] = hook["clientConfig"].pop("service")
        path = services[hook["name"]]["path"]
        hook["clientConfig"]["url"] = f"https://127.0.0.1:{port}{path}"
    yield
    for hook in hooks_of(cluster):
        del hook["clientConfig"]["url"]
        hook["clientConfig"]["service"] = services[hook["name"]]


def hooks_of(cluster: ControlPlane) -> Iterator[Object]:
    """Hand out each webhook, and write what has been made of it."""
    for kind in WEBHOOK_KINDS:
        path = f"/apis/{ADMISSION_GROUP}/{kind}/{WEBHOOK_CONFIGURATION}"
        body = cluster.get(path)
        yield from body["webhooks"]
        cluster.client.put(path, json=body).raise_for_status()


def applied(models: Models, name: str, *args: str, **spec: str) -> set[str]:
    """Apply an object; return the lines that kubectl says."""
    body = manifest(name, "llama3.2")
    body["spec"] |= spec
    said = models.kubectl("apply", "-f", "-", *args, input=json.dumps(body), check=False)
    return set(said.splitlines())
