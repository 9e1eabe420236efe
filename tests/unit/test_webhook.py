import base64
import json
import re
import ssl
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import yaml

from crd.v1alpha1 import GROUP, PLURAL
from ollama_op.admission import webhook
from ollama_op.admission.rules import LONGEST_WARNING
from ollama_op.admission.webhook import CERT_CHECK_S, DEADLINE_S, MAX_REVIEW, Certificate, Webhook
from ollama_op.base.parsing import ConfigError, Service, UsageError, parse_registries
from ollama_op.base.rights import WEBHOOK_CONFIGURATION, WEBHOOK_SECRET
from ollama_op.base.settings import Settings, WebhookSettings
from support.kube.certificate import write_certificate
from support.virtual.reviews import Object, alone, client, review

CONFIG = Path(__file__).parents[2] / "config"
GOOD = {"name": "llama3.2", "tag": "1b"}


async def ask(path: str, body: Object, **how: Any) -> Object:
    """Ask the webhook; return its response."""
    async with client(**how) as api_server:
        answer = await api_server.post(f"{path}?timeout=5s", json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert (said["apiVersion"], said["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: Object = said["response"]
    assert response["uid"] == body["request"]["uid"]
    return response


async def validate(body: Object, **how: Any) -> Object:
    return await ask("/validate", body, **how)


# --- what is refused


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"name": "a b"}, "spec.name", "the model has ' '"),
        ({"name": "a b"}, "spec.name", "write for example llama3.2"),
        ({"name": "https://hf.co/a/b"}, "spec.name", "leave out the scheme"),
        ({"name": "llama3.2:3b"}, "spec.name", "carries the tag 3b, and the tag is 1b"),
        ({"name": "hf.co/b"}, "spec.name", "write hf.co/library/b"),
        ({"tag": "a:b"}, "spec.tag", "write for example 1b"),
        ({"tag": "x" * 256}, "spec.tag", "is longer than 255 characters"),
        ({"interval": "soon"}, "spec.interval", "write 90s"),
        ({"interval": "1ms"}, "spec.interval", "at least 1s"),
        ({"keepAlive": "1s"}, "spec.keepAlive", "at least 10s"),
        ({"expectedDigest": "abc"}, "spec.expectedDigest", "64 hex digits"),
        ({"refreshWindow": {"schedule": "* * * * *", "duration": "1h"}}, "spec.refreshWindow", ""),
        ({"name": 7}, "spec.name", "7 is a number; write it as a text"),
        ({"tag": None}, "spec.tag", "is empty; write a text"),
        ({"suspend": "yes"}, "spec.suspend", "is a text; write true or false"),
    ],
)
async def test_what_cannot_be_meant_is_refused(spec, field, words):
    """The refusal names the field, says why and what to do, as the API server's own do."""
    response = await validate(review(GOOD | spec))
    assert response["allowed"] is False
    status = response["status"]
    assert (status["status"], status["code"], status["reason"]) == ("Failure", 422, "Invalid")
    (cause,) = status["details"]["causes"]
    assert cause["field"] == field
    assert words in cause["message"]
    assert status["message"] == f"{field}: {cause['message']}"
    assert (status["details"]["kind"], status["details"]["name"]) == ("OllamaModel", "m")


async def test_a_name_and_an_option_are_refused_at_once():
    """So that both are corrected at once."""
    response = await validate(review(GOOD | {"name": "a b", "interval": "1ms"}))
    causes = response["status"]["details"]["causes"]
    assert [cause["field"] for cause in causes] == ["spec.name", "spec.interval"]
    assert "; spec.interval: " in response["status"]["message"]


async def test_a_refusal_gives_nothing_away():
    """A password in a name, and whatever would drive a terminal, is not repeated; nor is much."""
    response = await validate(review(GOOD | {"name": "bob:hunter2@registry.example/x/y"}))
    assert response["allowed"] is False
    assert "hunter2" not in json.dumps(response)
    response = await validate(review(GOOD | {"interval": "\x1b[31m" + "9" * 5000}))
    assert response["allowed"] is False
    assert "\x1b" not in response["status"]["message"]
    assert len(json.dumps(response)) < 4000


async def test_an_object_without_what_is_required_is_refused():
    """An older schema may not ask for it."""
    response = await validate(review({"name": "llama3.2"}))
    (cause,) = response["status"]["details"]["causes"]
    assert (cause["field"], cause["message"]) == ("spec.tag", "is required")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("llama3.2", True),
        ("user/model", True),
        ("registry.ollama.ai/library/llama3.2", True),
        ("hf.co/Org/Model", True),
        ("HF.co/Org/Model", True),
        ("evil.example/hf/model", False),
        ("evil.example/a/model", False),
        ("hf.co:8443/Org/Model", False),
    ],
)
async def test_only_allowed_registries_pass(name, allowed):
    """Where none is named, all are."""
    registries = parse_registries("registry.ollama.ai, HF.co")
    response = await validate(review(GOOD | {"name": name}), registries=registries)
    assert response["allowed"] is allowed
    if not allowed:
        assert "take one of hf.co, registry.ollama.ai" in response["status"]["message"]
        assert "--allowed-registries" in response["status"]["message"]
    assert (await validate(review({"name": "any.example/a/b", "tag": "x"})))["allowed"] is True


# --- what passes, whatever it says

BAD = {"name": "a b", "tag": "c d", "interval": "1ms"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(review(BAD, old=dict(reversed(BAD.items())), operation="UPDATE"), id="same"),
        pytest.param(review(BAD, old=GOOD, operation="UPDATE", deleting=True), id="deleting"),
        pytest.param(review(BAD, old=GOOD, operation="UPDATE", subResource="status"), id="status"),
        pytest.param(review(None, old=BAD, operation="DELETE"), id="delete"),
        pytest.param(review(BAD, operation="CONNECT"), id="connect"),
        pytest.param(review(BAD, resource={"group": "", "resource": PLURAL}), id="group"),
        pytest.param(review(BAD, resource={"group": GROUP, "resource": "x"}), id="resource"),
    ],
)
@pytest.mark.parametrize("path", ["/validate", "/mutate"])
async def test_what_changes_no_spec_passes(path, body):
    """Finalizers, annotations and status can be written, and what is wrong can go."""
    response = await ask(path, body, registries=["none.example"])
    assert response == {"uid": "r-1", "allowed": True}


async def test_a_changed_spec_is_looked_at():
    """Also where it was wrong before."""
    for old in (GOOD, BAD | {"interval": "2ms"}):
        response = await validate(review(BAD, old=old, operation="UPDATE"))
        assert response["allowed"] is False
    response = await validate(review(GOOD, old=BAD, operation="UPDATE"))
    assert response["allowed"] is True


# --- warnings


@pytest.mark.parametrize(
    ("spec", "warns"),
    [
        ({"tag": "latest"}, True),
        ({"tag": "LATEST"}, True),
        ({"tag": "latest", "expectedDigest": "0" * 64}, False),
        ({"tag": "latest", "refreshInterval": "24h"}, False),
        ({}, False),
    ],
)
async def test_a_tag_that_moves_is_warned_of(spec, warns):
    """Unless the spec says what to do about it."""
    response = await validate(review(GOOD | spec))
    assert response["allowed"] is True
    assert ["latest moves" in each for each in response.get("warnings", [])] == [True] * warns


async def test_a_model_that_others_name_is_warned_of():
    """How many, and not which: they may be in somebody else's namespace."""
    asked = []

    def sharers(where, uid):
        asked.append((str(where.model), uid))
        return 2

    response = await validate(review(GOOD), sharers=sharers)
    assert response["allowed"] is True
    assert asked == [("llama3.2:1b", "u-1")]
    (warning,) = response["warnings"]
    assert warning.startswith("2 other OllamaModels name this model")


async def test_warnings_are_short():
    """Kubernetes asks for 120 characters at the most; the longest name has five hundred."""
    spec = {"name": f"{'h' * 350}/{'n' * 80}/{'m' * 80}", "tag": "latest"}
    response = await validate(review(spec), sharers=lambda *_: 3)
    assert len(response["warnings"]) == 2
    spec["name"] = f"{spec['name'].upper()}:latest"
    response["warnings"] += (await ask("/mutate", review(spec)))["warnings"]
    assert len(response["warnings"]) == 3
    assert max(map(len, response["warnings"])) == LONGEST_WARNING


# --- defaults


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"name": "llama3.2:1b"}, {"name": "llama3.2", "tag": "1b"}),
        ({"name": "llama3.2:1b", "tag": "1b"}, {"name": "llama3.2", "tag": "1b"}),
        ({"name": "llama3.2:1B", "tag": "1b"}, {"name": "llama3.2", "tag": "1b"}),
        ({"name": "llama3.2:1b", "tag": None}, {"name": "llama3.2", "tag": "1b"}),
        ({"name": "HF.co/Org/M:Q4"}, {"name": "hf.co/Org/M", "tag": "Q4"}),
        ({"name": "HOST:5000/Org/M", "tag": "x"}, {"name": "host:5000/Org/M", "tag": "x"}),
    ],
)
async def test_what_can_be_meant_in_one_way_only_is_written_in_that_way(before, after):
    """As a JSON patch, with a word about how to write it; done once, nothing is left to do."""
    response = await ask("/mutate", review(before))
    assert (response["allowed"], response["patchType"]) == (True, "JSONPatch")
    spec = dict(before)
    for step in json.loads(base64.b64decode(response["patch"])):
        assert step["op"] == "add"
        spec[re.fullmatch(r"/spec/(name|tag)", step["path"])[1]] = step["value"]
    assert spec == after
    (warning,) = response["warnings"]
    assert f"spec.name {after['name']} and spec.tag {after['tag']}" in warning
    assert await ask("/mutate", review(after)) == {"uid": "r-1", "allowed": True}


@pytest.mark.parametrize(
    "spec",
    [
        GOOD,
        {"name": "llama3.2"},  # the tag is for its author to choose
        {"name": "llama3.2:1b", "tag": "3b"},
        {"name": "llama3.2:1b", "tag": ""},
        {"name": "llama3.2:1b", "tag": 7},
        {"name": "Llama3.2", "tag": "1B"},  # a registry may care
        {"name": "Org/Model", "tag": "1B"},
        {"name": "HF.co/Or g/Model", "tag": "x"},
        {"name": "https://hf.co/Org/Model:x"},
        {"name": "localhost:5000/Org/Model"},
        {"name": ":1b"},
        {"name": ["llama3.2:1b"]},
        {},
        [],
        "llama3.2:1b",
    ],
)
async def test_what_is_not_clear_stays_as_it_is(spec):
    """So that it is refused as it was written, or not at all."""
    assert await ask("/mutate", review(spec)) == {"uid": "r-1", "allowed": True}


# --- HTTP


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
        b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"x"}}',
        msgspec.json.encode(review(GOOD) | {"kind": "Pod"}),
        msgspec.json.encode(review(GOOD)).replace(b'"1b"', b"[" * 5000 + b"]" * 5000),
    ],
)
async def test_what_cannot_be_read_is_answered_with_400(body):
    """And nothing breaks."""
    async with client() as api_server:
        answer = await api_server.post("/validate", content=body)
    assert answer.status_code in (400, 200)
    if answer.status_code == 200:
        assert answer.json()["response"]["allowed"] is False
    else:
        assert "AdmissionReview" in answer.text


async def test_other_paths_and_methods_are_told_where_to_go():
    """There is nothing else here."""
    async with client() as api_server:
        assert (await api_server.post("/")).status_code == 404
        answer = await api_server.get("/validate")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_body_is_read_up_to_a_limit():
    """No more is held in memory, whatever is sent."""
    whole = msgspec.json.encode(review(GOOD))
    async with client() as api_server:
        answer = await api_server.post("/validate", content=whole.ljust(MAX_REVIEW))
        assert answer.status_code == 200
        answer = await api_server.post("/validate", content=whole.ljust(MAX_REVIEW + 1))
        assert answer.status_code == 413
    sent, messages = 0, []

    async def receive() -> Object:
        nonlocal sent
        sent += 1 << 20
        return {"type": "http.request", "body": b" " * (1 << 20), "more_body": True}

    async def send(message: Object) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "POST", "path": "/validate", "headers": []}
    await Webhook(sharers=alone)(scope, receive, send)
    assert messages[0]["status"] == 413
    assert sent <= MAX_REVIEW + (2 << 20)


async def test_a_body_that_does_not_come_is_not_waited_for():
    """By then the API server has given up."""
    messages = []

    async def send(message: Object) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "POST", "path": "/validate", "headers": []}
    begun = anyio.current_time()
    await Webhook(sharers=alone)(scope, anyio.sleep_forever, send)
    assert messages[0]["status"] == 408
    assert anyio.current_time() - begun == pytest.approx(DEADLINE_S)


async def test_nobody_is_answered_who_has_gone():
    """There is nobody to read it."""

    async def receive() -> Object:
        return {"type": "http.disconnect"}

    async def send(message: Object) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/validate", "headers": []}
    await Webhook(sharers=alone)(scope, receive, send)


# --- the certificate


@pytest.fixture
def pair(tmp_path):
    """Return a function that puts another certificate into a folder."""

    def write(folder: Path) -> bytes:
        certificate, key = write_certificate(tmp_path, ("hook",))
        (folder / "tls.crt").write_bytes(certificate.read_bytes())
        (folder / "tls.key").write_bytes(key.read_bytes())
        key.unlink()
        return certificate.read_bytes()

    return write


async def test_a_folder_is_followed(tmp_path, pair):
    """What is changed is served from then on; what does not fit together is not, nor is nothing."""
    folder = tmp_path / "certs"
    folder.mkdir()
    first, certificate = pair(folder), Certificate()
    certificate.install_from(folder)
    assert certificate.loaded.is_set()
    assert presented(certificate) == first
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(certificate.follow, folder)
        await anyio.sleep(CERT_CHECK_S * 2)
        assert presented(certificate) == first
        key = (folder / "tls.key").read_bytes()
        second = pair(folder)
        (folder / "tls.key").write_bytes(key)
        await anyio.sleep(CERT_CHECK_S * 2)
        assert presented(certificate) == first
        (folder / "tls.key").unlink()
        await anyio.sleep(CERT_CHECK_S * 2)
        assert presented(certificate) == first
        third = pair(folder)
        await anyio.sleep(CERT_CHECK_S * 2)
        assert presented(certificate) == third != second
        tasks.cancel_scope.cancel()


def presented(certificate: Certificate) -> bytes:
    """Shake hands in memory; return the certificate that a client is shown, as PEM."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = near.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown).encode()


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_a_folder_without_a_certificate_is_refused(tmp_path, pair, missing):
    """At the start, with what to put there."""
    pair(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match="No such file") as caught:
        Certificate().install_from(tmp_path)
    assert missing in caught.value.hint
    (tmp_path / missing).write_text("junk")
    with pytest.raises(ConfigError, match="cannot be used"):
        Certificate().install_from(tmp_path)


# --- settings, manifests


@pytest.mark.parametrize(
    ("flags", "code", "error", "hint"),
    [
        (["--allowed-registries=hf.co"], 2, "kept by the webhook alone", "--webhook-bind-address="),
        (
            ["--webhook-bind-address=:0", "--allowed-registries=https://hf.co"],
            2,
            "'https://hf.co' is no registry",
            "write registry.ollama.ai,hf.co",
        ),
        (["--webhook-bind-address=:0"], 2, "Service is not known", "--webhook-service="),
        (["--webhook-service=hook"], 2, "'hook' is no Service", "write ollama-op-webhook."),
        (
            ["--webhook-bind-address=:0", "--webhook-cert-dir=/none"],
            1,
            "the certificate in /none cannot be read",
            "tls.crt and tls.key",
        ),
        (
            ["--webhook-bind-address=256.0.0.1:1", "--webhook-service=a.b"],
            1,
            "cannot listen on 256.0.0.1:1 for the webhook",
            "set --webhook-bind-address",
        ),
    ],
)
def test_what_cannot_be_served_is_refused(run, flags, code, error, hint):
    """Before anything begins: what is wrong, and which flag helps."""
    ended = run(*flags)
    said, helps = ended.error
    assert ended.code == code
    assert error in said
    assert hint in helps


def test_registries_without_a_webhook_are_a_mistake():
    """Nobody would keep to them."""
    wanted = WebhookSettings(allowed_registries=("hf.co",))
    with pytest.raises(UsageError, match="by the webhook alone") as caught:
        wanted.check()
    assert "--webhook-bind-address" in caught.value.hint
    WebhookSettings().check()


def test_the_service_is_that_of_the_pod(tmp_path, monkeypatch):
    """Outside a pod it has to be named."""
    address = Settings().health_probe_bind_address
    monkeypatch.setattr("ollama_op.base.settings.NAMESPACE_FILE", tmp_path / "namespace")
    with pytest.raises(UsageError, match="not known") as caught:
        WebhookSettings(bind_address=address).check()
    assert "--webhook-service=ollama-op-webhook.my-namespace" in caught.value.hint
    WebhookSettings(bind_address=address, cert_dir=tmp_path).check()
    (tmp_path / "namespace").write_text("ai\n")
    service = WebhookSettings(bind_address=address).named_service()
    assert service == Service("ollama-op-webhook", "ai")
    assert service.hosts[0] == "ollama-op-webhook.ai.svc"
    for bad in ("hook", "a.b.c", "A.b", "a.", "*.b"):
        with pytest.raises(ConfigError, match="no Service"):
            Service.parse(bad)


def test_the_manifests_are_about_what_the_operator_looks_for():
    """Names, paths and who is asked: nothing else would notice a slip before it is in a cluster."""
    hooks = {}
    for each in yaml.safe_load_all((CONFIG / "webhook/webhooks.yaml").read_text()):
        assert each["metadata"]["name"] == WEBHOOK_CONFIGURATION
        (hooks[each["kind"]],) = each["webhooks"]
    assert len(hooks) == 2
    service = yaml.safe_load((CONFIG / "webhook/service.yaml").read_text())
    secret = yaml.safe_load((CONFIG / "webhook/secret.yaml").read_text())
    assert (secret["metadata"]["name"], "data" in secret) == (WEBHOOK_SECRET, False)
    for hook in hooks.values():
        where = hook["clientConfig"]["service"]
        assert where["path"] in webhook.Webhook(sharers=alone)._decisions
        assert where["name"] == service["metadata"]["name"]
        assert where["namespace"] == service["metadata"]["namespace"]
        (rule,) = hook["rules"]
        assert rule["apiGroups"] == [GROUP]
        assert rule["resources"] == [PLURAL]
        assert rule["operations"] == ["CREATE", "UPDATE"]
        assert hook["timeoutSeconds"] <= DEADLINE_S
        assert (hook["failurePolicy"], hook["sideEffects"]) == ("Fail", "None")
