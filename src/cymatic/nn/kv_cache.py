"""The keys and values that an attention layer has read, so that a step reads one more place and not all again."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class KVCache(NamedTuple):
    """Keys and values of one layer, `[batch, 2, heads, capacity, dim]`, with room for `capacity` places.

    The caller owns it and hands it in. Places are written in place, since copying all of them would cost more than the
    step; which of them have been written, the caller knows.
    """

    held: Tensor

    @classmethod
    def empty(cls, batch: int, heads: int, capacity: int, dim: int, *, like: Tensor) -> Self:
        """Room without anything in it, of the type and on the device of `like`."""
        return cls(like.new_zeros(batch, 2, heads, capacity, dim))

    def append(
        self, kv: Float[Tensor, "batch 2 heads n dim"], at: int
    ) -> tuple[Float[Tensor, "batch heads places dim"], Float[Tensor, "batch heads places dim"]]:
        """Writes `kv` from place `at` on; gives the keys and the values of the first `at + n` places."""
        n = kv.shape[3]
        self.held.narrow(3, at, n).copy_(kv)
        keys, values = self.held.narrow(3, 0, at + n).unbind(1)
        return keys, values

    def narrow(self, kept: Bool[Tensor, " batch"]) -> Self:
        """The cache of those items alone that are True in `kept`."""
        return type(self)(self.held[kept])


def padding_bias(padding: Tensor, capacity: int) -> Float[Tensor, "batch 1 1 capacity"] | None:
    """What is added to the attention's logits so that the first `padding` `[batch]` places of each item are not read:
    0 or -inf. None where no item has padding."""
    if not padding.any():
        return None
    hidden = torch.arange(capacity, device=padding.device) < padding[:, None]
    return torch.zeros(hidden.shape, device=padding.device).masked_fill(hidden, -torch.inf)[:, None, None]
