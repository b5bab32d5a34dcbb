"""The task of training a prior over codes together with the encoder of its condition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from cymatic.codecs.spectrogram import SpectrogramCodec
from cymatic.data.codes import Coded, CodesBatch, codes_in_order
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.hub.parts import save_part
from cymatic.priors.gpt import GPTConfig, GPTPrior
from cymatic.priors.gpt_vae import GPTVAE, GPTVAEConfig, GPTVAEShape
from cymatic.seeds import mixed
from cymatic.training.muon import groups_of
from cymatic.training.recipe import MelGPTRecipe, TrainingSettings


class CodesTask(nn.Module):
    """A text encoder and a prior over codes as one module whose `forward` is the loss of a batch."""

    stage = "prior"
    betas = (0.9, 0.95)
    keeps_best = True

    def __init__(self, recipe: MelGPTRecipe, codec: SpectrogramCodec, *, longest: int) -> None:
        super().__init__()
        torch.manual_seed(mixed(recipe.training.seed, 0))
        self.condition_dropout, dim = recipe.training.condition_dropout, recipe.text.dim
        self.text = TextEncoder(TextConfig(dim=dim))
        shape = {**recipe.prior.model_dump(), "codes": codec.config.quantizer.size, "rows": codec.rows}
        shape.update(longest=longest, cond_dim=dim)
        self.prior: GPTPrior | GPTVAE
        if isinstance(recipe.prior, GPTVAEShape):
            self.prior = GPTVAE(GPTVAEConfig(**shape))
        else:
            self.prior = GPTPrior(GPTConfig(**shape))

    def forward(self, batch: CodesBatch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of one batch."""
        share = batch.share
        torch.manual_seed(mixed(seed, share.rank) if share and share.rank else seed)  # for dropout
        generator = torch.Generator().manual_seed(seed)
        cond = self.text(batch.captions).drop(self.condition_dropout, generator, share)
        device = self.prior.steps_trained.device
        return self.prior.loss(batch.codes.to(device), batch.columns.to(device), cond, generator, share)

    @torch.no_grad()
    def measure(self, clips: Sequence[Coded], batch: int) -> dict[str, float]:
        """Mean terms over the codes of `clips`; the modules must be in eval mode."""
        generator = torch.Generator().manual_seed(1)
        sums: dict[str, float] = {}
        device, count = self.prior.steps_trained.device, 0
        for piece in codes_in_order(clips, batch):
            weight = int(piece.columns.sum())
            terms = self.prior.loss(
                piece.codes.to(device), piece.columns.to(device), self.text(piece.captions), generator
            )
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.item() * weight
            count += weight
        return {name: value / count for name, value in sums.items()}

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Muon's steps for the matrices inside the blocks, AdamW's for the rest."""
        inside = [
            cast(nn.Parameter, layer.weight)
            for blocks in self.prior.stacks()
            for layer in blocks.modules()
            if isinstance(layer, nn.Linear)
        ]
        return groups_of(self, settings, inside)

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the parts as they stand into `run`, marked as trained for `steps`."""
        self.prior.steps_trained.fill_(steps)
        save_part(run / "text", self.text)
        save_part(run / "prior", self.prior)
