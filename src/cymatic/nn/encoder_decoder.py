"""A transformer that reads one sequence both ways and writes another from the left (Vaswani et al., 2017, arXiv
1706.03762), as DALL-E mini and BART build it.

normformer: DALL-E mini's (Dayma et al., 2021). Each sublayer is `x + norm(f(norm(x)))` (Shleifer et al., 2021, arXiv
2110.09456), the layer in the middle is `W (norm(gelu(A x) * B x))` (Shazeer, 2020, arXiv 2002.05202), no linear layer
has a bias, and a last norm follows.
bart: each sublayer is `norm(x + f(x))`, the layer in the middle `W gelu(A x)`, everything has biases (Lewis et al.,
2019, arXiv 1910.13461).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from cymatic.config import Config
from cymatic.nn.kv_cache import KVCache
from cymatic.nn.linear import Linear, gelu_linear, matrices_of

MOST_WEIGHTS = 4_000_000_000  # so that a damaged or hostile config can't take all memory
Style = Literal["normformer", "bart"]


class EncoderDecoderShape(Config):
    """The size of both halves, and how their blocks are built.

    width: of every place. depth, heads, hidden: blocks of the decoder, heads of their attention, width of the layer in
    the middle (None: 8/3 of the width in normformer, whose layer has three matrices, and 4 times in bart). The
    encoder's are the same where nothing else is given.
    """

    style: Style = "normformer"
    width: int = Field(default=256, gt=0, le=16384)
    depth: int = Field(default=4, gt=0, le=256)
    heads: int = Field(default=4, gt=0)
    hidden: int | None = Field(default=None, gt=0, le=65536)
    encoder_depth: int | None = Field(default=None, gt=0, le=256)
    encoder_heads: int | None = Field(default=None, gt=0)
    encoder_hidden: int | None = Field(default=None, gt=0, le=65536)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> EncoderDecoderShape:
        for heads in (self.heads, self.encoder_heads or self.heads):
            if self.width % heads:
                raise ValueError(f"width {self.width} is not a multiple of the heads ({heads})")
        if self.blocks_weights > MOST_WEIGHTS:
            raise ValueError(f"these sizes make more than {MOST_WEIGHTS:,} weights")
        return self

    @property
    def decoder_hidden(self) -> int:
        """Width of the layer in the middle of the decoder's blocks."""
        if self.hidden is not None:
            return self.hidden
        return 8 * self.width // 3 if self.style == "normformer" else 4 * self.width

    @property
    def blocks_weights(self) -> int:
        """About how many weights the blocks have."""
        matrices = 3 if self.style == "normformer" else 2
        decoder = self.depth * (8 * self.width + matrices * self.decoder_hidden) * self.width
        hidden = self.encoder_hidden or self.decoder_hidden
        return decoder + (self.encoder_depth or self.depth) * (4 * self.width + matrices * hidden) * self.width


class MultiHeadAttention(nn.Module):
    """Attention of one sequence to another, or to itself."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q = Linear(width, width, bias=bias)
        self.kv = Linear(width, 2 * width, bias=bias)
        self.out = Linear(width, width, bias=bias)

    def keys_and_values(self, x: Float[Tensor, "batch m width"]) -> Float[Tensor, "batch 2 heads m dim"]:
        """What can be looked at."""
        return self.kv(x).unflatten(-1, (2, self.heads, -1)).permute(0, 2, 3, 1, 4)

    def queries(self, x: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch heads n dim"]:
        """What each place looks for."""
        return self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        kv: Float[Tensor, "batch 2 heads m dim"] | None = None,
        mask: Bool[Tensor, "batch #heads #n m"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "batch n width"]:
        """kv: of the sequence that is looked at, else of `x`. mask: True at places that may be looked at."""
        k, v = (self.keys_and_values(x) if kv is None else kv).unbind(1)
        y = scaled_dot_product_attention(self.queries(x), k, v, attn_mask=mask, is_causal=causal)
        return self.out(y.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """`narrow(norm(gelu(gate) * value))`; `widen` gives gate and value."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.widen = Linear(width, 2 * hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.narrow = Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n width"]:
        gate, value = self.widen(x).chunk(2, dim=-1)
        return self.narrow(self.norm(gelu(gate) * value))


class FeedForward(nn.Module):
    """`narrow(gelu(widen(x)))`."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.widen = Linear(width, hidden)
        self.narrow = Linear(hidden, width)

    def forward(self, x: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n width"]:
        return self.narrow(gelu_linear(x, self.widen, "none"))


class Sublayer(nn.Module):
    """`x + after(f(before(x)))`, or in bart `after(x + f(x))`."""

    def __init__(self, f: nn.Module, width: int, style: Style, *, normed: bool, dropout: float) -> None:
        super().__init__()
        self.of_sum = style == "bart"
        self.before = nn.Identity() if self.of_sum else nn.LayerNorm(width)
        self.f: Any = f
        self.after = nn.LayerNorm(width) if normed else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def add(self, x: Float[Tensor, "*batch width"], y: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The result, of what `f` gave."""
        if self.of_sum:
            return self.after(x + self.dropout(y))
        return x + self.dropout(self.after(y))


class BidirectionalBlock(nn.Module):
    """Attention to all valid places, then the layer in the middle."""

    def __init__(self, shape: EncoderDecoderShape, heads: int, hidden: int) -> None:
        super().__init__()
        width, style, dropout = shape.width, shape.style, shape.dropout
        gated = style == "normformer"
        self.attention = Sublayer(
            MultiHeadAttention(width, heads, bias=not gated), width, style, normed=True, dropout=dropout
        )  # fmt: skip
        feed = GatedFeedForward(width, hidden) if gated else FeedForward(width, hidden)
        self.feed = Sublayer(feed, width, style, normed=not gated, dropout=dropout)

    def forward(
        self, x: Float[Tensor, "batch n width"], mask: Bool[Tensor, "batch 1 1 n"] | None
    ) -> Float[Tensor, "batch n width"]:
        attention, feed = self.attention, self.feed
        x = attention.add(x, attention.f(attention.before(x), mask=mask))
        return feed.add(x, feed.f(feed.before(x)))


class DecoderBlock(BidirectionalBlock):
    """Attention to itself from the left, then to what the encoder gave, then the layer in the middle."""

    def __init__(self, shape: EncoderDecoderShape) -> None:
        super().__init__(shape, shape.heads, shape.decoder_hidden)
        heads = MultiHeadAttention(shape.width, shape.heads, bias=shape.style == "bart")
        self.cross = Sublayer(heads, shape.width, shape.style, normed=True, dropout=shape.dropout)

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch n width"],
        given: Float[Tensor, "batch 2 heads m dim"],
        mask: Bool[Tensor, "batch 1 1 m"] | None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch n width"]:
        """given: keys and values of what the encoder gave; a `cache` takes those of `x`, in its first n places."""
        attention, cross, feed = self.attention, self.cross, self.feed
        before = attention.before(x)
        kv = attention.f.keys_and_values(before)
        if cache is not None:
            cache.append(kv, 0)
        x = attention.add(x, attention.f(before, kv, causal=True))
        x = cross.add(x, cross.f(cross.before(x), given, mask))
        return feed.add(x, feed.f(feed.before(x)))


class EncoderStates(NamedTuple):
    """What the decoder looks at: the encoder's states `[batch, m, width]`, and which are valid, `[batch, m]`."""

    states: Tensor
    valid: Tensor

    @property
    def mask(self) -> Bool[Tensor, "batch 1 1 m"] | None:
        """Where may be looked; None where that is everywhere."""
        return None if bool(self.valid.all()) else self.valid[:, None, None, :]


class EncoderDecoder(nn.Module):
    """Both halves, with the decoder's embeddings and its head.

    inputs, outputs: how many different tokens the decoder reads and has to choose from; places: of the encoder's and
    the decoder's sequence at most; head_bias: whether the head has one, as BART's has.
    """

    def __init__(
        self, shape: EncoderDecoderShape, *, inputs: int, outputs: int, places: tuple[int, int], head_bias: bool = False
    ) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.encoder_place = nn.Embedding(places[0], width)
        self.encoder_begin = nn.LayerNorm(width)
        self.token = nn.Embedding(inputs, width)
        self.place = nn.Embedding(places[1], width)
        self.begin = nn.LayerNorm(width)
        self.dropout = nn.Dropout(shape.dropout)
        heads, hidden = shape.encoder_heads or shape.heads, shape.encoder_hidden or shape.decoder_hidden
        depth = shape.encoder_depth or shape.depth
        self.encoder = nn.ModuleList(BidirectionalBlock(shape, heads, hidden) for _ in range(depth))
        self.decoder = nn.ModuleList(DecoderBlock(shape) for _ in range(shape.depth))
        gated = shape.style == "normformer"
        self.encoder_norm = nn.LayerNorm(width) if gated else nn.Identity()
        self.norm = nn.LayerNorm(width) if gated else nn.Identity()
        self.head = nn.Linear(width, outputs, bias=head_bias)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @property
    def blocks(self) -> list[DecoderBlock]:
        """The decoder's blocks, as what they are."""
        return cast(list[DecoderBlock], list(self.decoder))

    def matrices(self) -> list[nn.Parameter]:
        """The weights of the linear layers inside the blocks."""
        return [*matrices_of(self.encoder), *matrices_of(self.decoder)]

    def encode(self, x: Float[Tensor, "batch m width"], valid: Bool[Tensor, "batch m"]) -> EncoderStates:
        """x: embedded tokens without their places."""
        x = self.dropout(self.encoder_begin(x + self.encoder_place.weight[: x.shape[1]]))
        mask = EncoderStates(x, valid).mask
        for block in self.encoder:
            x = block(x, mask)
        return EncoderStates(self.encoder_norm(x), valid)

    def given(self, encoded: EncoderStates) -> list[Float[Tensor, "batch 2 heads m dim"]]:
        """The keys and values of what the encoder gave, for each block of the decoder; the same for every step."""
        return [block.cross.f.keys_and_values(encoded.states) for block in self.blocks]

    def embed(self, tokens: Int[Tensor, "batch n"], at: int = 0) -> Float[Tensor, "batch n width"]:
        """What the first block of the decoder reads of tokens that begin at place `at`."""
        return self.begin(self.token(tokens) + self.place.weight[at : at + tokens.shape[1]])

    def decode(
        self,
        tokens: Int[Tensor, "batch n"],
        given: list[Float[Tensor, "batch 2 heads m dim"]],
        mask: Bool[Tensor, "batch 1 1 m"] | None,
        caches: list[KVCache] | None = None,
    ) -> Float[Tensor, "batch n width"]:
        """A vector for each token, which has read that token and all before it; the head makes logits of it."""
        x = self.dropout(self.embed(tokens))
        for i, (block, kv) in enumerate(zip(self.blocks, given, strict=True)):
            x = block(x, kv, mask, None if caches is None else caches[i])
        return self.norm(x)

    def forward(
        self, x: Float[Tensor, "batch m width"], valid: Bool[Tensor, "batch m"], tokens: Int[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n outputs"]:
        """Logits of the token after each of `tokens`."""
        encoded = self.encode(x, valid)
        return self.head(self.decode(tokens, self.given(encoded), encoded.mask))

    def new_caches(self, batch: int, capacity: int) -> list[KVCache]:
        """Room for the keys and values of `capacity` tokens in each block of the decoder."""
        width, heads = self.shape.width, self.shape.heads
        return [KVCache.empty(batch, heads, capacity, width // heads, like=self.head.weight) for _ in self.decoder]

    @torch.no_grad()
    def attention_maps(
        self, tokens: Int[Tensor, "batch n"], encoded: EncoderStates
    ) -> list[Float[Tensor, "batch heads n n"]]:
        """For each block of the decoder how much each token looks at each before it and itself."""
        x, maps = self.embed(tokens), []
        n = tokens.shape[1]
        later = torch.ones(n, n, dtype=torch.bool, device=tokens.device).triu(1)
        for block, kv in zip(self.blocks, self.given(encoded), strict=True):
            heads, before = block.attention.f, block.attention.before(x)
            q, k = heads.queries(before), heads.keys_and_values(before)[:, 0]
            maps.append((q @ k.mT / q.shape[-1] ** 0.5).masked_fill(later, -torch.inf).softmax(-1))
            x = block(x, kv, encoded.mask)
        return maps
