"""What is about to happen, from what is wanted and what is there. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from api.bodies import Plan, PlannedModel, Ref
from api.ports import Held
from crd.names import InvalidNameError, ModelName
from crd.v1alpha1 import DeletionPolicy, Malformed, OllamaModel


def plan(
    models: Iterable[OllamaModel],
    there: Mapping[ModelName, Held],
    namespaces: Collection[str] | None = None,
) -> Plan:
    """Sort the models that somebody names, and those that nobody does.

    With `namespaces`, only what is named there is told, though all objects count.
    """
    wanted = defaultdict[ModelName, list[OllamaModel]](list)
    leaving = defaultdict[ModelName, list[OllamaModel]](list)
    for model in models:
        name, owned = wanted_name(model), _owned(model)
        if model.metadata.deletion_timestamp is not None:
            stays, goes = set[ModelName](), owned | ({name} if name else set())
        elif name is None:  # what it means is not known, so nothing goes on its account
            stays, goes = owned, set[ModelName]()
        else:
            stays, goes = {name}, owned - {name}
        for each in stays:
            wanted[each].append(model)
        for each in goes:
            leaving[each].append(model)
    result = Plan(pull=[], keep=[], delete=[], paused=[], unmanaged=[])
    for name in sorted({*wanted, *leaving, *there}, key=str):
        by = wanted.get(name) or leaving.get(name, [])
        shown = [m for m in by if namespaces is None or m.metadata.namespace in namespaces]
        if not shown and (by or namespaces is not None):
            continue
        line = _line(name, shown, there.get(name))
        if name in wanted:
            _wanted(result, by, present=name in there).append(line)
        elif name in there:
            (result.delete if _goes(by) else result.unmanaged).append(line)
    return result


def wanted_name(model: OllamaModel) -> ModelName | None:
    """Return the model that an object names, if it names one."""
    spec = model.spec
    try:
        return ModelName.of(spec.name or "", spec.tag or "")
    except InvalidNameError:
        return None


def _owned(model: OllamaModel) -> set[ModelName]:
    """List the models that go when the object goes."""
    names = set[ModelName]()
    for text in model.status.owned_models:
        with suppress(InvalidNameError):
            names.add(ModelName.parse(text))
    return names


def _wanted(result: Plan, by: list[OllamaModel], *, present: bool) -> list[PlannedModel]:
    if present:
        return result.keep
    paused = all(not isinstance(m.spec, Malformed) and m.spec.suspend for m in by)
    return result.paused if paused else result.pull


def _goes(by: list[OllamaModel]) -> bool:
    return any(m.spec.deletion_policy is DeletionPolicy.DELETE for m in by)


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
