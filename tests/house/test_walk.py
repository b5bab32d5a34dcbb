"""The walk leads through rooms that are there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PATH = re.compile(r"`([\w./-]+(?:\.py|/))`")
# In the text "`training/`" is a room, "`tests/house/...`" lies beside the package.
NAMED = sorted(set(PATH.findall((REPOSITORY / "docs" / "walk.md").read_text(encoding="utf-8"))))


def test_the_walk_names_modules():
    assert len(NAMED) > 40
    assert {"training/loop.py", "pipelines/generate.py", "cond.py"} <= set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_each_place_on_the_walk_is_there(name):
    places = (REPOSITORY / name, REPOSITORY / "src" / name, REPOSITORY / "src" / "cymatic" / name)
    assert any(place.exists() for place in places) or name == "__init__.py"
