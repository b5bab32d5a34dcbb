"""Several codebooks, each for what the one before left over (Zeghidour et al., 2021, SoundStream, arXiv 2107.03312).

Level l codes the residual `r_l = z - e_1(c_1) - ... - e_(l-1)(c_(l-1))`, so the codes of fewer levels are the first
ones of more, and the number of levels is the bit rate.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from cymatic.batch_shard import BatchShard
from cymatic.config import Config
from cymatic.errors import Error
from cymatic.nn.linear import Linear
from cymatic.nn.processes import of_the_first, total
from cymatic.quantizers.learning import (
    check_codes,
    check_levels,
    checked_levels,
    levels_used,
    means,
    nearest,
    needed,
    restart,
    some,
)
from cymatic.quantizers.maps import MapConfig, Neighbourhood
from cymatic.quantizers.quantized import Quantized


class ResidualQuantizerConfig(Config):
    """`levels` codebooks of `size` codes each, for vectors of `dim` numbers.

    lookup_dim: the width of the space in which each level compares codes, reached by projections of its own in and out
    (Kumar et al., 2023, DAC, arXiv 2306.06546); none without it.
    metric: of nearness; `cosine` compares directions, and a code still stands for its vector with its length.
    beta: the weight of the encoder's term.
    learned: the codebooks by gradient, or as running means of what chose each code.
    decay: of the running means and counts, a batch.
    restart: whether a code that nobody uses is put on a residual of this batch; `restart_below`: hits a batch, or of an
    even share where that is less than one.
    map: where neighbouring codes of a level are to mean alike: each vector then teaches the codes around its own, too,
    and codes are counted so, which decides which are used.
    dropout: the share of a batch's items that in training use the first levels only, 1 to all of them alike.
    """

    kind: Literal["residual"] = "residual"
    levels: int = Field(default=8, ge=1, le=64)
    size: int = Field(default=1024, gt=1, le=2**16)
    dim: int = Field(gt=0, le=8192)
    lookup_dim: int | None = Field(default=None, gt=0, le=8192)
    metric: Literal["euclidean", "cosine"] = "euclidean"
    beta: float = Field(default=0.25, ge=0)
    learned: Literal["gradient", "ema"] = "ema"
    decay: float = Field(default=0.99, ge=0, lt=1)
    restart: bool = True
    restart_below: float = Field(default=0.1, gt=0, lt=1)
    map: MapConfig | None = None
    dropout: float = Field(default=0.0, ge=0, le=1)


class ResidualQuantizer(nn.Module):
    """`z` `[batch, dim, *places]` -> `levels` codes for each place, and what they stand for together.

    The first batch in training gives the first codes: those of each level are residuals of it, drawn at random. In
    training the counts, a codebook of running means and restarted codes change after each batch, with the sums over all
    processes, so that they learn as one process with the whole batch would.
    """

    config_class: ClassVar[type[ResidualQuantizerConfig]] = ResidualQuantizerConfig
    compares_vectors: ClassVar[bool] = True  # whether a code is the nearest vector of a codebook, level by level
    has_levels: ClassVar[bool] = True  # codes have an axis of levels
    usage: Tensor
    sums: Tensor
    batches: Tensor

    def __init__(self, config: ResidualQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.lookup_dim or config.dim
        vectors = torch.randn(config.levels, config.size, dim)
        if config.learned == "ema":
            self.register_buffer("codebooks", vectors)
            self.register_buffer("sums", vectors.clone())
        else:
            self.codebooks = nn.Parameter(vectors)
        self.register_buffer("usage", torch.ones(config.levels, config.size))  # hits a batch, a running mean
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))  # that were learned from
        narrow = range(config.levels if config.lookup_dim else 0)
        self.in_proj = nn.ModuleList(Linear(config.dim, dim) for _ in narrow)
        self.out_proj = nn.ModuleList(Linear(dim, config.dim) for _ in narrow)

    @property
    def levels(self) -> int:
        """How many codes a place has."""
        return self.config.levels

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has to choose from."""
        return (self.config.size,) * self.config.levels

    def forward(
        self,
        z: Float[Tensor, "batch dim *places"],
        generator: torch.Generator | None = None,
        mask: Bool[Tensor, "batch *places"] | None = None,
        shard: BatchShard | None = None,
    ) -> Quantized:
        """`|sg(r) - e|^2 + beta |r - sg(e)|^2`, as "codebook" and "commitment": means over valid places, numbers and
        levels.

        `sg` stops the gradient. The mean over levels, not their sum, keeps the weight of these terms what it is when
        levels are added; the first ones still count most, for the residuals shrink. A codebook of running means has no
        first term; with a map it counts the codes around e as well, weighed by the kernel. The gradient goes
        straight through once: without projections it reaches `z` as it is, and with them through each level's as if
        nothing were quantised.

        Places where `mask` is False get codes, but count in no loss and no statistic. With dropout all codes of an item
        are given, and `z` is the sum of those levels that it was to use; the others count in no loss and no statistic
        for it. What is drawn (dropout, first and restarted codes) comes from `generator`, a `share` of a batch draws
        what its items would in the whole one. Raises Error where there is
        something to draw and no generator. After a step the codebooks may have moved, so `lookup(codes)` is `z` exactly
        in eval mode.
        """
        with torch.autocast(z.device.type, enabled=False):
            return self._quantized(z.float().movedim(1, -1).contiguous(), generator, mask, shard)

    def _quantized(
        self, z: Tensor, generator: torch.Generator | None, mask: Tensor | None, shard: BatchShard | None
    ) -> Quantized:
        config = self.config
        valid = torch.ones(z.shape[:-1], dtype=torch.bool, device=z.device) if mask is None else mask
        first = self.training and not bool(self.batches)
        if first:
            self._begin(z.detach(), valid, generator)
        dropout = config.dropout if self.training and not first else 0.0
        used = levels_used(config.levels, dropout, valid, generator, shard)
        around = self._neighbourhood()
        residual, given, codes, seen = z, torch.zeros_like(z), [], []
        of_codebook, of_encoder = z.new_zeros(()), z.new_zeros(())
        for level, (codebook, here) in enumerate(zip(self.codebooks.unbind(), used, strict=True)):
            encoded = self.in_proj[level](residual) if config.lookup_dim else residual
            codes.append(self._nearest(encoded, level))
            chosen = embedding(codes[-1], codebook)
            of_encoder = of_encoder + _squares(encoded, chosen.detach(), here)
            if config.learned == "gradient" and around:
                of_codebook = of_codebook + around.squares(codebook, encoded.detach()[here], codes[-1][here])
            elif config.learned == "gradient":
                of_codebook = of_codebook + _squares(encoded.detach(), chosen, here)
            if config.lookup_dim:
                # Adding a zero that carries the gradient leaves the vectors what they are, bit for bit.
                part = self.out_proj[level](chosen.detach() + (encoded - encoded.detach()))
            else:
                part = chosen.detach()
            seen.append(encoded.detach())
            residual = residual - part
            given = given + (part if mask is None and not config.dropout else part * here[..., None])
        if not config.lookup_dim:
            given = given + (z - z.detach())
        if self.training:
            self._learn(seen, codes, used, around, generator)
        terms = config.levels * valid.sum().clamp_min(1)
        losses = {"commitment": config.beta * of_encoder / terms}
        if config.learned == "gradient":
            losses["codebook"] = of_codebook / terms
        return Quantized(given.movedim(-1, 1), torch.stack(codes, 1), losses)

    @torch.no_grad()
    def encode(
        self, z: Float[Tensor, "batch dim *places"], levels: int | None = None
    ) -> Int[Tensor, "batch levels *places"]:
        """The nearest codes alone, of the first `levels` or of all. Raises Error for more levels than there are."""
        with torch.autocast(z.device.type, enabled=False):
            residual = z.float().movedim(1, -1).contiguous()
            codes = []
            for level in range(checked_levels(levels, self.config.levels)):
                encoded = self.in_proj[level](residual) if self.config.lookup_dim else residual
                codes.append(self._nearest(encoded, level))
                residual = residual - self._part(codes[-1], level)
            return torch.stack(codes, 1)

    def lookup(self, codes: Int[Tensor, "batch levels *places"]) -> Float[Tensor, "batch dim *places"]:
        """What the codes of all levels, or of the first ones, stand for.

        Raises Error for a code that a codebook does not have, and for more levels than there are.
        """
        check_levels(codes, self.config.levels)
        check_codes(codes, self.config.size)
        given = torch.zeros(codes.shape[:1] + codes.shape[2:] + (self.config.dim,), device=self.codebooks.device)
        for level in range(codes.shape[1]):
            given = given + self._part(codes[:, level], level)
        return given.movedim(-1, 1)

    @torch.no_grad()
    def compared(
        self, z: Float[Tensor, "batch dim *places"], level: int
    ) -> tuple[Float[Tensor, "n width"], Float[Tensor, "size width"]]:
        """What level number `level` (from 0) compares: what the levels before it leave over of `z`, a row for each
        place, and its codes. Directions of length 1 where these are what counts, so the nearest code is the chosen one.

        Raises Error for a level that there is not.
        """
        if not 0 <= level < self.config.levels:
            raise Error(f"level {level + 1} was asked for; this quantizer has 1 to {self.config.levels}")
        residual = z.float().movedim(1, -1).flatten(0, -2)
        for before in range(level):
            encoded = self.in_proj[before](residual) if self.config.lookup_dim else residual
            residual = residual - self._part(self._nearest(encoded, before), before)
        rows = self.in_proj[level](residual) if self.config.lookup_dim else residual
        book = self.codebooks[level].detach()
        if self.config.metric == "cosine":
            return normalize(rows, dim=-1), normalize(book, dim=-1)
        return rows, book

    def _neighbourhood(self) -> Neighbourhood | None:
        if self.config.map is None:
            return None
        return Neighbourhood(self.config.map, self.config.size, int(self.batches), self.codebooks.device)

    def _part(self, codes: Tensor, level: int) -> Tensor:
        chosen = embedding(codes, self.codebooks[level])
        return self.out_proj[level](chosen) if self.config.lookup_dim else chosen

    @torch.no_grad()
    def _nearest(self, encoded: Tensor, level: int) -> Tensor:
        vectors, rows = self.codebooks[level].detach(), encoded.detach().flatten(0, -2)
        if self.config.metric == "cosine":  # the length of x is the same for all codes
            return nearest(rows, normalize(vectors, dim=-1), None).view(encoded.shape[:-1])
        return nearest(rows, vectors, -vectors.square().sum(-1) / 2).view(encoded.shape[:-1])

    @torch.no_grad()
    def _begin(self, residual: Tensor, valid: Tensor, generator: torch.Generator | None) -> None:
        """The first codes: residuals of the first batch, evenly spread over it.

        Where the batch has fewer, some are there twice; the second ones are free to be put elsewhere by the next batch.
        A vector that is a code itself would leave nothing over, so it goes to the code that is nearest beside it.
        """
        if not total(valid.sum()):
            return
        size = self.config.size
        for level in range(self.config.levels):
            drawn = (torch.arange(size) + torch.rand(size, generator=needed(generator), dtype=torch.float64)) / size
            encoded = self.in_proj[level](residual) if self.config.lookup_dim else residual
            vectors = some(encoded, valid, of_the_first(drawn.to(encoded.device)))
            self.codebooks[level] = vectors
            self.usage[level, 1:] = (vectors[1:] != vectors[:-1]).any(-1).float()
            residual = residual - self._part(_nearest_other(encoded, vectors), level)
        if self.config.learned == "ema":
            self.sums.copy_(self.codebooks * self.usage[..., None])

    @torch.no_grad()
    def _learn(
        self,
        seen: list[Tensor],
        codes: list[Tensor],
        used: list[Tensor],
        around: Neighbourhood | None,
        generator: torch.Generator | None,
    ) -> None:
        """Counts who was chosen, moves the running means, and puts unused codes where something is."""
        config, size = self.config, self.config.size
        ema = config.learned == "ema"
        picked = [level[here] for level, here in zip(codes, used, strict=True)]
        hits = total(torch.stack([torch.bincount(p, minlength=size) for p in picked]).to(self.usage))
        if not hits.any():  # nothing but padding
            return
        first = not bool(self.batches)
        self.batches += 1
        if ema:
            sums = torch.zeros_like(self.sums)
            for level, (rows, here) in enumerate(zip(seen, used, strict=True)):
                sums[level].index_add_(0, picked[level], rows[here])
            sums = total(sums)
        for level in range(config.levels):
            if not hits[level].any():  # dropped by all items
                continue
            counts = around.spread(hits[level]) if around else hits[level]
            self.usage[level].lerp_(counts, 1 - config.decay)
            if ema:
                moved = around.spread(sums[level]) if around else sums[level]
                self.sums[level].lerp_(moved, 1 - config.decay)
                self.codebooks[level] = means(self.sums[level], self.usage[level])
            if config.restart and not first:
                restart(
                    self.codebooks[level],
                    self.usage[level],
                    self.sums[level] if ema else None,
                    hits=counts,
                    below=config.restart_below,
                    source=seen[level],
                    valid=used[level],
                    generator=generator,
                )


def _squares(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """The squared distances, a mean over numbers and a sum over valid places."""
    return ((a - b).square().mean(-1) * valid).sum()


def _nearest_other(rows: Tensor, vectors: Tensor) -> Tensor:
    """The nearest of `vectors` that is not the row itself. The score is `|x|^2 / 2` for itself and less for others."""
    itself = rows.square().sum(-1, keepdim=True) * (0.5 - 1e-4)
    scores = torch.nn.functional.linear(rows, vectors, -vectors.square().sum(-1) / 2)
    return scores.masked_fill(scores >= itself, -torch.inf).argmax(-1)
