"""What users see of each story, down to the word, is as it was kept."""

from pathlib import Path

import pytest

from crash.play import Scenario
from crash.scenarios import SCENARIOS
from golden.record import record

KEPT = Path(__file__).with_name("kept")
BY_NAME = pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.name for each in SCENARIOS])


def file(scenario: Scenario) -> Path:
    return KEPT / f"{scenario.name.replace(' ', '-')}.txt"


@BY_NAME
def test_users_see_of_a_story_what_they_saw_before(
    scenario: Scenario, pytestconfig: pytest.Config
) -> None:
    """Each status, REST answer, event and log line is kept; `--write-golden` keeps new ones."""
    lines = record(scenario)
    if pytestconfig.getoption("--write-golden"):
        KEPT.mkdir(exist_ok=True)
        file(scenario).write_text("\n".join(lines) + "\n")
    assert lines == file(scenario).read_text().splitlines()


def test_nothing_is_kept_of_a_story_that_is_no_more() -> None:
    """Each file belongs to a story, and each story has one."""
    assert {*KEPT.iterdir()} == {file(scenario) for scenario in SCENARIOS}
