from dataclasses import dataclass

import httpx
import pytest

from ollama_op.app.probes import Probes


@dataclass
class Known:
    """A health that a test sets."""

    ready: bool
    logged_in: bool = True

    def is_ready(self) -> bool:
        return self.ready

    def is_logged_in(self) -> bool:
        return self.logged_in


@pytest.mark.parametrize(
    ("path", "ready", "status", "text"),
    [
        ("/healthz", True, 200, "ok\n"),
        ("/healthz", False, 200, "ok\n"),
        ("/readyz", True, 200, "ok\n"),
        ("/readyz", False, 503, "the watch of OllamaModels, or the webhook, is not established\n"),
        ("/", True, 404, "only /healthz and /readyz are here\n"),
        ("/healthz/x", True, 404, "only /healthz and /readyz are here\n"),
    ],
)
async def test_alive_is_one_thing_and_ready_another(path, ready, status, text):
    """An operator that waits for the API server must not be restarted, only not counted on."""
    transport = httpx.ASGITransport(Probes(Known(ready)))
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as kubelet:
        answer = await kubelet.get(path)
    assert (answer.status_code, answer.text) == (status, text)


async def test_who_is_not_logged_in_is_not_ready_and_says_so():
    """Why, the log says: anybody may ask a probe, and the reason names files and programs."""
    transport = httpx.ASGITransport(Probes(Known(ready=False, logged_in=False)))
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as kubelet:
        answer = await kubelet.get("/readyz")
    assert answer.status_code == 503
    assert answer.text == "not logged in to Kubernetes; the log says why\n"


async def test_readiness_is_asked_anew_each_time():
    """It comes and goes."""
    health = Known(ready=False)
    transport = httpx.ASGITransport(Probes(health))
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as kubelet:
        codes = []
        for health.ready in (False, True, False):
            codes.append((await kubelet.get("/readyz")).status_code)
    assert codes == [503, 200, 503]
