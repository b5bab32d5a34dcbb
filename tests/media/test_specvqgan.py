"""SpecVQGAN's mel, to the reference's numbers, and its ten seconds."""

import numpy as np
import pytest
import torch
from tests.helpers import tone

from cymatic.errors import Error
from cymatic.media.sound import Sound
from cymatic.media.specvqgan import FRAMES, SAMPLES, middle, published_mel, ten_seconds
from cymatic.signal.mel import PRESETS, log_mel

SPEC = PRESETS["specvqgan-22k"]


@pytest.fixture(scope="module")
def published(reference):
    return reference("specvqgan_mel")


@pytest.mark.parametrize("name", ["clip", "synth"])
def test_it_is_the_references(published, name):
    published.agrees(f"mel_{name}", log_mel(published.inputs[f"wave_{name}"][None, None], SPEC)[0])


def test_a_shorter_recording_becomes_ten_seconds(published):
    mel = published_mel(Sound(published.inputs["wave_synth"].numpy(), 22_050))
    published.agrees("mel_padded_10s_shape", torch.tensor(mel.shape))
    head = published.expected["mel_padded_10s_head"].shape[1]
    published.agrees("mel_padded_10s_head", mel[:, :head])
    published.agrees("mel_padded_10s_tail_absmax", mel[:, head:].abs().max())


@pytest.mark.parametrize(("rate", "seconds"), [(22_050, 12.0), (44_100, 3.0), (8_000, 10.0)])
def test_any_recording_becomes_ten_seconds(rate, seconds):
    sound = ten_seconds(Sound(np.random.default_rng(0).normal(size=(2, int(rate * seconds))) * 0.1, rate))
    assert (sound.rate, sound.channels, len(sound)) == (22_050, 1, SAMPLES)


def test_another_rate_is_resampled():
    """Their code takes a file's samples as they are, so that at another rate a tone would be heard at another pitch."""
    at_22, at_44 = (published_mel(tone(1000, 10.0, rate=rate)) for rate in (22_050, 44_100))
    assert at_22.mean(1).argmax() == at_44.mean(1).argmax()
    assert (at_22 - at_44).mean(1).abs().max() < 0.06


def test_the_middle_of_a_clip():
    mel = torch.arange(80 * FRAMES).reshape(80, FRAMES)
    assert torch.equal(middle(mel), mel[:, 6:854])
    assert torch.equal(middle(mel.T, 212, dim=0), mel.T[324:536])
    assert torch.equal(middle(torch.arange(215), 212), torch.arange(1, 213))
    with pytest.raises(Error, match="has 100 frames where 848"):
        middle(mel[:, :100])
