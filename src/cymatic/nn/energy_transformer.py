"""A transformer block as an energy that falls: each step walks a sequence downhill, towards what was learned.

Hoover et al., 2023, "Energy Transformer", arXiv 2302.07253. With `g = norm(x)`, the energy of a sequence is

    E(g) = - sum_h 1/b_h sum_q log sum_k exp(b_h q_hq . k_hk)  -  1/2 sum_n sum_m relu(b g_n . w_m)^2

(attention that looks for likeness between places, and a Hopfield network that looks for likeness to memories w), and a
step is `x <- x - a dE/dg`. The norm is `gain (x - mean) / std + shift` with one positive gain, the gradient of a convex
function, so E falls with every small step. With `softmax` memories the second term is `- 1/b sum_n log sum_m exp(b g_n
. w_m)` (Ramsauer et al., 2020, arXiv 2008.02217).
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.config import Config
from cymatic.nn.linear import Linear
from cymatic.nn.rotary import RotaryTables, rotary_tables, rotate

SMALL = 0.002  # the spread of all weights at first, with which a step does next to nothing
EPS = 1e-5


class EnergyTransformerConfig(Config):
    """`steps` of length `step`; `memories`: their number, and `hopfield` how they are compared."""

    dim: int = Field(gt=0, le=8192)
    heads: int = Field(default=8, gt=0, le=256)
    memories: int = Field(default=512, gt=0, le=2**16)
    steps: int = Field(default=10, ge=1, le=256)
    step: float = Field(default=0.1, gt=0)
    hopfield: Literal["relu", "softmax"] = "relu"
    kind: Literal["energy-transformer"] = "energy-transformer"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.dim % (2 * self.heads):
            raise ValueError(f"{self.dim} numbers can't be split into {self.heads} heads of an even width")
        return self


class EnergyTransformer(nn.Module):
    """Latent `[batch, dim, frames]` -> the same after `steps` steps downhill, of any number of frames.

    A regulariser of a latent, before or after a quantizer: it draws what an encoder says towards what it has learned to
    expect. It transmits no codes of its own. All frames look at each other, by rotary positions, so its memory grows
    with the square of their number, and a codec with it looks ahead: it is not streamable.
    """

    streamable = False

    def __init__(self, config: EnergyTransformerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.gain = nn.Parameter(torch.zeros(()))  # its logarithm, as of the two temperatures: all stay positive
        self.shift = nn.Parameter(torch.zeros(dim))
        self.queries = Linear(dim, dim, bias=False)
        self.keys = Linear(dim, dim, bias=False)
        self.heat = nn.Parameter(torch.full((config.heads, 1, 1), -0.5).mul_(torch.tensor(dim / config.heads).log()))
        self.memories = Linear(dim, config.memories, bias=False)
        self.memory_heat = nn.Parameter(torch.zeros(()))
        for layer in (self.queries, self.keys, self.memories):
            nn.init.normal_(layer.weight, std=SMALL)

    def forward(
        self, z: Float[Tensor, "batch dim frames"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch dim frames"]:
        """`mask` is True at frames that count; the others change nothing and stay what they are."""
        x, valid, rotary = z.mT, self._valid(z, mask), self._rotary_tables(z)
        for _ in range(self.config.steps):
            x = x - self.config.step * self.gradient(self.norm(x), valid, rotary)
        return x.mT

    def energy(
        self, z: Float[Tensor, "batch dim frames"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, " batch"]:
        """`E(norm(z))` of each item, over the frames that count."""
        valid, g, b = self._valid(z, mask), self.norm(z.mT), self.memory_heat.exp()
        scores, _, _ = self._scores(g, valid, self._rotary_tables(z))
        of_attention = (scores.logsumexp(-1) / self.heat.exp().squeeze(-1) * valid[:, None]).sum((1, 2))
        likeness = b * self.memories(g)
        if self.config.hopfield == "relu":
            of_memories = likeness.relu().square().sum(-1) / 2
        else:
            of_memories = likeness.logsumexp(-1) / b
        return -of_attention - (of_memories * valid).sum(1)

    def gradient(
        self, g: Float[Tensor, "batch frames dim"], valid: Bool[Tensor, "batch frames"], rotary: RotaryTables
    ) -> Float[Tensor, "batch frames dim"]:
        """dE/dg by formula, so that training can differentiate it again."""
        scores, q, k = self._scores(g, valid, rotary)
        looks = scores.softmax(-1) * valid[:, None, :, None]
        back = (rotary[0], -rotary[1])
        of_q, of_k = (rotate(x, back).transpose(1, 2).flatten(2) for x in (looks @ k, looks.mT @ q))
        b = self.memory_heat.exp()
        likeness = b * self.memories(g)
        found = b * likeness.relu() if self.config.hopfield == "relu" else likeness.softmax(-1)
        uphill = of_q @ self.queries.weight + of_k @ self.keys.weight + found @ self.memories.weight
        return -uphill * valid[..., None]

    def norm(self, x: Float[Tensor, "batch frames dim"]) -> Float[Tensor, "batch frames dim"]:
        """`gain (x - mean) / std + shift`, frame by frame."""
        centred = x - x.mean(-1, keepdim=True)
        return self.gain.exp() * centred * (centred.square().mean(-1, keepdim=True) + EPS).rsqrt() + self.shift

    def _scores(self, g: Tensor, valid: Tensor, rotary: RotaryTables) -> tuple[Tensor, Tensor, Tensor]:
        """`b q . k` `[batch, heads, frames, frames]`, -inf at keys that don't count, and both their sides."""
        q, k = (
            rotate(layer(g).unflatten(-1, (self.config.heads, -1)).transpose(1, 2), rotary)
            for layer in (self.queries, self.keys)
        )
        return (self.heat.exp() * q @ k.mT).masked_fill(~valid[:, None, None], -torch.inf), q, k

    def _rotary_tables(self, z: Tensor) -> RotaryTables:
        return rotary_tables(torch.arange(z.shape[-1], device=z.device), self.config.dim // self.config.heads)

    @staticmethod
    def _valid(z: Tensor, mask: Tensor | None) -> Tensor:
        return torch.ones_like(z[:, 0], dtype=torch.bool) if mask is None else mask
