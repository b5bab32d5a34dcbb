"""The discriminators of a stage as one module: what they learn at a step, and what they teach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cymatic.discriminators.kinds import DISCRIMINATORS
from cymatic.discriminators.losses import (
    Rule,
    discriminator_loss,
    feature_loss,
    generator_loss,
    matching_loss,
    persuasion_loss,
    repulsion_loss,
)
from cymatic.discriminators.output import DiscriminatorOutput, collapse, score_statistics
from cymatic.discriminators.selection import DiscriminatorSelection, SelectionConfig
from cymatic.errors import Error
from cymatic.training.settings import DiscriminatorSettings

REMEMBERED = 50  # batches over which a discriminator is asked whether it still tells anything


class Adversary(nn.Module):
    """Discriminators, which of them a step meets, and whether they have collapsed.

    cond_dim: width of the condition that they know, if any; channels: of the pictures that they see. Of `ranks`
    processes each shows them as many items; raises Error where that can't be.
    """

    statistics: Tensor
    met: Tensor

    def __init__(
        self, settings: DiscriminatorSettings, *, cond_dim: int | None = None, channels: int = 1, ranks: int = 1
    ) -> None:
        super().__init__()
        if settings.segments is not None and settings.segments % ranks:
            raise Error(
                f"discriminators.segments is {settings.segments}, which {ranks} devices can't share evenly; give a "
                "multiple"
            )
        self.settings = settings
        self.segments = None if settings.segments is None else settings.segments // ranks
        kind = DISCRIMINATORS[settings.kind]
        self.waveforms = kind.waveforms
        built: Any = kind.build(settings.width, cond_dim, channels)
        self.discriminators = built
        self.window: int = built.window  # samples of the longest that one looks at; 0: none
        count = len(built.discriminators)
        self.selection = DiscriminatorSelection(SelectionConfig(kind=settings.selection, every=settings.every), count)
        # As buffers, for they are asked about in the average of the weights, which has the buffers of the newest.
        self.register_buffer("statistics", torch.zeros(count, REMEMBERED, 3))
        self.register_buffer("met", torch.zeros(count, dtype=torch.int64))

    def forward(
        self, wanted: Tensor, made: Tensor, step: int, generator: torch.Generator, vector: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Adversarial loss and feature matching, whose gradients reach `made` alone, and the discriminators' own loss,
        whose gradient reaches their weights alone."""
        settings, some = self.settings, slice(0, self.segments)
        real, fake = wanted[some], made[some]
        known = None if vector is None else vector[some]
        which = self.selection.which(step, generator)
        of_real: list[DiscriminatorOutput] = self.discriminators(real, which, known)
        of_made: list[DiscriminatorOutput] = self.discriminators(fake.detach(), which, known)
        frozen = {name: p.detach() for name, p in self.discriminators.named_parameters()}
        constant = None if known is None else known.detach()
        seen: list[DiscriminatorOutput] = functional_call(self.discriminators, frozen, (fake, which, constant))
        rule: Rule = "squares" if settings.loss == "squares" else "hinge"
        own = discriminator_loss(of_real, of_made, rule)
        if settings.loss == "melgan":
            own = len(of_real) * own  # their sum, as the others are
        if settings.repulsion:
            own = own + repulsion_loss(of_real, of_made, settings.repulsion)
        if self.training:
            self._learn(which, of_real, of_made, seen)
        adversarial, features = _other_side(settings.loss, of_real, seen)
        return adversarial, features, own

    @torch.no_grad()
    def _learn(
        self,
        which: Sequence[int],
        of_real: Sequence[DiscriminatorOutput],
        of_made: Sequence[DiscriminatorOutput],
        seen: Sequence[DiscriminatorOutput],
    ) -> None:
        rule: Rule = "squares" if self.settings.loss == "squares" else "hinge"
        self.selection.learn(which, [generator_loss([one], rule) for one in seen])
        for place, r, f in zip(which, of_real, of_made, strict=True):
            self.statistics[place, self.met[place] % REMEMBERED] = score_statistics(r, f)
            self.met[place] += 1

    @property
    def collapsed(self) -> int:
        """How many discriminators tell nothing any more, by their last scores."""
        known = self.statistics[self.met >= REMEMBERED]
        return sum(collapse(list(one)) is not None for one in known)


def _other_side(
    loss: str, of_real: Sequence[DiscriminatorOutput], seen: Sequence[DiscriminatorOutput]
) -> tuple[Tensor, Tensor]:
    if loss == "melgan":
        return persuasion_loss(seen), matching_loss(of_real, seen)
    if loss == "linear":
        return persuasion_loss(seen) / len(seen), feature_loss(of_real, seen)
    return generator_loss(seen, "squares" if loss == "squares" else "hinge"), feature_loss(of_real, seen)
