"""The table of resources that the sandbox serves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ollama_op.base.json import Object
from ollama_op.sandbox.kube.schema import SchemaNode
from ollama_op.sandbox.status import StatusSubject

READ = ("get", "list", "watch")
ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`: what a CRD calls an additionalPrinterColumn."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class APIResource:
    """One resource of one API version."""

    group: str
    version: str
    kind: str
    plural: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = ALL
    has_status: bool = False
    blind_update: bool = False
    """Whether a PUT may come without a resourceVersion."""
    schema: SchemaNode | None = None
    """None: everything is taken as it is, and there is no generation."""
    columns: tuple[Column, ...] = (Column("Age", ".metadata.creationTimestamp", "date"),)
    fields: tuple[str, ...] = ()
    """What a fieldSelector may name besides metadata.name and metadata.namespace."""
    initial: Mapping[str, Any] = field(default_factory=dict)
    """What a new object has where the client says nothing."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Fields that have another name in the store, which versions of a resource share."""

    @property
    def api_version(self) -> str:
        """Return `group/version`, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def subject(self, name: str) -> StatusSubject:
        """Name one object in a refusal."""
        return StatusSubject(self.group, self.plural, self.kind, name)

    def shown(self, stored: Object) -> Object:
        """Return a stored object as this version shows it."""
        names = {v: k for k, v in self.renames.items()}
        rest = {names.get(k, k): v for k, v in stored.items()}
        return {"apiVersion": self.api_version, "kind": self.kind, **rest}

    def stored(self, shown: Object) -> Object:
        """Return an object of this version as it is stored."""
        skip = ("apiVersion", "kind")
        return {self.renames.get(k, k): v for k, v in shown.items() if k not in skip}


_EVENT_COLUMNS = (
    Column("Last Seen", ".lastTimestamp", "date"),
    Column("Type", ".type"),
    Column("Reason", ".reason"),
    Column("Object", ".involvedObject.name"),
    Column("Message", ".message"),
)
_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_EVENT = APIResource(
    group="",
    version="v1",
    kind="Event",
    plural="events",
    short_names=("ev",),
    blind_update=True,
    columns=_EVENT_COLUMNS,
    fields=_EVENT_FIELDS,
)
_NEW_EVENT = APIResource(
    group="events.k8s.io",
    version="v1",
    kind="Event",
    plural="events",
    short_names=("ev",),
    blind_update=True,
    columns=_EVENT_COLUMNS,
    fields=_EVENT_FIELDS,
    renames={
        "note": "message",
        "regarding": "involvedObject",
        "reportingController": "reportingComponent",
        "deprecatedSource": "source",
        "deprecatedFirstTimestamp": "firstTimestamp",
        "deprecatedLastTimestamp": "lastTimestamp",
        "deprecatedCount": "count",
    },
)
BUILTIN = (
    APIResource(
        group="",
        version="v1",
        kind="Namespace",
        plural="namespaces",
        short_names=("ns",),
        namespaced=False,
        blind_update=True,
        initial={"status": {"phase": "Active"}},
        columns=(
            Column("Status", ".status.phase"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
    ),
    _EVENT,
    _NEW_EVENT,
    APIResource(
        group="coordination.k8s.io",
        version="v1",
        kind="Lease",
        plural="leases",
        columns=(
            Column("Holder", ".spec.holderIdentity"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
    ),
    APIResource(
        group="apiextensions.k8s.io",
        version="v1",
        kind="CustomResourceDefinition",
        plural="customresourcedefinitions",
        short_names=("crd", "crds"),
        namespaced=False,
        verbs=READ,
        columns=(Column("Created At", ".metadata.creationTimestamp"),),
    ),
)


def custom(crd: Object) -> APIResource:
    """Make the resource that a CustomResourceDefinition defines, in its first version."""
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    return APIResource(
        group=crd["spec"]["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        namespaced=crd["spec"].get("scope", "Namespaced") == "Namespaced",
        has_status="status" in version.get("subresources", {}),
        schema=version["schema"]["openAPIV3Schema"],
        columns=tuple(map(_column, version.get("additionalPrinterColumns", ()))),
        fields=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields", ())),
    )


def _column(column: dict[str, Any]) -> Column:
    return Column(
        column["name"],
        column["jsonPath"],
        column["type"],
        column.get("priority", 0),
        column.get("description", ""),
    )
