"""What a plan is told of the data, clips at other pitches, and sounds that need no captions."""

import json
from dataclasses import replace

import pytest
import torch
from tests.helpers import quiet, tiny_recipe, tone

from cymatic.data.examples import Data, Reading, at_other_pitches, load_examples
from cymatic.data.inspection import inspect_folder
from cymatic.errors import Error
from cymatic.media.wave_spec import WaveSpec
from cymatic.training.start import facts, load_start


@pytest.fixture
def folder(tmp_path):
    """Three captions, one of which speaks of pitch, and a sound too long to be used whole."""
    root = tmp_path / "sounds"
    root.mkdir()
    for caption in ("quick beep", "dull beep", "low beep"):
        for take in (1, 2):
            tone(300 + 40 * take, 0.3, seed=take + len(caption)).write(root / f"{caption.replace(' ', '-')}_{take}.wav")
    tone(500, 3.0).write(root / "long-beep_1.wav")
    return root


def load_data(recipe) -> Data:
    """What the recipe's prior learns from."""
    spec = recipe.stages["prior"].part.reads
    return load_examples(recipe.data, Reading("audio", spec), captions=True, say=quiet)


def load_wave_data(settings, say, **more) -> Data:
    """What learns sounds only."""
    return load_examples(settings, Reading("audio", WaveSpec(rate=8000)), captions=False, say=say, **more)


def test_facts(folder, tiny_run):
    recipe = tiny_recipe(folder, "training.steps=3", "data.longest=1", "data.packs=[{folder: '', repeat: 3}]")
    data = load_data(recipe)
    assert len(data.train) == 6 and len(data.epoch) == 18
    start = replace(load_start(str(tiny_run)), name="mine", captions=("Quick  Beep", "rain"))
    found = facts(data, recipe, "prior", start)
    assert (found.clips, found.captions, found.held_out, found.pitched) == (6, 3, 0, 2)
    assert found.seconds == pytest.approx(6 * 0.3, abs=0.1)
    assert found.ends and (found.start, found.known) == ("mine", 1)
    assert not facts(data, tiny_recipe(folder, "training.minutes=3"), "prior", None).ends


@pytest.mark.parametrize("long", ["skip", "cut"])
def test_clips_at_other_pitches(folder, long):
    recipe = tiny_recipe(folder, "data.augment.pitch=1", "data.longest=1", f"data.long={long}", "training.steps=1")
    data = load_data(recipe)
    moved = at_other_pitches(data, recipe.data, 1.0)
    assert sorted(clip.caption for clip in moved) == ["dull beep"] * 4 + ["quick beep"] * 4
    here = {clip.caption: clip for clip in data.train}["dull beep"]
    lengths = sorted({clip.target.shape[1] for clip in moved})
    assert lengths[0] < here.target.shape[1] < lengths[-1], "higher is shorter"
    again = at_other_pitches(data, recipe.data, 1.0)
    assert all(torch.equal(a.target, b.target) for a, b in zip(moved, again, strict=True)), "the cache gives the same"
    assert at_other_pitches(data, recipe.data, 0.0) == []


def test_a_pack_that_says_how_it_is_moved_is_left_alone(folder):
    recipe = tiny_recipe(
        folder, "data.augment.pitch=1", "data.longest=1", "data.packs=[{folder: '', transpose: [2]}]",
        "training.steps=1",
    )  # fmt: skip
    assert at_other_pitches(load_data(recipe), recipe.data, 1.0) == []


def test_what_learns_sounds_only_takes_those_without_a_caption(folder):
    with (folder / "manifest.jsonl").open("w") as file:
        for path in sorted(folder.glob("*.wav")):
            row = {"audio": path.name, "split": "train", "caption": "a beep" if "dull" in path.name else None}
            file.write(json.dumps(row) + "\n")
        file.write(json.dumps({"caption": "no sound"}) + "\n")
    said = []
    recipe = tiny_recipe(folder, "training.steps=1")
    assert len(load_wave_data(recipe.data, say=said.append).train) == 7
    assert said[1:] == ['skipped manifest.jsonl line 8: needs the text "audio"', "1 skipped"]
    assert len(load_data(recipe).train) == 2
    found = inspect_folder(folder)
    assert len(found.clips) == 2
    assert [one.why for one in found.broken] == ['needs the texts "audio" and "caption"'] * 6
    with pytest.raises(Error, match="line 8: needs the text"):
        load_wave_data(recipe.data, quiet, strict=True)


def test_a_text_beside_some_sounds(folder):
    (folder / "dull-beep_1.txt").write_text("a beep")
    (folder / "dull-beep_2.txt").write_text(" ")
    recipe = tiny_recipe(folder, "training.steps=1")
    waves = load_wave_data(recipe.data, say=quiet)
    assert len(waves.train) + len(waves.valid) == 7
    assert len(inspect_folder(folder).clips) == 1
