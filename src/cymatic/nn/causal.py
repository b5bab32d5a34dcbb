"""A transformer block for sequences read from the left, and the same block one place at a time from a cache.

Norm first (Radford et al., 2019, "Language models are unsupervised multitask learners"): attention and a GELU layer,
each `x + f(norm(x))`. The keys and values of what was read lie in a tensor that the caller owns and hands in
(`new_cache`): `GPTBlock.forward` fills its first places, `step` adds one place at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from cymatic.nn.linear import Linear, PackedLinear, gelu_linear
from cymatic.nn.rotary import RotaryTables, rotary_tables, rotate


class GPTBlock(nn.Module):
    """Causal self-attention and a GELU layer.

    rotary: turn queries and keys by their places and normalise them (as `nn.adaln.Attention` does); without it
    places must be in `x` already, as in GPT-2 and minGPT. Dropout acts on the attention's weights and on both results.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, rotary: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads) if rotary else None
        self.k_norm = nn.RMSNorm(width // heads) if rotary else None
        self.out = Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = Linear(width, 4 * width)
        self.narrow = Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        rotary: RotaryTables | None,
        mask: Bool[Tensor, "#batch 1 #n n"] | None = None,
        cache: Float[Tensor, "batch 2 heads capacity dim"] | None = None,
    ) -> Float[Tensor, "batch n width"]:
        """`mask` is True where a key may be looked at; without one each place looks at itself and all before it.

        rotary: tables of the n places, for a rotary block. A `cache` takes the keys and values in its first n places.
        """
        q, k, v = self._heads(x, rotary)
        if cache is not None:
            cache[:, 0, :, : x.shape[1]], cache[:, 1, :, : x.shape[1]] = k, v
        # No dropout of what is looked at: on CPUs torch would then hold all scores of all heads, and their gradients.
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.dropout(self.out(y.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.narrow(gelu_linear(self.norm2(x), self.widen, "none")))

    def weights(
        self,
        x: Float[Tensor, "batch n width"],
        rotary: RotaryTables | None,
        mask: Bool[Tensor, "#batch 1 #n n"] | None = None,
    ) -> Float[Tensor, "batch heads n n"]:
        """How much each place looks at each, `softmax(q k' / sqrt(dim))`: by the formula, for pictures."""
        q, k, _ = self._heads(x, rotary)
        if mask is None:
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf).softmax(-1)

    def _heads(self, x: Float[Tensor, "batch n width"], rotary: RotaryTables | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, `[batch, heads, n, dim]` each."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.q_norm is not None and self.k_norm is not None:
            assert rotary is not None, "a rotary block needs the turns of its places"
            q, k = rotate(self.q_norm(q), rotary), rotate(self.k_norm(k), rotary)
        return q, k, v


def causal_mask(valid: Bool[Tensor, "batch n"]) -> Bool[Tensor, "batch 1 n n"]:
    """Each place looks at the valid places before it and at itself (a row that saw nothing would be no number)."""
    n = valid.shape[1]
    before = torch.ones(n, n, dtype=torch.bool, device=valid.device).tril()
    itself = torch.eye(n, dtype=torch.bool, device=valid.device)
    return (before & valid[:, None, None, :]) | itself


def new_cache(block: GPTBlock, batch: int, capacity: int) -> Float[Tensor, "batch 2 heads capacity dim"]:
    """Room for the keys and values of `capacity` places of one block; zeros, as places not yet written are masked."""
    weight = block.out.weight
    return weight.new_zeros(batch, 2, block.heads, capacity, weight.shape[0] // block.heads)


class Packed(NamedTuple):
    """A block's weights as `step` reads them.

    turn: cosines and sines `[capacity, 2, 1, dim]` of a rotary block, with the gains of its norms and sqrt(dim) inside,
    so that turning and normalising a query or key is `(x * cos + swapped(x) * sin) / |x|`.
    """

    heads: int
    norm1: tuple[Tensor, Tensor]
    qkv: PackedLinear
    out: PackedLinear
    norm2: tuple[Tensor, Tensor]
    widen: PackedLinear
    narrow: PackedLinear
    turn: tuple[Tensor, Tensor] | None


def pack(blocks: Iterable[GPTBlock], rows: int, capacity: int) -> list[Packed]:
    """The blocks' weights for `step`, for at most so many rows and places: made once, for many steps."""
    packed = []
    for block in blocks:
        qkv, out, widen, narrow = (
            PackedLinear(layer.weight, layer.bias, rows=rows)
            for layer in (block.qkv, block.out, block.widen, block.narrow)
        )
        norm1, norm2 = ((norm.weight, norm.bias) for norm in (block.norm1, block.norm2))
        packed.append(Packed(block.heads, norm1, qkv, out, norm2, widen, narrow, _turn(block, capacity)))
    return packed


def _turn(block: GPTBlock, capacity: int) -> tuple[Tensor, Tensor] | None:
    if block.q_norm is None or block.k_norm is None:
        return None
    gains = torch.stack([block.q_norm.weight, block.k_norm.weight])  # [2, dim]
    dim = gains.shape[1]
    cos, sin = rotary_tables(torch.arange(capacity, device=gains.device), dim)
    first, second = gains.chunk(2, dim=1)
    cosines = gains * torch.cat([cos, cos], dim=1)[:, None]
    sines = torch.cat([-second * sin[:, None], first * sin[:, None]], dim=2)
    return cosines[:, :, None] * dim**0.5, sines[:, :, None] * dim**0.5


def step(
    x: Float[Tensor, "batch width"],
    packed: Sequence[Packed],
    caches: Sequence[Float[Tensor, "batch 2 heads capacity dim"]],
    at: int,
    bias: Float[Tensor, "batch 1 1 capacity"] | None = None,
) -> Float[Tensor, "batch width"]:
    """What the blocks make of one more place, the one numbered `at`, whose keys and values go into `caches`.

    bias: what is added to the attention's logits, 0 where a place may be looked at and -inf where not.
    """
    batch, width = x.shape
    seen = None if bias is None else bias[..., : at + 1]
    for block, cache in zip(packed, caches, strict=True):
        qkv = block.qkv(layer_norm(x, (width,), *block.norm1)).view(batch, 3, block.heads, -1)
        if block.turn is not None:
            qk = qkv.narrow(1, 0, 2)
            size = torch.linalg.vector_norm(qk, dim=-1, keepdim=True).add_(1e-6)
            swapped = qk.roll(qk.shape[-1] // 2, -1)
            qk.mul_(block.turn[0][at]).addcmul_(swapped, block.turn[1][at]).div_(size)
        cache.select(3, at).copy_(qkv.narrow(1, 1, 2))
        k, v = cache.narrow(3, 0, at + 1).unbind(1)
        y = scaled_dot_product_attention(qkv.select(1, 0).unsqueeze(2), k, v, attn_mask=seen)
        x = block.out.plus(y.view(batch, width), x)
        x = block.narrow.plus(block.widen.gelu(layer_norm(x, (width,), *block.norm2)), x)
    return x
