"""A bottleneck without codes: a few numbers with noise on them, for priors that make continuous latents.

The variational autoencoder (Kingma and Welling, 2014, arXiv 1312.6114) as latent diffusion uses it (Rombach et al.,
2022, arXiv 2112.10752): a mean and a variance for each number, a draw from them in training, and a light pull towards
the unit Gaussian, so that the latent has no gaps and the same scale everywhere.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from cymatic.batch_shard import BatchShard
from cymatic.config import Config
from cymatic.errors import Error
from cymatic.nn.linear import Linear
from cymatic.nn.processes import total
from cymatic.quantizers.quantized import Quantized

NARROWEST, WIDEST = -30.0, 20.0  # the logarithm of a variance


class GaussianBottleneckConfig(Config):
    """`dim` numbers become `latent` ones, and `dim` again.

    kl: the weight of the divergence from the unit Gaussian, in nats a number. decay: of the running mean and variance
    by which `to_latent` scales, a batch.
    """

    kind: Literal["gaussian"] = "gaussian"
    dim: int = Field(gt=0, le=8192)
    latent: int = Field(default=32, gt=0, le=8192)
    kl: float = Field(default=0.01, ge=0)
    decay: float = Field(default=0.99, ge=0, lt=1)


class GaussianBottleneck(nn.Module):
    """`z` `[batch, dim, *places]` -> `latent` numbers a place, drawn around their means -> `[batch, dim, *places]`.

    What it gives is a `Quantized` like any quantizer's, so it can be trained in the same place. It has no levels:
    `codes` are int64 `[batch, 0, *places]`, none. What a prior learns is not codes but `to_latent(z)`, and
    `from_latent` brings back what the decoder reads.
    """

    config_class: ClassVar[type[GaussianBottleneckConfig]] = GaussianBottleneckConfig
    compares_vectors: ClassVar[bool] = False  # whether a code is the nearest vector of a codebook, level by level
    has_levels: ClassVar[bool] = True  # codes have an axis of levels
    seen: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, config: GaussianBottleneckConfig) -> None:
        super().__init__()
        self.config = config
        self.in_proj = Linear(config.dim, 2 * config.latent)
        self.out_proj = Linear(config.latent, config.dim)
        # Running sums of the numbers' powers 0, 1 and 2.
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("first", torch.zeros(config.latent))
        self.register_buffer("second", torch.zeros(config.latent))

    @property
    def levels(self) -> int:
        """Codes of a place: none."""
        return 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has to choose from."""
        return ()

    def forward(
        self,
        z: Float[Tensor, "batch dim *places"],
        generator: torch.Generator | None = None,
        mask: Bool[Tensor, "batch *places"] | None = None,
        shard: BatchShard | None = None,
    ) -> Quantized:
        """`kl (m^2 + s^2 - log s^2 - 1) / 2`, the mean over valid places and numbers, as "kl".

        In training the numbers are `m + s e` with e from `generator`, for a `shard` of a batch what its items would
        get in the whole one; in eval mode they are m. Places where `mask` is False count in no loss and no statistic.
        Raises Error in training without a generator.
        """
        mean, spread = self._gaussian(z)
        numbers = mean
        if self.training:
            numbers = mean + (spread / 2).exp() * self._noise(mean, generator, shard)
            self._follow(numbers.detach(), mask)
        nats = (mean.square() + spread.exp() - spread - 1).mean(-1) / 2
        nats = nats.mean() if mask is None else (nats * mask).sum() / mask.sum().clamp_min(1)
        codes = torch.zeros(len(z), 0, *z.shape[2:], dtype=torch.int64, device=z.device)
        return Quantized(self.out_proj(numbers).movedim(-1, 1), codes, {"kl": self.config.kl * nats})

    @torch.no_grad()
    def to_latent(self, z: Float[Tensor, "batch dim *places"]) -> Float[Tensor, "batch latent *places"]:
        """The means, scaled so that over what it was trained on each number has mean 0 and variance 1."""
        middle, width = self._scale()
        return ((self._gaussian(z)[0] - middle) / width).movedim(-1, 1)

    def from_latent(self, latent: Float[Tensor, "batch latent *places"]) -> Float[Tensor, "batch dim *places"]:
        """What a decoder reads. Raises Error for another number of numbers."""
        if latent.shape[1] != self.config.latent:
            raise Error(f"a latent of {latent.shape[1]} numbers was given; this codec's have {self.config.latent}")
        middle, width = self._scale()
        return self.out_proj(latent.movedim(1, -1) * width + middle).movedim(-1, 1)

    def _gaussian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances, `[batch, *places, latent]` each."""
        mean, spread = self.in_proj(z.movedim(1, -1)).float().chunk(2, dim=-1)
        return mean, spread.clamp(NARROWEST, WIDEST)

    def _noise(self, like: Tensor, generator: torch.Generator | None, shard: BatchShard | None) -> Tensor:
        if generator is None:
            raise Error("this bottleneck draws random numbers in training; give it a generator")
        drawn = torch.randn(len(like) if shard is None else shard.items, *like.shape[1:], generator=generator)
        return (drawn if shard is None else shard.take(drawn)).to(like.device)

    @torch.no_grad()
    def _follow(self, numbers: Tensor, mask: Tensor | None) -> None:
        rows = numbers.flatten(0, -2) if mask is None else numbers[mask]
        sums = total(torch.cat([rows.new_full((1,), len(rows)), rows.sum(0), rows.square().sum(0)]))
        if sums[0] == 0:  # nothing but padding
            return
        first, second = (sums[1:] / sums[0]).chunk(2)
        for held, new in ((self.seen, torch.ones_like(self.seen)), (self.first, first), (self.second, second)):
            held.lerp_(new, 1 - self.config.decay)

    def _scale(self) -> tuple[Tensor, Tensor]:
        """Mean and spread of each number; 0 and 1 while nothing was seen."""
        if not self.seen:
            return self.first, torch.ones_like(self.first)
        middle = self.first / self.seen
        return middle, (self.second / self.seen - middle.square()).clamp_min(1e-8).sqrt()
