"""A folder says by itself whether sounds or pictures are to be trained on."""

import json

import numpy as np
import pytest
from tests.helpers import tone

from cymatic.media.picture import Picture
from cymatic.training.usual import media_in, usual_recipe


def filled(folder, pictures=0, sounds=0):
    for i in range(pictures):
        Picture(np.eye(4)).write(folder / f"house_{i}.png")
    for i in range(sounds):
        tone(300, 0.1).write(folder / f"bark_{i}.wav")
    return folder


@pytest.mark.parametrize(
    ("pictures", "sounds", "recipe"), [(2, 0, "text-to-picture"), (0, 2, "text-to-sound"), (0, 0, None)]
)
def test_one_medium_needs_no_word(tmp_path, pictures, sounds, recipe):
    assert usual_recipe(filled(tmp_path, pictures, sounds)) == (recipe, "")


def test_of_both_the_more_frequent_is_taken_and_said(tmp_path):
    recipe, said = usual_recipe(filled(tmp_path, 3, 1))
    assert recipe == "text-to-picture"
    assert "holds 3 pictures and 1 sounds; it is trained on its pictures; say --recipe text-to-sound" in said
    recipe, said = usual_recipe(filled(tmp_path, 0, 5))
    assert recipe == "text-to-sound" and "say --recipe text-to-picture for its pictures" in said


def test_a_manifest_says_what_its_rows_are_about(tmp_path):
    filled(tmp_path, 2, 2)
    rows = [{"picture": f"house_{i}.png", "voice": f"bark_{i}.wav", "caption": "a house"} for i in range(2)]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert usual_recipe(tmp_path)[0] == "text-to-picture", "the first key of its lines"
    assert media_in(tmp_path) == {"picture": 2, "audio": 2}


def test_features_beside_sounds_decide_nothing(tmp_path):
    filled(tmp_path, 0, 2)
    for i in range(2):
        np.save(tmp_path / f"bark_{i}.npy", np.zeros((3, 4)))
    assert usual_recipe(tmp_path) == ("text-to-sound", "")


def test_a_folder_that_can_not_be_read_is_left_to_whoever_reads_it(tmp_path):
    assert usual_recipe(tmp_path / "nowhere") == (None, "")
    (tmp_path / "manifest.jsonl").write_bytes(b"\xff\xfe\xff")
    assert usual_recipe(tmp_path) == (None, "")


def test_every_medium_that_is_made_names_its_command_and_its_recipe():
    from cymatic.media import MEDIA

    assert {name: (medium.command, medium.recipe) for name, medium in MEDIA.items() if medium.recipe} == {
        "audio": (("sound", ".wav"), "text-to-sound"), "picture": (("picture", ".png"), "text-to-picture"),
    }  # fmt: skip
