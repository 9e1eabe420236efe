"""Deletions, whatever happens around them: none is begun that cannot be ended, or done twice."""

from collections.abc import AsyncGenerator, Callable

import anyio
import pytest
from structlog.testing import capture_logs

from crd.v1alpha1 import FORCE_DELETE
from ollama_op.reconcile.finalize import AT_ONCE
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.server import ApiFault
from support.virtual.measured import Measured, measured
from support.virtual.world import MB, Object, World, condition, reason, world

FORBIDDEN = ApiFault(
    code=403,
    reason="Forbidden",
    message='ollamamodels.ollama.smithforge.dev "{name}" is forbidden: User "ollama-op" cannot'
    ' patch resource "ollamamodels" in API group "ollama.smithforge.dev" in the namespace "team":'
    " no RoleBinding, and so long a text that it is cut off where names are long, as 256 is all",
)
NO_NAMESPACE = ApiFault(code=404, reason="NotFound", message='namespaces "team" not found')
TWENTY = [f"m{n}" for n in range(20)]  # their names are of several lengths
FEW = TWENTY[:3]
REFUSED = "kubernetes refuses a write, will retry"
DELETE = "DELETE /api/delete"


async def brought(w: World, *names: str, namespace: str = "team") -> None:
    """Have a model Ready for each of these names."""
    for name in names:
        w.ollama.publish(f"{name}:1", MB)
        await w.apply(name, f"{name}:1", namespace=namespace)
    for name in names:
        await w.until(name, lambda s: reason(s) == "Available", namespace=namespace)


async def delete(w: World, *names: str) -> None:
    """Delete objects, as the controller of a namespace does that is being deleted."""
    for name in names:
        await w.delete(name, namespace="team")


async def gone(w: World, *names: str, within_s: float) -> None:
    """Wait until none of these objects is there."""
    with anyio.fail_after(within_s):
        for name in names:
            await w.gone(name, namespace="team", within_s=within_s)


def refuse(
    w: World, fault: ApiFault, when: Callable[[SandboxRequest], bool] = lambda _: True
) -> None:
    """Refuse the operator's writes in the namespace `team`, from now on."""

    def intercept(request: SandboxRequest) -> ApiFault | None:
        is_write = request.method == "PATCH" and "/namespaces/team/" in request.path
        if not is_write or not when(request):
            return None
        name = request.path.split("/")[7]
        return ApiFault(
            code=fault.code, reason=fault.reason, message=fault.message.format(name=name)
        )

    w.kube.intercept = intercept


def is_release(request: SandboxRequest) -> bool:
    """Return True for the write that lets an object go, and not for its rehearsal."""
    is_status = request.path.endswith("/status")
    return not is_status and "dryRun" not in request.query


async def status_of(w: World, name: str) -> Object:
    """Return an object's status."""
    status: Object = (await w.get(name, namespace="team"))["status"]
    return status


@pytest.fixture
async def m() -> AsyncGenerator[Measured]:
    """Run a measured operator."""
    async with measured() as it:
        yield it


# --- a namespace whose RoleBindings have gone first


async def test_without_the_right_to_let_go_nothing_is_removed(m: Measured) -> None:
    """Twenty objects stay, and so do their models: what each status says goes on to be true."""
    w = m.w
    await brought(w, *TWENTY)
    refuse(w, FORBIDDEN)
    with capture_logs() as logs:
        await delete(w, *TWENTY)
        await anyio.sleep(120)
    assert w.ollama.calls[DELETE] == 0
    assert len(w.ollama.models) == 20
    # One line for the finalizer and one for the status; meanwhile, each is tried often.
    assert len([line for line in logs if line["event"] == REFUSED]) <= 2
    assert [line for line in logs if line["log_level"] in ("warning", "error", "info")] == [
        line for line in logs if line["event"] == REFUSED
    ]
    assert "ClusterRoleBinding" in next(line["hint"] for line in logs if line["event"] == REFUSED)


async def test_what_cannot_be_written_is_measured(m: Measured) -> None:
    """An alert about deletions that are blocked sees them, though no status may say so."""
    w = m.w
    await brought(w, *FEW)
    assert m.value("ollama_op_models_refused") == 0
    refuse(w, FORBIDDEN)
    await delete(w, *FEW)
    await anyio.sleep(60)
    assert m.value("ollama_op_models_refused") == 3
    assert m.value("ollama_op_models", state="DeletionBlocked") == 3
    assert m.value("ollama_op_model_ready") == 0
    w.kube.intercept = lambda _: None
    await gone(w, *FEW, within_s=25)
    assert m.value("ollama_op_models_refused") == 0


async def test_once_the_right_is_there_all_is_ended_soon(w: World) -> None:
    """Within 25 s, however long it took to be granted; and each model is deleted once."""
    await brought(w, *TWENTY)
    refuse(w, FORBIDDEN)
    await delete(w, *TWENTY)
    await anyio.sleep(120)
    w.kube.intercept = lambda _: None
    await gone(w, *TWENTY, within_s=25)
    assert w.ollama.models == {}
    assert w.ollama.calls[DELETE] == 20


async def test_a_refusing_kubernetes_is_not_flooded(w: World) -> None:
    """One object asks for all of its namespace, every few seconds at the most."""
    await brought(w, *TWENTY)
    refuse(w, FORBIDDEN)
    await delete(w, *TWENTY)
    await anyio.sleep(60)
    before = len(w.kube.requests)
    await anyio.sleep(300)
    tries = [path for method, path in w.kube.requests[before:] if method == "PATCH"]
    assert len(tries) <= 4 * 300 / 5  # kr8s asks four times before it believes a 403


async def test_rights_that_go_in_between_leave_few_models_removed(w: World) -> None:
    """The release follows each removal, so that all but a few are still on Ollama."""
    await brought(w, *TWENTY)
    released: list[str] = []

    def has_released(request: SandboxRequest) -> bool:
        if is_release(request):
            released.append(request.path)
        return bool(released)

    refuse(w, FORBIDDEN, when=has_released)  # the first release is refused already
    await delete(w, *TWENTY)
    await anyio.sleep(120)
    assert 1 <= w.ollama.calls[DELETE] <= AT_ONCE
    assert len(w.ollama.models) == 20 - w.ollama.calls[DELETE]


async def test_a_model_that_was_removed_is_not_called_ready(w: World) -> None:
    """Where at least the status can be written; and what comes back by hand is left alone."""
    await brought(w, "m0")
    refuse(w, FORBIDDEN, when=is_release)
    with capture_logs() as logs:
        await delete(w, "m0")
        await w.until("m0", lambda s: reason(s) == "DeletionBlocked", namespace="team")
        w.ollama.preload("m0:1")  # somebody pulls it for himself
        await anyio.sleep(600)
    status = await status_of(w, "m0")
    assert condition(status, "Ready") == "False"
    assert "m0:1 is gone from Ollama" in status["error"]
    assert "cannot patch resource" in status["error"]
    assert len([line for line in logs if line["event"] == "model deleted"]) == 1
    assert w.ollama.calls[DELETE] == 1
    assert "m0:1" in w.ollama.models
    w.kube.intercept = lambda _: None
    await gone(w, "m0", within_s=25)
    assert w.ollama.calls[DELETE] == 1


async def test_a_refused_release_is_told_before_anything_is_removed(w: World) -> None:
    """Where a policy forbids it, say, the object says who refuses, and that the model is there."""
    await brought(w, "m0")
    refuse(w, FORBIDDEN, when=lambda request: not request.path.endswith("/status"))
    await delete(w, "m0")
    status = await w.until("m0", lambda s: reason(s) == "DeletionBlocked", namespace="team")
    assert status["error"].startswith("Model not removed")
    assert w.ollama.calls[DELETE] == 0


async def test_deletions_of_another_namespace_do_not_wait_for_a_refused_one(w: World) -> None:
    """It has its own rights."""
    await brought(w, *TWENTY)
    await brought(w, "other", namespace="default")
    refuse(w, FORBIDDEN)
    await delete(w, *TWENTY)
    await anyio.sleep(30)
    await w.delete("other")
    await w.gone("other", within_s=3)


# --- a namespace that is no more


async def test_objects_of_a_namespace_that_is_no_more_wait_in_peace(w: World) -> None:
    """One line of the log, minutes between two tries, and no model is removed for nothing."""
    await brought(w, *FEW)
    refuse(w, NO_NAMESPACE)
    with capture_logs() as logs:
        await delete(w, *FEW)
        await anyio.sleep(3600)
        before = len(w.kube.requests)
        await anyio.sleep(3600)
        tries = [path for method, path in w.kube.requests[before:] if method == "PATCH"]
    told = [line for line in logs if line["event"] == REFUSED]
    assert len(told) == 1
    assert "create it again" in told[0]["hint"]
    assert w.ollama.calls[DELETE] == 0
    assert 0 < len(tries) <= len(FEW) * 3600 / 300
    w.kube.intercept = lambda _: None
    await gone(w, *FEW, within_s=700)
    assert w.ollama.models == {}


# --- force


async def force(w: World, value: str = "true") -> None:
    """Lose patience."""
    body = {"metadata": {"annotations": {FORCE_DELETE: value}}}
    await w.patch("m0", body, namespace="team")


async def test_force_removes_what_ollama_lets_it_remove(w: World) -> None:
    """It is no wish to keep the model: the removal is tried first, and the event says so."""
    await brought(w, "m0", namespace="default")
    await w.patch("m0", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await w.delete("m0")
    await w.gone("m0", within_s=5)
    assert w.ollama.models == {}
    events = dict(await w.events())
    assert events["ForcedDelete"] == "Let go by annotation; m0:1 is gone from Ollama."


async def test_force_waits_for_no_answer(w: World) -> None:
    """One try, which ends after ten seconds; then the object goes, and an event says what stays."""
    await brought(w, "m0", namespace="default")
    w.ollama.delay_s["/api/delete"] = 1e6
    await w.patch("m0", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await w.delete("m0")
    await w.gone("m0", within_s=15)
    events = dict(await w.events())
    assert events["ForcedDelete"] == "Let go by annotation; m0:1 may still be on Ollama."


async def test_force_takes_no_model_that_is_to_stay(w: World) -> None:
    """Neither one that is retained, nor one that another object names."""
    await brought(w, "m0", namespace="default")
    await w.apply("other", "m0:1")
    await w.ready("other")
    await w.patch("m0", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await w.delete("m0")
    await w.gone("m0", within_s=5)
    await w.patch("other", {"spec": {"deletionPolicy": "Retain"}})
    await w.patch("other", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await w.delete("other")
    await w.gone("other", within_s=5)
    assert set(w.ollama.models) == {"m0:1"}


# --- a change of mind


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"deletionPolicy": "Retain"}},
        {"metadata": {"annotations": {FORCE_DELETE: "true"}}},
    ],
)
async def test_a_change_of_mind_counts_at_once(w: World, change: Object) -> None:
    """Also while Ollama takes its time with the deletion: nobody waits for the next try."""
    await brought(w, "m0")
    w.ollama.delay_s["/api/delete"] = 25  # shorter than it would be waited for
    w.ollama.delay_s["/api/ps"] = 25
    await delete(w, "m0")
    await anyio.sleep(3)
    asked = anyio.current_time()
    await w.patch("m0", change, namespace="team")
    await gone(w, "m0", within_s=14)
    assert anyio.current_time() - asked < 14


# --- a pull that is nearly done


async def verifying(w: World) -> None:
    """Have a model of which all bytes are there, and Ollama verify it for a minute."""
    w.ollama.downloads.verify_s = 60
    w.ollama.publish("m0:1", MB)
    await w.apply("m0", "m0:1")
    await anyio.sleep(5)
    assert (w.ollama.pulls, w.ollama.models) == (1, {})


async def test_a_model_that_is_being_verified_does_not_outlive_its_object(w: World) -> None:
    """Ollama writes it whoever listens, so the deletion waits for that, and then removes it."""
    await verifying(w)
    await w.delete("m0")
    await w.gone("m0", within_s=120)
    await anyio.sleep(120)
    assert w.ollama.models == {}


async def test_force_does_not_wait_for_a_verification(w: World) -> None:
    """Who is out of patience does not wait for Ollama, whatever it does."""
    await verifying(w)
    await w.delete("m0")
    await anyio.sleep(3)
    await w.patch("m0", {"metadata": {"annotations": {FORCE_DELETE: "true"}}})
    await w.gone("m0", within_s=15)


async def test_nor_does_one_whose_pull_another_operator_has_begun(w: World) -> None:
    """Nobody knows how far that pull was: the server is looked at again before the object goes."""
    await verifying(w)
    w.ollama.downloads.verify_s = 60
    await anyio.sleep(56)  # four seconds before the model is written
    await w.stop()
    await w.delete("m0")
    w.start()
    await w.gone("m0", within_s=60)
    await anyio.sleep(120)
    assert w.ollama.models == {}


async def test_waiting_for_such_pulls_holds_up_no_other_deletion() -> None:
    """However many were cut off, and however large they are."""
    cut_off = [f"m{number}" for number in range(AT_ONCE + 2)]
    async with world(max_concurrent_pulls=len(cut_off)) as w:
        w.start()
        await brought(w, "other")
        for name in cut_off:
            w.ollama.publish(f"{name}:1", 100_000 * MB)
            await w.apply(name, f"{name}:1")
        for name in cut_off:
            await w.until(name, lambda s: "progress" in s)
        await w.stop()
        for name in cut_off:
            await w.delete(name)
        w.start()
        await anyio.sleep(3)
        await delete(w, "other")
        await gone(w, "other", within_s=3)
        assert await w.exists(cut_off[0])
