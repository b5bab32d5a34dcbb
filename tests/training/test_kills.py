"""A training that is killed at any moment goes on to the same weights."""

import importlib

import pytest


@pytest.mark.slow
def test_runs_that_were_killed_end_as_if_they_were_not(repository, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    kills = importlib.import_module("kills")
    assert kills.failures(2, 54, tmp_path, say=lambda line: None) == []
