"""The REST API of an operator process on a real kube-apiserver, used as its clients do."""

import hashlib
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.kube.controlplane import ControlPlane
from support.ollama.registry import Faults, Registry
from support.ollama.server import OllamaServer
from support.process.child import READY_S, free_port
from support.process.operator import (
    COMMAND,
    RESOURCE,
    WITHIN_S,
    Models,
    Operator,
    bare,
    clear,
    wait_until,
)

pytestmark = pytest.mark.real

KEY, READER = "the-key-of-e2e", "the-reader-of-e2e"
MODELS = "/api/v1/models"


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    write_keys(path, READER)
    return path


def write_keys(path: Path, reader: str) -> None:
    digest = hashlib.sha256(reader.encode()).hexdigest()
    path.write_text(f"keys: [{{name: reader, sha256: {digest}, scopes: [read]}}]")


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module", autouse=True)
def operator(
    cluster: ControlPlane, ollama: OllamaServer, url: str, key_file: Path
) -> Iterator[Operator]:
    """Run one operator with a REST API for all these tests."""
    flags = [
        "--enable-api-server",
        f"--api-server-bind-address={url.removeprefix('http://')}",
        f"--api-server-key={KEY}",
        f"--api-server-key-file={key_file}",
        "--api-server-kubernetes-auth",
    ]
    with Operator(cluster.kubeconfig, ollama.url, *flags) as operator:
        wait_until(lambda: _is_ready(url), operator.tail)
        yield operator
        clear(cluster)
        assert operator.stop() == 0


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readiness", trust_env=False).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(autouse=True)
def _no_bugs(operator: Operator) -> Iterator[None]:
    yield
    assert operator.bugs() == []
    assert KEY not in operator.log.read_text()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"x-api-key": KEY}, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def models(cluster: ControlPlane) -> Models:
    return Models(cluster)


def parts(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Read events from a stream."""
    held = ""
    for chunk in answer.iter_text():
        *whole, held = (held + chunk).split("\n\n")
        for part in whole:
            lines = dict(line.split(": ", 1) for line in part.split("\n") if line[0] != ":")
            if "event" in lines:
                yield lines["event"], json.loads(lines["data"])


def test_a_model_is_asked_for_followed_and_let_go(client, registry: Registry, models: Models):
    """POST, live progress, Ready, refresh, DELETE: the whole life, with no kubectl."""
    registry.publish("rest-a", size=3_000_000)
    registry.set_faults("rest-a", Faults(rate=300_000))
    made = client.post(MODELS, json={"name": "rest-a", "tag": "latest"})
    assert (made.status_code, made.json()["name"]) == (201, "rest-a-latest")
    assert client.get(made.headers["location"]).status_code == 200
    with client.stream("GET", f"{made.headers['location']}/events", timeout=WITHIN_S) as answer:
        seen = []
        for _kind, data in parts(answer):
            seen.append(data)
            if data["ready"]:
                break
    assert [data for data in seen if data.get("progress", {}).get("percent", 0) > 0]
    assert models.get("rest-a-latest")["status"]["state"] == "Ready"
    assert client.post(f"{MODELS}/rest-a-latest/refresh").status_code == 202
    with client.stream("GET", f"{MODELS}/rest-a-latest/events", timeout=WITHIN_S) as answer:
        assert client.delete(f"{MODELS}/rest-a-latest").status_code == 204
        assert list(parts(answer))[-1][0] == "deleted"
    models.gone("rest-a-latest")


def test_what_kubectl_does_is_seen(client, models: Models):
    """And what the API does, kubectl sees: there is one truth."""
    models.apply("by-kubectl", "nothing-here:latest")
    wait_until(
        lambda: client.get(f"{MODELS}/by-kubectl").is_success, lambda: "the API does not see it"
    )
    assert client.post(f"{MODELS}/by-kubectl/suspend").json()["suspend"] is True
    assert models.get("by-kubectl")["spec"]["suspend"] is True
    plan = client.get("/api/v1/plan").json()
    assert "nothing-here:latest" in [line["model"] for line in plan["paused"]]


def test_the_real_api_server_judges(client):
    """Names that are taken, namespaces that are not there, dry runs, versions that have passed."""
    new = {"name": "rest-b", "tag": "latest", "suspend": True}
    dry = client.post(f"{MODELS}?dryRun=true", json=new)
    assert (dry.status_code, client.get(f"{MODELS}/rest-b-latest").status_code) == (200, 404)
    made = client.post(MODELS, json=new)
    assert client.post(MODELS, json=new).json()["title"] == "Model exists"
    nowhere = client.post(MODELS, json=new | {"namespace": "nowhere"})
    assert (nowhere.status_code, nowhere.json()["title"]) == (404, "Namespace not found")
    long = client.post(MODELS, json=new | {"resourceName": "a..b"})
    assert (long.status_code, long.json()["errors"][0]["field"]) == (422, "metadata.name")
    etag = {"if-match": made.headers["etag"]}
    one = f"{MODELS}/rest-b-latest"
    assert client.patch(one, json={"interval": "30s"}).json()["interval"] == "30s"
    assert client.patch(one, json={"interval": "9s"}, headers=etag).status_code == 412
    assert client.delete(one, headers=etag).status_code == 412
    assert client.delete(one).status_code == 204


def test_keys_and_tokens(client, cluster: ControlPlane, key_file: Path):
    """A key of the file is exchanged without a restart; a real token has its owner's rights."""

    def ask(method: str = "GET", path: str = MODELS, **headers: str) -> httpx.Response:
        with httpx.Client(base_url=client.base_url, trust_env=False) as bare_client:
            return bare_client.request(method, path, headers=headers)

    def code(method: str = "GET", path: str = MODELS, **headers: str) -> int:
        return ask(method, path, **headers).status_code

    key = {"X-API-Key": READER}
    assert (code(**key), code("DELETE", f"{MODELS}/x", **key), code()) == (200, 403, 401)
    write_keys(key_file, "another")
    wait_until(lambda: code(**{"X-API-Key": "another"}) == 200, lambda: "the new key is not taken")
    cluster.kubectl("create", "serviceaccount", "rest")
    cluster.kubectl("create", "role", "look", "--verb=get,list", f"--resource={RESOURCE}")
    cluster.kubectl("create", "rolebinding", "look", "--role=look", "--serviceaccount=default:rest")
    token = cluster.kubectl("create", "token", "rest").strip()
    bearer = {"Authorization": f"Bearer {token}"}
    # The API server hears of accounts and roles from itself, a moment later. Asked too early, its
    # "no" would be remembered for half a minute.
    account = "--as=system:serviceaccount:default:rest"
    may_list = ("auth", "can-i", "list", RESOURCE, account)
    wait_until(
        lambda: cluster.kubectl(*may_list, check=False) == "yes\n",
        lambda: "the API server does not count the role",
    )
    wait_until(
        lambda: code(path=f"{MODELS}?namespace=default", **bearer) == 200,
        lambda: ask(path=f"{MODELS}?namespace=default", **bearer).text,
    )
    assert code(**bearer) == 403
    assert code("DELETE", f"{MODELS}/x", **bearer) == 403
    assert code(Authorization="Bearer nonsense") == 401


def test_reads_go_on_without_kubernetes(client, cluster: ControlPlane):
    """Old, and saying so; writes ask to come back. Then all is as before."""
    client.post(MODELS, json={"name": "rest-c", "tag": "latest", "suspend": True})
    cluster.stop_apiserver()
    try:
        wait_until(lambda: "x-view-age" in client.get(MODELS).headers, lambda: "it does not age")
        assert client.get(f"{MODELS}/rest-c-latest").status_code == 200
        refused = client.delete(f"{MODELS}/rest-c-latest", timeout=WITHIN_S)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    finally:
        cluster.start_apiserver()
    wait_until(lambda: "x-view-age" not in client.get(MODELS).headers, lambda: "it stays old")
    assert client.delete(f"{MODELS}/rest-c-latest").status_code == 204


def test_before_kubernetes_is_reached_it_says_so(cluster: ControlPlane, ollama: OllamaServer):
    """Whoever asks is told to come back, and finds the models once they are known."""
    address = f"127.0.0.1:{free_port()}"
    flags = ["--enable-api-server", f"--api-server-bind-address={address}"]
    early = Operator(cluster.kubeconfig, ollama.url, *flags, probe="/healthz")
    cluster.stop_apiserver()
    with ExitStack() as stack:
        try:
            stack.enter_context(early)
            answer = httpx.get(f"http://{address}{MODELS}", trust_env=False)
        finally:
            cluster.start_apiserver()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["detail"] == "The operator has not reached Kubernetes yet."
        wait_until(lambda: _is_ready(f"http://{address}"), early.tail)
        assert httpx.get(f"http://{address}{MODELS}", trust_env=False).is_success
        assert early.bugs() == []
        assert early.stop() == 0


def test_a_client_that_does_not_read_holds_back_nobody(
    operator: Operator, client, url: str, models: Models
):
    """Neither other clients nor the operator; in the end it is hung up on, and nothing is wrong."""
    models.apply("noise", "nothing-here:latest")
    one = f"{MODELS}/noise"
    wait_until(lambda: client.get(one).is_success, lambda: "the API does not see it")
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        # The answers to this fill its buffers at once, and are read by nobody.
        head = f"Host: x\r\nX-API-Key: {KEY}\r\n\r\n"
        slow.sendall(b"".join([f"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n{head}".encode()]))
        slow.sendall(f"GET /api/v1/events HTTP/1.1\r\n{head}".encode())
        with client.stream("GET", f"{one}/events", timeout=WITHIN_S) as answer:
            events = parts(answer)
            next(events)
            for n in range(20):
                client.patch(one, json={"timeout": f"{n + 10}s"})
                while next(events)[1].get("timeout") != f"{n + 10}s":
                    pass
    assert operator.bugs() == []


def test_a_stream_does_not_hold_back_the_end(operator: Operator, client, url: str):
    """SIGTERM ends the streams in order, and then the process."""
    with client.stream("GET", "/api/v1/events", timeout=WITHIN_S) as answer:
        events = parts(answer)
        next(events)
        assert operator.stop() == 0  # killed, it would be another
        for _ in events:
            pass
    operator.start()
    wait_until(lambda: _is_ready(url), operator.tail)


def test_an_open_door_is_refused(cluster: ControlPlane, tmp_path: Path):
    """Exit code 2 and two lines, unless --api-server-insecure says so."""
    command = [COMMAND, "run", f"--kubeconfig={cluster.kubeconfig}", "--enable-api-server"]
    done = subprocess.run(
        [*command, f"--api-server-bind-address=:{free_port()}"],
        check=False,
        capture_output=True,
        text=True,
        env=bare(tmp_path),
        timeout=READY_S,
    )
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: the REST API at :")
    assert "--api-server-key-file" in hint
