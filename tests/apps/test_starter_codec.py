"""The codec that ships with the package."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import cymatic
from cymatic.evaluation.pitch import note_pitch
from cymatic.media.sound import Sound
from cymatic.pipelines.sound_codec import Encoded
from cymatic.signal.distances import multi_scale_mel_distance

NAME = "starter-codec"


@pytest.fixture(scope="module")
def said(starter):
    """Something to code that needs no data from elsewhere."""
    return cymatic.load("starter-sound")("george says seven", seed=1)


def test_three_kilobits_sound_like_the_sound(said, starter):
    codec = cymatic.load(NAME)
    assert (codec.rate, codec.channels) == (24_000, 1)
    real = torch.from_numpy(said.samples)[None]

    def off(kbps):
        made = codec.decode(codec.encode(said, kbps=kbps))
        assert len(made) == len(said) and made.info["model"] == NAME
        return float(multi_scale_mel_distance(torch.from_numpy(made.samples)[None], real, codec.rate))

    silence = float(multi_scale_mel_distance(torch.zeros_like(real), real, codec.rate))
    assert off(6) < off(1.5) and off(3) < 0.15 * silence


@pytest.mark.parametrize("pitch", [48, 57, 69, 81])
@pytest.mark.parametrize("kbps", [1.5, 3, 6])
def test_a_note_comes_back_as_it_was(pitch, kbps, starter):
    codec, at = cymatic.load(NAME), np.arange(24_000) / 24_000
    hz = 440 * 2 ** ((pitch - 69) / 12)
    wave = sum(np.cos(2 * np.pi * (k * hz * at + 0.3 * k)) / k**1.5 for k in range(1, 9) if k * hz < 8000)
    note = Sound(0.1 * wave * np.minimum(1, at / 0.02), 24_000)
    heard = note_pitch(codec.decode(codec.encode(note, kbps=kbps)))
    assert heard is not None and abs(heard - pitch) < 0.2


def test_the_command_line_finds_it(said, starter, cli, tmp_path):
    said.write(tmp_path / "in.flac")
    assert cli("encode", "in.flac", "-o", "in.cym", "--kbps", "3").code == 0
    encoded = Encoded.read(tmp_path / "in.cym")
    assert encoded.header.model == NAME and encoded.header.kbps == pytest.approx(3)
    assert cli("decode", "in.cym", "-o", "out.wav").code == 0
    assert abs(Sound.read(tmp_path / "out.wav").seconds - said.seconds) < 1e-3


def test_a_stream_of_it_is_the_whole_bit_for_bit(said, starter):
    codec = cymatic.load(NAME).codec
    wave = torch.from_numpy(said.samples)
    latent = codec.encode(wave[None], levels=6)
    with codec.streaming(levels=6) as stream:
        cuts = np.random.default_rng(0).integers(0, wave.shape[1], 40)
        codes = [stream.encode(chunk) for chunk in torch.tensor_split(wave, sorted(cuts.tolist()), dim=1)]
        codes = torch.cat([*codes, stream.finish()], 1)
        made = torch.cat([stream.decode(frame) for frame in codes.split(1, 1)], 1)
        made = made[:, : made.shape[1] - stream.end(wave.shape[1])]
    assert torch.equal(codes, latent.codes[0])
    assert torch.equal(made, codec.decode(replace(latent, lengths=torch.tensor([wave.shape[1]])))[0])
    assert codec.latency < 0.06


def test_its_files_are_small(starter):
    sizes = {path.relative_to(starter).as_posix(): path.stat().st_size for path in starter.rglob("*") if path.is_file()}
    assert "codec/model.safetensors" in sizes and sum(sizes.values()) < 8_000_000
