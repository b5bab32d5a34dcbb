"""Recordings as clips: what is skipped and why, what is cut, and what the cache saves."""

import errno
import math
import shutil
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tests.helpers import tone, tone_folder

from cymatic.data.cache import Cache
from cymatic.data.facts import facts_of, say_trouble, usual_rate
from cymatic.data.folder import read_folder
from cymatic.data.reading import Reading, load_items
from cymatic.errors import Note
from cymatic.media import AUDIO, MEDIA
from cymatic.media.audio import levelled, mel_of
from cymatic.media.sound import Sound
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["voice-8k"]
MEL = Reading("audio", SPEC)


@pytest.fixture
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def no_reading(monkeypatch):
    """A function after whose call no sound may be decoded."""

    def refuse(*arguments, **more):
        pytest.fail("a sound was read that is cached")

    def start():
        closed = replace(
            AUDIO, read=refuse, examine=refuse, prepare=refuse, windows=replace(AUDIO.windows, read=refuse)
        )
        monkeypatch.setitem(MEDIA, AUDIO.name, closed)

    return start


def load(folder, cache, longest=2.0, **more):
    return load_items(read_folder(folder).items, MEL, captions=True, longest=longest, cache=cache, **more)


def same(one, other):
    return all(
        a.caption == b.caption and torch.equal(a.target, b.target)
        for a, b in zip(one.examples, other.examples, strict=True)
    )


def test_broken_files_are_named_and_skipped(tmp_path, cache):
    tone_folder(tmp_path, takes=2)
    (tmp_path / "broken.wav").write_bytes(b"RIFF not really")
    (tmp_path / "empty.wav").write_bytes(b"")
    tone(300, 3.0).write(tmp_path / "long.wav")
    silent = tone(300)
    Sound(silent.samples * 0, 8000).write(tmp_path / "silent.wav")
    (tmp_path / "_.wav").write_bytes((tmp_path / "low-tone_1.wav").read_bytes())
    items = read_folder(tmp_path).items
    loaded = load_items(items, MEL, captions=True, longest=2.0, cache=cache)
    assert [clip.caption for clip in loaded.examples] == [item.caption for item in loaded.items]
    assert len(loaded.examples) == 4 and loaded.problems == []
    reasons = {Path(skipped.name).name: skipped for skipped in loaded.skipped}
    assert sorted(reasons) == ["_.wav", "broken.wav", "empty.wav", "long.wav", "silent.wav"]
    assert "3.0 s long" in reasons["long.wav"].why
    assert "silent" in reasons["silent.wav"].why
    assert {name for name, skipped in reasons.items() if skipped.broken} == {"_.wav", "broken.wav", "empty.wav"}
    assert all(clip.target.isfinite().all() and clip.target.shape[0] == SPEC.mels for clip in loaded.examples)
    assert usual_rate(items, cache=cache) == 8000


def test_level_says_nothing_about_a_clip(tmp_path, cache):
    loud, quiet = tone(300, 0.5), tone(300, 0.5)
    Sound(quiet.samples * 0.01, 8000).write(tmp_path / "quiet.flac")
    loud.write(tmp_path / "loud.flac")
    one, two = load(tmp_path, cache).examples
    assert (one.target - two.target).abs().mean() < 0.1


def test_doubtful_clips_are_used_and_reported(tmp_path, cache):
    Sound(np.clip(9 * tone(300, 0.5).samples, -1, 1), 8000).write(tmp_path / "clipped.wav")
    Sound(tone(300, 0.5).samples * 1e-3, 8000).write(tmp_path / "quiet.wav")
    for _ in range(2):  # measured, then from the cache
        loaded = load(tmp_path, cache)
        assert len(loaded.examples) == 2
        assert [Path(name).name for name, _ in loaded.problems] == ["clipped.wav", "quiet.wav"]


def test_the_second_time_nothing_is_read(tmp_path, cache, no_reading):
    tone_folder(tmp_path)
    tone(300, 5.0).write(tmp_path / "rain.wav")
    Sound(np.zeros(100), 8000).write(tmp_path / "silent.wav")
    first = load(tmp_path, cache, long="cut")
    no_reading()
    second = load(tmp_path, cache, long="cut")
    assert same(first, second) and first.skipped == second.skipped
    assert len(second.examples) == 8 + 2
    moved = shutil.copytree(tmp_path, tmp_path / "elsewhere" / "copy")
    assert len(load(moved, cache, long="cut").examples) == 10, "it goes by content"


def test_features_are_those_of_the_sound_to_half_precision(tmp_path, cache):
    sound = tone(300, 1.0)
    sound.write(tmp_path / "a.wav")
    (clip,) = load(tmp_path, cache).examples
    exact = mel_of(levelled(Sound.read(tmp_path / "a.wav"), SPEC), SPEC)
    assert (clip.target - exact).abs().max() <= 2**-8  # log mels lie between -12 and 8
    assert (clip.target - exact).square().mean().sqrt() < 2.5e-3
    assert torch.equal(clip.target, exact.half().float())


def test_other_settings_have_other_features(tmp_path, cache, monkeypatch):
    tone(300, 1.0).write(tmp_path / "a.wav")
    (first,) = load(tmp_path, cache).examples
    items = read_folder(tmp_path).items
    (other,) = load_items(
        items, Reading("audio", SPEC.model_copy(update={"fmin": 50.0})), captions=True, longest=2.0, cache=cache
    ).examples
    assert not torch.equal(first.target, other.target)
    entries = cache.size()[0]
    monkeypatch.setitem(MEDIA, AUDIO.name, replace(AUDIO, preparation=(AUDIO.preparation[0] + 1, -23.0)))
    load(tmp_path, cache)
    assert cache.size()[0] == entries + 2, "facts and features of another preparation"


def test_a_changed_file_has_new_features(tmp_path, cache):
    tone(300, 1.0).write(tmp_path / "a.wav")
    (first,) = load(tmp_path, cache).examples
    tone(600, 1.0).write(tmp_path / "a.wav")
    (second,) = load(tmp_path, cache).examples
    assert not torch.equal(first.target, second.target)


def test_damaged_features_are_computed_again(tmp_path, cache):
    tone_folder(tmp_path)
    first = load(tmp_path, cache)
    for path in cache.folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    assert same(first, load(tmp_path, cache))


def test_the_folder_is_left_alone(tmp_path, cache):
    tone_folder(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    load(tmp_path, cache)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_cache_disk_costs_one_note(tmp_path, cache, monkeypatch):
    tone_folder(tmp_path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cymatic.files.open", full, raising=False)
    assert len(load(tmp_path, cache).examples) == 8
    with pytest.warns(
        Note, match=r"features are not cached, for .* can't be written: no space left .* goes on"
    ) as said:
        say_trouble(cache)
    assert len(said) == 1
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        say_trouble(Cache(tmp_path / "fine"))


def test_files_that_vanish_are_named(tmp_path, cache):
    tone_folder(tmp_path)
    items = read_folder(tmp_path).items
    (tmp_path / "low-tone_2.wav").unlink()
    loaded = load_items(items, MEL, captions=True, longest=2.0, cache=cache)
    assert len(loaded.examples) == 7
    (skipped,) = loaded.skipped
    assert skipped.name.endswith("low-tone_2.wav") and "does not exist" in skipped.why and skipped.broken


def test_files_that_change_between_listing_and_reading_are_named_and_never_cached(tmp_path, cache):
    tone_folder(tmp_path)
    items = read_folder(tmp_path).items
    name = "low-tone_2.wav"
    before = (tmp_path / name).read_bytes()
    tone(500, 0.4).write(tmp_path / name)
    loaded = load_items(items, MEL, captions=True, longest=2.0, cache=cache)
    (skipped,) = loaded.skipped
    assert skipped.name.endswith(name) and "changed while it was being read" in skipped.why
    (tmp_path / name).write_bytes(before)
    again = load_items(items, MEL, captions=True, longest=2.0, cache=cache)
    fresh = load_items(items, MEL, captions=True, longest=2.0, cache=Cache(tmp_path / "fresh"))
    assert same(again, fresh), "the content is not taken for what was there in between"


def test_long_clips_are_cut_where_asked(tmp_path, cache):
    tone(300, 9.0).write(tmp_path / "rain.wav")
    loaded = load(tmp_path, cache, long="cut")
    assert [clip.target.shape[1] for clip in loaded.examples] == [160] * 4  # 2 s of 80 frames a second
    assert [clip.caption for clip in loaded.examples] == ["rain"] * 4
    assert [clip.target.shape[1] for clip in load(tmp_path, cache, 8.0, long="cut").examples] == [640]
    assert [clip.target.shape[1] for clip in load(tmp_path, cache, 9.0, long="cut").examples] == [720], "it is not long"


def test_silent_windows_are_left_out(tmp_path, cache):
    samples = tone(300, 8.0).samples.copy()
    samples[:, 16_000:] = 0
    Sound(samples, 8000).write(tmp_path / "rain.wav")
    for _ in range(2):
        assert len(load(tmp_path, cache, long="cut").examples) == 1


def two_hours(path: Path, rate: int = 8000) -> Path:
    """Two hours of a tone, written minute by minute."""
    minute = tone(300, 60.0, rate).samples[0]
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        for _ in range(120):
            file.write(minute)
    return path


def test_two_hours_are_never_in_memory(tmp_path, cache):
    two_hours(tmp_path / "rain.wav")
    load_items([], MEL, captions=True, longest=10.0, cache=cache)
    tracemalloc.start()  # numpy's memory is counted
    cut = load(tmp_path, cache, 10.0, long="cut")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [clip.target.shape[1] for clip in cut.examples] == [800] * 4
    assert most < 40e6, "two hours are 230 MB"
    (skipped,) = load(tmp_path, cache, 10.0).skipped
    assert "is 7200.0 s long" in skipped.why and not skipped.broken


def test_the_usual_rate_is_of_all_not_of_the_first(tmp_path, cache):
    for i in range(30):
        tone(300, 0.1, rate=8000 if i < 10 else 24_000, seed=i).write(tmp_path / f"{i:02}x.wav")
    items = read_folder(tmp_path).items
    assert usual_rate(items, cache=cache, looked_at=10) == 24_000
    assert usual_rate([], cache=cache) == 24_000


def test_silence_has_facts(tmp_path, cache):
    Sound(np.zeros(8000), 8000).write(tmp_path / "a.wav")
    (item,) = read_folder(tmp_path).items
    for _ in range(2):
        assert facts_of(item, cache)[0].details["level"] == -math.inf


def test_waveforms_come_at_one_rate_long_ones_in_windows_and_silence_stays(tmp_path, cache):
    folder = tone_folder(tmp_path / "tones")
    tone(300, 5.0).write(folder / "long.wav")
    Sound(np.zeros(8000), 8000).write(folder / "silence.wav")
    (folder / "broken.wav").write_bytes(b"RIFF")
    items = read_folder(folder).items
    loaded = load_items(items, Reading("audio", WaveSpec(rate=24_000)), captions=False, longest=1.0, cache=cache)
    assert len(loaded.examples) == len(loaded.items) == 8 + 4 + 1
    assert {one.target.dtype for one in loaded.examples} == {torch.float16}
    assert [one.target.shape for one in loaded.examples if one.caption == "long"] == [(1, 24_000)] * 4
    assert [one.name.endswith("broken.wav") for one in loaded.skipped] == [True]
