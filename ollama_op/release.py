"""Letting go of models: the one before a change of the spec, or all when the object goes.

Nothing is deleted that another live object names; and whoever might name it is asked once more
right before the deletion.
"""

from msgspec.structs import replace

from crd.names import ModelName
from ollama_op.decide import Discard, Leave
from ollama_op.instance import Instance
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
        verb = "Kept" if action.retained else "Let go of"
        subject.event("Normal", "Discarded", f"{verb} {_join(action.names)}; the spec moved on.")

    async def leave(self, subject: Subject, action: Leave) -> None:
        """Let go of all that the object stands for, then of the object itself.

        Raises: OllamaError, KubeError.
        """
        if action.names and not subject.model.status.attempts:
            subject.event("Normal", "Deleting", f"Removing {_join(action.names)} from Ollama.")
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
            message = f"Let go by annotation; {_join(kept)} may still be on Ollama."
            subject.event("Warning", action.event, message)
        case "Retained":
            message = f"{_join(kept)} stays on Ollama, as spec.deletionPolicy says."
            subject.event("Normal", action.event, message)
        case _ if removed:
            subject.event("Normal", "Deleted", f"{_join(removed)} is gone from Ollama.")
        case _ if kept:
            message = f"{_join(kept)} stays on Ollama: another OllamaModel names it."
            subject.event("Normal", "Deleted", message)
        case _:
            pass  # it never named a model


def _join(names: tuple[ModelName, ...] | list[ModelName]) -> str:
    return ", ".join(map(str, names))
