"""What is measured of a recording before it is used, and the windows of long ones."""

import math
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import tone

from cymatic.errors import SoundError
from cymatic.media.audio import AUDIO
from cymatic.media.audio_facts import beginning, listen, read_windows, sound_facts, windows
from cymatic.media.medium import Facts
from cymatic.media.sound import Sound
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.mel import PRESETS


def wave(hz, level=1.0, seconds=1.0, rate=44_100):
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def facts_of(tmp_path, samples, rate=44_100, name="a.wav"):
    soundfile.write(tmp_path / name, samples, rate)
    return listen(tmp_path / name, 0)[0]


def test_facts_and_the_sound_in_one_reading(tmp_path):
    stereo = Sound(np.stack([wave(440, 0.5), np.zeros(44_100)]), 44_100)
    stereo.write(tmp_path / "a.flac")
    facts, sound = listen(tmp_path / "a.flac", 1.0)
    assert facts.length == 1.0
    assert [facts.details[name] for name in ("rate", "channels", "samples")] == [44_100, 2, 44_100]
    assert facts.details["level"] == pytest.approx(20 * math.log10(0.5 / 2), abs=0.01)
    assert (facts.details["clipped"], facts.problems) == (0, ())
    assert sound is not None and np.array_equal(sound.samples, Sound.read(tmp_path / "a.flac").samples)
    assert listen(tmp_path / "a.flac", 0.99) == (facts, None)
    assert Facts.from_bytes(facts.as_bytes()) == facts


@pytest.mark.parametrize("channel", [0, 1])
def test_clipping_is_found(tmp_path, channel):
    samples = np.stack([wave(440, 0.5), wave(440, 0.5)])
    samples[channel] = np.clip(wave(440, 1.3), -1, 1)
    facts = facts_of(tmp_path, samples.T)
    # |1.3 sin| > 1 for 2 / pi * acos(1 / 1.3) of the time, in one channel of two
    assert facts.details["clipped"] == pytest.approx(math.acos(1 / 1.3) / math.pi, rel=0.03)
    assert "is clipped (22" in facts.problems[0]


@pytest.mark.parametrize("samples", [wave(80, 1.0), wave(440, 1.0), wave(5000, 1.0)])
def test_a_tone_that_just_reaches_full_scale_is_not_clipped(tmp_path, samples):
    assert facts_of(tmp_path, samples).problems == ()


def test_clipping_survives_a_lossy_format(tmp_path):
    assert "is clipped" in facts_of(tmp_path, np.clip(wave(440, 8), -1, 1), name="a.ogg").problems[0]


def test_single_clicks_at_full_scale_are_no_clipping(tmp_path):
    samples = wave(440, 0.3)
    samples[::50] = 1.0
    assert facts_of(tmp_path, samples).details["clipped"] == 0


@pytest.mark.parametrize(("level", "problems"), [(0.01, 0), (0.0005, 1), (0.0, 0)])
def test_near_silence_is_found(tmp_path, level, problems):
    facts = facts_of(tmp_path, wave(440, level))
    assert len(facts.problems) == problems and all("is nearly silent (-6" in one for one in facts.problems)
    assert (facts.details["level"] == -math.inf) == (level == 0) == facts.empty


def test_a_long_file_is_read_to_its_end(tmp_path):
    """Longer than what is decoded at once (2**18 samples), and what is wrong lies in its last piece."""
    samples = wave(440, 0.5, seconds=20)
    samples[-5:] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    with pytest.raises(SoundError, match="NaN"):
        listen(tmp_path / "a.wav", 1)


@given(st.integers(1, 10**9), st.floats(0.01, 600), st.sampled_from([8000, 44_100]))
def test_windows_lie_inside_and_apart(samples, longest, rate):
    facts = sound_facts(rate, 1, samples, -20.0, 0.0)
    if facts.length > longest and round(longest * rate) < samples:
        found = windows(facts, longest)
        assert 1 <= len(found) <= 4
        assert len(found) == 4 or samples < 4.01 * longest * rate + 4 * rate
        assert {end - first for first, end in found} == {round(longest * rate)}
        assert found[0][0] >= 0 and found[-1][1] <= samples
        assert all(a[1] <= b[0] for a, b in pairwise(found))


def test_windows_hold_what_the_file_holds(tmp_path):
    sound = tone(300, 70, rate=8000)  # more than one piece of what is decoded at once
    sound.write(tmp_path / "a.flac")
    whole = Sound.read(tmp_path / "a.flac").samples
    wanted = windows(listen(tmp_path / "a.flac", 0)[0], 10.0)
    assert len(wanted) == 4
    for piece, (first, end) in zip(read_windows(tmp_path / "a.flac", wanted), wanted, strict=True):
        assert np.array_equal(piece.samples, whole[:, first:end])


def test_a_beginning_is_what_the_file_begins_with(tmp_path):
    sound = tone(300, 70, rate=8000)
    sound.write(tmp_path / "a.flac")
    whole = Sound.read(tmp_path / "a.flac").samples
    assert np.array_equal(beginning(tmp_path / "a.flac", 40.0).samples, whole[:, :320_000])
    assert np.array_equal(beginning(tmp_path / "a.flac", 99.0).samples, whole)


def test_channels_that_cancel_are_named_and_the_louder_is_what_is_learned(tmp_path):
    left = wave(440, 0.5)
    facts = facts_of(tmp_path, np.stack([-0.9 * left, left]).T)
    assert not facts.empty
    assert facts.problems[0].startswith("has channels that cancel each other where they are mixed to one (100 %")
    assert "channel 2 alone, the loudest" in facts.problems[0]
    soundfile.write(tmp_path / "one.wav", left, 44_100)
    both, one = Sound.read(tmp_path / "a.wav"), Sound.read(tmp_path / "one.wav")
    for spec in (PRESETS["sound-24k"], WaveSpec(rate=24_000)):
        assert torch.equal(AUDIO.prepare(both, spec), AUDIO.prepare(one, spec))
    assert np.array_equal(Sound.read(tmp_path / "a.wav", mono=True).samples, one.samples)
    assert facts_of(tmp_path, np.stack([left, wave(660, 0.5)]).T).problems == ()
