"""Numbers from notebooks: of numpy and torch, alone or as arrays without dimensions, wherever a number may be given."""

import json

import numpy as np
import pytest
import torch

import cymatic
from cymatic.errors import Error, PictureError, SoundError
from cymatic.media.audio_files import FORMATS
from cymatic.media.picture import Picture
from cymatic.media.sound import Sound
from cymatic.scalars import number, python_values, whole
from tests.helpers import tone

WHOLE = [np.int64, np.uint8, np.array, torch.tensor]
REAL = [np.float64, np.float32, np.array, torch.tensor]
INFO = {
    "seed": np.int64(7), "share": np.float32(0.5), "on": np.bool_(True), "row": np.arange(3), "grid": torch.ones(1, 2),
    "many": [np.uint8(1), (torch.tensor(2.0),)], "by": {"name": np.array("x")},
}  # fmt: skip
PLAIN = {
    "seed": 7, "share": 0.5, "on": True, "row": [0, 1, 2], "grid": [[1.0, 1.0]], "many": [1, [2.0]],
    "by": {"name": "x"},
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_a_generator_takes_whole_numbers(tiny_run, tmp_path, kind):
    model = cymatic.load(tiny_run)
    made = model("low tone", seed=kind(7), n=kind(2), steps=kind(2))
    plain_ones = model("low tone", seed=7, n=2, steps=2)
    assert [one.info for one in made] == [one.info for one in plain_ones]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(made, plain_ones, strict=True))
    assert Sound.read(made[1].write(tmp_path / "a.wav")).info["seed"] == 8


@pytest.mark.parametrize("kind", REAL)
def test_a_generator_takes_numbers(tiny_run, tmp_path, kind):
    model = cymatic.load(tiny_run)
    made = model("low tone", steps=2, seconds=kind(0.25), guidance=kind(1.5))
    assert np.array_equal(made.samples, model("low tone", steps=2, seconds=0.25, guidance=1.5).samples)
    assert Sound.read(made.write(tmp_path / "a.flac")).info["guidance"] == 1.5


@pytest.mark.parametrize("kind", REAL)
def test_a_codec_and_a_sound_take_numbers(codec_folder, kind):
    codec, sound = cymatic.load(codec_folder), tone(440, 0.5)
    encoded = codec.encode(sound, kbps=kind(0.5))
    assert len(encoded.codes) == 2 and codec.decode(encoded, kbps=kind(0.25)).info["kbps"] == 0.2
    for made in (
        sound.cut(kind(0.125), kind(0.25)), sound.trim(kind(-60.0), kind(0.0)), sound.fade(kind(0.125), kind(0.0)),
        sound.at_loudness(kind(-23.0), kind(-1.0)), sound.peak_limited(kind(-1.0)),
    ):  # fmt: skip
        assert isinstance(made, Sound)
    assert len(sound.cut(kind(0.125), kind(0.25))) == 1000


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.array, torch.tensor])
def test_rates_and_sizes_are_whole_numbers(kind):
    assert Sound(np.zeros(100), kind(8000)).resample(kind(4000)).rate == 4000
    assert type(Sound(np.zeros(100), kind(8000)).rate) is int
    picture = Picture(np.zeros((4, 6, 3))).resized(kind(8), kind(3))
    assert (picture.height, picture.width, picture.square(kind(2)).width) == (8, 3, 2)


@pytest.mark.parametrize("extension", FORMATS)
def test_info_is_written_into_every_sound(tmp_path, extension):
    sound = Sound(np.zeros(24_000), 24_000, info=INFO)
    assert json.loads(json.dumps(sound.info)) == PLAIN
    assert Sound.read(sound.write(tmp_path / f"a{extension}")).info == PLAIN


def test_info_is_written_into_a_picture(tmp_path):
    assert Picture.read(Picture(np.zeros((4, 4, 3)), info=INFO).write(tmp_path / "a.png")).info == PLAIN


def test_what_is_no_number_is_said(tiny_run, codec_folder):
    model, codec, sound = cymatic.load(tiny_run), cymatic.load(codec_folder), tone(440, 0.5)
    with pytest.raises(Error, match=r"the length in seconds is array.*; give a number"):
        model("low tone", seconds=np.array([0.2, 0.3]))
    with pytest.raises(Error, match="give whole numbers"):
        model("low tone", seed=np.array([1, 2]))
    with pytest.raises(Error, match="the rate in kbps is array"):
        codec.encode(sound, np.ones(2))
    with pytest.raises(SoundError, match="the start of a cut is tensor"):
        sound.cut(torch.ones(2))
    with pytest.raises(PictureError, match="the height is array"):
        Picture(np.zeros((4, 4, 3))).resized(np.array(2.5), 3)
    for nothing in ("3", None, b"3", 1j, object()):
        with pytest.raises(Error, match="give a number"):
            number(nothing, "it")
        with pytest.raises(Error, match="give a whole number"):
            whole(nothing, "it")
    assert python_values("words") == "words" and python_values(None) is None
