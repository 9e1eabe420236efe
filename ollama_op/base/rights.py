"""What the operator has to be allowed to do in Kubernetes: the one list, for whoever checks it."""

from dataclasses import dataclass, replace
from typing import Final

from crd.v1alpha1 import GROUP, PLURAL


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one kind of object, as RBAC has them."""

    verb: str
    resource: str  # with `/status` behind it where that is what is written
    group: str = ""  # empty is Kubernetes' own core
    namespaced: bool = True
    name: str = ""  # of the one object that it is about; empty is all of them
    namespace: str = ""  # where that is; empty is wherever OllamaModels are watched


ENGINE = (
    Right("list", PLURAL, GROUP),
    Right("watch", PLURAL, GROUP),
    Right("patch", PLURAL, GROUP),  # the finalizer, and the annotation that asks for a refresh
    Right("patch", f"{PLURAL}/status", GROUP),
    Right("create", "events"),
    Right("patch", "events"),  # to count what is said again
)
# In all namespaces, also where the rest is granted in one: its RoleBindings may go before its
# objects when it is deleted, and nobody could take the finalizers off.
RELEASE = Right("patch", PLURAL, GROUP, namespaced=False)
REST_API = (Right("create", PLURAL, GROUP), Right("delete", PLURAL, GROUP))
LEASE_VERBS = ("get", "create", "update")
REVIEW_API = (  # of who sends a bearer token, and of what that one may do
    Right("create", "tokenreviews", "authentication.k8s.io", namespaced=False),
    Right("create", "subjectaccessreviews", "authorization.k8s.io", namespaced=False),
)
# Of the webhook that makes its own certificates. To create the Secret is not among them: whoever
# may create Secrets can have tokens of other accounts written into them. config/webhook has it.
WEBHOOK_SECRET: Final = "ollama-op-webhook-certs"  # noqa: S105 - the name of one
WEBHOOK_CONFIGURATION: Final = "ollama-op-webhook"
WEBHOOK_USE = (
    Right("get", "secrets", name=WEBHOOK_SECRET),
    Right("patch", "secrets", name=WEBHOOK_SECRET),
    *(
        Right(verb, resource, "admissionregistration.k8s.io", False, WEBHOOK_CONFIGURATION)  # noqa: FBT003
        for resource in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
        for verb in ("get", "patch")
    ),
)


def rights(
    *,
    rest_api: bool = False,
    reviews: bool = False,
    webhook: str | None = None,
    lease_in: str | None = None,
) -> tuple[Right, ...]:
    """List what is needed with the REST API or without it.

    `reviews` is for whoever asks Kubernetes about bearer tokens; `webhook` is the namespace in
    which a webhook keeps certificates of its own, if one does; `lease_in` that of the lease by
    which several replicas elect a leader.
    """
    needed: tuple[Right, ...] = ENGINE
    if rest_api:
        needed += REST_API
    if reviews:
        needed += REVIEW_API
    if webhook is not None:
        needed += tuple(
            replace(right, namespace=webhook) if right.namespaced else right
            for right in WEBHOOK_USE
        )
    if lease_in is not None:
        group = "coordination.k8s.io"
        needed += tuple(Right(v, "leases", group, namespace=lease_in) for v in LEASE_VERBS)
    return needed
