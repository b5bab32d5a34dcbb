"""The committed list of notes that models are asked for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@pytest.fixture(scope="module")
def listed(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "benchmarks" / "notes.json").read_text(encoding="utf-8"))


def _pairs(listed: dict[str, Any], which: str) -> list[tuple[str, str]]:
    return [(pair["instrument"], pair["note"]) for pair in listed[which]]


def test_fifty_and_fifty_different_pairs(listed: dict[str, Any]) -> None:
    seen, unseen = _pairs(listed, "seen"), _pairs(listed, "unseen")
    assert len(seen) == len(unseen) == 50
    assert len({*seen, *unseen}) == 100


def test_each_pair_is_whole_and_named_as_the_captions_are(listed: dict[str, Any]) -> None:
    for pair in listed["seen"] + listed["unseen"]:
        assert set(pair) == {"instrument", "note", "program", "pitch", "family", "source"}
        assert pair["note"] == f"{NAMES[pair['pitch'] % 12]}{pair['pitch'] // 12 - 1}"
        assert 0 <= pair["program"] < 128


def test_the_pairs_spread_over_families_that_play_notes(listed: dict[str, Any]) -> None:
    for which in ("seen", "unseen"):
        families = Counter(pair["family"] for pair in listed[which])
        assert not families.keys() & {"drum kit", "sound effects"}
        assert len(families) >= 14 and max(families.values()) <= 6


def test_seen_pairs_are_trained_on_and_unseen_ones_never(listed: dict[str, Any], data_dir: Path) -> None:
    lines = (data_dir / "instruments" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    trained = Counter((row["instrument"], row.get("note")) for row in rows if row["split"] == "train")
    assert {trained[pair] for pair in _pairs(listed, "seen")} == {2}
    assert not trained.keys() & set(_pairs(listed, "unseen"))
    of_program = {row["program"]: (row["instrument"], row["family"]) for row in rows if "program" in row}
    for pair in listed["seen"] + listed["unseen"]:
        assert of_program[pair["program"]] == (pair["instrument"], pair["family"])
