import base64
import copy
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from ollama_op.admission.certificates import (
    AUTHORITY_LIFE,
    AUTHORITY_SPARE,
    LEAF_LIFE,
    LEAF_SPARE,
    renewed,
)
from ollama_op.admission.trust import GRANT, ROTATE_CHECK_S, ROTATE_RETRY_S, SETTLE_S, CertRotator
from ollama_op.base.asgi import Message, Receive, Send
from ollama_op.base.errors import Conflict, NotPermitted
from ollama_op.base.parsing import Service
from ollama_op.base.rights import WEBHOOK_CONFIGURATION, WEBHOOK_SECRET
from ollama_op.sandbox.http import answer, read_request
from ollama_op.sandbox.transport import AppTransport
from support.virtual.unruly import Wire

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SERVICE = Service("ollama-op-webhook", "sys")
SECRETS = "/api/v1/namespaces/sys/secrets"
SECRET = f"{SECRETS}/{WEBHOOK_SECRET}"
HOOKS = [
    f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{WEBHOOK_CONFIGURATION}"
    for kind in ("validating", "mutating")
]
SECOND = timedelta(seconds=1)

Object = dict[str, Any]


def configuration(*names: str) -> Object:
    return {"webhooks": [{"name": name, "clientConfig": {"url": "https://x"}} for name in names]}


@dataclass
class Cluster:
    """A Kubernetes API with one Secret and two configurations; `before` sees each request first."""

    objects: dict[str, Object] = field(
        default_factory=lambda: {HOOKS[0]: configuration("a", "b"), HOOKS[1]: configuration("c")}
    )
    writes: list[str] = field(default_factory=list)
    denied: set[tuple[str, str]] = field(default_factory=set)
    before: Callable[[str, str], None] = lambda _method, _path: None
    version: int = 1

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = await read_request(scope, receive)
        self.before(request.method, request.path)
        code, body = self._serve(request.method, request.path, request.body)
        await answer(send, code, body)

    def _serve(self, method: str, path: str, body: bytes) -> tuple[int, Object]:
        if (method, path) in self.denied:
            return 403, {"message": "forbidden", "reason": "Forbidden", "code": 403}
        if method == "POST":
            path = f"{path}/{json.loads(body)['metadata']['name']}"
            if path in self.objects:
                return 409, {"message": "it is there", "reason": "AlreadyExists", "code": 409}
            self.objects[path] = {}
        if path not in self.objects:
            return 404, {"message": "not found", "reason": "NotFound", "code": 404}
        if method == "GET":
            return 200, self.objects[path]
        change, found = json.loads(body), self.objects[path]
        if isinstance(change, list):
            for test, add in zip(change[::2], change[1::2], strict=True):
                hook = found["webhooks"][int(test["path"].split("/")[2])]
                assert (test["op"], hook["name"]) == ("test", test["value"])
                hook["clientConfig"]["caBundle"] = add["value"]
        else:
            was = found.get("metadata", {}).get("resourceVersion")
            if method == "PATCH" and change["metadata"]["resourceVersion"] != was:
                return 409, {"message": "it has changed", "reason": "Conflict", "code": 409}
            self.put(change["data"])
        self.writes.append(path)
        return 200, self.objects[path]

    def put(self, data: Object) -> None:
        """Write the Secret, as whoever else may."""
        self.version += 1
        self.objects[SECRET] = {
            "metadata": {"resourceVersion": str(self.version)},
            "data": copy.deepcopy(data),
        }

    def bundles(self) -> set[str]:
        """Return what is trusted, anywhere."""
        there = [self.objects[path] for path in HOOKS if path in self.objects]
        hooks = [hook for each in there for hook in each["webhooks"]]
        return {hook["clientConfig"].get("caBundle", "") for hook in hooks}


@dataclass
class Bench:
    """One operator, or two, and a clock that goes with virtual time."""

    cluster: Cluster
    transport: AppTransport
    began: float
    start: datetime = EPOCH
    served: list[bytes] = field(default_factory=list)

    def now(self) -> datetime:
        """Tell the time."""
        return self.start + timedelta(seconds=anyio.current_time() - self.began)

    def trust(self) -> CertRotator:
        """Make one that installs into `served`."""
        return CertRotator(Wire(self.transport), SERVICE, self._install, now=self.now)

    def _install(self, certificate: bytes, _key: bytes) -> None:
        trusted = base64.b64decode(self.cluster.objects[SECRET]["data"]["ca.crt"]).decode()
        # Nothing is served that the API server would not accept.
        assert self.cluster.bundles() == {base64.b64encode(trusted.encode()).decode()}
        self.served.append(certificate)


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    cluster = Cluster()
    async with AppTransport(cluster) as transport:
        yield Bench(cluster, transport, anyio.current_time())


def secret(bench: Bench) -> dict[str, bytes]:
    data = bench.cluster.objects[SECRET]["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


@pytest.mark.parametrize("there", [None, {}, {"metadata": {"resourceVersion": "7"}}])
async def test_an_absent_or_empty_secret_is_filled(bench, there):
    """Then the API server is told, and then the certificate is served; once, and no more."""
    if there is not None:
        bench.cluster.objects[SECRET] = there or {"metadata": {"resourceVersion": "1"}}
    trust = bench.trust()
    await trust.rotate()
    assert bench.served == [secret(bench)["tls.crt"]]
    assert set(secret(bench)) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
    assert bench.cluster.writes == [SECRET, *HOOKS]
    await trust.rotate()
    assert len(bench.served) == 1
    assert len(bench.cluster.writes) == 3


async def test_replicas_share_one_set(bench):
    """Whoever comes second takes what is there, also when both saw that nothing was."""
    first, second = bench.trust(), bench.trust()
    await first.rotate()
    await second.rotate()
    assert len(set(bench.served)) == 1
    assert bench.cluster.writes.count(SECRET) == 1


@pytest.mark.parametrize("there", [True, False])
async def test_a_replica_that_was_faster_wins(bench, there):
    """Whether the Secret had to be created or only filled."""
    if there:
        bench.cluster.put({})
    faster = renewed(None, SERVICE.hosts, EPOCH)
    data = {"ca.crt": faster.authorities, "ca.key": faster.authority_key}
    data |= {"tls.crt": faster.certificate, "tls.key": faster.key}

    def overtake(method: str, path: str) -> None:
        if method != "GET" and path.startswith(SECRETS):
            bench.cluster.before = lambda *_: None
            bench.cluster.put({key: base64.b64encode(pem).decode() for key, pem in data.items()})

    bench.cluster.before = overtake
    await bench.trust().rotate()
    assert bench.served == [faster.certificate]
    assert SECRET not in bench.cluster.writes


async def test_a_secret_that_changes_all_the_time_is_left_for_later(bench):
    """Not tried without an end."""

    def always(method: str, path: str) -> None:
        if method != "GET" and path.startswith(SECRETS):
            bench.cluster.put({"noise": ""})

    bench.cluster.before = always
    with pytest.raises(Conflict, match="all the time"):
        await bench.trust().rotate()
    assert bench.served == []


@pytest.mark.parametrize("value", ["", "%%%", "a", "anVuaw=="])
async def test_what_is_no_certificate_is_replaced(bench, value):
    """Whoever wrote it."""
    bench.cluster.put(dict.fromkeys(("ca.crt", "ca.key", "tls.crt", "tls.key"), value))
    with capture_logs() as lines:
        await bench.trust().rotate()
    assert bench.served == [secret(bench)["tls.crt"]]
    assert lines[0] == {
        "event": "the Secret held no usable certificates",
        "secret": WEBHOOK_SECRET,
        "log_level": "warning",
    }


async def test_a_certificate_is_renewed_and_served_after_a_while(bench):
    """The API server may still be hearing of it; what it trusts stays as it was."""
    trust = bench.trust()
    await trust.rotate()
    before, bundles = secret(bench), bench.cluster.bundles()
    bench.start += LEAF_LIFE - LEAF_SPARE
    bench.start += SECOND
    begun = anyio.current_time()
    await trust.rotate()
    assert anyio.current_time() - begun == pytest.approx(SETTLE_S)
    assert bench.served == [before["tls.crt"], secret(bench)["tls.crt"]]
    assert bench.served[0] != bench.served[1]
    assert bench.cluster.bundles() == bundles
    assert bench.cluster.writes == [SECRET, *HOOKS, SECRET]


async def test_an_authority_is_renewed_with_the_last_one_trusted_along(bench):
    """Everywhere, before anything that it has signed is served."""
    trust = bench.trust()
    await trust.rotate()
    before = secret(bench)
    bench.start += AUTHORITY_LIFE - AUTHORITY_SPARE + SECOND
    await trust.rotate()
    assert secret(bench)["ca.crt"].endswith(before["ca.crt"])
    assert secret(bench)["ca.key"] != before["ca.key"]
    assert bench.cluster.writes == [SECRET, *HOOKS] * 2
    assert len(bench.served) == 2


async def test_trust_that_was_lost_is_given_again(bench):
    """Somebody may have replaced the configuration."""
    trust = bench.trust()
    await trust.rotate()
    bench.cluster.objects[HOOKS[0]] = configuration("b", "new")
    await trust.rotate()
    assert len(bench.cluster.bundles()) == 1
    assert len(bench.served) == 1


async def test_one_configuration_is_enough(bench):
    """Who wants no defaults leaves the other out; that is said once, and not every time."""
    lost, trust = bench.cluster.objects.pop(HOOKS[1]), bench.trust()
    with capture_logs() as lines:
        await trust.rotate()
        await trust.rotate()
    (hint,) = [line["hint"] for line in lines if "hint" in line]
    assert hint == "kubectl apply -k config/webhook"
    assert len(bench.served) == 1
    bench.cluster.objects[HOOKS[1]] = lost
    await trust.rotate()
    assert len(bench.cluster.bundles()) == 1


async def test_what_is_not_allowed_is_said_once_and_tried_again(bench):
    """With the command that helps; nothing is served meanwhile."""
    bench.cluster.denied = {("POST", SECRETS)}
    with pytest.raises(NotPermitted):
        await bench.trust().rotate()
    async with anyio.create_task_group() as tasks:
        with capture_logs() as lines:
            tasks.start_soon(bench.trust().run)
            await anyio.sleep(ROTATE_RETRY_S * 3)
        assert [(line["log_level"], line["hint"]) for line in lines] == [("warning", GRANT)]
        assert bench.served == []
        bench.cluster.put({})
        await anyio.sleep(ROTATE_RETRY_S)
        assert len(bench.served) == 1
        tasks.cancel_scope.cancel()


async def test_it_looks_again_and_again(bench):
    """So that a certificate never comes to its end, as long as the operator lives."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.trust().run)
        await anyio.sleep(ROTATE_CHECK_S / 2)
        assert len(bench.served) == 1
        bench.start += LEAF_LIFE - LEAF_SPARE
        await anyio.sleep(ROTATE_CHECK_S + SETTLE_S)
        assert len(bench.served) == 2
        tasks.cancel_scope.cancel()
