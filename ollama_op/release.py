"""Letting go of models: the one before a change of the spec, or all when the object goes.

Nothing is deleted that another live object names; and whoever might name it is asked once more
right before the deletion.
"""

from msgspec.structs import replace

from crd.names import ModelName
from ollama_op.decide import Discard, Leave
from ollama_op.instance import Instance
from ollama_op.occasions import Occasion
from ollama_op.reading import owned, with_wanted
from ollama_op.subject import Subject


class Releaser:
    """Lets go of models of one Ollama server."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    async def discard(self, subject: Subject, action: Discard) -> None:
        """Let go of models that the object stood for before its spec changed.

        Raises: OllamaError, KubeError.
        """
        for name in () if action.retained else action.names:
            await self._remove(subject, name)
        kept = tuple(str(each) for each in owned(subject.model) if each not in action.names)
        await subject.say(replace(subject.model.status, owned_models=kept))
        occasion = Occasion.KEPT_BEHIND if action.retained else Occasion.DISCARDED
        subject.event(occasion, models=_join(action.names))

    async def leave(self, subject: Subject, action: Leave) -> None:
        """Let go of all that the object stands for, then of the object itself.

        Raises: OllamaError, KubeError.
        """
        if action.names and not subject.model.status.attempts:
            subject.event(Occasion.DELETING, models=_join(action.names))
        removed = [name for name in action.names if await self._remove(subject, name)]
        await subject.release()
        _tell_left(subject, action, removed)

    async def _remove(self, subject: Subject, name: ModelName) -> bool:
        if subject.is_needed(name):
            return False  # not even worth waiting for whoever acts on the name
        removed = await self._instance.remove(name, unless=lambda: subject.is_needed(name))
        if removed:
            subject.log.info("model deleted", model=str(name))
        return removed


def _tell_left(subject: Subject, action: Leave, removed: list[ModelName]) -> None:
    kept = [name for name in with_wanted(subject.model) if name not in removed]
    subject.log.info("released", removed=[*map(str, removed)], kept=[*map(str, kept)])
    match action.event:
        case "ForcedDelete":
            subject.event(Occasion.FORCED, models=_join(kept))
        case "Retained":
            subject.event(Occasion.RETAINED, models=_join(kept))
        case _ if removed:
            subject.event(Occasion.DELETED, models=_join(removed))
        case _ if kept:
            subject.event(Occasion.SHARED, models=_join(kept))
        case _:
            pass  # it never named a model


def _join(names: tuple[ModelName, ...] | list[ModelName]) -> str:
    return ", ".join(map(str, names))
