"""What the operator has to be allowed to do in Kubernetes: the one list, for whoever checks it."""

from dataclasses import dataclass

from crd.v1alpha1 import GROUP, PLURAL


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one kind of object, as RBAC has them."""

    verb: str
    resource: str  # with `/status` behind it where that is what is written
    group: str = ""  # empty is Kubernetes' own core
    namespaced: bool = True


ENGINE = (
    Right("list", PLURAL, GROUP),
    Right("watch", PLURAL, GROUP),
    Right("patch", PLURAL, GROUP),  # the finalizer, and the annotation that asks for a refresh
    Right("patch", f"{PLURAL}/status", GROUP),
    Right("create", "events"),
    Right("patch", "events"),  # to count what is said again
)
REST_API = (Right("create", PLURAL, GROUP), Right("delete", PLURAL, GROUP))
REVIEWS = (  # of who sends a bearer token, and of what that one may do
    Right("create", "tokenreviews", "authentication.k8s.io", namespaced=False),
    Right("create", "subjectaccessreviews", "authorization.k8s.io", namespaced=False),
)


def rights(*, rest_api: bool = False, kubernetes_auth: bool = False) -> tuple[Right, ...]:
    """List what is needed with the REST API or without it, whose tokens may be Kubernetes'."""
    if not rest_api:
        return ENGINE
    return (*ENGINE, *REST_API, *(REVIEWS if kubernetes_auth else ()))
