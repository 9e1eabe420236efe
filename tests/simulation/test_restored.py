"""Objects that come from a backup, without what the operator had written on them."""

import json

import anyio
import pytest

from api.plan import plan
from api.ports import Held
from crd.v1alpha1 import FINALIZER
from support.virtual.world import MB, Object, World, reason

PATCH = {"content-type": "application/merge-patch+json"}


async def renaming(w: World) -> Object:
    """Change an object from m:1 to m:2, of which nothing has come yet; return it."""
    w.ollama.publish("m:1", MB)
    w.ollama.publish("m:2", 10_000 * MB)
    await w.apply("m", "m:1")
    await w.ready("m")
    await w.patch("m", {"spec": {"tag": "2"}})
    await w.until("m", lambda s: reason(s) == "Pulling")
    return await w.get("m")


async def restore(w: World, obj: Object, *, status: bool, finalizer: bool) -> None:
    """Lose the object, and have it from a backup with what that has kept."""
    await w.http.delete(w.path("m"))
    await w.http.patch(w.path("m"), content='{"metadata":{"finalizers":null}}', headers=PATCH)
    meta = {"name": "m", "finalizers": [FINALIZER] if finalizer else []}
    body = {**obj, "metadata": meta}
    del body["status"]
    await w.call("POST", w.path(), body)
    if status:
        await w.http.patch(
            w.path("m/status"), content=json.dumps({"status": obj["status"]}), headers=PATCH
        )


def unmanaged(w: World) -> list[str]:
    """Return what `GET /api/v1/plan` lists as nobody's."""
    engine = w.health.engine
    assert engine is not None
    listed = engine.servers.listed() or {}
    there = {where: Held(e.digest, e.size) for where, e in listed.items()}
    return [each.model for each in plan(engine.store, there).unmanaged]


@pytest.mark.parametrize("finalizer", [True, False])
@pytest.mark.parametrize("status", [True, False])
async def test_a_rename_that_comes_from_a_backup_is_ended(
    w: World, *, status: bool, finalizer: bool
) -> None:
    """With its status it removes what it had before; without, the plan lists that as nobody's."""
    obj = await renaming(w)
    await w.stop()
    await restore(w, obj, status=status, finalizer=finalizer)
    w.start()
    await w.ready("m", within_s=2000)
    await anyio.sleep(120)
    left = set() if status else {"m:1"}
    assert set(w.ollama.models) == {"m:2"} | left
    assert set(unmanaged(w)) == left

    await w.delete("m")
    await w.gone("m", within_s=10)
    await anyio.sleep(120)
    assert set(w.ollama.models) == left
    assert set(unmanaged(w)) == left
