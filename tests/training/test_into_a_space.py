"""A further encoder comes to lie in a space that stays as it is."""

from __future__ import annotations

import json

import pytest
import torch
from tests.helpers import interrupted_after, quiet, tone
from tests.training.test_alignment import CAPTION, NAMES, PICTURE, picture_folder

import cymatic
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import WEIGHTS
from cymatic.media.picture import Picture
from cymatic.training.recipe import Recipe
from cymatic.training.train import read_run, train

SOUND = {"kind": "sound", "mel": "voice-8k", "width": 32, "depth": 1, "heads": 2, "dim": 16}
TRAINING = {"steps": 60, "batch": 8, "warmup": 2, "checkpoint_steps": 20, "learning_rate": 5e-3, "ema": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight pictures with their names, and a tone for each."""
    root = picture_folder(tmp_path_factory.mktemp("rows") / "eight")
    rows = [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]
    for i, row in enumerate(rows):
        row["audio"] = f"{row['caption']}.wav"
        tone(200 * 1.3**i, 0.4).write(root / row["audio"])
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def recipe(folder, stages):
    stages = {name: {"task": "alignment", "training": TRAINING, **stage} for name, stage in stages.items()}
    return Recipe.parse({"data": {"folder": str(folder)}, "stages": stages}, "the test")


def voices(folder, space, **training):
    return recipe(folder, {"voice": {"parts": {"audio": SOUND}, "space": str(space), "training": TRAINING | training}})


@pytest.fixture(scope="module")
def space(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "space"
    stages = {"space": {"parts": {"picture": PICTURE, "caption": CAPTION}}}
    assert train(recipe(folder, stages), run, say=quiet).finished
    return run


@pytest.fixture(scope="module")
def run(folder, space, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "voice"
    said = []
    assert train(voices(folder, space), place, say=said.append).finished
    assert any(line.startswith(f"roles  audio, among picture, caption of {space}") for line in said)
    return place


def test_tones_find_pictures_and_names_that_were_there_before(folder, space, run):
    model, before = cymatic.load(run), cymatic.load(space)
    assert set(model.encoders) == {"audio", "picture", "caption"}
    sounds = model.embed([folder / f"{name}.wav" for name in NAMES])
    pictures = [Picture.read(folder / f"{name}.png") for name in NAMES]
    for values in (pictures, NAMES):
        found = model.embed(values)
        torch.testing.assert_close(found, before.embed(values))
        assert (sounds @ found.T).argmax(1).tolist() == list(range(8))
    for role in ("picture", "caption"):
        assert (run / role / WEIGHTS).read_bytes() == (space / role / WEIGHTS).read_bytes(), "not a bit has moved"


def test_a_resumed_run_equals_an_uninterrupted_one(folder, space, run, tmp_path):
    """What it goes into is kept in the run, so that it may be gone when it is resumed."""
    moved = tmp_path / "gone"
    space_of_its_own = tmp_path / "space"
    for role in ("picture", "caption", "."):
        (space_of_its_own / role).mkdir(parents=True, exist_ok=True)
        for file in (space / role).iterdir():
            if file.is_file():
                (space_of_its_own / role / file.name).write_bytes(file.read_bytes())
    cut = tmp_path / "cut"
    asked = voices(folder, space_of_its_own)
    assert not train(asked, cut, say=quiet, on_report=interrupted_after(27)).finished
    space_of_its_own.rename(moved)
    assert train(read_run(cut), cut, resume=True, say=quiet).finished
    assert (cut / "audio" / WEIGHTS).read_bytes() == (run / "audio" / WEIGHTS).read_bytes()


def test_the_space_may_be_an_earlier_stage(folder, tmp_path):
    stages = {
        "seen": {"parts": {"picture": PICTURE, "caption": CAPTION}, "training": TRAINING | {"steps": 4}},
        "heard": {"parts": {"audio": SOUND}, "space": "seen", "training": TRAINING | {"steps": 4}},
    }
    assert train(recipe(folder, stages), tmp_path / "run", say=quiet).finished
    assert set(cymatic.load(tmp_path / "run").encoders) == {"audio", "picture", "caption"}
    assert set(cymatic.load(tmp_path / "run" / "seen").encoders) == {"picture", "caption"}


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [
        ({"parts": {"audio": SOUND}}, "one encoder, which has nothing to lie beside; give a second one, or a space"),
        ({"parts": {"caption": CAPTION}, "space": "starter-picture"}, "a space is gone into from files"),
        ({"parts": {"audio": SOUND}, "space": "voice"}, "is no earlier stage of aligned encoders"),
    ],
)
def test_what_no_recipe_may_say(folder, stage, wanted):
    with pytest.raises(ModelError, match=wanted):
        recipe(folder, {"voice": stage})


def test_what_does_not_fit_is_said(folder, space, tmp_path):
    twice = recipe(folder, {"voice": {"parts": {"audio": SOUND, "picture": PICTURE}, "space": str(space)}})
    with pytest.raises(Error, match="has an encoder of picture already, which stays as it is"):
        train(twice, tmp_path / "twice", say=quiet)
    wide = recipe(folder, {"voice": {"parts": {"audio": SOUND | {"dim": 24}}, "space": str(space)}})
    with pytest.raises(Error, match="are 16 wide and those of audio 24; set its dim"):
        train(wide, tmp_path / "wide", say=quiet)
    with pytest.raises(ModelError, match="there is no model"):
        train(voices(folder, tmp_path / "nowhere"), tmp_path / "nothing", say=quiet)
    with pytest.raises(ModelError, match="finds and ranks nothing"):
        train(voices(folder, "starter-sound"), tmp_path / "sound", say=quiet)
