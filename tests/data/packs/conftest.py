"""A shelf to write packs on, and what the packs that the starters heard say of themselves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cymatic.data.published.catalogue import find
from cymatic.data.published.dataset_writer import DatasetWriter

Rows = list[dict[str, Any]]


@pytest.fixture
def writer(tmp_path: Path) -> Callable[[str], DatasetWriter]:
    """`shelf("digits")`: opened, in an empty folder; asked again, the next attempt at the same."""

    def opened(name: str) -> DatasetWriter:
        made = DatasetWriter(find(name), tmp_path / "data")
        made.open()
        return made

    return opened


@pytest.fixture(scope="session")
def heard(data_dir: Path) -> Callable[[str], Rows]:
    """The rows of a pack that the starters were made of."""

    def rows(name: str) -> Rows:
        folder = data_dir / name
        if not folder.is_dir():
            pytest.skip(f"{folder} is not there")
        return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]

    return rows
