"""The decoder of an `EncoderDecoder` one token at a time, as fast as a CPU reads its weights.

The same numbers as `EncoderDecoder.decode` up to rounding: weights in the order in which they are read best
(`PackedLinear`), one product for queries, keys and values, and the keys and values of the other sequence made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from cymatic.nn.encoder_decoder import DecoderBlock, EncoderDecoder, GatedFeedForward, Sublayer
from cymatic.nn.kv_cache import KVCache
from cymatic.nn.linear import PackedLinear


class DecoderState(NamedTuple):
    """What a decoder keeps from step to step. caches: of its own tokens; given: keys and values of the other sequence;
    bias: what is added to the logits of looking there, 0 or -inf, `[rows, 1, 1, m]`, or None."""

    caches: list[KVCache]
    given: list[Float[Tensor, "rows 2 heads m dim"]]
    bias: Float[Tensor, "rows 1 1 m"] | None

    def narrow(self, kept: Bool[Tensor, " rows"]) -> DecoderState:
        """The state of those rows alone that are True in `kept`."""
        return self.take(kept.nonzero()[:, 0])

    def take(self, rows: Int[Tensor, " chosen"]) -> DecoderState:
        """The state of these rows in this order, as searches of beams need it."""
        bias = None if self.bias is None else self.bias[rows]
        caches = [KVCache(cache.held[rows]) for cache in self.caches]
        return DecoderState(caches, [kv[rows] for kv in self.given], bias)


class FastDecoderStep:
    """For at most so many `rows`. It holds copies of the weights: made once for a sequence of steps, and thrown away
    before the weights change."""

    @torch.no_grad()
    def __init__(self, network: EncoderDecoder, *, rows: int) -> None:
        self.token, self.place = network.token.weight, network.place.weight
        self.begin, self.norm = _norm(network.begin), _norm(network.norm)
        self.blocks = [_Packed.of(block, rows) for block in network.blocks]
        self.head = PackedLinear(network.head.weight, network.head.bias, rows=rows)

    def __call__(self, tokens: Int[Tensor, " rows"], at: int, state: DecoderState) -> Float[Tensor, "rows outputs"]:
        """Logits after one more token, the one at place `at`, whose keys and values go into the caches."""
        x = _normed(self.token[tokens] + self.place[at], self.begin)
        for block, cache, kv in zip(self.blocks, state.caches, state.given, strict=True):
            x = block(x, at, cache, kv, state.bias)
        return self.head(_normed(x, self.norm))


NormWeights = tuple[Tensor, Tensor] | None  # weight and bias; None: no norm


def _norm(layer: nn.Module) -> NormWeights:
    return (layer.weight, layer.bias) if isinstance(layer, nn.LayerNorm) else None


def _normed(x: Tensor, norm: NormWeights) -> Tensor:
    return x if norm is None else layer_norm(x, (x.shape[-1],), *norm)


class _Sublayer(NamedTuple):
    """The norms around a sublayer and its last layer; of_sum: whether the second norm is of the sum (see `Sublayer`).
    Where nothing stands between a layer and the sum, one product gives both."""

    before: NormWeights
    last: PackedLinear
    after: NormWeights
    of_sum: bool

    @classmethod
    def of(cls, layer: Sublayer, last: PackedLinear) -> _Sublayer:
        return cls(_norm(layer.before), last, _norm(layer.after), layer.of_sum)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        if self.after is None or self.of_sum:
            return _normed(self.last.plus(y, x), self.after)
        return _normed(self.last(y), self.after).add_(x)


class _Packed(NamedTuple):
    """A block's sublayers with their weights packed; gate_norm: of a gated layer in the middle."""

    heads: int
    attention: _Sublayer
    qkv: PackedLinear
    cross: _Sublayer
    q: PackedLinear
    feed: _Sublayer
    widen: PackedLinear
    gate_norm: NormWeights

    @classmethod
    def of(cls, block: DecoderBlock, rows: int) -> _Packed:
        own, other, middle = block.attention.f, block.cross.f, block.feed.f

        def pack(*layers: nn.Linear) -> PackedLinear:
            biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
            weights: list[Tensor] = [layer.weight for layer in layers]
            return PackedLinear(torch.cat(weights), torch.cat(biases) if biases else None, rows=rows)

        return cls(
            own.heads,
            _Sublayer.of(block.attention, pack(own.out)),
            pack(own.q, own.kv),
            _Sublayer.of(block.cross, pack(other.out)),
            pack(other.q),
            _Sublayer.of(block.feed, pack(middle.narrow)),
            pack(middle.widen),
            _norm(middle.norm) if isinstance(middle, GatedFeedForward) else None,
        )

    def __call__(self, x: Tensor, at: int, cache: KVCache, given: Tensor, bias: Tensor | None) -> Tensor:
        rows, width = x.shape
        qkv = self.qkv(_normed(x, self.attention.before)).view(rows, 3, self.heads, 1, -1)
        k, v = cache.append(qkv.narrow(1, 1, 2), at)
        y = scaled_dot_product_attention(qkv.select(1, 0), k, v)
        x = self.attention.add(x, y.view(rows, width))
        q = self.q(_normed(x, self.cross.before)).view(rows, self.heads, 1, -1)
        k, v = given.unbind(1)
        y = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = self.cross.add(x, y.view(rows, width))
        before = _normed(x, self.feed.before)
        if self.gate_norm is None:
            hidden = self.widen.gelu(before)
        else:
            gate, value = self.widen(before).chunk(2, dim=-1)
            hidden = _normed(gelu(gate).mul_(value), self.gate_norm)
        return self.feed.add(x, hidden)


def decoder_state(
    network: EncoderDecoder,
    tokens: Int[Tensor, "rows n"],
    given: Sequence[Tensor],
    valid: Bool[Tensor, "rows m"],
    capacity: int,
) -> tuple[Float[Tensor, "rows width"], DecoderState]:
    """What stands after `tokens`, and the state with room for `capacity` tokens, these included."""
    whole = bool(valid.all())
    bias = None if whole else torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, -torch.inf)
    caches = network.new_caches(len(tokens), capacity)
    mask = None if whole else valid[:, None, None, :]
    hidden = network.decode(tokens, list(given), mask, caches)[:, -1]
    return hidden, DecoderState(caches, list(given), None if bias is None else bias[:, None, None])
