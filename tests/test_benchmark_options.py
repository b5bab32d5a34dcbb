"""The benchmark of a codec's options: its settings are those of recipes, and what is there is not run again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.options_list import VARIANTS

from cymatic.codecs.waveform import WaveformCodec
from cymatic.media.sound import Sound


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import options

    return options


@pytest.fixture
def packs(tmp_path: Path, bench) -> Path:
    """One second of two notes in each pack, one to train on and one held out."""
    for pack in bench.PACKS:
        rows = []
        for split, pitch in (("train", 60), ("valid", 67)):
            hz = 440 * 2 ** ((pitch - 69) / 12)
            wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000)
            (tmp_path / pack).mkdir(exist_ok=True)
            Sound(wave[None].astype(np.float32), 16_000).write(tmp_path / pack / f"{split}.wav")
            rows.append({"audio": f"{split}.wav", "caption": "a note", "split": split, "licence": "public domain"})
            if pack == "instruments":
                rows[-1]["pitch"] = pitch
        (tmp_path / pack / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.key)
def test_settings_are_a_recipes(bench, variant) -> None:
    assert bench.stage_of(variant, steps=30).part.rate == bench.RATE
    assert variant.against in {other.name for other in VARIANTS}
    assert variant.goes_on is None or variant.goes_on in {other.name for other in VARIANTS}


def test_rows_have_names_of_their_own() -> None:
    assert len({variant.key for variant in VARIANTS}) == len(VARIANTS)


def test_what_is_there_is_not_run_again(bench, packs, tmp_path, capsys) -> None:
    output = tmp_path / "options.jsonl"
    bench.run(packs, output, minutes=1e-4, only=["base", "finite"], until=None)
    first = output.read_text()
    lines = [json.loads(line) for line in first.splitlines()]
    names = [line["name"] for line in lines]
    assert names[:3] == ["base", "base, seed 1", "base, seed 2"] and "finite" in names
    assert all(line["steps"] >= 1 and line["scores"]["mel"] > 0 for line in lines)
    assert lines[names.index("finite")]["scores"]["topography"] is None  # there is no codebook
    bench.run(packs, output, minutes=1e-4, only=["base", "finite"], until=None)
    assert output.read_text() == first
    capsys.readouterr()
    bench.show(output)
    assert "| finite | `codec.quantizer={kind: finite" in capsys.readouterr().out


def test_a_held_out_note_is_in_tune_with_itself_only(bench, packs) -> None:
    clips = bench.held_out(packs)
    (clip,) = (clip for clip in clips if clip.note is not None)
    assert clip.pack == "instruments"
    assert clip.note == pytest.approx(67, abs=0.1)
    from options_scores import in_tune, snr

    assert in_tune(clip.wave, clip.note) == 1
    assert in_tune(clip.wave, clip.note + 1) == 0
    assert in_tune(torch.zeros(16_000), clip.note) == 0
    assert snr(clip.wave, clip.wave / 2) > 60


def test_marks_say_what_is_more_than_seeds(bench) -> None:
    seeds = [
        {"name": f"base, seed {i}", "scores": {"mel": value, "stoi": 0.5}} for i, value in enumerate((1.0, 1.1, 1.2))
    ]
    for value, shown in ((0.8, "**0.800**"), (1.0, "1.000"), (1.4, "*1.400*")):
        assert bench.cell({"scores": {"mel": value}}, seeds, 0.2, "mel") == shown
    assert bench.cell({"scores": {"stoi": 0.6}}, seeds, 0.05, "stoi") == "**0.600**"  # here more is better
    assert bench.cell({"scores": {}}, seeds, 0.2, "mel") == "-"


def test_a_classifier_tells_noise_from_tones_and_not_tones_from_tones(bench) -> None:
    from options_scores import told

    generator = torch.Generator().manual_seed(0)
    tones = [0.3 * torch.sin(torch.arange(8000) * hz) for hz in (0.1, 0.1, 0.2, 0.2)]
    noises = [0.1 * torch.randn(8000, generator=generator) for _ in tones]
    assert told(tones, noises, seeds=1) > 0.9
    assert 0.3 < told(tones, tones, seeds=1) < 0.7


def test_a_codec_that_is_gone_on_from_is_saved(bench, packs, tmp_path) -> None:
    output = tmp_path / "options.jsonl"
    bench.run(packs, output, minutes=1e-4, only=["start", "without judges"], until=None)
    assert isinstance(bench.load_part(tmp_path / "options" / "start", (WaveformCodec,)), WaveformCodec)
    steps = {line["name"]: line["scores"]["told"] for line in map(json.loads, output.read_text().splitlines())}
    assert steps.keys() == {
        "start",
        "without judges",
        "without judges, seed 1",
        "without judges, seed 2",
    }
    assert all(0 <= value <= 1 for value in steps.values())
