"""How the benchmark of codecs counts the bits of Opus and sets its delay right, and what a first sample waits for."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from tests.helpers import tiny_codec


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`benchmarks/codecs.py`, by its path, for its name is also that of a module of Python's own."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    spec = importlib.util.spec_from_file_location("benchmark_codecs", repository / "benchmarks" / "codecs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("scoring", None)


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("level", [1.0, 0.5])
def test_bits_are_those_of_the_packets(bench: ModuleType, level: float) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(96_000), 48_000, format="OGG", subtype="OPUS", compression_level=level)
    data = buffer.getvalue()
    pages = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    headers = sum(27 + data[at + 26] for at in pages)
    head, tags = (data.index(mark) for mark in (b"OpusHead", b"OpusTags"))
    # Each of the two packets of the header has a page of its own.
    header_packets = sum(next(at for at in [*pages, len(data)] if at > start) - start for start in (head, tags))
    assert bench.packet_bytes(data) == len(data) - headers - header_packets
    asked = 6 + 250 * (1 - level)
    assert 0.7 * asked < 8 * bench.packet_bytes(data) / 2 / 1000 < 1.1 * asked


@pytest.mark.parametrize("late", [0, 7, -7, 312, -312])
def test_a_delay_is_found(bench: ModuleType, late: int) -> None:
    wanted = noise(9600)
    made = np.roll(wanted, late) if late <= 0 else np.concatenate([np.zeros(late, np.float32), wanted])
    got = bench.aligned(made, wanted)
    np.testing.assert_array_equal(got[400:8000], wanted[400:8000])
    assert bench.LAGS[0] == late


def test_opus_gives_back_what_went_in(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.shutil, "which", lambda name: None)
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000).astype(np.float32)
    heard = bench.by_opus(16.0, bench.Clip("samples", wave))
    assert heard.wave.shape == wave.shape
    assert np.abs(heard.wave - wave)[2000:-2000].mean() < 0.05  # a tenth of its peak
    assert 10_000 < heard.bits < 20_000


def test_a_first_sample_waits_for_the_latency_and_for_whole_chunks(bench: ModuleType) -> None:
    codec = tiny_codec()
    for chunk in (7, 40):
        out, computing = bench.first_sample(codec, 2, chunk, seed=0)
        frames = -(-(codec.delay + 1) // codec.hop)
        chunks = -(-frames * codec.hop // chunk)
        assert out >= chunks * chunk / codec.config.rate and out > computing > 0
