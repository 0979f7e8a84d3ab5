"""docs/model.md, section 4, defines exactly the events that the C library counts."""

import re
from pathlib import Path

from rmapfast import _core

MODEL = Path(__file__).parent.parent / "docs" / "model.md"


def defined_events(text):
    """Return the names in the first column of the first table of that section, in its order."""
    section = text[text.index("\n## 4. ") : text.index("\n## 5. ")]
    table = re.search(r"^\| event \|.*\n\|[-|]+\n((?:\|.*\n)+)", section, re.MULTILINE)[1]
    return [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_every_event_is_defined_once():
    defined = defined_events(MODEL.read_text())
    assert sorted(defined) == sorted(_core.EVENT_NAMES)
    assert len(set(defined)) == len(defined)


def test_a_missing_event_would_be_found():
    text = MODEL.read_text().replace("| `warns` |", "| `warnings` |")
    assert set(defined_events(text)) ^ set(_core.EVENT_NAMES) == {"warns", "warnings"}
