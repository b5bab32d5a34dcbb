"""Codes to bits and back: each code takes just as many bits as its codebook needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def widths(sizes: Sequence[int]) -> tuple[int, ...]:
    """Bits that a code of each level takes: the next whole number above log2 of the codebook's size."""
    return tuple((size - 1).bit_length() for size in sizes)


def packed_bytes(sizes: Sequence[int], frames: int) -> int:
    """Bytes that `pack` makes of so many frames."""
    return -(-frames * sum(widths(sizes)) // 8)


def pack(codes: Int[np.ndarray, "levels frames"], sizes: Sequence[int]) -> bytes:
    """Frame after frame, level after level, the highest bit of each code first; the last byte is filled up with 0."""
    level, shift = _layout(sizes)
    bits = codes.T[:, level] >> shift & 1  # [frames, bits of a frame]
    return np.packbits(bits.astype(np.uint8)).tobytes()


def unpack(data: bytes, sizes: Sequence[int], frames: int) -> Int[np.ndarray, "levels frames"]:
    """What was packed, int64; `data` must be `packed_bytes` long. Codes beyond their codebook are possible."""
    level, shift = _layout(sizes)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=frames * len(level)).reshape(frames, len(level))
    first = np.flatnonzero(np.diff(level, prepend=-1))
    return np.add.reduceat(bits.astype(np.int64) << shift, first, axis=1).T


def _layout(sizes: Sequence[int]) -> tuple[Int[np.ndarray, " bits"], Int[np.ndarray, " bits"]]:
    """For each bit of a frame its level, and how far it stands from the code's lowest bit."""
    needed = widths(sizes)
    shifts = [np.arange(width)[::-1] for width in needed]
    return np.repeat(np.arange(len(needed)), needed), np.concatenate(shifts).astype(np.int64)
