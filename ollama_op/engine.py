"""The parts of a running operator that know how things are, for those who only look."""

from collections.abc import Sized
from dataclasses import dataclass

from api.ports import Reviewer
from ollama_op.instance import Instance
from ollama_op.reflector import Reflector
from ollama_op.survey import Survey
from ollama_op.watch import Store


@dataclass(frozen=True, slots=True)
class Engine:
    """A running operator. Whoever has it looks, and changes nothing."""

    store: Store
    reflector: Reflector
    survey: Survey
    instance: Instance
    tasks: Sized  # one for each object
    reviewer: Reviewer  # knows what Kubernetes says about people
