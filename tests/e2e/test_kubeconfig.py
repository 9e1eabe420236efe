"""Each row of docs/kubeconfig.md, beside the real kubectl on a real kube-apiserver."""

import base64
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from ollama_op.base.parsing import ConfigError
from ollama_op.kube import login
from ollama_op.kube.client import KubeClient
from ollama_op.kube.login import Login
from support.kube.certificate import write_certificate, write_client
from support.kube.controlplane import ADMIN_TOKEN, controlplane
from support.kube.kubeconfigs import FAILED, Bench, Object, whoami
from support.kube.plugin import FakePlugin
from support.kube.tokens import expiring_tokens
from support.ollama.tunnel import proxy
from support.process.child import READY_S, closed_port
from support.process.operator import wait_until

pytestmark = pytest.mark.real

DOCS = Path(__file__).parents[2] / "docs" / "kubeconfig.md"
BOB = "bobs-token"


@pytest.fixture(scope="module")
def bench_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Run a cluster that knows tokens, short-lived tokens, and certificates of a CA of its own."""
    folder = tmp_path_factory.mktemp("kubeconfigs")
    authority, key = write_certificate(folder, ("tests",))
    clients = {name: write_client(folder, name, authority, key) for name in ("carol", "dave")}
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n{BOB},bob,bob,"builders"\n')
    with expiring_tokens(folder) as webhook:
        flags = (f"--client-ca-file={authority}", f"--token-auth-file={tokens}", *webhook)
        with controlplane(flags) as plane:
            yield Bench(plane, folder, FakePlugin(folder), pytest.MonkeyPatch(), clients)


@pytest.fixture
def bench(bench_of_module: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Give a test a folder of its own."""
    plugin = FakePlugin(tmp_path)
    return Bench(bench_of_module.plane, tmp_path, plugin, monkeypatch, bench_of_module.clients)


# --- the rows of the table

Row = Callable[[Bench], None]
ROWS: dict[str, Row] = {}


def row(*names: str) -> Callable[[Row], Row]:
    """Have this function hold rows of the table, by their first cell."""

    def keep(hold: Row) -> Row:
        ROWS.update(dict.fromkeys(names, hold))
        return hold

    return keep


def same(bench: Bench, *paths: Path, name: str) -> Object:
    """Check that both are taken for the same; return for whom."""
    ours, theirs = bench.ours(*paths), bench.kubectl(*paths)
    assert isinstance(theirs, dict), theirs
    assert isinstance(ours, dict), ours
    for user in (ours, theirs):  # each login has an id of its own
        user.get("extra", {}).pop("authentication.kubernetes.io/credential-id", None)
    assert ours == theirs
    assert ours["username"] == name
    return ours


def refused(bench: Bench, path: Path, words: str, *, by_kubectl: bool) -> None:
    """Check that the operator refuses it, in these words; and what kubectl does."""
    bench.monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ConfigError, match=words):
        Login.find(None)
    assert (bench.kubectl(path) == FAILED) is by_kubectl


@row("several files with the same names")
def first_wins(bench: Bench) -> None:
    first = bench.write({"token": BOB}, name="first")
    second = bench.write({"token": ADMIN_TOKEN, "as": "alice"}, name="second")
    same(bench, bench.folder / "none", first, second, name="bob")


@row("`current-context`")
def current_context(bench: Bench) -> None:
    first = bench.write({"token": BOB}, name="first", current=False)
    second = bench.write({"token": ADMIN_TOKEN}, name="second")
    same(bench, first, second, name="bob")


@row("a path", "`certificate-authority`, `certificate-authority-data`")
def relative_paths(bench: Bench) -> None:
    certificate, key = bench.clients["carol"]
    there = bench.folder / "there"
    there.mkdir()
    for file, name in ((bench.plane.certificate, "ca"), (certificate, "crt"), (key, "key")):
        (there / name).write_bytes(file.read_bytes())
    user = {"client-certificate": "crt", "client-key": "key"}
    path = bench.write(user, where="there", **{"certificate-authority": "ca"})
    same(bench, path, name="carol")
    inline = {"certificate-authority": None, "certificate-authority-data": bench.authority}
    same(bench, bench.write({"token": BOB}, **inline), name="bob")
    both = bench.write({"token": BOB}, **{"certificate-authority-data": bench.authority})
    refused(bench, both, "certificate-authority and", by_kubectl=True)


@row("`server`")
def no_server(bench: Bench) -> None:
    refused(bench, bench.write({"token": BOB}, server=""), "without a server", by_kubectl=True)


@row("`insecure-skip-tls-verify`")
def insecure(bench: Bench) -> None:
    skipping = {"insecure-skip-tls-verify": True}
    same(
        bench,
        bench.write({"token": BOB}, **skipping, **{"certificate-authority": None}),
        name="bob",
    )
    both = bench.write({"token": BOB}, **skipping)
    refused(bench, both, "insecure-skip-tls-verify", by_kubectl=True)


@row("`tls-server-name`", "`proxy-url`")
def server_name_and_proxy(bench: Bench) -> None:
    good = bench.write({"token": BOB}, **{"tls-server-name": "kubernetes.default.svc"})
    same(bench, good, name="bob")
    bad = bench.write({"token": BOB}, **{"tls-server-name": "else.example"})
    assert bench.ours(bad) == bench.kubectl(bad) == FAILED
    with proxy() as (url, asked):
        same(bench, bench.write({"token": BOB}, **{"proxy-url": url}), name="bob")
        address = bench.plane.url.removeprefix("https://")
        assert asked.count(address) >= 2  # both of them
        pair = {"proxy-url": url, "tls-server-name": "kubernetes.default.svc"}
        path = bench.write({"token": BOB}, **pair)
        refused(bench, path, "cannot be used together", by_kubectl=False)


@row("`proxy-url: socks5://…`")
def socks(bench: Bench) -> None:
    path = bench.write({"token": BOB}, **{"proxy-url": f"socks5://127.0.0.1:{closed_port()}"})
    refused(bench, path, "of the kind socks5://", by_kubectl=True)  # as nobody listens there


@row("`token`")
def token(bench: Bench) -> None:
    same(bench, bench.write({"token": BOB}), name="bob")
    wrong = bench.write({"token": "wrong"})
    assert bench.ours(wrong) == bench.kubectl(wrong) == FAILED


@row("`tokenFile`")
def token_file(bench: Bench) -> None:
    (bench.folder / "token").write_text(f"{BOB}\n")
    same(bench, bench.write({"tokenFile": "token"}), name="bob")
    same(bench, bench.write({"tokenFile": "token", "token": ADMIN_TOKEN}), name="bob")


@row("`client-certificate`, `client-key`, and with `-data`")
def certificates(bench: Bench) -> None:
    certificate, key = (
        base64.b64encode(file.read_bytes()).decode() for file in bench.clients["carol"]
    )
    inline = {"client-certificate-data": certificate, "client-key-data": key}
    same(bench, bench.write(inline), name="carol")
    mixed = {"client-certificate": str(bench.clients["carol"][0]), "client-key-data": key}
    same(bench, bench.write(mixed), name="carol")
    lone = bench.write({"client-certificate-data": certificate})
    refused(bench, lone, "without a client-key", by_kubectl=True)


@row("`username`, `password`")
def password(bench: Bench) -> None:
    path = bench.write({"username": "bob", "password": "b"})
    refused(bench, path, "username and password", by_kubectl=True)


@row("`as`, `as-uid`, `as-groups`, `as-user-extra`")
def impersonation(bench: Bench) -> None:
    user = {
        "token": ADMIN_TOKEN,
        "as": "alice",
        "as-uid": "17",
        "as-groups": ["a", "system:authenticated"],
        "as-user-extra": {"example.com/Scope": ["x", "y z"]},
    }
    found = same(bench, bench.write(user), name="alice")
    assert found["uid"] == "17"
    assert found["groups"] == ["a", "system:authenticated"]
    assert found["extra"] == {"example.com/scope": ["x", "y z"]}
    groups = bench.write({"token": ADMIN_TOKEN, "as-groups": ["a"]})
    refused(bench, groups, "without as", by_kubectl=True)


@row("`auth-provider: oidc`")
def oidc(bench: Bench) -> None:
    # kubectl wants an issuer to renew it with, so it is not asked here.
    provider = {"name": "oidc", "config": {"id-token": BOB}}
    found = bench.ours(bench.write({"auth-provider": provider}))
    assert isinstance(found, dict)
    assert found["username"] == "bob"


@row("`auth-provider`, another")
def other_provider(bench: Bench) -> None:
    path = bench.write({"auth-provider": {"name": "gcp"}})
    refused(bench, path, "auth-provider 'gcp'", by_kubectl=True)


@row("`exec`")
def plugin(bench: Bench) -> None:
    extension = {
        "name": "client.authentication.k8s.io/exec",
        "extension": {"audience": "here"},
    }
    beside = {"command": f".{os.sep}{bench.plugin.path.name}"}
    v1beta1 = {"apiVersion": "client.authentication.k8s.io/v1beta1", "interactiveMode": None}
    for more in ({}, beside, v1beta1, {"provideClusterInfo": True}):
        path, told = bench.write(bench.exec(**more), extensions=[extension]), list[Object]()
        for whom in (bench.ours, bench.kubectl):
            found = whom(path)
            assert isinstance(found, dict)
            assert found["username"] == "short-lived"
            told.append(json.loads(bench.plugin.starts[-1]))
        assert told[0] == told[1]  # of the cluster, and of themselves
    assert told[0]["spec"]["cluster"]["server"] == bench.plane.url
    assert told[0]["spec"]["cluster"]["config"] == {"audience": "here"}
    starts = len(bench.plugin.starts)
    same(bench, bench.write({**bench.exec(), "token": BOB}), name="bob")
    assert len(bench.plugin.starts) == starts  # the token comes before the plugin
    for more, words in (
        ({"interactiveMode": None}, "no interactiveMode"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "apiVersion"),
        ({"command": "no-such-plugin"}, "which is not there"),
    ):
        refused(bench, bench.write(bench.exec(**more)), words, by_kubectl=True)
    bench.plugin.fail()
    broken = bench.write(bench.exec())
    assert bench.ours(broken) == bench.kubectl(broken) == FAILED


@row("`exec` with `interactiveMode: Always`")
def terminal(bench: Bench) -> None:
    path = bench.write(bench.exec(interactiveMode="Always"))
    refused(bench, path, "needs a terminal", by_kubectl=True)  # as it has none here


@row("credentials and an `http://` server")
def without_encryption(bench: Bench) -> None:
    seen: list[str | None] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers["authorization"])
            self.send_error(404)

        do_GET = do_POST  # noqa: N815 - the library calls it so

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        path = bench.write({"token": BOB}, server=url, **{"certificate-authority": None})
        bench.ours(path)
        ours = len(seen)
        bench.kubectl(path)
        server.shutdown()
    assert 0 < ours < len(seen)
    assert set(seen) == {None}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_table_is_true(bench: Bench, name: str) -> None:
    """The operator is taken for whom kubectl is, or refuses what the table says that it refuses."""
    ROWS[name](bench)


def test_each_row_of_the_table_is_held() -> None:
    """The table and these tests name the same."""
    rows = re.findall(r"^\| (?!in the kubeconfig)([^|-][^|]*) \| ", DOCS.read_text(), re.MULTILINE)
    assert set(rows) == set(ROWS)


# --- what changes while it runs


def test_files_that_are_renewed_are_used(bench: Bench, monkeypatch) -> None:
    """Certificates too: they belong to connections, so new ones are made, and a watch goes on."""
    monkeypatch.setattr(login, "LOGIN_CHECK_S", 0.2)
    put(bench, "carol")
    grant = ("create", "clusterrolebinding", "carol", "--clusterrole=cluster-admin", "--user=carol")
    bench.plane.kubectl(*grant)
    wait_until(
        lambda: bench.plane.kubectl(*CAN_I, check=False).startswith("yes"),
        lambda: "not granted",
    )
    user = {"client-certificate": "crt", "client-key": "key"}
    anyio.run(renewed, bench, Login.find(bench.write(user)))


async def renewed(bench: Bench, found: Login) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(found.run)
        api = KubeClient(found, "test")
        async with api.stream("GET", version="v1", url="namespaces", params=WATCH) as news:
            while b'"default"' not in await anext(news):
                pass
            assert await name_of(api) == "carol"
            put(bench, "dave")
            with anyio.fail_after(READY_S):
                while await name_of(api) != "dave":  # noqa: ASYNC110 - an API has no event
                    await anyio.sleep(0.1)
            bench.plane.kubectl("create", "namespace", "seen-later")
            with anyio.fail_after(READY_S):
                while b"seen-later" not in await anext(news):
                    pass
        await api.close()
        tasks.cancel_scope.cancel()


CAN_I = ("auth", "can-i", "watch", "namespaces", "--as=carol")
WATCH = {"watch": "true", "allowWatchBookmarks": "true"}


async def name_of(api: KubeClient) -> str:
    found = await whoami(api)
    assert isinstance(found, dict), found
    return str(found["username"])


def put(bench: Bench, name: str) -> None:
    """Let the files of the kubeconfig be those of this client."""
    for source, target in zip(bench.clients[name], ("crt", "key"), strict=True):
        (bench.folder / target).write_bytes(source.read_bytes())
