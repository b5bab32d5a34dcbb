"""A flow straight over log mels: from a condition to a mel of any length.

Rectified flow (Liu et al., 2022, arXiv 2209.03003; Lipman et al., 2022, arXiv 2210.02747): sampling follows the
velocity `data - noise` of the straight path `x_t = (1 - t) noise + t data` from noise to data. What the network gives
is the clean mel itself: sounds fill far fewer directions than a patch of a mel has numbers, and noise fills them all,
so the mel is what a narrow network can say (Li and He, 2025, arXiv 2511.13720).

It says it in two parts, since rain does fill all directions: an outline, and how far the mel strays from it. The clean
mel is what to expect of a normal of that mean and spread where `x_t` was seen, so fine grain passes by the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self, cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gaussian_nll_loss, pad, silu

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond, concatenate
from cymatic.config import Config
from cymatic.errors import ModelError
from cymatic.latent import TargetFacts
from cymatic.nn.adaln import AdaLNBlock, modulated_norm
from cymatic.nn.embeddings import harmonics, sinusoids
from cymatic.nn.linear import Linear, matrices_of
from cymatic.nn.rotary import rotary_tables
from cymatic.nn.trained import refuse_untrained
from cymatic.priors.progress import OnStep
from cymatic.priors.rectified import (
    LOG_SPREADS,
    SPREAD_AT_FIRST,
    Given,
    expected,
    guided,
    training_draws,
    training_times,
    velocity_error,
    with_null,
)
from cymatic.priors.samplers import SAMPLERS, Denoise, FlowSampling, Prediction, grid
from cymatic.signal.mel import PRESETS, MelSpec, NamedMel

MOST_WEIGHTS = 1_000_000_000  # so that a damaged or hostile config can't take all memory


LENGTH_TEMPERATURE = 0.5
# Neighbouring frames and mels say nearly the same, so what is said is settled while the noise is still strong: most
# times are drawn there (the mean of their logit). Noise averages out over the frames, so the longer a sound, the
# earlier: the centre is that of a sound of as many frames as TIME_FRAMES.
TIME_CENTRE, TIME_FRAMES = -0.8, 50


class FlowShape(Config):
    """The size of the network; `patch`: frames that share one place in the sequence."""

    width: int = Field(default=192, gt=0, le=8192)
    depth: int = Field(default=6, gt=0, le=128)
    heads: int = Field(default=6, gt=0)
    patch: int = Field(default=4, gt=0, le=256)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if 12 * self.depth * self.width**2 > MOST_WEIGHTS:  # a block has 12 width² of them
            raise ValueError(
                f"a width of {self.width} at a depth of {self.depth} makes more than {MOST_WEIGHTS:,} weights"
            )
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of twice the heads ({self.heads})")
        return self


class FlowConfig(FlowShape):
    """A size, the mel it speaks of, and the width of the condition's tokens and vector."""

    kind: Literal["flow"] = "flow"
    over: ClassVar[Literal["targets"]] = "targets"
    mel: NamedMel = PRESETS["sound-24k"]
    cond_dim: int = Field(default=192, gt=0, le=8192)

    @property
    def reads(self) -> MelSpec:
        """What its target is."""
        return self.mel

    @property
    def names_its_spec(self) -> bool:
        """Whether the mel was given, and is not the default."""
        return "mel" in self.model_fields_set

    def reading(self, spec: MelSpec) -> FlowConfig:
        """The same for another mel."""
        return self.model_copy(update={"mel": spec})

    def fitted(self, facts: TargetFacts) -> FlowConfig:
        """For the target and the condition that the data and other parts decide."""
        return self.parse({**dict(self), "mel": facts.spec, "cond_dim": facts.cond_dim}, "the prior")


class FlowPrior(nn.Module):
    """Cond -> log mel `[batch, mels, frames]` in the terms of `config.mel`.

    The condition's tokens stand before the frames in the transformer's sequence; its vector, the time and the length
    steer every norm. A small head reads the length to expect from the vector alone. The statistics of the mels trained
    on, the longest of them and the steps trained travel with the weights; a prior of 0 steps refuses to sample.
    """

    config_class: ClassVar[type[FlowConfig]] = FlowConfig
    sampling: ClassVar[type[FlowSampling]] = FlowSampling
    measured: ClassVar[str] = "flow"
    measuring_rounds: ClassVar[int] = 4
    has_latent: ClassVar[bool] = False
    verbs: ClassVar[frozenset[str]] = frozenset()
    mean: Tensor
    std: Tensor
    longest: Tensor
    steps_trained: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        width, dim = config.width, config.cond_dim
        self.register_buffer("mean", torch.zeros(config.mel.mels, 1))
        self.register_buffer("std", torch.ones(config.mel.mels, 1))
        self.register_buffer("longest", torch.zeros((), dtype=torch.int64))  # frames
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.null = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.read_token = Linear(dim, width)
        self.read_vector = nn.Linear(dim, width)
        self.read_time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.read_length = nn.Linear(32, width)
        self.read_place = nn.Linear(16, width)
        self.read_patch = Linear(config.mel.mels * config.patch, width)
        self.blocks = nn.ModuleList(
            AdaLNBlock(width, config.heads, dropout=config.dropout) for _ in range(config.depth)
        )
        self.modulation = nn.Linear(width, 6 * width)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.write_patch = Linear(width, config.mel.mels * config.patch)
        self.write_spread = Linear(width, config.mel.mels)
        hidden, length = nn.Linear(dim, 128), nn.Linear(128, 2)
        self.length = nn.Sequential(hidden, nn.SiLU(), length)
        for layer in (self.modulation, self.last_modulation, self.write_patch, self.write_spread, length):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.write_spread.bias, math.log(SPREAD_AT_FIRST))

    def fits(self, length: int) -> bool:
        """A flow reads targets of any length."""
        return True

    def weight_of(self, lengths: Int[Tensor, " batch"]) -> float:
        """How much a batch weighs in a mean over batches: its items."""
        return float(len(lengths))

    @torch.no_grad()
    def take_over(self, other: FlowPrior, longest: int) -> None:
        """Goes on from another's weights, and then also makes mels of `longest` frames.

        Mean and spread of the mels stay those of the other, since its weights speak in their terms. The length to
        expect is told from the greatest, so where that rises a bias falls by as much. Raises ModelError for another
        size.
        """
        try:
            self.load_state_dict(other.state_dict())
        except RuntimeError as error:
            raise ModelError(
                f"the prior to go on from has another size ({' '.join(str(error).split())[:120]})"
            ) from None
        before = int(self.longest)
        if longest > before:
            self.longest.fill_(longest)
            cast(nn.Linear, self.length[-1]).bias[0] -= math.log(longest / before)

    def matrices(self) -> list[nn.Parameter]:
        """The weights for orthogonal steps: those of the linear layers inside the blocks."""
        return matrices_of(self.blocks)

    @torch.no_grad()
    def fit_statistics(self, mels: Sequence[Float[Tensor, "mels _"]]) -> None:
        """Takes over mean, spread and greatest length of the mels to train on."""
        frames = torch.cat(list(mels), dim=1)
        self.mean.copy_(frames.mean(1, keepdim=True))
        self.std.copy_(frames.std(1, keepdim=True).clamp_min(1e-2))
        self.longest.fill_(max(mel.shape[1] for mel in mels))

    def loss(
        self,
        target: Float[Tensor, "batch mels frames"],
        lengths: Int[Tensor, " batch"],
        cond: Cond,
        generator: torch.Generator,
        shard: BatchShard | None = None,
        *,
        step: int | None = None,
    ) -> dict[str, Tensor]:
        """Mean squared error of the velocity, `|mel given - data|^2 / (1 - t)^2`, and the likelihood of the lengths.

        Times are mostly logit-normal (Esser et al., 2024, arXiv 2403.03206). All draws come from `generator`, on the
        CPU, so that a step is the same on every machine. A `shard` of a batch draws what its items would in the whole
        one, and its terms are weighted so that their mean over all shards is the whole batch's. The `step` changes
        nothing here.
        """
        mask = self._mask(lengths, target.shape[-1])
        data = (target - self.mean) / self.std * mask[:, None]
        shape = (data.shape[1], data.shape[-1] if shard is None else shard.longest)
        noise, normal, even = training_draws(len(data), shape, generator, shard)
        noise = noise[..., : data.shape[-1]].to(data) * mask[:, None]
        times = _times(normal.to(data), even.to(data), lengths)
        t = times[:, None, None]
        condition = self._condition(cond)
        given = self._clean((1 - t) * noise + t * data, times, lengths, *condition)
        error = velocity_error(given, data, t) * mask[:, None]
        flow = error.sum() / (mask.sum() * target.shape[1])
        centre, spread = self._length(condition.vector)
        length = gaussian_nll_loss(centre, lengths.float().log(), spread.square())
        if shard is not None:
            flow, length = flow * shard.frames_weight, length * shard.items_weight
        return {"loss": flow + 0.1 * length, "flow": flow, "length": length}

    def sample(
        self,
        cond: Cond,
        seeds: Sequence[int],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        on_step: OnStep | None = None,
        allow_untrained: bool = False,
        **settings: Any,
    ) -> tuple[Float[Tensor, "batch mels frames"], Int[Tensor, " batch"]]:
        """Mels and their lengths in frames; what lies beyond an item's length is silence.

        Item i draws from its own CPU generator seeded with `seeds[i]`, so a batch equals its items. Without `lengths`
        they are drawn too. settings: of `FlowSampling`. Raises ModelError where the prior was never trained, Error for
        settings out of range.
        """
        how = FlowSampling.parse(settings, "the sampling")
        refuse_untrained(self, allow=allow_untrained)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # Drawn whether it is used or not, so that a given length does not change what is said in it.
        stretch = torch.stack([torch.randn((), generator=g) for g in generators])
        if lengths is None:
            lengths = self._draw_lengths(self._condition(cond)[2], stretch)
        lengths = lengths.to(self.mean.device)
        longest = int(lengths.max())
        noise = torch.stack(
            [
                pad(torch.randn(int(n), self.mean.shape[0], generator=g).T, (0, longest - int(n)))
                for n, g in zip(lengths, generators, strict=True)
            ]
        ).to(self.mean)
        denoise = self.denoiser(cond, lengths, how.guidance, how.guidance_interval)
        x = SAMPLERS[how.sampler](denoise, noise, grid(how.steps), on_step)
        mel, silence = x * self.std + self.mean, self.config.mel.silence
        return mel.clamp_min(silence).masked_fill(~self._mask(lengths, longest)[:, None], silence), lengths

    def denoiser(
        self,
        cond: Cond,
        lengths: Int[Tensor, " batch"],
        guidance: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> Denoise:
        """The guided prediction of normalised mels as a function of `x` `[batch, mels, frames]` and the time t.

        interval: see `rectified.guided`.
        """

        def predict(x: Tensor, times: Tensor, given: Given) -> Prediction:
            return Prediction(*self._predict(x, times, lengths.repeat(len(x) // len(lengths)), *given))

        both = self._condition(concatenate(cond, cond.null()))
        return guided(predict, self._condition(cond), both, guidance, interval)

    def _condition(self, cond: Cond) -> Given:
        """The condition's tokens, mask and vector, with the learned null in place of what is dropped or missing."""
        return with_null(cond, self.null)

    def _clean(
        self, x: Float[Tensor, "batch mels frames"], times: Float[Tensor, " batch"], *given: Tensor
    ) -> Float[Tensor, "batch mels frames"]:
        """The mel to expect behind `x` at `times`, given what `_predict` reads."""
        outline, spread = self._predict(x, times, *given)
        return expected(outline, spread, x, times[:, None, None])

    def _predict(
        self,
        x: Float[Tensor, "batch mels frames"],
        times: Float[Tensor, " batch"],
        frames: Int[Tensor, " batch"],
        tokens: Float[Tensor, "batch n dim"],
        token_mask: Bool[Tensor, "batch n"],
        vector: Float[Tensor, "batch dim"],
    ) -> tuple[Float[Tensor, "batch mels frames"], Float[Tensor, "batch mels frames"]]:
        """The outline of the mel behind `x` at `times`, and its spread around it."""
        mask = self._mask(frames, x.shape[-1])
        patch = self.config.patch
        patches = pad(x * mask[:, None], (0, -x.shape[-1] % patch)).unflatten(-1, (-1, patch))
        count = patches.shape[2]
        places = torch.arange(count, device=x.device)
        # Where in its own sound a patch stands: clips are cut tightly, so how near the end is says much.
        fraction = (places * patch / frames[:, None]).clamp(max=1.0)
        h = self.read_patch(patches.permute(0, 2, 1, 3).flatten(2)) + self.read_place(harmonics(fraction, 8))
        n = tokens.shape[1]
        embedding = silu(
            self.read_vector(vector)
            + self.read_time(sinusoids(times * 1000, 128))
            + self.read_length(sinusoids(frames.float().log() * 10, 32, longest=100.0))
        )
        h = torch.cat([self.read_token(tokens), h], dim=1)
        rotary = rotary_tables(
            torch.cat([torch.arange(n, device=x.device), places]), self.config.width // self.config.heads
        )
        keys = torch.cat([token_mask, places * patch < frames[:, None]], dim=1)
        modulation = self.modulation(embedding).unflatten(-1, (6, -1))
        for block in self.blocks:
            h = block(h, modulation, rotary, keys)
        shift, scale = self.last_modulation(embedding)[:, None].chunk(2, dim=-1)
        h = modulated_norm(h[:, n:], shift, scale)
        outline = self.write_patch(h).unflatten(-1, (-1, patch)).permute(0, 2, 1, 3).flatten(2)[..., : x.shape[-1]]
        spread = self.write_spread(h).clamp(*LOG_SPREADS).exp().mT.repeat_interleave(patch, dim=2)[..., : x.shape[-1]]
        return outline * mask[:, None], spread

    def _length(self, vector: Float[Tensor, "batch dim"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Centre and spread of the log of the length in frames."""
        centre, spread = self.length(vector).unbind(-1)
        return centre + torch.log(self.longest.clamp_min(2) / 2), spread.exp().clamp(1e-2, 2.0)

    def _draw_lengths(
        self, vector: Float[Tensor, "batch dim"], stretch: Float[Tensor, " batch"]
    ) -> Int[Tensor, " batch"]:
        centre, spread = self._length(vector)
        # A few very long clips widen the normal on both sides; drawn as it is, it gives lengths at which words are cut.
        log = centre + LENGTH_TEMPERATURE * spread * stretch.clamp(-1.5, 1.5).to(centre)
        return log.exp().round().long().clamp(max=self.longest).clamp(min=1)

    def _mask(self, frames: Int[Tensor, " batch"], longest: int) -> Bool[Tensor, "batch frames"]:
        return torch.arange(longest, device=frames.device) < frames[:, None]


def _times(
    normal: Float[Tensor, " batch"], even: Float[Tensor, "2 batch"], frames: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Times to train at, made from normal and even draws; the longer a sound, the earlier."""
    centre = TIME_CENTRE - 0.5 * (frames / TIME_FRAMES).log()
    return training_times(normal, even, centre)
