"""A causal codec on a sound that is not over yet.

Whole sounds go through `FixedBlocks`, streams through `StreamDirection`, and both run the same blocks:
`nn/streaming.py` says why that makes them equal bit for bit.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.errors import Error
from cymatic.nn.streaming import FixedBlocks, StreamDirection


@runtime_checkable
class Streamable(Protocol):
    """What a stream needs of a codec.

    hop: samples of a frame; delay: samples by which the decoder is late; levels: codes of a frame.
    """

    steps_trained: Tensor

    @property
    def channels(self) -> int: ...

    @property
    def hop(self) -> int: ...

    @property
    def delay(self) -> int: ...

    @property
    def levels(self) -> int: ...

    def columns(self, length: int) -> int: ...

    def coding(self, levels: int | None = None) -> FixedBlocks: ...

    def decoding(self) -> FixedBlocks: ...


class Stream:
    """Both directions of a codec for one sound that arrives in chunks; each direction can be used alone.

        with codec.streaming(levels=6) as stream:
            codes = stream.encode(chunk)  # [levels, frames finished]
            sound = stream.decode(codes)  # [channels, samples finished]
            codes = stream.finish()       # when the sound is over: the rest of the codes
            sound = stream.end(samples)   # when the codes are over: the rest of the sound

    Chunks may be of any size, one sample or an hour. All codes together are those of `encode`, and all samples those of
    `decode`, bit for bit. The first sample comes out `codec.latency` seconds after it went in.
    """

    def __init__(self, codec: Streamable, levels: int | None = None) -> None:
        self.codec = codec
        self.levels = codec.levels if levels is None else levels
        self.samples = 0  # that came in
        self.given = 0  # that went out, those before the sound's first one counted
        device = codec.steps_trained.device
        no_codes = torch.zeros(self.levels, 0, dtype=torch.int64, device=device)
        coding = codec.coding(self.levels)
        held = torch.zeros(1, codec.channels, coding.block * codec.hop, device=device)
        self._encoder = StreamDirection(coding, held, no_codes)
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
        if chunk.shape[0] != self.codec.channels:
            raise Error(f"a chunk of {chunk.shape[0]} channels was given; this codec takes {self.codec.channels}")
        self.samples += chunk.shape[-1]
        return self._encoder.feed(chunk.float())

    @torch.no_grad()
    def finish(self) -> Int[Tensor, "levels frames"]:
        """The codes that are still to come once the sound is over. Raises Error where there was no sound at all."""
        if self._over:
            raise Error("this stream is finished already; begin another one for another sound")
        if not self.samples:
            raise Error("a stream ended before its first sample; give at least one")
        self._over = True
        lacking = self.codec.columns(self.samples) * self.codec.hop - self.samples
        return self._encoder.feed(torch.zeros(self.codec.channels, lacking))

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "levels frames"]) -> Float[Tensor, "channels samples"]:
        """The samples that `codes` complete. Raises Error after `end`, and for codes beyond the codebooks."""
        if self._ended:
            raise Error("this stream has ended; begin another one for another sound")
        levels = codes.shape[0]
        if self._decoder is None:
            device = self.codec.steps_trained.device
            decoding = self.codec.decoding()
            held = torch.zeros(1, levels, decoding.block, dtype=torch.int64, device=device)
            no_samples = torch.zeros(self.codec.channels, 0, device=device)
            self._decoder = StreamDirection(decoding, held, no_samples)
        if levels != self._decoder.held.shape[1]:
            raise Error(
                f"codes of {levels} levels came after codes of {self._decoder.held.shape[1]}; keep to one number"
            )
        wave = self._decoder.feed(codes)
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
