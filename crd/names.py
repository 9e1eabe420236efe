"""Ollama's grammar of model names, and the one canonical form that two spellings share.

A name is `[host[:port]/][namespace/]model[:tag]`. The parts left out are `registry.ollama.ai`,
`library` and `latest`. Ollama keeps the case as written (a registry may care) and ignores it when
it looks a model up, so names are equal here exactly when Ollama would take them for one model.

A spec has the name and its tag in two fields. People write both into the first: that has one
meaning unless the two tags differ. Whatever has none is told, with what to write instead.

Source: Ollama, types/model/name.go.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
CLOUD_HOST = "ollama.com"  # where cloud models run

# How long a part may be is for the server to say. Newer ones take 255 characters, most take 80.
MAX_HOST = 350
MAX_PART = 255
MAX_PATH = MAX_HOST + 2 * MAX_PART + len("//")

PARTS = 3  # of a path: host, namespace, model
NAMES_REMEMBERED = 10_000  # those that were read last
_SHOWN = 48  # characters of a name that a complaint repeats
_EXAMPLES = "write for example llama3.2, user/model or hf.co/Org/Model"
_EXAMPLE_TAG = "write for example 1b"

# Unlike `$`, fullmatch() does not let a trailing newline pass; unlike `\w`, these are ASCII only.
_HOST = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:-]{{0,{MAX_HOST - 1}}}")
_NAMESPACE = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_PART - 1}}}")
_PART = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_PART - 1}}}")
_HOST_ALONE = re.compile(r"[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*(:[0-9]+)?")


class InvalidNameError(ValueError):
    """The text is no name that Ollama would take. The message says why, and what to write.

    `part` is host, namespace, model or tag, or `name` where the whole is wrong; `field` is the
    field of a spec that has it.
    """

    def __init__(self, problem: str, part: str = "name") -> None:
        super().__init__(problem)
        self.part, self.field = part, "tag" if part == "tag" else "name"


@dataclass(frozen=True, eq=False)
class ModelName:
    """A complete model name, its parts in the case they were written in."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Read a name as Ollama does, but refuse the URL scheme that Ollama silently drops.

        Raises: InvalidNameError, naming the part that is wrong.
        """
        path, tag = _cut(text)
        return _read(path, DEFAULT_TAG if tag is None else tag)

    @classmethod
    def of(cls, name: str | None, tag: str | None) -> "ModelName":
        """Join a name and its tag, as `spec.name` and `spec.tag` carry them.

        A name may carry the tag, too, if there is no other one.

        Raises: InvalidNameError.
        """
        return _read(*meant(name, tag))

    @cached_property
    def canonical(self) -> str:
        """All four parts in lower case: equal for any two spellings of one model."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}".lower()

    @property
    def is_cloud(self) -> bool:
        """Whether Ollama takes this for a model that runs on its cloud, and not on the server.

        Source: Ollama, internal/modelref/modelref.go.
        """
        tag = self.tag.lower()
        return tag == "cloud" or tag.endswith("-cloud")

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


@lru_cache(maxsize=NAMES_REMEMBERED)
def _read(path: str, tag: str) -> ModelName:
    """Check a name and take it apart. The same name comes back with each version of an object."""
    _check_form(path)
    _check("tag", tag, _PART, MAX_PART)
    *before, model = path.split("/")
    namespace = before.pop() if before else DEFAULT_NAMESPACE
    host = before.pop() if before else DEFAULT_HOST
    _check("host", host, _HOST, MAX_HOST)
    _check("namespace", namespace, _NAMESPACE, MAX_PART)
    _check("model", model, _PART, MAX_PART)
    return ModelName(host, namespace, model, tag)


def meant(name: str | None, tag: str | None) -> tuple[str, str]:
    """Return the name without a tag and the tag, where the two have one meaning.

    Raises: InvalidNameError if one is missing, or the name carries another tag.
    """
    if not name:
        raise InvalidNameError(f"the name is required; {_EXAMPLES}")
    path, own = _cut(name)
    if own is None or "://" in name or "@" in name:  # it is told what is wrong with these
        path = name
    if tag is None:
        tag = own
    if tag is None:
        raise InvalidNameError("the tag is required; write for example 1b, or latest", "tag")
    if path != name and (own or "").lower() != tag.lower():
        if own and tag and _PART.fullmatch(own) and _PART.fullmatch(tag) and len(own) < _SHOWN:
            problem = (
                f"the name carries the tag {own}, and the tag is {tag[:_SHOWN]}; write one tag"
            )
            raise InvalidNameError(problem)
        raise InvalidNameError("the name carries a tag; put it into the tag field")
    return path, tag


def _cut(text: str) -> tuple[str, str | None]:
    """Cut a tag off a name. A colon after the last slash begins one; any other is of a port."""
    if text.rfind(":") <= text.rfind("/"):
        return text, None
    path, _, tag = text.rpartition(":")
    return path, tag


def _check_form(path: str) -> None:
    """Refuse what is no path of a model at all.

    Raises: InvalidNameError.
    """
    if "://" in path:
        raise InvalidNameError("the name is a URL; leave out the scheme, as in hf.co/Org/Model")
    if "@sha256" in path:
        raise InvalidNameError(
            "the name carries a digest, by which Ollama does not pull; leave it out, and write"
            " name and tag; expectedDigest pins a digest"
        )
    parts = path.split("/")
    if len(parts) > PARTS:
        raise InvalidNameError(
            f"the name has {len(parts)} parts; Ollama takes no more than host/namespace/model"
        )
    first, *rest = parts
    if len(rest) == 1 and len(path) <= _SHOWN and _is_host(first) and _PART.fullmatch(rest[0]):
        raise InvalidNameError(
            f"the name has the host {first} and no namespace; write"
            f" {first}/{DEFAULT_NAMESPACE}/{rest[0]}, or the namespace that it is in"
        )


def _is_host(text: str) -> bool:
    """Return True for what no namespace can be, and a host can."""
    return not _NAMESPACE.fullmatch(text) and _HOST_ALONE.fullmatch(text) is not None


def _check(part: str, text: str, grammar: re.Pattern[str], limit: int) -> None:
    if grammar.fullmatch(text):
        return
    examples = _EXAMPLE_TAG if part == "tag" else _EXAMPLES
    if not text:
        raise InvalidNameError(f"the {part} is empty; {examples}", part)
    if len(text) > limit:
        problem = f"the {part} has {len(text)} characters; Ollama takes {limit}"
        raise InvalidNameError(problem, part)
    # One character and not the whole part, which may hold somebody's password: `user:secret@host`.
    at = next(i for i, char in enumerate(text) if not grammar.fullmatch(f"_{char}" if i else char))
    verb = "has" if at else "begins with"
    problem = f"the {part} {verb} {text[at]!a}, which Ollama does not take there; {examples}"
    raise InvalidNameError(problem, part)
