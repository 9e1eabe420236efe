"""What was written before this version is taken over: by the schema, and by the operator."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from crd.render import crd
from crd.v1alpha1 import FINALIZER
from support.virtual.world import MB, World, condition

KEPT = sorted((Path(__file__).parent / "kept").glob("crd-*.yaml"))
Schema = dict[str, Any]
LIMITS = {"minLength": 1, "minimum": 1, "minItems": 1, "maxLength": -1, "maximum": -1}


def versions(manifest: dict[str, Any]) -> dict[str, Schema]:
    """Return the schema of each version that is served."""
    return {
        each["name"]: each["schema"]["openAPIV3Schema"]
        for each in manifest["spec"]["versions"]
        if each["served"]
    }


def stricter(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """Name the limits of one field that have become narrower."""
    if "enum" in new and not set(old.get("enum", [None])) <= set(new["enum"]):
        yield f"{path} takes fewer words"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{path} has another pattern"
    for word, sign in LIMITS.items():
        if word in new and (word not in old or sign * new[word] > sign * old[word]):
            yield f"{path} has another {word}"
    if new.get("x-kubernetes-validations"):
        yield f"{path} has rules"


def narrowed(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """Name what the old schema takes and the new one does not."""
    if old.get("type") != new.get("type"):
        yield f"{path} was {old.get('type')}, is {new.get('type')}"
    for name in set(new.get("required", ())) - set(old.get("required", ())):
        yield f"{path}.{name} is required"
    yield from stricter(old, new, path)
    for name, field in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{path}.{name} is gone"
        else:
            yield from narrowed(field, new["properties"][name], f"{path}.{name}")
    if "items" in old:
        yield from narrowed(old["items"], new.get("items", {}), f"{path}[]")


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_an_earlier_crd_takes_this_one_takes(path: Path) -> None:
    """Fields are added, never taken away, renamed or narrowed; versions stay served."""
    before, now = versions(yaml.safe_load(path.read_text())), versions(crd())
    assert before
    for name, schema in before.items():
        assert [*narrowed(schema, now[name])] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s["properties"].pop("tag"), ".spec.tag is gone"),
        (lambda s: s["required"].append("keepAlive"), ".spec.keepAlive is required"),
        (lambda s: s["properties"]["tag"].update(maxLength=3), ".spec.tag has another maxLength"),
        (lambda s: s["properties"]["name"].update(type="integer"), "was string, is integer"),
    ],
)
def test_what_would_break_users_is_seen(change, told) -> None:
    """The comparison is able to fail."""
    (before,), (now,) = versions(crd()).values(), versions(crd()).values()
    change(now["properties"]["spec"])
    assert any(told in each for each in narrowed(before, now))


async def test_an_object_of_the_go_operator_is_taken_over(w: World) -> None:
    """Its digest is of another text, its finalizer ours: no pull, one write, Ready."""
    await w.stop()
    w.ollama.publish("llama3.2:1b", MB)
    w.ollama.preload("llama3.2:1b")
    made = await w.apply(
        "m", "llama3.2:1b", **{"ollama.smithforge.dev/refresh": "completed-2025-06-01T10:00:00Z"}
    )
    await w.patch("m", {"metadata": {"finalizers": [FINALIZER]}})
    path = f"{w.path('m')}/status"
    await w.call(
        "PATCH",
        path,
        {
            "status": {
                "state": "Ready",
                "lastPullTime": "2025-06-01T10:00:00Z",
                "digest": "d8ba2f9a17b3bbdeb5690efaa409b3fcb0b56296a777c7a69c78aa33bbddf182",
                "size": 1234,
                "formattedSize": "1.2 KiB",
            }
        },
    )
    before = len(w.writes("m"))
    w.start()
    status = await w.until("m", lambda s: condition(s, "Ready") == "True")
    await anyio.sleep(200)
    assert w.ollama.calls["POST /api/pull"] == 0
    assert status["digest"] == w.ollama.models["llama3.2:1b"]
    assert [what for _, what in w.writes("m")[before:]] == ["status"]
    assert (await w.get("m"))["metadata"]["annotations"] == made["metadata"]["annotations"]
