"""A flow over grids of one size: from a condition to a codec's latents, or straight to the pixels of a picture.

The rectified flow of `priors.rectified` in patches of `patch` x `patch` places: noisy patches in, clean patches out (Li
and He, 2025, arXiv 2511.13720), by a transformer with rotary positions for rows and columns. Over the latents of an
autoencoder it is a latent diffusion model (Rombach et al., 2022, arXiv 2112.10752; Peebles and Xie, 2022, arXiv
2212.09748).

As over mels the network gives an outline and, for each patch and channel, a spread. Of latents a patch is few numbers,
and noise fills all of them: late on the path most of the clean data is to be had from `x` itself, and the spread says
how much, which is the skip connection of Karras et al. (2022, arXiv 2206.00364) with a width that is learned where they
fix one. It lowered the error of held-out latents at all times, by a fifth in the middle of the path and by more later
(docs/decisions.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import silu

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond, concatenate
from cymatic.config import Config
from cymatic.errors import Error, ModelError
from cymatic.latent import TargetFacts
from cymatic.media.picture import PictureSpec
from cymatic.nn.adaln import AdaLNBlock, modulated_norm
from cymatic.nn.embeddings import harmonics, sinusoids
from cymatic.nn.linear import Linear, matrices_of
from cymatic.nn.rotary import axial_tables
from cymatic.nn.trained import refuse_untrained
from cymatic.priors.progress import OnEstimate, OnStep
from cymatic.priors.rectified import (
    LOG_SPREADS,
    SPREAD_AT_FIRST,
    Given,
    expected,
    guided,
    halves,
    training_draws,
    training_times,
    velocity_error,
    with_null,
)
from cymatic.priors.samplers import SAMPLERS, Denoise, FlowSampling, Prediction, grid

MOST_WEIGHTS = 1_000_000_000  # so that a damaged or hostile config can't take all memory
MOST_PLACES = 2**16  # in a sequence


class GridFlowConfig(Config):
    """What it is over, and the size of the network.

    picture: the pictures that it makes; None: the latents of a codec. grid: channels, rows and columns of these
    latents, which the codec decides. patch: rows and columns that share one place of the sequence. centre: the mean of
    the logit of most times that it trains at. Latents are settled in the middle of the path (0, as Esser et al., 2024,
    arXiv 2403.03206); neighbouring pixels say nearly the same, so pictures are settled earlier (-0.8, as Li and He).
    """

    kind: Literal["grid-flow"] = "grid-flow"
    picture: PictureSpec | None = None
    grid: tuple[int, int, int] = (12, 8, 8)
    width: int = Field(default=192, gt=0, le=8192)
    depth: int = Field(default=6, gt=0, le=128)
    heads: int = Field(default=6, gt=0)
    patch: int = Field(default=1, gt=0, le=256)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    centre: float = Field(default=0.0, ge=-10, le=10)
    cond_dim: int = Field(default=192, gt=0, le=8192)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if 12 * self.depth * self.width**2 > MOST_WEIGHTS:  # a block has 12 width² of them
            raise ValueError(
                f"a width of {self.width} at a depth of {self.depth} makes more than {MOST_WEIGHTS:,} weights"
            )
        if self.width % (4 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of four times the heads ({self.heads})")
        channels, rows, columns = self.shape
        if min(self.shape) < 1 or rows % self.patch or columns % self.patch:
            raise ValueError(
                f"a grid of {rows} x {columns} is no whole number of patches of {self.patch} x {self.patch}; give "
                "another patch"
            )
        if rows * columns > MOST_PLACES * self.patch**2 or channels * self.patch**2 > MOST_PLACES:
            raise ValueError(f"a grid of {channels} x {rows} x {columns} is too large for a patch of {self.patch}")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of what it makes."""
        return self.grid if self.picture is None else self.picture.shape

    @property
    def reads(self) -> PictureSpec | None:
        """What its target is; None: the latents of a codec."""
        return self.picture

    @property
    def over(self) -> Literal["targets", "latents"]:
        """What it is over: what a medium is prepared as, or a codec's latents."""
        return "latents" if self.picture is None else "targets"

    @property
    def names_its_spec(self) -> bool:
        """Whether the pictures were given."""
        return self.picture is not None

    def reading(self, spec: PictureSpec | None) -> GridFlowConfig:
        """The same for other pictures."""
        return self.model_copy(update={"picture": spec})

    def fitted(self, facts: TargetFacts) -> GridFlowConfig:
        """For the target and the condition that the data and other parts decide."""
        found = {"picture": facts.spec} if self.picture is not None else {"grid": facts.shape}
        return self.parse({**dict(self), **found, "cond_dim": facts.cond_dim}, "the prior")


class GridFlowPrior(nn.Module):
    """Cond -> grid `[batch, channels, rows, columns]`: pictures in 0..1, or latents.

    The condition's tokens stand before the patches in the transformer's sequence; their mean, the condition's vector
    and the time modulate every norm. Tokens or vector may be missing or dropped, and the learned null stands for them,
    so that a prior trained with each dropped on its own draws from either. Mean and spread of each channel in what it
    was trained on, and the steps trained, travel with the weights; a prior of 0 steps refuses to sample.
    """

    config_class: ClassVar[type[GridFlowConfig]] = GridFlowConfig
    sampling: ClassVar[type[FlowSampling]] = FlowSampling
    measured: ClassVar[str] = "flow"
    measuring_rounds: ClassVar[int] = 4
    has_latent: ClassVar[bool] = False
    verbs: ClassVar[frozenset[str]] = frozenset({"vary", "inpaint", "preview"})
    mean: Tensor
    std: Tensor
    steps_trained: Tensor

    def __init__(self, config: GridFlowConfig) -> None:
        super().__init__()
        self.config = config
        width, dim, channels = config.width, config.cond_dim, config.shape[0]
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.null = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.read_token = Linear(dim, width)
        self.read_vector = nn.Linear(dim, width)
        self.read_time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.read_place = nn.Linear(32, width)
        self.read_patch = Linear(channels * config.patch**2, width)
        self.blocks = nn.ModuleList(
            AdaLNBlock(width, config.heads, dropout=config.dropout) for _ in range(config.depth)
        )
        self.modulation = nn.Linear(width, 6 * width)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.write_patch = Linear(width, channels * config.patch**2)
        self.write_spread = Linear(width, channels)
        for layer in (self.modulation, self.last_modulation, self.write_patch, self.write_spread):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.write_spread.bias, math.log(SPREAD_AT_FIRST))

    @property
    def longest(self) -> int:
        """Columns of every target."""
        return self.config.shape[2]

    def fits(self, length: int) -> bool:
        """All targets have one size."""
        return length == self.longest

    def weight_of(self, lengths: Int[Tensor, " batch"]) -> float:
        """How much a batch weighs in a mean over batches: its items."""
        return float(len(lengths))

    @torch.no_grad()
    def take_over(self, other: GridFlowPrior, longest: int) -> None:
        """Goes on from another's weights and statistics. Raises ModelError for another size, of the network or of the
        grid."""
        try:
            self.load_state_dict(other.state_dict())
        except RuntimeError as error:
            raise ModelError(
                f"the prior to go on from has another size ({' '.join(str(error).split())[:120]})"
            ) from None
        if other.config.shape != self.config.shape:
            raise ModelError(
                f"the prior to go on from makes {_size(other.config.shape)}, and this one {_size(self.config.shape)}; "
                "take the same size"
            )

    def matrices(self) -> list[nn.Parameter]:
        """The weights for orthogonal steps: those of the linear layers inside the blocks."""
        return matrices_of(self.blocks)

    @torch.no_grad()
    def fit_statistics(self, targets: Sequence[Float[Tensor, "channels rows columns"]]) -> None:
        """Takes over mean and spread of each channel in the targets to train on. Raises Error for other sizes."""
        for target in targets:
            self._check(target.shape)
        places = torch.stack(list(targets)).transpose(0, 1).flatten(1)
        self.mean.copy_(places.mean(1)[:, None, None])
        self.std.copy_(places.std(1).clamp_min(1e-2)[:, None, None])

    def loss(
        self,
        target: Float[Tensor, "batch channels rows columns"],
        lengths: Int[Tensor, " batch"],
        cond: Cond,
        generator: torch.Generator,
        shard: BatchShard | None = None,
        *,
        step: int | None = None,
    ) -> dict[str, Tensor]:
        """Mean squared error of the velocity, see `priors.rectified`. All targets have the prior's size, so `lengths`
        say nothing, nor does the `step`.

        A `shard` of a batch draws what its items would in the whole one, and its mean is weighted so that the mean over
        all shards is the whole batch's. Raises Error for targets of another size.
        """
        self._check(target.shape[1:])
        data = (target - self.mean) / self.std
        noise, normal, even = (drawn.to(data) for drawn in training_draws(len(data), data.shape[1:], generator, shard))
        times = training_times(normal, even, self.config.centre)
        t = times[:, None, None, None]
        x = (1 - t) * noise + t * data
        # A caption may be as long as a grid, so half of the work would be padding.
        flow = torch.stack(
            [
                velocity_error(self._clean(x[rows], times[rows], given), data[rows], t[rows]).sum()
                for rows, given in halves(with_null(cond, self.null))
            ]
        ).sum()
        flow = flow / data.numel()
        if shard is not None:
            flow = flow * shard.items_weight
        return {"loss": flow, "flow": flow}

    def sample(
        self,
        cond: Cond,
        seeds: Sequence[int],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        on_step: OnStep | None = None,
        on_estimate: OnEstimate | None = None,
        allow_untrained: bool = False,
        **settings: Any,
    ) -> tuple[Float[Tensor, "batch channels rows columns"], Int[Tensor, " batch"]]:
        """Grids and their widths, which are all the same.

        Item i draws from its own CPU generator seeded with `seeds[i]`, so a batch equals its items. on_estimate: hears
        after each step what the result would be by the latest prediction. settings: of `FlowSampling`. Raises
        ModelError where the prior was never trained, Error for settings out of range and for lengths that it has not.
        """
        how = FlowSampling.parse(settings, "the sampling")
        refuse_untrained(self, allow=allow_untrained)
        if lengths is not None and bool((lengths != self.longest).any()):
            raise Error(f"lengths of {lengths.tolist()} were asked for; this prior makes {self.longest} columns")
        denoise = self.denoiser(cond, how.guidance, how.guidance_interval)
        return self._followed(denoise, self._noise(seeds), grid(how.steps), how, on_step, on_estimate)

    def vary(
        self,
        target: Float[Tensor, "channels rows columns"],
        n: int,
        amount: float = 0.5,
        *,
        cond: Cond | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> tuple[Float[Tensor, "n channels rows columns"], Int[Tensor, " n"]]:
        """`n` grids near one: it is set back on the path by `amount`, with new noise, and followed from there.

        SDEdit (Meng et al., 2021, arXiv 2108.01073). Amount 0 stays there and 1 forgets it; a part of the path takes
        the same part of the steps. Item i has the seed `seed + i`. Raises as `sample`, and Error for another amount or
        size.
        """
        how = FlowSampling.parse(settings, "the sampling")
        refuse_untrained(self)
        self._check(target.shape)
        if not 0 <= amount <= 1:
            raise Error(f"an amount of {amount} is not between 0 (the same) and 1 (another one)")
        begin, steps = 1 - amount, math.ceil(amount * how.steps)
        if steps == 0:
            return target.expand(n, -1, -1, -1), self._lengths(n)
        data = (target.to(self.mean) - self.mean) / self.std
        x = (1 - begin) * self._noise(range(seed, seed + n)) + begin * data
        times = [*(begin + amount * t for t in grid(steps)[:-1]), 1.0]
        denoise = self.denoiser(self._repeated(cond, n), how.guidance, how.guidance_interval)
        return self._followed(denoise, x, times, how, on_step)

    def inpaint(
        self,
        target: Float[Tensor, "channels rows columns"],
        redraw: Bool[Tensor, "rows columns"],
        n: int,
        *,
        cond: Cond | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> tuple[Float[Tensor, "n channels rows columns"], Int[Tensor, " n"]]:
        """`n` grids that are `target`, exactly, but where `redraw` is True.

        What is kept is what is predicted there at every step, so it lies on its own straight path, and the network has
        it before it as noisy as the rest (as Lugmayr et al., 2022, arXiv 2201.09865, do with diffusion). Item i has the
        seed `seed + i`. Raises as `sample`, and Error for another size.
        """
        how = FlowSampling.parse(settings, "the sampling")
        refuse_untrained(self)
        self._check(target.shape)
        target, redraw = target.to(self.mean), redraw.to(self.mean.device)
        kept = (target - self.mean) / self.std
        free = self.denoiser(self._repeated(cond, n), how.guidance, how.guidance_interval)

        def denoise(x: Tensor, t: float) -> Prediction:
            found = free(x, t)
            spread = torch.as_tensor(found.spread).expand_as(found.mean).masked_fill(~redraw, 0.0)
            return Prediction(torch.where(redraw, found.mean, kept), spread)

        noise = self._noise(range(seed, seed + n))
        made, lengths = self._followed(denoise, noise, grid(how.steps), how, on_step)
        return torch.where(redraw, made, target), lengths

    def denoiser(self, cond: Cond, guidance: float = 1.0, interval: tuple[float, float] = (0.0, 1.0)) -> Denoise:
        """The guided prediction of normalised grids as a function of `x` and the time t. interval: see
        `rectified.guided`."""
        both = with_null(concatenate(cond, cond.null()), self.null)
        return guided(self._predict, with_null(cond, self.null), both, guidance, interval)

    def _followed(
        self,
        denoise: Denoise,
        x: Float[Tensor, "batch channels rows columns"],
        times: Sequence[float],
        how: FlowSampling,
        on_step: OnStep | None,
        on_estimate: OnEstimate | None = None,
    ) -> tuple[Float[Tensor, "batch channels rows columns"], Int[Tensor, " batch"]]:
        """Where the path leads from `x`, in the target's own units."""
        if on_estimate is not None:
            denoise, on_step = self._estimating(denoise, on_step, on_estimate)
        made = SAMPLERS[how.sampler](denoise, x, times, on_step)
        return made * self.std + self.mean, self._lengths(len(x))

    def _estimating(
        self, denoise: Denoise, on_step: OnStep | None, on_estimate: OnEstimate
    ) -> tuple[Denoise, Callable[[int, int], None]]:
        """`denoise` and `on_step` by which `on_estimate` hears of the latest prediction after each step."""
        latest: list[Tensor] = []

        def remembering(x: Tensor, t: float) -> Prediction:
            found = denoise(x, t)
            latest[:] = [found.mean]
            return found

        def after(done: int, steps: int) -> None:
            if on_step is not None:
                on_step(done, steps)
            on_estimate(done, steps, latest[0] * self.std + self.mean, self._lengths(len(latest[0])))

        return remembering, after

    def _noise(self, seeds: Sequence[int]) -> Float[Tensor, "batch channels rows columns"]:
        generators = (torch.Generator().manual_seed(seed) for seed in seeds)
        return torch.stack([torch.randn(self.config.shape, generator=g) for g in generators]).to(self.mean)

    def _lengths(self, count: int) -> Int[Tensor, " count"]:
        return torch.full((count,), self.longest, device=self.mean.device)

    def _repeated(self, cond: Cond | None, n: int) -> Cond:
        """One item's condition, or none, `n` times."""
        if cond is None:
            cond = Cond(vector=self.null.detach()[None]).null()
        return cond.repeat(n)

    def _check(self, shape: Sequence[int]) -> None:
        if tuple(shape) != self.config.shape:
            raise Error(
                f"{_size(shape)} came, and this prior is over {_size(self.config.shape)}; give items of one size"
            )

    def _clean(
        self, x: Float[Tensor, "batch channels rows columns"], times: Float[Tensor, " batch"], given: Given
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The data to expect behind `x` at `times`."""
        found = self._predict(x, times, given)
        return expected(found.mean, torch.as_tensor(found.spread), x, times[:, None, None, None])

    def _predict(
        self, x: Float[Tensor, "batch channels rows columns"], times: Float[Tensor, " batch"], given: Given
    ) -> Prediction:
        """The outline of the data behind `x` at `times`, and their spread around it."""
        patch, (rows, columns) = self.config.patch, (side // self.config.patch for side in x.shape[2:])
        n, device = given.tokens.shape[1], x.device
        places = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device))
        places = places.view(-1, 2)
        fractions = (places + 0.5) / torch.tensor([rows, columns], device=device)
        patches = x.unflatten(3, (columns, patch)).unflatten(2, (rows, patch)).permute(0, 2, 4, 1, 3, 5)
        h = self.read_patch(patches.flatten(3).flatten(1, 2)) + self.read_place(harmonics(fractions, 8).flatten(1))
        h = torch.cat([self.read_token(given.tokens), h], dim=1)
        # The condition's tokens stand outside of the grid, one after the other.
        outside = -1 - torch.arange(n, device=device)[:, None].expand(-1, 2)
        rotary = axial_tables(torch.cat([outside, places]), self.config.width // self.config.heads)
        keys = torch.cat([given.mask, given.mask.new_ones(len(x), rows * columns)], dim=1)
        # What is asked for reaches every norm by the tokens' mean, too: a vector may be missing, or of a space that was
        # not made for this, and attention alone takes long to find what the tokens say.
        mean = (given.tokens * given.mask[..., None]).sum(1) / given.mask.sum(1, keepdim=True)
        embedding = (
            self.read_vector(given.vector) + self.read_token(mean) + self.read_time(sinusoids(times * 1000, 128))
        )
        embedding = silu(embedding)
        modulation = self.modulation(embedding).unflatten(-1, (6, -1))
        for block in self.blocks:
            h = block(h, modulation, rotary, keys)
        shift, scale = self.last_modulation(embedding)[:, None].chunk(2, dim=-1)
        h = modulated_norm(h[:, n:], shift, scale)
        outline = self.write_patch(h).unflatten(2, (-1, patch, patch)).unflatten(1, (rows, columns))
        outline = outline.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
        spread = self.write_spread(h).clamp(*LOG_SPREADS).exp().mT.unflatten(2, (rows, columns))
        return Prediction(outline, spread.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3))


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) + " numbers"
