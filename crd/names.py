"""Ollama's grammar of model names, and the one canonical form that two spellings share.

A name is `[host[:port]/][namespace/]model[:tag]`. The parts left out are `registry.ollama.ai`,
`library` and `latest`. Ollama keeps the case as written (a registry may care) and ignores it when
it looks a model up, so names are equal here exactly when Ollama would take them for one model.

Source: Ollama, types/model/name.go.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Self

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

MAX_HOST = 350
MAX_PART = 80

# Unlike `$`, fullmatch() does not let a trailing newline pass; unlike `\w`, these are ASCII only.
_HOST = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:-]{{0,{MAX_HOST - 1}}}")
_NAMESPACE = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_PART - 1}}}")
_PART = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_PART - 1}}}")


class InvalidNameError(ValueError):
    """The text is no name that Ollama would take. The message says which part and why.

    `part` is host, namespace, model or tag, or `name` where the whole is wrong.
    """

    def __init__(self, problem: str, part: str = "name") -> None:
        super().__init__(problem)
        self.part = part


@dataclass(frozen=True, eq=False)
class ModelName:
    """A complete model name, its parts in the case they were written in."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name as Ollama does, but refuse the URL scheme that Ollama silently drops.

        Raises: InvalidNameError, naming the part that is wrong.
        """
        if "://" in text:
            raise InvalidNameError("the name is a URL; leave out the scheme")
        # A colon after the last slash begins a tag; one before it belongs to a port.
        path, tag = text, DEFAULT_TAG
        if text.rfind(":") > text.rfind("/"):
            path, _, tag = text.rpartition(":")
        parts = path.rsplit("/", 2)
        model = parts.pop()
        namespace = parts.pop() if parts else DEFAULT_NAMESPACE
        host = parts.pop() if parts else DEFAULT_HOST
        _check("host", host, _HOST, MAX_HOST)
        _check("namespace", namespace, _NAMESPACE, MAX_PART)
        _check("model", model, _PART, MAX_PART)
        _check("tag", tag, _PART, MAX_PART)
        return cls(host, namespace, model, tag)

    @classmethod
    def of(cls, name: str, tag: str) -> Self:
        """Join a name without a tag and its tag, as `spec.name` and `spec.tag` carry them.

        Raises: InvalidNameError; a name that brings its own tag is one.
        """
        if name.rfind(":") > name.rfind("/"):
            raise InvalidNameError("the name carries a tag; put it into the tag field")
        # Before they are joined: `host` and `5000/user/model` would read as a port and a path.
        _check("tag", tag, _PART, MAX_PART)
        return cls.parse(f"{name}:{tag}")

    @cached_property
    def canonical(self) -> str:
        """All four parts in lower case: equal for any two spellings of one model."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}".lower()

    @cached_property
    def _hash(self) -> int:
        return hash(self.canonical)

    def __str__(self) -> str:
        """Print the shortest form, as `ollama list` does: no defaults, but always the tag."""
        path = self.model
        if self.host.lower() != DEFAULT_HOST:
            path = f"{self.host}/{self.namespace}/{path}"
        elif self.namespace.lower() != DEFAULT_NAMESPACE:
            path = f"{self.namespace}/{path}"
        return f"{path}:{self.tag}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ModelName):
            return NotImplemented
        return self.canonical == other.canonical

    def __hash__(self) -> int:
        return self._hash


def _check(part: str, text: str, grammar: re.Pattern[str], limit: int) -> None:
    if grammar.fullmatch(text):
        return
    if not text:
        raise InvalidNameError(f"the {part} is empty", part)
    if len(text) > limit:
        problem = f"the {part} has {len(text)} characters; Ollama takes {limit}"
        raise InvalidNameError(problem, part)
    # One character and not the whole part, which may hold somebody's password: `user:secret@host`.
    at = next(i for i, char in enumerate(text) if not grammar.fullmatch(f"_{char}" if i else char))
    verb = "has" if at else "begins with"
    problem = f"the {part} {verb} {text[at]!a}, which Ollama does not take there"
    raise InvalidNameError(problem, part)
