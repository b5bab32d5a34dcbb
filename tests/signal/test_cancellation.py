"""Channels that cancel each other, wholly or in part, are told from ordinary stereo."""

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from cymatic.signal.cancellation import Cancellation, cancellation, one_channel

RATE = 44_100


def noise(seed: int, seconds: float = 2.0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(RATE * seconds))


def band(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    return sosfiltfilt(butter(6, [low, high], "band", fs=RATE, output="sos"), samples)


def tone(hz: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)


def late(samples: np.ndarray, seconds: float) -> np.ndarray:
    return np.roll(samples, round(seconds * RATE))


def pair(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right]).astype(np.float32)


a, b = noise(1), noise(2)
part = np.arange(len(a)) < len(a) // 2
CANCELLING = {
    "right is -left": pair(a, -a),
    "nearly": pair(a, -0.8 * a + 0.05 * b),
    "a tone": pair(tone(440), -tone(440)),
    "a short one": pair(tone(440)[:900], -tone(440)[:900]),
    "three channels": np.stack([a, -0.5 * a, -0.5 * a]).astype(np.float32),
    "the second half": pair(a, np.where(part, a, -a)),
    "below 2 kHz": pair(a, a - 2 * band(a, 20, 2000)),
    "above 2 kHz": pair(a, a - 2 * band(a, 2000, 20_000)),
    "a quieter part is shared": pair(a + 0.05 * b, -a + 0.05 * b),
}
FINE = {
    "one sound": pair(a, a),
    "unrelated": pair(a, b),
    "one side only": pair(a, 0 * a),
    "panned": pair(a, 0.2 * a),
    "delayed": pair(a, late(a, 0.012)),
    "a wide chorus": pair(a + 0.5 * late(a, 0.01), a - 0.5 * late(a, 0.01)),
    "ping-pong": pair(np.where(part, a, 0), np.where(part, 0, b)),
    "two tones": pair(tone(440), tone(660)),
    "a quarter of a turn": pair(tone(440), late(tone(440), 1 / 1760)),
    "eight": np.stack([noise(i) for i in range(8)]).astype(np.float32),
    "silence": np.zeros((2, 5000), np.float32),
}


@pytest.mark.parametrize("samples", CANCELLING.values(), ids=CANCELLING)
def test_what_cancels_gives_way_to_the_loudest(samples):
    found = cancellation(samples, RATE)
    assert found.share > 0.25 and found.loudest == 0
    assert np.array_equal(one_channel(samples, RATE), samples[:1])
    assert "channel 1 alone" in found.remark


@pytest.mark.parametrize("samples", FINE.values(), ids=FINE)
def test_ordinary_stereo_is_mixed(samples):
    found = cancellation(samples, RATE)
    assert found.share < 0.1 and found.loudest is None
    assert np.array_equal(one_channel(samples, RATE), samples.mean(axis=0, keepdims=True))


@pytest.mark.parametrize("rate", [1000, 8000, 192_000])
def test_any_rate(rate):
    assert cancellation(CANCELLING["right is -left"], rate).share == pytest.approx(1)
    assert cancellation(FINE["unrelated"], rate).share < 0.1


def test_pieces_make_no_difference():
    samples = CANCELLING["the second half"]
    found = Cancellation(2, RATE)
    for start in range(0, samples.shape[1], 777):
        found.add(samples[:, start : start + 777])
    assert found.share == pytest.approx(cancellation(samples, RATE).share, abs=1e-9)
    assert found.share == found.share, "asking changes nothing"


def test_the_louder_one_is_taken():
    assert cancellation(pair(-0.6 * a, 0.7 * a), RATE).loudest == 1
