"""Ollama's lists are read entry by entry: what cannot be read costs no other model anything."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from crd.names import ModelName
from crd.v1alpha1 import UNREADABLE
from ollama_op.ollama.listing import FAR_AHEAD, read_models, read_running
from ollama_op.ollama.wire import Entry, Listing
from support.virtual.gateway import as_json
from support.virtual.measured import measured
from support.virtual.world import MB, Object, World, condition, reason

M, N = ModelName.parse("m:1"), ModelName.parse("n:1")
GOOD = {"name": "n:1", "digest": "d", "size": 7}

Spoil = Callable[[Object], Any]
"""What becomes of an entry."""

# Its name can be read, and nothing else is sure.
UNREAD: dict[str, Spoil] = {
    "no digest": lambda e: {k: v for k, v in e.items() if k != "digest"},
    "digest null": lambda e: e | {"digest": None},
    "digest a number": lambda e: e | {"digest": 7},
    "digest empty": lambda e: e | {"digest": ""},
    "no size": lambda e: {k: v for k, v in e.items() if k != "size"},
    "size a text": lambda e: e | {"size": "7 GB"},
    "size negative": lambda e: e | {"size": -1},
    "size true": lambda e: e | {"size": True},
    "size broken": lambda e: e | {"size": 7.5},
    "size huge": lambda e: e | {"size": 2**64},
    "name only in model": lambda e: {"model": e["name"]},
}
# Not even whose it is.
NAMELESS: dict[str, Spoil] = {
    "null": lambda _: None,
    "a number": lambda _: 7,
    "a text": lambda _: "m:1",
    "a list": lambda e: [e],
    "no name": lambda e: {"digest": e["digest"], "size": e["size"]},
    "name null": lambda e: e | {"name": None, "model": None},
    "name a number": lambda e: e | {"name": 7, "model": 7},
}
# Strange, and yet all that counts can be read.
FINE: dict[str, Spoil] = {
    "details null": lambda e: e | {"details": None},
    "details wrong": lambda e: e | {"details": {"family": 7}},
    "details a list": lambda e: e | {"details": ["llama"]},
    "more fields": lambda e: e | {"capabilities": ["x"], "new": {"a": [1]}},
    "name null, model not": lambda e: e | {"model": e["name"], "name": None},
    "twice": lambda e: e,
}


def read(*entries: Any) -> Listing[Entry]:
    """Read a list with these entries."""
    return read_models(as_json(200, {"models": entries}).body)


@pytest.mark.parametrize("spoil", UNREAD.values(), ids=UNREAD)
def test_an_entry_that_cannot_be_read_is_listed_nevertheless(spoil: Spoil) -> None:
    """It is left out, with words and no type of a language; the model is known to be there."""
    found = read(spoil(GOOD | {"name": "m:1"}), GOOD)
    assert (list(found), list(found.unread), found.nameless) == ([N], [M], 0)
    assert len(found.problems) == 1
    assert found.problems[0].startswith("m:1: it has no ")


@pytest.mark.parametrize("spoil", NAMELESS.values(), ids=NAMELESS)
def test_an_entry_without_a_name_is_counted(spoil: Spoil) -> None:
    """Whose it is, nobody knows."""
    found = read(GOOD, spoil(GOOD | {"name": "m:1"}))
    assert (list(found), list(found.unread), found.nameless) == ([N], [], 1)
    assert found.problems == ("an entry: it has no name",)


@pytest.mark.parametrize("spoil", FINE.values(), ids=FINE)
def test_what_nothing_depends_on_may_be_missing(spoil: Spoil) -> None:
    """The model is read without it."""
    found = read(spoil(GOOD | {"name": "m:1"}), GOOD, spoil(GOOD | {"name": "m:1"}))
    assert set(found) == {M, N}
    assert (found[M].digest, found[M].size) == ("d", 7)
    assert not found.unread


def test_a_name_that_is_none_is_left_out() -> None:
    """No object can name it; a line of the log shows it without what would break that line."""
    found = read(GOOD, GOOD | {"name": "not//a\nname"})
    assert (list(found), dict(found.unread), found.nameless) == ([N], {}, 0)
    assert found.problems == ("not//a name: that is no name of a model",)


def test_of_a_model_that_is_listed_twice_the_first_counts() -> None:
    """Or the one that can be read."""
    found = read(GOOD, GOOD | {"name": "N:1", "digest": "e"})
    assert found[N].digest == "d"
    assert found.problems == ("N:1: it is listed twice; the digest d counts",)
    for entries in ([GOOD, {"name": "n:1"}], [{"name": "n:1"}, GOOD]):
        assert (read(*entries)[N].digest, dict(read(*entries).unread)) == ("d", {})


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b"null",
        b'{"models":7}',
        b'{"models":{}}',
        b'{"error":"no"}',
        b'{"models":[null]}',
    ],
)
def test_what_is_no_list_says_nothing(body: bytes) -> None:
    """Above all it is not an empty list."""
    with pytest.raises(UNREADABLE):
        read_models(body)


def test_what_is_in_memory_is_so_whatever_else_is_said_of_it() -> None:
    """Without a time that can be read it is there for ever, and not loaded all the time."""
    entries = [
        {"name": "m:1", "expires_at": "soon", "digest": 7},
        {"name": "n:1", "expires_at": "2026-01-01T00:00:00Z", "digest": "d"},
        None,
    ]
    found = read_running(as_json(200, {"models": entries}).body, timedelta())
    assert found[M].expires_at == FAR_AHEAD
    assert (found[N].expires_at.year, found[N].digest) == (2026, "d")
    assert found.problems == ("m:1: its times cannot be read", "an entry: it has no name")


# --- what the operator makes of it


async def brought(w: World) -> None:
    """Have two models Ready, as `m` and `n`."""
    for name in ("m", "n"):
        w.ollama.publish(f"{name}:1", MB)
        await w.apply(name, f"{name}:1")
        await w.ready(name)


async def spoiled(w: World, spoil: Spoil) -> None:
    """Spoil the entry of m:1 from now on."""
    models = (await w.ollama_http.get("/api/tags")).json()["models"]
    models = [spoil(each) if each["name"] == "m:1" else each for each in models]
    w.gateway.answer(as_json(200, {"models": models}), "GET /api/tags")


@pytest.mark.parametrize("spoil", [*UNREAD.values(), *NAMELESS.values()], ids=[*UNREAD, *NAMELESS])
async def test_a_model_whose_entry_cannot_be_read_is_not_lost(w: World, spoil: Spoil) -> None:
    """It is neither pulled nor deleted, and Ready by itself once it can be read; said once."""
    await brought(w)
    await spoiled(w, spoil)
    writes = len(w.writes("n"))
    with capture_logs() as logs:
        status = await w.until("m", lambda s: reason(s) == "ProtocolError", within_s=61)
        await anyio.sleep(600)
    assert condition(status, "Ready") == "False"
    assert "/api/tags" in status["error"]
    assert "nextRetryTime" not in status
    told = [line for line in logs if line["event"].startswith("entries of a list")]
    assert [(line["endpoint"], line["entries"]) for line in told] == [("/api/tags", 1)]
    assert len(w.writes("n")) == writes
    assert w.ollama.calls["POST /api/pull"] == 2
    w.gateway.let_through()
    await w.until("m", lambda s: reason(s) == "Available", within_s=61)
    assert w.ollama.calls["POST /api/pull"] == 2
    assert w.ollama.calls["DELETE /api/delete"] == 0


@pytest.mark.parametrize(
    "spoil", [UNREAD["no digest"], NAMELESS["null"]], ids=["unread", "nameless"]
)
async def test_a_model_whose_entry_cannot_be_read_is_deleted(w: World, spoil: Spoil) -> None:
    """That it cannot be found in the list is no reason to let the object go."""
    await brought(w)
    await spoiled(w, spoil)
    await anyio.sleep(61)
    await w.delete("m")
    await anyio.sleep(5)
    assert w.ollama.calls["DELETE /api/delete"] >= 1
    w.gateway.let_through()
    await w.gone("m", within_s=61)
    assert set(w.ollama.models) == {"n:1"}


async def test_the_others_do_not_notice(w: World) -> None:
    """Beside an entry that nobody can read, a model is brought, lost, restored and deleted."""
    await brought(w)
    models = (await w.ollama_http.get("/api/tags")).json()["models"]
    w.gateway.answer(as_json(200, {"models": [None, *models]}), "GET /api/tags")
    await anyio.sleep(61)
    w.ollama.publish("o:1", MB)
    await w.apply("o", "o:1")
    without_n = [each for each in models if each["name"] != "n:1"]
    w.ollama.lose("n:1")
    w.gateway.answer(as_json(200, {"models": [None, *without_n]}), "GET /api/tags")
    await w.until("n", lambda s: condition(s, "Ready") != "True", within_s=61)
    await anyio.sleep(1)
    assert {"n:1", "o:1"} <= set(w.ollama.models)
    assert reason((await w.get("m"))["status"]) == "Available"


async def test_entries_that_cannot_be_read_have_a_number() -> None:
    """By list; 0 from the start, and again once all can be read."""
    async with measured() as m:
        await brought(m.w)
        await m.w.patch("n", {"spec": {"keepAlive": "-1"}})
        await m.w.until("n", lambda s: s.get("loaded") is True)
        assert m.value("ollama_op_server_unreadable_entries") == 0
        await spoiled(m.w, UNREAD["no size"])
        loaded = (await m.w.ollama_http.get("/api/ps")).json()["models"]
        m.w.gateway.answer(as_json(200, {"models": [*loaded, None, 7]}), "GET /api/ps")
        await anyio.sleep(61)
        name = "ollama_op_server_unreadable_entries"
        assert m.value(name, endpoint="/api/tags", server="default") == 1
        assert m.value(name, endpoint="/api/ps", server="default") == 2
        m.w.gateway.let_through()
        await anyio.sleep(61)
        assert m.value(name) == 0
