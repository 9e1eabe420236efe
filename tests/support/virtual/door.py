"""What is refused at the door, and how objects get there: for the webhook and for the policies."""

import copy
import json
from collections.abc import Iterable
from typing import Any

import httpx
import yaml

from support.kube.controlplane import ControlPlane
from support.kube.manifests import Object, of_kind
from support.process.operator import Models, manifest

BAD = [
    ({"name": "a b"}, "spec.name", "which Ollama does not take there"),
    ({"name": "https://hf.co/x/y"}, "spec.name", "the scheme"),
    ({"name": "llama3.2:1b", "tag": "3b"}, "spec.name", "the name carries the tag 1b"),
    ({"tag": "a/b"}, "spec.tag", "which Ollama does not take there"),
    ({"name": "evil.example/x/y"}, "spec.name", "evil.example are not allowed here"),
    ({"interval": "1ms"}, "spec.interval", "at least 1s"),
    ({"refreshInterval": "30s"}, "spec.refreshInterval", "at least 60s"),
    ({"timeout": "100000h"}, "spec.timeout", "at most 87600h"),
    ({"keepAlive": "1s"}, "spec.keepAlive", "at least 10s"),
    (
        {"refreshWindow": {"schedule": "0 2 * * 6", "duration": "4h"}},
        "spec.refreshWindow",
        "needs a refreshInterval",
    ),
    (
        {"refreshInterval": "24h", "refreshWindow": {"schedule": "0 2 * *", "duration": "4h"}},
        "spec.refreshWindow.schedule",
        "0 2 * * 6",
    ),
]
ONLY_THE_WEBHOOK_KNOWS = (
    {
        "refreshInterval": "24h",
        "refreshWindow": {"schedule": "0 2 * * 6", "duration": "4h", "timeZone": "Mars/Utopia"},
    },
    "spec.refreshWindow.timeZone",
    "Europe/Berlin",
)


def body(name: str, /, **spec: Any) -> str:
    """Write an object; None leaves a field out."""
    made = manifest(name, "llama3.2", "1b")
    made["spec"] |= spec
    made["spec"] = {key: value for key, value in made["spec"].items() if value is not None}
    return json.dumps(made)


def create(models: Models, name: str, /, *flags: str, **spec: Any) -> str:
    """Create an object; return all that kubectl says, with its warnings."""
    return models.kubectl("create", "-f", "-", *flags, input=body(name, **spec), check=False)


def refusal_over_rest(address: str) -> str:
    """Ask the REST API there for a model of a registry; return why its name is refused."""
    answer = httpx.post(
        f"http://{address}/api/v1/models",
        json={"name": "evil.example/x/y", "tag": "1b"},
        trust_env=False,
    )
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "name"
    return str(error["message"])


def hooks_at(port: int, objects: Iterable[Object]) -> list[Object]:
    """Return these objects with webhooks at a port of this machine instead of their Service."""
    copies = [copy.deepcopy(each) for each in objects if each["kind"] != "Service"]
    kinds = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    for hook in [hook for each in of_kind(copies, *kinds) for hook in each["webhooks"]]:
        path = hook["clientConfig"].pop("service")["path"]
        hook["clientConfig"]["url"] = f"https://127.0.0.1:{port}{path}"
    return copies


def put(cluster: ControlPlane, objects: Iterable[Object]) -> None:
    """Apply objects."""
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))
