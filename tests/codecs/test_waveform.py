"""The waveform codec: whole, in chunks, as a stream, in batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.codecs.fast import FastShape
from cymatic.codecs.pitch import PitchShape
from cymatic.codecs.soundstream import SoundStreamShape
from cymatic.codecs.waveform import WaveformCodec, WaveformCodecConfig
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.latent import Latent
from cymatic.nn.energy_transformer import EnergyTransformerConfig
from cymatic.quantizers.gaussian import GaussianBottleneckConfig
from cymatic.quantizers.residual import ResidualQuantizerConfig

SHAPE = FastShape(hop=40, split=2, width=16, encoder=(1, 1), decoder=(1, 1))


def config(levels=3, **changes) -> WaveformCodecConfig:
    quantizer = ResidualQuantizerConfig(levels=levels, size=16, dim=8)
    values = {"rate": 2000, "network": SHAPE, "quantizer": quantizer, "block": 4}
    return WaveformCodecConfig(**{**values, **changes})


def trained(**changes) -> WaveformCodec:
    torch.manual_seed(0)
    codec = WaveformCodec(config(**changes))
    for p in codec.network.parameters():  # lively, so that codes differ
        p.data.add_(0.2 * torch.randn_like(p))
    wave = 0.3 * torch.randn(4, codec.config.channels, 1200)
    codec.train()
    codec(wave, torch.Generator().manual_seed(0))
    codec.steps_trained.fill_(1)
    return codec.eval()


CODEC = trained()
ROWS = {
    "fast": CODEC,
    "fast with a pitch": trained(network=SHAPE.model_copy(update={"pitch": PitchShape(highest=250)}), levels=1),
    "SoundStream's": trained(network=SoundStreamShape(strides=(2, 4, 5), widths=(4, 6, 8, 10))),
    "with wavelets": trained(
        network=SoundStreamShape(strides=(2, 4, 5), widths=(4, 6, 8, 10), multires=(0,), wavelets=(1,), kernel=3)
    ),
}
AHEAD = {
    "moving sums": trained(
        network=SoundStreamShape(strides=(4, 10), widths=(4, 6, 8), wavelets=(1,), wavelet="moving-sum")
    ),
    "an energy transformer": trained(energy=EnergyTransformerConfig(dim=8, heads=2, memories=16, steps=3, step=2.0)),
}
every_family = pytest.mark.parametrize("codec", ROWS.values(), ids=ROWS)


def whole(wave, codec=CODEC):
    latent = codec.encode(wave[None])
    return latent.codes[0], codec.decode(latent)[0]


def streamed(wave, cuts, code_cuts, levels=None, codec=CODEC):
    with codec.streaming(levels) as stream:
        codes = [stream.encode(chunk) for chunk in torch.tensor_split(wave, sorted(cuts), dim=-1)]
        codes = torch.cat([*codes, stream.finish()], -1)
        made = [stream.decode(some) for some in torch.tensor_split(codes, sorted(code_cuts), dim=-1)]
        made = torch.cat(made, -1)
        return codes, made[:, : made.shape[-1] - stream.end(wave.shape[-1])]


@every_family
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_stream_equals_the_whole_bit_for_bit(codec, data):
    samples = data.draw(st.integers(1, 700))
    cuts = data.draw(st.lists(st.integers(0, samples), max_size=20))
    code_cuts = data.draw(st.lists(st.integers(0, codec.columns(samples)), max_size=10))
    wave = torch.randn(1, samples, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    codes, made = whole(wave, codec)
    got, heard = streamed(wave, cuts, code_cuts, codec=codec)
    assert torch.equal(got, codes)
    assert torch.equal(heard, made)


@every_family
def test_threads_change_nothing(codec):
    wave = torch.randn(1, 40 * 4 * 5 + 17, generator=torch.Generator().manual_seed(0))
    codes, made = whole(wave, codec)
    torch.set_num_threads(2)
    try:
        shared, heard = whole(wave, codec)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(shared, codes)
    assert torch.equal(heard, made)


def test_single_samples_and_single_frames_make_the_same_stream():
    wave = torch.randn(1, 203)
    codes, made = whole(wave)
    got, heard = streamed(wave, range(203), range(codes.shape[-1]))
    assert torch.equal(got, codes)
    assert torch.equal(heard, made)


@every_family
@pytest.mark.parametrize("samples", [1, 39, 40, 41, 100, 160, 161, 997])
def test_length_is_kept(codec, samples):
    codes, made = whole(torch.randn(1, samples), codec)
    assert codes.shape == (codec.levels, codec.columns(samples))
    assert made.shape == (1, samples)
    assert 40 * codec.columns(samples) >= samples + codec.delay > 40 * (codec.columns(samples) - 1)


def test_the_first_samples_come_out_after_the_latency():
    with CODEC.streaming() as stream:
        codes, heard, fed = [], 0, 0
        while not heard:
            codes.append(stream.encode(torch.randn(1, 1)))
            fed += 1
            heard = stream.decode(codes[-1]).shape[-1]
    # A frame at a time: what is heard first is sample 0, and it came in so many samples ago.
    assert fed == 40 * -(-(CODEC.delay + 1) // 40) == 80
    assert CODEC.latency == (40 + CODEC.delay) / 2000
    assert heard == fed - CODEC.delay


@every_family
def test_a_batch_equals_its_items(codec):
    a_batch_equals_its_items(codec)


def a_batch_equals_its_items(codec):
    torch.manual_seed(0)
    waves = [torch.randn(1, n) for n in (333, 80, 999)]
    batch = torch.zeros(3, 1, 999)
    for row, wave in zip(batch, waves, strict=True):
        row[:, : wave.shape[-1]] = wave
    batch[1, :, 80:] = 9.0  # what lies beyond an item's end is not its own
    latent = codec.encode(batch, torch.tensor([333, 80, 999]))
    made = codec.decode(latent)
    for i, wave in enumerate(waves):
        codes, heard = whole(wave, codec)
        assert int(latent.lengths[i]) == wave.shape[-1]
        frames = codec.columns(wave.shape[-1])
        assert torch.equal(latent.codes[i, :, :frames], codes)
        assert not latent.codes[i, :, frames:].any()
        # These weights are wild, and their samples lie far beyond -1..1.
        torch.testing.assert_close(made[i, :, : wave.shape[-1]], heard, atol=1e-5, rtol=1e-5)
        assert not made[i, :, wave.shape[-1] :].any()


@pytest.mark.parametrize("codec", AHEAD.values(), ids=AHEAD)
def test_what_looks_ahead_keeps_items_apart_and_says_so(codec):
    a_batch_equals_its_items(codec)
    wave = torch.randn(1, 1, 400)
    later = wave.clone()
    later[..., 200:] = 0
    with torch.no_grad():  # of latents, for codes may well stay the same
        first, then = (codec.latent(x) for x in (wave, later))
        heard, changed = (codec.network.decoder(z)[..., :80] for z in (first, then))
    assert not torch.equal(heard, changed)
    with pytest.raises(Error, match="can't be streamed"):
        codec.streaming()


def test_fewer_levels_are_the_first_of_all():
    wave = torch.randn(1, 1, 500)
    codes = CODEC.encode(wave).codes
    fewer = CODEC.encode(wave, levels=2)
    assert torch.equal(fewer.codes, codes[:, :2])
    assert torch.equal(CODEC.decode(fewer), CODEC.decode_codes(codes[:, :2], fewer.lengths))
    got, _ = streamed(wave[0], [7, 300], [2], levels=1)
    assert torch.equal(got, codes[0, :1])


def test_what_is_heard_follows_from_codes_or_vectors():
    latent = CODEC.encode(torch.randn(1, 1, 500))
    vectors = Latent(latent.z, None, latent.lengths, "levels")
    torch.testing.assert_close(CODEC.decode(vectors), CODEC.decode(latent), atol=1e-5, rtol=1e-5)


def test_channels_are_coded_together():
    codec = trained(channels=2)
    latent = codec.encode(torch.randn(1, 2, 300))
    assert codec.decode(latent).shape == (1, 2, 300)


def test_continuous_latents_for_priors():
    torch.manual_seed(0)
    codec = trained(quantizer=GaussianBottleneckConfig(dim=8, latent=5, kl=1e-4))
    wave = torch.randn(2, 1, 480)
    latent = codec.encode(wave)
    assert latent.codes is None and latent.z.shape == (2, 5, codec.columns(480))
    torch.testing.assert_close(codec.decode(latent), codec(wave).made, atol=1e-4, rtol=0)
    torch.testing.assert_close(codec.decode(codec.encode(wave[:1])), codec.decode(latent)[:1], atol=1e-5, rtol=1e-5)
    with pytest.raises(Error, match="no codes that could be streamed"):
        codec.streaming()
    with pytest.raises(Error, match="this codec has no codes"):
        codec.decode_codes(torch.zeros(1, 1, 4, dtype=torch.int64))


@every_family
def test_training_and_blocks_agree(codec):
    torch.manual_seed(0)
    wave = torch.randn(2, 1, 480)
    made = codec(wave).made
    torch.testing.assert_close(codec.decode(codec.encode(wave)), made, atol=1e-4, rtol=1e-4)


@every_family
def test_a_gradient_reaches_every_weight(codec):
    made = (again := WaveformCodec(codec.config)).train()(torch.randn(2, 1, 400), torch.Generator().manual_seed(0))
    (made.made.square().mean() + sum(made.quantized.losses.values())).backward()
    assert all(p.grad is not None and p.grad.any() for p in again.parameters())


def test_saved_and_loaded_it_says_the_same(tmp_path):
    save_part(tmp_path / "codec", CODEC)
    again = load_part(tmp_path / "codec", (WaveformCodec,))
    wave = torch.randn(1, 1, 321)
    assert torch.equal(again.encode(wave).codes, CODEC.encode(wave).codes)


@pytest.mark.parametrize(
    "wave", [torch.zeros(1, 1, 300), torch.ones(1, 1, 300), 1e4 * torch.randn(1, 1, 300), torch.full((1, 1, 1), 1e-30)]
)
def test_silence_and_noise_beyond_all_measure_stay_finite(wave):
    assert CODEC.decode(CODEC.encode(wave)).isfinite().all()


def test_what_can_not_be_is_said():
    wave = torch.zeros(1, 1, 100)
    with pytest.raises(ModelError, match="0 steps"):
        WaveformCodec(config()).eval().encode(wave)
    with pytest.raises(Error, match="2 channels was given; this codec takes 1"):
        CODEC.encode(torch.zeros(1, 2, 100))
    with pytest.raises(Error, match="4 levels were asked for; this codec has 1 to 3"):
        CODEC.encode(wave, levels=4)
    with pytest.raises(Error, match=r"lengths of \[101\] samples"):
        CODEC.encode(wave, torch.tensor([101]))
    with pytest.raises(Error, match=r"\[161\] samples were asked for, and 4 frames hold 1 to 100"):
        CODEC.decode_codes(torch.zeros(1, 3, 4, dtype=torch.int64), torch.tensor([161]))
    with pytest.raises(Error, match="codebook"):
        CODEC.decode_codes(torch.full((1, 3, 4), 16))
    latent = CODEC.encode(wave)
    with pytest.raises(Error, match="this codec reads"):
        CODEC.decode(Latent(latent.z[:, :4], None, latent.lengths, "levels"))


def test_a_stream_says_what_is_wrong():
    with CODEC.streaming() as stream:
        with pytest.raises(Error, match="before its first sample"):
            stream.finish()
        with pytest.raises(Error, match="a chunk of 2 channels"):
            stream.encode(torch.zeros(2, 10))
        codes = torch.cat([stream.encode(torch.zeros(1, 90)), stream.finish()], -1)
        with pytest.raises(Error, match="finished"):
            stream.encode(torch.zeros(1, 1))
        stream.decode(codes)
        with pytest.raises(Error, match="codes of 2 levels came after codes of 3"):
            stream.decode(codes[:2])
        with pytest.raises(Error, match="999 samples were asked for"):
            stream.end(999)
        with pytest.raises(Error, match="has ended"):
            stream.decode(codes)


@pytest.mark.parametrize(
    "changes", [{"hop": 41, "split": 2}, {"hop": 6, "split": 2, "overlap": 3}, {"encoder": (-1, 2)}]
)
def test_shapes_that_can_not_be(changes):
    with pytest.raises(ValueError, match=r"split|below 0"):
        FastShape(**changes)
