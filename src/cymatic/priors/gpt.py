"""A GPT over the codes of a spectrogram or a picture: each code from the condition and all codes before it.

Codes of a vector-quantised autoencoder as a language (Esser et al., 2020, arXiv 2012.09841):
`p(codes | condition) = prod_i p(code_i | codes before i, condition)`, in the order that `priors.order` says. The
network is in `priors.trunk`, the loop that samples in `priors.decoding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond
from cymatic.errors import Error, ModelError
from cymatic.latent import TargetFacts
from cymatic.nn.fast_step import FastStep
from cymatic.nn.kv_cache import KVCache, padding_bias
from cymatic.nn.linear import matrices_of
from cymatic.nn.trained import refuse_untrained
from cymatic.priors.decoding import CodeSampling, decode
from cymatic.priors.order import flatten, unflatten
from cymatic.priors.progress import OnEstimate, OnStep
from cymatic.priors.trunk import CodeShape, CodeTrunk, Prefix

IGNORED = -100  # a target that the loss passes by


class GPTConfig(CodeShape):
    """end: whether a sound says itself that it is over; without that it always has the columns asked for, or `longest`.

    A picture of one size is `rows` high and `longest` wide, with `order="row-major"` and `end=False`. pkeep: each code
    that the network reads in training is kept with this probability and else is any code, so that it learns
    to go on from its own mistakes. sizes: how many codes each row has to choose from, where some have fewer than
    `codes`. codes, rows, longest, cond_dim: of what it is trained on; a recipe leaves them open.
    """

    kind: Literal["gpt"] = "gpt"
    end: bool = True
    pkeep: float = Field(default=1.0, gt=0, le=1)
    sizes: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _one_size_a_row(self) -> Self:
        if self.sizes and (len(self.sizes) != self.rows or min(self.sizes) < 1 or max(self.sizes) != self.codes):
            raise ValueError(f"sizes are {self.sizes}; give one for each of {self.rows} rows, up to {self.codes}")
        if self.order == "row-major" and (self.end or self.sizes):
            raise ValueError("a grid that is read row by row is always whole; give end false, and no sizes")
        return self

    def fitted(self, facts: TargetFacts) -> GPTConfig:
        """For the codes and the condition that the data and other parts decide."""
        even = len(set(facts.sizes)) == 1
        values = {
            "codes": max(facts.sizes), "rows": facts.rows, "longest": facts.longest, "cond_dim": facts.cond_dim,
            "sizes": () if even else facts.sizes,
        }  # fmt: skip
        return self.parse({**dict(self), **values}, "the prior")

    def size(self, row: int) -> int:
        """How many codes a row has to choose from."""
        return self.sizes[row] if self.sizes else self.codes


class GPTPrior(nn.Module):
    """Cond -> codes `[batch, rows, columns]`.

    An end token, after the last of the codes in number, says that a sound is over. It can only come where a column
    begins, after at least one, and elsewhere no probability is spent on it, neither in the loss nor in sampling. A
    sound of `longest` columns needs none. A prior of 0 steps trained refuses to sample.
    """

    config_class: ClassVar[type[GPTConfig]] = GPTConfig
    sampling: ClassVar[type[CodeSampling]] = CodeSampling
    measured: ClassVar[str] = "nll"
    measuring_rounds: ClassVar[int] = 1
    has_latent: ClassVar[bool] = False
    verbs: ClassVar[frozenset[str]] = frozenset({"preview"})
    steps_trained: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.trunk = CodeTrunk(config, config.depth)
        self.head = nn.Linear(config.width, config.codes + config.end, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    @property
    def longest(self) -> int:
        """Columns at most."""
        return self.config.longest

    def fits(self, length: int) -> bool:
        """Whether so many columns are no more than the longest trained on."""
        return length <= self.longest

    def weight_of(self, lengths: Int[Tensor, " batch"]) -> float:
        """How much a batch weighs in a mean over batches: its columns."""
        return float(lengths.sum())

    @torch.no_grad()
    def take_over(self, other: GPTPrior, longest: int) -> None:
        """Goes on from another's weights. Raises ModelError for one of another config or of fewer columns."""
        if other.config != self.config:
            raise ModelError(f"the prior to go on from is another one; set the part to {other.config!r}")
        self.load_state_dict(other.state_dict())

    def nll(
        self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"], cond: Cond | None,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """The mean negative log-likelihood of an item, its end included, in nats."""
        return self.item_nll(codes, columns, cond).mean()

    def matrices(self) -> list[nn.Parameter]:
        """The weights for orthogonal steps: those of the linear layers inside the blocks."""
        return matrices_of(self.trunk.blocks)

    def forward(
        self, codes: Int[Tensor, "batch n"], cond: Cond | Prefix | None
    ) -> Float[Tensor, "batch places choices"]:
        """Logits of the first code and of the one after each of `codes`, which are read in the sequence's order.

        The last choice is the end token. What can't be is -inf: an end inside a column, a code that a row has not.
        """
        prefix = cond if isinstance(cond, Prefix) else self.trunk.prefix(cond, len(codes))
        logits = self.head(self.trunk(prefix, codes)[:, prefix.tokens.shape[1] - 1 :])
        config = self.config
        if not (config.end or config.sizes):
            return logits
        at = torch.arange(logits.shape[1], device=logits.device)
        barred = torch.zeros(logits.shape[1:], device=logits.device)
        for row, size in enumerate(config.sizes):
            barred[row :: config.rows, size : config.codes] = -torch.inf
        if config.end:
            here = (at % config.rows == 0) & (at > 0) & (at < config.rows * config.longest)
            barred[~here, -1] = -torch.inf
        return logits + barred

    def item_nll(
        self,
        codes: Int[Tensor, "batch rows columns"],
        columns: Int[Tensor, " batch"],
        cond: Cond | Prefix | None,
        read: Int[Tensor, "batch rows columns"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """`-log p` of each item, its end included, in nats; what lies beyond its `columns` doesn't count.

        read: what the network is told instead of the codes. Raises Error for codes or lengths that can't be.
        """
        config = self.config
        self.check(codes, columns)
        sequence = flatten(codes, config.order)
        counts = columns[:, None] * config.rows
        at = torch.arange(sequence.shape[1] + 1, device=codes.device)
        targets = torch.cat([sequence, sequence.new_full((len(codes), 1), IGNORED)], dim=1)
        targets = targets.masked_fill(at >= counts, IGNORED)
        if config.end:
            targets = targets.masked_fill((at == counts) & (columns[:, None] < config.longest), config.codes)
        # The last logits are wanted for an end only, and in a sound of the greatest length there is no place for them.
        last = None if config.end and codes.shape[2] < config.longest else -1
        logits = self(flatten(codes if read is None else read, config.order)[:, :last], cond)
        return cross_entropy(logits.mT, targets[:, :last], ignore_index=IGNORED, reduction="none").sum(1)

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
        """`nll` (and `loss`, the same): the mean of `-log p` in nats a code, what ends cost included.

        lengths: how many columns of each item are its own. A `shard` of a batch has these numbers as lengths; draws
        come from `generator` on the CPU, as its items would draw in the whole batch. The `step` changes nothing here.
        """
        nll = self.item_nll(target, lengths, cond, self.corrupted(target, generator, shard)).sum()
        nll = nll / (lengths.sum() * self.config.rows)
        if shard is not None:
            nll = nll * shard.frames_weight
        return {"loss": nll, "nll": nll}

    def corrupted(
        self, codes: Int[Tensor, "batch rows columns"], generator: torch.Generator, shard: BatchShard | None = None
    ) -> Int[Tensor, "batch rows columns"]:
        """The codes as they are read in training: some of them any code, where `pkeep` is below 1."""
        if self.config.pkeep == 1 or not self.training:
            return codes
        items, columns = (len(codes), codes.shape[2]) if shard is None else (shard.items, shard.longest)
        chance = torch.rand(items, codes.shape[1], columns, generator=generator)
        other = torch.randint(self.config.codes, chance.shape, generator=generator)
        if self.config.sizes:
            other = other % torch.tensor(self.config.sizes)[:, None]
        if shard is not None:
            chance, other = (shard.take(drawn)[..., : codes.shape[2]] for drawn in (chance, other))
        return torch.where(chance.to(codes.device) < self.config.pkeep, codes, other.to(codes.device))

    def sample(
        self,
        cond: Cond | None,
        seeds: Sequence[int],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        start: Int[Tensor, "batch height width"] | None = None,
        on_step: OnStep | None = None,
        on_estimate: OnEstimate | None = None,
        allow_untrained: bool = False,
        **settings: Any,
    ) -> tuple[Int[Tensor, "batch rows columns"], Int[Tensor, " batch"]]:
        """Codes and how many columns each item has; beyond an item's own codes are 0.

        lengths: how many columns to make, and then nothing ends earlier; start: codes to continue from, which come back
        with the rest: whole columns, or whole rows where the order is row-major. on_estimate: hears of each such column
        or row what is made so far. settings: of `CodeSampling`; guidance
        other than 1 runs the network with and without the condition side by side. Raises ModelError where the prior was
        never trained, Error for what can't be asked for.
        """
        how = CodeSampling.parse(settings, "the sampling")
        refuse_untrained(self, allow=allow_untrained)
        prefixes = self.prefixes(cond, len(seeds), how.guidance)
        return self.sample_after(
            prefixes, seeds, how, lengths=lengths, start=start, on_step=on_step, on_estimate=on_estimate
        )

    def prefixes(self, cond: Cond | None, batch: int, guidance: float) -> list[Prefix]:
        """What stands before the codes with the condition and, where guidance asks for it, without."""
        with torch.no_grad():
            conds = [cond] if guidance == 1 or cond is None else [cond, cond.null()]
            return [self.trunk.prefix(one, batch) for one in conds]

    def sample_after(
        self,
        prefixes: Sequence[Prefix],
        seeds: Sequence[int],
        how: CodeSampling,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        start: Int[Tensor, "batch height width"] | None = None,
        on_step: OnStep | None = None,
        on_estimate: OnEstimate | None = None,
    ) -> tuple[Int[Tensor, "batch rows columns"], Int[Tensor, " batch"]]:
        """`sample`, after one prefix for each item, or after two where the sampling is guided."""
        config, begun = self.config, torch.zeros(len(seeds), 0, dtype=torch.int64, device=self.trunk.null.device)
        whole = config.order == "row-major"
        if start is not None:
            self._check_grid(start, height=len(start[0]) if whole else config.rows)
            begun = flatten(start.to(begun.device), config.order)
        if whole and lengths is not None:
            if lengths.tolist() != [config.longest] * len(seeds):
                raise Error(f"lengths of {lengths.tolist()!s:.60} came; each item is {config.longest} columns wide")
            lengths = None
        decoding = _Decoding(self, prefixes)

        def grids(sequence: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
            if whole:
                return sequence.unflatten(1, (-1, config.longest)), torch.full_like(lines, config.longest)
            return unflatten(sequence, config.order, height=config.rows), lines

        def on_line(done: int, most: int, sequence: Tensor, lines: Tensor) -> None:
            if on_estimate is not None:
                on_estimate(done, most, *grids(sequence, lines))

        sequence, lines = decode(
            decoding.prefill,
            decoding.step,
            begun,
            seeds,
            sizes=config.sizes or [config.codes] * config.line,
            longest=config.lines,
            end=config.end,
            sampling=how,
            guided=len(prefixes) == 2,
            lengths=lengths,
            on_step=on_step,
            on_line=None if on_estimate is None else on_line,
        )
        return grids(sequence, lines)

    @torch.no_grad()
    def attention_maps(
        self, codes: Int[Tensor, "batch rows columns"], cond: Cond | None
    ) -> list[Float[Tensor, "batch heads n n"]]:
        """For each block how much each place of condition and codes looks at each; the condition comes first."""
        self.check(codes)
        x, rotary, mask = self.trunk.begin(self.trunk.prefix(cond, len(codes)), flatten(codes, self.config.order))
        maps = []
        for block in self.trunk.stack:
            maps.append(block.weights(x, rotary, mask))
            x = block(x, rotary, mask)
        return maps

    def check(self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"] | None = None) -> None:
        """Raises Error for codes that are not this prior's, and for lengths that are not theirs."""
        self._check_grid(codes, height=self.config.rows)
        least = codes.shape[2] if self.config.order == "row-major" else 1
        if columns is not None and not bool(((columns >= least) & (columns <= codes.shape[2])).all()):
            raise Error(f"lengths of {columns.tolist()!s:.60} came with codes of {least} to {codes.shape[2]} columns")

    def _check_grid(self, codes: Int[Tensor, "batch height width"], *, height: int) -> None:
        config = self.config
        least = config.longest if config.order == "row-major" else 1
        if codes.shape[1] != height or not 0 < height <= config.rows or not least <= codes.shape[2] <= config.longest:
            raise Error(
                f"codes of {codes.shape[1]} rows and {codes.shape[2]} columns came, where this prior knows "
                f"{config.rows} rows and {least} to {config.longest} columns; use the codec that it was trained with"
            )
        for row, size in enumerate(config.sizes):
            if int(codes[:, row].max()) >= size:
                raise Error(
                    f"code {int(codes[:, row].max())} came in row {row + 1}, which has 0 to {size - 1}; use the codec "
                    "that this prior was trained with"
                )
        low, high = (int(end) for end in codes.aminmax())
        if low < 0 or high >= config.codes:
            raise Error(
                f"codes from {low} to {high} came, where this prior knows 0 to {config.codes - 1}; use the codec "
                "that it was trained with"
            )


class GPTState(NamedTuple):
    """What a GPT keeps from step to step: the blocks' caches, and how many places before each row's condition are
    padding, as a number and as what is added to the attention's logits."""

    caches: list[KVCache]
    padding: Int[Tensor, " rows"]
    bias: Float[Tensor, "rows 1 1 capacity"] | None

    def narrow(self, kept: Bool[Tensor, " rows"]) -> GPTState:
        bias = None if self.bias is None else self.bias[kept]
        return GPTState([cache.narrow(kept) for cache in self.caches], self.padding[kept], bias)


class _Decoding:
    """A GPT after its condition, as the two functions that `decode` takes."""

    def __init__(self, prior: GPTPrior, prefixes: Sequence[Prefix]) -> None:
        self.prior, self.trunk = prior, prior.trunk
        self.prefix = Prefix(*(torch.cat(parts) for parts in zip(*prefixes, strict=True)))

    def prefill(self, codes: Int[Tensor, "rows begun"], room: int) -> tuple[Float[Tensor, "rows choices"], GPTState]:
        config, (rows, before) = self.prior.config, self.prefix.valid.shape
        capacity = before + room
        if config.positions == "learned" and capacity - 1 > config.places:
            raise Error(
                f"the condition has {before} tokens and this prior was made for at most {config.prefix}; give it fewer"
            )
        self.fast = FastStep(self.trunk.stack, self.trunk.norm, self.prior.head, rows=rows, capacity=capacity)
        caches = [block.new_cache(rows, capacity) for block in self.trunk.stack]
        hidden = self.trunk(self.prefix, codes, caches=caches)[:, -1]
        padding = (~self.prefix.valid).sum(1)
        return self.fast.head(hidden), GPTState(caches, padding, padding_bias(padding, capacity))

    def step(
        self, codes: Int[Tensor, " rows"], at: int, state: GPTState
    ) -> tuple[Float[Tensor, "rows choices"], GPTState]:
        before = self.prefix.tokens.shape[1]
        x = self.trunk.embed(codes, at, before, state.padding)
        return self.fast(x, state.caches, before + at, state.bias), state


def mingpt_vas(*, prefix: int = 1) -> GPTConfig:
    """SpecVQGAN's size for VAS (8 classes, 128 codes): some 300 M weights. prefix: 1 class, 1, 5 or 212 frames."""
    return _published(128, 24, 16, 1024, 0.5, prefix)


def vggsound_large(*, prefix: int = 1) -> GPTConfig:
    """MelSpec_GPT's large size for VGGSound (1024 codes): some 700 M weights."""
    return _published(1024, 36, 20, 1280, 0.0, prefix)


def vggsound_xl(*, prefix: int = 1) -> GPTConfig:
    """MelSpec_GPT's largest size for VGGSound: some 1,040 M weights."""
    return _published(1024, 40, 23, 1472, 0.0, prefix)


def _published(codes: int, depth: int, heads: int, width: int, dropout: float, prefix: int) -> GPTConfig:
    """Grids of 5 x 53 (9.8 s), always filled; what the encoder gives is as wide as the network."""
    return GPTConfig(
        codes=codes, rows=5, longest=53, width=width, depth=depth, heads=heads, dropout=dropout, cond_dim=width,
        vector=False, positions="learned", prefix=prefix, end=False,
    )  # fmt: skip
