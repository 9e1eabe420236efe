"""Whom a bearer token stands for, and what they may do, as Kubernetes says."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from api.ports import User
from crd.v1alpha1 import GROUP, PLURAL
from ollama_op.kube.calls import KubeCalls, read_object

AUTHENTICATION: Final = "authentication.k8s.io/v1"
AUTHORIZATION: Final = "authorization.k8s.io/v1"


class _Reviewed(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _Verdict(msgspec.Struct):
    authenticated: bool = False
    user: _Reviewed = msgspec.field(default_factory=_Reviewed)
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Verdict = msgspec.field(default_factory=_Verdict)


class KubeReviewer:
    """Asks through a line of its own: who sends tokens that nobody knows must hold back nobody."""

    def __init__(self, calls: KubeCalls) -> None:
        self._calls = calls

    async def who(self, token: str) -> User | None:
        """Return whom a bearer token stands for.

        Raises: KubeError.
        """
        spec = {"token": token}
        verdict = await self._review(AUTHENTICATION, "TokenReview", "tokenreviews", spec)
        if not verdict.authenticated:
            return None
        user = verdict.user
        return User(user.username, user.uid, user.groups, tuple(sorted(user.extra.items())))

    async def may(self, user: User, verb: str, namespace: str | None) -> bool:
        """Return True if somebody may do something to OllamaModels.

        Raises: KubeError.
        """
        where = {"namespace": namespace} if namespace else {}
        what = {"group": GROUP, "resource": PLURAL, "verb": verb} | where
        return await self._is_allowed(user, resourceAttributes=what)

    async def may_visit(self, user: User, path: str) -> bool:
        """Return True if somebody may read what is at a path that is no object.

        Raises: KubeError.
        """
        return await self._is_allowed(user, nonResourceAttributes={"verb": "get", "path": path})

    async def _is_allowed(self, user: User, **what: Mapping[str, str]) -> bool:
        person = {"user": user.name, "uid": user.uid, "groups": user.groups}
        spec = {**person, "extra": dict(user.extra), **what}
        plural = "subjectaccessreviews"
        return (await self._review(AUTHORIZATION, "SubjectAccessReview", plural, spec)).allowed

    async def _review(self, version: str, kind: str, plural: str, spec: Any) -> _Verdict:
        body = {"apiVersion": version, "kind": kind, "spec": spec}
        answer = await self._calls.send("POST", plural, body, version=version)
        return read_object(_Review, answer).status
