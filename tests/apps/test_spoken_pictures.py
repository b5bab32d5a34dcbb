"""Sounds come to lie in the space that a model draws from: then it draws them, too."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tests.helpers import quiet, shape, tone
from tests.training.test_into_a_space import SOUND
from tests.training.test_space import TINY

import cymatic
from cymatic.apps.cli import run as cymatic_command
from cymatic.apps.model_list import look
from cymatic.errors import ModelError
from cymatic.hub.pipeline_file import read_pipeline, write_pipeline
from cymatic.media.picture import Picture
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.load import load_embedder, load_generator
from cymatic.training.recipe import Recipe
from cymatic.training.train import train

NAMES = ("red circle", "blue circle", "red stripe", "blue stripe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four names, each with two takes of a picture and a tone."""
    root, rows = tmp_path_factory.mktemp("spoken"), []
    for i, name in enumerate(NAMES):
        for take in range(2):
            stem = f"{name.replace(' ', '-')}-{take}"
            shape(name, take).write(root / f"{stem}.png")
            tone(200 * 1.5**i + 3 * take, 0.4).write(root / f"{stem}.wav")
            rows.append({"picture": f"{stem}.png", "audio": f"{stem}.wav", "caption": name, "split": "train"})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="module")
def drawing(folder, tmp_path_factory):
    """A model that draws by vectors of its space."""
    run = tmp_path_factory.mktemp("runs") / "shapes"
    settings = [part for one in TINY for part in ("--set", one)]
    asked = ["train", str(folder), "-o", str(run), "--recipe", "text-to-picture", "--no-verdict", *settings]
    assert cymatic_command(asked) == 0
    return run


@pytest.fixture(scope="module")
def run(folder, drawing, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "voice"
    stage = {"task": "alignment", "parts": {"audio": SOUND}, "space": str(drawing)}
    training = {"steps": 4, "batch": 8, "warmup": 2}
    recipe = {"data": {"folder": str(folder)}, "stages": {"voice": {**stage, "training": training}}}
    assert train(Recipe.parse(recipe, "the test"), place, say=quiet).finished
    return place


def first(folder, suffix):
    return folder / f"red-circle-0{suffix}"


def test_a_sound_draws_what_its_vector_draws(folder, drawing, run):
    model, before = cymatic.load(run), cymatic.load(drawing)
    picture = model(first(folder, ".wav"), seed=3)
    assert isinstance(picture, Picture)
    assert picture.info["model"] == "voice" and picture.info["prompt"].endswith("red-circle-0.wav")
    same = before(model.embed([first(folder, ".wav")])[0], seed=3)
    np.testing.assert_array_equal(picture.pixels, same.pixels)
    for prompt in (NAMES[0], first(folder, ".png")):  # what it read before draws as before
        np.testing.assert_array_equal(model(prompt, seed=3).pixels, before(prompt, seed=3).pixels)
    value = model.medium.read(first(folder, ".png"))
    np.testing.assert_array_equal(model(value, seed=3).pixels, model(first(folder, ".png"), seed=3).pixels)


def test_sounds_pictures_and_words_are_compared(folder, run):
    model = cymatic.load(run)
    assert set(model.space.encoders) == {"audio", "picture", "caption"}
    found = model.rank(first(folder, ".wav"), [*NAMES, first(folder, ".png")])
    assert len(found) == 5 and all(-1 <= score <= 1 for score, _ in found)
    assert isinstance(load_embedder(run), Embedder), "without what draws"
    kept = model(first(folder, ".wav"), n=4, keep=2, seed=0)
    assert [one.info["score"] for one in kept] == sorted((one.info["score"] for one in kept), reverse=True)


def test_it_is_listed(run):
    found = look("voice", run)
    assert found.state == "ready"
    assert found.makes.startswith("vectors of pictures and sounds and words, and what ") and "shapes" in found.makes


def test_the_commands(folder, run, cli):
    ran = cli("picture", first(folder, ".wav"), "--model", run, "-o", "said.png")
    assert ran.code == 0 and ran.out.startswith("said.png  16 x 16, seed 0")
    (folder / "notes.txt").write_text("no prompt")
    ran = cli("picture", "--prompts", folder, "--model", run, "-o", "all", "--grid", "all.png")
    assert ran.code == 0, ran.err
    assert len(ran.out.splitlines()) == 17, "sixteen files and a sheet"
    ran = cli("rank", first(folder, ".wav"), *NAMES, "--model", run)
    assert ran.code == 0 and len(ran.out.splitlines()) == 4


def test_of_a_folder_what_cannot_be_read_is_left_out(folder, run, cli, tmp_path):
    (tmp_path / "some").mkdir()
    shutil.copyfile(first(folder, ".wav"), tmp_path / "some/good.wav")
    (tmp_path / "some/bad.wav").write_bytes(b"RIFF")
    ran = cli("picture", "--prompts", "some", "--model", run, "-o", "out")
    assert ran.code == 0 and "1 can't be read" in ran.err and "bad.wav" in ran.err
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["good.png"]
    (tmp_path / "some/good.wav").unlink()
    ran = cli("picture", "--prompts", "some", "--model", run, "-o", "none")
    assert ran.code == 2 and "bad.wav" in ran.err
    (tmp_path / "empty").mkdir()
    ran = cli("picture", "--prompts", "empty", "--model", run, "-o", "none")
    assert ran.code == 2 and "empty holds 0 sounds and pictures" in ran.err


def test_nothing_that_is_read_is_written_over(folder, run, cli, tmp_path):
    shutil.copyfile(first(folder, ".png"), tmp_path / "in.png")
    ran = cli("picture", "in.png", "--model", run, "-o", "in.png")
    assert ran.code == 2 and "it would be lost" in ran.err
    ran = cli("picture", "--prompts", folder, "--model", run, "-o", folder)
    assert ran.code == 2 and "lies in the folder that is read" in ran.err


def test_what_the_model_has_no_encoder_for(folder, drawing, cli):
    ran = cli("picture", first(folder, ".wav"), "--model", drawing, "-o", "said.png")
    assert ran.code == 2 and "no encoder that reads sounds" in ran.err
    ran = cli("sound", first(folder, ".wav"), "-o", "said.wav")
    assert ran.code == 2 and "is conditioned on words; give these instead of" in ran.err
    ran = cli("picture", "nothing.wav", "--model", drawing, "-o", "said.png")
    assert ran.code == 2


def test_a_run_names_what_draws_and_refuses_another_space(drawing, run, tmp_path):
    file = read_pipeline(run)
    assert file.generator == str(drawing.resolve())
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    shutil.copytree(drawing, tmp_path / "shapes")
    write_pipeline(moved, file.model_copy(update={"generator": "../shapes"}))
    assert load_generator(moved).name == "moved", "a folder beside it"
    write_pipeline(moved, file.model_copy(update={"generator": "starter-picture"}))
    with pytest.raises(ModelError, match=r"moved makes nothing without starter-picture.*encoder of"):
        cymatic.load(moved)
    write_pipeline(moved, file.model_copy(update={"generator": "nowhere"}))
    with pytest.raises(ModelError, match="there is no model"):
        cymatic.load(moved)
    assert load_embedder(moved).embed([NAMES[0]]).shape == (1, 16)
    write_pipeline(moved, file.model_copy(update={"generator": "starter-codec"}))
    with pytest.raises(ModelError, match="makes nothing of its own"):
        cymatic.load(moved)


def test_another_encoder_is_another_space(drawing, run):
    made, space = load_generator(drawing), load_embedder(run)
    with torch.no_grad():
        next(space.encoders["picture"].parameters()).add_(1e-3)
    with pytest.raises(ModelError, match="its encoder of picture is another one"):
        made.reading(space, read_pipeline(run))
