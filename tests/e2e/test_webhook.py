"""The admission webhook, asked by a real kube-apiserver; and the policies that stand in for it."""

import base64
import datetime as dt
import hashlib
import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml
from cryptography import x509

from crd.v1alpha1 import FINALIZER
from ollama_op.admission.certificates import AUTHORITY_LIFE, AUTHORITY_SPARE, CertBundle, renewed
from ollama_op.admission.trust import ADMISSION_GROUP, WEBHOOK_KINDS
from ollama_op.base.parsing import Service
from ollama_op.base.rights import WEBHOOK_CONFIGURATION, WEBHOOK_SECRET, Right, rights
from support.kube.certificate import write_certificate
from support.kube.controlplane import ControlPlane, KubectlError, controlplane
from support.kube.manifests import CONFIG, NAMESPACE, rendered
from support.process.child import free_port
from support.process.operator import (
    COMMAND,
    RESOURCE,
    Models,
    Operator,
    apply_crd,
    bare,
    wait_until,
)
from support.virtual.door import (
    BAD,
    ONLY_THE_WEBHOOK_KNOWS,
    body,
    create,
    hooks_at,
    put,
    refusal_over_rest,
)

pytestmark = pytest.mark.real

NOWHERE = "http://127.0.0.1:9"  # an Ollama that is never there: none of this needs one
SERVICE = f"ollama-op-webhook.{NAMESPACE}"
DUE_IN_S = 60  # long enough for an operator to start and take what there is for good


class Hooked:
    """A cluster with a webhook at `port` of this machine instead of a Service."""

    def __init__(self, cluster: ControlPlane) -> None:
        self.cluster, self.port = cluster, free_port()
        cluster.kubectl("create", "namespace", NAMESPACE)
        cluster.kubectl("create", "serviceaccount", "operator")
        token = cluster.kubectl("create", "token", "operator", "--duration=1h").strip()
        self.account = cluster.kubeconfig_for("operator", token)
        for right in rights(rest_api=True, webhook=NAMESPACE):
            self._grant(right)
        self.apply()

    def apply(self) -> None:
        """Apply config/webhook, but for where it is."""
        put(self.cluster, hooks_at(self.port, rendered("webhook")))

    def operator(self, *flags: str, port: int | None = None) -> Operator:
        """Make an operator with no other rights than it asks for."""
        return Operator(
            self.account,
            NOWHERE,
            f"--webhook-bind-address=127.0.0.1:{port or self.port}",
            *flags,
        )

    def secret(self) -> dict[str, bytes]:
        """Return what the Secret holds."""
        data = self.cluster.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{WEBHOOK_SECRET}")
        return {key: base64.b64decode(value) for key, value in data.get("data", {}).items()}

    def hold(self, held: CertBundle) -> None:
        """Put certificates into the Secret."""
        data = {
            "ca.crt": held.authorities,
            "ca.key": held.authority_key,
            "tls.crt": held.certificate,
            "tls.key": held.key,
        }
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        patch = json.dumps({"data": encoded})
        self.cluster.kubectl("-n", NAMESPACE, "patch", "secret", WEBHOOK_SECRET, "--patch", patch)

    def bundles(self) -> list[bytes]:
        """Return what the API server trusts when it calls each webhook."""
        paths = [
            f"/apis/{ADMISSION_GROUP}/{plural}/{WEBHOOK_CONFIGURATION}" for plural in WEBHOOK_KINDS
        ]
        hooks = [hook for path in paths for hook in self.cluster.get(path)["webhooks"]]
        return [base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in hooks]

    def _grant(self, right: Right) -> None:
        plural, slash, part = right.resource.partition("/")
        name = hashlib.sha256(repr(right).encode()).hexdigest()[:12]
        rule = [f"--verb={right.verb}", f"--resource={plural}.{right.group}{slash}{part}"]
        rule += [f"--resource-name={right.name}"] if right.name else []
        where = [f"--namespace={right.namespace}"] if right.namespace else []
        role, kind = ("role", "--role") if where else ("clusterrole", "--clusterrole")
        self.cluster.kubectl("create", role, name, *rule, *where)
        bound = [f"{kind}={name}", "--serviceaccount=default:operator"]
        self.cluster.kubectl("create", f"{role}binding", name, *bound, *where)


@pytest.fixture(scope="module")
def hooked() -> Iterator[Hooked]:
    """Run a Kubernetes API of its own: what a webhook refuses must not be another test's."""
    with controlplane() as cluster:
        apply_crd(cluster, CONFIG / "crd")
        yield Hooked(cluster)


@contextmanager
def running(operator: Operator) -> Iterator[Operator]:
    """Run an operator, and see that it did no wrong."""
    with operator:
        yield operator
        assert operator.bugs() == []
        assert operator.stop() == 0


def served(port: int) -> bytes:
    """Return the certificate that new connections get."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))


def test_what_is_refused_defaulted_and_warned_of(hooked: Hooked) -> None:
    """The operator makes its certificates and has them trusted; then kubectl hears its words."""
    models = Models(hooked.cluster, "ai")
    with running(
        hooked.operator(
            f"--webhook-service={SERVICE}", "--allowed-registries=hf.co,registry.ollama.ai"
        )
    ):
        assert sorted(hooked.secret()) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]
        assert hooked.bundles() == [hooked.secret()["ca.crt"]] * 2

        for spec, field, words in [*BAD, ONLY_THE_WEBHOOK_KNOWS]:
            said = create(models, "bad", **spec)
            assert f'The OllamaModel "bad" is invalid: {field}: ' in said
            assert words in said
        assert not models.exists("bad")

        said = create(models, "good")
        assert said == "ollamamodel.ollama.smithforge.dev/good created\n"

        said = create(models, "tagged", name="HF.co/Org/Model:Q4", tag=None)
        assert (
            "Warning: taken as spec.name hf.co/Org/Model and spec.tag Q4; better write it" in said
        )
        spec = models.get("tagged")["spec"]
        assert (spec["name"], spec["tag"]) == ("hf.co/Org/Model", "Q4")

        said = create(models, "moving", name="LLAMA3.2", tag="latest")
        assert "Warning: spec.tag: latest moves; expectedDigest would pin it" in said
        assert models.get("moving")["spec"]["name"] == "LLAMA3.2"
        wait_until(
            lambda: (
                "1 other OllamaModel names this model" in create(models, "x", "--dry-run=server")
            ),
            lambda: create(models, "x", "--dry-run=server"),
        )

        # What is applied again as it was written has not changed; what has, is judged anew.
        for _ in range(2):
            written = body("applied", name="llama3.2:1b", tag=None)
            models.kubectl("apply", "-f", "-", input=written)
        assert models.get("applied")["metadata"]["generation"] == 1
        with pytest.raises(KubectlError, match=r"spec\.interval: '5ms' is too short"):
            models.kubectl(
                "patch", RESOURCE, "good", "--type=merge", "-p", '{"spec":{"interval":"5ms"}}'
            )


def test_the_rest_api_hears_the_same(hooked: Hooked) -> None:
    """As a problem with its field; the doctor finds that nothing is missing for any of it."""
    flags = (f"--webhook-service={SERVICE}", "--allowed-registries=hf.co")
    rest = f"127.0.0.1:{free_port()}"
    with running(
        hooked.operator(*flags, "--enable-api-server", f"--api-server-bind-address={rest}")
    ):
        refused = refusal_over_rest(rest)
    assert "evil.example are not allowed here; take one of hf.co" in refused

    done = subprocess.run(
        [
            COMMAND,
            "doctor",
            f"--kubeconfig={hooked.account}",
            "--output=json",
            "--webhook-bind-address=:9443",
            f"--webhook-service={SERVICE}",
        ],
        check=False,
        capture_output=True,
        env=bare(hooked.cluster.folder),
    )
    levels = {each["check"]: each["level"] for each in json.loads(done.stdout)["checks"]}
    assert levels["rights"] == "ok"


def test_without_the_operator_nothing_new_gets_in_and_all_else_goes_on(hooked: Hooked) -> None:
    """Quickly, too: a connection is refused, and so nobody waits for an answer that never comes."""
    models = Models(hooked.cluster, "dead")
    with running(hooked.operator(f"--webhook-service={SERVICE}")):
        for name in ("free", "held", "kept"):
            create(models, name)
            models.until(name, lambda status: status.get("conditions"))

    said = create(models, "new")
    assert "failed calling webhook" in said
    assert "connection refused" in said
    said = models.kubectl(
        "patch", RESOURCE, "kept", "--type=merge", "-p", '{"spec":{"tag":"3b"}}', check=False
    )
    assert "failed calling webhook" in said
    assert "connection refused" in said

    models.kubectl("label", RESOURCE, "kept", "a=b")
    models.kubectl("annotate", RESOURCE, "kept", "a=b")
    patch = '{"status":{"error":"still written"}}'
    models.kubectl("patch", RESOURCE, "kept", "--subresource=status", "--type=merge", "-p", patch)
    assert models.get("kept")["status"]["error"] == "still written"
    no_finalizers = ("--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
    models.kubectl("patch", RESOURCE, "free", *no_finalizers)
    models.delete("free", "held")
    assert not models.exists("free")
    assert models.get("held")["metadata"]["finalizers"] == [FINALIZER]
    models.kubectl("patch", RESOURCE, "held", *no_finalizers)
    assert not models.exists("held")
    # Nor does a spec stand in the way of what is about to go.
    models.delete("kept")
    models.kubectl("patch", RESOURCE, "kept", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    models.kubectl("patch", RESOURCE, "kept", *no_finalizers)
    assert not models.exists("kept")


def test_an_authority_is_replaced_without_a_gap(hooked: Hooked) -> None:
    """Objects are let in all the while; two replicas agree, and end with the same certificate."""
    models, hosts = Models(hooked.cluster, "rotation"), Service.parse(SERVICE).hosts
    now = dt.datetime.now(dt.UTC)
    aged = renewed(
        None, hosts, now - AUTHORITY_LIFE + AUTHORITY_SPARE + dt.timedelta(seconds=DUE_IN_S)
    )
    aged = renewed(aged, hosts, now)
    hooked.hold(aged)
    first, second = hooked.port, free_port()
    flag = f"--webhook-service={SERVICE}"
    with running(hooked.operator(flag)), running(hooked.operator(flag, port=second)):
        before = served(first)
        assert hooked.secret()["ca.crt"] == aged.authorities

        def is_done() -> bool:
            said = create(models, "probe", "--dry-run=server")
            assert "created (server dry run)" in said
            return before not in (served(first), served(second))

        wait_until(is_done, lambda: "still the old certificate")
        assert served(first) == served(second)
        after = hooked.secret()
        assert after["ca.crt"].endswith(aged.authorities)
        assert len(x509.load_pem_x509_certificates(after["ca.crt"])) == 2
        assert hooked.bundles() == [after["ca.crt"]] * 2
        assert is_done()


def test_a_certificate_from_elsewhere_is_read_again_when_it_changes(hooked, tmp_path) -> None:
    """As cert-manager and the kubelet would have it; the operator then touches no configuration."""
    bundles = hooked.bundles()
    folder = tmp_path / "certs"
    folder.mkdir()

    def renew() -> bytes:
        certificate, key = write_certificate(tmp_path, (SERVICE,))
        (folder / "tls.crt").write_bytes(certificate.read_bytes())
        (folder / "tls.key").write_bytes(key.read_bytes())
        key.unlink()
        return ssl.PEM_cert_to_DER_cert(certificate.read_text())

    first = renew()
    with running(hooked.operator(f"--webhook-cert-dir={folder}")):
        assert served(hooked.port) == first
        second = renew()
        wait_until(lambda: served(hooked.port) == second, lambda: "still the old certificate")
    assert hooked.bundles() == bundles


def test_the_policies_refuse_the_same_without_a_webhook() -> None:
    """But for what only a calendar knows; and they warn of a tag that moves."""
    with controlplane() as cluster:
        apply_crd(cluster, CONFIG / "crd")
        models = Models(cluster, "ai")
        create(models, "before", interval="1ms")
        objects = list(yaml.safe_load_all(cluster.kubectl("kustomize", CONFIG / "policy")))
        for each in objects:
            for variable in each["spec"].get("variables", ()):
                if variable["name"] == "allowedRegistries":
                    variable["expression"] = "['registry.ollama.ai', 'hf.co']"
        cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))
        wait_until(
            lambda: "denied request" in create(models, "bad", "--dry-run=server", name="a b"),
            lambda: "the policy is not in force",
        )
        for spec, field, _ in BAD:
            said = create(models, "bad", **spec)
            assert "ValidatingAdmissionPolicy 'ollama-op-models'" in said
            assert f"denied request: {field}: " in said
        for spec in (
            {},
            {"name": "hf.co/Org/Model", "tag": "Q4_K_M", "keepAlive": "-1"},
            {"name": "user/model", "interval": "1.5s", "timeout": "2h30m"},
            {
                "refreshInterval": "24h",
                "refreshWindow": {"schedule": "0  2 * * 6", "duration": "4h"},
            },
        ):
            said = create(models, "good", "--dry-run=server", **spec)
            assert said == "ollamamodel.ollama.smithforge.dev/good created (server dry run)\n"
        assert "latest moves" in create(models, "good", "--dry-run=server", tag="latest")

        # An object of before that is wrong can still be labelled, and go.
        models.kubectl("label", RESOURCE, "before", "a=b")
        with pytest.raises(KubectlError, match=r"spec\.interval"):
            models.kubectl(
                "patch", RESOURCE, "before", "--type=merge", "-p", '{"spec":{"tag":"x"}}'
            )
        models.delete("before")
        models.gone("before")
        for policy in ("ollama-op-models", "ollama-op-advice"):
            path = f"/apis/{ADMISSION_GROUP}/validatingadmissionpolicies/{policy}"
            assert "expressionWarnings" not in cluster.get(path).get("status", {}).get(
                "typeChecking", {}
            )
