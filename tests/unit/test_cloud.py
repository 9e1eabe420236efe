"""A model that runs on somebody's cloud is said to be one, and can be refused."""

import anyio
import pytest

from crd.names import ModelName
from ollama_op.base.parsing import parse_registries
from ollama_op.ollama.wire import Entry
from support.virtual.gateway import as_json
from support.virtual.reviews import client, review
from support.virtual.world import World, condition, reason

CLOUD = "gpt-oss:120b-cloud"
HOST = "ollama.com"


@pytest.mark.parametrize(
    ("name", "is_cloud"),
    [
        (CLOUD, True),
        ("glm-5:cloud", True),
        ("glm-5:Cloud", True),
        ("hf.co/a/b:q4-CLOUD", True),
        ("cloud:latest", False),
        ("a-cloud:1b", False),
        ("m:cloudy", False),
        ("m:1b-cloud-2", False),
    ],
)
def test_a_cloud_model_is_one_by_its_tag(name: str, is_cloud: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    """As Ollama itself reads it."""
    assert ModelName.parse(name).is_cloud == is_cloud


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("", None),
        ("https://ollama.com:443", HOST),
        ("http://10.0.0.1:11434", "10.0.0.1"),
        ("https://user:secret@ollama.com", HOST),
        ("http://[", "another host"),
        ("nonsense", "another host"),
    ],
)
def test_where_a_model_runs_is_a_host(url: str, host: str | None) -> None:
    """Nothing else of the URL is told."""
    assert Entry("m:1", "d", 1, remote_host=url).runs_on == host


@pytest.mark.parametrize("tag", ["120b-cloud", "cloud", "120b"])
@pytest.mark.parametrize("registries", ["", "registry.ollama.ai", "registry.ollama.ai,ollama.com"])
async def test_cloud_models_can_be_refused(tag: str, registries: str) -> None:
    """Where registries are named, the cloud is not allowed unless it is one of them."""
    spec = {"name": "gpt-oss", "tag": tag}
    async with client(registries=parse_registries(registries)) as api_server:
        response = (await api_server.post("/validate", json=review(spec))).json()["response"]
    is_refused = "cloud" in tag and registries == "registry.ollama.ai"
    assert response["allowed"] is not is_refused
    if is_refused:
        assert "spec.tag: cloud models run on ollama.com" in response["status"]["message"]


async def brought(w: World, model: str = CLOUD, **spec: object) -> None:
    """Have a cloud model wanted, as `m`."""
    w.ollama.publish(model, 381)
    w.ollama.run_elsewhere(model)
    await w.apply("m", model, spec=spec)


async def test_a_cloud_model_is_said_to_be_one(w: World) -> None:
    """In a field of its own, and in the message of Ready, in steady state too."""
    await brought(w)
    await w.ready("m")
    await anyio.sleep(130)
    status = (await w.get("m"))["status"]
    assert status["remoteHost"] == HOST
    assert f"it runs on {HOST}" in (condition(status, "Ready", "message") or "")
    await w.patch("m", {"spec": {"name": "n", "tag": "1"}})
    w.ollama.publish("n:1", 1000)
    status = await w.until("m", lambda s: s.get("model") == "n:1" and s.get("state") == "Ready")
    assert "remoteHost" not in status


@pytest.mark.parametrize("model", [CLOUD, "mine:1"])
async def test_a_cloud_model_is_not_kept_in_memory(w: World, model: str) -> None:
    """Its name tells, or Ollama's list does: refused in words, and nothing is sent to the cloud."""
    await brought(w, model, keepAlive="-1")
    status = await w.until("m", lambda s: reason(s) == "InvalidSpec")
    assert f"a cloud model runs on {HOST} and is never in memory here" in status["error"]
    assert condition(status, "Stalled") == "True"
    await w.patch("m", {"spec": {"keepAlive": None}})
    await w.ready("m")
    await w.delete("m")
    await w.gone("m")
    assert w.ollama.calls["POST /api/generate"] == 0


@pytest.mark.parametrize("status", [404, 500])
async def test_what_a_cloud_says_of_its_model_repairs_nothing(w: World, status: int) -> None:
    """Ollama asks the cloud to show it; whatever it says, the stub on the server is not broken."""
    await brought(w)
    w.gateway.answer(as_json(status, {"error": "model not found"}), "POST /api/show")
    found = await w.until("m", lambda s: reason(s) == "ProtocolError")
    assert f"runs on {HOST}" in found["error"]
    await anyio.sleep(600)
    assert w.ollama.calls["DELETE /api/delete"] == 0
    w.gateway.let_through()
    await w.ready("m", within_s=400)
