"""Whatever is wrong from outside, the operator says it in a line, and what is right goes on."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crd.v1alpha1 import FORCE_DELETE
from support.kube.controlplane import ControlPlane, KubectlError, controlplane
from support.ollama.registry import Registry
from support.ollama.server import OllamaServer
from support.process.child import READY_S, closed_port, free_port
from support.process.operator import (
    COMMAND,
    Models,
    Operator,
    apply_crd,
    bare,
    condition,
    reason,
    wait_until,
)

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"  # noqa: S105 - it is here to be looked for
FAILED, USAGE = 1, 2  # exit codes
NOWHERE = "http://127.0.0.1:9"  # an Ollama that is never asked


def refused(folder: Path, *flags: str, **environment: str) -> tuple[int, str, str]:
    """Run an operator that cannot start; return exit code, error and hint: all that it says."""
    done = subprocess.run(
        [COMMAND, "run", *flags],
        check=False,
        capture_output=True,
        text=True,
        env=bare(folder) | environment,
        timeout=READY_S,
    )
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    return done.returncode, error.removeprefix("error: "), hint.removeprefix("hint: ")


def kubeconfig(folder: Path, **changes: Any) -> Path:
    """Write a kubeconfig for a server that nobody is; `changes` replace its parts."""
    cluster = {"server": f"https://127.0.0.1:{free_port()}", "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster | changes.pop("cluster", {})}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config | changes))
    return path


# What it cannot start with


@pytest.mark.parametrize(
    ("flags", "says", "helps"),
    [
        (["--nonsense"], "unknown flag --nonsense", "ollama-op run --help"),
        (["--max-concurrent-pull=4"], "--max-concurrent-pull", "--max-concurrent-pulls?"),
        (["--max-concurrent-pulls=0"], "--max-concurrent-pulls", "write a number"),
        (["--health-interval=never"], "--health-interval: 'never' is no duration", "90s"),
        (["--health-interval=-5s"], "--health-interval: '-5s' is no time to wait", "90s"),
        (["--stall-timeout=5"], "--stall-timeout: '5' has no unit", "5m"),
        (["--health-probe-bind-address=here"], "'here' is no address", ":8081"),
        (["--ollama-api-url=ftp://ollama"], "the Ollama URL is no http", "http://ollama:11434"),
        (["--leader-elect=maybe"], "'maybe' is neither true nor false", "true or false"),
    ],
)
def test_a_bad_flag_is_refused(tmp_path, flags, says, helps) -> None:
    """One line says which flag and why, another what to write."""
    code, error, hint = refused(tmp_path, *flags)
    assert code == USAGE
    assert says in error
    assert helps in hint


def test_a_bad_environment_variable_is_refused(tmp_path) -> None:
    """A setting from the environment is read as strictly as a flag."""
    code, error, _ = refused(tmp_path, OLLAMA_OP_STALL_TIMEOUT="soon")
    assert code == USAGE
    assert "'soon' is no duration" in error


@pytest.mark.parametrize(
    "url", [f"http://bob:{SECRET}@ollama", f"http://bob:{SECRET}@o x:y", f"bob:{SECRET}@ollama"]
)
@pytest.mark.parametrize("source", ["flag", "environment"])
def test_an_ollama_url_with_credentials_is_refused(tmp_path, url, source) -> None:
    """Process lists and manifests are no place for a password, nor is the error."""
    if source == "flag":
        code, error, hint = refused(tmp_path, f"--ollama-api-url={url}")
    else:
        code, error, hint = refused(tmp_path, OLLAMA_OP_OLLAMA_API_URL=url)
    assert code == USAGE
    assert "Ollama URL" in error
    assert SECRET not in error + hint


def test_a_missing_kubeconfig_is_refused(tmp_path) -> None:
    """The error names the path, and the hint what works without a cluster."""
    code, error, hint = refused(tmp_path, f"--kubeconfig={tmp_path}/none")
    assert code == FAILED
    assert f"no kubeconfig at {tmp_path}/none" in error
    assert "ollama-op demo" in hint


def test_no_kubeconfig_at_all_is_refused(tmp_path) -> None:
    """Without a flag, the error says where it looked."""
    code, error, _ = refused(tmp_path)
    assert code == FAILED
    assert "no kubeconfig at ~/.kube/config" in error


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{{{{", id="no-yaml"),
        pytest.param(b"\x00\xff\xfe", id="binary"),
        pytest.param(b"", id="empty"),
        pytest.param(b"just: words", id="something-else"),
    ],
)
def test_a_garbage_kubeconfig_is_refused(tmp_path, content) -> None:
    """A file that is no kubeconfig is named."""
    path = tmp_path / "config"
    path.write_bytes(content)
    code, error, _ = refused(tmp_path, f"--kubeconfig={path}")
    assert code == FAILED
    assert f"the kubeconfig {path}" in error


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        pytest.param({"current-context": "elsewhere"}, "elsewhere", id="context"),
        pytest.param({"clusters": []}, "c", id="cluster"),
        pytest.param({"users": []}, "u", id="user"),
        pytest.param({"contexts": None}, "x", id="no-contexts"),
        pytest.param({"contexts": [{"name": "x"}]}, "x", id="hollow-context"),
        pytest.param(
            {"cluster": {"certificate-authority": "/none/ca.crt"}},
            "certificate authority and insecure-skip-tls-verify",
            id="file",
        ),
    ],
)
def test_a_kubeconfig_with_a_hole_is_refused(tmp_path, changes, missing) -> None:
    """A kubeconfig that names what is not there is as useless as none; the error names it."""
    code, error, _ = refused(tmp_path, f"--kubeconfig={kubeconfig(tmp_path, **changes)}")
    assert code == FAILED
    assert str(tmp_path) in error
    assert missing in error.replace(str(tmp_path), "")


def test_a_busy_probe_port_is_refused(tmp_path) -> None:
    """Two operators on one machine are told apart by the flag that the hint names."""
    config = kubeconfig(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        code, error, hint = refused(
            tmp_path, f"--kubeconfig={config}", f"--health-probe-bind-address={address}"
        )
    assert code == FAILED
    assert f"cannot listen on {address}" in error
    assert "in use" in error
    assert "--health-probe-bind-address" in hint


def test_a_probe_address_that_is_none_is_refused(tmp_path) -> None:
    """A host that cannot be resolved is said to be one."""
    config = kubeconfig(tmp_path)
    _, error, hint = refused(
        tmp_path, f"--kubeconfig={config}", "--health-probe-bind-address=256.0.0.1:8081"
    )
    assert "256.0.0.1" in error
    assert "Unknown error" not in error
    assert "--health-probe-bind-address" in hint


# What it waits for


def test_an_unreachable_cluster_is_waited_for(tmp_path) -> None:
    """It tries ever more slowly, says so in one line each, and SIGTERM still ends it."""
    with Operator(kubeconfig(tmp_path), NOWHERE, probe="/healthz") as operator:
        wait_until(lambda: len(_warnings(operator)) >= 3, operator.tail)
        assert operator.stop() == 0
        warnings = _warnings(operator)

    waits = [line["retry_in_s"] for line in warnings]
    assert waits == sorted(waits)
    assert waits[-1] > waits[0]
    assert all("refused the connection" in line["problem"] for line in warnings)
    assert SECRET not in str(warnings)


def test_a_silent_cluster_is_no_reason_to_be_silent(tmp_path) -> None:
    """A server that takes the connection and never answers is told like one that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = f"https://127.0.0.1:{mute.getsockname()[1]}"
        config = kubeconfig(tmp_path, cluster={"server": server})
        with Operator(config, NOWHERE, probe="/healthz") as operator:
            wait_until(lambda: _warnings(operator), operator.tail)
            assert operator.stop() == 0
            (warning, *_) = _warnings(operator)
            assert "does not answer" in warning["problem"]


@pytest.mark.real
def test_a_missing_crd_is_asked_for(registry, ollama) -> None:
    """It says which command is missing, and begins as soon as that was run."""
    registry.publish("latecomer", seed=200)
    with (
        controlplane() as cluster,
        Operator(cluster.kubeconfig, ollama.url, probe="/healthz") as operator,
    ):
        wait_until(lambda: _hints(operator), operator.tail)
        assert any("kubectl apply -k config/crd" in hint for hint in _hints(operator))

        apply_crd(cluster, ROOT / "config" / "crd")
        models = Models(cluster)
        models.apply("latecomer", "latecomer:latest")
        models.ready("latecomer")
        models.clear()
        assert operator.stop() == 0
        assert operator.bugs() == []


@pytest.mark.real
def test_an_absent_ollama_is_said_in_the_status(cluster) -> None:
    """The operator is ready without Ollama; the object says what it waits for, and can go."""
    models = Models(cluster, "without-ollama")
    with (
        closed_port() as port,
        Operator(
            cluster.kubeconfig, url := f"http://127.0.0.1:{port}", "--namespace=without-ollama"
        ) as operator,
    ):
        models.apply("lonely", "lonely:latest")
        status = models.until("lonely", lambda status: reason(status) == "OllamaUnreachable")
        assert status["state"] == "Pending"
        assert f"{url} refused the connection" in status["error"]

        models.delete("lonely")
        status = models.until("lonely", lambda status: reason(status) == "DeletionBlocked")
        assert f"{FORCE_DELETE}=true" in status["error"]
        models.annotate("lonely", "force-delete", "true")
        models.gone("lonely")
        assert operator.bugs() == []


def _warnings(operator: Operator) -> list[dict[str, Any]]:
    """Return the warnings so far; nothing else is written but that it starts, listens and stops."""
    usual = ("starting", "serving health probes", "stopping")
    lines = [line for line in operator.logs() if line["msg"] not in usual]
    assert {line["level"] for line in lines} <= {"warning"}
    return lines


def _hints(operator: Operator) -> list[str]:
    return [line["hint"] for line in operator.logs() if "hint" in line]


# What is in the objects


@pytest.fixture(scope="module")
def operator(cluster: ControlPlane, ollama: OllamaServer, registry: Registry) -> Iterator[Operator]:
    """Run one operator for the objects of all these tests, next to a healthy one."""
    registry.publish("healthy", seed=201)
    with Operator(cluster.kubeconfig, ollama.url, "--namespace=bad-input") as operator:
        models = Models(cluster, "bad-input")
        models.apply("healthy", "healthy:latest")
        models.ready("healthy")
        yield operator
        models.clear()
        assert operator.stop() == 0


@pytest.fixture
def models(cluster: ControlPlane, operator: Operator) -> Iterator[Models]:
    """Use the operator's namespace; whatever a test puts there, nobody else suffers."""
    models = Models(cluster, "bad-input")
    before = models.get("healthy")
    yield models
    after = models.get("healthy")
    assert before["status"]["conditions"] == after["status"]["conditions"]
    assert operator.pid
    assert operator.bugs() == []
    # The watch is alive, and what comes next is served.
    models.apply("next", "healthy:latest")
    models.ready("next")
    models.remove("next")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "model", "says"),
    [
        ("with-space", "not a name:latest", "' '"),
        ("with-dots", "../../etc/passwd:latest", "4 parts"),
        ("with-scheme", "https://hf.co/org/model:latest", "URL"),
        ("with-two-tags", "llama3:8b:latest", "tag"),
        ("with-control", "bad\x01name:latest", r"'\x01'"),
        ("with-newline", "bad\nname:latest", r"'\n'"),
        ("with-nel", "bad\x85name:latest", r"'\x85'"),
        ("with-emoji", "\N{PILE OF POO}:latest", r"'\U0001f4a9'"),
    ],
)
def test_an_illegal_name_is_said_in_the_status(models, ollama, name, model, says) -> None:
    """The object's own status says what is wrong with its name; Ollama is never asked for it."""
    before = ollama.digests()
    models.apply(name, model)
    status = models.until(name, lambda status: condition(status, "Stalled") == "True")
    assert (status["state"], reason(status)) == ("Failed", "InvalidName")
    assert says in status["error"]
    assert condition(status, "Ready") == "False"
    models.remove(name)
    assert before == ollama.digests()


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nel", "line\x85line\u2028line\u2029line"),  # some take these for ends of lines
        ("escape", "\x1b[31mred\x00"),
        ("json", '{"type":"DELETED"}\n{"type":'),
        ("long", "x" * 200 * 1024),
    ],
)
def test_any_annotation_that_kubernetes_takes_does_no_harm(models, ollama, name, value) -> None:
    """What a tenant writes into an annotation is nobody else's trouble, and not its own either."""
    models.apply(f"note-{name}", "healthy:latest", "create", note=value)
    models.ready(f"note-{name}")
    models.remove(f"note-{name}")
    assert "healthy:latest" in ollama.digests()


@pytest.mark.real
def test_an_annotation_of_a_megabyte_is_kubernetes_own_to_refuse(models) -> None:
    """It never reaches the operator."""
    with pytest.raises(KubectlError, match="may not be more than 262144 bytes"):
        models.apply("huge", "healthy:latest", "create", note="x" * 1_000_000)
    assert not models.exists("huge")


@pytest.mark.real
def test_two_objects_of_one_model_are_both_ready(models, ollama, registry) -> None:
    """However it is written, one model is downloaded once and kept while anybody names it."""
    registry.forget_requests()
    models.apply("one", "healthy:latest")
    models.apply("other", "library/HEALTHY:Latest")
    models.ready("one", "other")
    assert registry.count("manifests") == 0
    models.remove("one", "other")
    assert "healthy:latest" in ollama.digests()


@pytest.mark.real
def test_a_spec_that_the_schema_forbids_never_gets_in(models) -> None:
    """The API server says which fields are wrong."""
    body = {
        "apiVersion": "ollama.smithforge.dev/v1alpha1",
        "kind": "OllamaModel",
        "metadata": {"name": "hollow"},
        "spec": {"name": ""},
    }
    with pytest.raises(KubectlError, match=r"(?s)spec\.tag.*spec\.name|spec\.name.*spec\.tag"):
        models.kubectl("apply", "-f", "-", input=json.dumps(body))
