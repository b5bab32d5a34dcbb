"""The task of training a prior over codes together with the encoder of its condition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cymatic.cond import Cond
from cymatic.data.codes import Coded, CodesBatch, codes_in_order
from cymatic.encoders.classes import ClassConfig, ClassEncoder
from cymatic.encoders.features import FeatureConfig, FeatureEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import Error
from cymatic.hub.parts import save_part
from cymatic.priors.gpt import GPTConfig, GPTPrior
from cymatic.priors.gpt_vae import GPTVAE, GPTVAEConfig
from cymatic.seeds import mixed
from cymatic.training.accumulation import accumulated
from cymatic.training.muon import groups_of
from cymatic.training.recipe import (
    ClassCondition,
    CodecGPTRecipe,
    FeatureCondition,
    GPTVAESettings,
    MelGPTRecipe,
    TrainingSettings,
)

Encoder = TextEncoder | ClassEncoder | FeatureEncoder
AT_ONCE = 2**14  # codes, which take some 2 GB in a prior of 4 M parameters on their way back


class CodesTask(nn.Module):
    """A condition's encoder and a prior over codes as one module whose `forward` is the loss of a batch.

    `clips` say which classes there are and how wide features are; codes, rows: of the codec, its different codes and
    those in a column; `longest`: columns of the longest sound; `sizes`: of each row's codes, where they differ.
    """

    steps: Tensor
    stage = "prior"
    betas = (0.9, 0.95)
    keeps_best = True

    def __init__(
        self,
        recipe: MelGPTRecipe | CodecGPTRecipe,
        clips: Sequence[Coded],
        *,
        codes: int,
        rows: int,
        longest: int,
        sizes: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        torch.manual_seed(mixed(recipe.training.seed, 0))
        self.condition_dropout = recipe.training.condition_dropout
        self.encoder = encoder_of(recipe, clips)
        size = recipe.prior.model_dump(include={"width", "depth", "heads", "dropout", "pkeep"})
        shape = GPTConfig(codes=codes, rows=rows, longest=longest, sizes=sizes, cond_dim=recipe.condition.dim, **size)
        self.prior: GPTPrior | GPTVAE
        if isinstance(recipe.prior, GPTVAESettings):
            names = {"encoder_depth", "latent", "free_bits", "target", "beta", "kl_start", "warmup"}
            own = recipe.prior.model_dump(include=names)
            self.prior = GPTVAE(GPTVAEConfig(decoder=shape, **own))
        else:
            self.prior = GPTPrior(shape)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: CodesBatch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of one batch, a few items at a time where they have many codes."""
        parts = min(len(batch.codes), -(-batch.codes.numel() // AT_ONCE)) if batch.shard is None else 1
        if parts == 1:
            terms = self._terms(batch, seed)
        else:
            terms = accumulated(lambda part: self._terms(batch.part(part, parts), seed), parts, self)
        if self.training:
            self.steps += 1
        return terms

    def _terms(self, batch: CodesBatch, seed: int) -> dict[str, Tensor]:
        shard = batch.shard
        torch.manual_seed(mixed(seed, shard.rank) if shard and shard.rank else seed)  # for dropout
        generator = torch.Generator().manual_seed(seed)
        cond = self.condition(batch).drop(self.condition_dropout, generator, shard)
        codes, columns = batch.codes.to(self.steps.device), batch.columns.to(self.steps.device)
        return self.prior.loss(codes, columns, cond, generator, shard, step=int(self.steps))

    def condition(self, batch: CodesBatch) -> Cond:
        """What the batch's sounds are to be drawn from. Raises Error where features are wanted and a clip has none."""
        if not isinstance(self.encoder, FeatureEncoder):
            return self.encoder(batch.captions)
        if batch.features is None or len(batch.features) != len(batch.captions):
            raise Error("this model hears from features, and there are clips without; give a folder that has them")
        return self.encoder(batch.features)

    @torch.no_grad()
    def measure(self, clips: Sequence[Coded], batch: int) -> dict[str, float]:
        """Mean terms over the codes of `clips`, by the code; the modules must be in eval mode. `loss` is that of the
        codes alone, given the latent where there is one."""
        generator, clips = torch.Generator().manual_seed(1), self._known(clips)
        sums: dict[str, float] = {}
        count = 0
        for piece in codes_in_order(clips, batch):
            weight = int(piece.columns.sum())
            terms = self.prior.loss(
                piece.codes.to(self.steps.device),
                piece.columns.to(self.steps.device),
                self.condition(piece),
                generator,
            )
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.item() * weight
            count += weight
        means = {name: value / count for name, value in sums.items()}
        return {**means, "loss": means[self.prior.measured]}

    def _known(self, clips: Sequence[Coded]) -> list[Coded]:
        """Those no longer than the longest trained on, of classes that were."""
        longest = self.prior.longest
        known = self.encoder.number if isinstance(self.encoder, ClassEncoder) else None
        return [one for one in clips if one.columns <= longest and (known is None or one.caption in known)]

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Muon's steps for the matrices inside the blocks, AdamW's for the rest."""
        return groups_of(self, settings, self.prior.matrices())

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the parts as they stand into `run`, marked as trained for `steps`."""
        self.prior.steps_trained.fill_(steps)
        save_part(run / "condition", self.encoder)
        save_part(run / "prior", self.prior)


def encoder_of(recipe: MelGPTRecipe | CodecGPTRecipe, clips: Sequence[Coded]) -> Encoder:
    """The encoder that a recipe asks for, untrained."""
    wanted = recipe.condition
    if isinstance(wanted, ClassCondition):
        return ClassEncoder(ClassConfig(names=tuple(sorted({clip.caption for clip in clips})), dim=wanted.dim))
    if isinstance(wanted, FeatureCondition):
        widths = {clip.features.shape[1] for clip in clips if clip.features is not None}
        if len(widths) != 1:
            raise Error("there are no features of one width beside these sounds; give a folder that has them")
        fewer = "cut" if wanted.frames == 212 else "spread"
        config = FeatureConfig(features=widths.pop(), dim=wanted.dim, frames=wanted.frames, fewer=fewer)
        return FeatureEncoder(config)
    return TextEncoder(TextConfig(dim=wanted.dim))
