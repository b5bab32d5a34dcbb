from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cymatic.errors import Error
from cymatic.evaluation.classifier_training import train_classifier
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk, RecurrentTrunk, ensemble_answers
from cymatic.hub.parts import load_part, save_part
from cymatic.media.sound import Sound

PITCHES = {"low": 300.0, "middle": 900.0, "high": 2400.0}
SMALL = {
    "conv": ConvTrunk(widths=(4, 8, 8), dim=16, dropout=0),
    "recurrent": RecurrentTrunk(width=16, layers=1, dim=16, dropout=0),
}
LABELS = {"pitch": tuple(PITCHES), "shape": ("steady", "pulsing")}


def _tones(takes: int = 2) -> tuple[list[Sound], dict[str, list[str]]]:
    """Tones of three pitches, steady or pulsing, of slightly different pitch, length and level."""
    chance = np.random.default_rng(0)
    sounds, truth = [], {"pitch": [], "shape": []}
    for pitch, hz in PITCHES.items():
        for shape in LABELS["shape"]:
            for _ in range(takes):
                t = np.arange(int(chance.uniform(0.3, 0.5) * 8000)) / 8000
                wave = np.sin(2 * np.pi * hz * chance.uniform(0.98, 1.02) * t)
                wave = wave * (np.sin(2 * np.pi * 8 * t) > 0) if shape == "pulsing" else wave
                sounds.append(Sound((chance.uniform(0.01, 0.9) * wave)[None].astype(np.float32), 8000))
                truth["pitch"].append(pitch)
                truth["shape"].append(shape)
    return sounds, truth


def _config(kind: str) -> ClassifierConfig:
    return ClassifierConfig(labels=LABELS, trunk=SMALL[kind])


@pytest.fixture(params=sorted(SMALL))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def classifier(kind: str) -> Classifier:
    torch.manual_seed(0)
    return Classifier(_config(kind)).eval()


@pytest.mark.parametrize("length", [1, 95, 96, 97, 801, 3999])
def test_an_item_alone_equals_itself_in_a_padded_batch(classifier: Classifier, length: int) -> None:
    generator = torch.Generator().manual_seed(1)
    batch = torch.randn(3, 1, 4000, generator=generator)  # what lies beyond each length is noise, not silence
    lengths = torch.tensor([4000, length, 2000])
    together = classifier(batch, lengths)
    alone = classifier(batch[1:2, :, :length], lengths[1:2])
    for question in LABELS:
        torch.testing.assert_close(together[question][1], alone[question][0], atol=1e-4, rtol=0)


def test_loudness_is_no_cue(classifier: Classifier) -> None:
    wave = torch.randn(1, 1, 3000, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([3000])
    torch.testing.assert_close(
        classifier.features(wave, lengths), classifier.features(1e-3 * wave, lengths), atol=1e-4, rtol=0
    )


def test_silence_is_classified_and_stays_finite(classifier: Classifier) -> None:
    assert classifier.features(torch.zeros(1, 1, 800), torch.tensor([800])).isfinite().all()


def test_other_rates_and_channels_are_read(classifier: Classifier) -> None:
    sounds, _ = _tones(1)
    other = [Sound(np.repeat(sound.samples, 2, axis=0), 8000).resample(16_000) for sound in sounds]
    assert classifier.embed(other).shape == (len(other), 16)
    assert set(classifier.answers(other)["pitch"]) <= set(PITCHES)
    assert classifier.embed([]).shape == (0, 16)


def test_chances_sum_to_one_and_the_likeliest_is_the_answer(classifier: Classifier) -> None:
    sounds, _ = _tones(1)
    for question, chances in classifier.chances(sounds).items():
        np.testing.assert_allclose(chances.sum(-1), 1, rtol=1e-5)
        assert [LABELS[question][best] for best in chances.argmax(-1)] == classifier.answers(sounds)[question]


def test_several_classifiers_answer_by_their_mean_chances(kind: str) -> None:
    sounds, _ = _tones(1)
    panel = []
    for seed in range(3):
        torch.manual_seed(seed)
        panel.append(Classifier(_config(kind)).eval())
    together = ensemble_answers(panel, sounds)
    for question, answers in LABELS.items():
        mean = sum(member.chances(sounds)[question] for member in panel) / 3
        assert together[question] == [answers[best] for best in mean.argmax(-1)]
    other = Classifier(ClassifierConfig(labels={"pitch": ("low", "high")}, trunk=SMALL[kind]))
    with pytest.raises(Error, match="2 classifiers can't answer together"):
        ensemble_answers([panel[0], other], sounds)
    with pytest.raises(Error, match="0 classifiers"):
        ensemble_answers([], sounds)


def test_saved_and_loaded_is_the_same_classifier(classifier: Classifier, tmp_path: Path) -> None:
    sounds, _ = _tones(1)
    save_part(tmp_path, classifier)
    loaded = load_part(tmp_path, (Classifier,))
    assert loaded.config == classifier.config
    assert json.loads((tmp_path / "config.json").read_text())["kind"] == "classifier"
    assert torch.equal(loaded.embed(sounds), classifier.embed(sounds))
    assert loaded.answers(sounds) == classifier.answers(sounds)


def test_what_earlier_versions_called_a_judge_is_read(classifier: Classifier, tmp_path: Path) -> None:
    save_part(tmp_path, classifier)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"kind": "judge"}))
    assert load_part(tmp_path, (Classifier,)).config == classifier.config


def test_a_gradient_reaches_every_parameter(classifier: Classifier) -> None:
    logits = classifier.train()(torch.randn(4, 1, 3000), torch.tensor([3000, 2500, 1500, 2800]))
    torch.stack([scores.square().sum() for scores in logits.values()]).sum().backward()
    assert not [name for name, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]


def test_learns_a_handful_of_tones(kind: str) -> None:
    sounds, truth = _tones()
    classifier = train_classifier(sounds, truth, _config(kind), steps=200, learning_rate=1e-2)
    assert classifier.answers(sounds) == truth


def test_training_is_the_same_for_the_same_seed(kind: str) -> None:
    sounds, truth = _tones()
    state = torch.get_rng_state()
    first, again, other = (train_classifier(sounds, truth, _config(kind), steps=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.embed(sounds), again.embed(sounds))
    assert not torch.equal(first.embed(sounds), other.embed(sounds))
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_answers_are_named() -> None:
    sounds, truth = _tones(1)
    with pytest.raises(Error, match='"shrill" is no known answer to "pitch"'):
        train_classifier(sounds, truth | {"pitch": ["shrill"] * len(sounds)}, _config("conv"), steps=1)
    with pytest.raises(Error, match='6 sounds came with 0 answers to "shape"'):
        train_classifier(sounds, {"pitch": truth["pitch"]}, _config("conv"), steps=1)
    with pytest.raises(Error, match="0 sounds"):
        train_classifier([], {}, _config("conv"), steps=1)
    with pytest.raises(ValueError, match="two or more"):
        ClassifierConfig(labels={"pitch": ("low", "low")}, trunk=ConvTrunk())


# Of the committed classifiers, before this module learned to train others: their first numbers for one rising tone.
FROZEN = {
    "conv": ([0.592389, -0.340069, -0.319634, 0.199608], "zero", "theo"),
    "recurrent": ([0.813595, 0.234423, 2.092699, 1.052273], "eight", "jackson"),
}


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_the_committed_classifiers_stay_as_they_were(name: str, repository: Path) -> None:
    classifier = load_part(repository / "benchmarks" / "judges" / name, (Classifier,))
    t = np.arange(6000) / 8000
    rising = Sound(0.3 * np.sin(2 * np.pi * (200 * t + 150 * t * t)) * np.hanning(6000), 8000)
    numbers, digit, voice = FROZEN[name]
    torch.testing.assert_close(classifier.embed([rising])[0, :4], torch.tensor(numbers), atol=1e-3, rtol=0)
    assert classifier.answers([rising]) == {"digit": [digit], "voice": [voice]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv", "recurrent"])
def test_the_committed_classifiers_tell_real_recordings(name: str, repository: Path, digits_dir: Path) -> None:
    classifier = load_part(repository / "benchmarks" / "judges" / name, (Classifier,))
    lines = (digits_dir / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "valid"]
    answers = classifier.answers([Sound.read(digits_dir / row["audio"]) for row in rows])
    assert len(rows) == 300
    assert sum(a == row["word"] for a, row in zip(answers["digit"], rows, strict=True)) >= 0.98 * len(rows)
    assert sum(a == row["speaker"] for a, row in zip(answers["voice"], rows, strict=True)) >= 0.96 * len(rows)
