"""What causal layers remember of a signal between two tiles of it.

A causal layer's output depends on what came before and never on what follows, so a signal can go through it piece by
piece if the layer keeps the end of each piece. `StreamingState` keeps these ends, for all layers of a network, as an argument
that is passed along; the layers themselves hold nothing.

How a stream equals the whole bit for bit: floating-point products of other shapes round in other ways, so a codec
always runs tiles of one fixed shape. A tile of which only the first part is there yet is run with zeros behind it; what
comes out first is right already, as nothing depends on what follows, and since no `commit` is made the tile can be run
again when more of it is there.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad


class StreamingState:
    """The ends of the last tile, by layer or by another name. What a tile leaves behind counts only after `commit`."""

    def __init__(self) -> None:
        self._held: dict[Hashable, Tensor] = {}
        self._left: dict[Hashable, Tensor] = {}

    def extend_left(self, layer: Hashable, x: Float[Tensor, "..."], size: int, dim: int = -1) -> Float[Tensor, "..."]:
        """The last `size` places of the tile before, then `x`."""
        held = self._held.get(layer)
        if held is None:
            shape = list(x.shape)
            shape[dim] = size
            held = x.new_zeros(shape)
        joined = torch.cat([held, x], dim)
        self._left[layer] = joined.narrow(dim, joined.shape[dim] - size, size).clone()
        return joined

    def add_overlap(self, layer: Hashable, y: Float[Tensor, "..."], size: int) -> Float[Tensor, "..."]:
        """`y` without its last `size` places, which ring over into the next tile, and with what rang over into it."""
        n = y.shape[-1] - size
        ringing = self._left[layer] = y[..., n:].clone()
        given = y[..., :n]
        if (held := self._held.get(layer)) is not None:
            both = min(size, n)
            given = torch.cat([given[..., :both] + held[..., :both], given[..., both:]], -1)
            if size > n:  # it rings for longer than a tile
                ringing[..., : size - n] += held[..., n:]
        return given

    def commit(self) -> None:
        """The tile is complete: what it left behind is the past of the next."""
        self._held, self._left = self._left, {}


def extend_left(
    state: StreamingState | None, layer: Hashable, x: Float[Tensor, "..."], size: int, dim: int = -1
) -> Float[Tensor, "..."]:
    """`StreamingState.extend_left`, and silence before `x` without a past."""
    if state is not None:
        return state.extend_left(layer, x, size, dim)
    behind = -dim - 1 if dim < 0 else x.dim() - dim - 1
    return pad(x, [0, 0] * behind + [size, 0])


def add_overlap(
    state: StreamingState | None, layer: Hashable, y: Float[Tensor, "..."], size: int
) -> Float[Tensor, "..."]:
    """`StreamingState.add_overlap`; without a past the end is cut off."""
    return state.add_overlap(layer, y, size) if state is not None else y[..., : y.shape[-1] - size]
