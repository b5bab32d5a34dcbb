"""What all tasks that play against discriminators do alike: how their pull begins, and whose gradient is clipped."""

import pytest
import torch
from tests.helpers import TINY_CODES, autoencoder_of, batch_of

from cymatic.training.muon import Muon, clip_each_side
from cymatic.training.recipe import make_recipe

ENDLESS = 10**9  # steps of warm-up: discriminators don't pull yet


def waves(items: int = 4) -> torch.Tensor:
    return 0.1 * torch.randn(items, 1, 800, generator=torch.Generator().manual_seed(0))


def wave_codec(warmup: int = 1):
    recipe = make_recipe("starter-codec", [
        "codec.rate=8000", "codec.network={kind: fast, hop: 80, width: 16, encoder: [0, 1], decoder: [1, 0]}",
        "codec.quantizer={kind: residual, levels: 2, size: 16, dim: 8}", "codec.segment=0.1",
        f"codec.discriminators={{kind: spectrograms, width: 4, start: 3, warmup: {warmup}}}",
    ])  # fmt: skip
    return autoencoder_of(recipe), batch_of(waves())


def vocoder(warmup: int = 1):
    recipe = make_recipe("vocoder", [
        "stages.vocoder.part={kind: vocos, mel: voice-8k, width: 16, depth: 1, corrections: 1}",
        f"stages.vocoder.discriminators={{kind: spectrograms, width: 4, start: 3, warmup: {warmup}}}",
        "stages.vocoder.segment=0.1",
    ])  # fmt: skip
    return autoencoder_of(recipe), batch_of(waves())


def spectrogram_codec(warmup: int = 1):
    met = ["codec.discriminators.start=3", f"codec.discriminators.warmup={warmup}"]
    mel = torch.randn(4, 64, 24, generator=torch.Generator().manual_seed(0))
    return autoencoder_of(make_recipe("melspec-gpt-small", [*TINY_CODES, *met])), batch_of(mel, "low tone")


every_task = pytest.mark.parametrize(
    "build", [wave_codec, vocoder, spectrogram_codec], ids=lambda build: build.__name__
)


def loss(build, step: int, warmup: int) -> float:
    task, batch = build(warmup)
    task.steps.fill_(step)
    return task.train()(batch, 0)["loss"].item()


@every_task
def test_discriminators_pull_by_one_ramp(build):
    """The first step that has them pulls by 1 / warmup, the warmup-th by 1."""
    for step, factor in ((3, 1 / 4), (4, 2 / 4), (6, 1.0), (9, 1.0)):
        none, whole, here = (loss(build, step, warmup) for warmup in (ENDLESS, 1, 4))
        assert (here - none) / (whole - none) == pytest.approx(factor, rel=1e-2)


@every_task
def test_a_spike_of_the_discriminators_leaves_the_others_step_as_it_was(build):
    after = []
    for spike in (1.0, 1e6):
        task, batch = build()
        task.steps.fill_(3)
        settings = task.stage.training
        optimizer = Muon(task.parameter_groups(settings), betas=settings.betas)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"]
        task.train()(batch, 0)["loss"].backward()
        theirs = [p for name, p in task.named_parameters() if name.startswith("adversary") and p.grad is not None]
        for p in theirs:
            p.grad.mul_(spike)
        assert clip_each_side(optimizer, 1e-3) > spike * 1e-3
        norm = torch.stack([p.grad.norm() for p in theirs]).norm()
        assert norm == pytest.approx(1e-3, rel=1e-2)
        optimizer.step()
        after.append({name: p.detach() for name, p in task.named_parameters() if not name.startswith("adversary")})
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_a_gradient_that_is_no_number_shows_in_the_norm():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [{"params": weights[:2]}, {"params": weights[2:], "side": "discriminators"}]
    optimizer = Muon(groups, betas=(0.9, 0.99))
    for weight, gradient in zip(weights, (3.0, 4.0, 12.0), strict=True):
        weight.grad = torch.tensor([gradient, 0.0])
    assert clip_each_side(optimizer, 1.0) == pytest.approx(13)
    assert [weight.grad[0].item() for weight in weights] == pytest.approx([0.6, 0.8, 1], abs=1e-5)
    weights[2].grad[0] = float("nan")
    assert not clip_each_side(optimizer, 1.0).isfinite()
    weights[2].grad = None  # as before discriminators come
    assert clip_each_side(optimizer, 1.0) == pytest.approx(1, abs=1e-5)
