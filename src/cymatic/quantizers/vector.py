"""One codebook: each place takes the code whose vector is nearest (van den Oord et al., 2017, arXiv 1711.00937).

Options since then: a narrow space to look codes up in and directions instead of distances (Yu et al., 2021, arXiv
2110.04627), a codebook of running means, restarts of unused codes, and jitter of the codes in training, which makes
neighbouring codes mean alike.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from cymatic.batch_shard import BatchShard
from cymatic.config import Config
from cymatic.nn.linear import Linear
from cymatic.nn.processes import total
from cymatic.quantizers.learning import check_codes, means, nearest, needed, restart
from cymatic.quantizers.quantized import Quantized


class VectorQuantizerConfig(Config):
    """`size` codes for vectors of `dim` numbers.

    lookup_dim: the width of the space in which codes are compared, reached by projections in and out; none without it.
    metric: of nearness; `cosine` gives both sides unit length first, so the codes are directions.
    beta: the weight of the encoder's term; `legacy` swaps the weights of the two terms, as SpecVQGAN's weights had it.
    learned: the codebook by gradient, or as running means of what chose each code.
    decay: of the running means and counts, a batch.
    noise_sigma: in codes: how far a chosen code is moved along the line of codes in training.
    restart: where a code nobody uses is put: on a vector of the encoder's from this batch, or on one of the batch's
    quantised ones, so on another code; `restart_below`: hits a batch, or of an even share where that is less than one.
    """

    kind: Literal["vector"] = "vector"
    size: int = Field(gt=1, le=2**20)
    dim: int = Field(gt=0, le=8192)
    lookup_dim: int | None = Field(default=None, gt=0, le=8192)
    metric: Literal["euclidean", "cosine"] = "euclidean"
    beta: float = Field(default=0.25, ge=0)
    legacy: bool = False
    learned: Literal["gradient", "ema"] = "gradient"
    decay: float = Field(default=0.99, ge=0, lt=1)
    noise_sigma: float = Field(default=0.0, ge=0)
    restart: Literal["none", "encoder", "quantized"] = "none"
    restart_below: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.legacy and self.learned == "ema":
            raise ValueError("legacy swaps the weights of two terms, and a codebook of running means has only one")
        return self


class VectorQuantizer(nn.Module):
    """`z` `[batch, dim, *places]` -> a code for each place, and what the codes stand for.

    In training a codebook of running means, the counts and restarted codes change after each batch, with the sums over
    all processes, so that they learn as one process with the whole batch would.
    """

    config_class: ClassVar[type[VectorQuantizerConfig]] = VectorQuantizerConfig
    compares_vectors: ClassVar[bool] = False  # whether a code is the nearest vector of a codebook, level by level
    has_levels: ClassVar[bool] = False
    levels: ClassVar[int] = 1  # codes of a place
    usage: Tensor
    sums: Tensor

    def __init__(self, config: VectorQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.lookup_dim or config.dim
        vectors = torch.empty(config.size, dim)
        if config.metric == "cosine":
            nn.init.normal_(vectors)  # all directions alike
        else:
            nn.init.uniform_(vectors, -1 / config.size, 1 / config.size)
        if config.learned == "ema":
            self.register_buffer("codebook", vectors)
            self.register_buffer("sums", vectors.clone())
        else:
            self.codebook = nn.Parameter(vectors)
        self.register_buffer("usage", torch.ones(config.size))  # hits a batch, a running mean
        self.in_proj = Linear(config.dim, dim) if config.lookup_dim else nn.Identity()
        self.out_proj = Linear(dim, config.dim) if config.lookup_dim else nn.Identity()

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes there are to choose from."""
        return (self.config.size,)

    def forward(
        self,
        z: Float[Tensor, "batch dim *places"],
        generator: torch.Generator | None = None,
        mask: Bool[Tensor, "batch *places"] | None = None,
        shard: BatchShard | None = None,
    ) -> Quantized:
        """`|sg(z) - e|^2 + beta |z - sg(e)|^2`, means over valid places and numbers, as "codebook" and "commitment".

        `sg` stops the gradient. A codebook of running means has no first term. Places where `mask` is False get a code,
        but count in no loss and no statistic. Noise on the codes and restarts draw from `generator`; a `shard` of a
        batch draws what its items would in the whole one, and restarts draw what the first process draws. Raises Error
        where there is something to draw and no generator. After a step the codebook may have moved, so `lookup(codes)`
        is `z` exactly in eval mode.
        """
        with torch.autocast(z.device.type, enabled=False):
            encoded = self._into(z)
            codes = self._nearest(encoded)
            if self.training and self.config.noise_sigma > 0:
                codes = self._jittered(codes, generator, shard)
            chosen = self._vectors(codes)
            losses = self._losses(encoded, chosen, mask)
            # Adding a zero that carries the gradient leaves the vectors what they are, bit for bit.
            through = chosen.detach() + (encoded - encoded.detach())
            given = self.out_proj(through).movedim(-1, 1)
            if self.training:
                self._learn(encoded.detach(), codes, mask, generator)
        return Quantized(given, codes, losses)

    @torch.no_grad()
    def encode(self, z: Float[Tensor, "batch dim *places"]) -> Int[Tensor, "batch *places"]:
        """The nearest codes alone, without jitter; nothing is learned."""
        with torch.autocast(z.device.type, enabled=False):
            return self._nearest(self._into(z))

    def lookup(self, codes: Int[Tensor, "batch *places"]) -> Float[Tensor, "batch dim *places"]:
        """What the codes stand for. Raises Error for a code that the codebook does not have."""
        check_codes(codes, self.config.size)
        return self.out_proj(self._vectors(codes)).movedim(-1, 1)

    def _into(self, z: Tensor) -> Tensor:
        """The vectors that are compared, `[batch, *places, dim]`."""
        encoded = self.in_proj(z.float().movedim(1, -1))
        return normalize(encoded, dim=-1) if self.config.metric == "cosine" else encoded

    def _vectors(self, codes: Tensor) -> Tensor:
        chosen = embedding(codes, self.codebook)
        return normalize(chosen, dim=-1) if self.config.metric == "cosine" else chosen

    @torch.no_grad()
    def _nearest(self, encoded: Tensor) -> Tensor:
        vectors = normalize(self.codebook, dim=-1) if self.config.metric == "cosine" else self.codebook.detach()
        rows = encoded.detach().flatten(0, -2)
        return nearest(rows, vectors, -vectors.square().sum(-1) / 2).view(encoded.shape[:-1])

    def _jittered(self, codes: Tensor, generator: torch.Generator | None, shard: BatchShard | None) -> Tensor:
        items = len(codes) if shard is None else shard.items
        drawn = torch.randn(items, *codes.shape[1:], generator=needed(generator))
        drawn = drawn if shard is None else shard.take(drawn)
        moved = codes + (self.config.noise_sigma * drawn).trunc().long().to(codes.device)
        return moved.clamp(0, self.config.size - 1)

    def _losses(self, encoded: Tensor, chosen: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        def distance(a: Tensor, b: Tensor) -> Tensor:
            squares = (a - b).square().mean(-1)
            return squares.mean() if mask is None else (squares * mask).sum() / mask.sum().clamp_min(1)

        config = self.config
        of_codebook, of_encoder = (config.beta, 1.0) if config.legacy else (1.0, config.beta)
        if config.learned == "ema":
            return {"commitment": of_encoder * distance(encoded, chosen.detach())}
        return {
            "codebook": of_codebook * distance(encoded.detach(), chosen),
            "commitment": of_encoder * distance(encoded, chosen.detach()),
        }

    @torch.no_grad()
    def _learn(self, encoded: Tensor, codes: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> None:
        """Counts who was chosen, moves the running means, and puts unused codes where something is."""
        config, size = self.config, self.config.size
        valid = torch.ones_like(codes, dtype=torch.bool) if mask is None else mask
        rows, picked = encoded[valid], codes[valid]
        hits = total(torch.bincount(picked, minlength=size).to(self.usage))
        if not hits.any():  # nothing but padding
            return
        self.usage.lerp_(hits, 1 - config.decay)
        if config.learned == "ema":
            sums = torch.zeros_like(self.sums).index_add_(0, picked, rows)
            self.sums.lerp_(total(sums), 1 - config.decay)
            self.codebook.copy_(means(self.sums, self.usage))
        if config.restart != "none":
            restart(
                self.codebook,
                self.usage,
                self.sums if config.learned == "ema" else None,
                hits=hits,
                below=config.restart_below,
                source=encoded if config.restart == "encoder" else self._vectors(codes),
                valid=valid,
                generator=generator,
            )
