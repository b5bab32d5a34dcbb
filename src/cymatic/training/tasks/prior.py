"""The task of training a prior together with the encoder of its condition, whatever the target is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cymatic.cond import Cond
from cymatic.data.batches import Batch, in_order
from cymatic.data.examples import Example
from cymatic.hub.parts import WEIGHTS, load_weights, save_part
from cymatic.pipelines.conditioning import conditioned
from cymatic.pipelines.embed import Embedder
from cymatic.seeds import mixed
from cymatic.training.accumulation import accumulated
from cymatic.training.muon import groups_of
from cymatic.training.settings import TrainingSettings
from cymatic.training.stages import SPACE, PriorStage

OWN = 0.5  # of the items, where the vector is the target's own
AT_ONCE = 2**14  # codes, which take some 2 GB in a prior of 4 M parameters on their way back


class PriorTask(nn.Module):
    """An encoder and a prior as one module whose `forward` is the loss of a batch.

    names: the folders of the run in which encoder and prior are kept. space: of aligned encoders, which learn nothing
    here and are no part of the state. With it the vector of an item is that of its caption or, by a coin, its own
    (`given[SPACE]`), so that whatever lies in the space draws. Batches of more codes than `AT_ONCE` go through a
    few items at a time, with the same gradient.
    """

    keeps_best = True
    full_from = 0
    steps: Tensor

    def __init__(
        self, name: str, stage: PriorStage, encoder: nn.Module, prior: nn.Module, *, kept: str,
        space: Embedder | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.space = space
        self.name, self.kept, self.stage = name, kept, stage
        self.total_steps: int | None = stage.training.steps
        self.encoder: Any = encoder
        self.prior: Any = prior
        self.rounds: int = prior.measuring_rounds  # type: ignore[assignment]
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of one batch."""
        micro_batches = 1
        if not batch.target.is_floating_point() and batch.shard is None:
            micro_batches = min(len(batch), -(-batch.target.numel() // AT_ONCE))
        if micro_batches == 1:
            terms = self._terms(batch, seed)
        else:
            terms = accumulated(
                lambda number: self._terms(batch.micro_batch(number, micro_batches), seed), micro_batches, self
            )
        if self.training:
            self.steps += 1
        return terms

    def _terms(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        shard, device = batch.shard, self.steps.device
        # Dropout inside the network draws from the global generator: other numbers in each process that has a shard.
        torch.manual_seed(mixed(seed, shard.rank) if shard and shard.rank else seed)
        generator = torch.Generator().manual_seed(seed)
        cond = self._condition(batch)
        if self.space is not None:
            cond = self._of_either(cond, batch, generator)
        settings = self.stage.training
        cond = cond.drop(settings.condition_dropout, generator, shard, vector=settings.vector_dropout)
        target, lengths = batch.target.to(device), batch.lengths.to(device)
        return self.prior.loss(target, lengths, cond, generator, shard, step=int(self.steps))

    def _condition(self, batch: Batch) -> Cond:
        return conditioned(self.encoder, self.space, batch.inputs(self.stage.given))

    def _of_either(self, cond: Cond, batch: Batch, generator: torch.Generator) -> Cond:
        """The condition with the target's own vector in half of the items."""
        assert cond.vector is not None
        coins = torch.rand(len(batch) if batch.shard is None else batch.shard.items, generator=generator)
        own = (coins if batch.shard is None else batch.shard.take(coins)).to(cond.device) < OWN
        vectors = batch.inputs(SPACE).values.to(cond.device)  # type: ignore[union-attr]
        return replace(cond, vector=torch.where(own[:, None], vectors, cond.vector))

    @torch.no_grad()
    def measure(self, held_out: Sequence[Example], batch: int, frames: int | None = None) -> dict[str, float]:
        """Mean terms over items held out, with the same noise and times at every call.

        The loss is the prior's `measured` term alone: how likely the lengths are gets worse within steps on few items,
        as they are guessed more boldly, while what is made still gets better. Give items that it `knows`.
        """
        generator = torch.Generator().manual_seed(1)
        sums: dict[str, float] = {}
        total = 0.0
        device = self.steps.device
        for some in in_order(held_out, batch, frames):
            weight = self.prior.weight_of(some.lengths)
            cond = self._condition(some)
            for _ in range(self.rounds):
                terms = self.prior.loss(some.target.to(device), some.lengths.to(device), cond, generator)
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.item() * weight / self.rounds
            total += weight
        means = {name: value / total for name, value in sums.items()}
        return {**means, "loss": means[self.prior.measured]}

    def knows(self, one: Example) -> bool:
        """Whether an item is no longer than any trained on, and under a condition that is known."""
        return self.prior.fits(one.target.shape[-1]) and self.encoder.knows(one.caption)

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, Any]]:
        """Muon's steps for the matrices inside the blocks, AdamW's for what reads, writes and modulates."""
        return groups_of(self, settings, self.prior.matrices())

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the parts as they stand into `run`, marked as trained for `steps`."""
        self.prior.steps_trained.fill_(steps)
        save_part(run / self.kept, self.encoder)
        save_part(run / self.name, self.prior)

    def load_parts(self, run: Path) -> None:
        """Fills the parts with what `save_parts` wrote into `run`. Raises ModelError where it does not fit."""
        load_weights(self.encoder, run / self.kept / WEIGHTS)
        load_weights(self.prior, run / self.name / WEIGHTS)
