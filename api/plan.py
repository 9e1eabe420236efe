"""What is about to happen, from what is wanted and what is there. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from api.bodies import Plan, PlannedModel, Ref
from api.ports import Held
from crd.model import OllamaModel
from crd.names import ModelName
from crd.placement import Placement
from crd.reasons import Verdict
from crd.v1alpha1 import FINALIZER


def plan(
    models: Iterable[OllamaModel],
    there: Mapping[Placement, Held],
    namespaces: Collection[str] | None = None,
) -> Plan:
    """Sort the models that somebody names, and those that nobody does.

    With `namespaces`, only what is named there is told, though all objects count.
    """
    named, leaving, held = _by_place(models)
    result = Plan(pull=[], keep=[], delete=[], paused=[], unmanaged=[])
    for where in sorted({*named, *leaving, *held, *there}, key=_order_of_place):
        by = named.get(where) or leaving.get(where) or held.get(where, [])
        shown = [m for m in by if namespaces is None or m.metadata.namespace in namespaces]
        if not shown and (by or namespaces is not None):
            continue
        line = _line(where.model, shown, there.get(where))
        if where in named:
            _named(result, by, present=where in there).append(line)
        elif where in there:
            goes, stays = where in leaving and _goes(by), where in held and where not in leaving
            (result.delete if goes else result.keep if stays else result.unmanaged).append(line)
    return result


ByPlace = defaultdict[Placement, list[OllamaModel]]


def _by_place(models: Iterable[OllamaModel]) -> tuple[ByPlace, ByPlace, ByPlace]:
    """Sort objects by the models that they name, let go of, and hold until they are cared for."""
    named, leaving, held = ByPlace(list), ByPlace(list), ByPlace(list)
    for model in models:
        where, owned = model.desired.placement, _owned(model)
        if model.metadata.deletion_timestamp is None:
            if where is not None:
                named[where].append(model)
            for each in owned - {where}:
                (leaving if _is_cared_for(model) else held)[each].append(model)
        elif FINALIZER in model.metadata.finalizers:
            for each in owned | ({where} if where else set()):
                leaving[each].append(model)
    return named, leaving, held


def _owned(model: OllamaModel) -> set[Placement]:
    """List the models that go when the object goes: none before the operator has been there."""
    if not model.status.owned_models:
        return set()
    return {Placement(model.desired.server, name) for name in model.desired.owned}


def _is_cared_for(model: OllamaModel) -> bool:
    """Return True if the operator acts for the object: it is neither suspended nor wrong."""
    asked = model.desired
    is_right = asked.placement is not None and not isinstance(asked.options, Verdict)
    return is_right and not asked.is_suspended


def _named(result: Plan, by: list[OllamaModel], *, present: bool) -> list[PlannedModel]:
    if present:
        return result.keep
    return result.pull if any(map(_is_cared_for, by)) else result.paused


def _goes(by: list[OllamaModel]) -> bool:
    return not all(m.desired.is_retained for m in by)


def _line(name: ModelName, by: list[OllamaModel], held: Held | None) -> PlannedModel:
    return PlannedModel(
        model=str(name),
        wanted_by=tuple(
            sorted((Ref(m.metadata.namespace, m.metadata.name) for m in by), key=_order)
        ),
        size=held.size_bytes if held else None,
        digest=held.digest if held else None,
    )


def _order(ref: Ref) -> tuple[str, str]:
    return ref.namespace, ref.name


def _order_of_place(where: Placement) -> tuple[str, str]:
    return str(where.model), str(where.server)
