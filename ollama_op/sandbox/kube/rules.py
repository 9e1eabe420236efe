"""The rules of writing: identity, generation, isolation of status, finalizers, deletion."""

import uuid
from collections.abc import Callable
from datetime import datetime

import msgspec

from ollama_op.base.json import Object
from ollama_op.sandbox.kube.checks import admit, complete
from ollama_op.sandbox.kube.resources import APIResource
from ollama_op.sandbox.kube.storage import ObjectKey, ObjectStore
from ollama_op.sandbox.status import ApiError, Cause, StatusSubject, bad_request

_MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)
_NAMESPACE_MISMATCH = (
    "the namespace of the provided object does not match the namespace sent on the request"
)
_SYSTEM = (  # what only the server sets in metadata
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
)
_IGNORED = ("managedFields", "selfLink")


class Preconditions(msgspec.Struct, rename="camel"):
    """What must be true of an object for its deletion."""

    uid: str | None = None
    resource_version: str | None = None


class DeleteOptions(msgspec.Struct):
    """The part of `metav1.DeleteOptions` that the sandbox follows."""

    preconditions: Preconditions = msgspec.field(default_factory=Preconditions)


class RuleWriter:
    """Creates, updates and deletes objects in a store. All methods take and return stored form."""

    def __init__(self, store: ObjectStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    def create(
        self,
        resource: APIResource,
        namespace: str,
        body: Object,
        *,
        strict: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Add an object; with `dry_run`, only return what it would be.

        Raises: ApiError 400, 409 if the name is taken, 422.
        """
        new = admit(resource, body, strict=strict)
        asked = new["metadata"]
        if asked.get("namespace", namespace) != namespace:
            raise bad_request(_NAMESPACE_MISMATCH)
        if asked.get("resourceVersion"):
            message = "resourceVersion should not be set on objects to be created"
            raise ApiError(500, "", message)  # no 4xx: so says the real one
        name = asked.get("name", "")
        if not name and asked.get("generateName"):
            name = asked["generateName"] + uuid.uuid4().hex[:5]
        if self._store.get(resource.plural, (namespace, name)) is not None:
            raise resource.subject(name).exists()
        new["metadata"] = {
            "name": name,
            **({"namespace": namespace} if resource.namespaced else {}),
            "uid": str(uuid.uuid4()),
            "creationTimestamp": self._timestamp(),
            **({"generation": 1} if resource.schema else {}),
            **_client_part(asked),
        }
        if resource.has_status:
            new.pop("status", None)
        new = complete(resource, {**resource.initial, **new})
        return new if dry_run else self._store.put(resource.plural, (namespace, name), new)

    def update(
        self,
        resource: APIResource,
        key: ObjectKey,
        change: Callable[[Object], Object],
        *,
        status: bool = False,
        whole: bool = False,
        strict: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Replace an object, or only its status, by what `change` makes of it.

        `whole` says that the client sent all of it (PUT), so that the identity in it counts. With
        `dry_run`, nothing is replaced, only returned.

        Raises: ApiError 400, 404, 409 if it was meant for another state, 422.
        """
        old = self.existing(resource, key)
        new = admit(resource, resource.stored(change(resource.shown(old))), strict=strict)
        _check_identity(resource, old["metadata"], new["metadata"], whole=whole)
        if status:  # nothing else counts, not even a wrong uid in a patch
            meta, new = old["metadata"], _intent(old) | _only_status(new)
        else:
            _check_successor(resource, old["metadata"], new["metadata"])
            meta = _successor(old["metadata"], new["metadata"])
            new = _intent(new) | _only_status(old if resource.has_status else new)
        new = complete(resource, {**new, "metadata": meta})
        if new == old:
            return old
        if resource.schema and _intent(new) != _intent(old):
            new["metadata"] = {**meta, "generation": meta["generation"] + 1}
        if dry_run:
            return new
        if "deletionTimestamp" in meta and "finalizers" not in meta:
            self._store.remove(resource.plural, key)
            return new
        return self._store.put(resource.plural, key, new)

    def delete(
        self,
        resource: APIResource,
        key: ObjectKey,
        options: DeleteOptions,
        *,
        dry_run: bool = False,
    ) -> tuple[Object, bool]:
        """Delete an object, or mark it if it has finalizers; tell whether it is gone.

        With `dry_run`, only tell.

        Raises: ApiError 404, 409 if a precondition fails.
        """
        old = self.existing(resource, key)
        meta, asked = old["metadata"], options.preconditions
        subject = resource.subject(key[1])
        _check_preconditions(subject, meta, asked.uid, asked.resource_version)
        if not meta.get("finalizers"):
            return old if dry_run else self._store.remove(resource.plural, key), True
        if "deletionTimestamp" in meta:
            return old, False
        generation = {"generation": meta["generation"] + 1} if "generation" in meta else {}
        meta = {
            **meta,
            **generation,
            "deletionTimestamp": self._timestamp(),
            "deletionGracePeriodSeconds": 0,
        }
        dying = {**old, "metadata": meta}
        return dying if dry_run else self._store.put(resource.plural, key, dying), False

    def existing(self, resource: APIResource, key: ObjectKey) -> Object:
        """Return an object as it is stored.

        Raises: ApiError 404.
        """
        found = self._store.get(resource.plural, key)
        if found is None:
            raise resource.subject(key[1]).not_found()
        return found

    def _timestamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_identity(resource: APIResource, old: Object, new: Object, *, whole: bool) -> None:
    """Hold an update to the object, and to the state of it, that it was made for.

    Raises: ApiError 400, 409, 422.
    """
    name, found = old["name"], new.get("name", old["name"])
    subject = resource.subject(name)
    if found != name:
        message = f"the name of the object ({found}) does not match the name on the URL ({name})"
        raise bad_request(message)
    if new.get("namespace", old.get("namespace")) != old.get("namespace"):
        raise bad_request(_NAMESPACE_MISMATCH)
    if whole and not new.get("resourceVersion") and not resource.blind_update:
        message = "Invalid value: 0: must be specified for an update"
        raise subject.invalid([Cause("metadata.resourceVersion", "FieldValueInvalid", message)])
    revision = new.get("resourceVersion")
    _check_preconditions(subject, old, new.get("uid") if whole else None, revision)


def _check_preconditions(
    subject: StatusSubject, meta: Object, uid: str | None, revision: str | None
) -> None:
    if uid and uid != meta["uid"]:
        found = f"UID in precondition: {uid}, UID in object meta: {meta['uid']}"
        raise subject.conflict(f"Precondition failed: {found}")
    if revision and revision != meta["resourceVersion"]:
        raise subject.conflict(_MODIFIED)


def _check_successor(resource: APIResource, old: Object, new: Object) -> None:
    """Hold the new metadata to what may follow the old.

    Raises: ApiError 422.
    """
    causes = []
    if (uid := new.get("uid", old["uid"])) != old["uid"]:
        message = f'Invalid value: "{uid}": field is immutable'
        causes.append(Cause("metadata.uid", "FieldValueInvalid", message))
    added = set(new.get("finalizers", ())) - set(old.get("finalizers", ()))
    if added and "deletionTimestamp" in old:
        message = "Forbidden: no new finalizers can be added if the object is being deleted,"
        message += f" found new finalizers {sorted(added)}"
        causes.append(Cause("metadata.finalizers", "FieldValueForbidden", message))
    if causes:
        raise resource.subject(old["name"]).invalid(causes)


def _successor(old: Object, new: Object) -> Object:
    """Return the metadata of the next state: the server's fields stay, the rest is the client's."""
    return {k: v for k, v in old.items() if k in _SYSTEM} | _client_part(new)


def _client_part(meta: Object) -> Object:
    return {k: v for k, v in meta.items() if k not in _SYSTEM and k not in _IGNORED}


def _intent(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k not in ("metadata", "status")}


def _only_status(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k == "status"}
