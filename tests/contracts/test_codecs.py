"""What every codec of mels promises. A new one is one more row in ROWS."""

import pytest
import torch

from cymatic.codecs import CODECS
from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.latent import Latent
from cymatic.quantizers.vector import VectorQuantizerConfig
from cymatic.signal.mel import MelSpec

SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=10, fmax=4000)
SILENCE = SPEC.silence


def mels(*lengths: int) -> list[torch.Tensor]:
    return [torch.randn(10, n, generator=torch.Generator().manual_seed(n)) * 2 - 5 for n in lengths]


def spectrogram(**shape) -> SpectrogramCodec:
    torch.manual_seed(0)
    quantizer = VectorQuantizerConfig(size=16, dim=4)
    codec = SpectrogramCodec(SpectrogramCodecConfig(mel=SPEC, quantizer=quantizer, latent=6, blocks=1, **shape))
    torch.nn.init.normal_(codec.quantizer.codebook, std=0.5)  # so that many codes are taken
    codec.fit_statistics(mels(30, 40))
    codec.steps_trained.fill_(1)
    return codec.eval()


ROWS = {
    "cells of 4 x 4": spectrogram(width=8, multiples=(1, 1, 2), attention=(1,), groups=4),
    "cells of 4 x 8": spectrogram(width=12, multiples=(1, 2), patch=(2, 4), groups=4),
    "rows in whole cells": spectrogram(width=8, multiples=(1, 1), groups=2),
}
every_codec = pytest.mark.parametrize("codec", ROWS.values(), ids=ROWS)


def batch(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.full((len(lengths), 10, max(lengths)), SILENCE)
    for row, mel in zip(out, mels(*lengths), strict=True):
        row[:, : mel.shape[1]] = mel
    return out, torch.tensor(lengths)


def test_every_codec_of_mels_is_here():
    assert {type(codec) for codec in ROWS.values()} == {SpectrogramCodec} < set(CODECS)


@every_codec
@pytest.mark.parametrize("frames", [1, 7, 8, 33])
@torch.inference_mode()
def test_decoding_keeps_the_length(codec, frames):
    mel, _ = batch(frames, frames)
    latent = codec.encode(mel)
    assert latent.layout == "grid"
    assert latent.codes.shape == (2, codec.rows, codec.columns(frames)) and latent.codes.dtype == torch.int64
    assert torch.equal(latent.lengths, torch.tensor([frames, frames]))
    again = codec.decode(latent)
    assert again.shape == mel.shape and again.isfinite().all() and again.min() >= SILENCE


@every_codec
@torch.inference_mode()
def test_a_batch_equals_its_items(codec):
    mel, frames = batch(7, 30, 12, 30)
    mel[:, :, 7:][0] = 99.0  # what lies beyond an item's length is nobody's business
    latent = codec.encode(mel, frames)
    decoded = codec.decode(latent)
    for i, one in enumerate(mels(7, 30, 12, 30)):
        alone = codec.encode(one[None])
        columns = codec.columns(int(frames[i]))
        assert torch.equal(latent.codes[i, :, :columns], alone.codes[0])
        assert not latent.codes[i, :, columns:].any() and not latent.z[i, ..., columns:].any()
        torch.testing.assert_close(latent.z[i, ..., :columns], alone.z[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(decoded[i, :, : frames[i]], codec.decode(alone)[0], atol=1e-5, rtol=0)
        assert (decoded[i, :, frames[i] :] == SILENCE).all()


@every_codec
@torch.inference_mode()
def test_the_same_input_gives_the_same_codes_in_any_mode(codec):
    mel, frames = batch(20, 11)
    first = codec.encode(mel, frames)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    codec.train()
    again = codec.encode(mel, frames)
    codec.eval()
    assert torch.equal(first.codes, again.codes)
    assert all(torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())
    assert len(first.codes.unique()) >= 3


@every_codec
@torch.inference_mode()
def test_codes_alone_are_enough(codec):
    mel, frames = batch(20, 11)
    latent = codec.encode(mel, frames)
    assert torch.equal(codec.decode_codes(latent.codes, frames), codec.decode(latent))


@every_codec
def test_codes_beyond_the_codebook_are_refused(codec):
    codes = torch.zeros(1, codec.rows, 2, dtype=torch.int64)
    codes[0, 0, 1] = 16
    with pytest.raises(Error, match="a code 16 and the codebook holds 0 to 15"):
        codec.decode_codes(codes, torch.tensor([2]))


@every_codec
def test_lengths_and_latents_that_do_not_fit_are_refused(codec):
    mel, frames = batch(20, 11)
    for wrong in ([21, 3], [0, 3]):
        with pytest.raises(Error, match="were given for mels of 20"):
            codec.encode(mel, torch.tensor(wrong))
    latent = codec.encode(mel, frames)
    with pytest.raises(Error, match="this codec reads"):
        codec.decode(Latent(latent.z[:, :, 1:], latent.codes, frames, "grid"))
    with pytest.raises(Error, match="this codec reads"):
        codec.decode(Latent(latent.z, latent.codes, frames + 100, "grid"))
    with pytest.raises(Error, match='a latent "levels"'):
        codec.decode(Latent(latent.z, latent.codes, frames, "levels"))


@every_codec
def test_a_training_step_reaches_every_parameter(codec):
    mel, _ = batch(40, 40)
    codec.train()
    step = codec(mel, torch.Generator().manual_seed(0))
    assert step.made.shape == step.wanted.shape == mel.shape
    torch.testing.assert_close(step.wanted * codec.std + codec.mean, mel)
    codec.zero_grad()
    ((step.made - step.wanted).abs().mean() + sum(step.quantized.losses.values())).backward()
    without = [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without
    codec.eval().zero_grad(set_to_none=True)


@every_codec
@torch.inference_mode()
def test_training_sees_what_decoding_gives(codec):
    mel, _ = batch(21, 21)
    made = (codec(mel).made * codec.std + codec.mean).clamp_min(SILENCE)
    torch.testing.assert_close(codec.decode(codec.encode(mel)), made, atol=1e-5, rtol=0)


@every_codec
@torch.inference_mode()
def test_saved_and_loaded_it_is_the_same(codec, tmp_path):
    save_part(tmp_path / "codec", codec)
    again = load_part(tmp_path / "codec", CODECS)
    mel, frames = batch(20, 11)
    assert again.config == codec.config
    assert torch.equal(again.decode(again.encode(mel, frames)), codec.decode(codec.encode(mel, frames)))


def test_a_codec_that_was_never_trained_refuses():
    codec = spectrogram(width=8, multiples=(1, 1), groups=2)
    latent = codec.encode(batch(8)[0])
    codec.steps_trained.zero_()
    with pytest.raises(ModelError, match="never trained"):
        codec.encode(batch(8)[0])
    with pytest.raises(ModelError, match="never trained"):
        codec.decode(latent)
    codec.train()(batch(8)[0])
