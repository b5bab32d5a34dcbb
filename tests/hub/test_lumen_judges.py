"""Lumen's judges and mel loss against its own numbers."""

import json

import numpy as np
import pytest
import torch

from cymatic.errors import ModelError
from cymatic.hub.lumen_judges import LumenSpectrogramDiscriminator, LumenWaveformDiscriminator
from cymatic.hub.lumen_losses import WINDOWS, lumen_mel, lumen_mel_loss, pre_emphasis


def numbers(folder, name):
    return {k: torch.from_numpy(v) for k, v in np.load(folder / f"{name}.npz").items()}


@pytest.fixture(scope="module")
def judges(fixtures_dir):
    return torch.load(fixtures_dir / "seed_discriminators" / "discs.pt", weights_only=True)


@pytest.mark.parametrize("which", ["wave_block", "stft"])
@torch.no_grad()
def test_the_judges_say_what_lumens_said(fixtures_dir, judges, which):
    folder = fixtures_dir / "seed_discriminators"
    judge = (
        LumenWaveformDiscriminator(judges[which], scale=2)
        if which == "wave_block"
        else LumenSpectrogramDiscriminator(judges[which])
    )
    said, features = judge(numbers(folder, "inputs")["wave"])
    expected = numbers(folder, "expected")
    atol = json.loads((folder / "fixture.json").read_text())["suggested_atol"]
    assert len(features) == sum(name.startswith(f"{which}/feature") for name in expected)
    for name, found in [("out", said), *((f"feature_{i}", feature) for i, feature in enumerate(features))]:
        torch.testing.assert_close(found, expected[f"{which}/{name}"], atol=atol[f"{which}/{name}"], rtol=0)


@pytest.mark.parametrize("which", ["wave_block", "stft"])
def test_every_tensor_matters(judges, which):
    build = (
        (lambda t: LumenWaveformDiscriminator(t, scale=2)) if which == "wave_block" else LumenSpectrogramDiscriminator
    )
    wave = torch.randn(1, 1, 800, generator=torch.Generator().manual_seed(0))
    before, _ = build(judges[which])(wave)
    for name, tensor in judges[which].items():
        after, _ = build(judges[which] | {name: 1.5 * tensor})(wave)
        assert not torch.equal(before, after), name


def test_other_tensors_are_refused(judges):
    wave, stft = judges["wave_block"], judges["stft"]
    for tensors in (stft, {**wave, "extra.bias": torch.zeros(3)}, {k: v for k, v in wave.items() if "_u" not in k}):
        with pytest.raises(ModelError, match="is no layer of Lumen's judges"):
            LumenWaveformDiscriminator(tensors, scale=1)
    with pytest.raises(ModelError, match="wrong shape"):
        LumenWaveformDiscriminator({**wave, "layers.1.0.weight_u": torch.zeros(5)}, scale=1)
    with pytest.raises(ModelError, match="missing: final_conv"):
        LumenSpectrogramDiscriminator({k: v for k, v in stft.items() if not k.startswith("final_conv")})
    with pytest.raises(ModelError, match="no tensors"):
        LumenSpectrogramDiscriminator({})


def test_the_mel_loss_is_lumens(fixtures_dir):
    folder = fixtures_dir / "seed_losses"
    inputs, expected = numbers(folder, "inputs"), numbers(folder, "expected")
    atol = json.loads((folder / "fixture.json").read_text())["suggested_atol"]
    for window in WINDOWS:
        found = lumen_mel(inputs["wave"][:1], window, 24_000)
        torch.testing.assert_close(found, expected[f"mel_{window}"], atol=atol[f"mel_{window}"], rtol=1e-4)
    fake = inputs["wave_hat"].requires_grad_()
    loss = 0.01 * lumen_mel_loss(inputs["wave"], fake, 24_000)
    torch.testing.assert_close(loss.detach(), expected["mel_loss_log_scaled"], atol=3e-6, rtol=0)
    loss.backward()
    torch.testing.assert_close(fake.grad, expected["grad_mel_loss"], atol=4e-6, rtol=0)


def test_pre_emphasis_is_lumens(fixtures_dir):
    folder = fixtures_dir / "seed_losses"
    wave, expected = np.load(folder / "inputs.npz")["wave"], np.load(folder / "expected.npz")["preemphasis"]
    torch.testing.assert_close(pre_emphasis(torch.from_numpy(wave)), torch.from_numpy(expected), atol=9e-6, rtol=0)
