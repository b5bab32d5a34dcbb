"""An encoder of the condition and a decoder of a picture's codes: DALL-E mini.

`p(codes | condition) = prod_i p(code_i | codes before i, condition)` as a GPT's, but the condition is read both ways by
an encoder of its own, and the decoder looks at what that gives (Dayma et al., 2021, "DALL-E mini", after BART, Lewis et
al., 2019, arXiv 1910.13461). The network is in `nn.encoder_decoder`, the loop that samples in `priors.decoding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond
from cymatic.errors import Error, ModelError
from cymatic.latent import TargetFacts
from cymatic.nn.encoder_decoder import MOST_WEIGHTS, EncoderDecoder, EncoderDecoderShape, EncoderStates
from cymatic.nn.fast_decoder import DecoderState, FastDecoderStep, decoder_state
from cymatic.nn.linear import Linear
from cymatic.nn.trained import refuse_untrained
from cymatic.priors.decoding import CodeSampling, decode
from cymatic.priors.progress import OnEstimate, OnStep
from cymatic.priors.whole_grid import begun, check_grid, check_lengths, fitted_to


class Seq2SeqConfig(EncoderDecoderShape):
    """A size, and which codes are written: grids of `rows` by `longest` codes, each of `codes` different ones.

    cond_dim: width of the condition's tokens and vector; vector: whether its vector is read, as one more token before
    the others. prefix: tokens of a condition at most, its vector included; nulls: learned tokens that stand for a
    condition that is not there. codes, rows, longest, cond_dim: of what it is trained on; a recipe leaves them open.
    """

    over: ClassVar[Literal["codes"]] = "codes"
    by_rows: ClassVar[bool] = True  # whole rows are continued

    kind: Literal["seq2seq"] = "seq2seq"
    codes: int = Field(default=2, gt=1, le=2**20)
    rows: int = Field(default=1, gt=0, le=4096)
    longest: int = Field(default=1, gt=0, le=2**20)
    cond_dim: int = Field(default=256, gt=0, le=16384)
    vector: bool = True
    prefix: int = Field(default=65, gt=0, le=65536)
    nulls: int = Field(default=1, gt=0, le=64)

    @model_validator(mode="after")
    def _not_too_large(self) -> Self:
        tables = (2 * self.codes + self.rows * self.longest + self.prefix) * self.width
        if self.blocks_weights + tables > MOST_WEIGHTS:
            raise ValueError(f"these sizes make more than {MOST_WEIGHTS:,} weights")
        if self.nulls > self.prefix:
            raise ValueError(f"{self.nulls} nulls don't fit into a condition of {self.prefix} tokens at most")
        return self

    @property
    def reads(self) -> None:
        """No medium: the codes of a codec."""

    def size(self, row: int) -> int:
        """How many codes a row has to choose from."""
        return self.codes

    def fitted(self, facts: TargetFacts) -> Seq2SeqConfig:
        """For the codes and the condition that the data and other parts decide."""
        return fitted_to(self, facts)


class Seq2SeqPrior(nn.Module):
    """Cond -> codes `[batch, rows, columns]`, row by row, always a whole grid. A prior of 0 steps trained refuses to
    sample."""

    config_class: ClassVar[type[Seq2SeqConfig]] = Seq2SeqConfig
    sampling: ClassVar[type[CodeSampling]] = CodeSampling
    measured: ClassVar[str] = "nll"
    measuring_rounds: ClassVar[int] = 1
    has_latent: ClassVar[bool] = False
    verbs: ClassVar[frozenset[str]] = frozenset({"preview"})
    steps_trained: Tensor

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.null = nn.Parameter(torch.randn(config.nulls, config.width) * 0.02)
        self.read_token = Linear(config.cond_dim, config.width)
        self.read_vector = Linear(config.cond_dim, config.width) if config.vector else None
        # The last token is the one before the first code. It is never written, but published heads have a row for it.
        choices, places = config.codes + 1, config.rows * config.longest
        self.network = EncoderDecoder(config, inputs=choices, outputs=choices, places=(config.prefix, places))

    @property
    def longest(self) -> int:
        """Columns."""
        return self.config.longest

    def fits(self, length: int) -> bool:
        """Whether so many columns are no more than the longest trained on."""
        return length <= self.longest

    def weight_of(self, lengths: Int[Tensor, " batch"]) -> float:
        """How much a batch weighs in a mean over batches: its columns."""
        return float(lengths.sum())

    def matrices(self) -> list[nn.Parameter]:
        """The weights for orthogonal steps: those of the linear layers inside the blocks."""
        return self.network.matrices()

    @torch.no_grad()
    def take_over(self, other: Seq2SeqPrior, longest: int) -> None:
        """Goes on from another's weights. Raises ModelError for one of another config."""
        if other.config != self.config:
            raise ModelError(f"the prior to go on from is another one; set the part to {other.config!r}")
        self.load_state_dict(other.state_dict())

    def encode(self, cond: Cond | None, batch: int) -> EncoderStates:
        """The condition as the decoder looks at it; the learned nulls where all of it was dropped, is empty or is not
        given at all. Raises Error for a condition that this prior can't read."""
        nulls = self.null[None].expand(batch, -1, -1)
        if cond is None:
            return self.network.encode(nulls, torch.ones(nulls.shape[:2], dtype=torch.bool, device=nulls.device))
        x, valid = self._read(cond, batch)
        fewer = max(0, len(self.null) - x.shape[1])
        x, valid = pad(x, (0, 0, 0, fewer)), pad(valid, (0, fewer))
        if x.shape[1] > self.config.prefix:
            raise Error(
                f"the condition has {x.shape[1]} tokens and this prior was made for at most {self.config.prefix}; give "
                "it fewer"
            )
        absent = ~valid.any(1)
        place = torch.arange(x.shape[1], device=x.device) < len(self.null)
        put = absent[:, None] & place
        x = torch.where(put[..., None], pad(nulls, (0, 0, 0, x.shape[1] - len(self.null))), x)
        return self.network.encode(x, valid | put)

    def _read(self, cond: Cond, batch: int) -> tuple[Float[Tensor, "batch m width"], Bool[Tensor, "batch m"]]:
        dim = self.config.cond_dim
        for one in (cond.tokens, cond.vector):
            if one is not None and one.shape[-1] != dim:
                raise Error(
                    f"the condition is {one.shape[-1]} wide and this prior reads {dim}; use the encoder that it was "
                    "trained with"
                )
        if len(cond) != batch:
            raise Error(f"{len(cond)} conditions came for {batch} items; give one for each")
        tokens: list[Tensor] = []
        masks: list[Tensor] = []
        if self.read_vector is not None:  # its place is there with a vector and without, so that tokens keep theirs
            valid = torch.full((batch, 1), cond.vector is not None, device=cond.device)
            vector = torch.zeros(batch, dim, device=cond.device) if cond.vector is None else cond.vector
            tokens.append(self.read_vector(vector * dim**0.5)[:, None])
            masks.append(valid if cond.vector_dropped is None else valid & ~cond.vector_dropped[:, None])
        elif cond.tokens is None:
            raise Error("this prior reads the condition's tokens, and this condition has only a vector")
        if cond.tokens is not None and cond.mask is not None:
            tokens.append(self.read_token(cond.tokens))
            masks.append(cond.mask if cond.tokens_dropped is None else cond.mask & ~cond.tokens_dropped[:, None])
        return torch.cat(tokens, dim=1), torch.cat(masks, dim=1)

    def begin(self, codes: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n+1"]:
        """What the decoder reads: the token before the first code, then the codes."""
        return pad(codes, (1, 0), value=self.config.codes)

    def forward(self, codes: Int[Tensor, "batch n"], cond: Cond | None) -> Float[Tensor, "batch places codes"]:
        """Logits of the first code and of the one after each of `codes`, which are read row by row."""
        encoded = self.encode(cond, len(codes))
        hidden = self.network.decode(self.begin(codes), self.network.given(encoded), encoded.mask)
        return self.network.head(hidden)[..., : self.config.codes]

    def item_nll(
        self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"], cond: Cond | None
    ) -> Float[Tensor, " batch"]:
        """`-log p` of each item in nats. Raises Error for codes or lengths that can't be."""
        check_grid(self.config, codes, height=self.config.rows)
        check_lengths(self.config, columns, len(codes))
        sequence = codes.flatten(1)
        return cross_entropy(self(sequence[:, :-1], cond).mT, sequence, reduction="none").sum(1)

    def nll(
        self, codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"], cond: Cond | None,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """The mean negative log-likelihood of an item in nats."""
        return self.item_nll(codes, columns, cond).mean()

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
        """`nll` (and `loss`, the same): the mean of `-log p` in nats a code. Nothing is drawn, and `step` changes
        nothing."""
        nll = self.item_nll(target, lengths, cond).mean() / (self.config.rows * self.config.longest)
        if shard is not None:
            nll = nll * shard.items_weight
        return {"loss": nll, "nll": nll}

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
        """Codes, and how many columns each item has, which is the same for all.

        start: whole rows to continue from, which come back with the rest. on_estimate: hears of each row what is made
        so far. settings: of `CodeSampling`; guidance other
        than 1 runs the decoder with and without the condition side by side (DALL-E mini's super-conditioning). Raises
        ModelError where the prior was never trained, Error for what can't be asked for.
        """
        how = CodeSampling.parse(settings, "the sampling")
        refuse_untrained(self, allow=allow_untrained)
        config, batch = self.config, len(seeds)
        first = begun(config, start, seeds, self.null.device)
        check_lengths(config, lengths, batch)
        guided = how.guidance != 1 and cond is not None

        def on_line(done: int, most: int, sequence: Tensor, lines: Tensor) -> None:
            if on_estimate is not None:
                columns = torch.full_like(lines, config.longest)
                on_estimate(done, most, sequence.unflatten(1, (-1, config.longest)), columns)

        with torch.inference_mode():
            encoded = [self.encode(one, batch) for one in ([cond, cond.null()] if guided and cond else [cond])]
            decoding = _Decoding(self, EncoderStates(*(torch.cat(parts) for parts in zip(*encoded, strict=True))))
            sequence, _ = decode(
                decoding.prefill,
                decoding.step,
                first,
                seeds,
                sizes=[config.codes] * config.longest,
                longest=config.rows,
                end=False,
                sampling=how,
                guided=guided,
                on_step=on_step,
                on_line=None if on_estimate is None else on_line,
            )
        columns = torch.full((batch,), config.longest, device=sequence.device)
        return sequence.clone().unflatten(1, (config.rows, config.longest)), columns

    @torch.no_grad()
    def attention_maps(
        self, codes: Int[Tensor, "batch rows columns"], cond: Cond | None
    ) -> list[Float[Tensor, "batch heads n n"]]:
        """For each block of the decoder how much each code looks at each before it; the token before them is first."""
        check_grid(self.config, codes, height=self.config.rows)
        return self.network.attention_maps(self.begin(codes.flatten(1)[:, :-1]), self.encode(cond, len(codes)))


class _Decoding:
    """The decoder after its condition, as the two functions that `decode` takes."""

    def __init__(self, prior: Seq2SeqPrior, encoded: EncoderStates) -> None:
        self.prior, self.network, self.encoded = prior, prior.network, encoded
        self.fast = FastDecoderStep(prior.network, rows=len(encoded.valid))

    def prefill(self, codes: Int[Tensor, "rows n"], room: int) -> tuple[Float[Tensor, "rows choices"], DecoderState]:
        given = self.network.given(self.encoded)
        hidden, state = decoder_state(self.network, self.prior.begin(codes), given, self.encoded.valid, room)
        return self.fast.head(hidden), state

    def step(
        self, codes: Int[Tensor, " rows"], at: int, state: DecoderState
    ) -> tuple[Float[Tensor, "rows choices"], DecoderState]:
        return self.fast(codes, at + 1, state), state


def dalle_mini(**changes: Any) -> Seq2SeqConfig:
    """The size of DALL-E mini's published weights: some 440 M, of pictures of 16 x 16 codes."""
    return _published(1024, 12, 16, 2730, changes)


def dalle_mega(**changes: Any) -> Seq2SeqConfig:
    """The size of DALL-E mega's published weights: some 2.6 G, of pictures of 16 x 16 codes."""
    return _published(2048, 24, 32, 4096, changes)


def _published(width: int, depth: int, heads: int, hidden: int, changes: dict[str, Any]) -> Seq2SeqConfig:
    return Seq2SeqConfig(
        **{
            "codes": 16_384, "rows": 16, "longest": 16, "width": width, "depth": depth, "heads": heads,
            "hidden": hidden, "cond_dim": width, "vector": False, "prefix": 64, "nulls": 2, **changes,
        }
    )  # fmt: skip
