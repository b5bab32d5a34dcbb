"""A transformer block for sequences read from the left.

Norm first (Radford et al., 2019, "Language models are unsupervised multitask learners"): attention and a GELU layer,
each `x + f(norm(x))`. `forward` reads many places at once, and `nn.fast_step` goes on from its cache one by one.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cymatic.nn.kv_cache import KVCache
from cymatic.nn.linear import Linear, gelu_linear
from cymatic.nn.rotary import RotaryTables, rotate


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
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch n width"]:
        """`mask` is True where a key may be looked at; without one each place looks at itself and all before it.

        rotary: tables of the n places, for a rotary block. A `cache` takes the keys and values in its first n places.
        """
        q, k, v = self._heads(x, rotary)
        if cache is not None:
            cache.append(torch.stack([k, v], dim=1), 0)
        # No dropout of what is looked at: on CPUs torch would then hold all scores of all heads, and their gradients.
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.dropout(self.out(y.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.narrow(gelu_linear(self.norm2(x), self.widen, "none")))

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """Room for the keys and values of `capacity` places."""
        width = self.out.weight.shape[0]
        return KVCache.empty(batch, self.heads, capacity, width // self.heads, like=self.out.weight)

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
