"""Spoken names beside their pictures: which clips are taken, and how what they find is counted."""

import json

import numpy as np
import pytest
import torch
from benchmarks import voices

from cymatic.media.picture import Picture
from tests.helpers import tone

NAMES = {"1f34e": "red apple", "1f415": "dog"}


def clip(pack, number, emoji, split, **more):
    return {"id": f"{number}", "audio": f"audio/{number}.wav", "emoji": emoji, "split": split, "seconds": 0.2, **more}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    packs = {
        "emoji": [
            {"id": emoji, "name": name, "picture": f"pictures/{emoji}.png", "split": "train"}
            for emoji, name in NAMES.items()
        ],
        "spoken-emoji": [
            clip("spoken-emoji", 0, "1f34e", "train", language="en", voice="slt"),
            clip("spoken-emoji", 1, "1f415", "valid", language="de", voice="de"),
        ],
        "words": [
            clip("words", 0, "1f415", "train", language="es", author="Ana", licence="CC-BY-SA"),
            clip("words", 1, "1f415", "train", language="fr", author="Zoe", licence="GPL"),
            clip("words", 2, None, "train", language="es", author="Ana", licence="CC-BY-SA"),
            clip("words", 3, "1f34e", "valid", language="gd", author="Mor", licence="public domain"),
            clip("words", 4, "1f34e", "valid", language="gd", author="Mor", licence="public domain", duplicate_of="3"),
        ],
    }
    for pack, rows in packs.items():
        (root / pack / ("pictures" if pack == "emoji" else "audio")).mkdir(parents=True)
        for i, row in enumerate(rows):
            if pack == "emoji":
                Picture(np.full((8, 8, 3), i / 2)).write(root / pack / row["picture"])
            else:
                tone(300 + 100 * list(NAMES).index(row["emoji"] or "1f34e"), 0.2).write(root / pack / row["audio"])
        (root / pack / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_free_recordings_come_beside_their_pictures(data, tmp_path):
    voices.join(data, tmp_path / "all")
    rows = [json.loads(line) for line in (tmp_path / "all" / "manifest.jsonl").open()]
    assert [row["id"] for row in rows] == ["spoken-emoji/0", "spoken-emoji/1", "words/0", "words/3"]
    assert [row["voice"] for row in rows] == ["slt", "de", "Ana", "Mor"]
    for row in rows:
        assert row["caption"] == NAMES[row["emoji"]]
        assert (tmp_path / "all" / row["audio"]).is_file() and (tmp_path / "all" / row["picture"]).is_file()
    voices.join(data, tmp_path / "made", humans=False)
    made = [json.loads(line)["id"] for line in (tmp_path / "made" / "manifest.jsonl").open()]
    assert made == ["spoken-emoji/0", "spoken-emoji/1"]


class Knowing:
    """Encoders by which a high tone is a dog and all others are apples, and a grey picture the dog's."""

    def role_of(self, medium):
        return medium or "words"

    def embed(self, values, role):
        if role == "words":
            dogs = [value == "dog" for value in values]
        elif role == "picture":
            dogs = [value.pixels.mean() > 0.2 for value in values]
        else:
            dogs = [np.abs(np.fft.rfft(value.samples[0]))[1:].argmax() * value.rate / len(value.samples[0]) > 350
                    for value in values]  # fmt: skip
        return torch.eye(2)[[int(dog) for dog in dogs]]


@pytest.mark.parametrize("by", ["picture", "words"])
def test_what_was_said_is_counted_by_language_and_voice(data, monkeypatch, capsys, by):
    monkeypatch.setattr(voices, "load_embedder", lambda model: Knowing())
    monkeypatch.setattr(voices, "FIRST", (1, 2))
    voices.recall("model", data, by=by)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1].strip() for line in lines if line.startswith("  ")] == [
        "spoken-emoji, de", "words, gd", "Mor", "de"
    ]  # fmt: skip
    assert all("@1 100.0%" in line and "@2 100.0%" in line for line in lines if line.startswith("  "))
