"""A sound through a pipe is the sound of the file."""

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from cymatic.errors import SoundError
from cymatic.media import pipes
from cymatic.media.audio_files import FORMATS
from cymatic.media.sound import Sound

RATE = 8000


class Pipe(io.RawIOBase):
    """No seeking, and only what was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.taken = io.BytesIO(data), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self.data.read(min(len(buffer), 700))
        self.taken += len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


def pipe(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(Pipe(data), 16)


def noise(channels: int = 2, samples: int = 5000) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (channels, samples)).astype(np.float32)


def wav(subtype: str = "PCM_16", form: str = "WAV", samples: np.ndarray | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, (noise() if samples is None else samples).T, RATE, subtype, format=form)
    return buffer.getvalue()


def heard(data: bytes) -> np.ndarray:
    pieces = list(pipes.blocks(pipe(data)))
    assert {rate for _, rate in pieces} == {RATE}
    return np.concatenate([piece for piece, _ in pieces], axis=1)


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_wav_sounds_as_its_file(tmp_path, subtype, form):
    data = wav(subtype, form)
    (tmp_path / "a.wav").write_bytes(data)
    assert np.array_equal(heard(data), Sound.read(tmp_path / "a.wav").samples)


@pytest.mark.parametrize("extension", [extension for extension in FORMATS if extension != ".wav"])
def test_every_other_format_goes_through_a_file(tmp_path, extension):
    sound = Sound(noise(), 8000)
    path = sound.write(tmp_path / f"a{extension}")
    assert np.array_equal(heard(path.read_bytes()), Sound.read(path).samples)


UNKNOWN = {
    "ffmpeg": 0xFFFFFFFF, "zero": 0, "SoX": 0x7FFFF000, "SoX, 3 bytes a sample": 0x7FFFEFFF, "arecord": 0x80000000,
    "largest": 0x7FFFFFFF, "largest less the header": 0x7FFFFFFF - 36, "all ones less the header": 0xFFFFFFFF - 44,
    "whole samples": 0x7FFFFFFC, "RIFF's": 0x80000024,
}  # fmt: skip


@pytest.mark.parametrize("length", UNKNOWN.values(), ids=UNKNOWN)
def test_a_length_that_nobody_knew(tmp_path, length):
    data = wav()
    at = data.index(b"data") + 4
    endless = data[:4] + struct.pack("<I", 0xFFFFFFFF) + data[8:at] + struct.pack("<I", length) + data[at + 4 :]
    assert np.array_equal(heard(endless), heard(data))
    assert np.array_equal(heard(endless + b"\1"), heard(data))  # half a sample at the end
    for whole in (0xFFFFFFFF, length, min(2**32 - 1, length + 36)):
        (tmp_path / "a.wav").write_bytes(endless[:4] + struct.pack("<I", whole) + endless[8:])
        assert np.array_equal(Sound.read(tmp_path / "a.wav").samples, heard(data))


def test_it_is_heard_before_it_is_over():
    source = Pipe(wav(samples=noise(1, 80_000)))
    first, rate = next(pipes.blocks(io.BufferedReader(source, 16)))
    assert first.shape == (1, 800) and rate == RATE  # a tenth of a second
    assert source.taken < 4000


def test_what_stands_beside_the_samples_is_passed_over():
    data = wav()
    at = data.index(b"data")
    more = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    mixed = data[:at] + more + data[at:] + more
    assert np.array_equal(heard(mixed), heard(data))
    huge = b"junk" + struct.pack("<I", 2**21) + bytes(2**21)
    assert np.array_equal(heard(data[:at] + huge + data[at:]), heard(data))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", r"the standard input is empty \(0 bytes\)"),
        (b"hello, I am no sound at all", "the standard input is not a sound"),
        (wav()[:3000], "the standard input is damaged or cut short .17044 bytes of what it promises are missing"),
        (wav()[:30], "the standard input is"),
        (wav(samples=noise(1, 3)), "the standard input is too short .3 samples"),
        (wav("FLOAT", samples=np.full((1, 999), np.nan)), "the standard input holds samples that are NaN"),
        (wav("DOUBLE", samples=np.full((1, 999), 1e300)), "the standard input holds samples that are NaN or inf"),
    ],
)
def test_what_is_wrong_is_said(data, said):
    with pytest.raises(SoundError, match=said):
        heard(data)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux to see which files are open")
def test_the_temporary_file_is_closed_before_it_is_read(monkeypatch):
    """Windows opens no file by name that is still open."""
    real, read = pipes.files.blocks, []

    def blocks(path, *say):
        assert path not in [os.path.realpath(f"/proc/self/fd/{handle}") for handle in os.listdir("/proc/self/fd")]
        read.append(path)
        return real(path, *say)

    monkeypatch.setattr(pipes.files, "blocks", blocks)
    assert heard(wav(form="FLAC")).shape == (2, 5000)
    assert read and not os.path.exists(read[0])
