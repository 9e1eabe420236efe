import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from crd.model import Malformed, decode
from crd.options import InvalidOptionError, Window, options
from crd.v1alpha1 import DeletionPolicy, OllamaModelSpec, RefreshWindow
from support.virtual.models import manifest, raw

HEX = "0123456789abcdef" * 4


def spec(**wishes) -> OllamaModelSpec:
    """Write a spec with these wishes."""
    return OllamaModelSpec(name="llama3.2", tag="1b", **wishes)


def window(schedule="0 3 * * *", duration="2h", **zone) -> RefreshWindow:
    """Write a window."""
    return RefreshWindow(schedule=schedule, duration=duration, **zone)


def test_without_wishes_everything_is_the_default():
    """A spec of name and tag, as it always was, asks for nothing special."""
    care = options(spec())
    assert (care.suspend, care.retain, care.insecure) == (False, False, False)
    assert care.interval_s is care.refresh_interval_s is care.timeout_s is care.keep_alive_s is None
    assert care.refresh_window is care.expected_digest is None


@pytest.mark.parametrize(
    ("wishes", "field", "value"),
    [
        ({"interval": "1m30s"}, "interval_s", 90),
        ({"timeout": "2h"}, "timeout_s", 7200),
        ({"refresh_interval": "24h"}, "refresh_interval_s", 86400),
        ({"refresh_interval": "1d"}, "refresh_interval_s", 86400),
        ({"refresh_interval": "1w12h"}, "refresh_interval_s", 648000),
        ({"keep_alive": "-1"}, "keep_alive_s", math.inf),
        ({"keep_alive": -1}, "keep_alive_s", math.inf),
        ({"keep_alive": "-1m"}, "keep_alive_s", math.inf),
        ({"keep_alive": "-2"}, "keep_alive_s", math.inf),
        ({"keep_alive": 3600}, "keep_alive_s", 3600),
        ({"keep_alive": "3600"}, "keep_alive_s", 3600),
        ({"keep_alive": "10m"}, "keep_alive_s", 600),
        ({"deletion_policy": DeletionPolicy.RETAIN}, "retain", True),
        ({"expected_digest": HEX}, "expected_digest", HEX),
        ({"expected_digest": f"sha256:{HEX}"}, "expected_digest", HEX),
        ({"expected_digest": f"SHA256:{HEX.upper()}"}, "expected_digest", HEX),
    ],
)
def test_texts_become_what_they_mean(wishes, field, value):
    """Seconds, bare hex, and infinity for what never ends."""
    assert getattr(options(spec(**wishes)), field) == value


@pytest.mark.parametrize(
    ("wishes", "field", "words"),
    [
        ({"interval": "soon"}, "interval", "'soon' is no duration; write 90s"),
        ({"interval": "-5s"}, "interval", "no time to wait"),
        ({"interval": "999ms"}, "interval", "at least 1s"),
        ({"timeout": ""}, "timeout", "no duration"),
        ({"timeout": "9" * 400 + "h"}, "timeout", "no duration"),
        ({"refresh_interval": "99999999h"}, "refreshInterval", "at most 87600h"),
        ({"refresh_interval": "59s"}, "refreshInterval", "at least 60s"),
        ({"keep_alive": "0s"}, "keepAlive", "'0s' would unload it at once; leave keepAlive out"),
        ({"keep_alive": 0}, "keepAlive", "'0' would unload it at once"),
        ({"keep_alive": "-x"}, "keepAlive", "no duration"),
        ({"keep_alive": "9"}, "keepAlive", "at least 10s"),
        ({"refresh_interval": "24"}, "refreshInterval", "'24' has no unit; write 24s, 24m or 24h"),
        ({"keep_alive": "9s"}, "keepAlive", "at least 10s"),
        ({"expected_digest": HEX[1:]}, "expectedDigest", "64 hex digits"),
        ({"expected_digest": HEX + "\n"}, "expectedDigest", "64 hex digits"),
        ({"refresh_window": window()}, "refreshWindow", "needs a refreshInterval"),
    ],
)
def test_what_cannot_be_meant_is_told_by_field(wishes, field, words):
    """The message says what the field takes."""
    with pytest.raises(InvalidOptionError, match=words) as caught:
        options(spec(**wishes))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (window(schedule="at night"), "schedule"),
        (window(schedule="0 3 30 2 *"), "schedule"),
        (window(schedule="* * * *"), "schedule"),
        (window(schedule="0 0 */30 2 MON#5"), "schedule"),
        (window(schedule="0 0 3 * * *"), "schedule"),
        (window(time_zone="Mars/Olympus"), "timeZone"),
        (window(time_zone="../etc/passwd"), "timeZone"),
        (window(time_zone="Europe"), "timeZone"),
        (window(time_zone=""), "timeZone"),
        (window(duration="10s"), "duration"),
    ],
)
def test_a_window_that_never_opens_is_told_by_field(bad, field):
    """Which part of the window, and how it is written."""
    with pytest.raises(InvalidOptionError) as caught:
        options(spec(refresh_interval="24h", refresh_window=bad))
    assert caught.value.field == f"refreshWindow.{field}"


BERLIN = Window("0 3 * * *", timedelta(hours=2), ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-01-05T01:59:59", "2026-01-05T02:00:00"),  # in winter, three there is two here
        ("2026-01-05T02:00:00", "2026-01-05T02:00:00"),
        ("2026-01-05T03:59:59", "2026-01-05T03:59:59"),
        ("2026-01-05T04:00:00", "2026-01-06T02:00:00"),
        ("2026-07-05T00:30:00", "2026-07-05T01:00:00"),  # and in summer one
        ("2026-07-05T01:30:00", "2026-07-05T01:30:00"),
    ],
)
def test_a_window_opens_by_its_own_clock(at, opens):
    """From its opening, inclusive, to its end, exclusive, and summer time moves it."""
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert BERLIN.first_open(moment) == datetime.fromisoformat(opens).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("Retain", True), ("retain", True), (7, True), (None, False), ("Delete", False)],
)
def test_a_spec_that_cannot_be_read_still_says_what_becomes_of_the_model(policy, kept):
    """A mistake elsewhere must not cost a model that was to be kept, nor one in that very field."""
    read = decode(raw(manifest() | {"spec": {"name": 5, "deletionPolicy": policy}})).spec
    assert isinstance(read, Malformed)
    assert (read.deletion_policy is DeletionPolicy.RETAIN) is kept
