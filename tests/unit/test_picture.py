"""The picture of the demo that the README begins with."""

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/demo.svg"
SVG = "{http://www.w3.org/2000/svg}"


def words(picture: str) -> list[str]:
    """Return what is written in a picture, line by line; numbers and bars move from run to run."""
    lines: dict[float, str] = {}
    for text in ET.fromstring(picture).iter(f"{SVG}text"):  # noqa: S314 - our own
        y = float(text.get("y", 0))
        lines[y] = lines.get(y, "") + (text.text or "")
    return [" ".join(re.sub(r"\d+|█+ *", "0", lines[y]).split()) for y in sorted(lines)]


def test_the_picture_shows_the_demo_as_it_is():
    """Else: just picture."""
    drawn = runpy.run_path(str(ROOT / "docs/picture.py"))["render"]()
    assert words(FILE.read_text(encoding="utf-8")) == words(drawn)


def test_the_picture_tells_the_story():
    """A model on its way back, a failure that was mended, and the two others Ready."""
    said = words(FILE.read_text(encoding="utf-8"))
    for part in ("ModelLost", "Available", "heals", "side by side", "somebody deletes"):
        assert any(part in line for line in said), part
    assert len(said) <= 24 + 1  # lines of a terminal, and the title of its window


def test_the_picture_asks_for_nothing_from_elsewhere():
    """No font, no style sheet, no script: one address, which is only the name of a format."""
    text = FILE.read_text(encoding="utf-8")
    assert re.findall(r"https?:[^\"\s]*", text) == ["http://www.w3.org/2000/svg"]
    assert set(re.findall(r"url\(([^)]{1,6})", text)) <= {"#demo-"}
    assert not re.findall(r"@import|@font-face|<script|href", text)
