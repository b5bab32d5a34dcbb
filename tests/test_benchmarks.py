"""Every benchmark goes with the package as it is, and what one of them ships is a model."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import cymatic
from tests.conftest import REPOSITORY

NAMES = sorted(path.stem for path in (REPOSITORY / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_imported(name: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    importlib.import_module(name)


def test_a_run_is_shipped_in_half_precision(repository, monkeypatch, tiny_run, tmp_path) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    importlib.import_module("ship").ship(tiny_run, tmp_path / "starter")
    sizes = [(place / "prior/model.safetensors").stat().st_size for place in (tiny_run, tmp_path / "starter")]
    assert sizes[1] < 0.7 * sizes[0]
    assert cymatic.load(tmp_path / "starter")("low tone", steps=2).rate == 8000
