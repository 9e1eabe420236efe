"""OllamaModel in API version v1alpha1: the one schema of the CRD, the operator and the REST API.

Field descriptions are what `kubectl explain ollamamodel` prints. Reasons and annotation names are
public API: added, never renamed.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from crd.form import IS_DURATION
from crd.names import MAX_PART, MAX_PATH
from crd.switches import read_switch

# What msgspec raises on bytes that are no JSON of the type asked for.
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

GROUP: Final = "ollama.smithforge.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "OllamaModel"
PLURAL: Final = "ollamamodels"

FINALIZER: Final = f"{GROUP}/finalizer"
REFRESH: Final = f"{GROUP}/refresh"
ANY_REFRESH: Final = "true"  # the value that is replaced when served; others are tokens, echoed
REFRESHED: Final = "completed-"  # prefix of the value that REFRESH has after ANY_REFRESH was served
FORCE_DELETE: Final = f"{GROUP}/force-delete"
TRACEPARENT: Final = f"{GROUP}/traceparent"  # where the trace of the object's life is joined (W3C)

Bytes = Annotated[int, Meta(ge=0, description="Bytes.")]
Time = Annotated[datetime, Meta(tz=True)]


class State(StrEnum):
    """The four words that `status.state` has had from the first release."""

    PENDING = "Pending"
    PULLING = "Pulling"
    READY = "Ready"
    FAILED = "Failed"


class DeletionPolicy(StrEnum):
    """What becomes of the model when its resource goes, or names another one."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Origin(StrEnum):
    """How the model came to be on the server."""

    ADOPTED = "Adopted"
    PULLED = "Pulled"


# The API server checks form and length, and no pattern: it would answer with the regular
# expression. What a text means, and what to write instead, is said elsewhere: `crd.door`.
_TEXT: Final = {"maxLength": 128}
_DURATION: Final = {IS_DURATION: True}


class RefreshWindow(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """When scheduled refreshes may begin."""

    schedule: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=128,
            description="When the window opens, as a cron expression of five fields: `0 2 * * 6`.",
        ),
    ]
    duration: Annotated[
        str,
        Meta(
            description="How long it stays open: `4h`. At least 1m.",
            extra_json_schema=_TEXT,
            extra=_DURATION,
        ),
    ]
    time_zone: Annotated[
        str, Meta(max_length=64, description="IANA time zone of the schedule: `Europe/Berlin`.")
    ] = "UTC"


class OllamaModelSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """Which model should be there, and how it is cared for."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_PATH,
            description="Model name as Ollama knows it, without a tag: `llama3.2`, `user/model`,"
            " `hf.co/Org/Model`.",
        ),
    ]
    tag: Annotated[
        str,
        Meta(min_length=1, max_length=MAX_PART, description="Tag of the model: `latest`, `1b`."),
    ]
    suspend: Annotated[
        bool, Meta(description="Leave the model as it is: no pull, no check, until this is off.")
    ] = False
    deletion_policy: Annotated[
        DeletionPolicy,
        Meta(
            description="What becomes of the model in Ollama when this object goes, or names"
            " another model: Delete (the default) or Retain."
        ),
    ] = DeletionPolicy.DELETE
    interval: (
        Annotated[
            str,
            Meta(
                description="Longest time in which the loss of the model is noticed: `30s`. At"
                " least 1s; default is the operator's --health-interval.",
                extra_json_schema=_TEXT,
                extra=_DURATION,
            ),
        ]
        | None
    ) = None
    refresh_interval: (
        Annotated[
            str,
            Meta(
                description="Time between scheduled refreshes: `24h`. At least 1m; default is"
                " never. While expectedDigest is met there is nothing to look for.",
                extra_json_schema=_TEXT,
                extra=_DURATION,
            ),
        ]
        | None
    ) = None
    refresh_window: Annotated[
        RefreshWindow | None,
        Meta(description="When scheduled refreshes may begin; default is any time."),
    ] = None
    timeout: (
        Annotated[
            str,
            Meta(
                description="Longest time that a whole pull may take: `2h`. At least 1s; default is"
                " no limit, besides that of a pull without progress.",
                extra_json_schema=_TEXT,
                extra=_DURATION,
            ),
        ]
        | None
    ) = None
    insecure: Annotated[
        bool,
        Meta(
            description="Let Ollama pull from a registry without TLS: it then uses plain HTTP,"
            " which anybody on the way can read and change."
        ),
    ] = False
    expected_digest: (
        Annotated[
            str,
            Meta(
                description="The only digest that counts as this model, as status.digest shows it.",
            ),
        ]
        | None
    ) = None
    keep_alive: Annotated[
        str | int | None,
        Meta(
            description="Keep the model loaded: `-1` for ever, or `10m` after its last use, and"
            " then loaded again. At least 10s. A number is of seconds, as for Ollama.",
            extra_json_schema=_TEXT,
        ),
    ] = None


class Progress(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How far the download is. Never goes back while one download lasts."""

    completed_bytes: Annotated[
        Bytes, Meta(description="Bytes of those layers that are on the server already.")
    ] = 0
    total_bytes: (
        Annotated[int, Meta(ge=0, description="Bytes of the layers announced so far.")] | None
    ) = None
    percent: (
        Annotated[int, Meta(ge=0, le=100, description="Whole percent of the bytes announced.")]
        | None
    ) = None
    text: Annotated[str, Meta(description="The percentage as the PROGRESS column shows it.")] = ""
    bytes_per_second: (
        Annotated[int, Meta(ge=0, description="Speed over the last few seconds.")] | None
    ) = None
    eta_seconds: Annotated[int, Meta(ge=0, description="Seconds left at that speed.")] | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is remembered of a version of the model that Ollama cannot show, until it can."""

    model: Annotated[str, Meta(description="Full name of the model.")]
    digest: Annotated[
        str | None, Meta(description="Digest of that version; absent where it is not listed.")
    ] = None
    since: Annotated[Time, Meta(description="When Ollama first said that it cannot show it.")]
    confirmed: Annotated[
        bool, Meta(description="Whether Ollama has said so twice, at least 30 s apart.")
    ] = False
    downloaded: Annotated[
        bool, Meta(description="Whether Ollama has said so right after a fresh download.")
    ] = False


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One `metav1.Condition`."""

    type: Annotated[str, Meta(description="Ready, Reconciling or Stalled.")]
    status: Annotated[
        Literal["True", "False", "Unknown"], Meta(description="Whether the condition holds.")
    ]
    reason: Annotated[str, Meta(max_length=1024, description="One word for the cause.")]
    message: Annotated[
        str, Meta(max_length=1024, description="What is true now, and what happens next.")
    ]
    observed_generation: Annotated[
        int, Meta(ge=0, description="Generation of the spec that this condition speaks of.")
    ] = 0
    last_transition_time: Annotated[
        Time, Meta(description="When the status last changed from one word to another.")
    ]


class OllamaModelStatus(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """What the operator last saw. Written by the operator alone."""

    observed_generation: Annotated[
        int, Meta(description="Generation of the spec that this status speaks of; -1 before any.")
    ] = -1
    state: Annotated[State | None, Meta(description="One word, made from the conditions.")] = None
    model: Annotated[
        str | None, Meta(description="Full name of the model that this status speaks of.")
    ] = None
    digest: Annotated[
        str | None,
        Meta(description="Digest of the model as Ollama's /api/tags shows it, in bare hex."),
    ] = None
    size: Annotated[int, Meta(ge=0, description="Size of the model in bytes.")] | None = None
    formatted_size: Annotated[str | None, Meta(description="The size for people: `1.7 GiB`.")] = (
        None
    )
    last_pull_time: Annotated[
        Time | None, Meta(description="When the operator last finished a pull of this model.")
    ] = None
    error: (
        Annotated[str, Meta(max_length=1024, description="What is wrong; absent when nothing is.")]
        | None
    ) = None
    progress: Annotated[
        Progress | None, Meta(description="The download under way, or how far the last one came.")
    ] = None
    attempts: (
        Annotated[int, Meta(ge=0, description="Failed tries in a row; absent after a success.")]
        | None
    ) = None
    next_retry_time: Annotated[
        Time | None, Meta(description="When the next try is due, if one is.")
    ] = None
    observed_refresh: Annotated[
        str | None, Meta(description="The refresh wish that this status speaks of.")
    ] = None
    last_handled_refresh: Annotated[
        str | None, Meta(description="The last value of the refresh annotation that was served.")
    ] = None
    next_refresh_time: Annotated[
        Time | None, Meta(description="When the next scheduled refresh is due.")
    ] = None
    origin: Annotated[
        Origin | None,
        Meta(
            description="Adopted: the model was there before it was asked for. Pulled: it was not."
        ),
    ] = None
    shared_with: (
        Annotated[int, Meta(ge=0, description="How many other objects name this model.")] | None
    ) = None
    loaded: Annotated[
        bool | None, Meta(description="Whether the model is in memory; only with spec.keepAlive.")
    ] = None
    expires_at: Annotated[
        Time | None,
        Meta(description="When Ollama unloads the model at the earliest, if it ever does."),
    ] = None
    remote_host: Annotated[
        str | None,
        Meta(description="Where a cloud model runs; absent for one that runs on the server."),
    ] = None
    server_version: Annotated[
        str | None, Meta(description="Version of the Ollama that cannot use the model.")
    ] = None
    trace_id: Annotated[
        str | None,
        Meta(
            description="Trace of what the operator last did for this object, where it is traced."
        ),
    ] = msgspec.field(default=None, name="traceID")
    fault: Annotated[
        Fault | None, Meta(description="Present while Ollama lists the model and cannot show it.")
    ] = None
    owned_models: Annotated[
        tuple[str, ...],
        Meta(description="Models on the server that go when this object goes."),
    ] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(
            description="Ready, and Reconciling or Stalled while true.",
            extra_json_schema={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = ()

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of type `kind`, if there is one."""
        return next((c for c in self.conditions if c.type == kind), None)


class Annotations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The annotations that mean something to the operator; the rest is not even kept."""

    refresh: (
        Annotated[
            str,
            Meta(
                description="Set by you: ask the registry for a newer version. `true` becomes"
                " `completed-<time>` when served; any other value is a token, which stays and is"
                " echoed in status.lastHandledRefresh."
            ),
        ]
        | UnsetType
    ) = msgspec.field(default=UNSET, name=REFRESH)
    force_delete: (
        Annotated[
            str,
            Meta(
                description="Set by you: `true` lets an object that is being deleted go. Its model"
                " is removed if Ollama does so at the first try, and may stay there otherwise."
                " `True`, `1` and `yes` are taken too."
            ),
        ]
        | UnsetType
    ) = msgspec.field(default=UNSET, name=FORCE_DELETE)
    traceparent: (
        Annotated[
            str,
            Meta(
                description="Set by the operator, or by you before it: where the trace of the"
                " object's life is joined (W3C Trace Context)."
            ),
        ]
        | UnsetType
    ) = msgspec.field(default=UNSET, name=TRACEPARENT)

    @property
    def forces_deletion(self) -> bool:
        """Whether `force-delete` says yes, in whatever spelling."""
        return self.force_delete is not UNSET and read_switch(self.force_delete) is True

    @property
    def unclear_force(self) -> str | None:
        """The value of `force-delete` where it says neither yes nor no; else None."""
        if self.force_delete is UNSET or read_switch(self.force_delete) is not None:
            return None
        return self.force_delete


class ObjectMeta(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The part of Kubernetes' ObjectMeta that the operator reads."""

    name: str
    namespace: str
    uid: str
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    annotations: Annotations = Annotations()
