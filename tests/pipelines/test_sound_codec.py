"""A sound to codes and back: in memory, from file to file, in pieces, and everything that can be wrong with it."""

import io
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import tiny_codec, tone

import cymatic
from cymatic.codecs.waveform import WaveformCodec
from cymatic.errors import Error, ModelError, Note, SoundError
from cymatic.media import pipes
from cymatic.media.cym import CymReader, CymWriter
from cymatic.media.sound import Sound
from cymatic.pipelines.sound_codec import Encoded, SoundCodec

MODEL = SoundCodec(tiny_codec(), name="tiny", sha256="ab" * 32)
STEREO = SoundCodec(tiny_codec(2), name="stereo", sha256="cd" * 32)


def sound(samples=4321, rate=2000, channels=1, seed=0) -> Sound:
    return Sound(np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, samples)), rate)


def codes_of(data: bytes) -> np.ndarray:
    return np.concatenate(list(CymReader(io.BytesIO(data))), axis=1)


# --- a round trip


@settings(max_examples=20)
@given(st.integers(1, 3000), st.sampled_from([2000, 1999, 8000, 44_100]), st.sampled_from([None, 0.2, 0.4, 0.6]))
def test_a_sound_keeps_its_length(samples, rate, kbps):
    given_ = sound(samples, rate)
    encoded = MODEL.encode(given_, kbps)
    back = MODEL.decode(encoded)
    assert len(back) == len(given_.resample(2000)) == encoded.samples and back.rate == 2000
    assert encoded.codes.shape[0] == {None: 3, 0.2: 1, 0.4: 2, 0.6: 3}[kbps]


def test_it_is_what_the_codec_does():
    given_ = sound()
    latent = MODEL.codec.encode(torch.from_numpy(given_.samples)[None])
    encoded = MODEL.encode(given_)
    assert np.array_equal(encoded.codes, latent.codes[0].numpy())
    assert np.array_equal(MODEL.decode(encoded).samples, MODEL.codec.decode(latent)[0].numpy())


def test_the_sound_says_what_made_it():
    info = MODEL.decode(MODEL.encode(sound()), 0.4).info
    assert info == {"model": "tiny", "sha256": "ab" * 32, "kbps": 0.4, "cymatic": cymatic.__version__}


def test_a_lower_rate_of_the_same_codes():
    encoded = MODEL.encode(sound())
    low = MODEL.encode(sound(), 0.2)
    assert np.array_equal(encoded.codes[:1], low.codes)
    assert np.array_equal(MODEL.decode(encoded, 0.2).samples, MODEL.decode(low).samples)
    assert not np.array_equal(MODEL.decode(encoded, 0.2).samples, MODEL.decode(encoded).samples)


@pytest.mark.parametrize("entropy", [False, True])
def test_files_say_the_same_as_memory(tmp_path, entropy):
    given_ = sound(30_000, 8000)
    path = given_.write(tmp_path / "a.wav")
    given_ = Sound.read(path)
    written = MODEL.encode_file(path, tmp_path / "a.cym", 0.4, entropy=entropy)
    assert written.size == (tmp_path / "a.cym").stat().st_size
    assert (written.seconds, written.kbps) == (3.75, 0.4)
    encoded = MODEL.encode(given_, 0.4)
    assert encoded.write(tmp_path / "b.cym", entropy=entropy).read_bytes() == (tmp_path / "a.cym").read_bytes()
    back = Encoded.read(tmp_path / "a.cym")
    assert np.array_equal(back.codes, encoded.codes) and (back.header, back.samples) == (encoded.header, 7500)
    MODEL.decode_file(tmp_path / "a.cym", tmp_path / "back.wav")
    made, wanted = Sound.read(tmp_path / "back.wav"), MODEL.decode(back)
    assert made.info == wanted.info and made.samples.shape == wanted.samples.shape
    assert np.abs(made.samples - np.clip(wanted.samples, -1, 1)).max() < 1e-4


@pytest.mark.parametrize("extension", [".flac", ".ogg", ".opus", ".mp3"])
def test_any_format_is_decoded_to(tmp_path, extension):
    MODEL.encode(sound()).write(tmp_path / "a.cym")
    written = MODEL.decode_file(tmp_path / "a.cym", tmp_path / f"a{extension}", 0.2)
    back = Sound.read(tmp_path / f"a{extension}")
    assert back.info["model"] == "tiny" and back.info["kbps"] == 0.2
    assert back.seconds == pytest.approx(written.seconds, abs=0.06) and written.seconds == 4321 / 2000


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3000), max_size=8), st.lists(st.integers(0, 80), max_size=8))
def test_pieces_of_any_size_are_the_whole(cuts, code_cuts):
    given_ = sound(3000)
    parts = np.split(given_.samples, sorted(cuts), axis=1)
    sink = io.BytesIO()
    MODEL.encode_blocks(((part, 2000) for part in parts), sink)
    whole = MODEL.encode(given_)
    assert np.array_equal(codes_of(sink.getvalue()), whole.codes)
    rewritten = io.BytesIO()
    writer = CymWriter(rewritten, replace(whole.header, block=7))
    for part in np.split(whole.codes, sorted(min(c, whole.codes.shape[1]) for c in code_cuts), axis=1):
        writer.add(part)
    writer.close(3000)
    made = np.concatenate(list(MODEL.decoded(CymReader(io.BytesIO(rewritten.getvalue())))), axis=1)
    assert np.array_equal(made, MODEL.decode(whole).samples)


def test_a_codec_that_looks_ahead_works_on_the_whole(monkeypatch, tmp_path):
    given_ = sound(3000)
    wanted = MODEL.encode(given_)
    monkeypatch.setattr(WaveformCodec, "streamable", property(lambda self: False))
    encoded = MODEL.encode(given_, 0.6)
    assert encoded.codes.shape == wanted.codes.shape
    assert len(MODEL.decode(encoded)) == 3000 and len(MODEL.decode(encoded, 0.2)) == 3000
    path = given_.write(tmp_path / "a.wav")
    MODEL.encode_file(path, tmp_path / "a.cym")
    MODEL.decode_file(tmp_path / "a.cym", tmp_path / "b.wav")
    assert len(Sound.read(tmp_path / "b.wav")) == 3000


def test_memory_does_not_grow_with_the_sound(tmp_path):
    def blocks(seconds):
        rng = np.random.default_rng(0)
        for _ in range(seconds):
            yield rng.uniform(-0.5, 0.5, (1, 8000)).astype(np.float32), 8000

    def peak(seconds):
        tracemalloc.start()
        with open(tmp_path / "a.cym", "wb") as file:
            MODEL.encode_blocks(blocks(seconds), file, entropy=True)
        MODEL.decode_file(tmp_path / "a.cym", tmp_path / "a.flac")
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(12) < 1.2 * peak(3) + 100_000


# --- models


def test_a_folder_is_a_model(codec_folder):
    model = cymatic.load(codec_folder)
    assert isinstance(model, SoundCodec)
    assert (model.name, model.kbps, model.offers, model.rate, model.channels) == (
        "tiny-codec",
        0.4,
        (0.2, 0.4, 0.6),
        2000,
        1,
    )
    assert model.encode(sound()).codes.shape[0] == 2
    assert len(model.sha256) == 64 and model.encode(sound()).header.sha256 == model.sha256


def test_another_models_codes_are_refused(codec_folder):
    model = cymatic.load(codec_folder)
    with pytest.raises(
        ModelError, match=r"the model tiny \(abababab\), and this is tiny-codec \(.{8}\); give the model"
    ):
        model.decode(MODEL.encode(sound()))
    lying = SoundCodec(STEREO.codec, name="tiny", sha256="ab" * 32)
    with pytest.raises(ModelError, match="claim to be of tiny, and do not fit it"):
        lying.decode(MODEL.encode(sound()))


def test_an_untrained_codec_refuses():
    with pytest.raises(ModelError, match="never trained"):
        SoundCodec(tiny_codec(steps=0)).encode(sound())


def test_a_codec_that_makes_nan_is_named(monkeypatch):
    encoded = MODEL.encode(sound())
    monkeypatch.setattr("cymatic.codecs.stream.Stream.decode", lambda self, codes: torch.full((1, 40), torch.nan))
    with pytest.raises(ModelError, match="tiny made NaN or infinity"):
        MODEL.decode(encoded)


@pytest.mark.parametrize("kbps", [0.19, 0, -1])
def test_rates_that_are_not_offered(kbps):
    with pytest.raises(Error, match=r"kbps were asked for, and tiny offers 0.2, 0.4, 0.6; give at least 0.2"):
        MODEL.encode(sound(), kbps)
    with pytest.raises(Error, match=r"kbps were asked for, and tiny offers 0.2, 0.4; give at least 0.2"):
        MODEL.decode(MODEL.encode(sound(), 0.4), kbps)


@pytest.mark.parametrize("kbps", [float("nan"), float("inf"), -float("inf")])
def test_rates_that_are_no_numbers(kbps):
    with pytest.raises(Error, match=r"kbps were asked for; give a number, such as 0\.6"):
        MODEL.encode(sound(), kbps)


@pytest.mark.parametrize(("kbps", "levels"), [(0.2, 1), (0.39, 1), (0.4, 2), (0.59, 2), (3, 3), (1e300, 3)])
def test_as_many_levels_as_fit(kbps, levels):
    assert len(MODEL.encode(sound(), kbps).codes) == levels


# --- odd sounds


@pytest.mark.parametrize(
    "samples",
    [np.zeros(2000), np.ones(2000), np.full(2000, 50.0), np.tile([1.0, -1.0], 1000), [0.3], [0.3, 0.1]],
    ids=["silence", "dc", "far too loud", "nyquist", "one sample", "two"],
)
@pytest.mark.parametrize("model", [MODEL, STEREO], ids=["mono", "stereo"])
def test_odd_sounds_go_through(model, samples):
    given_ = Sound(samples, 2000)
    back = model.decode(model.encode(given_))
    assert back.samples.shape == (model.channels, len(given_)) and np.isfinite(back.samples).all()


def test_a_hundred_channels_are_mixed_with_one_note():
    with pytest.warns(Note, match="has 100 channels where 1 is expected; it is mixed to one") as notes:
        encoded = MODEL.encode(sound(500, channels=100))
    assert len(notes) == 1 and encoded.header.channels == 1
    assert np.array_equal(encoded.codes, MODEL.encode(sound(500, channels=100).mono()).codes)


def test_stereo_stays_stereo():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = STEREO.decode(STEREO.encode(sound(500, channels=2)))
    assert back.channels == 2 and not np.array_equal(*back.samples)


def test_no_samples_and_nan_are_refused(tmp_path):
    with pytest.raises(SoundError, match="0 samples"):
        MODEL.encode_blocks([(np.zeros((1, 0), np.float32), 2000)], io.BytesIO())
    soundfile.write(tmp_path / "nan.wav", np.full(2000, np.nan), 2000, "FLOAT")
    with pytest.raises(SoundError, match="NaN or infinite"):
        MODEL.encode_file(tmp_path / "nan.wav", tmp_path / "nan.cym")
    assert [path.name for path in tmp_path.iterdir()] == ["nan.wav"]


# --- odd files


def test_a_cut_file_is_decoded_up_to_the_cut(tmp_path):
    encoded = MODEL.encode(sound(20_000))
    data = encoded.write(tmp_path / "a.cym").read_bytes()
    (tmp_path / "a.cym").write_bytes(data[: len(data) * 2 // 3])
    with pytest.warns(Note, match=r"a.cym is cut short after block \d+ \(\d.00 s\); what is there is used"):
        MODEL.decode_file(tmp_path / "a.cym", tmp_path / "a.wav")
    back, wanted = Sound.read(tmp_path / "a.wav"), MODEL.decode(encoded)
    assert 8000 < len(back) < 14_000
    assert np.abs(back.samples - np.clip(wanted.samples[:, : len(back)], -1, 1)).max() < 1e-4


def test_a_cut_file_stays_one_when_it_is_written_again(tmp_path):
    data = MODEL.encode(sound(20_000)).write(tmp_path / "a.cym").read_bytes()
    (tmp_path / "a.cym").write_bytes(data[:-20])
    with pytest.warns(Note):
        cut = Encoded.read(tmp_path / "a.cym")
    assert cut.samples is None
    cut.write(tmp_path / "b.cym")
    with pytest.warns(Note, match="is cut short after block"):
        again = Encoded.read(tmp_path / "b.cym")
    assert again.samples is None and np.array_equal(again.codes, cut.codes)
    assert len(MODEL.decode(again)) == cut.codes.shape[1] * 40 - MODEL.codec.delay


@pytest.mark.parametrize("more", [0, 3, 50])
def test_a_file_without_a_whole_block_is_no_sound(tmp_path, more):
    data = MODEL.encode(sound()).write(tmp_path / "a.cym").read_bytes()
    (tmp_path / "a.cym").write_bytes(data[: len(MODEL.header().as_bytes()) + more])
    with pytest.raises(Error, match=r"a.cym is cut short within its first block, .*; get it whole"):
        MODEL.decode_file(tmp_path / "a.cym", tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.cym"]


@pytest.mark.parametrize("samples", [0, 40, 4000, 4400])
def test_a_length_that_can_not_be(samples):
    encoded = replace(MODEL.encode(sound()), samples=samples)
    with pytest.raises(Error, match=r"claim to be a sound of|\d frames of codes hold no sound \(0 samples\)"):
        MODEL.decode(encoded)


def test_a_damaged_file_leaves_nothing(tmp_path):
    data = bytearray(MODEL.encode(sound(20_000)).write(tmp_path / "a.cym").read_bytes())
    data[-40] ^= 1
    (tmp_path / "a.cym").write_bytes(data)
    with pytest.raises(Error, match=r"a.cym is damaged in block 10, at 9.00 s"):
        MODEL.decode_file(tmp_path / "a.cym", tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.cym"]


def test_files_that_are_not_there_or_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no.cym does not exist; give the path of a .cym file"):
        MODEL.decode_file(tmp_path / "no.cym", tmp_path / "a.wav")
    with pytest.raises(FileNotFoundError, match=r"no.wav does not exist; give the path of a sound file"):
        MODEL.encode_file(tmp_path / "no.wav", tmp_path / "a.cym")
    with pytest.raises(Error, match=r"is a folder; give a .cym file"):
        Encoded.read(tmp_path)
    with pytest.raises(Error, match=r"is no .cym file"):
        Encoded.read(tone(440).write(tmp_path / "a.wav"))
    with pytest.raises(Error, match=r'unknown extension ".mp4"'):
        MODEL.decode_file(tmp_path / "a.cym", tmp_path / "a.mp4")
    with pytest.raises(Error, match=r'unknown extension ".wav"; use one of .cym'):
        MODEL.encode_file(tmp_path / "a.wav", tmp_path / "b.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("quiet", [0, 1500])
def test_channels_that_cancel_are_encoded_as_the_louder_one(tmp_path, quiet):
    """From memory, from a file and through a pipe alike."""
    codec = SoundCodec(tiny_codec())
    left = np.concatenate([np.zeros((1, quiet), np.float32), tone(200, 1.5, 2000).samples], axis=1)
    Sound(left, 2000).write(tmp_path / "left.wav")
    Sound(np.concatenate([left, -left]), 2000).write(tmp_path / "both.wav")
    codec.encode_file(tmp_path / "left.wav", tmp_path / "left.cym")
    expected = (tmp_path / "left.cym").read_bytes()
    with pytest.warns(Note, match="channel 1 alone"):
        codec.encode_file(tmp_path / "both.wav", tmp_path / "both.cym")
    assert (tmp_path / "both.cym").read_bytes() == expected
    piped = io.BytesIO()
    with pytest.warns(Note, match="channel 1 alone"):
        codec.encode_blocks(pipes.blocks(io.BytesIO((tmp_path / "both.wav").read_bytes())), piped)
    assert piped.getvalue() == expected
    with pytest.warns(Note, match="channel 1 alone"):
        codes = codec.encode(Sound.read(tmp_path / "both.wav")).codes
    assert np.array_equal(codes, Encoded.read(tmp_path / "left.cym").codes)
