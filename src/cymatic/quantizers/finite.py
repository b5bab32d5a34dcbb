"""Codes without a codebook: places of a fixed grid, by rounding (Mentzer et al., 2023, FSQ, arXiv 2309.15505) or by
sign (Yu et al., 2023, LFQ, arXiv 2310.05737).

Several levels refine each other: each codes what the one before left over, on a grid as much finer as that can be.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator
from torch import Tensor, nn

from cymatic.batch_shard import BatchShard
from cymatic.config import Config
from cymatic.nn.linear import Linear
from cymatic.nn.processes import total
from cymatic.quantizers.learning import check_codes, check_levels, checked_levels, levels_used
from cymatic.quantizers.quantized import Quantized

JOINT_BITS = 10  # whose joint distribution is counted out; more bits are taken in groups, as LFQ's paper does


class FiniteScalarQuantizerConfig(Config):
    """steps: into how many each of a few numbers is rounded; a level has their product of codes.

    dropout: the share of a batch's items that in training use the first levels only, 1 to all of them alike.
    """

    kind: Literal["finite"] = "finite"
    levels: int = Field(default=1, ge=1, le=16)
    steps: tuple[int, ...] = Field(default=(8, 5, 5, 5), min_length=1, max_length=16)
    dim: int = Field(gt=0, le=8192)
    dropout: float = Field(default=0.0, ge=0, le=1)

    @field_validator("steps")
    @classmethod
    def _countable(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if min(steps) < 2 or math.prod(steps) > 2**20:
            raise ValueError("there are at least 2 steps for each number and at most 1048576 codes in a level")
        return steps


class LookupFreeQuantizerConfig(Config):
    """bits: the numbers of which the signs are kept; a level has `2^bits` codes.

    beta: the weight of `|x - sg(q)|^2`. entropy: the weight of `E H(c|x) - diversity * H(c)`, in nats, which makes the
    choices sure and all codes used; temperature: of the choice c given x that it speaks of.
    dropout: the share of a batch's items that in training use the first levels only, 1 to all of them alike.
    """

    kind: Literal["lookup-free"] = "lookup-free"
    levels: int = Field(default=1, ge=1, le=16)
    bits: int = Field(default=10, ge=1, le=18)
    dim: int = Field(gt=0, le=8192)
    beta: float = Field(default=0.25, ge=0)
    entropy: float = Field(default=0.1, ge=0)
    diversity: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, le=1)


class FiniteScalarQuantizer(nn.Module):
    """`z` `[batch, dim, *places]` -> `levels` codes for each place, and what they stand for together.

    A projection gives as many numbers as there are `steps`, and `tanh` brings them into -1..1. A level cuts that into
    L equal steps and takes the middle of one, `(2 c + 1) / L - 1`; what is left lies in -1/L..1/L and is, L times as
    large, what the next level cuts. (The paper rounds `tanh(x) (L - 1) / 2`, so its outermost steps are half as wide,
    which leaves nothing of one width to cut again.) The code counts the steps of all numbers, the first one fastest.
    """

    config_class: ClassVar[type[FiniteScalarQuantizerConfig]] = FiniteScalarQuantizerConfig
    compares_vectors: ClassVar[bool] = False  # whether a code is the nearest vector of a codebook, level by level
    has_levels: ClassVar[bool] = True  # codes have an axis of levels
    steps: Tensor

    def __init__(self, config: FiniteScalarQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps", torch.tensor(config.steps), persistent=False)
        self.in_proj = Linear(config.dim, len(config.steps))
        self.out_proj = Linear(len(config.steps), config.dim)

    @property
    def levels(self) -> int:
        """How many codes a place has."""
        return self.config.levels

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has to choose from."""
        return (math.prod(self.config.steps),) * self.config.levels

    def forward(
        self,
        z: Float[Tensor, "batch dim *places"],
        generator: torch.Generator | None = None,
        mask: Bool[Tensor, "batch *places"] | None = None,
        shard: BatchShard | None = None,
    ) -> Quantized:
        """There are no losses, for nothing but the projections is learned, and those from what `z` is used for.

        With dropout all codes of an item are given, and `z` holds those levels that it was to use. Raises Error where
        there is something to draw and no generator.
        """
        with torch.autocast(z.device.type, enabled=False):
            bounded = self._bounded(z)
            codes, parts = self._coded(bounded.detach(), self.config.levels)
            valid = torch.ones(codes[0].shape, dtype=torch.bool, device=z.device) if mask is None else mask
            dropout = self.config.dropout if self.training else 0.0
            used = levels_used(self.config.levels, dropout, valid, generator, shard)
            given = _summed(parts, used if dropout else None) + (bounded - bounded.detach())
            return Quantized(self.out_proj(given).movedim(-1, 1), torch.stack(codes, 1), {})

    @torch.no_grad()
    def encode(
        self, z: Float[Tensor, "batch dim *places"], levels: int | None = None
    ) -> Int[Tensor, "batch levels *places"]:
        """The codes alone, of the first `levels` or of all. Raises Error for more levels than there are."""
        with torch.autocast(z.device.type, enabled=False):
            return torch.stack(self._coded(self._bounded(z), checked_levels(levels, self.config.levels))[0], 1)

    def lookup(self, codes: Int[Tensor, "batch levels *places"]) -> Float[Tensor, "batch dim *places"]:
        """What the codes of all levels, or of the first ones, stand for.

        Raises Error for a code that there is not, and for more levels than there are.
        """
        check_levels(codes, self.config.levels)
        check_codes(codes, self.sizes[0])
        parts = [self._part(codes[:, level], level) for level in range(codes.shape[1])]
        return self.out_proj(_summed(parts)).movedim(-1, 1)

    def _bounded(self, z: Tensor) -> Tensor:
        return self.in_proj(z.float().movedim(1, -1)).tanh()

    def _coded(self, residual: Tensor, levels: int) -> tuple[list[Tensor], list[Tensor]]:
        codes, parts = [], []
        for level in range(levels):
            finer = self.steps.float() ** level
            places = ((residual * finer + 1) / 2 * self.steps).floor().long()
            places = torch.minimum(places.clamp_min(0), self.steps - 1)
            codes.append((places * _weights(self.steps)).sum(-1))
            parts.append(self._part(codes[-1], level))
            residual = residual - parts[-1]
        return codes, parts

    def _part(self, codes: Tensor, level: int) -> Tensor:
        places = codes[..., None] // _weights(self.steps) % self.steps
        return ((2 * places + 1) / self.steps - 1) / self.steps.float() ** level


class LookupFreeQuantizer(nn.Module):
    """`z` `[batch, dim, *places]` -> `levels` codes for each place, and what they stand for together.

    A projection gives `bits` numbers, and level l keeps of each the sign of what is left of it: `q = sign(r) / 2^l`.
    The code has a bit for each, the first one the lowest.
    """

    config_class: ClassVar[type[LookupFreeQuantizerConfig]] = LookupFreeQuantizerConfig
    compares_vectors: ClassVar[bool] = False  # whether a code is the nearest vector of a codebook, level by level
    has_levels: ClassVar[bool] = True  # codes have an axis of levels
    weights: Tensor

    def __init__(self, config: LookupFreeQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weights", 2 ** torch.arange(config.bits), persistent=False)
        self.in_proj = Linear(config.dim, config.bits)
        self.out_proj = Linear(config.bits, config.dim)

    @property
    def levels(self) -> int:
        """How many codes a place has."""
        return self.config.levels

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has to choose from."""
        return (2**self.config.bits,) * self.config.levels

    def forward(
        self,
        z: Float[Tensor, "batch dim *places"],
        generator: torch.Generator | None = None,
        mask: Bool[Tensor, "batch *places"] | None = None,
        shard: BatchShard | None = None,
    ) -> Quantized:
        """The losses are "commitment", `beta |r - sg(q)|^2`, and "entropy", `E H(c|r) - diversity H(c)` with c drawn
        from `softmax(-|r - q|^2 / temperature)`; means over valid places and levels.

        That choice is one of each bit alone, with `sigmoid(4 r / temperature)` for a positive sign (r and q as many
        times as large as makes q 1), so the first entropy is a sum over bits. More than ten bits are taken in groups
        of ten, as if they were independent, for H(c). H(c) is that of the mean over the whole
        batch, of all processes. Places where `mask` is False get codes, but count in no loss. With dropout all codes
        of an item are given, and `z` holds those levels that it was to use. Raises Error where there is something to
        draw and no generator.
        """
        config = self.config
        with torch.autocast(z.device.type, enabled=False):
            encoded = self.in_proj(z.float().movedim(1, -1))
            codes, parts = self._coded(encoded.detach(), config.levels)
            valid = torch.ones(codes[0].shape, dtype=torch.bool, device=z.device) if mask is None else mask
            dropout = config.dropout if self.training else 0.0
            used = levels_used(config.levels, dropout, valid, generator, shard)
            residual, of_encoder, of_choice = encoded, z.new_zeros(()), z.new_zeros(())
            for level, (part, here) in enumerate(zip(parts, used, strict=True)):
                of_encoder = of_encoder + ((residual - part).square().mean(-1) * here).sum()
                share_here = here.sum() / valid.sum().clamp_min(1)
                of_choice = of_choice + share_here * self._entropy((residual * 2**level)[here])
                residual = residual - part
            given = _summed(parts, used if dropout else None) + (encoded - encoded.detach())
            losses = {
                "commitment": config.beta * of_encoder / (config.levels * valid.sum().clamp_min(1)),
                "entropy": config.entropy * of_choice / config.levels,
            }
            return Quantized(self.out_proj(given).movedim(-1, 1), torch.stack(codes, 1), losses)

    @torch.no_grad()
    def encode(
        self, z: Float[Tensor, "batch dim *places"], levels: int | None = None
    ) -> Int[Tensor, "batch levels *places"]:
        """The codes alone, of the first `levels` or of all. Raises Error for more levels than there are."""
        with torch.autocast(z.device.type, enabled=False):
            encoded = self.in_proj(z.float().movedim(1, -1))
            return torch.stack(self._coded(encoded, checked_levels(levels, self.config.levels))[0], 1)

    def lookup(self, codes: Int[Tensor, "batch levels *places"]) -> Float[Tensor, "batch dim *places"]:
        """What the codes of all levels, or of the first ones, stand for.

        Raises Error for a code that there is not, and for more levels than there are.
        """
        check_levels(codes, self.config.levels)
        check_codes(codes, self.sizes[0])
        parts = [self._part(codes[:, level], level) for level in range(codes.shape[1])]
        return self.out_proj(_summed(parts)).movedim(-1, 1)

    def _coded(self, residual: Tensor, levels: int) -> tuple[list[Tensor], list[Tensor]]:
        codes, parts = [], []
        for level in range(levels):
            codes.append(((residual > 0).long() * self.weights).sum(-1))
            parts.append(self._part(codes[-1], level))
            residual = residual - parts[-1]
        return codes, parts

    def _part(self, codes: Tensor, level: int) -> Tensor:
        return (codes[..., None].bitwise_and(self.weights).bool().float() * 2 - 1) / 2**level

    def _entropy(self, rows: Tensor) -> Tensor:
        """`E H(c|r) - diversity H(c)` for the `rows` r."""
        config = self.config
        places = total(rows.new_tensor(float(len(rows))))
        if not places:
            return rows.sum()
        logits = 4 * rows / config.temperature
        positive, negative = logits.sigmoid(), (-logits).sigmoid()
        # -p log p - q log q, where log p is log-sigmoid, so that nothing is the logarithm of zero.
        logs = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
        sure = -(positive * logs[0] + negative * logs[1]).sum() / max(1, len(rows))
        diverse = rows.new_zeros(())
        for group in range(0, config.bits, JOINT_BITS):
            joint = rows.new_ones(len(rows), 1)
            for bit in range(group, min(group + JOINT_BITS, config.bits)):
                both = torch.stack([negative[:, bit], positive[:, bit]], 1)
                joint = (both[:, :, None] * joint[:, None]).flatten(1)
            mean = joint.sum(0) / max(1, len(rows))
            # What all processes found, with the gradient of what this one did.
            mean = total(joint.detach().sum(0)) / places + (mean - mean.detach())
            diverse = diverse - torch.special.xlogy(mean, mean.clamp_min(1e-12)).sum()
        return sure - config.diversity * diverse


def _summed(parts: list[Tensor], used: list[Tensor] | None = None) -> Tensor:
    given = torch.zeros_like(parts[0])
    for level, part in enumerate(parts):
        given = given + (part if used is None else part * used[level][..., None])
    return given


def _weights(steps: Tensor) -> Tensor:
    return torch.cat([steps.new_ones(1), steps[:-1].cumprod(0)])
