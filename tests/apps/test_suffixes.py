"""One list says which files of a folder are sounds, whatever is done with the folder."""

import io
import os

import numpy as np
import pytest
import soundfile
from tests.helpers import tone

from cymatic.data.bulk_units import read_inputs
from cymatic.data.inspection import inspect_folder
from cymatic.media import medium_of
from cymatic.media.audio import AUDIO

# What programs call files that libsndfile reads.
NAMES = {
    "WAV": ".wav .wave .bwf", "RF64": ".rf64 .bw64", "W64": ".w64", "FLAC": ".flac", "OGG": ".ogg .oga",
    "MP3": ".mp3 .mpga .mp2 .mpa", "AIFF": ".aif .aiff .aifc", "AU": ".au .snd", "CAF": ".caf", "VOC": ".voc",
    "NIST": ".sph .nist", "SVX": ".iff .svx .8svx .16svx", "IRCAM": ".sf .ircam", "PAF": ".paf", "PVF": ".pvf",
    "AVR": ".avr",
}  # fmt: skip
# What ffmpeg reads.
OTHERS = [
    ".wv",
    ".m4b",
    ".m4a",
    ".aac",
    ".wma",
    ".mka",
    ".ape",
    ".3gp",
    ".amr",
    ".ac3",
    ".spx",
    ".mp4",
    ".webm",
    ".mov",
]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pack"
    root.mkdir()
    for form, suffixes in NAMES.items():
        buffer = io.BytesIO()
        soundfile.write(buffer, tone(300).samples.T, 8000, format=form)
        for suffix in suffixes.split():
            (root / f"{suffix[1:]}{suffix if len(suffix) % 2 else suffix.upper()}").write_bytes(buffer.getvalue())
    return root


def test_whatever_libsndfile_reads_is_found_and_read(folder, cli, codec_folder):
    count = sum(len(suffixes.split()) for suffixes in NAMES.values())
    found = inspect_folder(folder)
    assert (len(found.clips), found.broken, found.others) == (count, [], [])
    assert sum(len(unit.files) for unit in read_inputs(folder, 100).units) == count
    ran = cli("encode", folder, "-o", "codes", "--model", codec_folder)
    assert (ran.code, ran.out.splitlines()[-1].partition(" files")[0]) == (0, str(count))
    ran = cli("convert", folder, "-o", "converted")
    assert (ran.code, len(os.listdir("converted"))) == (0, count)


@pytest.mark.parametrize("suffix", [*" ".join(NAMES.values()).split(), *OTHERS])
def test_each_is_a_sound_and_nothing_else(suffix):
    assert medium_of(f"a{suffix.upper()}") is AUDIO


def test_a_limit_of_training_is_said(tmp_path):
    for name, seconds in (("a_1", 12.3), ("a_2", 0.5), ("b_1", 10.0), ("b_2", 11.0)):
        tone(300, seconds).write(tmp_path / f"{name}.wav")
    (said,) = [remark for remark in inspect_folder(tmp_path).remarks if "longer" in remark]
    assert said.startswith("2 of 4 clips are longer than 10 s, and cymatic train skips")
    assert "--set data.longest=13 takes all of them whole, --set data.long=cut" in said
    (tmp_path / "a_1.wav").unlink()
    (tmp_path / "b_2.wav").unlink()
    assert not [remark for remark in inspect_folder(tmp_path).remarks if "longer" in remark]
    assert np.isfinite(inspect_folder(tmp_path).hours)
