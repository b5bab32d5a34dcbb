"""A stack of GPT blocks one place at a time, as fast as a CPU reads its weights.

The same numbers as `GPTBlock.forward` up to rounding. What is gained: weights in the order in which they are read best
(`PackedLinear`), and norms and rotations of queries and keys as one product with tables made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from cymatic.nn.causal import GPTBlock
from cymatic.nn.kv_cache import KVCache
from cymatic.nn.linear import PackedLinear
from cymatic.nn.rotary import rotary_tables

NormWeights = tuple[Tensor, Tensor]  # weight and bias


class FastStep:
    """Blocks, a last norm and a head without bias, for at most so many `rows` and `capacity` places.

    It holds copies of the weights: made once for a sequence of steps, and thrown away before the weights change.
    """

    @torch.no_grad()
    def __init__(
        self, blocks: Iterable[GPTBlock], norm: nn.LayerNorm, head: nn.Linear, *, rows: int, capacity: int
    ) -> None:
        self.blocks = [_pack(block, rows, capacity) for block in blocks]
        self.norm: NormWeights = (norm.weight, norm.bias)
        self.head = PackedLinear(head.weight, rows=rows)

    def __call__(
        self,
        x: Float[Tensor, "batch width"],
        caches: Sequence[KVCache],
        at: int,
        bias: Float[Tensor, "batch 1 1 capacity"] | None = None,
    ) -> Float[Tensor, "batch choices"]:
        """Logits after one more place, the one numbered `at`, whose keys and values go into `caches`.

        bias: what is added to the attention's logits, 0 where a place may be looked at and -inf where not.
        """
        batch, width = x.shape
        seen = None if bias is None else bias[..., : at + 1]
        for block, cache in zip(self.blocks, caches, strict=True):
            qkv = block.qkv(layer_norm(x, (width,), *block.norm1)).view(batch, 3, block.heads, -1)
            if block.rotary is not None:
                cos, sin = block.rotary
                qk = qkv.narrow(1, 0, 2)
                size = torch.linalg.vector_norm(qk, dim=-1, keepdim=True).add_(1e-6)
                swapped = qk.roll(qk.shape[-1] // 2, -1)
                qk.mul_(cos[at]).addcmul_(swapped, sin[at]).div_(size)
            k, v = cache.append(qkv.narrow(1, 1, 2).unsqueeze(3), at)
            y = scaled_dot_product_attention(qkv.select(1, 0).unsqueeze(2), k, v, attn_mask=seen)
            x = block.out.plus(y.view(batch, width), x)
            x = block.narrow.plus(block.widen.gelu(layer_norm(x, (width,), *block.norm2)), x)
        return self.head(layer_norm(x, (width,), *self.norm))


class _Packed(NamedTuple):
    """A block's weights. rotary: cosines and sines `[capacity, 2, 1, dim]` with the gains of the norms of queries and
    keys and sqrt(dim) inside, so that to turn and normalise one is `(x * cos + swapped(x) * sin) / |x|`."""

    heads: int
    norm1: NormWeights
    qkv: PackedLinear
    out: PackedLinear
    norm2: NormWeights
    widen: PackedLinear
    narrow: PackedLinear
    rotary: tuple[Tensor, Tensor] | None


def _pack(block: GPTBlock, rows: int, capacity: int) -> _Packed:
    qkv, out, widen, narrow = (
        PackedLinear(layer.weight, layer.bias, rows=rows) for layer in (block.qkv, block.out, block.widen, block.narrow)
    )
    norm1, norm2 = ((norm.weight, norm.bias) for norm in (block.norm1, block.norm2))
    return _Packed(block.heads, norm1, qkv, out, norm2, widen, narrow, _rotary(block, capacity))


def _rotary(block: GPTBlock, capacity: int) -> tuple[Tensor, Tensor] | None:
    if block.q_norm is None or block.k_norm is None:
        return None
    gains = torch.stack([block.q_norm.weight, block.k_norm.weight])  # [2, dim]
    dim = gains.shape[1]
    cos, sin = rotary_tables(torch.arange(capacity, device=gains.device), dim)
    first, second = gains.chunk(2, dim=1)
    cosines = gains * torch.cat([cos, cos], dim=1)[:, None]
    sines = torch.cat([-second * sin[:, None], first * sin[:, None]], dim=2)
    return cosines[:, :, None] * dim**0.5, sines[:, :, None] * dim**0.5
