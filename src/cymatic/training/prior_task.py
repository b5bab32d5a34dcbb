"""The task of training a prior over mels together with the encoder of its condition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from cymatic.data.augment import Augmenter
from cymatic.data.mels import Batch, Batches, Clip, in_order
from cymatic.data.reading import Example
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.hub.parts import save_part
from cymatic.priors.flow import FlowConfig, FlowPrior
from cymatic.seeds import mixed
from cymatic.signal.mel import MelSpec
from cymatic.training.muon import groups_of
from cymatic.training.recipe import Recipe, TrainingSettings

ROUNDS = 4  # in which `PriorTask.measure` goes over what is held out


class PriorTask(nn.Module):
    """A text encoder and a flow prior as one module whose `forward` is the loss of a batch.

    What is random in a step comes from a generator seeded by the run's seed and the step, so a step is a function of
    the weights alone and a resumed run needs no stored random state.
    """

    stage = "prior"
    betas = (0.9, 0.99)
    keeps_best = True

    def __init__(self, recipe: Recipe, spec: MelSpec) -> None:
        super().__init__()
        torch.manual_seed(mixed(recipe.training.seed, 0))  # the initial weights
        dim = recipe.text.dim
        self.condition_dropout = recipe.training.condition_dropout
        self.text = TextEncoder(TextConfig(dim=dim))
        self.prior = FlowPrior(FlowConfig(mel=spec, cond_dim=dim, **recipe.prior.model_dump()))

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of one batch."""
        shard = batch.shard
        # Dropout inside the network draws from the global generator: other numbers in each process that has a share.
        torch.manual_seed(mixed(seed, shard.rank) if shard and shard.rank else seed)
        generator = torch.Generator().manual_seed(seed)
        cond = self.text(batch.captions).drop(self.condition_dropout, generator, shard)
        device = self.prior.mean.device
        return self.prior.loss(batch.mel.to(device), batch.frames.to(device), cond, generator, shard)

    @torch.no_grad()
    def measure(self, clips: Sequence[Clip], batch: int, *, rounds: int = ROUNDS) -> dict[str, float]:
        """Mean terms over `clips`, with the same noise and times at every call; the modules must be in eval mode.

        The loss is the flow's alone: how likely the lengths are gets worse within steps on few clips, as they are
        guessed more boldly, while what is heard still gets better.
        """
        generator = torch.Generator().manual_seed(1)
        sums: dict[str, float] = {}
        device = self.prior.mean.device
        for piece in in_order(clips, batch):
            for _ in range(rounds):
                terms = self.prior.loss(
                    piece.mel.to(device), piece.frames.to(device), self.text(piece.captions), generator
                )
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.item() * len(piece.captions) / (rounds * len(clips))
        return {**sums, "loss": sums["flow"]}

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Muon's steps for the matrices inside the blocks, AdamW's for what reads, writes and steers."""
        linear = (layer for layer in self.prior.blocks.modules() if isinstance(layer, nn.Linear))
        inside = [cast(nn.Parameter, layer.weight) for layer in linear]
        return groups_of(self, settings, inside)

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the parts as they stand into `run`, marked as trained for `steps`."""
        self.prior.steps_trained.fill_(steps)
        save_part(run / "text", self.text)
        save_part(run / "prior", self.prior)


def batches_of(clips: Sequence[Clip], recipe: Recipe, spec: MelSpec, *, rank: int = 0, ranks: int = 1) -> Batches:
    """The batches of a run, each clip changed as the recipe's `data.augment` says."""
    seed, augment = recipe.training.seed, recipe.data.augment
    own = {id(clip): Example(clip.mel, caption=clip.caption) for clip in clips}
    changed = Augmenter(augment, [own[id(clip)] for clip in clips], spec, mixed(seed, 3))

    def change(clip: Clip, step: int, place: int) -> Clip:
        return Clip(clip.caption, changed(own[id(clip)], step, place).target)

    return Batches(
        clips, recipe.training.batch, mixed(seed, 1), change=change if augment.changes else None, rank=rank, ranks=ranks
    )
