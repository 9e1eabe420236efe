"""The checks of `ollama-op doctor`. Each asks one thing, changes nothing, and says what to do.

Whatever they show comes through `sanitise`: what a server answers can neither drive a terminal nor
give away the password in an address.
"""

import ssl
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import httpx
import msgspec
from opentelemetry.util.re import parse_env_headers

from crd.render import crd
from crd.v1alpha1 import API_VERSION, GROUP, PLURAL, VERSION
from ollama_op.base.errors import NotFound, NotPermitted, Unauthenticated, sanitise
from ollama_op.base.json import Object
from ollama_op.base.otlp import wants_tracing
from ollama_op.base.parsing import ConfigError, UsageError
from ollama_op.base.proxies import proxy_for
from ollama_op.base.rights import RELEASE, Right, rights
from ollama_op.base.settings import Settings, WebhookSettings
from ollama_op.base.trouble import Unanswered, explained
from ollama_op.kube.client import KubeClient

APPLY_CRD = "kubectl apply -k config/crd"
TRACES = "/v1/traces"
DEFAULT_ENDPOINT = "http://localhost:4318"  # as OpenTelemetry has it
OTLP_ANSWERS = ("application/x-protobuf", "application/json")
RIGHTS_DENIED = (401, 403)
LOG_IN = "log in again, or name another kubeconfig with --kubeconfig"


class Finding(msgspec.Struct, frozen=True):
    """What one check found, and what to do about it."""

    check: str
    level: Literal["ok", "warn", "fail"]
    message: str
    hint: str = ""


def well(check: str, message: str) -> Finding:
    """Return a finding that is well."""
    return Finding(check, "ok", sanitise(message))


def doubt(check: str, message: str, hint: str) -> Finding:
    """Return a finding that is worth a look."""
    return Finding(check, "warn", sanitise(message), hint)


def wrong(check: str, message: str, hint: str) -> Finding:
    """Return a finding that keeps the operator from its work."""
    return Finding(check, "fail", sanitise(message), hint)


# --- Kubernetes. What these raise is a KubeError


async def check_cluster(api: KubeClient) -> list[Finding]:
    """Ask which Kubernetes this is."""
    try:
        version = await api.version()
    except Unauthenticated as error:
        problem = api.login.problem()
        message = f"{problem}: {error}" if problem else str(error)
        return [wrong("cluster", message, LOG_IN)]
    return [well("cluster", f"{api.login.server} is Kubernetes {version}")]


async def check_crd(api: KubeClient) -> list[Finding]:
    """Check that OllamaModels are served, and that what is known of them is what is known here."""
    try:
        there = await _get(
            api, "apiextensions.k8s.io/v1", f"customresourcedefinitions/{PLURAL}.{GROUP}"
        )
    except NotFound:
        return [wrong("crd", "this cluster does not know OllamaModel", APPLY_CRD)]
    except NotPermitted:
        return [await _check_served(api)]
    versions = {version["name"]: version for version in there["spec"]["versions"]}
    if not versions.get(VERSION, {}).get("served"):
        message = f"OllamaModel is not served as {VERSION}, but as {', '.join(versions)}"
        return [wrong("crd", message, APPLY_CRD)]
    return [compare(versions[VERSION])]


async def _check_served(api: KubeClient) -> Finding:
    """Ask what everybody may ask."""
    try:
        found = await _get(api, API_VERSION, "")
    except NotFound:
        found = {}
    if PLURAL not in [resource["name"] for resource in found.get("resources", ())]:
        return wrong("crd", f"this cluster does not serve OllamaModel {VERSION}", APPLY_CRD)
    return doubt(
        "crd",
        f"OllamaModel {VERSION} is served; with which schema, this account may not see",
        "run doctor as an administrator, or compare with: kubectl diff -k config/crd",
    )


def compare(there: Object) -> Finding:
    """Compare the CRD's version in the cluster with the one that this operator renders."""
    ours = crd()["spec"]["versions"][0]
    if all(there.get(part) == ours[part] for part in ours if part != "storage"):
        return well("crd", f"OllamaModel {VERSION} is served, with the schema of this operator")
    before, after = (set(_fields(each["schema"]["openAPIV3Schema"])) for each in (there, ours))
    if missing := sorted(after - before):
        lost = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        message = f"the schema of OllamaModel is older than this operator: it has no {lost}"
        return wrong("crd", message, APPLY_CRD)
    if "status" not in there.get("subresources", {}):
        return wrong("crd", "OllamaModel has no status to be written apart", APPLY_CRD)
    if newer := sorted(before - after):
        message = f"the schema of OllamaModel is newer than this operator: it has {newer[0]}"
        return doubt("crd", message, "update the operator")
    message = "the schema of OllamaModel has this operator's fields, with other limits or texts"
    return doubt("crd", message, APPLY_CRD)


def _fields(schema: Object, path: str = "") -> Iterable[str]:
    """Name all fields of a schema, those of list items among them."""
    for name, field in schema.get("properties", {}).items():
        yield path + name
        yield from _fields(field, f"{path}{name}.")
    if isinstance(items := schema.get("items"), dict):
        yield from _fields(items, path)


def _webhook_namespace(webhook: WebhookSettings) -> str | None:
    """Return where the webhook's certificates are kept; None where it has none of its own."""
    try:
        return webhook.named_service().namespace if webhook.makes_certificates else None
    except UsageError:  # told with the settings
        return None


async def check_namespace(api: KubeClient, name: str | None) -> list[Finding]:
    """Check that the one namespace that is watched exists. Who may not read it learns nothing."""
    if name is None:
        return []
    try:
        await _get(api, "v1", f"namespaces/{name}")
    except NotPermitted:
        return []
    except NotFound:
        message = f"namespace {name} does not exist, so there is no OllamaModel to be seen"
        hint = f"correct --namespace, or: kubectl create namespace {name}"
        return [doubt("cluster", message, hint)]
    return []


async def check_rights(api: KubeClient, settings: Settings) -> list[Finding]:
    """Ask whether all that the operator does is allowed, kind of object by kind of object."""
    rest = settings.rest
    needed = rights(
        rest_api=rest.enabled,
        reviews=settings.reviews_tokens,
        webhook=_webhook_namespace(settings.webhook),
        lease_in=settings.lease_namespace if settings.leader_elect else None,
    )
    denied = [each for each in needed if not await _may(api, each, settings.namespace)]
    confined = settings.namespace is not None and not await _may(api, RELEASE, None)
    stuck = [await _stuck(api, str(settings.namespace))] if confined else []
    if not denied:
        where = f"namespace {settings.namespace}" if settings.namespace else "all namespaces"
        return [well("rights", f"{await _who(api)} may do all that is needed in {where}"), *stuck]
    who, kinds = await _who(api), defaultdict[tuple[str, str], list[Right]](list)
    for right in denied:
        kinds[right.group, right.resource].append(right)
    return [*(_denied(who, lacking, settings.namespace) for lacking in kinds.values()), *stuck]


async def _stuck(api: KubeClient, namespace: str) -> Finding:
    """Return what will be left when the one namespace is deleted, or is left already."""
    return doubt(
        "rights",
        f"{await _who(api)} may not patch {PLURAL} in all namespaces: once namespace {namespace} is"
        " being deleted, its RoleBindings are gone, and its OllamaModels stay",
        f"grant it by a ClusterRoleBinding: patch on {PLURAL}.{GROUP}; config/one-namespace has it",
    )


def _denied(who: str, lacking: list[Right], namespace: str | None) -> Finding:
    """Return what is missing for one kind of object, and where to grant it."""
    verbs, right = ", ".join(each.verb for each in lacking), lacking[0]
    plural, slash, part = right.resource.partition("/")
    full = (f"{plural}.{right.group}" if right.group else plural) + slash + part
    full += f" {right.name}" if right.name else ""
    where, kind = " in all namespaces", "ClusterRole"
    namespace = right.namespace or namespace
    if not right.namespaced:
        where = ""
    elif namespace:
        where, kind = f" in namespace {namespace}", "Role"
    what = f"{right.resource} {right.name}".strip()
    message = f"{who} may not {verbs} {what}{where}"
    return wrong("rights", message, f"grant it in a {kind}: {verbs} on {full}")


async def _may(api: KubeClient, right: Right, namespace: str | None) -> bool:
    resource, _, subresource = right.resource.partition("/")
    asked = {"verb": right.verb, "group": right.group, "resource": resource}
    asked |= {"subresource": subresource} if subresource else {}
    asked |= {"name": right.name} if right.name else {}
    namespace = right.namespace or namespace
    asked |= {"namespace": namespace} if namespace and right.namespaced else {}
    body = {"spec": {"resourceAttributes": asked}}
    answer = await _review(api, "authorization", "SelfSubjectAccessReview", body)
    return bool(answer.get("status", {}).get("allowed"))


async def _who(api: KubeClient) -> str:
    """Name the account; not every cluster tells."""
    try:
        answer = await _review(api, "authentication", "SelfSubjectReview", {})
    except (NotFound, NotPermitted):
        answer = {}
    name = answer.get("status", {}).get("userInfo", {}).get("username")
    return str(name or "this account")


async def _review(api: KubeClient, what: str, kind: str, body: Object) -> Object:
    version = f"{what}.k8s.io/v1"
    content = msgspec.json.encode({"apiVersion": version, "kind": kind, **body})
    url = f"{kind.lower()}s"
    answer = await api.request("POST", version=version, url=url, content=content)
    decoded: Object = msgspec.json.decode(answer)
    return decoded


async def _get(api: KubeClient, version: str, url: str) -> Object:
    decoded: Object = msgspec.json.decode(await api.request("GET", version=version, url=url))
    return decoded


# --- where traces go


async def check_tracing(
    web: Callable[..., httpx.AsyncClient], environ: Mapping[str, str]
) -> list[Finding]:
    """Send an empty export to where traces are to go, if that is anywhere; `web` makes a client.

    Raises: ConfigError.
    """
    try:
        if not wants_tracing(environ):
            return [well("tracing", "off; OTEL_EXPORTER_OTLP_ENDPOINT turns it on")]
    except ConfigError as error:  # `run` goes on without traces
        return [doubt("tracing", f"no traces are sent: {error}", error.hint)]
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT
    text = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or base.rstrip("/") + TRACES
    way = {"proxy": proxy_for(text, environ), "trust_env": False}
    async with web(verify=_trust(environ), **way) as http:
        return [await _send_no_traces(http, httpx.URL(text), environ)]


def _trust(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Read the certificates by which a collector is known, and we by it.

    Raises: ConfigError.
    """
    names = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    authority, certificate, key = (
        environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}")
        or environ.get(f"OTEL_EXPORTER_OTLP_{name}")
        for name in names
    )
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"the certificates for the collector cannot be read: {error.strerror}",
            f"see where {', '.join(f'OTEL_EXPORTER_OTLP_{name}' for name in names)} lead",
        ) from None
    return context


async def _send_no_traces(
    http: httpx.AsyncClient, url: httpx.URL, environ: Mapping[str, str]
) -> Finding:
    headers = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environ.get(
        "OTEL_EXPORTER_OTLP_HEADERS", ""
    )
    sent = {"content-type": "application/x-protobuf", **parse_env_headers(headers, liberal=True)}
    where = f"{url.scheme}://{url.netloc.decode()}"  # a path may be a key
    try:
        with explained():
            answer = await http.post(url, content=b"", headers=sent)
    except Unanswered as error:
        return wrong(
            "tracing",
            f"no traces can be sent to {where}: {error}",
            "start a collector there; OTLP over HTTP is port 4318",
        )
    hint = "see that this is OTLP over HTTP, port 4318, and not gRPC"
    if answer.is_success:
        if answer.headers.get("content-type", "").split(";")[0] in OTLP_ANSWERS:
            return well("tracing", f"{where} takes traces")
        return wrong("tracing", f"{where} answers, but not as a collector does", hint)
    if answer.status_code in RIGHTS_DENIED:
        hint = "set OTEL_EXPORTER_OTLP_HEADERS to what it asks for"
    return wrong("tracing", f"{where} answers HTTP {answer.status_code} to traces", hint)
