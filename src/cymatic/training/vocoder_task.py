"""The task of training a vocoder against discriminators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from cymatic.discriminators.losses import (
    discriminator_loss,
    feature_loss,
    generator_loss,
    matching_loss,
    persuasion_loss,
)
from cymatic.discriminators.output import DiscriminatorOutput
from cymatic.discriminators.sets import Discriminators, melgan_scales, spectrograms_and_periods
from cymatic.discriminators.weight import ramp
from cymatic.errors import Error
from cymatic.hub.parts import save_part
from cymatic.seeds import mixed
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.signal.mel import MelSpec, log_mel, to_log
from cymatic.training.muon import groups_of
from cymatic.training.recipe import JudgeSettings, TrainingSettings
from cymatic.vocoders.melgan import MelGAN, MelGANConfig, MelGANShape
from cymatic.vocoders.vocos import Vocos, VocosConfig, VocosShape

MOST_MEASURED = 72


class VocoderTask(nn.Module):
    """A vocoder and its judges as one module with one loss.

    Both sides step at once: the vocoder's terms see the judges' weights as constants, the judges' term sees the made
    sound as a constant, so the gradient of the sum is each side's own and one optimiser serves both. Of `ranks`
    processes each shows its judges as many pieces; raises Error where that can't be.
    """

    steps: Tensor
    stage = "vocoder"
    keeps_best = False  # the distance held out rises a little while the sound gets better

    def __init__(
        self,
        shape: VocosShape | MelGANShape,
        settings: JudgeSettings,
        spec: MelSpec,
        seed: int,
        *,
        ranks: int = 1,
    ) -> None:
        if settings.judged % ranks:
            raise Error(
                f"judges.judged is {settings.judged}, which {ranks} devices can't share evenly; give a multiple"
            )
        super().__init__()
        self.judged = settings.judged // ranks
        torch.manual_seed(mixed(seed, 0))
        self.settings = settings
        self.vocoder = _built(shape, spec)
        scales = settings.kind == "scales"
        chosen = (melgan_scales if scales else spectrograms_and_periods)(width=settings.judge_width)
        self.judges, self.betas = Discriminators(chosen), (0.5, 0.9) if scales else (0.8, 0.99)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Float[Tensor, "batch 1 samples"], seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}`; nothing is random here but the batch."""
        spec, settings = self.vocoder.config.mel, self.settings
        batch = batch.to(self.steps.device)
        real_mel = log_mel(batch, spec)
        fake = self.vocoder(real_mel)
        own = (to_log(log_mel(fake, spec), spec) - to_log(real_mel, spec)).abs().mean()
        many = multi_scale_mel_distance(fake, batch, spec.rate)
        terms = {"mel": own, "scales": many, "loss": settings.mel_weight * (own + many)}
        if self.steps >= settings.alone:
            some = slice(0, self.judged)
            frozen = {name: p.detach() for name, p in self.judges.named_parameters()}
            real = self.judges(batch[some])
            seen: list[DiscriminatorOutput] = functional_call(self.judges, frozen, (fake[some],))
            terms["judges"] = discriminator_loss(real, self.judges(fake[some].detach()))
            if settings.kind == "scales":
                terms["judges"] = len(real) * terms["judges"]  # their sum, as the others are
                terms["fool"], terms["features"] = persuasion_loss(seen), matching_loss(real, seen)
            else:
                terms["fool"], terms["features"] = generator_loss(seen), feature_loss(real, seen)
            factor = ramp(int(self.steps), settings.alone, settings.judges_warmup)
            terms["loss"] = (
                terms["loss"] + terms["judges"] + factor * (terms["fool"] + settings.feature_weight * terms["features"])
            )
        if self.training:
            self.steps += 1
        return terms

    @torch.no_grad()
    def measure(self, waves: Sequence[Float[Tensor, "1 1 samples"]], batch: int) -> dict[str, float]:
        """Mean log-mel distances over held-out waveforms."""
        spec = self.vocoder.config.mel
        sums = {"loss": 0.0, "mel": 0.0}
        for wave in waves:
            real = wave.to(self.steps.device)
            mel = log_mel(real, spec)
            fake = self.vocoder.train()(mel)
            difference = to_log(log_mel(fake, spec), spec) - to_log(mel, spec)
            sums["mel"] += difference.abs().mean().item() / len(waves)
            sums["loss"] += multi_scale_mel_distance(fake[..., : real.shape[-1]], real, spec.rate).item() / len(waves)
        return sums

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """AdamW's steps for all: Muon's are for deep stacks of matrices. Judges take larger ones, or they fall behind
        a vocoder that knows the mel already."""
        bold = settings.model_copy(update={"learning_rate": settings.learning_rate * self.settings.judge_rate})
        return groups_of(self.vocoder, settings, []) + groups_of(self.judges, bold, [], "discriminators")

    def save_parts(self, run: Path, steps: int) -> None:
        self.vocoder.steps_trained.fill_(steps)
        save_part(run / "vocoder", self.vocoder)


def _built(shape: VocosShape | MelGANShape, spec: MelSpec) -> Vocos | MelGAN:
    """Raises ModelError for a shape that this mel does not fit."""
    values = {"mel": spec, **shape.model_dump()}
    if isinstance(shape, MelGANShape):
        return MelGAN(MelGANConfig.parse(values, "this recipe's vocoder"))
    return Vocos(VocosConfig(**values))


def held_out(waves: Sequence[Float[np.ndarray, " samples"]], rate: int) -> list[Float[Tensor, "1 1 samples"]]:
    """Some of `waves` from all over them, two seconds of each at most: for measuring."""
    some = waves[:: max(1, len(waves) // MOST_MEASURED)][:MOST_MEASURED]
    return [torch.from_numpy(wave[: 2 * rate].astype(np.float32))[None, None] for wave in some]
