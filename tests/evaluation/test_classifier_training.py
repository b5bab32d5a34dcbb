from __future__ import annotations

import numpy as np
import pytest
import torch

from cymatic.evaluation.classifier_training import (
    Disturbance,
    _stretch_of,
    augmented,
    disturbed,
    held_out,
    mixture,
    numbered_answers,
    train_classifier,
    training_loss,
)
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk, waveform_at
from cymatic.media.sound import Sound
from cymatic.signal.mel import MelSpec

SMALL = ConvTrunk(
    mel=MelSpec(rate=24_000, n_fft=1024, hop=600, mels=32, fmax=12_000, floor=3e-4), widths=(4, 8, 8), dim=16, dropout=0
)
CONFIG = ClassifierConfig(labels={"class": ("click", "hiss")}, trunk=SMALL)


def _clips(takes: int) -> tuple[list[Sound], dict[str, list[str]]]:
    """One click somewhere in three seconds of silence, or three seconds of noise."""
    chance = np.random.default_rng(0)
    sounds, truth = [], []
    for _ in range(takes):
        click = np.zeros(72_000)
        start = chance.integers(0, 70_000)
        click[start : start + 1200] = np.hanning(1200) * np.sin(np.arange(1200) * chance.uniform(0.1, 0.2))
        sounds += [Sound(click, 24_000), Sound(0.1 * chance.normal(size=72_000), 24_000)]
        truth += ["click", "hiss"]
    return sounds, {"class": truth}


@pytest.mark.parametrize("how", [Disturbance(), Disturbance(speed=0.2, gain=8, longest=1.0, mix=0.5)])
def test_a_disturbed_clip_is_sound_of_the_right_length(how: Disturbance) -> None:
    chance = np.random.default_rng(0)
    wave = chance.normal(size=48_000).astype(np.float32)
    for _ in range(20):
        out = disturbed(wave, 24_000, how, chance)
        assert out.dtype == np.float32 and np.isfinite(out).all()
        most = (how.longest or 2.0) / (1 - how.speed) + 0.4  # the silence around it
        assert len(out) <= most * 24_000 + 1


def test_a_stretch_is_where_the_sound_is() -> None:
    wave = np.zeros(5000, dtype=np.float32)
    wave[3000:3010] = 1
    for seed in range(20):
        stretch = _stretch_of(wave, 1000, np.random.default_rng(seed))
        assert len(stretch) == 1000 and stretch.any()
    assert len(_stretch_of(np.zeros(5000, dtype=np.float32), 1000, np.random.default_rng(0))) == 1000


def test_a_mix_holds_both_by_their_shares() -> None:
    a, b = np.ones(3, dtype=np.float32), np.full(5, 2.0, dtype=np.float32)
    np.testing.assert_allclose(mixture(a, b, 0.25), [1.75, 1.75, 1.75, 1.5, 1.5])
    assert mixture(a, b, 1.0) is a


def test_learns_from_stretches_and_mixes_what_it_tells_of_whole_clips() -> None:
    sounds, truth = _clips(4)
    classifier = train_classifier(
        sounds, truth, CONFIG, steps=60, learning_rate=1e-2, disturbance=Disturbance(longest=0.5, mix=0.5)
    )
    assert classifier.answers(sounds) == truth


def test_training_with_mixes_is_the_same_for_the_same_seed() -> None:
    sounds, truth = _clips(2)
    how = Disturbance(longest=0.5, mix=0.5)
    first, again = (train_classifier(sounds, truth, CONFIG, steps=3, seed=1, disturbance=how) for _ in range(2))
    assert torch.equal(first.embed(sounds), again.embed(sounds))
    assert isinstance(first, Classifier)


def test_the_pieces_of_a_training_step_are_there_for_any_loop() -> None:
    """A loop of one's own gives what `train_classifier` gives."""
    sounds, truth = _clips(2)
    how, rate = Disturbance(longest=0.5, mix=0.5), SMALL.mel.rate
    answers = numbered_answers(truth, CONFIG, len(sounds))
    assert answers["class"].tolist() == [0, 1, 0, 1]
    torch.manual_seed(0)
    classifier = Classifier(CONFIG).train()
    waves = [waveform_at(sound, rate) for sound in sounds]
    chance = np.random.default_rng(0)
    mixes = augmented(waves, rate, how, chance)
    assert len(mixes.waves) == 4 and sorted(mixes.partners) == [0, 1, 2, 3] and (mixes.shares < 1).any()
    loss = training_loss(classifier, mixes, answers, chance)
    loss.backward()
    assert loss.item() > 0.3 and all(p.grad is not None for p in classifier.parameters())


def test_held_out_clips_are_measured_as_they_are() -> None:
    sounds, truth = _clips(4)
    classifier = train_classifier(sounds, truth, CONFIG, steps=60, learning_rate=1e-2)
    waves = [waveform_at(sound, classifier.rate) for sound in sounds]
    right = held_out(classifier, waves, numbered_answers(truth, CONFIG, len(sounds)))
    swapped = {"class": ["hiss" if one == "click" else "click" for one in truth["class"]]}
    wrong = held_out(classifier, waves, numbered_answers(swapped, CONFIG, len(sounds)))
    assert right["accuracy"] == 1 and wrong["accuracy"] == 0 and right["loss"] < 0.3 < wrong["loss"]
