"""The task of aligning two or more encoders: vectors of one item come to lie together, those of others apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cymatic.data.batches import CAPTION, Batch, in_order
from cymatic.data.examples import Example
from cymatic.encoders.align import LOSSES, recall
from cymatic.hub.parts import WEIGHTS, load_weights, save_part
from cymatic.seeds import mixed
from cymatic.training.muon import groups_of
from cymatic.training.settings import TrainingSettings
from cymatic.training.stages import AlignmentStage

MOST_MEASURED = 512  # items, among which each is looked for
TARGET = "target"


class AlignmentTask(nn.Module):
    """Encoders by role, and the contrastive loss of each pair of roles, as one module with one loss.

    The first role is the target of the batches. Items with the same caption count as one, where the captions are not
    themselves what is aligned: neither is pushed away from the other.
    """

    keeps_best = True
    full_from = 0
    rounds = 1
    steps: Tensor

    def __init__(self, stage: AlignmentStage, encoders: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.stage, self.roles = stage, list(encoders)
        self.total_steps: int | None = stage.training.steps
        self.encoders = nn.ModuleDict(encoders)
        self.losses = nn.ModuleDict({"-".join(pair): LOSSES[stage.loss]() for pair in combinations(self.roles, 2)})
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}`: the mean over the pairs of roles."""
        torch.manual_seed(mixed(seed, batch.shard.rank) if batch.shard is not None else seed)  # for dropout
        terms = self._terms(self._vectors(batch), same(batch.captions))
        if self.training:
            self.steps += 1
        return terms

    def _vectors(self, batch: Batch) -> dict[str, Tensor]:
        device = self.steps.device
        vectors = {}
        for place, role in enumerate(self.roles):
            inputs = batch.targets() if place == 0 and role != CAPTION else batch.inputs(role)
            given = inputs if isinstance(inputs, list) else inputs.to(device)
            vectors[role] = self.encoders[role](given).vector
        return vectors

    def _terms(self, vectors: Mapping[str, Tensor], alike: Tensor) -> dict[str, Tensor]:
        terms = {
            pair: loss(*(vectors[role] for role in roles), alike.to(self.steps.device))
            for (pair, loss), roles in zip(self.losses.items(), combinations(self.roles, 2), strict=True)
        }
        return {**terms, "loss": torch.stack(list(terms.values())).mean()}

    @torch.no_grad()
    def measure(self, held_out: Sequence[Example], batch: int, frames: int | None = None) -> dict[str, float]:
        """The loss among items held out, and the recall in the first ten of each pair of roles, both ways."""
        some = held_out[:: max(1, len(held_out) // MOST_MEASURED)][:MOST_MEASURED]
        vectors: dict[str, list[Tensor]] = {role: [] for role in self.roles}
        captions: list[str] = []
        for part in in_order(some, batch, frames):
            captions += part.captions
            for role, found in self._vectors(part).items():
                vectors[role].append(found)
        whole = {role: torch.cat(found) for role, found in vectors.items()}
        alike = same(captions).to(self.steps.device)
        scores = {"loss": self._terms(whole, alike)["loss"].item()}
        for a, b in combinations(self.roles, 2):
            similarity = whole[a] @ whole[b].T
            scores[f"{a}-{b}@10"] = recall(similarity, alike, 10)
            scores[f"{b}-{a}@10"] = recall(similarity.T, alike.T, 10)
        return scores

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, Any]]:
        """AdamW's steps for all."""
        return groups_of(self, settings, [])

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes each encoder as it stands into `run`, under its role."""
        for role, encoder in self.encoders.items():
            save_part(run / role, encoder)

    def load_parts(self, run: Path) -> None:
        """Fills each encoder with what `save_parts` wrote into `run`. Raises ModelError where one does not fit."""
        for role, encoder in self.encoders.items():
            load_weights(encoder, run / role / WEIGHTS)


def same(captions: Sequence[str]) -> Tensor:
    """Which items of a batch count as one: each with itself, and those of one caption that says something."""
    keys = [caption or f"\0{i}" for i, caption in enumerate(captions)]
    return torch.tensor([[a == b for b in keys] for a in keys], dtype=torch.bool)
