"""`cymatic reconstruct`: pictures and sounds through a codec and back."""

import re

import numpy as np
import pytest
from tests.helpers import tone

from cymatic.media.picture import Picture
from cymatic.media.sound import Sound


def test_a_picture_through_a_model_and_back(cli, tiny_pictures_run, shapes, tmp_path):
    ran = cli("reconstruct", shapes / "red-circle_1.png", "-o", "again.png", "--model", tiny_pictures_run)
    assert ran.code == 0, ran.err
    found = re.fullmatch(r"again.png  PSNR ([\d.]+) dB at 16 x 16, 16 codes, (\d+) different ones of 32\n", ran.out)
    assert found and 8 < float(found[1]) < 60 and 1 <= int(found[2]) <= 16
    again = Picture.read(tmp_path / "again.png")
    assert (again.width, again.height) == (16, 16)
    assert again.info["model"] == tiny_pictures_run.name and len(again.info["sha256"]) == 64


def test_a_large_picture_with_alpha_becomes_the_codecs_size(cli, tiny_pictures_run, tmp_path):
    Picture(np.random.default_rng(0).random((40, 90, 4))).write(tmp_path / "a.png")
    ran = cli("reconstruct", "a.png", "-o", "again.webp", "--model", tiny_pictures_run)
    assert ran.code == 0 and Picture.read(tmp_path / "again.webp").width == 16


def test_a_sound_through_a_codec_and_back(cli, codec_folder, tmp_path):
    tone(440, 0.5).write(tmp_path / "a.wav")
    ran = cli("reconstruct", "a.wav", "-o", "again.flac", "--model", codec_folder)
    assert ran.code == 0 and re.search(r"again.flac  \d+ codes, \d+ different ones of \d+ in each level", ran.out), ran
    assert abs(Sound.read(tmp_path / "again.flac").seconds - 0.5) < 0.01


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.wav", "-o", "b.png"], "b.png has an unknown extension|a.wav is a sound, and .* codes pictures"),
        (["a.wav", "-o", "b.wav"], "a.wav is a sound, and .* codes pictures; give it one of these"),
        (["a.png", "-o", "a.png"], "a.png is what is read, and it would be lost"),
        (["a.png", "-o", "b.gif"], 'unknown extension ".gif"; use one of .png'),
        (["none.png", "-o", "b.png"], "none.png does not exist"),
        (["none.png", "-o", "b.wav"], "none.png does not exist; give the path of a picture or a sound"),
        (["none.wav", "-o", "b.wav"], "none.wav does not exist"),
        (["cut.png", "-o", "b.png"], "cut.png is damaged or cut short"),
    ],
)
def test_what_is_refused(refuses, tiny_pictures_run, tmp_path, arguments, said):
    tone(440, 0.2).write(tmp_path / "a.wav")
    data = Picture(np.random.default_rng(0).random((64, 64, 3))).write(tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    assert re.search(said, refuses("reconstruct", *arguments, "--model", tiny_pictures_run))


def test_a_model_without_a_codec_is_refused(refuses, tiny_run, tmp_path):
    tone(440, 0.2).write(tmp_path / "a.wav")
    said = refuses("reconstruct", "a.wav", "-o", "b.wav", "--model", tiny_run)
    assert "has no codec, so nothing can go through it and back" in said
