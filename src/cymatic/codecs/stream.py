"""A causal codec at work on a sound that is not over yet.

Whole sounds go through `Tiles`, streams through `Half`, and both run the same tiles: see `nn/streaming.py` for why that
makes them equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from cymatic.errors import Error
from cymatic.nn.streaming import StreamingState

if TYPE_CHECKING:
    from cymatic.codecs.waveform import WaveformCodec

Network = Callable[[Tensor, StreamingState | None], Tensor]


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiles are too small to share: two threads take two to three times as long as one, and round in other ways."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class FixedBlocks:
    """A network that is run `tile` frames at a time; a frame is `unit` places of what goes in."""

    def __init__(self, network: Network, unit: int, tile: int) -> None:
        self.network, self.unit, self.tile = network, unit, tile

    @one_thread()
    def all(self, x: Shaped[Tensor, "batch channels places"]) -> Shaped[Tensor, "batch out_channels out_places"]:
        """All of `x`, whole frames of it, the last tile filled up with zeros and cut again."""
        state, size = StreamingState(), self.tile * self.unit
        places = x.shape[-1]
        given = []
        for start in range(0, places, size):
            piece = x[..., start : start + size]
            here = piece.shape[-1]
            made = self.network(pad(piece, (0, size - here)), state)
            given.append(made[..., : made.shape[-1] * here // size])
            state.commit()
        return torch.cat(given, -1)


class StreamDirection:
    """One direction of a stream: what comes in is gathered into tiles, and each whole frame is given out at once."""

    def __init__(
        self, tiles: FixedBlocks, held: Shaped[Tensor, "1 channels places"], nothing: Shaped[Tensor, "out 0"]
    ) -> None:
        self.tiles, self.state = tiles, StreamingState()
        self.held, self.nothing = held, nothing
        self.filled = 0  # places of the tile
        self.done = 0  # frames of it that were given out

    @one_thread()
    def push(self, x: Shaped[Tensor, "channels places"]) -> Shaped[Tensor, "out_channels out_places"]:
        """Whatever `x` completes, on the device that `x` came from."""
        tiles, size, given = self.tiles, self.held.shape[-1], [self.nothing]
        while x.shape[-1]:
            taken = min(x.shape[-1], size - self.filled)
            self.held[0, :, self.filled : self.filled + taken] = x[:, :taken]
            self.filled, x = self.filled + taken, x[:, taken:]
            whole = self.filled // tiles.unit
            if whole > self.done:
                made = tiles.network(self.held, self.state)[0]
                of_frame = made.shape[-1] // tiles.tile
                given.append(made[:, self.done * of_frame : whole * of_frame])
                self.done = whole
            if self.filled == size:
                self.state.commit()
                self.held.zero_()
                self.filled = self.done = 0
        return torch.cat(given, -1).to(x.device)


class Stream:
    """Both directions of a codec for one sound that comes bit by bit; each direction can be used alone.

        with codec.streaming(levels=6) as stream:
            codes = stream.encode(chunk)  # [levels, frames finished]
            sound = stream.decode(codes)  # [channels, samples finished]
            codes = stream.finish()       # when the sound is over: the rest of the codes
            sound = stream.end(samples)   # when the codes are over: the rest of the sound

    Chunks may be of any size, one sample or an hour. All codes together are those of `encode`, and all samples those of
    `decode`, bit for bit. The first sample comes out `codec.latency` seconds after it went in.
    """

    def __init__(self, codec: WaveformCodec, levels: int | None) -> None:
        self.codec, config = codec, codec.config
        self.levels = codec.levels if levels is None else levels
        self.samples = 0  # that came in
        self.given = 0  # that went out, those before the sound's first one counted
        size, device = config.tile * codec.hop, codec.steps_trained.device
        no_codes = torch.zeros(self.levels, 0, dtype=torch.int64, device=device)
        held = torch.zeros(1, config.channels, size, device=device)
        self._encoder = StreamDirection(codec.coding(self.levels), held, no_codes)
        self._decoder: StreamDirection | None = None  # until it is known how many levels the codes have
        self._over = self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = self._ended = True

    @torch.no_grad()
    def encode(self, chunk: Float[Tensor, "channels samples"]) -> Int[Tensor, "levels frames"]:
        """The codes of all frames that `chunk` completes, perhaps none. Raises Error after `finish`."""
        if self._over:
            raise Error("this stream is finished; begin another one for another sound")
        if chunk.shape[0] != self.codec.config.channels:
            raise Error(
                f"a chunk of {chunk.shape[0]} channels was given; this codec takes {self.codec.config.channels}"
            )
        self.samples += chunk.shape[-1]
        return self._encoder.push(chunk.float())

    @torch.no_grad()
    def finish(self) -> Int[Tensor, "levels frames"]:
        """The codes that are still to come once the sound is over. Raises Error where there was no sound at all."""
        if self._over:
            raise Error("this stream is finished already; begin another one for another sound")
        if not self.samples:
            raise Error("a stream ended before its first sample; give at least one")
        self._over = True
        lacking = self.codec.frames(self.samples) * self.codec.hop - self.samples
        return self._encoder.push(torch.zeros(self.codec.config.channels, lacking))

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "levels frames"]) -> Float[Tensor, "channels samples"]:
        """The samples that `codes` complete. Raises Error after `end`, and for codes beyond the codebooks."""
        if self._ended:
            raise Error("this stream has ended; begin another one for another sound")
        levels = codes.shape[0]
        if self._decoder is None:
            device = self.codec.steps_trained.device
            held = torch.zeros(1, levels, self.codec.config.tile, dtype=torch.int64, device=device)
            nothing = torch.zeros(self.codec.config.channels, 0, device=device)
            self._decoder = StreamDirection(self.codec.decoding(), held, nothing)
        if levels != self._decoder.held.shape[1]:
            raise Error(
                f"codes of {levels} levels came after codes of {self._decoder.held.shape[1]}; keep to one number"
            )
        wave = self._decoder.push(codes)
        early = min(wave.shape[-1], max(0, self.codec.delay - self.given))
        self.given += wave.shape[-1]
        return wave[:, early:]

    def end(self, samples: int) -> int:
        """Says how many samples of those given by `decode` are the sound's own, if it is `samples` long.

        The last frame holds more than the sound; what is too much is the last `end(samples)` samples given. Raises
        Error where fewer were given.
        """
        self._ended = True
        more = self.given - self.codec.delay - samples
        if more < 0:
            raise Error(f"{samples} samples were asked for, and the codes of the stream hold {samples + more}")
        return more
