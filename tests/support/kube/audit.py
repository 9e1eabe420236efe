"""What a real kube-apiserver was asked for, and by whom: its audit log."""

import json
from collections.abc import Collection, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from support.kube.manifests import Object, named, of_kind

_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # A watch would otherwise be told of at its end only.
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class Permission(NamedTuple):
    """One verb on one kind of object; `resource` has `/status` behind it where that is meant.

    With a `name` it is on the one object of that name only.
    """

    verb: str
    resource: str
    group: str = ""
    name: str = ""


class AuditLog:
    """The log of one kube-apiserver, which is to be run with these `flags`."""

    def __init__(self, folder: Path) -> None:
        policy, self._log = folder / "audit-policy.json", folder / "audit.log"
        policy.write_text(json.dumps(_POLICY))
        self.flags = [f"--audit-policy-file={policy}", f"--audit-log-path={self._log}"]

    def asked(
        self, user: str, decision: str, *, granted: Collection[Permission] = ()
    ) -> dict[Permission, str]:
        """Return what a user asked for and was answered `allow` or `forbid`, and why.

        Which object it was about is said only of kinds of which `granted` names single ones.
        """
        named = {(each.resource, each.group) for each in granted if each.name}
        asked = {
            _permission(entry["verb"], entry["objectRef"]): why
            for entry in self._entries()
            if entry["user"]["username"] == user and "objectRef" in entry
            for found, why in [_decision(entry)]
            if found == decision
        }
        return {
            what if (what.resource, what.group) in named else what._replace(name=""): why
            for what, why in asked.items()
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
    return Permission(verb, "/".join(parts), what.get("apiGroup", ""), what.get("name", ""))


def granted_to(account: str, objects: list[Object]) -> dict[str, set[Permission]]:
    """Return what is permitted to a service account, by the name of the role, or of two roles."""
    bindings = [
        binding
        for binding in of_kind(objects, "ClusterRoleBinding", "RoleBinding")
        if account in [subject["name"] for subject in binding["subjects"]]
    ]
    roles = [named(objects, b["roleRef"]["kind"], b["roleRef"]["name"]) for b in bindings]
    granted: dict[str, set[Permission]] = {}
    for role in roles:
        granted.setdefault(role["metadata"]["name"], set()).update(permissions_of(role))
    return granted


def permissions_of(role: Object) -> Iterator[Permission]:
    """Return what a role permits."""
    for rule in role["rules"]:
        names = rule.get("resourceNames", [""])
        for group, resource, name in product(rule["apiGroups"], rule["resources"], names):
            yield from (Permission(verb, resource, group, name) for verb in rule["verbs"])


def compared(granted: Mapping[str, set[Permission]], used: Collection[Permission]) -> str:
    """Write down, as a table, what each role permits and whether it was asked for."""
    rows = [
        (*_words(each), role, "yes" if each in used else "NEVER")
        for role, permissions in granted.items()
        for each in sorted(permissions)
    ]
    known = set().union(*granted.values())
    rows += [(*_words(each), "NOTHING", "yes") for each in sorted(set(used) - known)]
    lines = [("verb", "resource", "of the name", "granted by", "asked for"), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _words(what: Permission) -> tuple[str, str, str]:
    resource = f"{what.resource}.{what.group}" if what.group else what.resource
    return what.verb, resource, what.name or "any"
