"""Several sounds in one file are read to the end of the last one, or what is left out is said."""

import io
import struct
import warnings

import numpy as np
import pytest
import soundfile

from cymatic.errors import Note, SoundError
from cymatic.media import pipes
from cymatic.media.audio_facts import listen
from cymatic.media.sound import Sound

FORMS = [
    ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16"), ("WAV", "PCM_16"),
    ("WAV", "PCM_24"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"),
]  # fmt: skip
RATE = 24_000


def encoded(form: tuple[str, str], hz: float, samples: int = 12_001, rate: int = RATE, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    wave = np.repeat(0.4 * np.sin(2 * np.pi * hz * np.arange(samples) / rate)[:, None], channels, axis=1)
    soundfile.write(buffer, wave, rate, form[1], format=form[0])
    return buffer.getvalue()


def read(path, data: bytes) -> Sound:
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Sound.read(path)


def alone(path, form, *pitches: float) -> np.ndarray:
    return np.concatenate([read(path, encoded(form, hz)).samples for hz in pitches], axis=1)


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_joined_files_are_read_to_the_end(tmp_path, form):
    expected = alone(tmp_path / "a", form, 300, 500, 800)
    joined = b"".join(encoded(form, hz) for hz in (300, 500, 800))
    assert np.array_equal(read(tmp_path / "a", joined).samples, expected)
    assert listen(tmp_path / "a", 0)[0].problems == ()
    assert listen(tmp_path / "a", 0)[0].length == expected.shape[1] / RATE
    pieces = list(pipes.blocks(io.BytesIO(joined)))
    assert np.array_equal(np.concatenate([piece for piece, _ in pieces], axis=1), expected)


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_a_joined_file_that_is_cut_is_cut_short(tmp_path, form):
    (tmp_path / "a").write_bytes(encoded(form, 300) + encoded(form, 500)[:-300])
    with pytest.raises(SoundError, match="damaged or cut short"):
        Sound.read(tmp_path / "a")


@pytest.mark.parametrize("form", [form for form in FORMS if form[1] != "OPUS"], ids="-".join)
@pytest.mark.parametrize("other", [{"rate": 16_000}, {"channels": 2}], ids=["rate", "channels"])
def test_what_does_not_fit_is_left_out_and_said(tmp_path, form, other):
    data = encoded(form, 300) + encoded(form, 500, **other) + encoded(form, 800)
    (tmp_path / "a").write_bytes(data)
    said = "holds 3 sounds one after the other, of which 1 at another rate or of another number of channels"
    with pytest.warns(Note, match=f"a {said}"):
        heard = Sound.read(tmp_path / "a").samples
    assert np.array_equal(heard, alone(tmp_path / "b", form, 300, 800))
    assert listen(tmp_path / "a", 0)[0].problems[0].startswith(said)
    with pytest.warns(Note, match="the standard input"):
        list(pipes.blocks(io.BytesIO(data)))


def id3(size: int) -> bytes:
    return b"ID3\3\0\0" + bytes([0, 0, size >> 7, size & 127]) + bytes(size)


def test_tags_between_mp3s_are_passed_over(tmp_path):
    form = ("MP3", "MPEG_LAYER_III")
    tag = b"TAG" + b"t" * 125
    tagged = [id3(300) + encoded(form, hz) + tag for hz in (300, 500)]
    assert np.array_equal(read(tmp_path / "a", b"".join(tagged)).samples, alone(tmp_path / "b", form, 300, 500))


def stripped(data: bytes) -> tuple[bytes, int]:
    """An MP3 without the frame that holds its header, and where that ended."""
    at = data.index(b"Info" if b"Info" in data else b"Xing") - 21  # one channel, MPEG 1: 17 bytes behind the head
    assert data[at] == 0xFF
    second = data.index(data[at : at + 2], at + 40)
    return data[second:], second


@pytest.mark.parametrize("headers", ["first", "second", "none"])
def test_mp3s_without_a_header_in_each(tmp_path, headers):
    """What one header counts is no longer all that there is."""
    first, second = (encoded(("MP3", "MPEG_LAYER_III"), hz, 44_100, 44_100) for hz in (300, 500))
    if headers != "first":
        first = stripped(first)[0]
    if headers != "second":
        second = stripped(second)[0]
    heard = read(tmp_path / "a", first + second)
    assert heard.seconds == pytest.approx(2, abs=0.12)
    end = heard.samples[0, -30_000:-10_000] * np.hanning(20_000)
    assert np.abs(np.fft.rfft(end)).argmax() * 44_100 / 20_000 == pytest.approx(500, abs=5)


def test_a_header_of_fraunhofers_kind(tmp_path):
    data = bytearray(encoded(("MP3", "MPEG_LAYER_III"), 300, 44_100, 44_100))
    body, second = stripped(bytes(data))
    frames = struct.unpack_from(">I", data, data.index(b"Info" if b"Info" in data else b"Xing") + 8)[0]
    vbri = bytes(data[second : second + 4]) + bytes(32)
    vbri += b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(body), frames)
    length = body.index(body[:2], 4)
    whole = vbri.ljust(length, b"\0") + body
    assert read(tmp_path / "a", whole + whole).seconds == pytest.approx(2, abs=0.15)


def test_a_tag_behind_a_flac_is_no_damage(tmp_path):
    form = ("FLAC", "PCM_16")
    for tag in (b"TAG" + b"t" * 125, b"APETAGEX" + bytes(200), bytes(40)):
        assert np.array_equal(read(tmp_path / "a", encoded(form, 300) + tag).samples, alone(tmp_path / "b", form, 300))


def test_more_behind_a_wav_is_passed_over_and_not_heard(tmp_path):
    form = ("WAV", "PCM_16")
    data = encoded(form, 300) + b"LIST" + struct.pack("<I", 6) + b"INFO12" + encoded(form, 500)
    (heard,) = [np.concatenate([piece for piece, _ in pipes.blocks(io.BytesIO(data))], axis=1)]
    assert np.array_equal(heard, alone(tmp_path / "b", form, 300, 500))
