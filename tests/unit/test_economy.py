"""How little is done for a model that is there already: no work twice."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest
from msgspec.structs import replace

from crd import names
from crd.model import OLLAMA_MODELS, OllamaModel
from crd.v1alpha1 import OllamaModelStatus, State
from ollama_op.base.mailbox import Latest
from ollama_op.kube.store import Store
from ollama_op.reconcile import lifecycle
from ollama_op.reconcile.handle import Handle
from support.virtual.models import NOW, made, manifest
from support.virtual.world import MB, World, reason


@contextmanager
def counting(patch: pytest.MonkeyPatch, module: object, name: str) -> Iterator[list[object]]:
    """Count the calls of a function; yield the first argument of each."""
    calls: list[object] = []
    function = getattr(module, name)

    def counted(*args: object) -> object:
        calls.append(args[0])
        return function(*args)

    with patch.context() as here:
        here.setattr(module, name, counted)
        yield calls


async def test_adopting_a_model_takes_three_decisions(w: World, monkeypatch: pytest.MonkeyPatch):
    """Own it, verify it, rest: what the task itself has written does not wake it."""
    w.ollama.publish("m:1", MB)
    w.ollama.preload("m:1")
    with counting(monkeypatch, lifecycle, "decide") as decisions:
        await w.apply("m", "m:1")
        await w.until("m", lambda status: reason(status) == "Available")
    assert len(decisions) == 3


async def test_a_name_is_parsed_once(w: World, monkeypatch: pytest.MonkeyPatch):
    """Whichever versions of the object come by, and wherever else the name is met."""
    w.ollama.publish("m:1", MB)
    w.ollama.preload("m:1")
    names._read.cache_clear()
    with counting(monkeypatch, names, "_check_form") as parsed:
        await w.apply("m", "m:1")
        await w.until("m", lambda status: reason(status) == "Available")
    assert parsed == ["m"]


class Kube:
    """Answers a status write with what it has made of the object, and what others have."""

    def __init__(self, **others: str) -> None:
        self.others = others

    async def patch_status(self, model: OllamaModel, status: OllamaModelStatus) -> OllamaModel:
        meta = replace(model.metadata, resource_version="999")
        spec = replace(model.spec, **self.others)
        return OllamaModel(metadata=meta, spec=spec, status=status)


@pytest.mark.parametrize(("others", "is_news"), [({}, False), ({"tag": "2b"}, True)])
async def test_a_status_write_wakes_only_for_what_others_have_changed(others, is_news):
    """The answer may have a newer spec that the watch has not told yet."""
    box, store = (
        Latest(made(manifest())),
        Store(OLLAMA_MODELS, lambda model: model.desired.placement),
    )
    store.attach(boxes := Boxes(box))
    store.listed(set(), "0")
    store.put(box.item)
    await box.news(0)  # that of the object itself
    handle = Handle(
        box, kube=Kube(**others), events=None, objects=store, servers=None, clock=lambda: NOW
    )
    await handle.write_status(OllamaModelStatus(state=State.PENDING))
    assert boxes.box.item.status.state is State.PENDING
    with anyio.move_on_after(1) as waiting:
        await box.news()
    assert waiting.cancelled_caught is not is_news


class Boxes:
    """Stands for the supervisor of one object."""

    def __init__(self, box: Latest[OllamaModel]) -> None:
        self.box = box

    def offer(self, _key: str, item: OllamaModel) -> None:
        self.box.put(item)
