"""Lumen's judges and mel loss against its own numbers."""

import pytest
import torch

from cymatic.errors import ModelError
from tests.oracles.lumen_judges import LumenSpectrogramDiscriminator, LumenWaveformDiscriminator
from tests.oracles.lumen_losses import WINDOWS, lumen_mel, lumen_mel_loss


@pytest.fixture(scope="module")
def discriminators(reference):
    return reference("seed_discriminators")


@pytest.fixture(scope="module")
def judges(discriminators):
    return torch.load(discriminators.folder / "discs.pt", weights_only=True)


def built(discriminators, which, tensors):
    said = discriminators.config
    if which == "wave_block":
        return LumenWaveformDiscriminator(tensors, said["wave"]["scale"], said["wave"]["strides"])
    return LumenSpectrogramDiscriminator(tensors, said["stft"]["win_length"])


@pytest.mark.parametrize("which", ["wave_block", "stft"])
@torch.no_grad()
def test_the_judges_say_what_lumens_said(discriminators, judges, which):
    said, features = built(discriminators, which, judges[which])(discriminators.inputs["wave"])
    assert len(features) == sum(name.startswith(f"{which}/feature") for name in discriminators.expected)
    discriminators.agrees(f"{which}/out", said)
    for i, feature in enumerate(features):
        discriminators.agrees(f"{which}/feature_{i}", feature)


def test_strides_and_window_where_nothing_else_is_said(discriminators, judges):
    wave, waves, stft = discriminators.inputs["wave"], judges["wave_block"], judges["stft"]
    strides = [4 if groups > 1 else 1 for groups in discriminators.config["wave"]["groups"]]
    assert torch.equal(
        LumenWaveformDiscriminator(waves, 2)(wave)[0], LumenWaveformDiscriminator(waves, 2, strides)(wave)[0]
    )
    blocks = len({name.split(".")[1] for name in stft if name.startswith("blocks.")})
    assert LumenSpectrogramDiscriminator(stft).window == stft["final_conv.weight_orig"].shape[-1] * 2 ** (blocks + 1)
    with pytest.raises(ModelError, match=r"99 strides were given for \d+ layers"):
        LumenWaveformDiscriminator(waves, 1, [1] * 99)


@pytest.mark.parametrize("which", ["wave_block", "stft"])
def test_every_tensor_matters(discriminators, judges, which):
    wave = discriminators.inputs["wave"][:1]
    before, _ = built(discriminators, which, judges[which])(wave)
    for name, tensor in judges[which].items():
        after, _ = built(discriminators, which, judges[which] | {name: 1.5 * tensor})(wave)
        assert not torch.equal(before, after), name


def test_other_tensors_are_refused(judges):
    wave, stft = judges["wave_block"], judges["stft"]
    for tensors in (stft, {**wave, "extra.bias": torch.zeros(3)}, {k: v for k, v in wave.items() if "_u" not in k}):
        with pytest.raises(ModelError, match="is no layer of Lumen's judges"):
            LumenWaveformDiscriminator(tensors, scale=1)
    with pytest.raises(ModelError, match="wrong shape"):
        LumenWaveformDiscriminator({**wave, "layers.1.0.weight_u": torch.zeros(999)}, scale=1)
    with pytest.raises(ModelError, match="missing: final_conv"):
        LumenSpectrogramDiscriminator({k: v for k, v in stft.items() if not k.startswith("final_conv")})
    with pytest.raises(ModelError, match="no tensors"):
        LumenSpectrogramDiscriminator({})


def test_the_mel_loss_is_lumens(reference):
    losses = reference("seed_losses")
    rate = losses.config["sample_rate"]
    assert list(WINDOWS) == losses.config["windows"]
    for window in WINDOWS:
        # A power has no bound, so what is near is said of the largest.
        found, wanted = lumen_mel(losses.inputs["wave"][:1], window, rate), losses.expected[f"mel_{window}"]
        torch.testing.assert_close(found, wanted, atol=float(losses.atol[f"mel_{window}"]), rtol=1e-4)
    fake = losses.inputs["wave_hat"].clone().requires_grad_()
    loss = 0.01 * lumen_mel_loss(losses.inputs["wave"], fake, rate)
    losses.agrees("mel_loss_log_scaled", loss)
    loss.backward()
    losses.agrees("grad_mel_loss", fake.grad)
