"""Alignment and classification through the same loop as all else: they learn, resume bit for bit, and leave a part.

Autoencoders and priors have files of their own.
"""

import pytest
import torch
from tests.helpers import interrupted_after, quiet

from cymatic.encoders.sound import SoundEncoder
from cymatic.encoders.text import TextEncoder
from cymatic.errors import Error
from cymatic.evaluation.classifiers import Classifier
from cymatic.hub.parts import load_part
from cymatic.hub.pipeline_file import read_pipeline
from cymatic.training.recipe import Recipe
from cymatic.training.train import read_run, train


def alignment(folder, steps, **changes):
    stage = {
        "task": "alignment",
        "parts": {
            "audio": {"kind": "sound", "mel": "voice-8k", "width": 16, "depth": 1, "heads": 2, "dim": 16},
            "caption": {"kind": "text", "dim": 16},
        },
        "training": {"steps": steps, "batch": 8, "warmup": 2, "checkpoint_steps": 4, "learning_rate": 0.01, "ema": 0.5},
        **changes,
    }
    return Recipe.parse({"data": {"folder": str(folder)}, "stages": {"space": stage}}, "the test")


def classification(folder, steps, **changes):
    stage = {
        "task": "classification",
        "part": {"kind": "conv", "widths": [8, 16, 16], "dim": 16, "dropout": 0.0},
        "training": {"steps": steps, "batch": 8, "warmup": 2, "checkpoint_steps": 4, "learning_rate": 0.01, "ema": 0.5},
        **changes,
    }
    return Recipe.parse({"data": {"folder": str(folder)}, "stages": {"classifier": stage}}, "the test")


RECIPES = pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        (alignment, {"audio": SoundEncoder, "caption": TextEncoder}),
        (classification, {"classifier": Classifier}),
    ],
    ids=["alignment", "classification"],
)


@RECIPES
def test_a_resumed_run_equals_an_uninterrupted_one(tones, tmp_path, recipe, parts):
    assert train(recipe(tones, 12), tmp_path / "whole", say=quiet).finished
    cut = tmp_path / "cut"
    assert not train(recipe(tones, 12), cut, say=quiet, on_report=interrupted_after(7)).finished
    torch.rand(7)  # whatever else drew random numbers in between
    assert train(read_run(cut), cut, resume=True, say=quiet).finished
    for name in parts:
        file = f"{name}/model.safetensors"
        assert (cut / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), name


@RECIPES
def test_eight_sounds_are_learned_by_heart(tones, tmp_path, recipe, parts):
    losses, held_out = [], []

    def on_report(at):
        losses.append(at.losses["loss"])
        held_out.extend([at.valid] if at.valid else [])

    assert train(recipe(tones, 60), tmp_path / "run", say=quiet, on_report=on_report).finished
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    for name, part in parts.items():
        assert load_part(tmp_path / "run" / name, (part,)) is not None


def test_sounds_and_captions_lie_in_one_space(tones, tmp_path):
    train(alignment(tones, 60), tmp_path / "run", say=quiet)
    file = read_pipeline(tmp_path / "run")
    assert file.kind == "encoders" and set(file.parts) == {"audio", "caption"}
    words = load_part(tmp_path / "run/caption", (TextEncoder,))
    sounds = load_part(tmp_path / "run/audio", (SoundEncoder,))
    from cymatic.cond import padded
    from cymatic.media.audio import AUDIO

    heard = [
        AUDIO.prepare(AUDIO.read(tones / f"{name}_1.wav"), sounds.config.reads) for name in ("low-tone", "high-tone")
    ]
    with torch.inference_mode():
        alike = sounds(padded(heard)).vector @ words(["low tone", "high tone"]).vector.T
    assert alike[0, 0] > alike[0, 1] and alike[1, 1] > alike[1, 0]


def test_what_can_not_be_aligned_or_told_apart_is_said(tones, tmp_path):
    texts = {"a": {"kind": "text", "dim": 16}, "caption": {"kind": "text", "dim": 16}}
    with pytest.raises(Error, match="needs a role that is not a text"):
        train(alignment(tones, 2, parts=texts), tmp_path / "texts", say=quiet)
    one = tmp_path / "one"
    one.mkdir()
    for take in (1, 2):
        (one / f"low-tone_{take}.wav").write_bytes((tones / f"low-tone_{take}.wav").read_bytes())
    with pytest.raises(Error, match='all items are called "low tone", so there is nothing to tell apart'):
        train(classification(one, 2), tmp_path / "alone", say=quiet)
