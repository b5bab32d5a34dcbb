"""The network of every model of code sequences: a condition and codes go in, one vector for each place comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, Self, cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.cond import Cond
from cymatic.config import Config
from cymatic.errors import Error
from cymatic.nn.causal import GPTBlock, causal_mask
from cymatic.nn.kv_cache import KVCache
from cymatic.nn.linear import Linear
from cymatic.nn.rotary import rotary_tables

MOST_WEIGHTS = 2_000_000_000  # so that a damaged or hostile config can't take all memory


class Prefix(NamedTuple):
    """What stands before the codes: `[batch, m, width]`, and which of it is valid, `[batch, m]`; padding is on the
    left, so the last place is always valid and every item's codes begin at the same place."""

    tokens: Tensor
    valid: Tensor

    def then(self, token: Float[Tensor, "batch width"]) -> Prefix:
        """One more valid token after these."""
        valid = torch.ones(len(token), 1, dtype=torch.bool, device=token.device)
        return Prefix(torch.cat([self.tokens, token[:, None]], dim=1), torch.cat([self.valid, valid], dim=1))


class CodeShape(Config):
    """Which codes are read and how large the network is.

    codes: how many different ones there are; rows: codes in a column; longest: columns at most; order: in which a grid
    is read (`priors.order`). Column by column a grid may have any width up to `longest`, row by row all have that one,
    as pictures do. cond_dim: width of the condition's tokens and vector, none where nothing is ever conditioned on;
    vector: whether its vector is read. positions: `rotary`, or `learned` for each place of condition and codes
    together, of which `prefix` are the condition's at most; published weights need the latter.
    """

    over: ClassVar[Literal["codes"]] = "codes"

    codes: int = Field(default=2, gt=1, le=2**20)
    rows: int = Field(default=1, gt=0, le=4096)
    longest: int = Field(default=1, gt=0, le=2**20)
    order: Literal["column-major", "row-major"] = "column-major"
    width: int = Field(default=256, gt=0, le=16384)
    depth: int = Field(default=6, gt=0, le=256)
    heads: int = Field(default=4, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    cond_dim: int | None = Field(default=256, gt=0, le=16384)
    vector: bool = True
    positions: Literal["rotary", "learned"] = "rotary"
    prefix: int = Field(default=0, ge=0, le=65536)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        weights = 12 * self.depth * self.width**2 + (self.codes + self.places) * self.width
        if weights > MOST_WEIGHTS:
            raise ValueError(f"these sizes make more than {MOST_WEIGHTS:,} weights")
        if self.width % self.heads or (self.positions == "rotary" and self.width % (2 * self.heads)):
            raise ValueError(f"width {self.width} is not a multiple of twice the heads ({self.heads})")
        if (self.positions == "learned") != (self.prefix > 0):
            raise ValueError("prefix goes with learned positions: give the most tokens that a condition has")
        return self

    @property
    def reads(self) -> None:
        """No medium: the codes of a codec."""

    @property
    def by_rows(self) -> bool:
        """Whether whole rows are continued, not whole columns."""
        return self.order == "row-major"

    @property
    def line(self) -> int:
        """Codes in a line of the sequence: a column, or a row where the order is row-major."""
        return self.rows if self.order == "column-major" else self.longest

    @property
    def lines(self) -> int:
        """Lines of the sequence at most."""
        return self.longest if self.order == "column-major" else self.rows

    @property
    def places(self) -> int:
        """Rows of the table that says where a code stands: in its line, or in the whole sequence."""
        return self.line if self.positions == "rotary" else self.prefix + self.rows * self.longest


class CodeTrunk(nn.Module):
    """Embeddings, blocks and a last norm over `[condition, codes]`, causal or both ways."""

    def __init__(self, config: CodeShape, depth: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.null = nn.Parameter(torch.randn(width) * 0.02)  # stands for a condition that is not there
        self.read_token = Linear(config.cond_dim, width) if config.cond_dim else None
        self.read_vector = Linear(config.cond_dim, width) if config.cond_dim and config.vector else None
        self.code = nn.Embedding(config.codes, width)
        self.place = nn.Embedding(config.places, width)
        self.dropout = nn.Dropout(config.dropout)
        rotary = config.positions == "rotary"
        self.blocks = nn.ModuleList(
            GPTBlock(width, config.heads, dropout=config.dropout, rotary=rotary) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
        for name, weight in self.blocks.named_parameters():
            if name.endswith(("out.weight", "narrow.weight")):  # so that what all blocks add doesn't grow with them
                nn.init.normal_(weight, std=0.02 / (2 * depth) ** 0.5)

    @property
    def stack(self) -> list[GPTBlock]:
        """The blocks, as what they are."""
        return cast(list[GPTBlock], list(self.blocks))

    def prefix(self, cond: Cond | None, batch: int) -> Prefix:
        """The condition as what stands before the codes: its tokens, then its vector; the learned null where it was
        dropped, is empty or is not given at all. Raises Error for a condition that this prior can't read."""
        if cond is None:
            valid = torch.ones(batch, 1, dtype=torch.bool, device=self.null.device)
            return Prefix(self.null.expand(batch, 1, -1), valid)
        tokens, valid = self._read(cond, batch)
        order = valid.int().argsort(dim=1, stable=True)
        tokens = tokens.gather(1, order[..., None].expand_as(tokens))
        valid = valid.gather(1, order)
        gone = ~valid.any(1)
        last = torch.arange(valid.shape[1], device=valid.device) == valid.shape[1] - 1
        valid = torch.where(gone[:, None], last, valid)
        return Prefix(torch.where((gone[:, None] & last)[..., None], self.null, tokens), valid)

    def _read(self, cond: Cond, batch: int) -> tuple[Tensor, Tensor]:
        dim = self.config.cond_dim
        parts: list[Tensor] = []
        masks: list[Tensor] = []
        for given in (cond.tokens, cond.vector):
            if given is not None and given.shape[-1] != dim:
                raise Error(
                    f"the condition is {given.shape[-1]} wide and this prior reads "
                    f"{'no condition' if dim is None else dim}; use the encoder that it was trained with"
                )
        if len(cond) != batch:
            raise Error(f"{len(cond)} conditions came for {batch} items; give one for each")
        if cond.tokens is not None and cond.mask is not None and self.read_token is not None:
            parts.append(self.read_token(cond.tokens))
            masks.append(cond.mask if cond.tokens_dropped is None else cond.mask & ~cond.tokens_dropped[:, None])
        if cond.vector is not None and self.read_vector is not None and dim is not None:
            parts.append(self.read_vector(cond.vector * dim**0.5)[:, None])
            valid = torch.ones(batch, 1, dtype=torch.bool, device=cond.device)
            masks.append(valid if cond.vector_dropped is None else valid & ~cond.vector_dropped[:, None])
        if not parts:
            raise Error("this prior reads the condition's tokens, and this condition has only a vector")
        return torch.cat(parts, dim=1), torch.cat(masks, dim=1)

    def forward(
        self,
        prefix: Prefix,
        codes: Int[Tensor, "batch n"],
        *,
        both_ways: Bool[Tensor, "batch n"] | None = None,
        caches: Sequence[KVCache | None] | None = None,
    ) -> Float[Tensor, "batch all width"]:
        """A vector for each place of prefix and codes; the one before a code has read all but that code.

        both_ways: which codes are valid, where each place is to look at all valid ones. caches: as in `GPTBlock`.
        """
        x, rotary, mask = self.begin(prefix, codes, both_ways)
        for block, cache in zip(self.stack, caches or [None] * len(self.blocks), strict=True):
            x = block(x, rotary, mask, cache)
        return self.norm(x)

    def begin(
        self, prefix: Prefix, codes: Int[Tensor, "batch n"], both_ways: Bool[Tensor, "batch n"] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor | None]:
        """What the first block reads: the embedded sequence, the turns of its places and the mask (`GPTBlock`)."""
        tokens, valid = prefix
        n, device = tokens.shape[1] + codes.shape[1], tokens.device
        x = torch.cat([tokens, self.code(codes)], dim=1)
        rotary = None
        if self.config.positions == "rotary":
            rotary = rotary_tables(torch.arange(n, device=device), self.config.width // self.config.heads)
            places = torch.arange(codes.shape[1], device=device) % self.config.line
            x = x + torch.cat([tokens.new_zeros(tokens.shape[1:]), self.place(places)])
        else:
            if n > self.config.places:
                raise Error(
                    f"condition and codes are {n} together, and this prior was made for {self.config.places}: "
                    f"{self.config.prefix} of the condition and {self.config.rows * self.config.longest} codes"
                )
            x = x + self.place((torch.arange(n, device=device) - (~valid).sum(1, keepdim=True)).clamp_min(0))
        x = self.dropout(x)
        if both_ways is not None:
            return x, rotary, torch.cat([valid, both_ways], dim=1)[:, None, None, :]
        if bool(valid.all()):
            return x, rotary, None
        return x, rotary, causal_mask(torch.cat([valid, torch.ones_like(codes, dtype=torch.bool)], dim=1))

    def embed(
        self, codes: Int[Tensor, " batch"], at: int, prefix: int, padding: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch width"]:
        """What a step reads of code number `at` of each item, after `prefix` places whose first `padding` are void."""
        if self.config.positions == "rotary":
            return self.code(codes) + self.place.weight[at % self.config.line]
        return self.code(codes) + self.place(prefix + at - padding)
