"""What the API server answers when it refuses: `metav1.Status`, as an exception."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ollama_op.base.json import Object


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with an object: a field, a machine-readable reason, a sentence."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass
class ApiError(Exception):
    """A refusal with its HTTP code; raised anywhere, answered as a Status in one place."""

    code: int
    reason: str
    message: str
    details: Object = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def status(self) -> Object:
        """Return the body of the answer."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            **({"details": self.details} if self.details else {}),
            "code": self.code,
        }


@dataclass(frozen=True)
class StatusSubject:
    """The object a refusal speaks of."""

    group: str
    plural: str
    kind: str
    name: str

    def details(self, **more: object) -> Object:
        """Return the details of a Status about this object."""
        group = {"group": self.group} if self.group else {}
        return {"name": self.name, **group, "kind": self.plural, **more}

    def _resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def not_found(self) -> ApiError:
        """Return the 404 for an object that is not there."""
        message = f'{self._resource()} "{self.name}" not found'
        return ApiError(404, "NotFound", message, self.details())

    def exists(self) -> ApiError:
        """Return the 409 for a name that is taken."""
        message = f'{self._resource()} "{self.name}" already exists'
        return ApiError(409, "AlreadyExists", message, self.details())

    def conflict(self, why: str) -> ApiError:
        """Return the 409 for a write that was meant for another state of the object."""
        message = f'Operation cannot be fulfilled on {self._resource()} "{self.name}": {why}'
        return ApiError(409, "Conflict", message, self.details())

    def invalid(self, causes: Sequence[Cause]) -> ApiError:
        """Return the 422 that lists all that is wrong with an object."""
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        found = ", ".join(map(str, causes))
        found = found if len(causes) == 1 else f"[{found}]"
        listed = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
        details = self.details(causes=listed) | {"kind": self.kind}
        return ApiError(422, "Invalid", f'{kind} "{self.name}" is invalid: {found}', details)


def bad_request(message: str) -> ApiError:
    """Return the 400 for a request that cannot be read."""
    return ApiError(400, "BadRequest", message)


def no_such_path() -> ApiError:
    """Return the 404 for a path that nothing serves."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def not_allowed() -> ApiError:
    """Return the 405 for a verb that the resource does not have."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message)


def expired(revision: int, oldest: int) -> ApiError:
    """Return the 410 that tells a client to list again."""
    return ApiError(410, "Expired", f"too old resource version: {revision} ({oldest})")


def too_large(revision: int, current: int) -> ApiError:
    """Return the 504 for a resourceVersion that this server has not reached."""
    message = f"Timeout: Too large resource version: {revision}, current: {current}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return ApiError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})
