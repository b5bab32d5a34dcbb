"""The `.cym` file: the codes of a sound, and all that is needed to know what they are.

docs/cym-format.md has the layout byte by byte. Nothing seeks, so a file may come from or go into a pipe. Each record
ends in a CRC-32 that goes on from that of the record before, so that a block that is damaged, lost, doubled or from
another file is found, and named.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cymatic.errors import Error, Note
from cymatic.media import bits
from cymatic.media.audio_files import MAX_RATE
from cymatic.media.code_model import CodeModel
from cymatic.media.pipes import ByteSource, Sink, take
from cymatic.media.sound import MAX_CHANNELS

MAGIC = b"\x89CYM\r\n\x1a\n"  # as PNG's: not text, and broken by whatever changes line ends
VERSION = 1
ENTROPY = 1  # the flag of files whose blocks may be coded by a model
MOST_LEVELS = 64
MOST_SIZE = 2**24  # codes of a codebook
MOST_HOP = 2**20  # samples
MOST_BYTES = 2**16 - 1  # of a block, without its head and its checksum
LEAST_RECORD = 8  # bytes of a block, its head and its checksum included
FREE = 600  # blocks of usual length, thus seconds, that need no bytes to account for them

_HEAD = struct.Struct("<8sBBHIIHBB32s")
_BLOCK = struct.Struct("<HH")  # frames, bytes
_CRC = struct.Struct("<I")
_SAMPLES = struct.Struct("<Q")


@dataclass(frozen=True)
class CymHeader:
    """What the codes of a file are.

    model: the name of what made them; sha256: the fingerprint of its weights, 64 hex digits. rate in Hz and channels:
    of the sound. hop: samples of a frame. sizes: how many codes each level has to choose from. block: frames of a
    block; if 0, those of a second where they fit. Raises Error for values that no codec has.
    """

    model: str
    sha256: str
    rate: int
    channels: int
    hop: int
    sizes: tuple[int, ...]
    block: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.sizes) <= MOST_LEVELS:
            raise Error(f"a .cym file holds 1 to {MOST_LEVELS} levels of codes, not {len(self.sizes)}")
        for name, value, least, most in (
            ("rate", self.rate, 1, MAX_RATE),
            ("channels", self.channels, 1, MAX_CHANNELS),
            ("hop", self.hop, 1, MOST_HOP),
            *(("size of a codebook", size, 2, MOST_SIZE) for size in self.sizes),
        ):
            if not least <= value <= most:
                raise Error(f"the {name} of a .cym file is {value}, and only {least} to {most} can be")
        if len(self.model.encode()) > 255 or not self.model.isprintable():
            raise Error(f"{self.model!r:.80} is no name for a model in a .cym file; give at most 255 printable bytes")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise Error(f"{self.sha256!r:.80} is no SHA-256; give 64 hexadecimal digits in lower case")
        if self.block == 0:
            object.__setattr__(self, "block", self.usual_block)
        if not 1 <= self.block <= self._most:
            raise Error(f"a block of this .cym file has {self.block} frames, and only 1 to {self._most} can be")

    @property
    def _most(self) -> int:
        """Frames that a block can have."""
        return min(2**16 - 1, 8 * MOST_BYTES // self.frame_bits)

    @property
    def usual_block(self) -> int:
        """Frames of a second, where they fit into a block."""
        return min(self._most, max(1, round(self.rate / self.hop)))

    @property
    def frame_bits(self) -> int:
        """Bits of a frame, packed."""
        return sum(bits.widths(self.sizes))

    @property
    def kbps(self) -> float:
        """Thousands of bits a second, packed, without what a file adds to them."""
        return self.frame_bits * self.rate / self.hop / 1000

    def as_bytes(self, flags: int = 0) -> bytes:
        """The header as it stands in a file, its checksum included."""
        name = self.model.encode()
        head = _HEAD.pack(
            MAGIC, VERSION, flags, self.channels, self.rate, self.hop, self.block, len(self.sizes), len(name),
            bytes.fromhex(self.sha256),
        )  # fmt: skip
        head += struct.pack(f"<{len(self.sizes)}I", *self.sizes) + name
        return head + _CRC.pack(zlib.crc32(head))


class CymWriter:
    """Writes codes as they come; `close` makes the file complete.

    With `entropy` each block is coded by a small model that learns from those before it (see `code_model`), where that
    makes it smaller.
    """

    def __init__(self, stream: Sink, header: CymHeader, *, entropy: bool = False) -> None:
        self.stream, self.header = stream, header
        self.frames = 0  # that came in
        self.written = 0  # bytes
        self._waiting: list[Int[np.ndarray, "levels _"]] = []
        self._filled = 0  # frames that wait
        self._model = CodeModel(header.sizes) if entropy else None
        head = header.as_bytes(ENTROPY if entropy else 0)
        self._crc = _CRC.unpack(head[-4:])[0]
        self._write(head)

    def add(self, codes: Int[np.ndarray, "levels frames"]) -> None:
        """Any number of frames. Raises Error for another number of levels and for codes beyond their codebook."""
        sizes = np.array(self.header.sizes)[:, None]
        if codes.shape[0] != len(sizes):
            raise Error(f"codes of {codes.shape[0]} levels were given to a .cym file of {len(sizes)}")
        if codes.size and (codes.min() < 0 or (codes >= sizes).any()):
            raise Error(f"codes up to {codes.max()} were given for codebooks of {', '.join(map(str, sizes[:, 0]))}")
        self.frames += codes.shape[1]
        while codes.shape[1]:
            taken = codes[:, : self.header.block - self._filled]
            codes = codes[:, taken.shape[1] :]
            self._waiting.append(taken.astype(np.int64))
            self._filled += taken.shape[1]
            if self._filled == self.header.block:
                self._block()

    def close(self, samples: int | None) -> None:
        """Ends the file of a sound of `samples` samples; None, where nobody knows, makes it a file that was cut short.

        Raises Error where its frames do not hold as many.
        """
        if samples is not None and not 0 <= samples <= self.frames * self.header.hop:
            raise Error(f"{self.frames} frames of {self.header.hop} samples do not hold a sound of {samples} samples")
        if self._filled:
            self._block()
        if samples is not None:
            self._record(b"\0\0" + _SAMPLES.pack(samples))

    def _block(self) -> None:
        codes = np.concatenate(self._waiting, axis=1)
        self._waiting, self._filled = [], 0
        payload = bits.pack(codes, self.header.sizes)
        if self._model is not None:
            coded = self._model.encode(codes)
            payload = coded if len(coded) < len(payload) else payload  # the reader tells them apart by their length
        self._record(_BLOCK.pack(codes.shape[1], len(payload)) + payload)

    def _record(self, record: bytes) -> None:
        self._crc = zlib.crc32(record, self._crc)
        self._write(record + _CRC.pack(self._crc))

    def _write(self, data: bytes) -> None:
        self.stream.write(data)
        self.written += len(data)


class CymReader:
    """Reads a header, then gives blocks of codes `[levels, frames]`, int64, one after the other.

    `samples` is the sound's length once all blocks were read, and stays None where the file is cut short: then there is
    one Note, and the whole blocks before the cut were given. `name` is how messages call the file.

    longest: seconds of sound that are accepted. Without it any length is, where the bytes account for it: some bytes
    coded by the model can claim minutes, which would take minutes to decode. Blocks of a second, as they are written,
    always pass; of longer ones ten minutes pass, and more where it takes at least 8 bytes a second.

    Raises Error for what is no .cym file, for a newer version, for a header or block that is damaged, for a file
    that is cut short before its first block is whole, and for a longer sound.
    """

    def __init__(self, stream: ByteSource, name: str = "the .cym file", *, longest: float | None = None) -> None:
        if longest is not None and not longest > 0:
            raise Error(f"{name} was to be read up to {longest:g} s; give a number of seconds above 0")
        self.stream, self.name, self.longest = stream, name, longest
        self.samples: int | None = None
        self.frames = 0  # given so far
        self.blocks = 0
        self.read = 0  # bytes, up to the end of the last whole record
        self.header, flags = self._header()
        self.entropy = bool(flags & ENTROPY)
        self._model = CodeModel(self.header.sizes) if self.entropy else None

    def __iter__(self) -> Iterator[Int[np.ndarray, "levels frames"]]:
        while (codes := self._block()) is not None:
            self.frames += codes.shape[1]
            self.blocks += 1
            yield codes

    def _header(self) -> tuple[CymHeader, int]:
        head = take(self.stream, _HEAD.size)
        if head[: len(MAGIC)] != MAGIC[: len(head)] or not head:
            what = f"begins with {head[:8]!r}" if head else "is empty (0 bytes)"
            raise Error(f"{self.name} {what}, so it is no .cym file; give one that cymatic encode wrote")
        if len(head) > 8 and head[8] != VERSION:
            raise Error(
                f"{self.name} is a .cym file of version {head[8]}, and this cymatic reads version {VERSION}; update it"
            )
        levels, letters = head[22:24] if len(head) == _HEAD.size else (0, 0)
        rest = take(self.stream, 4 * levels + letters + _CRC.size)
        if len(head) < _HEAD.size or len(rest) < 4 * levels + letters + _CRC.size:
            raise Error(f"{self.name} is cut short within its header ({len(head + rest)} bytes); get the whole file")
        body = head + rest[: -_CRC.size]
        (self._crc,) = _CRC.unpack(rest[-_CRC.size :])
        if zlib.crc32(body) != self._crc:
            raise Error(f"the header of {self.name} is damaged (its checksum differs); get the file again")
        _, _, flags, channels, rate, hop, block, _, _, digest = _HEAD.unpack(head)
        try:
            sizes = struct.unpack_from(f"<{levels}I", rest)
            header = CymHeader(rest[4 * levels : -_CRC.size].decode(), digest.hex(), rate, channels, hop, sizes, block)
        except (Error, UnicodeDecodeError) as error:
            raise Error(f"the header of {self.name} can't be right ({error}); encode the sound again") from None
        if flags & ~ENTROPY or block == 0:
            raise Error(f"the header of {self.name} asks for what this cymatic does not know; update it")
        self.read = len(head + rest)
        return header, flags

    def _block(self) -> Int[np.ndarray, "levels frames"] | None:
        """The next block; None at the end, be it the file's own or a cut."""
        head = take(self.stream, 2)
        if head == b"\0\0":
            self._end()
            return None
        head += take(self.stream, 2)
        if len(head) < _BLOCK.size:
            self._cut()
            return None
        frames, length = _BLOCK.unpack(head)
        packed = bits.packed_bytes(self.header.sizes, frames)
        if frames > self.header.block or length > packed or (length < packed and not self.entropy):
            raise self._damaged(f"it claims {length} bytes for {frames} frames")
        self._bound(frames, length)
        payload = take(self.stream, length)
        stored = take(self.stream, _CRC.size)
        if len(stored) < _CRC.size:
            self._cut()
            return None
        self._check(head + payload, stored)
        if length == packed:
            codes = bits.unpack(payload, self.header.sizes, frames)
        else:
            assert self._model is not None  # a shorter block needs the flag, as checked above
            codes = self._model.decode(payload, frames)
        if (codes >= np.array(self.header.sizes)[:, None]).any():
            raise self._damaged("it holds codes beyond the codebook")
        if self._model is not None and length == packed:
            self._model.encode(codes)  # to have seen what its twin in the writer saw
        self.read += len(head) + length + _CRC.size
        return codes

    def _bound(self, frames: int, length: int) -> None:
        """Raises Error before a block is decoded that makes the sound too long."""
        total, usual = self.frames + frames, self.header.usual_block
        if self.longest is not None:
            # A codec may end with a frame or some more than its sound has; how long that is says only the end.
            if (total - usual) * self.header.hop > self.longest * self.header.rate:
                raise self._too_long(self.longest)
        elif self.entropy and total > usual * (FREE + (self.read + length) / LEAST_RECORD):
            raise Error(
                f"{self.name} claims {total * self.header.hop / self.header.rate:.0f} s of sound in "
                f"{self.read + length + LEAST_RECORD} bytes, which is hardly a sound; if it is one, say how many "
                "seconds may be read (longest)"
            )

    def _too_long(self, longest: float) -> Error:
        return Error(f"{self.name} holds more than {longest:g} s of sound; give a shorter one, or allow more seconds")

    def _end(self) -> None:
        body = take(self.stream, _SAMPLES.size)
        stored = take(self.stream, _CRC.size)
        if len(stored) < _CRC.size:
            return self._cut()
        self._check(b"\0\0" + body, stored)
        samples = _SAMPLES.unpack(body)[0]
        if samples > self.frames * self.header.hop:
            raise self._damaged(f"the end claims {samples} samples for {self.frames} frames")
        if self.longest is not None and samples > self.longest * self.header.rate:
            raise self._too_long(self.longest)
        self.samples = samples
        self.read += 2 + _SAMPLES.size + _CRC.size
        if self.stream.read(1):
            warnings.warn(f"{self.name} goes on after its end; what follows is left out", Note, stacklevel=4)

    def _check(self, record: bytes, stored: bytes) -> None:
        self._crc = zlib.crc32(record, self._crc)
        if self._crc != _CRC.unpack(stored)[0]:
            raise self._damaged("its checksum differs")

    def _cut(self) -> None:
        """One Note; what came before the cut is whole. Raises Error where nothing did."""
        if not self.blocks:
            raise Error(f"{self.name} is cut short within its first block, so none of its sound is left; get it whole")
        warnings.warn(
            f"{self.name} is cut short after block {self.blocks} ({self._seconds:.2f} s); what is there is used",
            Note,
            stacklevel=4,
        )

    @property
    def _seconds(self) -> float:
        return self.frames * self.header.hop / self.header.rate

    def _damaged(self, why: str) -> Error:
        advice = "get the file again"
        if self.blocks:
            advice += f" (its first {self.read} bytes are whole, and can be decoded alone)"
        return Error(f"{self.name} is damaged in block {self.blocks + 1}, at {self._seconds:.2f} s ({why}); {advice}")
