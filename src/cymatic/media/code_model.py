"""Codes in fewer bits: a model that learns what comes next, and a range coder that pays for surprises only.

For each code it is asked first whether it is the one of the frame before, and if not, which of the others:

    P(again)  from counts, by level, by how long it has been the same, and by whether the levels above are the same
    P(code)   ∝ n(code) + PRIOR + w · n(code | before),    w = (n + PRIOR · size) / TRUST

with n how often the level had the code, and n(code | before) how often it came next the last few times that the level
was where it was: a hierarchical Dirichlet prior (MacKay and Peto, 1995) in whole numbers, so that every machine
computes the same. Martin (1979) has the coder. Writer and reader hold one `CodeModel` each, which see the same codes in
the same order: a reader that lost a block can't go on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from cymatic.media.bits import widths

PRIOR = 2  # how often each code is taken to have been seen before there was any
TRUST = 100  # how many frames it takes until what came after the same code counts as much as all the rest
FOLLOWERS = 32  # how many of these are remembered for each code
FADE = 2**15  # frames after which all counts are halved, so that what was long ago counts less
STEP, AGAIN, OTHER, MOST = 8, 2, 32, 2**12  # one count of a repetition, those to begin with, and when they are halved
LARGEST = 12  # bits; larger codes are cut into two

_TOP = 1 << 24


class CodeModel:
    """Codes int64 `[levels, frames]` <-> bytes, block after block; what it has learned stays from block to block."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._cuts = [width // 2 if width > LARGEST else 0 for width in widths(sizes)]
        parts = [part for size, cut in zip(sizes, self._cuts, strict=True) for part in _parts(size, cut)]
        self._levels = np.arange(len(parts))
        self._known = np.arange(max(parts)) < np.array(parts)[:, None]  # a level may have fewer codes than others
        self._counts = np.where(self._known, PRIOR, 0)
        self._followers = np.zeros((len(parts), max(parts), FOLLOWERS), np.int16)
        self._followed = np.zeros((len(parts), max(parts)), np.int64)  # how often each code was left for another one
        self._frames = 0  # that are counted
        self._again = [[AGAIN, OTHER] for _ in range(len(parts) * 8)]
        self._before = [0] * len(parts)
        self._runs = [0] * len(parts)

    def encode(self, codes: Int[np.ndarray, "levels frames"]) -> bytes:
        """The bytes of a block. They do not tell how many frames there are."""
        rows = [part for row, cut in zip(codes, self._cuts, strict=True) for part in _cut(row, cut)]
        coder = ArithmeticEncoder()
        for frame in np.stack(rows, 1).tolist():
            self._frame(coder, frame)
        return coder.finish()

    def decode(self, data: bytes, frames: int) -> Int[np.ndarray, "levels frames"]:
        """What was encoded; of other bytes, any codes, perhaps beyond their codebooks."""
        coder = ArithmeticDecoder(data)
        rows = [self._frame(coder, None) for _ in range(frames)]
        parts = iter(np.array(rows, np.int64).reshape(frames, len(self._levels)).T)
        return np.stack([next(parts) << cut | next(parts) if cut else next(parts) for cut in self._cuts])

    def _frame(self, coder: ArithmeticEncoder | ArithmeticDecoder, codes: list[int] | None) -> list[int]:
        """One frame goes through the coder, and is learned from. To decode, `codes` is None."""
        before, found = self._before, []
        table = None
        same = 1
        for level, last in enumerate(before):
            counts = self._again[(level * 4 + self._runs[level]) * 2 + same]
            again = coder.code([counts[0], sum(counts)], None if codes is None else int(codes[level] != last)) == 0
            counts[0 if again else 1] += STEP
            if sum(counts) > MOST:
                counts[:] = [(count + 1) // 2 for count in counts]
            if again:
                found.append(last)
                self._runs[level] = min(self._runs[level] + 1, 3)
                continue
            if table is None:
                table = self._table()
            found.append(coder.code(table[level], None if codes is None else codes[level]))
            self._runs[level] = same = 0
        self._learn(found)
        return found

    def _table(self) -> Int[np.ndarray, "parts codes"]:
        """How likely each code is, those before it included; a code that would have been "again" is not."""
        table = self._counts.copy()
        weight = np.maximum(table.sum(1) // TRUST, 1)[:, None]
        after = self._followers[self._levels, self._before]
        seen = np.arange(FOLLOWERS) < self._followed[self._levels, self._before][:, None]
        np.add.at(table, (self._levels[:, None], after), seen * weight)
        table[self._levels, self._before] = 0
        return table.cumsum(1)

    def _learn(self, codes: list[int]) -> None:
        levels, before, now = self._levels, np.array(self._before), np.array(codes)
        self._counts[levels, now] += 1
        self._frames += 1
        if self._frames == FADE:
            self._frames //= 2
            self._counts = np.where(self._known, (self._counts - PRIOR) // 2 + PRIOR, 0)
        moved = np.flatnonzero(now != before)
        at = self._followed[moved, before[moved]]
        self._followers[moved, before[moved], at % FOLLOWERS] = now[moved]
        self._followed[moved, before[moved]] = at + 1
        self._before = codes


class ArithmeticEncoder:
    """Numbers to bytes: each narrows down an interval, and at the end the shortest number within it is written."""

    def __init__(self) -> None:
        self._low, self._range, self._bytes = 0, 1 << 32, 4  # the interval's start grows by a byte at a time

    def code(self, upto: Sequence[int] | np.ndarray, number: int | None) -> int:
        """Writes `number`, whose share of the interval is from `upto[number - 1]` to `upto[number]` of `upto[-1]`."""
        assert number is not None
        below = int(upto[number - 1]) if number else 0
        unit = self._range // int(upto[-1])
        self._low += unit * below
        self._range = unit * (int(upto[number]) - below)
        while self._range < _TOP:
            self._low, self._range, self._bytes = self._low << 8, self._range << 8, self._bytes + 1
        return number

    def finish(self) -> bytes:
        """All bytes but the zeros at the end, which the decoder takes for granted."""
        return ((self._low + _TOP - 1) // _TOP * _TOP).to_bytes(self._bytes, "big").rstrip(b"\0")


class ArithmeticDecoder:
    """Bytes to numbers, given the same shares in the same order; zeros follow the last byte."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)
        self._range = 1 << 32
        self._value = 0  # seen from the interval's start
        for _ in range(4):
            self._value = self._value << 8 | next(self._data, 0)

    def code(self, upto: Sequence[int] | np.ndarray, number: int | None = None) -> int:
        """Reads a number, which is not given; see `ArithmeticEncoder.code`."""
        total = int(upto[-1])
        unit = self._range // total
        found = bisect_right(upto, min(self._value // unit, total - 1))
        below = int(upto[found - 1]) if found else 0
        self._value -= unit * below
        self._range = unit * (int(upto[found]) - below)
        while self._range < _TOP:
            self._value, self._range = self._value << 8 | next(self._data, 0), self._range << 8
        return found


def _parts(size: int, cut: int) -> tuple[int, ...]:
    """The sizes of a code's parts: the high bits, and the lowest `cut` ones."""
    return (((size - 1) >> cut) + 1, 1 << cut) if cut else (size,)


def _cut(codes: Int[np.ndarray, " frames"], cut: int) -> tuple[Int[np.ndarray, " frames"], ...]:
    return (codes >> cut, codes & (1 << cut) - 1) if cut else (codes,)
