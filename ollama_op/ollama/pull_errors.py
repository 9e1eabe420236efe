"""Why a pull failed: Ollama says it in words, after HTTP 200; here they become a class of error.

What a registry answered comes as `pull model manifest: 400: BODY`, or for a file of the model as
`400: ` and `status 400`. Everything else is Go's own errors, told apart by their words.

Source: Ollama, server/images.go, server/download.go, server/auth.go, x/transfer/download.go.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec

from crd.names import ModelName
from crd.v1alpha1 import UNREADABLE
from ollama_op.base.errors import LoadFailed, OllamaError, PullFailed
from ollama_op.ollama import pull_words
from ollama_op.ollama.pull_words import Said, shown

_MANIFEST: Final = re.compile(r"pull model manifest: ", re.IGNORECASE)
_ANSWER: Final = re.compile(
    r"(?:max retries exceeded: )?(?:status )?([1-5]\d\d)(?::\s*(.*))?", re.IGNORECASE | re.DOTALL
)
_IN_BETWEEN: Final = frozenset(status.phrase.lower() for status in HTTPStatus if status >= 400)  # noqa: PLR2004 - where failures begin


def pull_failed(text: str, name: ModelName) -> OllamaError:
    """Turn what Ollama says about a failed pull into the error that says what happens next."""
    text = text.strip()
    manifest = _MANIFEST.match(text)
    said = Said(text[manifest.end() :] if manifest else text, name, manifest is not None)
    if answer := _ANSWER.fullmatch(said.text):
        return _answered(int(answer[1]), answer[2] or "", said)
    for pattern, build in _RULES:
        if pattern.search(said.own):
            return build(said)
    return PullFailed(f"Pull of {name} failed: {said.words}.")


def load_failed(text: str, name: ModelName) -> OllamaError:
    """Turn what Ollama says about a failed load into the error that says what happens next."""
    if _UNSUPPORTED.search(text.lower()):
        return pull_words.unsupported(Said(text, name, of_manifest=False))
    return LoadFailed(f"Ollama cannot load {name}: {text}")


# --- what the registry answered


class _Message(msgspec.Struct):
    message: str = ""


class _Body(msgspec.Struct):
    error: str | _Message = ""
    errors: tuple[_Message, ...] = ()
    message: str = ""


_body: Final = msgspec.json.Decoder(_Body)


def _answered(status: int, body: str, said: Said) -> OllamaError:
    if body.lstrip().startswith("<"):
        return pull_words.web_page(said, status)
    words = f"HTTP {status}: {shown(_message(body) or _phrase(status))}"
    match status:
        case _ if status == HTTPStatus.PRECONDITION_FAILED or _TOO_OLD.search(body.lower()):
            return pull_words.too_old(said)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return pull_words.denied(said, words)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return pull_words.busy(words)
        case _ if not said.of_manifest or _is_passing(status):
            return pull_words.unavailable(said, words)
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return pull_words.unknown(said, words)
        case _:
            return pull_words.refused(said, words)


def _is_passing(status: int) -> bool:
    """Return True if the same question may have another answer later."""
    later = (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.REQUEST_TIMEOUT)
    return status // 100 != 4 or status in (*later, HTTPStatus.TOO_EARLY)  # noqa: PLR2004 - 4xx


def _message(body: str) -> str:
    """Return the words of a registry's JSON, or else the body itself."""
    try:
        found = _body.decode(body)
    except UNREADABLE:
        return body
    first = found.error.message if isinstance(found.error, _Message) else found.error
    rest = "; ".join(each.message for each in found.errors if each.message)
    return first or rest or found.message or body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no words"


# --- everything else


_TOO_OLD: Final = re.compile(r"newer version of ollama")
_UNSUPPORTED: Final = re.compile(
    r"requires mlx|mlx runtime is not|unknown model architecture|unsupported (model )?architecture"
)
_PATH: Final = (
    r"(?:^|: )(?:open|write|read|mkdir|remove|rename|truncate|stat|lstat|chmod|close|sync|symlink)"
    r" (?:/|[a-z]:\\|:)"
)
_TROUBLE: Final = (
    r"max retries|dial tcp|lookup|no such host|\bconnection re|timeout|deadline|\beof\b|\btls\b"
    r"|proxyconnect|http response to https client|certificate|unavailable|blocked redirect"
    r"|unexpected status code"
)

_RULES: Final[tuple[tuple[re.Pattern[str], Callable[[Said], OllamaError]], ...]] = tuple(
    (re.compile(pattern), build)
    for pattern, build in (
        ("^invalid (?:model )?name", pull_words.name_refused),
        ("no space left|disk full|disk quota|not enough space", pull_words.full),
        (rf"{_PATH}(?!.*no such file)", pull_words.storage),
        ("file does not exist", pull_words.missing),
        (r"\bmodel\s+not found|manifest unknown|manifest_unknown", pull_words.unknown),
        (_TOO_OLD.pattern, pull_words.too_old),
        (_UNSUPPORTED.pattern, pull_words.unsupported),
        ("no location header", pull_words.no_redirect),
        (r"unexpected status code 3\d\d", pull_words.other_redirect),
        ("realm host .*does not match", pull_words.login_elsewhere),
        ("digest mismatch|size mismatch", pull_words.mismatch),
        (rf": (?:{'|'.join(sorted(map(re.escape, _IN_BETWEEN)))})$", pull_words.in_between),
        ("unauthorized|access denied", pull_words.denied),
        ("invalid character|end of json input|cannot unmarshal", pull_words.no_manifest),
        (_TROUBLE, pull_words.unavailable),
    )
)
