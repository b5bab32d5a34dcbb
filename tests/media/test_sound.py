"""`Sound`: what its constructor takes and refuses, and what its methods keep."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cymatic.errors import SoundError
from cymatic.media.sound import Sound


def tone(hz: float = 440.0, seconds: float = 0.5, rate: int = 24_000, channels: int = 1, level: float = 0.5) -> Sound:
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return Sound(np.tile(wave, (channels, 1)), rate, {"prompt": "a tone", "seed": 3})


def loudest_hz(sound: Sound) -> float:
    wave = sound.samples[0] * np.hanning(len(sound))
    return float(np.abs(np.fft.rfft(wave)).argmax() * sound.rate / len(sound))


def test_one_dimension_is_one_channel():
    sound = Sound([0.0, 0.5, -0.5], 8000)
    assert sound.samples.shape == (1, 3) and sound.samples.dtype == np.float32
    assert (sound.channels, len(sound), sound.seconds) == (1, 3, 3 / 8000)
    assert repr(tone(channels=2)) == "Sound(0.50 s, 2 ch, 24000 Hz)"


def test_float32_is_kept_without_a_copy():
    samples = np.zeros((2, 100), dtype=np.float32)
    assert np.shares_memory(Sound(samples, 8000).samples, samples)


def test_frozen():
    with pytest.raises(AttributeError):
        tone().rate = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((1, 0)), "at least one sample"),
        (np.zeros(0), "at least one sample"),
        (np.zeros((1, 2, 3)), "[channels, samples]"),
        (np.float32(1), "[channels, samples]"),
        (np.array([0.0, np.nan]), "1 of 2 samples are NaN or infinite"),
        (np.array([[0.0], [np.inf]]), "NaN or infinite"),
        (np.array([1e300]), "NaN or infinite"),
        (np.array([1j]), "not real numbers"),
        (np.array(["a", "b"]), "not real numbers"),
        ([[0.0, 1.0], [0.0]], "rows of equal length"),
        (np.array([0, 12_000], dtype=np.int16), "divide by 32768"),
        (np.zeros((24_000, 2)), "transposing"),
    ],
)
def test_refuses_what_is_no_sound(samples, said):
    with pytest.raises(SoundError) as caught:
        Sound(samples, 24_000)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, -1, 768_001])
def test_refuses_impossible_rates(rate):
    with pytest.raises(SoundError, match=f"rate is {rate}"):
        Sound([0.0], rate)
    with pytest.raises(SoundError, match=f"rate is {rate}"):
        tone().resample(rate)


@pytest.mark.parametrize("rate", [8000, 22_050, 24_000, 44_100, 192_000])
def test_resampling_keeps_a_tones_frequency_and_level(rate):
    sound = tone(hz=1000, seconds=1.0).resample(rate)
    assert sound.rate == rate and len(sound) == rate
    assert loudest_hz(sound) == pytest.approx(1000, abs=1.5)
    middle = sound.samples[0, rate // 4 : -rate // 4]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=1e-3)


@given(st.integers(1, 3), st.integers(1, 300), st.integers(1, 400_000), st.integers(1, 400_000))
def test_resampling_any_length_to_any_rate(channels, samples, rate, to):
    if samples * to / rate > 2e6:
        to = rate
    sound = Sound(np.full((channels, samples), 0.25), rate, {"seed": 1}).resample(to)
    assert sound.channels == channels and sound.info == {"seed": 1}
    assert abs(len(sound) - samples * to / rate) <= 1


def test_mono_is_the_mean():
    sound = Sound([[1.0, 0.0], [0.0, 0.0], [0.5, -0.3]], 8000)
    assert sound.mono().samples == pytest.approx(np.array([[0.5, -0.1]]))
    assert tone().mono().channels == 1


def test_cut():
    sound = Sound(np.arange(100) / 100, 100)
    assert sound.cut(0.1, 0.2).samples[0] == pytest.approx(np.arange(10, 20) / 100)
    assert len(sound.cut(0.5)) == 50 and len(sound.cut(0.0, 99.0)) == 100
    for start, end in [(-0.1, None), (1.0, None), (0.5, 0.5), (0.5, 0.2), (float("nan"), None), (0.0, float("nan"))]:
        with pytest.raises(SoundError, match="a cut"):
            sound.cut(start, end)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50), st.floats(1e-4, 1e3))
def test_trim_removes_just_the_silence_at_any_volume(before, loud, after, gain):
    samples = np.concatenate([np.full(before, 1e-4), np.ones(loud), np.full(after, -1e-4)]) * gain
    sound = Sound(samples, 1000)
    assert len(sound.trim()) == loud
    assert len(sound.trim(pad=0.01)) == min(before, 10) + loud + min(after, 10)
    assert len(sound.trim(threshold_db=-100.0)) == len(sound)
    assert len(sound.trim(threshold_db=0.0)) == loud


def test_trimming_silence_and_nonsense():
    silence = Sound(np.zeros((2, 10)), 8000)
    assert silence.trim() is silence
    with pytest.raises(SoundError, match="threshold_db is 3"):
        tone().trim(threshold_db=3.0)
    with pytest.raises(SoundError, match="pad is -1"):
        tone().trim(pad=-1.0)


def test_fades_begin_and_end_in_silence_and_leave_the_middle():
    faded = Sound(np.ones((2, 1000)), 1000).fade(0.1, 0.2).samples
    assert (faded[:, 0] == 0).all() and (faded[:, -1] == 0).all()
    assert (faded[:, 100:800] == 1).all()
    assert (np.diff(faded[0, :100]) > 0).all() and (np.diff(faded[0, 800:]) < 0).all()
    assert faded[0, 50] == pytest.approx(0.5)
    assert np.isfinite(Sound(np.ones(10), 1000).fade(5.0, 5.0).samples).all()
    with pytest.raises(SoundError, match="fade_out is nan"):
        tone().fade(0.1, float("nan"))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.resample(8000),
        lambda s: s.mono(),
        lambda s: s.cut(0.1),
        lambda s: s.trim(),
        lambda s: s.fade(0.1, 0.1),
        lambda s: s.at_loudness(-30.0),
        lambda s: s.peak_limited(-20.0),
    ],
)
def test_methods_leave_the_sound_alone_and_keep_its_info(change):
    sound = tone(channels=2)
    before = sound.samples.copy()
    changed = change(sound)
    assert changed.info == sound.info
    changed.samples[:] = 0
    assert np.array_equal(sound.samples, before)


def test_importing_brings_in_nothing_heavy():
    code = (
        "import sys, cymatic.media.sound, cymatic.media.plot; "
        "print(sorted({'torch', 'scipy', 'matplotlib', 'pyloudnorm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
