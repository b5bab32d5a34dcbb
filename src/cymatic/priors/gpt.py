"""A GPT over the codes of a spectrogram or a picture: each code from the condition and all codes before it.

Codes of a vector-quantised autoencoder as a language (Esser et al., 2020, arXiv 2012.09841), read column by column, so
that time goes first (Iashin and Rahtu, 2021, arXiv 2110.08791). `p(codes | condition) = prod_i p(code_i | codes before
i, condition)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond
from cymatic.errors import Error, ModelError
from cymatic.nn.causal import GPTBlock
from cymatic.priors.generation import Choice, generate
from cymatic.priors.grid import flatten
from cymatic.priors.trunk import CodeShape, CodeTrunk, Prefix

IGNORED = -100  # a target that the loss passes by


class GPTConfig(CodeShape):
    """end: whether a sound says itself that it is over; without that it always has the columns asked for, or `longest`.

    pkeep: each code that the network reads in training is kept with this probability and else is any code, so that it
    learns to go on from its own mistakes. sizes: how many codes each row has to choose from, where some have fewer than
    `codes`.
    """

    kind: Literal["gpt"] = "gpt"
    end: bool = True
    pkeep: float = Field(default=1.0, gt=0, le=1)
    sizes: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _one_size_a_row(self) -> Self:
        if self.sizes and (len(self.sizes) != self.rows or min(self.sizes) < 1 or max(self.sizes) != self.codes):
            raise ValueError(f"sizes are {self.sizes}; give one for each of {self.rows} rows, up to {self.codes}")
        return self

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
    steps_trained: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.trunk = CodeTrunk(config, config.depth)
        self.head = nn.Linear(config.width, config.codes + config.end, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

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
        sequence = flatten(codes)
        counts = columns[:, None] * config.rows
        at = torch.arange(sequence.shape[1] + 1, device=codes.device)
        targets = torch.cat([sequence, sequence.new_full((len(codes), 1), IGNORED)], dim=1)
        targets = targets.masked_fill(at >= counts, IGNORED)
        if config.end:
            targets = targets.masked_fill((at == counts) & (columns[:, None] < config.longest), config.codes)
        # The last logits are wanted for an end only, and in a sound of the greatest length there is no place for them.
        last = None if config.end and codes.shape[2] < config.longest else -1
        logits = self(flatten(codes if read is None else read)[:, :last], cond)
        return cross_entropy(logits.mT, targets[:, :last], ignore_index=IGNORED, reduction="none").sum(1)

    def loss(
        self,
        codes: Int[Tensor, "batch rows columns"],
        columns: Int[Tensor, " batch"],
        cond: Cond | None,
        generator: torch.Generator,
        shard: BatchShard | None = None,
    ) -> dict[str, Tensor]:
        """`nll` (and `loss`, the same): the mean of `-log p` in nats a code, what ends cost included.

        columns: how many of each item are its own. A `share` of a batch has the columns' numbers as lengths; draws come
        from `generator` on the CPU, as its items would draw in the whole batch.
        """
        nll = self.item_nll(codes, columns, cond, self.corrupted(codes, generator, shard)).sum()
        nll = nll / (columns.sum() * self.config.rows)
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
        columns: Int[Tensor, " batch"] | None = None,
        start: Int[Tensor, "batch rows begun"] | None = None,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        greedy: bool = False,
        allow_untrained: bool = False,
    ) -> tuple[Int[Tensor, "batch rows columns"], Int[Tensor, " batch"]]:
        """Codes and how many columns each item has; beyond an item's own codes are 0.

        columns: how many to make, and then nothing ends earlier; start: codes to continue from, which come back with
        the rest. Guidance other than 1 runs the network with and without the condition side by side. For the others
        see `Choice`. Raises ModelError where the prior was never trained, Error for what can't be asked for.
        """
        self.require_training(allow_untrained)
        choice = Choice(temperature, top_k, top_p, greedy)
        prefixes = self.prefixes(cond, len(seeds), guidance)
        return generate(self, prefixes, seeds, choice=choice, columns=columns, start=start, guidance=guidance)

    def prefixes(self, cond: Cond | None, batch: int, guidance: float) -> list[Prefix]:
        """What stands before the codes with the condition and, where guidance asks for it, without."""
        with torch.no_grad():
            conds = [cond] if guidance == 1 or cond is None else [cond, cond.null()]
            return [self.trunk.prefix(one, batch) for one in conds]

    def require_training(self, allow_untrained: bool) -> None:
        if not (self.steps_trained or allow_untrained):
            raise ModelError("this model was never trained (0 steps), so it can only make noise; train it first")

    @torch.no_grad()
    def attention_maps(
        self, codes: Int[Tensor, "batch rows columns"], cond: Cond | None
    ) -> list[Float[Tensor, "batch heads n n"]]:
        """For each block how much each place of condition and codes looks at each; the condition comes first."""
        self.check(codes)
        x, rotary, mask = self.trunk.begin(self.trunk.prefix(cond, len(codes)), flatten(codes))
        maps = []
        for block in self.trunk.blocks:
            assert isinstance(block, GPTBlock)
            maps.append(block.weights(x, rotary, mask))
            x = block(x, rotary, mask)
        return maps

    def check(self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"] | None = None) -> None:
        """Raises Error for codes that are not this prior's, and for lengths that are not theirs."""
        rows, most = self.config.rows, self.config.longest
        if codes.shape[1] != rows or not 0 < codes.shape[2] <= most:
            raise Error(
                f"codes of {codes.shape[1]} rows and {codes.shape[2]} columns came, where this prior knows {rows} rows "
                f"and 1 to {most} columns; use the codec that it was trained with"
            )
        for row, size in enumerate(self.config.sizes):
            if int(codes[:, row].max()) >= size:
                raise Error(
                    f"code {int(codes[:, row].max())} came in row {row + 1}, which has 0 to {size - 1}; use the codec "
                    "that this prior was trained with"
                )
        low, high = (int(end) for end in codes.aminmax())
        if low < 0 or high >= self.config.codes:
            raise Error(
                f"codes from {low} to {high} came, where this prior knows 0 to {self.config.codes - 1}; use the codec "
                "that it was trained with"
            )
        if columns is not None and not bool(((columns > 0) & (columns <= codes.shape[2])).all()):
            raise Error(f"columns of {columns.tolist()!s:.60} came with codes of 1 to {codes.shape[2]} columns")


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
