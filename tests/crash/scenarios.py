"""The stories of the crash sweep. To add one: a function if there is none that fits, and a row."""

import anyio

from crash.play import Scenario
from crd.v1alpha1 import FORCE_DELETE, REFRESH
from support.virtual.world import MB, World

# --- what people do; each is done in a moment, unless it says otherwise


async def want(w: World) -> None:
    """Ask for m:1, which takes two seconds to pull."""
    w.ollama.publish("m:1", 20 * MB, MB)
    w.ollama.publish("m:2", 10 * MB)
    await w.apply("m", "m:1")


async def have(w: World) -> None:
    """Have m:1 on the server already."""
    w.ollama.publish("m:1", 20 * MB, MB)
    w.ollama.preload("m:1")


async def want_what_just_came(w: World) -> None:
    """Ask for a model that came to the server a moment ago."""
    await have(w)
    await want(w)


async def want_what_is_broken(w: World) -> None:
    """Ask for a model that is on the server, but not whole."""
    w.ollama.publish("m:1", 10 * MB, MB)
    w.ollama.preload("m:1")
    w.ollama.break_blob("m:1")
    await w.apply("m", "m:1")


async def want_what_cannot_be_read(w: World) -> None:
    """Ask for a model that is on the server, and that no pull alone mends."""
    w.ollama.publish("m:1", 10 * MB, MB)
    w.ollama.preload("m:1")
    w.ollama.spoil("m:1")
    await w.apply("m", "m:1")


async def use(w: World) -> None:
    """Ask for m:1 and, once it is there, use it, so that it is in memory."""
    await want(w)
    await w.ready("m")
    await w.ollama_http.post("/api/generate", json={"model": "m:1"})


async def want_twice(w: World) -> None:
    """Ask for one model from two namespaces."""
    await want(w)
    await want_by_another(w)


async def delete(w: World) -> None:
    """Take the wish back."""
    await w.delete("m")


async def delete_both(w: World) -> None:
    """Take both wishes back at once."""
    await w.delete("m")
    await w.delete("other", namespace="elsewhere")


async def delete_one_after_the_other(w: World) -> None:
    """Take both wishes back; the second one when the first is done."""
    await w.delete("m")
    await w.rest()
    await w.delete("other", namespace="elsewhere")


async def delete_mid_pull(w: World) -> None:
    """Ask for a model, and take that back while it is pulled."""
    await want(w)
    await pulling(w)
    await w.delete("m")


async def delete_in_an_outage(w: World) -> None:
    """Take the wish back while Ollama is away; which takes two minutes."""
    w.ollama.is_down = True
    await w.delete("m")
    await anyio.sleep(120)
    w.ollama.is_down = False


async def force_delete(w: World) -> None:
    """Take the wish back while Ollama is away, and lose patience."""
    w.ollama.is_down = True
    await w.delete("m")
    await anyio.sleep(30)
    await annotate(w, FORCE_DELETE, "true")
    await w.gone("m")
    w.ollama.is_down = False


async def refresh(w: World) -> None:
    """Ask for the newest version, where there is none."""
    await annotate(w, REFRESH, "true")


async def refresh_to_new(w: World) -> None:
    """Ask for the newest version by a token, where there is one."""
    w.ollama.publish("m:1", 20 * MB, MB, seed="new")
    await annotate(w, REFRESH, "token")


async def refresh_while_it_changes(w: World) -> None:
    """Ask for the newest version; while it comes, see a newer one, and ask again by a token."""
    w.ollama.publish("m:1", 20 * MB, MB, seed="new")
    await annotate(w, REFRESH, "true")
    await pulling(w)
    w.ollama.publish("m:1", 20 * MB, 2 * MB, seed="newest")
    await annotate(w, REFRESH, "token")


async def change_tag(w: World) -> None:
    """Want m:2 instead."""
    await w.patch("m", {"spec": {"tag": "2"}})


async def change_back(w: World) -> None:
    """Want m:1 after all."""
    await w.patch("m", {"spec": {"tag": "1"}})


async def want_both(w: World) -> None:
    """Want m:1 by one object, and m:2 by another."""
    await want(w)
    await w.apply("other", "m:2", namespace="elsewhere")


async def want_by_another(w: World) -> None:
    """Ask for m:1 from another namespace as well."""
    await w.apply("other", "M:1", namespace="elsewhere")


async def hand_over(w: World) -> None:
    """Let the other object want m:1, and the first one nothing any more."""
    await w.patch("other", {"spec": {"tag": "1"}}, namespace="elsewhere")
    await w.delete("m")


async def swap(w: World) -> None:
    """Let two objects change places."""
    await change_tag(w)
    await w.patch("other", {"spec": {"tag": "1"}}, namespace="elsewhere")


async def want_relative(w: World) -> None:
    """Want a model that shares its first layer with another one, which is there."""
    w.ollama.publish("old:1", 10 * MB, MB, shared="base")
    w.ollama.publish("m:1", 10 * MB, 20 * MB, shared="base")
    await w.apply("old", "old:1")
    await w.ready("old")


async def replace_relative(w: World) -> None:
    """Want m:1 and, while it is pulled, no longer its relative."""
    await w.apply("m", "m:1")
    await pulling(w)
    await w.delete("old")


async def change_tag_mid_pull(w: World) -> None:
    """Want m:1, and m:2 instead while that is pulled."""
    await want(w)
    await pulling(w)
    await change_tag(w)


async def lose(w: World) -> None:
    """Delete the model behind everybody's back."""
    w.ollama.lose("m:1")


async def make_anew(w: World) -> None:
    """Tear the object away, finalizers and all, and put another one in its place."""
    path, kind = w.path("m"), {"content-type": "application/merge-patch+json"}
    await w.http.delete(path)  # as with the next one: it may be gone by itself
    await w.http.patch(path, content='{"metadata":{"finalizers":null}}', headers=kind)
    await w.apply("m", "m:1")


async def replace(w: World) -> None:
    """Delete and apply, as `kubectl replace --force` does."""
    await w.delete("m")
    await w.gone("m")
    await w.apply("m", "m:1")


async def make_anew_in_absence(w: World) -> None:
    """Do so while the operator is not there."""
    await w.stop()
    await make_anew(w)
    w.start()


async def want_pinned(w: World) -> None:
    """Ask for another digest than the one that is there and the registry has."""
    await have(w)
    await w.apply("m", "m:1", spec={"expectedDigest": "0" * 64})


async def want_loaded(w: World) -> None:
    """Ask for m:1, in memory."""
    w.ollama.publish("m:1", 20 * MB, MB)
    await w.apply("m", "m:1", spec={"keepAlive": "-1"})


async def want_retained(w: World) -> None:
    """Ask for m:1, to stay when its object goes."""
    w.ollama.publish("m:1", 20 * MB, MB)
    w.ollama.publish("m:2", 10 * MB)
    await w.apply("m", "m:1", spec={"deletionPolicy": "Retain"})


async def suspend(w: World) -> None:
    """Pause the care."""
    await w.patch("m", {"spec": {"suspend": True}})


async def suspend_mid_pull(w: World) -> None:
    """Pause while the model is pulled, and go on after a while."""
    await want(w)
    await pulling(w)
    await suspend(w)
    await w.rest()
    await w.patch("m", {"spec": {"suspend": None}})


async def stop_keeping(w: World) -> None:
    """No longer want the model in memory."""
    await w.patch("m", {"spec": {"keepAlive": None}})


# --- what they wait for, and how they say it


async def pulling(w: World) -> None:
    """Wait until a pull is under way."""
    with anyio.move_on_after(60):
        while not w.ollama.pulls:  # noqa: ASYNC110 - a counter has no event
            await anyio.sleep(0.25)
        await anyio.sleep(0.75)


async def annotate(w: World, name: str, value: str) -> None:
    """Annotate the object."""
    await w.patch("m", {"metadata": {"annotations": {name: value}}})


M1, M2 = frozenset({"m:1"}), frozenset({"m:2"})

GRACE = {"deletion_grace_s": 20}  # over, with one failure, when all is at rest

SCENARIOS = (
    Scenario("create", when=want, leaves=M1),
    Scenario("adopt", given=have, when=want, leaves=M1),
    Scenario("adopt what just came", when=want_what_just_came, leaves=M1),
    Scenario("repair", when=want_what_is_broken, leaves=M1),
    Scenario("repair afresh", when=want_what_cannot_be_read, leaves=M1),
    Scenario("share", when=want_twice, leaves=M1),
    Scenario("unshare", given=want_twice, when=delete_one_after_the_other),
    Scenario("delete", given=want, when=delete),
    Scenario("delete loaded", given=use, when=delete),
    Scenario("delete both", given=want_twice, when=delete_both),
    Scenario("delete mid-pull", when=delete_mid_pull),
    Scenario("delete in an outage", given=want, when=delete_in_an_outage),
    Scenario("force-delete", given=want, when=force_delete, leaves=M1),
    Scenario("refresh", given=want, when=refresh, leaves=M1),
    Scenario("refresh to new", given=want, when=refresh_to_new, leaves=M1),
    Scenario("refresh while it changes", given=want, when=refresh_while_it_changes, leaves=M1),
    Scenario("change tag", given=want, when=change_tag, leaves=M2),
    Scenario("change tag mid-pull", when=change_tag_mid_pull, leaves=M2),
    Scenario("change tag of a shared one", given=want_twice, when=change_tag, leaves=M1 | M2),
    Scenario("hand over", given=want_both, when=hand_over, leaves=M1),
    Scenario("swap", given=want_both, when=swap, leaves=M1 | M2),
    Scenario("replace a relative", given=want_relative, when=replace_relative, leaves=M1),
    Scenario("replace", given=want, when=replace, leaves=M1),
    Scenario("loss", given=want, when=lose, leaves=M1),
    Scenario("anew in absence", given=want, when=make_anew_in_absence, leaves=M1),
    Scenario("suspend mid-pull", when=suspend_mid_pull, leaves=M1),
    Scenario("suspend, deleted", given=want, when=suspend, meanwhile=delete),
    Scenario("pin", when=want_pinned, leaves=M1),
    Scenario("keep loaded", when=want_loaded, leaves=M1),
    Scenario("keep no longer", given=want_loaded, when=stop_keeping, leaves=M1),
    Scenario("retain", given=want_retained, when=delete, leaves=M1),
    Scenario("retain, tag changed", given=want_retained, when=change_tag, leaves=M1 | M2),
    Scenario("delete with a grace", given=want, when=delete, settings=GRACE),
    Scenario("replace with a grace", given=want, when=replace, leaves=M1, settings=GRACE),
    # Between any two writes:
    Scenario("create, made anew", when=want, meanwhile=make_anew, leaves=M1),
    Scenario("create, deleted", when=want, meanwhile=delete),
    Scenario("create, tag changed", when=want, meanwhile=change_tag, leaves=M2),
    Scenario("delete, made anew", given=want, when=delete, meanwhile=make_anew, leaves=M1),
    Scenario("refresh, made anew", given=want, when=refresh, meanwhile=make_anew, leaves=M1),
    Scenario("refresh, deleted", given=want, when=refresh_to_new, meanwhile=delete),
    Scenario("change tag, deleted", given=want, when=change_tag, meanwhile=delete),
    Scenario("change tag, and back", given=want, when=change_tag, meanwhile=change_back, leaves=M1),
    Scenario("delete, wanted", given=want, when=delete, meanwhile=want_by_another, leaves=M1),
    Scenario(
        "delete with a grace, wanted",
        given=want,
        when=delete,
        meanwhile=want_by_another,
        leaves=M1,
        settings=GRACE,
    ),
    Scenario("share, one deleted", when=want_twice, meanwhile=delete, leaves=M1),
    Scenario("share, both deleted", when=want_twice, meanwhile=delete_both),
    Scenario("loss, deleted", given=want, when=lose, meanwhile=delete),
)
