from hypothesis import given
from hypothesis import strategies as st

from ollama_op.ollama.progress import Meter
from ollama_op.ollama.wire import Step

GB = 1_000_000_000


def layer(completed: int = 0, *, of: int = 100, digest: str = "sha256:a") -> Step:
    return Step(status=f"pulling {digest}", digest=digest, total=of, completed=completed)


SIZES = st.integers(-10, 10 * GB)
STEPS = st.builds(
    Step,
    status=st.sampled_from(["pulling a", "pulling b", "verifying", ""]),
    digest=st.sampled_from(["", "a", "b", "c"]),
    total=SIZES,
    completed=SIZES,
)


@given(st.lists(st.tuples(STEPS, st.floats(0, 100, width=32)), max_size=30))
def test_whatever_comes_nothing_goes_back_and_all_can_be_written(steps):
    """Bytes and percent only grow; every figure fits the CRD's schema."""
    now = 100.0
    meter = Meter(now)
    before = meter.progress(now)
    for step, later_s in steps:
        now += later_s
        meter.take(step, now)
        progress = meter.progress(now)
        assert progress.completed_bytes >= before.completed_bytes
        assert (progress.total_bytes or 0) >= (before.total_bytes or 0)
        assert (progress.percent or 0) >= (before.percent or 0)
        assert progress.percent is None or progress.percent <= 99
        assert progress.bytes_per_second is None or progress.bytes_per_second >= 0
        assert progress.eta_seconds is None or progress.eta_seconds >= 0
        before = progress


@given(st.lists(STEPS, max_size=30))
def test_the_same_step_again_is_no_advance(steps):
    """A registry that hangs makes Ollama repeat itself; the watchdog must not be fooled."""
    meter = Meter(0)
    for step in steps:
        meter.take(step, 1)
        assert not meter.take(step, 2)


def test_layers_add_up():
    """The figure is over the whole model, not the layer under way."""
    meter = Meter(0)
    for step in (layer(100), layer(30, of=300, digest="b")):
        meter.take(step, 1)
    progress = meter.progress(1)
    assert (progress.completed_bytes, progress.total_bytes) == (130, 400)
    assert (progress.percent, progress.text) == (32, "32%")


def test_a_count_that_steps_back_is_no_advance_until_it_is_passed():
    """Ollama steps back when it resumes a part; only new ground counts."""
    meter = Meter(0)
    took = [meter.take(layer(done), 1) for done in (50, 20, 50, 51)]
    assert took == [True, False, False, True]
    assert meter.completed_bytes == 51


def test_a_new_phase_is_an_advance():
    """Verifying a large model takes long, and says one line."""
    meter = Meter(0)
    phases = ["pulling manifest", "pulling manifest", "verifying sha256 digest", "success"]
    assert [meter.take(Step(status=phase), 1) for phase in phases] == [True, False, True, True]


def test_a_layer_that_is_announced_late_does_not_turn_the_figure_back():
    """The percentage waits until the truth has caught up."""
    meter = Meter(0)
    meter.take(layer(90), 1)
    assert meter.progress(1).percent == 90
    meter.take(layer(0, of=900, digest="b"), 2)
    assert meter.progress(2).percent == 90
    meter.take(layer(850, of=900, digest="b"), 3)
    assert meter.progress(3).percent == 94


def test_a_hundred_percent_is_for_a_model_that_was_seen_whole():
    """All bytes are there, and the digest is yet to be checked."""
    meter = Meter(0)
    meter.take(layer(100), 1)
    assert meter.progress(1).percent == 99


def test_nothing_is_claimed_before_sizes_are_known():
    """No total, no percentage, no speed."""
    meter = Meter(0)
    meter.take(Step(status="pulling manifest"), 1)
    progress = meter.progress(5)
    assert (progress.total_bytes, progress.percent, progress.text) == (None, None, "")
    assert (progress.bytes_per_second, progress.eta_seconds) == (None, None)


def test_the_speed_is_that_of_the_last_seconds():
    """A slow start is forgotten; the estimate follows the speed."""
    meter = Meter(0)
    done = 0
    for second in range(100):
        done += 1_000 if second < 60 else 5_000
        meter.take(layer(done, of=500_000), float(second))
    progress = meter.progress(99)
    assert progress.bytes_per_second == 5_000
    assert progress.eta_seconds == (500_000 - done) // 5_000


def test_a_resumed_part_came_at_no_speed():
    """What an earlier pull left on the server is no proof of a fast line."""
    meter = Meter(0)
    meter.take(layer(5 * GB, of=10 * GB), 1)
    for second in range(2, 12):
        meter.take(layer(5 * GB + 1_000 * (second - 1), of=10 * GB), float(second))
    assert meter.progress(11).bytes_per_second == 1_000


def test_a_stalled_download_has_no_speed():
    """Nor a time at which it ends; and what is told of it does not change from then on."""
    meter = Meter(0)
    for second in range(1, 6):
        meter.take(layer(second * 1000, of=GB), float(second))
    assert meter.progress(5).bytes_per_second == 1000
    assert meter.progress(15).bytes_per_second == 4000 // 14
    stalled = meter.progress(16)
    assert (stalled.bytes_per_second, stalled.eta_seconds) == (None, None)
    assert meter.progress(85) == stalled
