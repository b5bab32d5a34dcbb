"""What makes mels from captions, for a judge to hear: the trained parts of a run and how they sample."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.codecs.spectrogram import SpectrogramCodec
from cymatic.cond import Cond
from cymatic.data.mels import Clip, in_order
from cymatic.encoders.classes import ClassEncoder
from cymatic.encoders.text import TextEncoder
from cymatic.errors import Error
from cymatic.evaluation.probe import normalised
from cymatic.evaluation.verdict import Heed
from cymatic.hub.parts import load_part
from cymatic.priors.flow import FlowPrior
from cymatic.priors.gpt import GPTPrior
from cymatic.priors.gpt_vae import GPTVAE
from cymatic.training.recipe import CodesSampling, MelGPTRecipe, Recipe, SamplingSettings

STEPS = 6  # of a sampler over mels
AT_ONCE = 8

Mels = list[Float[Tensor, "mels _"]]


@dataclass(frozen=True)
class FlowSampler:
    """A flow over mels."""

    prior: FlowPrior
    settings: SamplingSettings

    @property
    def guidance(self) -> float:
        return self.settings.guidance

    def sample(self, cond: Cond, seeds: Sequence[int], guidance: float) -> Mels:
        mel, frames = self.prior.sample(
            cond,
            seeds,
            guidance=guidance,
            guidance_interval=self.settings.guidance_interval,
            steps=min(self.settings.steps, STEPS),
            sampler=self.settings.sampler,
        )
        return [one[:, :n].cpu() for one, n in zip(mel, frames.tolist(), strict=True)]

    def loss(self, clips: Sequence[Clip], cond: Cond, seed: int) -> float:
        (batch,) = in_order(clips, len(clips))
        device = self.prior.mean.device
        generator = torch.Generator().manual_seed(seed)
        return self.prior.loss(batch.mel.to(device), batch.frames.to(device), cond, generator)["flow"].item()


@dataclass(frozen=True)
class CodesSampler:
    """A prior over codes, and their codec."""

    prior: GPTPrior | GPTVAE
    codec: SpectrogramCodec
    settings: CodesSampling

    @property
    def guidance(self) -> float:
        return self.settings.guidance

    def sample(self, cond: Cond, seeds: Sequence[int], guidance: float) -> Mels:
        how = self.settings
        codes, columns = self.prior.sample(
            cond, seeds, guidance=guidance, temperature=how.temperature, top_k=how.top_k, top_p=how.top_p
        )
        frames = columns * self.codec.config.cell[1]
        mel = self.codec.decode_codes(codes, frames)
        return [one[:, :n].cpu() for one, n in zip(mel, frames.tolist(), strict=True)]

    def loss(self, clips: Sequence[Clip], cond: Cond, seed: int) -> float:
        (batch,) = in_order(clips, len(clips))
        device = self.codec.mean.device
        latent = self.codec.encode(batch.mel.to(device), batch.frames.to(device))
        assert latent.codes is not None
        columns = torch.tensor([self.codec.columns(n) for n in batch.frames.tolist()], device=device)
        generator = torch.Generator().manual_seed(seed)
        return self.prior.loss(latent.codes, columns, cond, generator)["nll"].item()


@dataclass(frozen=True)
class Maker:
    """A text encoder and what samples from its conditions."""

    text: TextEncoder | ClassEncoder
    sampler: FlowSampler | CodesSampler

    @property
    def guidance(self) -> float:
        """As the run samples by default."""
        return self.sampler.guidance

    @torch.no_grad()
    def make(self, wanted: Sequence[tuple[str, int]], until: float, guidance: float | None = None) -> Mels:
        """A mel for each caption and seed, in order, as many as can be begun before `until`; the first in any case.

        Raises Error where they are not finite.
        """
        made: list[Tensor] = []
        while len(made) < len(wanted) and (not made or time.monotonic() < until):
            some = wanted[len(made) : len(made) + (AT_ONCE if made else 1)]  # the first shows how long it takes
            cond = self.text([caption for caption, _ in some])
            mels = self.sampler.sample(
                cond, [seed for _, seed in some], self.guidance if guidance is None else guidance
            )
            if not all(mel.isfinite().all() for mel in mels):
                raise Error("it makes NaN or infinity instead of sound")
            made += mels
        return made

    @torch.no_grad()
    def heed(self, clips: Sequence[Clip]) -> Heed | None:
        """The loss with the captions and with those of other clips; None where all captions are one."""
        captions = sorted({clip.caption for clip in clips})
        if len({normalised(caption) for caption in captions}) < 2:
            return None
        swapped = {caption: captions[(i + len(captions) // 2) % len(captions)] for i, caption in enumerate(captions)}
        ordered = sorted(clips, key=lambda clip: clip.mel.shape[1])
        right = wrong = 0.0
        for number, start in enumerate(range(0, len(ordered), AT_ONCE)):
            some = ordered[start : start + AT_ONCE]
            said = [clip.caption for clip in some]
            right += self.sampler.loss(some, self.text(said), number) * len(some) / len(clips)
            wrong += self.sampler.loss(some, self.text([swapped[one] for one in said]), number) * len(some) / len(clips)
        return Heed(right, wrong, len(clips))


def load_maker(run: Path, recipe: Recipe | MelGPTRecipe, device: torch.device | str = "cpu") -> Maker:
    """What a run has become."""
    if isinstance(recipe, Recipe):
        text = load_part(run / "text", (TextEncoder,)).to(device)
        return Maker(text, FlowSampler(load_part(run / "prior", (FlowPrior,)).to(device), recipe.sampling))
    kinds: tuple[type[GPTPrior] | type[GPTVAE], ...] = (GPTPrior, GPTVAE)
    prior = load_part(run / "prior", kinds).to(device)
    codec = load_part(run / "codec", (SpectrogramCodec,)).to(device)
    encoders: tuple[type[TextEncoder] | type[ClassEncoder], ...] = (TextEncoder, ClassEncoder)
    return Maker(load_part(run / "condition", encoders).to(device), CodesSampler(prior, codec, recipe.sampling))
