"""What ships with each starter beside what it can do."""

import re

import pytest
from tests.apps.conftest import starter_folder

NAMES = ("starter-sound", "starter-codec", "starter-picture")
SECTIONS = ("data", "licence", "recipe", "steps", "time", "metrics", "known failures")


@pytest.mark.parametrize("name", NAMES)
def test_no_state_and_no_log_ships(name):
    folder = starter_folder(name)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert files and not [name for name in files if "state" in name or "events" in name]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_its_card_says(name, section):
    """A heading, a row of a table or a labelled item that begins with the word."""
    card = (starter_folder(name) / "CARD.md").read_text(encoding="utf-8")
    assert re.search(rf"^\W*{section}\b", card, re.IGNORECASE | re.MULTILINE), f"CARD.md has nothing on {section}"
