"""Sounds piece by piece: as they would be in one piece."""

import errno
import io
import os
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.errors import Note, SoundError
from cymatic.media.audio_files import FORMATS
from cymatic.media.audio_streams import SoundWriter, fitted, heard
from cymatic.media.pipes import WavPipe
from cymatic.media.sound import Sound


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def pieces(samples: np.ndarray, cuts) -> list[np.ndarray]:
    return np.split(samples, sorted(min(cut, samples.shape[1]) for cut in cuts), axis=1)


@settings(max_examples=40)
@given(
    st.sampled_from([8000, 11_025, 16_000, 24_000, 44_100, 48_000, 768_000]),
    st.integers(1, 3000),
    st.lists(st.integers(0, 3000), max_size=5),
)
def test_another_rate_in_pieces_is_that_of_the_whole(rate, samples, cuts):
    sound = Sound(noise(1, samples), rate)
    made = np.concatenate(list(fitted(((p, rate) for p in pieces(sound.samples, cuts)), 24_000, 1)), axis=1)
    assert np.allclose(made, sound.resample(24_000).samples, atol=1e-7) and made.dtype == np.float32
    assert made.shape[1] == len(sound.resample(24_000))
    if made.shape[1] > 1:
        assert np.array_equal(made, sound.resample(24_000).samples)


@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_channels_are_mixed_with_one_note_or_spread(rate):
    sound = Sound(noise(6, 500), rate)
    with pytest.warns(Note) as notes:
        made = np.concatenate(list(fitted([(p, rate) for p in pieces(sound.samples, [100])], 24_000, 1)), axis=1)
    assert [str(note.message) for note in notes] == ["the sound has 6 channels where 1 is expected; it is mixed to one"]
    assert np.allclose(made, sound.mono().resample(24_000).samples, atol=1e-6)
    with pytest.warns(Note, match="6 channels where 2 are expected; it is mixed to one, and that is used for all 2"):
        made = np.concatenate(list(fitted([(sound.samples, rate)], 24_000, 2)), axis=1)
    assert np.array_equal(made[0], made[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (made,) = fitted([(noise(1, 9), 24_000)], 24_000, 2)
        assert np.array_equal(made, noise(1, 9).repeat(2, axis=0))
        (made,) = fitted([(noise(2, 9), 24_000)], 24_000, 2)
        assert np.array_equal(made, noise(2, 9))


def test_nothing_is_no_sound():
    for blocks in ([], [(np.zeros((1, 0), np.float32), 24_000)], [(np.zeros((1, 0), np.float32), 48_000)]):
        with pytest.raises(SoundError, match="0 samples"):
            list(fitted(blocks, 24_000, 1))


@pytest.mark.parametrize("rate", [22_050, 24_000])
@pytest.mark.parametrize("extension", list(FORMATS))
def test_written_in_pieces_is_written_whole(tmp_path, extension, rate):
    sound = Sound(noise(2, 6000), rate, {"model": "m"})
    path = tmp_path / f"a{extension}"
    with open(path, "xb") as file, SoundWriter(file, extension, rate, 2, sound.info) as writer:
        for piece in pieces(sound.samples, [1, 1, 700, 5000]):
            writer.add(piece)
    whole, back = Sound.read(sound.write(tmp_path / f"b{extension}")), Sound.read(path)
    assert (back.rate, len(back), back.info) == (whole.rate, len(whole), {"model": "m"})
    if extension in (".wav", ".flac"):
        assert np.abs(back.samples - whole.samples).max() < 1e-4


def test_loud_samples_are_clipped_not_wrapped(tmp_path):
    with open(tmp_path / "a.wav", "xb") as file, SoundWriter(file, ".wav", 8000, 1) as writer:
        writer.add(np.array([[2.0, -2.0, 0.5] * 40], np.float32))
    samples = Sound.read(tmp_path / "a.wav").samples
    assert np.abs(samples[0, :3] - [1, -1, 0.5]).max() < 1e-4


def test_a_pipe_has_the_samples_of_a_file(tmp_path):
    samples = noise(2, 3000) * 3
    pipe = io.BytesIO()
    writer = WavPipe(pipe, 24_000, 2)
    for piece in pieces(samples, [7, 1000]):
        writer.add(piece)
    (tmp_path / "pipe.wav").write_bytes(pipe.getvalue())
    with open(tmp_path / "file.wav", "xb") as file, SoundWriter(file, ".wav", 24_000, 2) as written:
        written.add(samples)
    one, other = Sound.read(tmp_path / "pipe.wav"), Sound.read(tmp_path / "file.wav")
    assert one.rate == 24_000 and np.array_equal(one.samples, other.samples)


@pytest.mark.parametrize(
    ("extension", "channels", "said"), [(".txt", 1, "use one of .wav"), (".mp3", 3, "2 channels at most, not 3")]
)
def test_formats_that_can_not(extension, channels, said):
    with pytest.raises(SoundError, match=said):
        SoundWriter(io.BytesIO(), extension, 24_000, channels)


def test_more_than_a_wav_can_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("cymatic.media.audio_streams.MOST_WAV", 1000)
    with pytest.raises(SoundError, match=r"longer than a WAV file can hold \(4 GB\)"):
        with SoundWriter(io.BytesIO(), ".wav", 24_000, 1) as writer:
            writer.add(noise(1, 501))


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg"])
def test_a_full_disk_is_no_silent_loss(extension, capfd):
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 2000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    with pytest.raises(OSError, match="No space left"):
        with SoundWriter(Full(), extension, 24_000, 1) as writer:
            writer.add(noise(1, 50_000))
    assert capfd.readouterr().err == ""


def test_libsndfile_still_writes_into_files_that_can_not_be_read(tmp_path):
    with open(tmp_path / "a.flac", "xb") as file, SoundWriter(file, ".flac", 24_000, 1) as writer:
        writer.add(noise(1, 100))
    assert soundfile.info(str(tmp_path / "a.flac")).frames == 100


def two(right: float, samples: int = 30_000, quiet: int = 0) -> np.ndarray:
    left = np.concatenate([np.zeros((1, quiet), np.float32), noise(1, samples)], axis=1)
    return np.concatenate([left, np.float32(right) * left])


@pytest.mark.parametrize("known", [True, False], ids=["file", "pipe"])
@pytest.mark.parametrize("quiet", [0, 100_000])
@pytest.mark.parametrize("step", [1000, 2**18])
def test_channels_that_cancel_are_not_mixed(known, quiet, step):
    samples = two(-1, quiet=quiet)
    blocks = [(samples[:, start : start + step], 8000) for start in range(0, samples.shape[1], step)]
    with pytest.warns(Note, match=r"2 channels where 1 is expected; it has channels that cancel .* channel 1 alone"):
        made = np.concatenate(list(fitted(iter(blocks), 8000, 1, heard(blocks, 1) if known else None)), axis=1)
    assert np.array_equal(made, samples[:1])


def test_what_cancels_later_is_known_of_a_file():
    samples = np.concatenate([two(1), two(-1)], axis=1)
    with pytest.warns(Note, match="cancel"):
        (made,) = fitted([(samples, 8000)], 8000, 1, heard([(samples, 8000)], 1))
    assert np.array_equal(made, samples[:1])


def test_what_fits_need_not_be_heard():
    assert heard([(two(-1), 8000)], 2) is None and heard([(noise(1, 9), 8000)], 4) is None
    (made,) = fitted([(two(-1), 8000)], 8000, 2)
    assert np.array_equal(made, two(-1))
