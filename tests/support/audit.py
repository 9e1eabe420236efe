"""What a real kube-apiserver was asked for, and by whom: its audit log."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.manifests import Object, named, of_kind

_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # A watch would otherwise be told of at its end only.
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class Permission(NamedTuple):
    """One verb on one kind of object; `resource` has `/status` behind it where that is meant."""

    verb: str
    resource: str
    group: str = ""


class AuditLog:
    """The log of one kube-apiserver, which is to be run with these `flags`."""

    def __init__(self, folder: Path) -> None:
        policy, self._log = folder / "audit-policy.json", folder / "audit.log"
        policy.write_text(json.dumps(_POLICY))
        self.flags = [f"--audit-policy-file={policy}", f"--audit-log-path={self._log}"]

    def asked(self, user: str, decision: str) -> dict[Permission, str]:
        """Return what a user asked for and was answered `allow` or `forbid`, and why."""
        return {
            _permission(entry["verb"], entry["objectRef"]): why
            for entry in self._entries()
            if entry["user"]["username"] == user and "objectRef" in entry
            for found, why in [_decision(entry)]
            if found == decision
        }

    def _entries(self) -> Iterator[Any]:
        for line in self._log.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)


def _decision(entry: Object) -> tuple[str | None, str]:
    notes = entry.get("annotations", {})
    key = "authorization.k8s.io"
    return notes.get(f"{key}/decision"), notes.get(f"{key}/reason", "")


def _permission(verb: str, what: Object) -> Permission:
    parts = [what["resource"], *([what["subresource"]] if "subresource" in what else [])]
    return Permission(verb, "/".join(parts), what.get("apiGroup", ""))


def granted_to(account: str, objects: list[Object]) -> dict[str, set[Permission]]:
    """Return what each role that is bound to a service account permits, by the role's name."""
    bindings = [
        binding
        for binding in of_kind(objects, "ClusterRoleBinding", "RoleBinding")
        if account in [subject["name"] for subject in binding["subjects"]]
    ]
    roles = [named(objects, b["roleRef"]["kind"], b["roleRef"]["name"]) for b in bindings]
    return {role["metadata"]["name"]: set(_permissions(role)) for role in roles}


def _permissions(role: Object) -> Iterator[Permission]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from (Permission(verb, resource, group) for verb in rule["verbs"])
