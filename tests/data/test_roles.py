"""Rows with several files: which keys are roles, which role is the main one, and what is made of the rest."""

import json

import numpy as np
import pytest
import torch
from tests.helpers import quiet, tone, tone_folder

from cymatic.data.examples import Reading, load_examples
from cymatic.data.folder import read_folder
from cymatic.data.inspection import inspect_folder
from cymatic.data.packs import fingerprint
from cymatic.data.settings import DataSettings
from cymatic.errors import Error
from cymatic.media.features import FeatureSpec
from cymatic.media.picture import Picture, PictureSpec
from cymatic.signal.mel import PRESETS

MEL, PICTURE = PRESETS["voice-8k"], PictureSpec(size=8)


def picture(shade: float) -> Picture:
    return Picture(
        np.stack([np.linspace(0, 1, 12)[:, None] * np.ones(12), np.full((12, 12), shade)], 2)[..., [0, 1, 1]]
    )


@pytest.fixture
def stamps(tmp_path):
    """Two pictures with two voices each; one voice's file is missing, one row has no picture, one nothing else."""
    rows = []
    for i, name in enumerate(("house", "tree")):
        picture(i / 2).write(tmp_path / f"{name}.png")
        for take in (1, 2):
            tone(300 + 90 * i + take, 0.3).write(tmp_path / f"{name}_{take}.wav")
            rows.append({"voice": f"{name}_{take}.wav", "picture": f"{name}.png", "caption": f"a {name}"})
    rows[0] |= {"source_file": "archive/one.wav", "link": "tree", "notes": ["a.png"], "split": "train"}
    rows += [{"voice": "gone.wav", "picture": "tree.png", "caption": "a tree"}]
    rows += [{"voice": "tree_1.wav", "caption": "no picture"}]
    rows += [{"picture": "tree.png", "caption": "seen only"}]
    write(tmp_path, rows)
    return tmp_path


def write(root, rows):
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_keys_are_roles_where_they_name_files_that_are_there(stamps):
    folder = read_folder(stamps)
    assert folder.role == "picture" and folder.medium.name == "picture", "six rows have one, and five a voice"
    assert [sorted(item.files) for item in folder.items] == [["picture", "voice"]] * 4 + [["picture"]] * 2
    assert folder.items[0].fields["source_file"] == "archive/one.wav"
    assert folder.items[0].path("voice") == stamps / "house_1.wav"
    assert folder.items[0].content == folder.items[1].content != folder.items[2].content
    with pytest.raises(Error, match="has no voice"):
        folder.items[4].path("voice")
    assert [one.why for one in folder.skipped] == ['needs the texts "picture" and "caption"']


def test_a_role_that_is_asked_for_is_one_even_where_its_file_is_missing(stamps):
    voices = read_folder(stamps, role="voice")
    assert voices.role == "voice" and voices.medium.name == "audio" and len(voices.items) == 6
    data = load_examples(
        DataSettings(folder=str(stamps)), Reading("picture", PICTURE), [Reading("voice", MEL)], captions=True, say=quiet
    )
    assert len(data.train) == 4 and data.seconds == 0
    one = data.train[0]
    assert one.target.shape == (3, 8, 8) and one.given["voice"].shape[0] == MEL.mels and one.caption == "a house"
    assert torch.equal(one.target, data.train[1].target)
    assert not torch.equal(one.given["voice"], data.train[1].given["voice"])


def test_the_other_way_round_rows_without_the_given_role_are_named(stamps):
    said = []
    data = load_examples(
        DataSettings(folder=str(stamps)), Reading("voice", MEL), [Reading("picture", PICTURE)], captions=True,
        say=said.append,
    )  # fmt: skip
    assert [one.caption for one in data.train] == ["a house"] * 2 + ["a tree"] * 2
    assert said[0].startswith("reading 6 sounds of")
    assert any("gone.wav: does not exist" in line for line in said)
    assert any("tree_1.wav: has no picture" in line for line in said)


def test_what_is_given_counts_in_the_fingerprint_and_as_a_copy(stamps):
    items = read_folder(stamps, role="picture", given=["voice"]).items
    assert fingerprint(items) == fingerprint([*items[1::-1], *items[2:]])
    assert fingerprint(items, ["voice"]) != fingerprint(items)
    data = load_examples(
        DataSettings(folder=str(stamps)), Reading("picture", PICTURE), [Reading("voice", MEL)], captions=True, say=quiet
    )
    assert data.fingerprint == fingerprint(items[:4], ["voice"])
    assert len(data.train) == 4, "one picture under one caption, but with other voices, is no copy"


def test_files_of_another_medium_belong_to_the_row_whose_name_they_have(tmp_path):
    root = tone_folder(tmp_path)
    picture(0.1).write(root / "low-tone_1.png")
    picture(0.2).write(root / "cover.png")
    np.save(root / "low-tone_2.npy", np.ones((3, 4), np.float32))
    folder = read_folder(root)
    assert folder.role == "audio" and len(folder.items) == 8
    files = {item.path().name: sorted(item.files) for item in folder.items}
    assert files["low-tone_1.wav"] == ["audio", "picture"] and files["low-tone_2.wav"] == ["audio", "features"]
    assert [(one.name, one.why) for one in folder.skipped] == [("cover.png", "is not a sound by its extension")]
    pictures = read_folder(root, role="picture")
    assert {item.caption for item in pictures.items} == {"low tone", "cover"}
    assert inspect_folder(root).roles == {"audio": 8, "picture": 1, "features": 1}


def test_the_medium_with_more_files_is_the_main_one(tmp_path):
    for i in range(3):
        picture(i / 4).write(tmp_path / f"house_{i}.png")
    tone(300, 0.3).write(tmp_path / "bark.wav")
    assert read_folder(tmp_path).role == "picture"
    assert [item.caption for item in read_folder(tmp_path, role="audio").items] == ["bark"]


def test_a_role_that_no_manifest_names_is_refused(tmp_path):
    tone(300, 0.3).write(tmp_path / "bark.wav")
    with pytest.raises(Error, match=r'no manifest that says which of its files are "voice"; write a manifest.jsonl'):
        read_folder(tmp_path, role="voice")


@pytest.mark.parametrize("key", ["picture", "file_name", "file"])
def test_manifests_of_pictures(tmp_path, key):
    picture(0.3).write(tmp_path / "a.png")
    write(tmp_path, [{key: "a.png", "caption": "one"}, {"caption": "two"}, {key: 3, "caption": "three"}])
    folder = read_folder(tmp_path)
    assert folder.role == "picture" and len(folder.items) == 1
    assert [one.why for one in folder.skipped] == ['needs the texts "picture" and "caption"'] * 2


def test_nothing_outside_the_folder_is_a_role(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    picture(0.3).write(tmp_path / "secret.png")
    tone(300, 0.3).write(root / "a.wav")
    write(
        root, [{"audio": "a.wav", "caption": "one", "picture": "../secret.png", "other": str(tmp_path / "secret.png")}]
    )
    (item,) = read_folder(root).items
    assert sorted(item.files) == ["audio"]
    with pytest.raises(Error, match=r"\.\./secret.png lies outside the folder"):
        read_folder(root, role="picture")


def test_moving_pictures_by_semitones_is_refused(tmp_path):
    picture(0.3).write(tmp_path / "a.png")
    settings = DataSettings.parse({"packs": [{"folder": str(tmp_path), "transpose": [1]}]}, "test")
    with pytest.raises(Error, match="is read for its pictures, which have no pitch; remove transpose"):
        load_examples(settings, Reading("picture", PICTURE), captions=True, say=quiet)


def test_given_features_of_another_width_are_left_out(tmp_path):
    root = tone_folder(tmp_path, takes=2)
    for i, path in enumerate(sorted(root.glob("*.wav"))):
        np.save(path.with_suffix(".npy"), np.ones((3, 5 if i == 2 else 4), np.float32))
    said = []
    data = load_examples(
        DataSettings(folder=str(root)), Reading("audio", MEL), [Reading("features", FeatureSpec())], captions=True,
        say=said.append,
    )  # fmt: skip
    assert len(data.train) == len(data.epoch) == len(data.weights) == 3
    assert any("its features have 5 numbers a step where most have 4" in line for line in said)


def test_an_epoch_repeats_and_weights_go_by_length(tmp_path):
    for name, seconds in (("a", 0.4), ("b", 1.6)):
        tone(300, seconds).write(tmp_path / f"{name}.wav")
    settings = DataSettings.parse({"packs": [{"folder": str(tmp_path), "repeat": 3}]}, "test")
    data = load_examples(settings, Reading("audio", MEL), captions=True, say=quiet)
    assert len(data.train) == 2 and [one.caption for one in data.epoch] == ["a", "b"] * 3
    assert data.weights == [3 * one.target.shape[1] ** 0.5 for one in data.train]
    assert data.seconds == pytest.approx(2.0, abs=0.02)
