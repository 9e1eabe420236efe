"""Every command of README.md and docs/*.md is run by some test."""

import re
import subprocess
from pathlib import Path

import pytest

from support.process.manual import ROOT, Page, Terminal, blocks, fences, pages

TOLD = re.compile(r'Page\("(.+?)"')
NEEDS_PODS = re.compile(r"kubectl .*\b(rollout status|exec|port-forward|logs)\b")
ON_A_NODE = 4
TRACES = "docs/traces.md"
IMAGE = "docs/image.md"  # whose test runs all that is so marked


@pytest.fixture
def terminal() -> Terminal:
    """Return one in which nothing can be run."""
    return object.__new__(Terminal)


def test_each_page_with_commands_is_told() -> None:
    """Here, once, by a story that fails if it leaves a command out."""
    stories = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    told = [name for story in stories for name in TOLD.findall(story)]
    assert sorted(told) == sorted(page for page in pages() if blocks(page))


def test_a_story_that_leaves_out_a_command_fails(terminal: Terminal) -> None:
    """So does one that tells them in another order, or swaps what is not there."""
    with pytest.raises(AssertionError, match=r"not run: docs/traces\.md:\d+, docs/traces\.md:\d+"):
        Page(TRACES, terminal).__exit__(None)
    with pytest.raises(AssertionError, match="has no curl"):
        Page(TRACES, terminal).run("curl")
    with pytest.raises(AssertionError, match="has no http://elsewhere"):
        Page(TRACES, terminal).put("http://here", "http://elsewhere")


def test_each_fence_says_what_it_is() -> None:
    """By words that are known here, so that none is passed over for how it is written."""
    words = [fence.info for page in pages() for fence in fences(page)]
    assert set(words) == {"", "yaml", "sh", "sh node", "sh image", "sh ci", "sh publish"}
    assert words.count("sh publish") == 1
    assert [page for page in pages() if "sh image" in {f.info for f in fences(page)}] == [IMAGE]


def test_only_what_needs_pods_is_left_to_a_node() -> None:
    """It is a handful of commands, of which none works without."""
    left = [block for page in pages() for block in blocks(page, node=True)]
    assert [line for b in left for line in b.text.splitlines() if not NEEDS_PODS.match(line)] == []
    assert len(left) == ON_A_NODE
    assert not [b for page in pages() for b in blocks(page) if NEEDS_PODS.search(b.text)]


def test_the_command_for_all_tests_is_what_ci_evaluates() -> None:
    """This is one of them, so .ci/run runs it, letter by letter, and not a story."""
    (block,) = (fence for page in pages() for fence in fences(page) if fence.info == "sh ci")
    shell = 'eval() { echo "evaluated: $1"; }; source "$0"'
    command = ["bash", "-c", shell, ROOT / ".ci/run"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert said.endswith(f"evaluated: {block.text}")
