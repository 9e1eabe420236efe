import copy
import io
import json
import math
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from crd.render import crd
from crd.v1alpha1 import GROUP, PLURAL
from ollama_op.base.asgi import Message, Receive, Send
from ollama_op.base.parsing import Address, Service
from ollama_op.base.rights import RELEASE, rights
from ollama_op.base.settings import RestSettings, Settings, WebhookSettings
from ollama_op.cli.doctor.checkup import Finding, compare
from ollama_op.cli.doctor.command import LIMIT_S, examine, show
from ollama_op.kube.access import find_access
from ollama_op.sandbox.http import answer, read_request
from ollama_op.sandbox.kube.discovery import ACCESS_REVIEW_PATH
from ollama_op.sandbox.kube.server import ApiFault, KubeSandbox
from ollama_op.sandbox.ollama.server import OllamaSandbox
from ollama_op.sandbox.transport import AppTransport
from support.kube.certificate import write_certificate
from support.virtual.gateway import FOREIGN, Gateway
from support.virtual.unruly import Wire

CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
SERVED = f"/apis/{GROUP}/v1alpha1"
KUBECONFIG = """
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "http://kube"}}]
users: [{name: me, user: {}}]
"""
SECRET = "hunter2"  # noqa: S105 - it is here to be looked for

Object = dict[str, Any]


@dataclass
class Guarded:
    """A Kubernetes API that allows what is not `denied`: pairs of verb and resource.

    `confined` are those that are denied for all namespaces, and allowed in one.
    """

    kube: KubeSandbox = field(default_factory=KubeSandbox)
    denied: set[tuple[str, str]] = field(default_factory=set)
    confined: set[tuple[str, str]] = field(default_factory=set)
    asked: list[Object] = field(default_factory=list)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] != ACCESS_REVIEW_PATH:
            await self.kube(scope, receive, send)
            return
        review = (await read_request(scope, receive)).json_object()
        asked = review["spec"]["resourceAttributes"]
        self.asked.append(asked)
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        denied = self.denied if "namespace" in asked else self.denied | self.confined
        allowed = (asked["verb"], resource) not in denied
        await answer(send, 201, {**review, "status": {"allowed": allowed}})


@dataclass
class Practice:
    """What a doctor looks at."""

    kubeconfig: Path
    api: Guarded
    to_kube: AppTransport
    ollama: OllamaSandbox
    http: httpx.AsyncClient  # to Ollama
    collector: Callable[[httpx.Request], httpx.Response]
    environ: dict[str, str] = field(default_factory=dict)

    async def log_in(self) -> Wire:
        find_access(self.kubeconfig)
        return Wire(self.to_kube)

    async def examine(
        self,
        namespace: str | None = None,
        lease_in: str | None = None,
        *,
        webhook: WebhookSettings = WebhookSettings(),  # noqa: B008 - it is frozen
        metrics: bool = False,
        **rest: bool,
    ) -> list[Finding]:
        """Make all checks."""
        settings = Settings(
            kubeconfig=self.kubeconfig,
            namespace=namespace,
            leader_elect=lease_in is not None,
            leader_elect_namespace=lease_in,
            metrics_bind_address=Address("", 8080),
            metrics_kubernetes_auth=metrics,
            rest=RestSettings(**rest),
            webhook=webhook,
        )
        web = partial(httpx.AsyncClient, transport=httpx.MockTransport(self.collector))
        return await examine(
            settings, log_in=self.log_in, ollama=self.http, web=web, environ=self.environ
        )

    async def find(self, check: str, **settings: Any) -> Finding:
        """Make all checks; return the only finding of this one."""
        (found,) = [each for each in await self.examine(**settings) if each.check == check]
        return found


@pytest.fixture
async def practice(tmp_path) -> AsyncGenerator[Practice]:
    """Let all be well; the tests break what they are about."""
    api, ollama = Guarded(), OllamaSandbox()
    config = tmp_path / "config"
    config.write_text(KUBECONFIG)
    async with AppTransport(api) as to_kube, AppTransport(ollama) as to_ollama:
        http = httpx.AsyncClient(transport=to_ollama, base_url="http://ollama:11434")
        yield Practice(config, api, to_kube, ollama, http, takes_traces)


def takes_traces(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "application/x-protobuf"})


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


async def test_where_nothing_is_missing_all_is_well(practice):
    """One line a check, and the doctor writes nothing."""
    practice.ollama.publish("llama3.2:1b", 1 << 30)
    practice.ollama.preload("llama3.2:1b")
    found = await practice.examine()
    assert [(each.check, each.level) for each in found] == [
        ("cluster", "ok"),
        ("crd", "ok"),
        ("rights", "ok"),
        ("ollama", "ok"),
        ("disk", "ok"),
        ("tracing", "ok"),
    ]
    texts = {each.check: each.message for each in found}
    assert texts["ollama"] == "http://ollama:11434 is Ollama 0.17.4"
    assert texts["disk"].startswith("1.0 GiB of models, 1 in all; ")
    assert "off" in texts["tracing"]
    writes = {path for method, path in practice.api.kube.requests if method != "GET"}
    assert writes == {"/apis/authentication.k8s.io/v1/selfsubjectreviews"}  # which stores nothing
    asked = [call for call in practice.ollama.calls if not call.startswith("GET ")]
    assert len(asked) == 1
    assert asked[0].startswith("POST /api/show")  # which changes nothing either


# --- cluster


@pytest.mark.parametrize(("what", "limit_s"), [("log-in", 70), ("kubernetes", LIMIT_S)])
async def test_a_silent_cluster_keeps_nobody_waiting(practice, what, limit_s):
    """What needs no cluster is checked meanwhile; a login has the time that a plugin may take."""
    if what == "log-in":
        practice.log_in = anyio.sleep_forever
    else:
        practice.api.kube.intercept = lambda _request: ApiFault(delay_s=math.inf)
    began = anyio.current_time()
    found = await practice.examine()
    assert anyio.current_time() - began == pytest.approx(limit_s, abs=0.1)
    assert (found[0].check, found[0].message) == ("cluster", f"no answer within {limit_s:g} s")
    assert [each.check for each in found] == ["cluster", "ollama", "disk", "tracing"]


async def test_no_kubeconfig_is_told_as_run_tells_it(practice):
    """With the way out."""
    practice.kubeconfig = Path("/none")
    found = await practice.find("cluster")
    assert (found.level, found.message) == ("fail", "no kubeconfig at /none (from --kubeconfig)")
    assert "ollama-op demo" in found.hint


async def test_credentials_that_kubernetes_does_not_take_are_told(practice):
    """A login helps, and no look at the cluster."""
    practice.api.kube.intercept = lambda _request: ApiFault(
        code=401, reason="Unauthorized", message="Unauthorized"
    )
    found = await practice.find("cluster")
    assert found.level == "fail"
    assert "HTTP 401" in found.message
    assert found.hint.startswith("log in again")


async def test_what_nobody_thought_of_is_told_without_its_words(practice):
    """They may be a command line with a token in it."""

    async def fail() -> Wire:
        raise LookupError(SECRET)

    practice.log_in = fail
    found = await practice.find("cluster")
    assert (found.level, found.message) == ("fail", "cannot be checked: LookupError")


async def test_a_namespace_that_does_not_exist_is_told(practice):
    """The operator would wait there in silence; who may not read namespaces is told nothing."""
    found = await practice.examine("no-such-team")
    assert found[1] == Finding(
        "cluster",
        "warn",
        "namespace no-such-team does not exist, so there is no OllamaModel to be seen",
        "correct --namespace, or: kubectl create namespace no-such-team",
    )
    practice.api.kube.intercept = lambda r: (
        ApiFault(code=403, reason="Forbidden") if r.path.startswith("/api/v1/namespaces/") else None
    )
    for namespace in ("no-such-team", "default", None):
        found = await practice.examine(namespace)
        assert [each.level for each in found if each.check == "cluster"] == ["ok"]
    practice.api.kube.intercept = lambda _request: None
    assert {each.level for each in await practice.examine("default")} == {"ok"}


# --- CRD


async def test_a_missing_crd_is_told(practice):
    """With the command that brings it."""
    practice.api.kube.intercept = lambda r: ApiFault(code=404) if r.path == CRD else None
    found = await practice.find("crd")
    assert found == Finding(
        "crd", "fail", "this cluster does not know OllamaModel", "kubectl apply -k config/crd"
    )


@pytest.mark.parametrize(("served", "level"), [(True, "warn"), (False, "fail")])
async def test_who_may_not_read_the_crd_asks_whether_it_is_served(practice, served, level):
    """The operator's own account may not, and needs no more."""

    def intercept(request: Any) -> ApiFault | None:
        if request.path == CRD:
            return ApiFault(code=403, reason="Forbidden")
        gone = not served and request.path.rstrip("/") == SERVED
        return ApiFault(code=404, reason="NotFound") if gone else None

    practice.api.kube.intercept = intercept
    assert (await practice.find("crd")).level == level


async def test_a_crd_without_our_version_is_told(practice):
    """With the versions that it has."""
    other = crd()
    other["spec"]["versions"][0]["name"] = "v1beta1"
    practice.api.kube = KubeSandbox(crd=other)
    found = await practice.find("crd")
    assert found.level == "fail"
    assert found.message == "OllamaModel is not served as v1alpha1, but as v1beta1"


def version() -> Object:
    return copy.deepcopy(crd()["spec"]["versions"][0])


def properties(version: Object, part: str) -> Object:
    found: Object = version["schema"]["openAPIV3Schema"]["properties"][part]["properties"]
    return found


def test_an_older_schema_names_what_it_lacks():
    """Some of it: one field is enough to know."""
    older = version()
    for name in ("keepAlive", "interval", "timeout"):
        del properties(older, "spec")[name]
    del properties(older, "status")["conditions"]["items"]["properties"]["reason"]
    found = compare(older)
    assert (found.level, found.hint) == ("fail", "kubectl apply -k config/crd")
    assert found.message.endswith(
        "it has no spec.interval, spec.keepAlive, spec.timeout and 1 more"
    )


def test_a_newer_schema_is_a_warning():
    """The operator works with it, and does not know all of it."""
    newer = version()
    properties(newer, "spec")["mood"] = {"type": "string"}
    found = compare(newer)
    assert (found.level, found.hint) == ("warn", "update the operator")
    assert "spec.mood" in found.message


def test_other_limits_are_a_warning():
    """The fields are all there."""
    other = version()
    properties(other, "spec")["name"]["maxLength"] = 7
    assert compare(other).level == "warn"


def test_a_crd_without_the_status_subresource_is_wrong():
    """No status could be written."""
    other = version()
    del other["subresources"]
    assert compare(other).level == "fail"


# --- rights


@pytest.mark.parametrize("namespace", [None, "ai"])
@pytest.mark.parametrize(
    "rest",
    [
        {},
        {"kubernetes_auth": True},
        {"enabled": True},
        {"enabled": True, "kubernetes_auth": True},
        {"metrics": True},
    ],
)
async def test_what_is_asked_is_what_is_needed(practice, rest, namespace):
    """Where it is needed: reviews have no namespace."""
    await practice.examine(namespace, **rest)
    wanted = rights(
        rest_api=rest.get("enabled", False),
        reviews=rest in ({"enabled": True, "kubernetes_auth": True}, {"metrics": True}),
    )
    wanted += (RELEASE,) if namespace else ()
    assert len(practice.api.asked) == len(wanted) == len(set(wanted))
    for asked, right in zip(practice.api.asked, wanted, strict=True):
        assert (asked["verb"], asked["group"]) == (right.verb, right.group)
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        assert resource == right.resource
        assert asked.get("namespace") == (namespace if right.namespaced else None)


async def test_a_webhook_needs_a_few_objects_by_name(practice):
    """In the namespace where they are; with certificates from elsewhere it needs none."""
    webhook = WebhookSettings(bind_address=Address("", 9443), service=Service("hook", "sys"))
    practice.api.denied = {("patch", "secrets"), ("get", "validatingwebhookconfigurations")}
    found = await practice.examine("ai", webhook=webhook)
    assert [(e.message, e.hint) for e in found if e.check == "rights"] == [
        (
            "this account may not patch secrets ollama-op-webhook-certs in namespace sys",
            "grant it in a Role: patch on secrets ollama-op-webhook-certs",
        ),
        (
            "this account may not get validatingwebhookconfigurations ollama-op-webhook",
            (
                "grant it in a ClusterRole: get on"
                " validatingwebhookconfigurations.admissionregistration.k8s.io ollama-op-webhook"
            ),
        ),
    ]
    named = [asked for asked in practice.api.asked if "name" in asked]
    assert len(named) == 6
    assert {asked.get("namespace") for asked in named if asked["resource"] == "secrets"} == {"sys"}
    practice.api.asked.clear()
    elsewhere = WebhookSettings(bind_address=Address("", 9443), cert_dir=practice.kubeconfig)
    await practice.examine("ai", webhook=elsewhere)
    assert not [asked for asked in practice.api.asked if "name" in asked]


async def test_rights_on_leases_are_asked_for_where_the_lease_is(practice):
    """That may be another namespace than that of the models; without election none is needed."""
    practice.api.denied = {("update", "leases")}
    assert (await practice.find("rights")).level == "ok"
    found = await practice.find("rights", lease_in="ops", namespace="ai")
    assert (found.message, found.hint) == (
        "this account may not update leases in namespace ops",
        "grant it in a Role: update on leases.coordination.k8s.io",
    )
    asked = [each for each in practice.api.asked if each["resource"] == "leases"]
    assert {each["namespace"] for each in asked} == {"ops"}
    assert [each["verb"] for each in asked] == ["get", "create", "update"]


async def test_an_operator_of_one_namespace_is_told_what_its_deletion_takes(practice):
    """Its RoleBindings go first, and then nothing can be granted there any more."""
    practice.api.confined = {("patch", PLURAL)}
    assert (await practice.find("rights")).level == "fail"  # all namespaces are its own
    found = [e for e in await practice.examine("ai") if e.check == "rights"]
    assert [each.level for each in found] == ["ok", "warn"]
    assert "once namespace ai is being deleted" in found[1].message
    assert found[1].hint == (
        f"grant it by a ClusterRoleBinding: patch on {PLURAL}.{GROUP}; config/one-namespace has it"
    )


async def test_each_denied_right_is_named_with_where_to_grant_it(practice):
    """One line for each kind of object."""
    practice.api.denied = {
        ("watch", PLURAL),
        ("delete", PLURAL),
        ("patch", f"{PLURAL}/status"),
        ("create", "tokenreviews"),
    }
    found = await practice.examine("ai", enabled=True, kubernetes_auth=True)
    assert [(e.message, e.hint) for e in found if e.check == "rights"] == [
        (
            f"this account may not watch, delete {PLURAL} in namespace ai",
            f"grant it in a Role: watch, delete on {PLURAL}.{GROUP}",
        ),
        (
            f"this account may not patch {PLURAL}/status in namespace ai",
            f"grant it in a Role: patch on {PLURAL}.{GROUP}/status",
        ),
        (
            "this account may not create tokenreviews",
            "grant it in a ClusterRole: create on tokenreviews.authentication.k8s.io",
        ),
    ]


# --- Ollama


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("0.6.5", "ok"),
        ("0.17.4", "ok"),
        ("1.0.0-rc1", "ok"),
        ("0.6.4", "warn"),
        ("0.1.48", "warn"),
        ("0.0.0", "ok"),
        ("from-source", "ok"),
    ],
)
async def test_an_ollama_older_than_what_was_tried_is_a_warning(practice, version, level):
    """One without a number says nothing about its age."""
    practice.ollama.version = version
    found = await practice.find("ollama")
    assert (found.level, f"is Ollama {version}" in found.message) == (level, True)


@pytest.mark.parametrize("models", [0, 1])
@pytest.mark.parametrize(("route", "level"), [("POST /api/show", "fail"), ("GET /api/ps", "warn")])
async def test_what_a_gateway_before_ollama_blocks_is_told(practice, route, level, models):
    """With what it says; without `show` nothing is ever Ready, without `ps` only less is known."""
    if models:
        practice.ollama.publish("m:1", 1)
        practice.ollama.preload("m:1")
    gateway = Gateway()
    gateway.answer(FOREIGN["403 HTML"], route)
    async with AppTransport(gateway.before(practice.ollama)) as way:
        practice.http = httpx.AsyncClient(transport=way, base_url="http://ollama:11434")
        found = [each for each in await practice.examine() if each.check == "ollama"]
    assert [each.level for each in found] == ["ok", level]
    assert f"{route} is not answered: " in found[1].message
    assert "403" in found[1].message
    assert found[1].hint


async def test_a_silent_ollama_is_told(practice):
    """In time."""
    practice.ollama.delay_s["/api/tags"] = math.inf
    assert await practice.find("ollama") == Finding(
        "ollama", "fail", "no answer within 10 s", "see Ollama's log, and its load"
    )


# --- tracing


async def test_an_empty_export_goes_where_traces_will_go(practice):
    """With the headers of the environment; the base address gets the path, the other is whole."""
    requests = list[httpx.Request]()

    def collect(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return takes_traces(request)

    practice.collector = collect
    practice.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://otel:4318/"
    practice.environ["OTEL_EXPORTER_OTLP_HEADERS"] = "x-key=hunter2"
    assert await practice.find("tracing") == Finding(
        "tracing", "ok", "http://otel:4318 takes traces"
    )
    practice.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://traces:4318/mine"
    await practice.find("tracing")
    assert [str(each.url) for each in requests] == [
        "http://otel:4318/v1/traces",
        "http://traces:4318/mine",
    ]
    assert requests[0].content == b""
    assert requests[0].headers["content-type"] == "application/x-protobuf"
    assert requests[0].headers["x-key"] == SECRET
    practice.environ["OTEL_SDK_DISABLED"] = "true"
    assert "off" in (await practice.find("tracing")).message


@pytest.mark.parametrize(
    ("url", "collect", "says"),
    [
        (f"http://otel:4318/{SECRET}", refuse, "to http://otel:4318: refused"),
        ("http://otel:4317", lambda _: httpx.Response(404), "answers HTTP 404 to traces"),
        ("http://otel:4318", lambda _: httpx.Response(401), "answers HTTP 401 to traces"),
        ("http://ollama:11434", lambda _: httpx.Response(200), "but not as a collector does"),
    ],
)
async def test_a_collector_that_takes_no_traces_is_told(practice, url, collect, says):
    """Without a password, or a path that may be one."""
    practice.collector = collect
    practice.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
    found = await practice.find("tracing")
    assert found.level == "fail"
    assert says in found.message
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ENDPOINT", f"me:{SECRET}@otel:4318", "is no plain http:// or https:// address"),
        ("ENDPOINT", f"http://me:{SECRET}/x@otel", "is no plain http:// or https:// address"),
        ("PROTOCOL", "grpc", "traces cannot be sent by grpc"),
    ],
)
async def test_variables_for_other_programs_are_a_warning(practice, name, value, says):
    """The operator runs, without traces."""
    practice.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://otel:4318"
    practice.environ[f"OTEL_EXPORTER_OTLP_{name}"] = value
    found = await practice.find("tracing")
    assert found.level == "warn"
    assert says in found.message
    assert SECRET not in repr(found)


@pytest.mark.parametrize("of", ["OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"])
async def test_a_collector_is_known_by_its_own_authority(practice, tmp_path, of):
    """As the operator knows it; a file that holds none is named as the trouble that it is."""
    practice.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "https://otel:4318"
    certificate = tmp_path / "certificate.pem"
    practice.environ[f"{of}CERTIFICATE"] = str(certificate)
    assert "cannot be read: No such file" in (await practice.find("tracing")).message
    certificate.write_text("nothing")
    found = await practice.find("tracing")
    assert (found.level, "OTEL_EXPORTER_OTLP_CERTIFICATE" in found.hint) == ("fail", True)
    _, key = write_certificate(tmp_path, ("otel",))
    assert (await practice.find("tracing")).level == "ok"
    practice.environ[f"{of}CLIENT_CERTIFICATE"] = str(certificate)
    assert (await practice.find("tracing")).level == "fail"  # its key is elsewhere
    practice.environ[f"{of}CLIENT_KEY"] = str(key)
    assert (await practice.find("tracing")).level == "ok"


# --- what is printed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


FOUND = [
    Finding("cluster", "ok", "http://kube is Kubernetes [v1]"),
    Finding("crd", "fail", "x " * 90, "kubectl apply -k config/crd"),
]


def test_away_from_a_terminal_a_check_is_a_line(capsys):
    """However long it is; what to do is under it."""
    show(FOUND, "text")
    assert capsys.readouterr().out.splitlines() == [
        "ok    cluster  http://kube is Kubernetes [v1]",
        "fail  crd      " + "x " * 90,
        "               kubectl apply -k config/crd",
    ]


@pytest.mark.parametrize("plain", [False, True])
def test_on_a_terminal_there_are_colours(monkeypatch, plain):
    """Unless they are not wanted."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")
    show(FOUND, "text")
    assert ("\x1b[31m" in sys.stdout.getvalue()) is not plain


def test_json_is_for_scripts(capsys):
    """With one word for all of it."""
    show(FOUND, "json")
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert said["checks"][0] == {
        "check": "cluster",
        "level": "ok",
        "message": "http://kube is Kubernetes [v1]",
        "hint": "",
    }


async def test_a_server_cannot_drive_the_terminal(practice, capsys):
    """Nor add lines of its own."""
    practice.ollama.version = "0.9.0\x1b[2J\nok    rights\u202e\u2028\x9b"
    show(await practice.examine(), "text")
    out = capsys.readouterr().out
    assert out.count("\n") == 6
    assert all(char == "\n" or char.isprintable() for char in out)
