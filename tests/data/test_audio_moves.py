"""Sounds at another pitch, and captions that say so."""

import numpy as np
import pytest
from tests.helpers import tone

from cymatic.data.audio_moves import transposed, transposed_caption


@pytest.mark.parametrize(
    ("caption", "semitones", "moved"),
    [
        ("violin playing A#3 softly", 2, "violin playing C4 softly"),
        ("violin playing C4 softly", -1, "violin playing B3 softly"),
        ("Bb2 horn", 1, "B2 horn"),
        ("a woody synth bass note on C", 1, "a woody synth bass note on C#"),
        ("from c4 to e4", 12, "from c5 to e5"),
        ("A dog barking", 2, "A dog barking"),
        ("a plan B", 1, "a plan B"),
        ("a house bass drum", 1, None),
        ("a deep hum", -2, None),
        ("violin playing A#3", 0.5, None),
        ("rain", 0.5, "rain"),
    ],
)
def test_captions_move_with_their_sound(caption, semitones, moved):
    assert transposed_caption(caption, semitones) == moved


@pytest.mark.parametrize("semitones", [-12, -3, 0, 1, 7.5])
def test_a_tone_moves_by_as_many_semitones(semitones):
    before = tone(400, 0.5, rate=8000)
    after = transposed(before, semitones)
    assert after.rate == before.rate
    assert len(after) == pytest.approx(len(before) * 2 ** (-semitones / 12), rel=0.001, abs=2)
    spectrum = np.abs(np.fft.rfft(after.samples[0] * np.hanning(len(after)), 1 << 16))
    heard = spectrum.argmax() * 8000 / (1 << 16)
    assert heard == pytest.approx(400 * 2 ** (semitones / 12), rel=0.002)
