"""`data.augment` for speech in training: what encoders hear is changed, the same after a stop, else refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import disc, interrupted_after, quiet, tiny_recipe, tone, tone_folder

from cymatic.data.augment_speech import SpeechAugmenter
from cymatic.errors import Error
from cymatic.training.recipe import Recipe
from cymatic.training.train import read_run, train

HEARD = {"tract": 0.1, "speed": 0.1, "room": 0.2, "noise": 0.5, "overlay": 0.3}
MEL = {"rate": 8000, "n_fft": 256, "hop": 128, "mels": 20, "fmax": 4000}
SMALL = {"width": 16, "depth": 1, "heads": 2, "dim": 16}
PARTS = {
    "picture": {"kind": "picture", "picture": {"size": 8}, "halvings": 1, **SMALL},
    "audio": {"kind": "sound", "mel": MEL, **SMALL},
}


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("voices")
    rows = []
    for n in range(4):
        disc(0.2 + 0.2 * n, size=8).write(root / f"{n}.png")
        for take in range(2):
            tone(300 + 90 * n + take, 0.4, seed=take).write(root / f"{n}_{take}.wav")
            rows.append({"audio": f"{n}_{take}.wav", "picture": f"{n}.png", "caption": f"disc {n}", "split": "train"})
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def recipe(folder: Path, augment: dict[str, Any], **data: Any) -> Recipe:
    training = {"steps": 6, "batch": 4, "warmup": 1, "checkpoint_steps": 3}
    stage = {"task": "alignment", "parts": PARTS, "training": training}
    settings = {"folder": str(folder), "augment": augment, **data}
    return Recipe.parse({"data": settings, "stages": {"space": stage}}, "the test")


def test_a_run_whose_encoders_hear_changed_speech_goes_on_as_it_would_have(voices, tmp_path, monkeypatch):
    heard: list[tuple[int, int]] = []
    change = SpeechAugmenter.__call__

    def listening(self: SpeechAugmenter, one: Any, item: int, epoch: int) -> Any:
        made = change(self, one, item, epoch)
        heard.append((item, epoch))
        assert made.target is one.target and not torch.equal(made.given["audio"], one.given["audio"])
        return made

    monkeypatch.setattr(SpeechAugmenter, "__call__", listening)
    settings = recipe(voices, HEARD)
    assert train(settings, tmp_path / "whole", say=quiet).finished
    assert {item for item, _ in heard} == set(range(8)) and {epoch for _, epoch in heard} >= {0, 1, 2}
    cut = tmp_path / "cut"
    assert not train(settings, cut, say=quiet, on_report=interrupted_after(3)).finished
    assert train(read_run(cut), cut, resume=True, say=quiet).finished
    for file in ("audio/model.safetensors", "picture/model.safetensors"):
        assert (cut / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_a_limit_is_said_and_kept_by_the_run(voices, tmp_path):
    said: list[str] = []
    assert train(recipe(voices, {}, limit=5), tmp_path / "run", say=said.append).finished
    assert any(line.startswith("limit  5 of 8 rows to train on are used, of 4 captions") for line in said)
    assert read_run(tmp_path / "run").data.limit == 5


def test_it_is_refused_where_no_sound_is_heard(voices, tmp_path):
    settings = recipe(voices, {"noise": 0.5}).model_dump()
    settings["stages"]["space"]["parts"] = {
        "picture": PARTS["picture"],
        "caption": {"kind": "text", "dim": 16, "depth": 1},
    }
    with pytest.raises(Error, match="nothing here reads sounds that it could change"):
        train(Recipe.parse(settings, "the test"), tmp_path / "run", say=quiet)
    quantizer = {"kind": "residual", "levels": 2, "size": 16, "dim": 8}
    network = {"kind": "fast", "hop": 80, "width": 16, "encoder": [0, 1], "decoder": [1, 0]}
    part = {"kind": "waveform", "rate": 8000, "network": network, "quantizer": quantizer}
    stage = {"task": "autoencoder", "part": part, "segment": 0.1, "training": {"steps": 1}}
    codec = {"data": {"folder": str(voices), "augment": {"speed": 0.1}}, "stages": {"codec": stage}}
    with pytest.raises(Error, match="has an augment of its own stage"):
        train(Recipe.parse(codec, "the test"), tmp_path / "codec", say=quiet)


def test_a_prior_over_mels_learns_the_changed_mels(tmp_path):
    folder = tone_folder(tmp_path / "tones")
    augment = ["data.augment.tract=0.1", "data.augment.speed=0.1", "data.augment.gain=1", "training.steps=2"]
    assert train(tiny_recipe(folder, *augment), tmp_path / "run", say=quiet).finished


def test_the_condition_of_a_prior_is_changed_and_its_pictures_are_not(voices, tmp_path, monkeypatch):
    heard: list[Any] = []
    change = SpeechAugmenter.__call__

    def listening(self: SpeechAugmenter, one: Any, item: int, epoch: int) -> Any:
        made = change(self, one, item, epoch)
        heard.append((made.target is one.target, made.given["audio"].shape == one.given["audio"].shape))
        return made

    monkeypatch.setattr(SpeechAugmenter, "__call__", listening)
    stage = {
        "task": "prior",
        "part": {"kind": "grid-flow", "picture": {"size": 8}, "patch": 2, "width": 32, "depth": 1, "heads": 2},
        "encoder": PARTS["audio"],
        "given": "audio",
        "training": {"steps": 2, "batch": 4, "warmup": 1},
    }
    data = {"folder": str(voices), "augment": {"speed": 0.2}}
    assert train(
        Recipe.parse({"data": data, "stages": {"prior": stage}}, "the test"), tmp_path / "run", say=quiet
    ).finished
    assert heard and all(same for same, _ in heard) and not all(shape for _, shape in heard)
