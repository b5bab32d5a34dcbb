"""What every codec promises, whatever it encodes. A new one is one more row in ROWS."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from cymatic.codecs import CODECS
from cymatic.codecs.fast import FastShape
from cymatic.codecs.palette import PaletteCodec, PaletteCodecConfig
from cymatic.codecs.picture import PictureCodec, PictureCodecConfig
from cymatic.codecs.pitch import PitchShape
from cymatic.codecs.soundstream import SoundStreamShape
from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig
from cymatic.codecs.waveform import WaveformCodec, WaveformCodecConfig
from cymatic.config import Config
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.latent import Latent
from cymatic.media import MEDIA
from cymatic.media.picture import PictureSpec
from cymatic.quantizers import QUANTIZERS
from cymatic.quantizers.finite import (
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    LookupFreeQuantizer,
    LookupFreeQuantizerConfig,
)
from cymatic.quantizers.gaussian import GaussianBottleneck, GaussianBottleneckConfig
from cymatic.quantizers.maps import MapConfig
from cymatic.quantizers.residual import ResidualQuantizerConfig
from cymatic.quantizers.vector import VectorQuantizer, VectorQuantizerConfig
from cymatic.signal.mel import MelSpec

SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=10, fmax=4000)


@dataclass(frozen=True)
class Row:
    """A codec, items of the lengths that are asked for, and what lies beyond the end of one."""

    codec: Any
    shape: tuple[int, ...]  # of an item, but for its length
    unit: int  # a length in columns or so
    silence: float
    tolerance: float  # of what comes out again, as these weights are wild
    size: int | None = None  # the one length, where there are no others
    like: Callable[[torch.Tensor], torch.Tensor] = lambda drawn: drawn  # an item, from normal numbers
    decoded: Callable[[Any, torch.Tensor], torch.Tensor] = lambda codec, made: made  # what a step made, as it is given
    other: str = "rate"  # what another spec has twice as much of

    def length(self, units: int, more: int = 0) -> int:
        return units * self.unit + more if self.size is None else self.size

    def item(self, length: int, seed: int | None = None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(length if seed is None else seed)
        return self.like(torch.randn(*self.shape, length, generator=generator))

    def batch(self, *lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Filled up with what is none of an item's own; the item's place is its seed."""
        out = torch.full((len(lengths), *self.shape, max(lengths)), 9.0)
        for seed, length in enumerate(lengths):
            out[seed, ..., :length] = self.item(length, seed)
        return out, torch.tensor(lengths)


def of_mels(drawn: torch.Tensor) -> torch.Tensor:
    return drawn * 2 - 5


def in_nepers(codec: SpectrogramCodec, made: torch.Tensor) -> torch.Tensor:
    """A mel is made in units of its statistics, and never below silence."""
    return (made * codec.std + codec.mean).clamp_min(SPEC.silence)


def as_pixels(codec: PictureCodec, made: torch.Tensor) -> torch.Tensor:
    return ((made + 1) / 2).clamp(0, 1)


def trained(codec: torch.nn.Module, items: list[torch.Tensor]) -> torch.nn.Module:
    """One step in training, for what a codec learns from its first batch, and weights that are lively."""
    torch.manual_seed(0)
    codec.fit_statistics(items)
    codec.train()(torch.stack(items), torch.Generator().manual_seed(0))
    codec.steps_trained.fill_(1)
    return codec.eval()


def enliven(quantizer: torch.nn.Module | None) -> None:
    """So that many codes are taken."""
    if isinstance(quantizer, VectorQuantizer):
        torch.nn.init.normal_(quantizer.codebook, std=0.5)
    elif isinstance(quantizer, FiniteScalarQuantizer | LookupFreeQuantizer):
        quantizer.in_proj.weight.data.mul_(8)


def spectrogram(quantizer: Config, **shape) -> Row:
    torch.manual_seed(0)
    codec = SpectrogramCodec(SpectrogramCodecConfig(mel=SPEC, quantizer=quantizer, latent=6, blocks=1, **shape))
    enliven(codec.quantizer)
    items = [of_mels(torch.randn(10, 40, generator=torch.Generator().manual_seed(i))) for i in range(2)]
    return Row(trained(codec, items), (10,), 1, SPEC.silence, 1e-5, like=of_mels, decoded=in_nepers)


def picture(quantizer: Config | None, size: int = 16, **shape) -> Row:
    torch.manual_seed(0)
    config = PictureCodecConfig(picture=PictureSpec(size=size), quantizer=quantizer, latent=6, blocks=1, **shape)
    codec = PictureCodec(config)
    enliven(codec.quantizer)
    items = [torch.rand(3, size, size, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    if quantizer is not None:  # a latent in all directions
        with torch.no_grad():
            z = codec.to_codes(codec.encoder(2 * torch.stack(items) - 1))
            codec.to_codes.weight.div_(z.std())
            codec.to_codes.bias.sub_(z.mean((0, 2, 3))).div_(z.std())
    return Row(
        trained(codec, items), (3, size), 1, 0.0, 1e-5, size=size, like=torch.sigmoid, decoded=as_pixels, other="size"
    )


def palette(size: int = 16) -> Row:
    codec = PaletteCodec(PaletteCodecConfig(picture=PictureSpec(size=size), colours=16, rounds=4))
    items = [torch.rand(3, size, size, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    return Row(trained(codec, items), (3, size), 1, 0.0, 1e-5, size=size, like=torch.sigmoid, other="size")


def waveform(quantizer: Config, network: Config, channels: int = 1) -> Row:
    torch.manual_seed(0)
    config = WaveformCodecConfig(rate=2000, channels=channels, network=network, quantizer=quantizer, block=4)
    codec = WaveformCodec(config)
    for p in codec.network.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    items = [0.3 * torch.randn(channels, 1200, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    return Row(trained(codec, items), (channels,), 20, 0.0, 1e-4)


FAST = FastShape(hop=40, split=2, width=16, encoder=(1, 1), decoder=(1, 1))
PITCHED = FAST.model_copy(update={"pitch": PitchShape(highest=250)})
SOUNDSTREAM = SoundStreamShape(strides=(2, 4, 5), widths=(4, 6, 8, 10))
AHEAD = SoundStreamShape(strides=(4, 10), widths=(4, 6, 8), wavelets=(1,), wavelet="moving-sum")
VECTOR = VectorQuantizerConfig(size=16, dim=4)
MAP = ResidualQuantizerConfig(levels=1, size=16, dim=4, map=MapConfig())
RESIDUAL = ResidualQuantizerConfig(levels=3, size=16, dim=8)
FINITE = FiniteScalarQuantizerConfig(levels=2, steps=(4, 4), dim=8)
LOOKUP_FREE = LookupFreeQuantizerConfig(levels=2, bits=4, dim=8)
ROWS = {
    "spectrogram, cells of 4 x 4": spectrogram(VECTOR, width=8, multiples=(1, 1, 2), attention=(1,), groups=4),
    "spectrogram, cells of 4 x 8": spectrogram(VECTOR, width=12, multiples=(1, 2), patch=(2, 4), groups=4),
    "spectrogram, whole cells": spectrogram(VECTOR, width=8, multiples=(1, 1), groups=2),
    "spectrogram, finite": spectrogram(
        FiniteScalarQuantizerConfig(steps=(4, 4), dim=4), width=8, multiples=(1, 1), groups=2
    ),
    "spectrogram, lookup-free": spectrogram(
        LookupFreeQuantizerConfig(bits=4, dim=4), width=8, multiples=(1, 1), groups=2
    ),
    "spectrogram, with a map": spectrogram(MAP, width=8, multiples=(1, 1), groups=2),
    "picture, cells of 4 x 4": picture(VECTOR, width=8, multiples=(1, 1, 2), attention=(1,), groups=4),
    "picture, cells of 4 x 8": picture(VECTOR, width=12, multiples=(1, 2), patch=(2, 4), groups=4),
    "picture, directions": picture(
        VectorQuantizerConfig(size=16, dim=6, lookup_dim=3, metric="cosine"), width=8, multiples=(1, 1), groups=2
    ),
    "picture, finite": picture(FiniteScalarQuantizerConfig(steps=(4, 4), dim=4), width=8, multiples=(1, 1), groups=2),
    "picture, lookup-free": picture(LookupFreeQuantizerConfig(bits=4, dim=4), width=8, multiples=(1, 1), groups=2),
    "picture, with a map": picture(MAP, width=8, multiples=(1, 1), groups=2),
    "picture, no codes": picture(None, width=8, multiples=(1, 1), groups=2),
    "palette": palette(),
    "fast, residual": waveform(RESIDUAL, FAST),
    "fast with a pitch": waveform(RESIDUAL, PITCHED),
    "fast, stereo": waveform(RESIDUAL, FAST, channels=2),
    "fast, finite": waveform(FINITE, FAST),
    "fast, lookup-free": waveform(LOOKUP_FREE, FAST),
    "fast, gaussian": waveform(GaussianBottleneckConfig(dim=8, latent=5), FAST),
    "SoundStream, residual": waveform(RESIDUAL, SOUNDSTREAM),
    "SoundStream, finite": waveform(FINITE, SOUNDSTREAM),
    "SoundStream, lookup-free": waveform(LOOKUP_FREE, SOUNDSTREAM),
    "SoundStream, looking ahead": waveform(RESIDUAL, AHEAD),
}
CODED = {name: row for name, row in ROWS.items() if row.codec.sizes}
every_codec = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
every_coded = pytest.mark.parametrize("row", CODED.values(), ids=CODED)


def test_every_codec_and_quantizer_is_here():
    assert {type(row.codec) for row in ROWS.values()} == set(CODECS)
    assert {type(row.codec.quantizer) for row in ROWS.values() if row.codec.quantizer is not None} == set(QUANTIZERS)
    networks = {type(row.codec.config.network) for row in ROWS.values() if isinstance(row.codec, WaveformCodec)}
    assert networks == {FastShape, SoundStreamShape}


@every_codec
@pytest.mark.parametrize("columns", [1, 7, 8, 33])
@torch.inference_mode()
def test_decoding_keeps_the_length(row, columns):
    codec, length = row.codec, row.length(columns, 1)
    signal = torch.stack([row.item(length)] * 2)
    latent = codec.encode(signal)
    assert latent.layout == codec.layout
    assert latent.z.shape[-1] == codec.columns(length)
    assert codec.length(codec.columns(length)) >= length > codec.length(codec.columns(length) - 1)
    assert torch.equal(latent.lengths, torch.tensor([length, length]))
    if codec.sizes:
        assert len(codec.sizes) == codec.rows
        assert latent.codes.shape == (2, codec.rows, codec.columns(length)) and latent.codes.dtype == torch.int64
        assert (latent.codes >= 0).all() and (latent.codes < torch.tensor(codec.sizes)[:, None]).all()
    again = codec.decode(latent)
    assert again.shape == signal.shape and again.isfinite().all()


@every_codec
@torch.inference_mode()
def test_a_batch_equals_its_items(row):
    codec, lengths = row.codec, [row.length(7), row.length(30), row.length(12, 1), row.length(30)]
    signal, given = row.batch(*lengths)
    latent = codec.encode(signal, given)
    decoded = codec.decode(latent)
    for i, length in enumerate(lengths):
        alone = codec.encode(row.item(length, i)[None])
        columns = codec.columns(length)
        if codec.sizes:
            assert torch.equal(latent.codes[i, :, :columns], alone.codes[0])
            assert not latent.codes[i, :, columns:].any()
        assert not latent.z[i, ..., columns:].any()
        torch.testing.assert_close(latent.z[i, ..., :columns], alone.z[0], atol=1e-5, rtol=0)
        heard = codec.decode(alone)[0]
        torch.testing.assert_close(decoded[i, ..., :length], heard, atol=row.tolerance, rtol=1e-5)
        assert (decoded[i, ..., length:] == row.silence).all()


@every_codec
@torch.inference_mode()
def test_the_same_input_gives_the_same_codes_in_any_mode(row):
    codec = row.codec
    signal, lengths = row.batch(row.length(20), row.length(11))
    first = codec.encode(signal, lengths)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    codec.train()
    again = codec.encode(signal, lengths)
    codec.eval()
    assert torch.equal(first.z, again.z)
    assert all(torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())
    if codec.sizes:
        assert torch.equal(first.codes, again.codes)
        assert len(first.codes.unique()) >= 3


@every_coded
@torch.inference_mode()
def test_codes_alone_are_enough(row):
    signal, lengths = row.batch(row.length(20), row.length(11))
    latent = row.codec.encode(signal, lengths)
    assert torch.equal(row.codec.decode_codes(latent.codes, lengths), row.codec.decode(latent))
    columns = latent.codes.shape[-1]
    assert row.codec.decode_codes(latent.codes).shape[-1] == row.codec.length(columns)


@every_coded
@torch.inference_mode()
def test_vectors_are_those_of_the_codes(row):
    latent = row.codec.encode(row.item(row.length(20))[None])
    assert torch.equal(row.codec.lookup(latent.codes), latent.z)


@every_coded
def test_codes_beyond_the_codebook_are_refused(row):
    codec = row.codec
    codes = torch.zeros(1, codec.rows, codec.columns(row.length(10)), dtype=torch.int64)
    codes[0, -1, 1] = codec.sizes[-1]
    with pytest.raises(Error, match=f"a code {codec.sizes[-1]} and the codebook holds 0 to {codec.sizes[-1] - 1}"):
        codec.decode_codes(codes)


@every_codec
def test_lengths_and_latents_that_do_not_fit_are_refused(row):
    codec = row.codec
    signal, lengths = row.batch(row.length(20), row.length(11))
    for wrong in ([row.length(20) + 1, 3], [0, 3]):
        with pytest.raises(Error, match="were given for"):
            codec.encode(signal, torch.tensor(wrong))
    latent = codec.encode(signal, lengths)
    with pytest.raises(Error, match="this codec reads"):
        codec.decode(Latent(latent.z[:, 1:], None, lengths, codec.layout))
    with pytest.raises(Error, match=r"were asked for|was given"):
        codec.decode(replace(latent, lengths=lengths + codec.length(100)))
    other = {"grid": "levels", "levels": "grid"}[codec.layout]
    with pytest.raises(Error, match=f'a latent "{other}"'):
        codec.decode(replace(latent, layout=other))


@every_codec
def test_a_training_step_reaches_every_parameter(row):
    codec = row.codec
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    signal = torch.stack([row.item(row.length(40)), row.item(row.length(40)) * 0.9])
    step = codec.train().reconstruct(signal, torch.Generator().manual_seed(0))
    assert step.made.shape == step.wanted.shape == signal.shape
    assert step.quantized is None or step.latent.shape == step.quantized.z.shape
    codec.zero_grad()
    losses = {} if step.quantized is None else step.quantized.losses
    ((step.made - step.wanted).square().mean() + sum(losses.values())).backward()
    without = [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without
    codec.eval().zero_grad(set_to_none=True)
    codec.load_state_dict(before)


@every_codec
@torch.inference_mode()
def test_training_sees_what_decoding_gives(row):
    codec = row.codec
    signal = row.item(row.length(21))[None]
    made = row.decoded(codec, codec(signal).made)
    torch.testing.assert_close(codec.decode(codec.encode(signal)), made, atol=max(1e-5, row.tolerance), rtol=1e-4)


@every_codec
def test_what_training_asks_of_a_codec(row):
    codec, signal = row.codec, row.item(row.length(20))[None]
    parameters = {id(p) for p in codec.parameters()}
    assert all(id(p) in parameters and p.dim() > 1 for p in codec.matrices())
    assert codec.last is None or id(codec.last) in parameters
    assert codec.distance(signal, signal) == 0 < codec.distance(signal * 0.5, signal)
    assert codec.length(2) - codec.length(1) == codec.cell
    assert type(codec.config) is codec.config_class and int(codec.steps_trained) == 1
    assert codec.is_model and isinstance(codec.kept_in_shards, bool) and isinstance(codec.kept_half, bool)
    assert codec.use is None or "{run}" in codec.use
    if codec.kept_in_shards:  # what `pipelines.sound_codec` asks
        assert codec.levels == len(codec.sizes) and codec.hop == codec.cell and codec.streamable in (True, False)
        assert (codec.config.rate, codec.config.channels) == (codec.config.reads.rate, codec.config.reads.channels)
    assert codec.whitened in (True, False) and len(codec.decoder_stages) in (0, 2, 3)
    assert 1 <= codec.min_levels <= max(1, codec.rows)


@every_codec
@torch.inference_mode()
def test_saved_and_loaded_it_is_the_same(row, tmp_path):
    codec = row.codec
    save_part(tmp_path / "codec", codec)
    again = load_part(tmp_path / "codec", CODECS)
    signal, lengths = row.batch(row.length(20), row.length(11))
    assert again.config == codec.config
    assert torch.equal(again.decode(again.encode(signal, lengths)), codec.decode(codec.encode(signal, lengths)))


@every_codec
def test_it_says_what_it_reads_and_may_read_something_else(row):
    config = row.codec.config
    assert config.reads == config.gives and config.reads.medium in MEDIA
    assert config.names_its_spec and config.reading(config.reads) == config
    spec = config.reads.model_copy(update={row.other: 2 * config.reads.model_dump()[row.other]})
    assert config.reading(spec).reads == spec
    others = {} if isinstance(config, PaletteCodecConfig) else {"quantizer": config.quantizer}
    assert not type(config)(**others).names_its_spec


@every_codec
def test_a_codec_that_was_never_trained_refuses(row):
    codec = type(row.codec)(row.codec.config).eval()
    signal = row.item(row.length(10))[None]
    latent = row.codec.encode(signal)
    for refused in (lambda: codec.encode(signal), lambda: codec.decode(latent)):
        with pytest.raises(ModelError, match="never trained"):
            refused()
    codec.train()(signal, torch.Generator().manual_seed(0))


def test_a_gaussian_bottleneck_is_the_one_without_codes():
    uncoded = [row for row in ROWS.values() if not row.codec.sizes]
    assert {type(row.codec.quantizer) for row in uncoded} == {GaussianBottleneck, type(None)}
    (row,) = (row for row in uncoded if row.codec.quantizer is not None)
    assert row.codec.encode(row.item(100)[None]).codes is None and not row.codec.whitened
