"""Reviews of other people: whose token this is, and what they may do."""

from collections.abc import Callable, Collection, Mapping

from ollama_op.base.json import Object

People = Mapping[str, Collection[tuple[str, str]]]
"""By token: pairs of verb and namespace, where an empty namespace stands for all, or of verb and
path. The token is also the name of its owner."""


def token_review(body: Object, people: People) -> Object:
    """Answer whose token it is."""
    token = body.get("spec", {}).get("token", "")
    if token not in people:
        status: Object = {"user": {}, "error": "invalid bearer token"}
    else:
        user = {"username": token, "uid": token, "groups": ["system:authenticated"]}
        status = {"authenticated": True, "user": user}
    return {**body, "status": status}


def access_review(body: Object, people: People) -> Object:
    """Answer whether somebody may do something."""
    spec = body.get("spec", {})
    asked = spec.get("resourceAttributes") or spec.get("nonResourceAttributes") or {}
    rights = people.get(spec.get("user", ""), ())
    if path := asked.get("path"):
        wanted = {(asked.get("verb"), path)}
    else:
        wanted = {(asked.get("verb"), asked.get("namespace", "")), (asked.get("verb"), "")}
    return {**body, "status": {"allowed": bool(wanted & set(rights))}}


REVIEW_KINDS: Mapping[str, Callable[[Object, People], Object]] = {
    "/apis/authentication.k8s.io/v1/tokenreviews": token_review,
    "/apis/authorization.k8s.io/v1/subjectaccessreviews": access_review,
}
