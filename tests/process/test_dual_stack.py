"""Where it listens: for IPv6 and IPv4, in networks that have both, or only one of them."""

import errno
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from ollama_op.base.parsing import Address
from ollama_op.base.serve import serve
from support.kube.certificate import write_certificate
from support.process.child import closed_port
from support.virtual.commandline import KUBECONFIG

# Runs `ollama-op run` and asks each of its servers by each of the addresses.
PROBE = """
import json, ssl, subprocess, sys, time, urllib.request
command, addresses = sys.argv[2:], sys.argv[1].split(",")
trusting = ssl._create_unverified_context()
direct = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
)
def ask(url):
    for _ in range(300):
        try:
            return direct.open(url, timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError as error:
            last = repr(error)
            time.sleep(0.1)
    return last
child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
urls = ("http://%s:8081/healthz", "http://%s:8080/metrics", "http://%s:8082/health",
        "https://%s:9443/nothing")
try:
    print(json.dumps({a: [ask(url % a) for url in urls] for a in addresses}))
finally:
    child.terminate()
    sys.stderr.write(child.communicate(timeout=20)[1])
"""
ONLY_IPV6 = "ip addr del 127.0.0.1/8 dev lo"
ONLY_IPV4 = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """Return the command that runs another in a network namespace of its own."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("util-linux' unshare and iproute2's ip are not both here")
    command = ["unshare", "--map-root-user", "--net"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no network namespace may be made here: {tried.stderr.strip()}")
    return command


@pytest.mark.parametrize(
    ("only", "addresses"),
    [(":", ["[::1]", "127.0.0.1"]), (ONLY_IPV6, ["[::1]"]), (ONLY_IPV4, ["127.0.0.1"])],
    ids=["both", "IPv6 only", "IPv4 only"],
)
def test_every_server_is_there_in_every_network(namespace, tmp_path, only, addresses):
    """Probes, metrics, REST and webhook, at their usual addresses."""
    certificate, key = write_certificate(tmp_path, ("localhost",))
    certificate.rename(tmp_path / "tls.crt")
    key.rename(tmp_path / "tls.key")
    config = tmp_path / "kubeconfig"
    config.write_text(KUBECONFIG)
    command = [Path(sys.executable).with_name("ollama-op"), "run", f"--kubeconfig={config}"]
    command += ["--metrics-bind-address=:8080", "--webhook-bind-address=:9443"]
    command += ["--enable-api-server", "--api-server-insecure", f"--webhook-cert-dir={tmp_path}"]
    probe = [sys.executable, "-c", PROBE, ",".join(addresses), *map(str, command)]
    setting_up = f'ip link set lo up && {only} && exec "$@"'
    done = subprocess.run(
        [*namespace, "sh", "-c", setting_up, "sh", *probe],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path)},
    )
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == {each: [200, 200, 200, 404] for each in addresses}


def test_a_port_that_is_taken_in_one_of_them_is_taken():
    """Half a server would be found out late."""
    with closed_port() as port, pytest.raises(OSError, match="in use"):
        Address("", port).bind()


def test_where_there_is_no_ipv6_it_is_ipv4(monkeypatch):
    """Kernels are started without it now and then."""
    create = socket.create_server

    def without(place: tuple[str, int], *, family: int = socket.AF_INET, **how: bool):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(place, family=family, **how)

    monkeypatch.setattr(socket, "create_server", without)
    with Address("", 0).bind() as sock:
        assert sock.family == socket.AF_INET
    with pytest.raises(OSError, match="not supported"):
        Address("::", 0).bind()


@pytest.fixture
def anyio_backend() -> str:
    """Sockets are real, and so is time."""
    return "asyncio"


@pytest.fixture
async def seen() -> AsyncGenerator[tuple[int, list[str]]]:
    """Serve, behind trusted proxies at 127.0.0.1, what notes the addresses of its clients."""
    clients: list[str] = []

    async def app(scope, _receive, send) -> None:
        clients.append(scope["client"][0])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sock = Address("", 0).bind()
    async with anyio.create_task_group() as tasks:
        port = sock.getsockname()[1]

        async def run(*, task_status) -> None:
            await serve(app, sock, trusted_proxies=["127.0.0.0/8"], task_status=task_status)

        await tasks.start(run)
        yield port, clients
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("forwarded", "client"), [("", "127.0.0.1"), ("192.0.2.7", "192.0.2.7")])
async def test_a_client_has_the_address_by_which_it_is_listed(seen, forwarded, client):
    """IPv4 as IPv4, so that it is counted, and trusted, as such."""
    port, clients = seen
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        head = f"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {forwarded}\r\n\r\n"
        await stream.send(head.encode())
        assert (await stream.receive()).startswith(b"HTTP/1.1 204 ")
    assert clients == [client]
