"""Reads the optional half of a spec: texts in, lengths of time and moments out.

The API server's schema keeps most mistakes out. What it cannot know (a time zone that does not
exist, a window without a schedule to open it for) is told here, by field; and so is everything when
a spec comes from somewhere else, such as the REST API.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from crd.durations import DURATION, NUMBER, InvalidDurationError, parse_seconds
from crd.names import CLOUD_HOST, InvalidNameError, ModelName
from crd.v1alpha1 import DeletionPolicy, OllamaModelSpec
from crd.v1alpha1 import RefreshWindow as WindowSpec

SHORTEST_S: Final = 1.0
LONGEST_S: Final = 10 * 365 * 86400.0  # what is added to a date must not leave the calendar
SHORTEST_REFRESH_S: Final = 60.0
SHORTEST_KEEP_ALIVE_S: Final = 10.0  # it has to be asked for again before it is over
FIELDS: Final = 5  # of a cron expression: minute, hour, day, month, day of the week
_ZERO = re.compile(r"-?[0.]+(ms|[smhdw])?")
_NEGATIVE = re.compile(rf"-({DURATION.pattern}|[0-9]+(\.[0-9]+)?)")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class InvalidOptionError(ValueError):
    """A field of the spec is invalid. `field` is its path, the message says what it takes."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"spec.{field}: {problem}")
        self.field, self.problem = field, problem


@dataclass(frozen=True)
class Window:
    """A span of time that opens again and again."""

    schedule: str
    duration: timedelta
    zone: ZoneInfo

    def first_open(self, at: datetime) -> datetime | None:
        """Return the first moment from `at` on in which the window is open, if there is one."""
        local = at.astimezone(self.zone)
        # The library looks strictly before and strictly after a moment, by whole minutes.
        next_minute = local.replace(second=0, microsecond=0) + timedelta(minutes=1)
        past = CronSim(self.schedule, next_minute, reverse=True)
        for opened in islice(past, 1):
            if at < opened + self.duration:
                return at
        return next((opening.astimezone(UTC) for opening in CronSim(self.schedule, local)), None)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is cared for. None is the default of each."""

    suspend: bool
    retain: bool
    insecure: bool
    interval_s: float | None
    refresh_interval_s: float | None
    refresh_window: Window | None
    timeout_s: float | None
    expected_digest: str | None  # bare hex
    keep_alive_s: float | None  # infinite: for ever


@lru_cache(maxsize=4096)
def options(spec: OllamaModelSpec) -> Options:
    """Read the options of a spec.

    Raises: InvalidOptionError, about the first field that is wrong.
    """
    read = Options(
        suspend=spec.suspend,
        retain=spec.deletion_policy is DeletionPolicy.RETAIN,
        insecure=spec.insecure,
        interval_s=_seconds("interval", spec.interval),
        refresh_interval_s=_seconds(
            "refreshInterval", spec.refresh_interval, shortest_s=SHORTEST_REFRESH_S
        ),
        timeout_s=_seconds("timeout", spec.timeout),
        keep_alive_s=_keep_alive_s(spec.keep_alive),
        expected_digest=_digest(spec.expected_digest),
        refresh_window=_window(spec.refresh_window) if spec.refresh_window else None,
    )
    if spec.refresh_window is not None and spec.refresh_interval is None:
        raise InvalidOptionError("refreshWindow", "needs a refreshInterval to hold back")
    if spec.keep_alive is not None and _is_cloud(spec):
        raise InvalidOptionError("keepAlive", never_in_memory(CLOUD_HOST))
    return read


def never_in_memory(host: str) -> str:
    """Return why a model that runs elsewhere cannot be kept in memory here."""
    return f"a cloud model runs on {host} and is never in memory here; leave keepAlive out"


def _is_cloud(spec: OllamaModelSpec) -> bool:
    try:
        return ModelName.of(spec.name, spec.tag).is_cloud
    except InvalidNameError:
        return False


def _seconds(field: str, text: str | None, *, shortest_s: float = SHORTEST_S) -> float | None:
    return None if text is None else _length_s(field, text, shortest_s)


def _length_s(field: str, text: str, shortest_s: float) -> float:
    try:
        return _bounded(field, text, parse_seconds(text), shortest_s)
    except InvalidDurationError as error:
        raise InvalidOptionError(field, str(error)) from None


def _bounded(field: str, text: str, seconds: float, shortest_s: float) -> float:
    if seconds < shortest_s:
        raise InvalidOptionError(field, f"{text!r} is too short; at least {shortest_s:g}s")
    if seconds > LONGEST_S:
        raise InvalidOptionError(field, f"{text!r} is too long; at most {LONGEST_S / 3600:.0f}h")
    return seconds


def _keep_alive_s(written: str | int | None) -> float | None:
    """Read how long a model stays loaded, as Ollama does: numbers are seconds, below 0 is for ever.

    Source: Ollama, api/types.go, Duration.
    """
    if written is None:
        return None
    text = str(written)
    if _ZERO.fullmatch(text):
        problem = f"{text!r} would unload it at once; leave keepAlive out"
        raise InvalidOptionError("keepAlive", problem)
    if _NEGATIVE.fullmatch(text):
        return math.inf
    if NUMBER.fullmatch(text):
        return _bounded("keepAlive", text, float(text), SHORTEST_KEEP_ALIVE_S)
    return _length_s("keepAlive", text, SHORTEST_KEEP_ALIVE_S)


def _digest(text: str | None) -> str | None:
    if text is None:
        return None
    match = _DIGEST.fullmatch(text.lower())
    if match is None:
        raise InvalidOptionError(
            "expectedDigest", "is no digest; write the 64 hex digits that status.digest shows"
        )
    return match[1]


def _window(spec: WindowSpec) -> Window:
    duration_s = _length_s("refreshWindow.duration", spec.duration, SHORTEST_REFRESH_S)
    try:
        zone = ZoneInfo(spec.time_zone)
    except (KeyError, ValueError, OSError):  # OSError: the name of a folder of zones
        raise InvalidOptionError(
            "refreshWindow.timeZone", f"{spec.time_zone!r} is no time zone; write Europe/Berlin"
        ) from None
    if len(spec.schedule.split()) != FIELDS:
        raise InvalidOptionError(
            "refreshWindow.schedule",
            f"{spec.schedule!r} is no cron expression of five fields; write 0 2 * * 6",
        )
    try:
        opens = next(CronSim(spec.schedule, datetime.now(zone)), None)
    except CronSimError as error:
        raise InvalidOptionError(
            "refreshWindow.schedule", f"{spec.schedule!r} is no schedule ({error}); write 0 2 * * 6"
        ) from None
    if opens is None:
        raise InvalidOptionError(
            "refreshWindow.schedule", f"{spec.schedule!r} never opens; write 0 2 * * 6"
        )
    return Window(spec.schedule, timedelta(seconds=duration_s), zone)
