"""What is made of a model that Ollama cannot show: nothing that cannot be undone.

Ollama is asked twice, at least 30 s apart, before its word counts. Then the model is pulled again
as it is, which loses nothing. Only where that pull has just reached the registry, and the model
still cannot be shown, is what is on the server deleted, and all of it downloaded anew. A version
that fails right after a fresh download is not downloaded again for it: this Ollama cannot use it.

What has come of it is in `status.fault`, so a restarted operator goes on from there. Pure, as the
decisions are.
"""

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from crd.names import ModelName
from crd.v1alpha1 import Fault
from ollama_op.base.errors import (
    ModelBroken,
    ModelDoubted,
    ModelUnknown,
    ModelUnsupported,
    OllamaError,
)

# Half a minute, and the second that times in whole seconds may hide.
CONFIRMED_AFTER: Final = timedelta(seconds=31)


def noted(
    fault: Fault | None, error: ModelBroken, name: ModelName, digest: str | None, now: datetime
) -> Fault:
    """Return what is to be remembered once Ollama has said this of the version `digest`.

    `fault` is what is remembered of the same version already.
    """
    downloaded = error.fresh or error.whole
    if fault is None:
        return Fault(model=str(name), digest=digest, since=now, downloaded=downloaded)
    confirmed = fault.confirmed or now >= fault.since + CONFIRMED_AFTER
    return replace(fault, confirmed=confirmed, downloaded=fault.downloaded or downloaded)


def judged(fault: Fault | None, error: OllamaError, name: ModelName) -> OllamaError:
    """Return the error that says what an error means for this version, and what happens next."""
    match error:
        case ModelUnknown() if fault is not None:
            return ModelUnknown(
                f"Ollama lists {name} and cannot show it, and the registry does not have it, so it"
                " is not deleted to be pulled afresh",
                "put it into the registry and request a refresh, or give it up: `ollama rm"
                f" {name}` on the server",
            )
        case ModelBroken() if fault is not None:
            return _broken(fault, error, name)
        case _:
            return error


def _broken(fault: Fault, error: ModelBroken, name: ModelName) -> OllamaError:
    if not fault.confirmed:
        return ModelDoubted(error.problem, "it is asked once more before anything is done about it")
    if not fault.downloaded:
        return ModelBroken(error.problem)
    return ModelUnsupported(error.problem, f"{_cause(error)}. {_WAY_OUT.format(name=name)}")


_WAY_OUT: Final = (
    "It is tried again when the version of Ollama or the digest of the model changes. To have it"
    " downloaded once more, run `ollama rm {name}` on the server"
)


def _cause(error: ModelBroken) -> str:
    if error.whole:
        return "this Ollama cannot use the model as it is: upgrade Ollama, or correct the model"
    return (
        "a fresh download of the same version fails the same way: this Ollama cannot use it, or its"
        " tag is an OCI index, a list of images, which Ollama takes and cannot use"
    )
