"""What causal layers remember of a signal between two blocks of it, and how to run a network block by block.

A causal layer's output depends on what came before and never on what follows. So a signal can go through it block by
block if the end of each block is kept for the next. `StreamingState` keeps these ends for all layers of a network. It
is an argument that is passed along; the layers themselves hold no state.

Why a stream equals the whole sound bit for bit: floating-point products of other shapes round differently, so a codec
always runs blocks of one fixed shape. A block that is not full yet is padded with zeros and run. What comes out of its
first part is final, as it does not depend on what follows, and as nothing was committed the block can be run again when
more of it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad


class StreamingState:
    """The ends of the last block, by layer or by another name. What a block leaves counts only after `commit`."""

    def __init__(self) -> None:
        self._held: dict[Hashable, Tensor] = {}
        self._left: dict[Hashable, Tensor] = {}

    def extend_left(self, layer: Hashable, x: Float[Tensor, "..."], size: int, dim: int = -1) -> Float[Tensor, "..."]:
        """The last `size` places of the block before, then `x`."""
        held = self._held.get(layer)
        if held is None:
            shape = list(x.shape)
            shape[dim] = size
            held = x.new_zeros(shape)
        joined = torch.cat([held, x], dim)
        self._left[layer] = joined.narrow(dim, joined.shape[dim] - size, size).clone()
        return joined

    def add_overlap(self, layer: Hashable, y: Float[Tensor, "..."], size: int) -> Float[Tensor, "..."]:
        """`y` without its last `size` places, which overlap the next block, plus the overlap of the block before."""
        n = y.shape[-1] - size
        overlap = self._left[layer] = y[..., n:].clone()
        given = y[..., :n]
        if (held := self._held.get(layer)) is not None:
            both = min(size, n)
            given = torch.cat([given[..., :both] + held[..., :both], given[..., both:]], -1)
            if size > n:  # the overlap is longer than a block
                overlap[..., : size - n] += held[..., n:]
        return given

    def commit(self) -> None:
        """The block is complete: what it left is the left context of the next."""
        self._held, self._left = self._left, {}


def extend_left(
    state: StreamingState | None, layer: Hashable, x: Float[Tensor, "..."], size: int, dim: int = -1
) -> Float[Tensor, "..."]:
    """`StreamingState.extend_left`, or zeros before `x` without a state."""
    if state is not None:
        return state.extend_left(layer, x, size, dim)
    behind = -dim - 1 if dim < 0 else x.dim() - dim - 1
    return pad(x, [0, 0] * behind + [size, 0])


def add_overlap(
    state: StreamingState | None, layer: Hashable, y: Float[Tensor, "..."], size: int
) -> Float[Tensor, "..."]:
    """`StreamingState.add_overlap`; without a state the end is cut off."""
    return state.add_overlap(layer, y, size) if state is not None else y[..., : y.shape[-1] - size]


Network = Callable[[Tensor, StreamingState | None], Tensor]


@contextmanager
def one_thread() -> Iterator[None]:
    """Blocks are too small for two threads: these take two to three times as long as one, and round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class FixedBlocks:
    """A network that is run `block` frames at a time; a frame is `unit` places of its input."""

    def __init__(self, network: Network, unit: int, block: int) -> None:
        self.network, self.unit, self.block = network, unit, block

    @one_thread()
    def all(self, x: Shaped[Tensor, "batch channels places"]) -> Shaped[Tensor, "batch out_channels out_places"]:
        """All of `x`, which holds whole frames; the last block is padded with zeros and cut again."""
        state, size = StreamingState(), self.block * self.unit
        places = x.shape[-1]
        given = []
        for start in range(0, places, size):
            segment = x[..., start : start + size]
            here = segment.shape[-1]
            made = self.network(pad(segment, (0, size - here)), state)
            given.append(made[..., : made.shape[-1] * here // size])
            state.commit()
        return torch.cat(given, -1)


class StreamDirection:
    """One direction of a stream: what comes in is gathered into blocks, and each whole frame is given out at once.

    held: zeros of the shape of a block; none_yet: what is given out where nothing is complete.
    """

    def __init__(
        self, blocks: FixedBlocks, held: Shaped[Tensor, "1 channels places"], none_yet: Shaped[Tensor, "out 0"]
    ) -> None:
        self.blocks, self.state = blocks, StreamingState()
        self.held, self.none_yet = held, none_yet
        self.filled = 0  # places of the block
        self.done = 0  # frames of it that were given out

    @one_thread()
    def feed(self, x: Shaped[Tensor, "channels places"]) -> Shaped[Tensor, "out_channels out_places"]:
        """Whatever `x` completes, on the device that `x` came from."""
        blocks, size, given = self.blocks, self.held.shape[-1], [self.none_yet]
        while x.shape[-1]:
            taken = min(x.shape[-1], size - self.filled)
            self.held[0, :, self.filled : self.filled + taken] = x[:, :taken]
            self.filled, x = self.filled + taken, x[:, taken:]
            whole = self.filled // blocks.unit
            if whole > self.done:
                made = blocks.network(self.held, self.state)[0]
                of_frame = made.shape[-1] // blocks.block
                given.append(made[:, self.done * of_frame : whole * of_frame])
                self.done = whole
            if self.filled == size:
                self.state.commit()
                self.held.zero_()
                self.filled = self.done = 0
        return torch.cat(given, -1).to(x.device)
