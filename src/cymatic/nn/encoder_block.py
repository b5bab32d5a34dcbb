"""What encoders share: a transformer block that looks both ways, and the mean of tokens by learned weights."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cymatic.nn.adaln import Attention
from cymatic.nn.linear import Linear, gelu_linear
from cymatic.nn.rotary import RotaryTables


class EncoderBlock(nn.Module):
    """Attention and a GELU layer, each `x + f(norm(x))`."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.widen = Linear(width, 4 * width)
        self.narrow = Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch n width"], rotary: RotaryTables, mask: Bool[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n width"]:
        """`mask` is True where a token may be looked at."""
        x = x + self.dropout(self.attention(self.norm1(x), rotary, mask))
        return x + self.dropout(self.narrow(gelu_linear(self.norm2(x), self.widen)))


def attentive_mean(
    tokens: Float[Tensor, "batch n width"], scores: Float[Tensor, "batch n"], mask: Bool[Tensor, "batch n"]
) -> Float[Tensor, "batch width"]:
    """The mean of the valid tokens, each weighed by the softmax of its score (attentive pooling)."""
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return (weights[..., None] * tokens).sum(1)
