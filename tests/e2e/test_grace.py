"""An object is deleted and made anew, as kubectl does it, and its model is not downloaded again."""

import json
from collections.abc import Callable, Iterator

import pytest

from support.process.operator import PATIENCE, Models, Operator, manifest, wait_until

pytestmark = pytest.mark.real


@pytest.fixture
def grace(operator: Operator) -> Iterator[Callable[[str], None]]:
    """Return what gives the operator a grace; afterwards it has none, as others expect."""
    yield lambda duration: operator.restart(f"--deletion-grace={duration}")
    operator.restart()


def test_replace_by_force_downloads_nothing(registry, ollama, models: Models, grace) -> None:
    """The registry is not even asked; digest and weights are the same, and nothing else is left."""
    digest = registry.publish("replaced", seed=901)
    grace("10m")
    models.want("replaced", "replaced:latest")
    models.ready("replaced")
    uid = models.get("replaced")["metadata"]["uid"]
    asked, sent = registry.count("manifests", "replaced"), registry.sent("replaced")

    body = json.dumps(manifest("replaced", "replaced"))
    models.kubectl("replace", "--force", PATIENCE, "-f", "-", input=body)
    status = models.ready("replaced")

    assert models.get("replaced")["metadata"]["uid"] != uid
    assert (status["digest"], status["origin"]) == (digest, "Adopted")
    assert registry.count("manifests", "replaced") == asked
    assert registry.sent("replaced") == sent
    assert ollama.show("replaced").is_success
    assert not [name for name in ollama.digests() if name.startswith("ollama-op-grace/")]
    models.told("replaced", "TakenOver")


def test_when_the_grace_is_over_nothing_is_left(registry, ollama, models, grace) -> None:
    """The object goes at once; the model when its time has come, marker and all."""
    registry.publish("over", seed=902)
    grace("1s")
    models.want("over", "over:latest")
    models.ready("over")

    models.remove("over")

    def left() -> list[str]:
        return [n for n in ollama.digests() if n.startswith(("over", "ollama-op-grace/"))]

    wait_until(lambda: not left(), lambda: f"there is still {left()}")
