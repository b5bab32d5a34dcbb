"""MelGAN beyond what every vocoder promises: its size, any ratios, any length, and that it learns."""

import pytest
import torch

from cymatic.errors import ModelError
from cymatic.signal.mel import PRESETS, MelSpec, log_mel
from cymatic.vocoders.melgan import MelGAN, MelGANConfig, melgan

SPEC = PRESETS["voice-8k"]
TINY = MelGANConfig(mel=SPEC, width=64, blocks=2, ratios=(5, 5, 2, 2))


def built(config: MelGANConfig) -> MelGAN:
    torch.manual_seed(0)
    vocoder = MelGAN(config).eval()
    vocoder.steps_trained.fill_(1)
    return vocoder


def test_the_published_size():
    vocoder = MelGAN(melgan())
    assert sum(p.numel() for p in vocoder.parameters()) == pytest.approx(4.27e6, rel=2e-3)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("ratios", "blocks", "least"),
    [((5, 3, 2), 1, 4), ((2, 3, 5), 4, 14), ((7,), 3, 4), ((2, 2), 5, 41), ((3, 3), 3, 4)],
)
def test_any_ratios_and_any_length(ratios, blocks, least):
    hop = int(torch.tensor(ratios).prod())
    spec = MelSpec(rate=8000, n_fft=max(2 * hop, 128), hop=hop, mels=8, fmax=4000)
    config = MelGANConfig(mel=spec, width=16, blocks=blocks, ratios=ratios)
    assert config.min_frames == least
    vocoder = built(config)
    for frames in (1, least - 1, least, least + 3):
        assert vocoder(torch.zeros(2, 8, frames)).shape == (2, 1, frames * hop)


@torch.inference_mode()
def test_a_mel_too_short_to_reflect_is_followed_by_silence():
    vocoder = built(TINY)
    mel = torch.randn(1, SPEC.mels, 2, generator=torch.Generator().manual_seed(0))
    longer = torch.nn.functional.pad(mel, (0, 2), value=SPEC.silence)
    assert TINY.min_frames == 4
    assert torch.equal(vocoder(mel), vocoder(longer)[..., :200])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ratios": [8, 8, 2, 2]}, "multiply to 256 and the mel's hop is 100"),
        ({"ratios": [100, 1]}, "whole numbers from 2"),
        ({"width": 24}, "multiple of 16"),
        ({"blocks": 0}, "blocks"),
    ],
)
def test_impossible_sizes_are_refused(change, said):
    with pytest.raises(ModelError, match=said):
        MelGANConfig.parse({**TINY.model_dump(), **change}, "config.json")


def test_a_gradient_reaches_every_parameter():
    vocoder = MelGAN(TINY)
    mel = torch.randn(2, SPEC.mels, 8, generator=torch.Generator().manual_seed(0))
    (log_mel(vocoder(mel), SPEC) - mel).abs().mean().backward()
    assert not [name for name, p in vocoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


def test_it_learns_eight_tones():
    vocoder = built(TINY).train()
    optimizer = torch.optim.Adam(vocoder.parameters(), lr=1e-3, betas=(0.5, 0.9))
    hz = torch.linspace(240, 1600, 8)[:, None, None]
    mel = log_mel(0.4 * torch.sin(2 * torch.pi * hz * torch.arange(800) / 8000), SPEC)
    errors = []
    for _ in range(45):
        error = (log_mel(vocoder(mel), SPEC) - mel).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.7 * errors[0]
