"""Self-attention, and a transformer block whose norms are modulated by a vector (adaptive layer norm)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cymatic.nn.linear import Linear, gelu_linear
from cymatic.nn.rotary import RotaryTables, rotate


class Attention(nn.Module):
    """Multi-head self-attention with normalised queries and keys (Dehghani et al., 2023, arXiv 2302.05442)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads)
        self.k_norm = nn.RMSNorm(width // heads)
        self.out = Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch n width"], rotary: RotaryTables, mask: Bool[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n width"]:
        """`mask` is True where a key may be looked at."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), rotary), rotate(self.k_norm(k), rotary)
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return self.out(y.transpose(1, 2).flatten(2))


class AdaLNBlock(nn.Module):
    """Attention and a GELU layer, each `x + gate * f(norm(x) * (1 + scale) + shift)`, all three given from outside.

    Adaptive layer norm in its shared form (Chen et al., 2023, arXiv 2310.00426): one layer for all blocks reads the six
    vectors from the condition, and each block adds its own learned offsets. With both at zero the block is the
    identity (Peebles and Xie, 2022, arXiv 2212.09748).
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.widen = Linear(width, 4 * width)
        self.narrow = Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.offset = nn.Parameter(torch.zeros(6, width))

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        modulation: Float[Tensor, "batch 6 width"],
        rotary: RotaryTables,
        mask: Bool[Tensor, "batch n"],
    ) -> Float[Tensor, "batch n width"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.offset).chunk(6, dim=1)
        x = x + gate1 * self.dropout(self.attention(modulated_norm(x, shift1, scale1), rotary, mask))
        hidden = gelu_linear(modulated_norm(x, shift2, scale2), self.widen)
        return x + gate2 * self.dropout(self.narrow(hidden))


def modulated_norm(
    x: Float[Tensor, "batch n width"], shift: Float[Tensor, "batch 1 width"], scale: Float[Tensor, "batch 1 width"]
) -> Float[Tensor, "batch n width"]:
    """Layer norm without parameters of its own, then `* (1 + scale) + shift`."""
    return nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
