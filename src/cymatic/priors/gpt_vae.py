"""A GPT-VAE: codes -> one latent -> codes, so that sounds can be blended and varied.

OPTIMUS (Li et al., 2020, arXiv 2004.04092) over codes instead of words: an encoder that looks both ways gives a mean
and a variance, and a GPT reads a latent drawn from them as one more token before the codes. The loss is
`-log p(codes | z) + w KL(q(z | codes) || N(0, 1))`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond
from cymatic.config import Config
from cymatic.errors import Error
from cymatic.latent import TargetFacts
from cymatic.nn.linear import Linear, matrices_of
from cymatic.nn.trained import refuse_untrained
from cymatic.priors.decoding import CodeSampling
from cymatic.priors.gpt import GPTConfig, GPTPrior
from cymatic.priors.order import flatten
from cymatic.priors.progress import OnEstimate, OnStep
from cymatic.priors.trunk import CodeTrunk, Prefix
from cymatic.priors.variational import divergence, drawn, free_bits, log_density, ramp
from cymatic.seeds import mixed

IMPORTANCE = 32  # draws of the latent for a likelihood
DECODER = ("width", "depth", "heads", "dropout", "pkeep")  # of the GPT, which a recipe may say directly


class GPTVAEConfig(Config):
    """decoder: the GPT (its `prefix`, where it has one, counts the latent, too); latent: numbers in z, else its width.

    encoder_depth: blocks of the encoder, else as many; pool: whether the last code's vector or the mean of all gives
    the latent; variance: that of every posterior, where it is not to be learned; reduction: whether the loss is in nats
    an item (sum) or a code (mean), KL included. free_bits and target: see `variational.free_bits`. beta: weight of the
    KL, which begins at `kl_start` of it and is whole after `warmup` steps; with 0 this is a plain autoencoder that
    still draws its latent.
    """

    kind: Literal["gpt-vae"] = "gpt-vae"
    over: ClassVar[Literal["codes"]] = "codes"
    decoder: GPTConfig = GPTConfig()
    encoder_depth: int | None = Field(default=None, gt=0, le=256)
    latent: int | None = Field(default=None, gt=0, le=16384)
    pool: Literal["last", "mean"] = "last"
    variance: float | None = Field(default=None, gt=0)
    free_bits: Literal[0, 1, 2, 3] = 2
    target: float = Field(default=8.0, ge=0)
    reduction: Literal["sum", "mean"] = "sum"
    beta: float = Field(default=1.0, ge=0)
    kl_start: float = Field(default=0.0, ge=0, le=1)
    warmup: int = Field(default=500, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, values: Any) -> Any:
        """A recipe says the decoder's size beside the rest, as it does of a GPT."""
        if not isinstance(values, dict):
            return values
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        sizes = {name: value for name, value in values.items() if name in DECODER and name not in own}
        if sizes:
            decoder = own.get("decoder", {})
            own["decoder"] = {**(dict(decoder) if isinstance(decoder, GPTConfig) else decoder), **sizes}
        return {**{name: value for name, value in values.items() if name not in sizes}, **own}

    def fitted(self, facts: TargetFacts) -> GPTVAEConfig:
        """For the codes and the condition that the data and other parts decide."""
        return self.model_copy(update={"decoder": self.decoder.fitted(facts)})

    # What every prior over codes says of itself in the same place.

    @property
    def reads(self) -> None:
        return self.decoder.reads

    @property
    def cond_dim(self) -> int | None:
        return self.decoder.cond_dim

    @property
    def codes(self) -> int:
        return self.decoder.codes

    @property
    def rows(self) -> int:
        return self.decoder.rows

    @property
    def longest(self) -> int:
        return self.decoder.longest

    @property
    def by_rows(self) -> bool:
        return self.decoder.by_rows

    def size(self, row: int) -> int:
        return self.decoder.size(row)


class GPTVAE(nn.Module):
    """Codes `[batch, rows, columns]` -> latent `[batch, latent]` -> codes, with or without a condition."""

    config_class: ClassVar[type[GPTVAEConfig]] = GPTVAEConfig
    sampling: ClassVar[type[CodeSampling]] = CodeSampling
    measured: ClassVar[str] = "nll"
    measuring_rounds: ClassVar[int] = 1
    has_latent: ClassVar[bool] = True
    verbs: ClassVar[frozenset[str]] = frozenset({"vary", "preview"})

    def __init__(self, config: GPTVAEConfig) -> None:
        super().__init__()
        self.config = config
        shape = config.decoder
        self.latent = config.latent or shape.width
        self.encoder = CodeTrunk(shape, config.encoder_depth or shape.depth)
        self.write_latent = Linear(shape.width, self.latent * (1 if config.variance else 2))
        self.read_latent = Linear(self.latent, shape.width)
        self.decoder = GPTPrior(shape)
        nn.init.normal_(self.write_latent.weight, std=0.02)
        nn.init.zeros_(self.write_latent.bias)

    @property
    def steps_trained(self) -> Tensor:
        """The decoder's, as there is one training for both."""
        return self.decoder.steps_trained

    @property
    def longest(self) -> int:
        """Columns at most."""
        return self.decoder.longest

    def matrices(self) -> list[nn.Parameter]:
        """The weights for orthogonal steps: those of the linear layers inside the blocks."""
        return [*self.decoder.matrices(), *matrices_of(self.encoder.blocks)]

    def encode(
        self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"], cond: Cond | None = None
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log variance of each item's posterior. Raises Error for codes or lengths that can't be."""
        self.decoder.check(codes, columns)
        count = columns * self.config.decoder.rows
        valid = torch.arange(codes.shape[1] * codes.shape[2], device=codes.device) < count[:, None]
        prefix = self.encoder.prefix(cond, len(codes))
        hidden = self.encoder(prefix, flatten(codes, self.config.decoder.order), both_ways=valid)[
            :, prefix.tokens.shape[1] :
        ]
        if self.config.pool == "last":
            hidden = hidden[torch.arange(len(codes), device=codes.device), count - 1]
        else:
            hidden = (hidden * valid[..., None]).sum(1) / count[:, None]
        if self.config.variance:
            mean = self.write_latent(hidden)
            return mean, torch.full_like(mean, math.log(self.config.variance))
        mean, log_var = self.write_latent(hidden).chunk(2, dim=1)
        return mean, log_var

    def loss(
        self,
        target: Int[Tensor, "batch rows columns"],
        lengths: Int[Tensor, " batch"],
        cond: Cond | None,
        generator: torch.Generator,
        shard: BatchShard | None = None,
        *,
        step: int | None = None,
    ) -> dict[str, Tensor]:
        """`loss`, `nll` in nats a code given the latent, and `kl`, the whole of it in nats an item.

        step: of the training, for the weight of the KL (`GPTVAEConfig`); without one it is whole. The loss is in nats
        an item, or all of it in nats a code (`reduction`).
        """
        config = self.config
        weight = config.beta * (1.0 if step is None else ramp(step, config.kl_start, config.warmup))
        mean, log_var = self.encode(target, lengths, cond)
        noise = torch.randn(len(target) if shard is None else shard.items, self.latent, generator=generator)
        z = drawn(mean, log_var, (noise if shard is None else shard.take(noise)).to(mean))
        read = self.decoder.corrupted(target, generator, shard)
        nats = self.decoder.item_nll(target, lengths, self._prefix(cond, z), read)
        kl = divergence(mean, log_var)
        count = lengths.sum() * config.decoder.rows
        nll, whole = nats.sum() / count, kl.sum(1).mean()
        counted = free_bits(kl, config.free_bits, config.target)
        by_item, by_code = (1.0, 1.0) if shard is None else (shard.items_weight, shard.frames_weight)
        if config.reduction == "sum":
            loss = (nats.mean() + weight * counted) * by_item
        else:
            loss = (nats.sum() + weight * counted * len(target)) / count * by_code
        return {"loss": loss, "nll": nll * by_code, "kl": whole * by_item}

    def sample(
        self,
        cond: Cond | None,
        seeds: Sequence[int],
        *,
        latent: Float[Tensor, "batch latent"] | None = None,
        lengths: Int[Tensor, " batch"] | None = None,
        start: Int[Tensor, "batch height width"] | None = None,
        on_step: OnStep | None = None,
        on_estimate: OnEstimate | None = None,
        allow_untrained: bool = False,
        **settings: Any,
    ) -> tuple[Int[Tensor, "batch rows columns"], Int[Tensor, " batch"]]:
        """Codes and columns as `GPTPrior.sample` gives them, from `latent` or from one drawn for each seed."""
        how = CodeSampling.parse(settings, "the sampling")
        refuse_untrained(self, allow=allow_untrained)
        z = self.drawn_latents(seeds) if latent is None else latent.to(self.read_latent.weight.device)
        if z.shape != (len(seeds), self.latent):
            raise Error(f"latents of {list(z.shape)} came for {len(seeds)} items; give [{len(seeds)}, {self.latent}]")
        with torch.no_grad():
            token = self.read_latent(z)
            prefixes = [prefix.then(token) for prefix in self.decoder.prefixes(cond, len(seeds), how.guidance)]
        return self.decoder.sample_after(
            prefixes, seeds, how, lengths=lengths, start=start, on_step=on_step, on_estimate=on_estimate
        )

    @torch.no_grad()
    def blend(
        self,
        codes_a: Int[Tensor, "rows columns_a"],
        codes_b: Int[Tensor, "rows columns_b"],
        steps: int,
        *,
        cond: Cond | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> tuple[Int[Tensor, "steps rows columns"], Int[Tensor, " steps"]]:
        """From one sound to another in `steps` of `z = (1 - v) z_a + v z_b`, v from 0 to 1, their lengths likewise.

        z are the posteriors' means. All are drawn with one seed, so that only z tells them apart.
        cond: one condition, for all; `settings` go to `sample`.
        """
        if steps < 2:
            raise Error(f"a blend of {steps} steps has no two ends; ask for 2 or more")
        za, zb = (self._latent_of(codes, cond) for codes in (codes_a, codes_b))
        v = torch.linspace(0, 1, steps, device=za.device)[:, None]
        columns = ((1 - v) * codes_a.shape[1] + v * codes_b.shape[1]).round().long().squeeze(1)
        latent = (1 - v) * za + v * zb
        many = None if cond is None else cond.repeat(steps)
        return self.sample(many, [seed] * steps, latent=latent, lengths=columns, **settings)

    @torch.no_grad()
    def vary(
        self,
        codes: Int[Tensor, "rows columns"],
        n: int,
        amount: float = 0.5,
        *,
        cond: Cond | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> tuple[Int[Tensor, "n rows columns"], Int[Tensor, " n"]]:
        """`n` sounds near one, of its length: `z = sqrt(1 - a²) z_0 + a noise`, so amount 0 stays and 1 forgets it.

        z_0 is the posterior's mean, and the sum has the prior's spread whatever the amount. Item i has the seed
        `seed + i`.
        """
        if not 0 <= amount <= 1:
            raise Error(f"an amount of {amount} is not between 0 (the same) and 1 (another sound)")
        seeds = [seed + i for i in range(n)]
        latent = (1 - amount**2) ** 0.5 * self._latent_of(codes, cond) + amount * self.drawn_latents(seeds)
        columns = torch.full((n,), codes.shape[1])
        return self.sample(None if cond is None else cond.repeat(n), seeds, latent=latent, lengths=columns, **settings)

    @torch.no_grad()
    def importance_weighted_nll(
        self,
        codes: Int[Tensor, "batch rows columns"],
        columns: Int[Tensor, " batch"],
        cond: Cond | None,
        generator: torch.Generator,
        *,
        draws: int = 500,
    ) -> Float[Tensor, " batch"]:
        """`-log p(codes)` of each item in nats by importance sampling (Burda et al., 2015, arXiv 1509.00519).

        `-log mean_k p(codes | z_k) p(z_k) / q(z_k | codes)`: an upper bound on average, the tighter the more draws.
        """
        mean, log_var = self.encode(codes, columns, cond)
        ratios = []
        for _ in range(draws):
            z = drawn(mean, log_var, torch.randn(mean.shape, generator=generator).to(mean))
            likelihood = -self.decoder.item_nll(codes, columns, self._prefix(cond, z))
            prior = log_density(z, torch.zeros_like(z), torch.zeros_like(z))
            ratios.append(likelihood + prior - log_density(z, mean, log_var))
        return math.log(draws) - torch.stack(ratios).logsumexp(0)

    def take_over(self, other: GPTVAE, longest: int) -> None:
        """Goes on from another as `take_encoder` does."""
        self.take_encoder(other)

    def fits(self, length: int) -> bool:
        """Whether so many columns are no more than the longest trained on."""
        return length <= self.longest

    def weight_of(self, lengths: Int[Tensor, " batch"]) -> float:
        """How much a batch weighs in a mean over batches: its columns."""
        return float(lengths.sum())

    def nll(
        self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"], cond: Cond | None,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """A bound on the mean negative log-likelihood of an item in nats, by draws of the latent."""
        return self.importance_weighted_nll(codes, columns, cond, generator, draws=IMPORTANCE).mean()

    def take_encoder(self, other: GPTVAE) -> None:
        """Begins the second stage: takes over the encoder of a trained autoencoder, and nothing else, as the decoder
        of one has learned to trust its latent blindly (Li et al., 2019, arXiv 1909.00868). Raises Error if it differs.
        """
        for own, theirs in ((self.encoder, other.encoder), (self.write_latent, other.write_latent)):
            want, got = own.state_dict(), theirs.state_dict()
            different = [
                n for n in want.keys() | got.keys() if n not in want or n not in got or want[n].shape != got[n].shape
            ]
            if different:
                raise Error(f"the encoders differ in size ({sorted(different)[0]}); give both stages one configuration")
            own.load_state_dict(got)

    def drawn_latents(self, seeds: Sequence[int]) -> Float[Tensor, "batch latent"]:
        """A draw from the prior for each seed, from another stream than that which the codes are drawn from."""
        rows = [torch.randn(self.latent, generator=torch.Generator().manual_seed(mixed(seed, 1))) for seed in seeds]
        return torch.stack(rows).to(self.read_latent.weight.device)

    def _prefix(self, cond: Cond | None, z: Float[Tensor, "batch latent"]) -> Prefix:
        return self.decoder.trunk.prefix(cond, len(z)).then(self.read_latent(z))

    def _latent_of(self, codes: Int[Tensor, "rows columns"], cond: Cond | None) -> Float[Tensor, "1 latent"]:
        return self.encode(codes[None], torch.tensor([codes.shape[1]], device=codes.device), cond)[0]
