"""docs/cym-format.md says what the code does, byte by byte."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.media.code_model import CodeModel
from cymatic.media.cym import MAGIC, CymHeader, CymReader, CymWriter

PAGE = Path(__file__).resolve().parents[2] / "docs/cym-format.md"
CODES = np.array([[5, 9, 9], [2, 0, 0]])
HEADER = CymHeader("tiny", "00" * 31 + "2a", 8000, 1, 160, (16, 3), 2)


def example() -> bytes:
    block = PAGE.read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    return bytes.fromhex("".join(re.match(r"((?:[0-9a-f]{2} ?)+)(?: |$)", line)[1] for line in block.splitlines()))


def test_the_example_is_what_is_written_and_read():
    stream = io.BytesIO()
    writer = CymWriter(stream, HEADER)
    writer.add(CODES)
    writer.close(470)
    assert stream.getvalue() == example()
    reader = CymReader(io.BytesIO(example()))
    assert np.array_equal(np.concatenate(list(reader), axis=1), CODES)
    assert (reader.header, reader.samples) == (HEADER, 470)


def test_a_reader_written_from_the_page_reads_it():
    """The tables, taken literally, with nothing from the package."""
    data = example()

    def number(at, size):
        return int.from_bytes(data[at : at + size], "little")

    assert data[:8] == MAGIC and number(8, 1) == 1 and number(9, 1) == 0
    assert (number(10, 2), number(12, 4), number(16, 4), number(20, 2)) == (1, 8000, 160, 2)
    levels, name = number(22, 1), number(23, 1)
    sizes = [number(56 + 4 * level, 4) for level in range(levels)]
    assert sizes == [16, 3] and data[56 + 4 * levels :][:name] == b"tiny"
    at = 56 + 4 * levels + name
    crc = zlib.crc32(data[:at])
    assert number(at, 4) == crc
    at, found = at + 4, []
    while frames := number(at, 2):
        length = number(at + 2, 2)
        crc = zlib.crc32(data[at : at + 4 + length], crc)
        assert number(at + 4 + length, 4) == crc
        bits = "".join(f"{byte:08b}" for byte in data[at + 4 : at + 4 + length])
        found += [(int(bits[6 * t :][:4], 2), int(bits[6 * t + 4 :][:2], 2)) for t in range(frames)]
        at += 8 + length
    assert found == [(5, 2), (9, 0), (9, 0)]
    assert number(at + 2, 8) == 470 and number(at + 10, 4) == zlib.crc32(data[at : at + 10], crc)
    assert len(data) == at + 14 == struct.calcsize("<105s")


class Plain:
    """The model as the page has it, slowly: plain Python, lists and dictionaries."""

    def __init__(self, sizes):
        self.cuts = [b // 2 if (b := (size - 1).bit_length()) > 12 else 0 for size in sizes]
        parts = [(((s - 1) >> c) + 1, 1 << c) if c else (s,) for s, c in zip(sizes, self.cuts, strict=True)]
        self.sizes = [part for pair in parts for part in pair]
        self.n = [[2] * size for size in self.sizes]
        self.after = [{} for _ in self.sizes]
        self.again = {}
        self.before, self.runs, self.frames = [0] * len(self.sizes), [0] * len(self.sizes), 0

    def encode(self, codes):
        low, width, size = 0, 2**32, 4

        def code(x, y, z):
            nonlocal low, width, size
            unit = width // z
            low, width = low + unit * x, unit * (y - x)
            while width < 2**24:
                low, width, size = low * 256, width * 256, size + 1

        for column in codes.T.tolist():
            pairs = [(k >> c, k & (1 << c) - 1) if c else (k,) for k, c in zip(column, self.cuts, strict=True)]
            frame, same = [part for pair in pairs for part in pair], True
            for level, (k, was) in enumerate(zip(frame, self.before, strict=True)):
                pair = self.again.setdefault((level, self.runs[level], same), [2, 32])
                code(*((0, pair[0]) if k == was else (pair[0], sum(pair))), sum(pair))
                pair[k != was] += 8
                if sum(pair) > 4096:
                    pair[:] = [(count + 1) // 2 for count in pair]
                self.runs[level] = min(3, self.runs[level] + 1) if k == was else 0
                if k != was:
                    same, weight = False, max(1, sum(self.n[level]) // 100)
                    last = self.after[level].get(was, [])[-32:]
                    shares = [n + weight * last.count(j) for j, n in enumerate(self.n[level])]
                    shares[was] = 0
                    code(sum(shares[:k]), sum(shares[: k + 1]), sum(shares))
            for level, (k, was) in enumerate(zip(frame, self.before, strict=True)):
                self.n[level][k] += 1
                if k != was:
                    self.after[level].setdefault(was, []).append(k)
            self.before, self.frames = frame, self.frames + 1
            if self.frames == 2**15:
                self.frames = 2**14
                self.n = [[(n - 2) // 2 + 2 for n in row] for row in self.n]
        rounded = -(-low // 2**24) * 2**24
        return rounded.to_bytes(size, "big").rstrip(b"\0")


@settings(max_examples=25)
@given(st.lists(st.sampled_from([2, 3, 16, 100, 4097]), min_size=1, max_size=4), st.integers(0, 99), st.booleans())
def test_the_model_is_the_one_of_the_page(sizes, seed, slow):
    rng = np.random.default_rng(seed)
    one, other = CodeModel(tuple(sizes)), Plain(sizes)
    for frames in (1, 40):
        codes = np.stack([rng.integers(0, size, frames) for size in sizes])
        codes = np.repeat(codes, 3, axis=1)[:, :frames] if slow else codes
        assert one.encode(codes) == other.encode(codes)


@pytest.mark.slow
def test_it_is_after_counts_have_faded():
    rng = np.random.default_rng(0)
    codes = np.minimum(rng.geometric(0.3, (2, 50_000)), 8) - 1
    assert CodeModel((8, 8)).encode(codes) == Plain((8, 8)).encode(codes)
