"""One model's life, from the outside: what a user of Kubernetes and of Ollama sees."""

from support.world import MB, World, condition, reason


async def test_a_model_is_pulled_and_ready(w: World) -> None:
    """An applied model is pulled, verified, and described by Ollama's own digest and size."""
    digest = w.ollama.publish("llama3.2:1b", 40 * MB, 2 * MB)
    await w.apply("llama", "llama3.2:1b")
    status = await w.ready("llama")
    assert digest == status["digest"] == w.ollama.models["llama3.2:1b"]
    assert ("Ready", 42 * MB, "40.1 MiB") == (
        status["state"],
        status["size"],
        status["formattedSize"],
    )
    assert reason(status) == "Available"
    assert status["lastPullTime"].startswith("2026-01-01T00:00:0")
    assert "error" not in status
    assert "progress" not in status
    assert condition(status, "Reconciling") is None
    assert w.ollama.calls["POST /api/show"] == 1
