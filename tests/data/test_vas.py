"""Mels as SpecVQGAN publishes them: the sample, both layouts, and everything that can be wrong with them."""

import os
import pickle
import shutil
import unicodedata

import numpy as np
import pytest
import torch

from cymatic.data.examples import Reading, load_examples
from cymatic.data.settings import DataSettings
from cymatic.data.vas import is_given_mels, read_vas
from cymatic.errors import Error
from cymatic.media.features import FeatureSpec
from cymatic.media.specvqgan import SPEC
from cymatic.signal.mel import PRESETS

MELS = "melspec_10s_22050hz"
RESNET, RGB, FLOW = "feature_resnet50_dim2048_21.5fps", "feature_rgb_dim4_21.5fps", "feature_flow_dim3_21.5fps"


@pytest.fixture(scope="module")
def sample(data_dir):
    return data_dir / "vas-sample"


def mel(seed: int = 0, frames: int = 860) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(80, frames)).astype(np.float32)


def put(path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        path.write_bytes(pickle.dumps(array, 2))


def steps(width: int, count: int = 215, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.fixture
def vas(tmp_path):
    """Two classes of three, one of each held out; features of two kinds, the published one pickled."""
    root = tmp_path / "vas"
    for label in ("dog", "drum"):
        for i in range(3):
            place, video = root / "features" / label, f"video_{i:05}"
            put(place / MELS / f"{video}_mel.npy", mel(i))
            put(place / RGB / f"{video}.pkl", steps(4, seed=i))
            put(place / FLOW / f"{video}.npy", steps(3, seed=i))
    names = [f"{label}/video_{i:05}" for label in ("dog", "drum") for i in range(3)]
    (root / "vas_train.txt").write_text("\n".join(n for n in names if not n.endswith("2")) + "\n")
    (root / "vas_valid.txt").write_text("\r\n".join(n for n in names if n.endswith("2")))
    return root


@pytest.fixture
def vggsound(tmp_path):
    """Its table and lists lie one folder above, as in SpecVQGAN's own tree; mels are float64 there."""
    root = tmp_path / "vggsound"
    for video in ("---g-f_I2yQ_1000_11000", "0nib7bMm8BA_15000_25000", "3HgbEKrbA9s_54000_64000"):
        put(root / MELS / f"{video}_mel.npy", mel().astype(np.float64))
        put(root / RGB / f"{video}.pkl", steps(4))
    rows = ['---g-f_I2yQ,1,"people marching, outdoors",train', "0nib7bMm8BA,15,dog barking,train",
            "3HgbEKrbA9s,54,dog barking,test"]  # fmt: skip
    (tmp_path / "vggsound.csv").write_text("\n".join(rows))
    (tmp_path / "vggsound_train.txt").write_text("---g-f_I2yQ_1000_11000\n")
    (tmp_path / "vggsound_valid.txt").write_text("0nib7bMm8BA_15000_25000\n")
    (tmp_path / "vggsound_test.txt").write_text("3HgbEKrbA9s_54000_64000\n")
    return root


def test_the_sample_is_read_as_it_is(sample):
    given = read_vas(sample)
    assert given.layout == "VAS" and given.spec == PRESETS["specvqgan-22k"]
    assert [(split, len(clips)) for split, clips in given.splits.items()] == [("train", 0), ("valid", 8)]
    assert given.labels == ("baby", "cough", "dog", "drum", "fireworks", "gun", "hammer")
    assert all(clip.target.shape == (80, 860) and clip.target.dtype == torch.float32 for clip in given.splits["valid"])
    (note,) = given.notes
    assert note.startswith("12533 of the 12541 clips in the lists have no mel here")
    assert not given.skipped
    dog = next(clip for clip in given.splits["valid"] if clip.name == "dog/video_02677")
    held = np.load(sample / "features" / "dog" / MELS / "video_02677_mel.npy")
    np.testing.assert_array_equal(dog.target, held)


def test_the_samples_features(sample):
    given = read_vas(sample, features=RESNET)
    (clip,) = given.splits["valid"]
    assert (clip.name, clip.caption, given.dim) == ("dog/video_02677", "dog", 2048)
    assert clip.given["features"].shape[0] == 2048
    assert len(given.skipped) == 7 and all("has no features" in one.why for one in given.skipped)


def test_classes_splits_and_pickled_features(vas):
    given = read_vas(vas, features=f"{RGB}+{FLOW}", strict=True)
    assert given.labels == ("dog", "drum") and given.dim == 7
    assert not given.notes and not given.skipped
    assert [clip.name for clip in given.splits["valid"]] == ["dog/video_00002", "drum/video_00002"]
    first = given.splits["train"][0]
    np.testing.assert_array_equal(first.target, mel(0))
    np.testing.assert_array_equal(first.given["features"], np.concatenate([steps(4), steps(3)], axis=1).T)
    assert all(not clip.given for clip in read_vas(vas).splits["train"])


def test_one_folder_for_all(vggsound):
    given = read_vas(vggsound, features=RGB)
    assert given.layout == "VGGSound"
    assert [(split, clip.caption) for split, clips in given.splits.items() for clip in clips] == [
        ("train", "people marching, outdoors"), ("valid", "dog barking"), ("test", "dog barking"),
    ]  # fmt: skip
    assert given.splits["train"][0].target.dtype == torch.float32 and given.dim == 4


def test_what_is_in_either_layout_is_known(vas, vggsound, tmp_path):
    assert is_given_mels(vas) and is_given_mels(vggsound) and is_given_mels(vas / "features")
    assert not is_given_mels(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(Error, match="holds no mels as SpecVQGAN lays them out"):
        read_vas(tmp_path / "other")


def test_clips_become_examples_with_what_is_given(vas):
    def load(mel=SPEC, **more):
        kinds = [Reading("video", FeatureSpec(name=RGB))]
        settings = DataSettings(folder=str(vas))
        return load_examples(settings, Reading("audio", mel, **more), kinds, captions=True, say=said.append)

    said = []
    data = load()
    assert data.spec == SPEC and data.epoch == data.train and len(data.train) == 4 and len(data.valid) == 2
    assert {one.given["video"].shape for one in data.train} == {(4, 215)}
    assert data.weights == [860**0.5] * 4 and data.seconds == pytest.approx(4 * 9.985, abs=0.01)
    assert said[0] == f"reading 6 mels of {vas} (by the lists of VAS)"
    other = PRESETS["sound-24k"]
    assert load(other, auto=True).fingerprint == data.fingerprint, said
    with pytest.raises(Error, match="holds mels at 22050 Hz as SpecVQGAN makes them; set mel to specvqgan-22k"):
        load(other)


def test_lists_may_lie_above(vas):
    for name in ("vas_train.txt", "vas_valid.txt"):
        shutil.move(vas / name, vas.parent / name)
    assert len(read_vas(vas).splits["train"]) == 4


@pytest.mark.parametrize("name", ["vas_train.txt", "vas_valid.txt"])
def test_a_missing_list_is_named(vas, name):
    (vas / name).unlink()
    with pytest.raises(Error, match=f"{name} is missing in .* and above it; copy"):
        read_vas(vas)


@pytest.mark.parametrize("name", ["vggsound.csv", "vggsound_train.txt"])
def test_a_missing_table_is_named(vggsound, name):
    (vggsound.parent / name).unlink()
    with pytest.raises(Error, match=f"{name}.* missing"):
        read_vas(vggsound)


BAD_MELS = [
    (mel()[:64], r"shape \[64, 860\] where \[80, 860\]"),
    (mel().T.copy(), "transpose it"),
    (mel()[0], r"shape \[860\]"),
    (np.zeros((80, 0), np.float32), r"shape \[80, 0\]"),
    (2 * mel() - 1, "between -1 and 1 where numbers from 0 to 1"),
    (np.log(mel() + 1e-5), "between -10.* where numbers from 0 to 1"),
    (np.where(mel() > 0.9, np.nan, mel()), "NaN or infinity"),
    (np.zeros((80, 860), np.int64), "whole numbers"),
    (np.zeros((80, 860), np.complex64), "no array of real numbers"),
]


@pytest.mark.parametrize(("array", "said"), BAD_MELS)
def test_a_mel_of_another_scale_or_shape_is_left_out(vas, array, said):
    put(vas / "features" / "dog" / MELS / "video_00001_mel.npy", array)
    given = read_vas(vas)
    (skipped,) = given.skipped
    assert skipped.name == "dog/video_00001" and len(given.splits["train"]) == 3
    with pytest.raises(Error, match=f"dog/video_00001: .*{said}"):
        read_vas(vas, strict=True)


def test_other_lengths_are_used_and_noted(vas):
    put(vas / "features" / "dog" / MELS / "video_00001_mel.npy", mel(frames=430))
    given = read_vas(vas, strict=True)
    assert given.notes == ["1 mels are not 860 frames long and are used as they are, such as dog/video_00001 with 430"]
    assert {clip.target.shape[1] for clip in given.splits["train"]} == {430, 860}


BAD_FEATURES = [
    (steps(5), r"shape \[215, 5\] where \[steps, 4\]"),
    (steps(4)[0], r"shape \[4\]"),
    (np.zeros((0, 4), np.float32), "names __builtin__.bytes"),
    (np.full((215, 4), np.inf), "NaN or infinity"),
    (np.array(["a", "b"]), "not of real numbers"),
]


@pytest.mark.parametrize(("array", "said"), BAD_FEATURES)
def test_features_that_do_not_match_are_left_out(vas, array, said):
    put(vas / "features" / "drum" / RGB / "video_00000.pkl", array)
    given = read_vas(vas, features=RGB)
    assert [one.name for one in given.skipped] == ["drum/video_00000"]
    with pytest.raises(Error, match=f"drum/video_00000: .*{said}"):
        read_vas(vas, features=RGB, strict=True)


def test_features_of_another_width_than_most_are_left_out(vas):
    for label in ("dog", "drum"):
        os.rename(vas / "features" / label / RGB, vas / "features" / label / "faces")
    put(vas / "features" / "dog" / "faces" / "video_00001.pkl", steps(9))
    given = read_vas(vas, features="faces")
    assert given.dim == 4
    assert [(one.name, one.why) for one in given.skipped] == [
        ("dog/video_00001", "its features have 9 numbers a step where most have 4")
    ]


def test_two_kinds_of_different_length_do_not_match(vas):
    put(vas / "features" / "dog" / FLOW / "video_00000.npy", steps(3, count=100))
    (skipped,) = read_vas(vas, features=f"{RGB}+{FLOW}").skipped
    assert skipped.why == "has features of 215 and 100 steps, which don't match"


def test_missing_and_unknown_features_are_named(vas):
    (vas / "features" / "dog" / RGB / "video_00000.pkl").unlink()
    (skipped,) = read_vas(vas, features=RGB).skipped
    assert "has no features" in skipped.why
    with pytest.raises(Error, match=f'no features "feature_rgb"; did you mean "{RGB}"'):
        read_vas(vas, features="feature_rgb")


def test_a_malicious_pickle_is_left_out(vas, tmp_path):
    class Call:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'trace'}",)

    (vas / "features" / "dog" / RGB / "video_00000.pkl").write_bytes(pickle.dumps(Call()))
    (skipped,) = read_vas(vas, features=RGB).skipped
    assert "names posix.system" in skipped.why or "names nt.system" in skipped.why
    assert not (tmp_path / "trace").exists()


def test_strange_lines_are_named_and_absent_clips_counted(vas):
    with (vas / "vas_train.txt").open("a") as file:
        file.write("../../secret\nvideo_00001\n\ndog/video_09999\ncat/video_00000\ndog/video_00002\n")
    put(vas / "features" / "dog" / MELS / "video_00007_mel.npy", mel())
    given = read_vas(vas)
    assert [one.name for one in given.skipped] == ["vas_train.txt line 5", "vas_train.txt line 6"]
    assert given.notes == [
        "1 clips are in two lists and count as held out, such as dog/video_00002",
        "2 of the 8 clips in the lists have no mel here, such as dog/video_09999",
        "1 mels are in no list and are not read, such as dog/video_00007",
    ]
    assert len(given.splits["valid"]) == 2
    with pytest.raises(Error, match="2 of the 8 clips in the lists have no mel here"):
        read_vas(vas, strict=True)


def test_a_video_without_a_class_is_named(vggsound):
    with (vggsound.parent / "vggsound_train.txt").open("a") as file:
        file.write("ZZZZZZZZZZZ_0_10000\n")
    (skipped,) = read_vas(vggsound).skipped
    assert skipped.why == "ZZZZZZZZZZZ_0_10000 has no class in vggsound.csv"


def test_nothing_left_is_said(vas):
    (vas / "vas_train.txt").write_text("cat/video_1\n")
    (vas / "vas_valid.txt").write_text("")
    with pytest.raises(Error, match="holds no mel that can be used"):
        read_vas(vas)
    (vas / "vas_train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Error, match=r"vas_train\.txt is not UTF-8"):
        read_vas(vas)


def test_lists_from_windows_and_folders_from_a_mac(vas):
    for path in list((vas / "features").iterdir()):
        path.rename(path.with_name(unicodedata.normalize("NFD", f"{path.name}_é")))
    for path in vas.glob("vas_*.txt"):
        names = [line.split("/") for line in path.read_text().split()]
        path.write_bytes("".join(f"{folder}_é\\{video}\r\n" for folder, video in names).encode("utf-8-sig"))
    given = read_vas(vas, features=RGB)
    assert given.labels == ("dog é", "drum é") and given.skipped == [] and given.notes == []
    assert [len(clips) for clips in given.splits.values()] == [4, 2]
