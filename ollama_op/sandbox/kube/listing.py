"""Lists in pages. Every page shows the state at the resourceVersion of the first one."""

import base64
from collections.abc import Sequence

import msgspec

from ollama_op.base.json import Object
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.selectors import Predicate
from ollama_op.sandbox.kube.storage import ObjectStore
from ollama_op.sandbox.status import bad_request, too_large


class _Token(msgspec.Struct):
    """Where the next page begins. Opaque to clients."""

    revision: int
    start: str


def list_page(
    store: ObjectStore, plural: str, selects: Predicate, request: SandboxRequest
) -> tuple[Object, Sequence[Object]]:
    """Return the list's metadata and the objects of one page, in the order of their keys.

    Raises: ApiError 400; 410 if the token's revision is compacted; 504 for one yet to come.
    """
    token = _read(request.query.get("continue", ""))
    revision = store.revision
    if token is not None:
        revision = token.revision
    elif asked := request.number("resourceVersion"):
        if asked > store.revision:
            raise too_large(asked, store.revision)
        if request.query.get("resourceVersionMatch") == "Exact":
            revision = asked
    found = [
        (f"{namespace}/{name}", obj)
        for (namespace, name), obj in store.at(plural, revision).items()
        if selects(obj)
    ]
    found.sort(key=lambda pair: pair[0])
    left = [pair for pair in found if token is None or pair[0] >= token.start]
    limit = request.number("limit") or len(left)
    meta: Object = {"resourceVersion": str(revision)}
    if len(left) > limit:
        meta["continue"] = _write(_Token(revision, left[limit][0]))
        meta["remainingItemCount"] = len(left) - limit
    return meta, [obj for _, obj in left[:limit]]


def _write(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()


def _read(text: str) -> _Token | None:
    if not text:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Token)
    except ValueError as error:
        raise bad_request("continue key is not valid") from error
