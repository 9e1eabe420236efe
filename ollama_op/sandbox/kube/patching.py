"""Merge patch and JSON patch; neither changes what it is given."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from jsonpath import JSONPatch
from jsonpath.exceptions import JSONPatchError, JSONPointerError

from ollama_op.base.json import Object, merge_patch
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.status import ApiError, bad_request

_ACCEPTED = "application/json-patch+json, application/merge-patch+json"


def patcher(request: SandboxRequest) -> Callable[[Object], Object]:
    """Return what turns an object into the patched one.

    Raises: ApiError 415 for the kinds of patch that custom resources or the sandbox do not have,
    400 for a patch that is none. The function returned raises 422 where the patch does not apply.
    """
    match request.headers.get("content-type", "").partition(";")[0]:
        case "application/merge-patch+json":
            return partial(merge_patch, patch=request.json_object())
        case "application/json-patch+json":
            return partial(_json_patch, patch=request.json())
        case "application/apply-patch+yaml":
            raise _unsupported("the sandbox has no server-side apply")
        case _:
            raise _unsupported("the body of the request was in an unknown format")


def _json_patch(obj: Object, patch: Any) -> Object:
    if not isinstance(patch, list):
        raise bad_request("error decoding patch: a JSON patch is a list")
    try:
        patched = JSONPatch(patch).apply(copy.deepcopy(obj))
    except (JSONPatchError, JSONPointerError) as error:
        message = "the server rejected our request due to an error in our request"
        raise ApiError(422, "Invalid", f"{message}: {error}") from error
    if not isinstance(patched, dict):
        raise bad_request("the patched object is no JSON object")
    return patched


def _unsupported(why: str) -> ApiError:
    message = f"{why} - accepted media types include: {_ACCEPTED}"
    return ApiError(415, "UnsupportedMediaType", message)
