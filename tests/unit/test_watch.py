import pytest

from crd.model import OLLAMA_MODELS, OllamaModel
from crd.names import ModelName
from crd.v1alpha1 import FINALIZER
from ollama_op.kube import store as watch
from ollama_op.kube.store import Store
from support.virtual.models import made, manifest, placed, raw

LLAMA = ModelName.parse("llama3.2:1b")
GONE = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


class Heard:
    """Notes what a listener is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def offer(self, key: str, item: OllamaModel) -> None:
        self.said.append((key, item.metadata.resource_version))

    def poke(self, key: str) -> None:
        """Note nothing: what is shared is not the subject here."""

    def retire(self, key: str) -> None:
        self.said.append((key, "gone"))

    def take(self) -> list[tuple[str, str]]:
        """Return what was said since the last time."""
        said, self.said = self.said, []
        return said


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def store(heard) -> Store:
    """Return a store that has listed nothing at version 1."""
    store = Store(OLLAMA_MODELS, lambda model: model.desired.placement)
    store.attach(heard)
    store.listed(set(), "1")
    return store


def test_nothing_is_told_before_the_list_is_complete(heard):
    """Who is told of an object can ask who else names its model; half a list would lie."""
    store = Store(OLLAMA_MODELS, lambda model: model.desired.placement)
    store.attach(heard)
    store.seen(raw(manifest("a")))
    store.put(made(manifest("b")))
    assert heard.take() == []
    store.listed({"uid-of-a", "uid-of-b"}, "5")
    assert heard.take() == [("uid-of-a", "1"), ("uid-of-b", "1")]
    store.listed({"uid-of-a", "uid-of-b"}, "6")
    assert heard.take() == []


def test_a_listener_that_comes_late_is_told_of_all(store, heard):
    """As when leadership is won: the store was current all the time."""
    store.attach(None)
    store.put(made(manifest("a", version=2)))
    store.put(made(manifest("b", version=3)))
    assert heard.take() == []
    store.attach(heard)
    assert heard.take() == [("uid-of-a", "2"), ("uid-of-b", "3")]


def test_only_what_is_newer_is_news(store, heard):
    """The watch and the answers to our own writes come in any order."""
    for version in (9, 9, 8, 10, 2):
        store.put(made(manifest("a", version=version)))
    assert heard.take() == [("uid-of-a", "9"), ("uid-of-a", "10")]


def test_ten_is_newer_than_nine(store, heard):
    """Versions are numbers, not text."""
    store.put(made(manifest("a", version=9)))
    store.put(made(manifest("a", version=10)))
    assert heard.take()[-1] == ("uid-of-a", "10")


def test_the_dead_do_not_come_back(store, heard):
    """The answer to a write may arrive after the news of the deletion."""
    store.put(made(manifest("a", version=2)))
    store.deleted(raw(manifest("a", version=3)))
    store.put(made(manifest("a", version=4)))
    store.seen(raw(manifest("a", version=5)))
    assert heard.take() == [("uid-of-a", "2"), ("uid-of-a", "gone")]
    assert (len(store), store.sharers(placed(LLAMA), "")) == (0, 0)


def test_the_dead_are_not_remembered_for_ever(store, heard, monkeypatch):
    """Memory is bounded; the oldest are forgotten first."""
    monkeypatch.setattr(watch, "TOMBSTONES", 2)
    for name in ("a", "b", "c"):
        store.deleted(raw(manifest(name)))
    assert list(store._gone) == ["uid-of-b", "uid-of-c"]
    assert len(heard.take()) == 3


def test_a_name_that_is_used_again_is_another_object(store, heard):
    """Objects are told apart by uid."""
    store.put(made(manifest("a", uid="old", version=2)))
    store.put(made(manifest("a", uid="new", version=3)))
    store.deleted(raw(manifest("a", uid="old", version=4)))
    assert heard.take() == [("old", "2"), ("new", "3"), ("old", "gone")]
    assert len(store) == 1


def test_what_a_list_does_not_have_has_gone(store, heard):
    """Deletions that no watch told of are found by comparison."""
    store.put(made(manifest("a", version=2)))
    store.put(made(manifest("b", version=3)))
    heard.take()
    store.listed({"uid-of-b"}, "7")
    assert heard.take() == [("uid-of-a", "gone")]


def test_a_list_says_nothing_of_what_came_after_it(store, heard):
    """An object that we wrote while the list was under way is not gone."""
    store.listing()
    store.put(made(manifest("a", version=8)))
    store.listed(set(), "7")
    assert (heard.take(), len(store)) == ([("uid-of-a", "8")], 1)
    store.listing()
    store.listed(set(), "8")
    assert heard.take() == [("uid-of-a", "gone")]


def test_a_list_does_not_undo_what_was_written_meanwhile(store, heard):
    """It shows the past of what we wrote after it was asked for, and of nothing else."""
    store.put(made(manifest("a", version=5)))
    store.listing()
    store.put(made(manifest("a", version=8)))
    assert store.seen(raw(manifest("a", version=5))) == "uid-of-a"
    store.listed({"uid-of-a"}, "7")
    assert heard.take() == [("uid-of-a", "5"), ("uid-of-a", "8")]


def test_a_list_does_not_revive_what_was_deleted_meanwhile(store, heard):
    """The answer to a deletion may overtake that to a list."""
    store.put(made(manifest("a", version=5)))
    store.listing()
    store.forget("uid-of-a")
    store.seen(raw(manifest("a", version=5)))
    store.listed({"uid-of-a"}, "7")
    assert heard.take() == [("uid-of-a", "5"), ("uid-of-a", "gone")]


def test_what_was_known_before_a_list_is_judged_by_it_alone(store, heard):
    """A restored etcd has older versions of some, not all of them, and some that were deleted."""
    for name in ("changed", "kept", "ghost", "dead"):
        store.put(made(manifest(name, version=90)))
    store.deleted(raw(manifest("dead", version=95)))
    heard.take()
    store.listing()
    listed = {"changed": 60, "kept": 90, "dead": 61}
    uids = {store.seen(raw(manifest(name, version=v))) for name, v in listed.items()}
    store.listed(uids, "90")
    assert heard.take() == [
        ("uid-of-changed", "60"),
        ("uid-of-dead", "61"),
        ("uid-of-ghost", "gone"),
    ]
    store.put(made(manifest("changed", version=91)))
    assert heard.take() == [("uid-of-changed", "91")]


def test_the_same_version_may_be_another_one_after_a_restore(store, heard):
    """Versions are given out again: what differs is news, whatever its number."""
    store.put(made(manifest("a", version=90, model="llama3.2:1b")))
    store.listing()
    store.seen(raw(manifest("a", version=90, model="phi3:mini")))
    store.listed({"uid-of-a"}, "90")
    assert heard.take() == [("uid-of-a", "90")] * 2
    assert (store.sharers(placed(LLAMA), ""), len(store)) == (0, 1)


def test_a_list_that_breaks_off_judges_nothing_that_it_did_not_show(store, heard):
    """The next one begins anew, with what is known by then."""
    store.put(made(manifest("a", version=5)))
    store.put(made(manifest("b", version=6)))
    store.listing()
    store.seen(raw(manifest("a", version=4)))
    assert heard.take()[2:] == [("uid-of-a", "4")]
    store.listing()
    store.put(made(manifest("b", version=9)))
    store.listed({"uid-of-a"}, "8")
    assert heard.take() == [("uid-of-b", "9")]


def test_the_write_that_drops_the_last_finalizer_of_a_dying_object_ends_it(store, heard):
    """Its answer is the news; the watch tells the same again, and nobody minds."""
    store.put(made(manifest("a", version=2, finalizers=[FINALIZER])))
    store.put(made(manifest("a", version=3, finalizers=[FINALIZER], **GONE)))
    store.put(made(manifest("a", version=3, **GONE)))  # a real API server answers so
    assert heard.take() == [("uid-of-a", "2"), ("uid-of-a", "3"), ("uid-of-a", "gone")]
    assert len(store) == 0


def test_an_object_that_cannot_be_read_is_passed_over(store, heard):
    """Whatever is wrong with it, the next one is taken in."""
    bad = manifest("bad", finalizers=5)
    store.seen(raw(bad))
    store.seen(raw(manifest("a", version=2)))
    assert heard.take() == [("uid-of-a", "2")]


def test_bytes_that_are_no_text_are_passed_over(store, heard):
    """An object with broken UTF-8 is one that cannot be read, and no more than that."""
    body = bytes(raw(manifest("bad"))).replace(b'"bad"', b'"b\xffd"')
    store.seen(watch.msgspec.Raw(body))
    store.seen(raw(manifest("a", version=2)))
    assert heard.take() == [("uid-of-a", "2")]


def test_an_object_that_can_no_longer_be_read_has_not_gone(store, heard):
    """It stands in the list, so it is there: it stays as it was known, and can be mended."""
    store.put(made(manifest("a", version=2)))
    uid = store.seen(raw(manifest("a", version=3, finalizers=5)))
    store.listed({uid}, "3")
    store.seen(raw(manifest("a", version=4)))
    assert heard.take() == [("uid-of-a", "2"), ("uid-of-a", "4")]


# --- who names which model


def test_a_model_is_shared_when_another_live_object_names_it(store):
    """In any namespace and any spelling; oneself does not count."""
    store.put(made(manifest("a", version=2, model="llama3.2:1b")))
    assert not store.sharers(placed(LLAMA), "uid-of-a")
    store.put(made(manifest("b", version=3, model="LIBRARY/Llama3.2:1B", namespace="other")))
    assert store.sharers(placed(LLAMA), "uid-of-a")
    assert store.sharers(placed(LLAMA), "uid-of-b")
    assert not store.sharers(placed("llama3.2:3b"), "uid-of-a")


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.deleted(raw(manifest("b"))),
        lambda store: store.put(made(manifest("b", version=9, finalizers=[FINALIZER], **GONE))),
        lambda store: store.put(made(manifest("b", version=9, model="phi3:mini"))),
        lambda store: store.put(made(manifest("b", version=9) | {"spec": {}})),
        lambda store: store.listed({"uid-of-a"}, "9"),
    ],
    ids=["deleted", "about to be deleted", "names another", "names nothing", "not listed"],
)
def test_a_model_is_no_longer_shared_when_the_other_lets_go(store, change):
    """However the other object ceases to name it."""
    store.put(made(manifest("a", version=2)))
    store.put(made(manifest("b", version=3)))
    assert store.sharers(placed(LLAMA), "uid-of-a")
    change(store)
    assert not store.sharers(placed(LLAMA), "uid-of-a")
    assert store.sharers(placed(LLAMA), "somebody else")
