"""All codes of a picture at once, several times: the likeliest stay, and the others are guessed again.

MaskGIT (Chang et al., 2022, arXiv 2202.04200). In training some codes of a grid are masked, as many as a cosine of an
even draw says, and a transformer that looks both ways guesses them. A picture is made in 8 to 32 steps, each of which
fills in more places than the one before, where a GPT takes one for each code. The network is `priors.trunk`, which
reads the grid as one column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond, guide
from cymatic.config import Config
from cymatic.errors import Error, ModelError
from cymatic.latent import TargetFacts
from cymatic.nn.linear import matrices_of
from cymatic.nn.trained import refuse_untrained
from cymatic.priors.decoding import CodeSampling, choose
from cymatic.priors.order import halton
from cymatic.priors.progress import OnEstimate, OnStep
from cymatic.priors.trunk import CodeShape, CodeTrunk, Prefix
from cymatic.priors.whole_grid import begun, check_grid, check_lengths, fitted_to
from cymatic.seeds import mixed

COUNTS = 16  # numbers of masked codes that a likelihood is estimated from


class MaskedSampling(CodeSampling):
    """How places are filled in. steps: how often, or once for each place where these are fewer.

    order: `confidence`, the places whose guess is the likeliest first, with Gumbel noise times `noise` that falls to 0
    over the steps (MaskGIT); or `halton`, places far from each other first, whatever was guessed (Besnier et al., 2025,
    arXiv 2503.17076). `greedy` takes the likeliest codes and no noise.
    """

    guidance: float = Field(default=3.0, ge=0, le=100)
    steps: int = Field(default=12, ge=1, le=1024)
    order: Literal["confidence", "halton"] = "confidence"
    noise: float = Field(default=4.5, ge=0, le=1000)


class MaskedConfig(Config):
    """Which codes are guessed and how large the network is: grids of `rows` by `longest`, each of `codes` codes.

    cond_dim: width of the condition's tokens and vector; vector: whether its vector is read. codes, rows, longest,
    cond_dim: of what it is trained on; a recipe leaves them open.
    """

    over: ClassVar[Literal["codes"]] = "codes"
    by_rows: ClassVar[bool] = True  # whole rows are continued

    kind: Literal["masked"] = "masked"
    codes: int = Field(default=2, gt=1, lt=2**20)
    rows: int = Field(default=1, gt=0, le=4096)
    longest: int = Field(default=1, gt=0, le=4096)
    width: int = Field(default=256, gt=0, le=16384)
    depth: int = Field(default=6, gt=0, le=256)
    heads: int = Field(default=4, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    cond_dim: int | None = Field(default=256, gt=0, le=16384)
    vector: bool = True

    @model_validator(mode="after")
    def _sizes_of_a_network(self) -> Self:
        if self.places > 4096:
            raise ValueError(f"a grid of {self.rows} x {self.longest} has {self.places} places, more than 4,096")
        _ = self.trunk
        return self

    @property
    def places(self) -> int:
        """Codes of a grid."""
        return self.rows * self.longest

    @property
    def shape(self) -> tuple[int, int, int]:
        """Codes of a place, rows and columns."""
        return 1, self.rows, self.longest

    @property
    def trunk(self) -> CodeShape:
        """The network's own config: one column, and one more code, which is the mask."""
        same = ("width", "depth", "heads", "dropout", "cond_dim", "vector")
        return CodeShape(codes=self.codes + 1, rows=self.places, **{name: getattr(self, name) for name in same})

    @property
    def reads(self) -> None:
        """No medium: the codes of a codec."""

    def size(self, row: int) -> int:
        """How many codes a row has to choose from."""
        return self.codes

    def fitted(self, facts: TargetFacts) -> MaskedConfig:
        """For the codes and the condition that the data and other parts decide."""
        return fitted_to(self, facts)


class MaskedPrior(nn.Module):
    """Cond -> codes `[batch, rows, columns]`, always a whole grid. A prior of 0 steps trained refuses to sample."""

    config_class: ClassVar[type[MaskedConfig]] = MaskedConfig
    sampling: ClassVar[type[MaskedSampling]] = MaskedSampling
    measured: ClassVar[str] = "cross_entropy"
    measuring_rounds: ClassVar[int] = 4
    has_latent: ClassVar[bool] = False
    verbs: ClassVar[frozenset[str]] = frozenset({"vary", "inpaint", "preview"})
    steps_trained: Tensor

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.trunk = CodeTrunk(config.trunk, config.depth)
        self.head = nn.Linear(config.width, config.codes, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    @property
    def longest(self) -> int:
        """Columns."""
        return self.config.longest

    @property
    def mask(self) -> int:
        """The code that stands where none is known."""
        return self.config.codes

    def fits(self, length: int) -> bool:
        """Whether so many columns are no more than the longest trained on."""
        return length <= self.longest

    def weight_of(self, lengths: Int[Tensor, " batch"]) -> float:
        """How much a batch weighs in a mean over batches: its columns."""
        return float(lengths.sum())

    def matrices(self) -> list[nn.Parameter]:
        """The weights for orthogonal steps: those of the linear layers inside the blocks."""
        return matrices_of(self.trunk.blocks)

    @torch.no_grad()
    def take_over(self, other: MaskedPrior, longest: int) -> None:
        """Goes on from another's weights. Raises ModelError for one of another config."""
        if other.config != self.config:
            raise ModelError(f"the prior to go on from is another one; set the part to {other.config!r}")
        self.load_state_dict(other.state_dict())

    def forward(self, codes: Int[Tensor, "batch n"], cond: Cond | Prefix | None) -> Float[Tensor, "batch n codes"]:
        """Logits at each place of grids read row by row, some of whose codes are `mask`."""
        prefix = cond if isinstance(cond, Prefix) else self.trunk.prefix(cond, len(codes))
        hidden = self.trunk(prefix, codes, both_ways=torch.ones_like(codes, dtype=torch.bool))
        return self.head(hidden[:, prefix.tokens.shape[1] :])

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
        """`cross_entropy` (and `loss`, the same): the mean over the masked codes of a batch, in nats.

        The share of codes that is masked is `cos(u pi / 2)`, with u spread evenly over the items from a common draw
        (Kingma et al., 2021, arXiv 2107.00630), so that batches are alike. All draws come from `generator`, those of a
        `shard` as its items would draw in the whole batch.
        """
        sequence = self._checked(target, lengths)
        items = len(sequence) if shard is None else shard.items
        u = (torch.rand((), generator=generator) + torch.arange(items) / items) % 1
        counts = (torch.cos(u * math.pi / 2) * self.config.places).ceil().long().clamp_min(1)
        chance = torch.rand(items, self.config.places, generator=generator)
        own, chance = (counts, chance) if shard is None else (shard.take(counts), shard.take(chance))
        nats = self._masked_nats(sequence, own.to(sequence.device), chance.to(sequence.device), cond)
        loss = nats.mean() * (items / int(counts.sum()))
        if shard is not None:
            loss = loss * shard.items_weight
        return {"loss": loss, "cross_entropy": loss}

    @torch.no_grad()
    def nll(
        self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"], cond: Cond | None,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """An estimate of a bound of the mean negative log-likelihood of an item, in nats.

        Filled in one by one in any order, a grid of n places has `-log p <= n E[mean of -log p(code_i | the rest)]`
        over the masked places, whose number is drawn evenly from 1 to n (Hoogeboom et al., 2021, arXiv 2110.02037).
        Here of `COUNTS` numbers, evenly spread.
        """
        sequence, n = self._checked(codes, columns), self.config.places
        bound = torch.zeros((), device=sequence.device)
        draws = min(COUNTS, n)
        for i in range(draws):
            count = torch.full((len(sequence),), math.ceil((i + 0.5) * n / draws), device=sequence.device)
            chance = torch.rand(sequence.shape, generator=generator).to(sequence.device)
            bound += (self._masked_nats(sequence, count, chance, cond) / count).mean() * n / draws
        return bound

    def _masked_nats(
        self, sequence: Int[Tensor, "batch n"], counts: Int[Tensor, " batch"], chance: Float[Tensor, "batch n"],
        cond: Cond | None,
    ) -> Float[Tensor, " batch"]:  # fmt: skip
        """The sum of `-log p` over the masked places, the `counts` of each item with the least chance."""
        masked = _ranks(chance) < counts[:, None]
        logits = self(sequence.masked_fill(masked, self.mask), cond)
        return (cross_entropy(logits.mT, sequence, reduction="none") * masked).sum(1)

    def _checked(
        self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"]
    ) -> Int[Tensor, "batch n"]:
        check_grid(self.config, codes, height=self.config.rows)
        check_lengths(self.config, columns, len(codes))
        return codes.flatten(1)

    def sample(
        self,
        cond: Cond | None,
        seeds: Sequence[int],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        start: Int[Tensor, "batch height width"] | None = None,
        keep: Bool[Tensor, "batch height width"] | None = None,
        on_step: OnStep | None = None,
        on_estimate: OnEstimate | None = None,
        allow_untrained: bool = False,
        **settings: Any,
    ) -> tuple[Int[Tensor, "batch rows columns"], Int[Tensor, " batch"]]:
        """Codes, and how many columns each item has, which is the same for all.

        on_estimate: called as `on_step`, with all codes as they were guessed last. start: whole rows that are there
        already, or with `keep` a whole grid, of which the places stay that are True there: the others are filled in.
        settings: of `MaskedSampling`. Raises ModelError where the prior was never trained, Error for what can't be
        asked for.
        """
        how = MaskedSampling.parse(settings, "the sampling")
        refuse_untrained(self, allow=allow_untrained)
        config, batch, device = self.config, len(seeds), self.head.weight.device
        codes = self._known(start, keep, seeds, device)
        check_lengths(config, lengths, batch)
        with torch.inference_mode():
            conds = [cond] if how.guidance == 1 or cond is None else [cond, cond.null()]
            prefixes = [self.trunk.prefix(one, batch) for one in conds]
            both = Prefix(*(torch.cat(parts) for parts in zip(*prefixes, strict=True)))
            filled = self._filled(codes, both, seeds, how, on_step, on_estimate).clone()
        columns = torch.full((batch,), config.longest, device=device)
        return filled.unflatten(1, (config.rows, config.longest)), columns

    def inpaint(
        self,
        target: Int[Tensor, "rows columns"],
        redraw: Bool[Tensor, "rows columns"],
        n: int,
        *,
        cond: Cond | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> tuple[Int[Tensor, "n rows columns"], Int[Tensor, " n"]]:
        """`n` grids that are `target`, exactly, but where `redraw` is True. Item i has the seed `seed + i`. Raises as
        `sample`."""
        start, keep = (one.expand(n, *one.shape) for one in (target, ~redraw))
        cond = None if cond is None else cond.repeat(n)
        return self.sample(cond, range(seed, seed + n), start=start, keep=keep, on_step=on_step, **settings)

    def vary(
        self,
        target: Int[Tensor, "rows columns"],
        n: int,
        amount: float,
        *,
        cond: Cond | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> tuple[Int[Tensor, "n rows columns"], Int[Tensor, " n"]]:
        """`n` grids near `target`, of which the share `amount` of places, others in each, is filled in anew: 0 stays
        there, 1 forgets it. Item i has the seed `seed + i`. Raises as `sample`."""
        keep = torch.stack(
            [torch.rand(target.shape, generator=torch.Generator().manual_seed(mixed(seed + i, 1))) for i in range(n)]
        ) >= torch.tensor(amount)  # fmt: skip
        cond = None if cond is None else cond.repeat(n)
        start = target.expand(n, *target.shape)
        return self.sample(cond, range(seed, seed + n), start=start, keep=keep, on_step=on_step, **settings)

    def _known(
        self, start: Tensor | None, keep: Tensor | None, seeds: Sequence[int], device: torch.device
    ) -> Int[Tensor, "batch n"]:
        """Grids with the mask where nothing is known."""
        config = self.config
        if keep is None:
            rows = begun(config, start, seeds, device)
            return pad(rows, (0, config.places - rows.shape[1]), value=self.mask)
        if start is None or keep.shape != start.shape or keep.shape[1:] != (config.rows, config.longest):
            raise Error(
                f"places to keep came as {list(keep.shape)}; give them, and start with the codes that are kept, for "
                f"whole grids of {config.rows} x {config.longest}"
            )
        whole = begun(config, start.masked_fill(~keep.to(start.device), 0), seeds, device)
        return whole.masked_fill(~keep.to(device).flatten(1), self.mask)

    def _filled(
        self, codes: Tensor, prefix: Prefix, seeds: Sequence[int], how: MaskedSampling, on_step: OnStep | None,
        on_estimate: OnEstimate | None,
    ) -> Int[Tensor, "batch n"]:  # fmt: skip
        config, (batch, n) = self.config, codes.shape
        unknown = (codes == self.mask).sum(1)
        steps = unknown.clamp_max(how.steps)  # of each item, so that it needn't know of the others
        most = int(steps.max()) if batch else 0
        drawn = torch.stack(
            [torch.rand(how.steps, 2, n, generator=torch.Generator().manual_seed(seed)) for seed in seeds], dim=1
        ).to(codes.device)  # [steps, batch, 2, n]
        place_of = halton(config.rows, config.longest).argsort().to(codes.device)
        for step in range(most):
            logits = self(codes.repeat(len(prefix.valid) // batch, 1), prefix)
            if len(logits) != batch:
                conditional, unconditional = logits.chunk(2)
                logits = guide(conditional, unconditional, how.guidance)
            uniform, chance = drawn[step].unbind(1)
            guess = choose(logits.flatten(0, 1), uniform.reshape(-1, 1), how).view(batch, n)
            share = (step + 1) / steps.clamp_min(1)
            score = -place_of.expand(batch, n).float()
            if how.order == "confidence":
                score = logits.log_softmax(-1).gather(-1, guess[..., None])[..., 0]
                if not how.greedy:
                    score = score + how.noise * (1 - share)[:, None] * -(-chance.clamp_min(1e-20).log()).log()
            masked = codes == self.mask
            left = masked.sum(1)
            stay = (torch.cos(share.clamp_max(1) * math.pi / 2) * unknown + 1e-4).floor().long()
            stay = torch.minimum(stay, left - 1).clamp_min(0)  # at least one place more in each step
            put = masked & (_ranks((-score).masked_fill(~masked, torch.inf)) < (left - stay)[:, None])
            codes = torch.where(put, guess, codes)
            if on_step is not None:
                on_step(step + 1, most)
            if on_estimate is not None:
                whole = torch.where(masked, guess, codes).clone()
                columns = torch.full((batch,), config.longest, device=codes.device)
                on_estimate(step + 1, most, whole.unflatten(1, (config.rows, config.longest)), columns)
        return codes

    @torch.no_grad()
    def attention_maps(
        self, codes: Int[Tensor, "batch rows columns"], cond: Cond | None
    ) -> list[Float[Tensor, "batch heads n n"]]:
        """For each block how much each place of condition and codes looks at each; the condition comes first."""
        check_grid(self.config, codes, height=self.config.rows)
        sequence = codes.flatten(1)
        whole = torch.ones_like(sequence, dtype=torch.bool)
        x, rotary, mask = self.trunk.begin(self.trunk.prefix(cond, len(codes)), sequence, whole)
        maps = []
        for block in self.trunk.stack:
            maps.append(block.weights(x, rotary, mask))
            x = block(x, rotary, mask)
        return maps


def _ranks(values: Float[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
    """Where each value stands among those of its row: 0 for the least."""
    return values.argsort(dim=1, stable=True).argsort(dim=1)
