"""What a plan is told of the data, and clips at other pitches."""

from dataclasses import replace

import pytest
import torch
from tests.helpers import quiet, tiny_recipe, tone

from cymatic.training.data import at_other_pitches, facts, load_data
from cymatic.training.start import load_start


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


def test_facts(folder, tiny_run):
    recipe = tiny_recipe(folder, "training.steps=3", "data.longest=1", "data.packs=[{folder: '', repeat: 3}]")
    data = load_data(recipe, say=quiet)
    assert len(data.train) == 18
    start = replace(load_start(str(tiny_run)), name="mine", captions=("Quick  Beep", "rain"))
    found = facts(data, recipe, start)
    assert (found.clips, found.captions, found.held_out, found.pitched) == (6, 3, 0, 2)
    assert found.seconds == pytest.approx(6 * 0.3, abs=0.1)
    assert found.ends and (found.start, found.known) == ("mine", 1)
    assert not facts(data, tiny_recipe(folder, "training.minutes=3"), None).ends


@pytest.mark.parametrize("long", ["skip", "cut"])
def test_clips_at_other_pitches(folder, long):
    recipe = tiny_recipe(folder, "data.augment.pitch=1", "data.longest=1", f"data.long={long}", "training.steps=1")
    data = load_data(recipe, say=quiet)
    moved = at_other_pitches(data, recipe)
    assert sorted(clip.caption for clip in moved) == ["dull beep"] * 4 + ["quick beep"] * 4
    here = {clip.caption: clip for clip in data.train}["dull beep"]
    lengths = sorted({clip.mel.shape[1] for clip in moved})
    assert lengths[0] < here.mel.shape[1] < lengths[-1], "higher is shorter"
    again = at_other_pitches(data, recipe)
    assert all(torch.equal(a.mel, b.mel) for a, b in zip(moved, again, strict=True)), "the cache gives the same"
    assert at_other_pitches(data, tiny_recipe(folder, "training.steps=1")) == []


def test_a_pack_that_says_how_it_is_moved_is_left_alone(folder):
    recipe = tiny_recipe(
        folder, "data.augment.pitch=1", "data.longest=1", "data.packs=[{folder: '', transpose: [2]}]",
        "training.steps=1",
    )  # fmt: skip
    assert at_other_pitches(load_data(recipe, say=quiet), recipe) == []
