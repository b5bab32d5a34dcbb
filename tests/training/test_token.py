"""`task: token`: a folder of sounds beside pictures becomes an embedder whose words a Stable Diffusion draws."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.conftest import installed
from tests.helpers import disc, interrupted_after, quiet, tone

import cymatic
from cymatic.errors import Error, ModelError
from cymatic.hub.importing import import_model
from cymatic.hub.parts import WEIGHTS
from cymatic.hub.pipeline_file import read_pipeline
from cymatic.pipelines.stable_diffusion import PictureDiffusion
from cymatic.signal.mel import PRESETS
from cymatic.training.recipe import Recipe
from cymatic.training.train import read_run, train

TRAINING = {"steps": 6, "batch": 2, "warmup": 1, "checkpoint_steps": 2}


@pytest.fixture(scope="module")
def diffusion(reference):
    installed("diffusers", "hub")
    installed("transformers", "hub")
    return reference("diffusers_stable_diffusion").folder


@pytest.fixture(scope="module")
def heard(reference, tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "beats"
    import_model(place, mel=PRESETS["sound-24k"], source=reference("beats").folder / "beats.pt", say=quiet)
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rows = tmp_path_factory.mktemp("rows"), []
    for i in range(6):
        disc(0.3 + 0.1 * i, (i % 2, i // 2 % 2, 1), 32).write(root / f"{i}.png")
        tone(150 * (i + 1), 0.5).write(root / f"{i}.wav")
        split = "valid" if i == 5 else "train"
        rows.append({"picture": f"{i}.png", "audio": f"{i}.wav", "caption": f"on {i}", "split": split})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def recipe(folder, heard, diffusion, **more):
    stage = {"task": "token", "encoder": str(heard), "generator": str(diffusion), "layers": [0, 1],
             "template": "a <*>", "training": TRAINING} | more  # fmt: skip
    return Recipe.parse({"data": {"folder": str(folder)}, "stages": {"word": stage}}, "the test")


@pytest.fixture(scope="module")
def run(folder, heard, diffusion, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "word"
    assert train(recipe(folder, heard, diffusion), place, say=quiet).finished
    return place


def test_a_run_hears_and_draws(folder, heard, run, diffusion):
    model = cymatic.load(run)
    assert isinstance(model, PictureDiffusion) and model.word is not None
    model.word.template = "a <*>"
    pictures = [model(folder / f"{i}.wav", seed=1, steps=2) for i in (0, 0, 4)]
    assert np.array_equal(pictures[0].pixels, pictures[1].pixels)
    assert not np.array_equal(pictures[0].pixels, pictures[2].pixels)
    assert read_pipeline(run).generator == str(diffusion.resolve())
    theirs = cymatic.load(heard).encoders["audio"].state_dict()
    for name, tensor in model.word.encoder.state_dict().items():
        assert torch.equal(tensor, theirs[name]), f"{name} has moved"


def test_a_resumed_run_equals_an_uninterrupted_one(folder, heard, diffusion, run, tmp_path):
    asked = recipe(folder, heard, diffusion)
    assert not train(asked, tmp_path / "cut", say=quiet, on_report=interrupted_after(3)).finished
    assert train(read_run(tmp_path / "cut"), tmp_path / "cut", resume=True, say=quiet).finished
    assert (tmp_path / "cut/token" / WEIGHTS).read_bytes() == (run / "token" / WEIGHTS).read_bytes()


def test_words_near_their_captions(folder, heard, diffusion, tmp_path):
    asked = recipe(folder, heard, diffusion, caption=1.0, training=TRAINING | {"steps": 2})
    assert train(asked, tmp_path / "run", say=quiet).finished


def test_what_does_not_fit_is_said(folder, heard, diffusion, tmp_path):
    for more, error, said in (
        ({"layers": [99]}, ModelError, r"layers \[99\] of BEATs"),
        ({"encoder": "starter-picture"}, Error, "has no encoder that reads sounds"),
        ({"generator": "starter-picture"}, ModelError, "model_index"),
        ({"template": "a photo"}, Error, "has no <"),
    ):
        with pytest.raises(error, match=said):
            train(recipe(folder, heard, diffusion, **more), tmp_path / "run", say=quiet)
