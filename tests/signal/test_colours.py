"""Colours: known ones, there and back, and what a screen can show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.signal.colours import difference, fitted, from_srgb, oklab, to_srgb
from cymatic.signal.timbre import Timbre, timbre

RATE = 8000
TIMES = np.arange(RATE // 4) / RATE


def tone(hz, gain=0.3):
    return gain * np.sin(2 * np.pi * hz * TIMES)


def noise(seed=0, gain=0.1):
    return np.random.default_rng(seed).normal(0, gain, len(TIMES))


def test_known_colours():
    """As CSS Color 4 and Ottosson give them, lightness, chroma and hue."""
    known = {(1, 0, 0): (0.628, 0.258, 29.2), (0, 1, 0): (0.866, 0.295, 142.5), (0, 0, 1): (0.452, 0.313, 264.1)}
    for rgb, (lightness, chroma, hue) in known.items():
        found = from_srgb(np.array([rgb], float))
        expected = oklab(np.array([lightness]), np.array([chroma]), np.array([hue]))
        assert difference(found, expected)[0] < 2e-3
    assert from_srgb(np.ones(3)) == pytest.approx([1, 0, 0], abs=1e-4)


def test_there_and_back():
    colours = np.random.default_rng(0).random((500, 3))
    assert np.abs(to_srgb(from_srgb(colours)) - colours).max() < 1e-5


@settings(max_examples=200)
@given(st.floats(-0.2, 1.2), st.floats(0, 0.5), st.floats(0, 360))
def test_whatever_is_asked_for_can_be_shown(lightness, chroma, hue):
    wanted = oklab(np.array([lightness]), np.array([chroma]), np.array([hue]))
    shown = fitted(wanted)
    rgb = to_srgb(wanted)
    assert ((rgb >= 0) & (rgb <= 1)).all()
    assert difference(from_srgb(rgb), shown)[0] < 2e-3, "nothing was cut off"
    assert shown[0, 0] == pytest.approx(min(1, max(0, lightness)))
    kept = np.linalg.norm(shown[0, 1:])
    assert kept <= chroma + 1e-9
    if kept > 1e-3:
        assert shown[0, 1:] / kept == pytest.approx(wanted[0, 1:] / chroma, abs=1e-6), "the hue stays"


def test_timbre_by_hand():
    found = timbre(np.stack([tone(1000), tone(1000, 0.03), noise()]), RATE)
    assert found.level == pytest.approx([-13.5, -33.5, -20], abs=0.5)
    assert found.centre[:2] == pytest.approx([1000, 1000], rel=0.15) and found.centre[2] > 1200
    assert found.flatness[0] < -15 and found.flatness[2] > -1
    assert found.flatness[0] == pytest.approx(found.flatness[1], abs=3)


def test_alike_sounds_have_alike_colours():
    sounds = [noise(0), noise(1), tone(200), tone(210), tone(2000), tone(2100), tone(200, 0.01)]
    colours = timbre(np.stack(sounds), RATE).colours()
    near = difference(colours[[0, 2, 4]], colours[[1, 3, 5]])
    far = difference(colours[[0, 0, 2, 2]], colours[[2, 4, 4, 6]])
    assert near.max() < 0.03 < 0.1 < far.min()


def test_colours_say_what_they_should():
    one = Timbre(np.array([-20.0, -50, -20]), np.array([100.0, 100, 4000]), np.array([-20.0, -20, 0]))
    colours = one.colours()
    assert colours[0, 0] > colours[1, 0], "the louder the lighter"
    red, violet = np.degrees(np.arctan2(colours[[0, 2], 2], colours[[0, 2], 1])) % 360
    assert red < 60 < 200 < violet
    assert np.linalg.norm(colours[2, 1:]) < 0.03 < np.linalg.norm(colours[0, 1:]), "noise is grey"


@pytest.mark.parametrize("rate", [1000, 8000, 24_000, 192_000])
@pytest.mark.parametrize("samples", [1, 50, 3000])
def test_silence_and_any_length_have_a_colour(rate, samples):
    sounds = np.stack([np.zeros(samples), np.ones(samples)])
    colours = timbre(sounds, rate).colours()
    assert np.isfinite(colours).all() and colours[0, 0] < 0.3
