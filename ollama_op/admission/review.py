"""AdmissionReview of admission.k8s.io/v1, as far as it is read and written here."""

from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from crd.v1alpha1 import GROUP, KIND

REVIEW_VERSION: Final = "admission.k8s.io/v1"
UNPROCESSABLE: Final = 422
INVALID: Final = "Invalid"  # as Kubernetes calls what breaks its own rules
# What can come of a question; the last is for those that are no question.
ALLOWED, REWRITTEN, DENIED, ERROR = "allowed", "rewritten", "refused", "error"


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The part of an object's metadata that is looked at."""

    name: str = ""
    uid: str = ""
    deletion_timestamp: str | None = None


class Thing(msgspec.Struct, frozen=True):
    """An object as somebody sent it; its spec may be anything."""

    metadata: Meta = Meta()
    spec: msgspec.Raw = msgspec.Raw(b"null")


class ResourceKind(msgspec.Struct, frozen=True):
    """What kind of object a request is about."""

    group: str = ""
    resource: str = ""


class AdmissionRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What the API server asks about."""

    uid: str
    namespace: str = ""
    operation: str = ""
    resource: ResourceKind = ResourceKind()
    sub_resource: str = ""
    object: Thing | None = None
    old_object: Thing | None = None


class Review(msgspec.Struct, frozen=True, rename="camel"):
    """The AdmissionReview that the API server sends."""

    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: AdmissionRequest


class StatusCause(msgspec.Struct, frozen=True):
    """What is wrong with one field, as `metav1.StatusCause` has it."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class StatusDetails(msgspec.Struct, frozen=True):
    """What is wrong with which object."""

    name: str
    causes: tuple[StatusCause, ...]
    group: str = GROUP
    kind: str = KIND


class Refusal(msgspec.Struct, frozen=True):
    """A `metav1.Status` that says no."""

    message: str
    details: StatusDetails
    reason: str = INVALID
    code: int = UNPROCESSABLE
    status: str = "Failure"


class AdmissionResponse(
    msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True
):
    """What the API server is told."""

    uid: str
    allowed: bool
    status: Refusal | None = None
    warnings: tuple[str, ...] = ()
    patch: bytes | UnsetType = UNSET  # in base64, as msgspec writes bytes
    patch_type: Literal["JSONPatch"] | UnsetType = UNSET

    @property
    def result(self) -> str:
        """What came of it, in one word."""
        if not self.allowed:
            return DENIED
        return ALLOWED if self.patch is UNSET else REWRITTEN


class Ruling(msgspec.Struct, frozen=True, rename="camel"):
    """The AdmissionReview that goes back."""

    response: AdmissionResponse
    api_version: str = REVIEW_VERSION
    kind: str = "AdmissionReview"
