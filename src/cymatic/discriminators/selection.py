"""Which discriminators a step is played against: all of them, or one at a time, more often the ones that are hard to
fool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from cymatic.config import Config
from cymatic.errors import Error
from cymatic.nn.processes import processes, total


class SelectionConfig(Config):
    """`all` discriminators at each step; or by `difficulty`, one for `every` steps. `memory`: of the running losses."""

    kind: Literal["all", "difficulty"] = "all"
    every: int = Field(default=100, ge=1)
    memory: float = Field(default=0.99, ge=0, lt=1)
    temperature: float = Field(default=1.0, gt=0)


class DiscriminatorSelection(nn.Module):
    """Draws discriminator j with `p_j = softmax(e_j / temperature)`, `e_j` the running loss of the generator against
    it.

    This is what Lumen (audio_generation, 2023) means to do; there, a wrong key makes all discriminators equally likely.
    The state is in buffers, so a run goes on where it stopped. Where nothing is known of a discriminator yet, it counts
    as hard as the hardest.
    """

    energies: Tensor
    tried: Tensor
    chosen: Tensor

    def __init__(self, config: SelectionConfig, discriminators: int) -> None:
        super().__init__()
        self.config, self.discriminators = config, discriminators
        self.register_buffer("energies", torch.zeros(discriminators))
        self.register_buffer("tried", torch.zeros(discriminators, dtype=torch.bool))
        self.register_buffer("chosen", torch.tensor(-1))

    @property
    def chances(self) -> Float[Tensor, " discriminators"]:
        """How likely each discriminator is to be drawn next."""
        known = self.energies[self.tried]
        hardest = known.max() if len(known) else self.energies.new_zeros(())
        return torch.where(self.tried, self.energies, hardest).div(self.config.temperature).softmax(0)

    def which(self, step: int, generator: torch.Generator) -> tuple[int, ...]:
        """The discriminators of this step. All processes give a generator of the same state, so they agree."""
        if self.config.kind == "all":
            return tuple(range(self.discriminators))
        if step % self.config.every == 0 or self.chosen < 0:
            self.chosen.copy_(torch.multinomial(self.chances.cpu(), 1, generator=generator)[0])
        return (int(self.chosen),)

    @torch.no_grad()
    def learn(self, which: Sequence[int], losses: Sequence[Tensor]) -> None:
        """Takes in what the generator lost against each of `which`, as the mean over processes. What is not finite is
        left out. Raises Error where the two are not as many."""
        if len(which) != len(losses):
            raise Error(f"{len(losses)} losses were given for {len(which)} discriminators; give one for each")
        told = total(torch.stack([loss.detach().float() for loss in losses])) / processes()
        for discriminator, loss in zip(which, told.to(self.energies), strict=True):
            if loss.isfinite():
                memory = self.config.memory if self.tried[discriminator] else 0.0
                self.energies[discriminator] = memory * self.energies[discriminator] + (1 - memory) * loss
                self.tried[discriminator] = True
