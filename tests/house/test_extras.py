"""What CI installs: every extra, each of its packages pinned, and `make demo` without any of them."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PINNED = {
    re.split("==", line)[0].lower().replace("_", "-")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
}


def test_make_test_installs_every_extra() -> None:
    default = re.search(r"^EXTRAS \?= (\S+)$", MAKEFILE, re.MULTILINE)
    assert default is not None and set(default[1].split(",")) == set(PROJECT["optional-dependencies"])


def test_make_demo_installs_none() -> None:
    assert "$(PIP) install -c constraints.txt -e .\n" in MAKEFILE


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_what_is_asked_for_is_pinned(extra: str) -> None:
    asked = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    names = {re.split(r"[\[<>=!;, ]", one)[0].lower().replace("_", "-") for one in asked}
    assert names <= PINNED
