import re
from pathlib import Path

import pytest

from crd.reasons import Reason

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s:]*?)(?:#([^)\s]*))?\)")


def headings(page: Path) -> list[str]:
    """Return the headings of a page; what begins with # in code is none."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_reason_is_explained() -> None:
    """docs/reasons.md has a heading for each reason; what else it has is of several words."""
    text = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == sorted(
        reason.value for reason in Reason
    )


@pytest.mark.parametrize("reason", [each for each in Reason if not each.row.is_fine])
def test_trouble_is_found_by_what_is_seen(reason: Reason) -> None:
    """Its section begins with what `kubectl get om` shows: STATE, READY and REASON."""
    text = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    seen = f"{reason.row.state}  {reason.row.ready}  {reason}"
    assert f"### {reason}\n**Seen:** `{seen}" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    for path, name in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not name or name in map(anchor, headings(target)), f"{path}#{name}"


def test_the_order_of_reading_leads_through_the_whole_house() -> None:
    """Every path in docs/architecture.md exists, and every folder with code is among them."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:ollama_op|api|crd)/[\w./]*)`", text))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    packages = [*ROOT.glob("ollama_op/*/__init__.py"), ROOT / "api/__init__.py"]
    assert {f"{each.parent.relative_to(ROOT)}/" for each in packages} <= named
