"""The spectrogram codec: published sizes, masks, statistics, and that it can learn."""

import pytest
import torch

from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig, specvqgan
from cymatic.errors import ModelError
from cymatic.quantizers.vector import VectorQuantizerConfig
from cymatic.signal.mel import PRESETS, MelSpec

SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=10, fmax=4000)


def small(**quantizer) -> SpectrogramCodec:
    torch.manual_seed(0)
    shape = {"width": 16, "multiples": (1, 2), "blocks": 1, "patch": (2, 2), "latent": 16, "groups": 4}
    config = {"mel": SPEC, "quantizer": {"size": 32, "dim": 8, **quantizer}, **shape}
    return SpectrogramCodec(SpectrogramCodecConfig.parse(config, "here"))


def test_the_published_size():
    with torch.device("meta"):
        config = SpectrogramCodecConfig(
            mel=PRESETS["specvqgan-22k"],
            quantizer=VectorQuantizerConfig(size=1024, dim=256),
            **specvqgan().model_dump(),
        )
        codec = SpectrogramCodec(config)
    assert codec.config.cell == (16, 16)
    assert (codec.rows, codec.columns(848), codec.columns(860)) == (5, 53, 54)
    assert sum(p.numel() for p in codec.encoder.parameters()) == 29_295_872
    assert sum(p.numel() for p in codec.decoder.parameters()) == 42_447_489


def test_statistics_are_those_of_the_mels():
    codec, mels = small(), [torch.randn(10, 50) * 3 - 4, torch.randn(10, 70) * 3 - 4]
    codec.fit_statistics(mels)
    frames = torch.cat(mels, dim=1)
    torch.testing.assert_close(codec.mean[:, 0], frames.mean(1))
    torch.testing.assert_close(codec.std[:, 0], frames.std(1))
    step = codec(frames[None])
    torch.testing.assert_close(step.wanted.mean(2), torch.zeros(1, 10), atol=1e-4, rtol=0)


def test_padded_columns_count_in_no_loss_of_the_quantizer():
    codec = small()
    mel = torch.randn(2, 10, 24)
    seen = {}
    codec.quantizer.register_forward_pre_hook(lambda module, inputs: seen.update(mask=inputs[2]))
    step = codec(mel, lengths=torch.tensor([24, 9]))
    rows = torch.ones(codec.rows, dtype=torch.bool)
    columns = torch.tensor([[True] * 6, [True, True, True, False, False, False]])
    assert torch.equal(seen["mask"], columns[:, None] & rows[:, None])
    assert not torch.equal(step.quantized.losses["codebook"], codec(mel).quantized.losses["codebook"])


def test_quiet_frames_and_rows_are_filled_up_with_silence():
    codec = small()
    codec.fit_statistics([torch.randn(10, 50)])
    picture = codec._picture(torch.zeros(1, 10, 5))
    assert picture.shape == (1, 1, 12, 8)
    rows = torch.cat([torch.arange(10), torch.tensor([9, 9])])
    expected = ((SPEC.silence - codec.mean) / codec.std)[rows]
    torch.testing.assert_close(picture[0, 0, :, 5:], expected.expand(12, 3))
    torch.testing.assert_close(picture[0, 0, 10:], expected[10:].expand(2, 8))


def test_it_learns_eight_mels():
    codec = small(restart="encoder", decay=0.9)
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(8, 2, 4, generator=generator).sign()
    notes = 3 * signs.repeat_interleave(5, dim=1).repeat_interleave(4, dim=2)
    codec.fit_statistics(list(notes))
    optimizer = torch.optim.Adam(codec.parameters(), lr=1e-2)
    codec.train()
    first = None
    for _ in range(60):
        step = codec(notes, generator)
        error = (step.made - step.wanted).abs().mean()
        first = first or error.item()
        optimizer.zero_grad()
        (error + sum(step.quantized.losses.values())).backward()
        optimizer.step()
    codec.eval().steps_trained.fill_(60)
    decoded = codec.decode(codec.encode(notes))
    assert ((decoded - notes) / codec.std).abs().mean() < 0.4 * first


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"quantizer": {"size": 4}}, '"quantizer.dim" is missing'),
        ({"mel": None}, "mel"),
        ({"width": 0}, "width"),
        ({"widht": 4}, 'did you mean "width"'),
    ],
)
def test_wrong_settings_are_named(wrong, said):
    values = {"mel": SPEC.model_dump(), "quantizer": {"size": 4, "dim": 2}, **wrong}
    with pytest.raises(ModelError, match=said):
        SpectrogramCodecConfig.parse(values, "here")
