"""What the engine tells of its doings, for whoever counts them; by default nobody does.

What can be looked up at any time is not told here: `Engine` has it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from crd.reasons import Reason


class Observer:
    """Hears of everything and does nothing. No method of it, or of what extends it, ever fails."""

    wants_version = False  # whether Ollama is to be asked for its version all the time

    def failed(self, reason: Reason) -> None:
        """Count a failure of a model, by its reason."""

    def crashed(self) -> None:
        """Count a crash of a model's task, which is started again."""

    def watch_ended(self, cause: str) -> None:
        """Count the end of a watch: `closed`, `expired` or `broken`."""

    def acting(self, _action: str) -> AbstractContextManager[None]:
        """Measure while a decision is carried out, named after its class."""
        return nullcontext()

    def pulling(self, _received: Callable[[], int]) -> AbstractContextManager[None]:
        """Measure while a download runs, of which so many bytes have been seen to arrive."""
        return nullcontext()

    def writing_status(self) -> AbstractContextManager[None]:
        """Measure while a status is written to Kubernetes."""
        return nullcontext()


NOBODY: Final = Observer()
