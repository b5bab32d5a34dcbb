"""`cymatic convert`: any sounds to WAV or FLAC; names are kept, nothing is overwritten, nothing is lost."""

import os

import numpy as np
import pytest
import soundfile
from tests.helpers import tone

from cymatic.media.sound import Sound


@pytest.fixture
def pack(tmp_path):
    """Sounds of four formats in two folders, and two files that are none."""
    for name in ("low.mp3", "kit one/kick.ogg", "kit one/snare 2.aiff", "kit two/Tür.wav"):
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stereo = np.concatenate([tone(300, seed=1).samples, tone(400, seed=2).samples])
        soundfile.write(path, stereo.T, 8000, format=None)
    (tmp_path / "pack" / "notes.txt").write_text("no sound")
    (tmp_path / "pack" / "._low.mp3").write_bytes(bytes(100))
    return tmp_path / "pack"


def files(root):
    return sorted(os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_names_and_folders_are_kept(cli, pack, kind):
    ran = cli("convert", pack, "-o", "out", "--format", kind)
    assert (ran.code, ran.err) == (0, "") and ran.out.startswith("4 files, 1.2") and "; 0 skipped" in ran.out
    assert files("out") == [f"kit one/kick.{kind}", f"kit one/snare 2.{kind}", f"kit two/Tür.{kind}", f"low.{kind}"]
    made, given = Sound.read(f"out/kit two/Tür.{kind}"), Sound.read(pack / "kit two" / "Tür.wav")
    assert np.array_equal(made.samples, given.samples) and made.rate == 8000


def test_rate_and_channels(cli, pack):
    ran = cli("convert", pack, "-o", "out", "--rate", 16_000, "--channels", 1, "--workers", 2)
    assert ran.code == 0 and "mixed to one" in ran.err
    for name in files("out"):
        made, given = Sound.read(f"out/{name}"), next(pack.glob(name.replace(".wav", ".*")))
        expected = Sound.read(given).mono().resample(16_000)
        assert (made.rate, made.channels, len(made)) == (16_000, 1, len(expected))
        assert np.abs(made.samples - expected.samples).max() < 1e-4


def test_what_is_louder_than_full_scale_is_not_clipped(cli, tmp_path):
    loud = np.array([3 * tone(300).samples[0] / 0.3])
    soundfile.write(tmp_path / "loud.wav", loud.T, 8000, "FLOAT")
    assert cli("convert", "loud.wav", "-o", "a.flac").code == 0
    assert np.abs(Sound.read("a.flac").samples - loud / np.abs(loud).max()).max() < 1e-4


def test_channels_that_cancel_are_not_mixed(cli, tmp_path):
    samples = tone(300).samples
    soundfile.write(tmp_path / "a.wav", np.concatenate([samples, -samples]).T, 8000, "PCM_16")
    ran = cli("convert", "a.wav", "-o", "b.wav", "--channels", 1)
    assert ran.code == 0 and "channel 1 alone" in ran.err
    assert np.abs(Sound.read("b.wav").samples - samples).max() < 1e-4


def test_several_that_would_get_one_name_get_names_of_their_own(cli, pack):
    for name in ("LOW.wav", "low.ogg"):
        tone(500).write(pack / name)
    ran = cli("convert", pack, "-o", "out")
    assert ran.code == 0 and ran.out.startswith("6 files")
    assert files("out")[:1] + files("out")[-2:] == ["LOW.wav.wav", "low.mp3.wav", "low.ogg.wav"]


def test_a_name_that_is_taken_gets_a_number(cli, pack):
    for name in ("low.ogg", "low.ogg.wav"):
        tone(500).write(pack / name)
    ran = cli("convert", pack, "-o", "out")
    assert ran.code == 0 and len(files("out")) == 6, files("out")


def test_nothing_is_overwritten(cli, pack):
    assert cli("convert", pack, "-o", "out").code == 0
    before = {name: os.stat(f"out/{name}").st_mtime_ns for name in files("out")}
    ran = cli("convert", pack, "-o", "out")
    assert ran.code == 2 and "and 3 more of the files to write are there already" in ran.err
    ran = cli("convert", pack, "-o", pack)
    assert ran.code == 2 and "Tür.wav of the files to write are there already, and nothing is overwritten" in ran.err
    assert {name: os.stat(f"out/{name}").st_mtime_ns for name in files("out")} == before
    ran = cli("convert", pack / "low.mp3", "-o", "out/low.wav")
    assert ran.code == 2 and "nothing is overwritten" in ran.err


def test_what_was_converted_before_is_not_converted_again(cli, pack):
    assert cli("convert", pack, "-o", pack / "flac", "--format", "flac").code == 0
    ran = cli("convert", pack, "-o", pack / "flac" / "more", "--format", "flac")
    assert ran.code == 0 and ran.out.startswith("8 files"), "another folder's sounds are sounds"
    ran = cli("convert", pack, "-o", pack / "flac", "--format", "flac")
    assert ran.code == 2 and "already" in ran.err


def test_broken_files_are_named_and_counted(cli, pack):
    (pack / "kit one" / "broken.flac").write_bytes(b"fLaC no")
    (pack / "gone.wav").symlink_to("nowhere.wav")
    ran = cli("convert", pack, "-o", "out")
    assert ran.code == 0 and ran.out.startswith("4 files") and ran.out.endswith("; 2 skipped\n")
    assert "kit one/broken.flac: is not a sound" in ran.err and "gone.wav: is a link to nothing" in ran.err
    assert len(files("out")) == 4, "nothing is half-written"
    (pack / "bad").mkdir()
    (pack / "bad" / "a.wav").write_bytes(b"x")
    ran = cli("convert", pack / "bad", "-o", "bad")
    assert ran.code == 2 and "none of the 1 files" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pack", "-o", "out", "--format", "mp3"], '"mp3" is no format to convert to'),
        (["pack", "-o", "out", "--rate", "0"], "a rate of 0 Hz was asked for; give 1 to"),
        (["pack", "-o", "out", "--channels", "9", "--format", "flac"], "a .flac has 1 to 8"),
        (["pack", "-o", "out", "--workers", "0"], "give a number from 1 to 256"),
        (["pack", "-o", "pack/low.mp3"], "give a folder to write to"),
        (["nope.wav", "-o", "a.wav"], "nope.wav does not exist"),
        (["pack/low.mp3", "-o", "a.ogg"], '"ogg" is no format'),
        (["empty", "-o", "out"], "empty holds no sound file"),
    ],
)
def test_what_can_not_be_done(cli, pack, tmp_path, arguments, said):
    (tmp_path / "empty").mkdir()
    ran = cli("convert", *arguments)
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1
    assert not os.path.exists("out")


def test_progress_after_a_while(cli, pack, monkeypatch):
    monkeypatch.setattr("cymatic.apps.progress.PATIENCE", 0.0)
    ran = cli("convert", pack, "-o", "out", "--workers", 1)
    assert [line.split(",")[0] for line in ran.err.splitlines()] == [f"converting: {i} of 4 files" for i in range(4)]


def test_what_is_not_there_is_named_before_the_output(refuses):
    assert "nope does not exist; give a folder of sounds" in refuses("convert", "nope", "-o", "out")
