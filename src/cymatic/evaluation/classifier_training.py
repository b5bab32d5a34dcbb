"""How a classifier is trained: on real clips, each changed anew in ways that leave the answers as they are.

`augmented`, `training_loss` and `held_out` are what any loop needs; `train_classifier` is the short one for a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cymatic.errors import Error
from cymatic.evaluation.classifiers import BATCH, Classifier, ClassifierConfig, batched, waveform_at
from cymatic.media.sound import Sound

SMOOTHING = 0.05  # of labels


@dataclass(frozen=True)
class Disturbance:
    """How far a clip is changed each time it is used; the defaults suit spoken words, cut tightly."""

    speed: float = 0.04  # largest share by which half of the clips run faster or slower
    gain: float = 6.0  # dB within which the smooth random equaliser stays
    noise: tuple[float, float] = (10.0, 50.0)  # dB below the clip, for seven clips in ten
    longest: float | None = None  # seconds used at a time, drawn where the sound is; None: the whole clip
    mix: float = 0.0  # share of clips that are mixed with another clip, and answered by both


def train_classifier(
    sounds: Sequence[Sound],
    labels: Mapping[str, Sequence[str]],
    config: ClassifierConfig,
    *,
    steps: int = 1500,
    batch: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    disturbance: Disturbance = Disturbance(),
    progress: Callable[[int, float], None] | None = None,
) -> Classifier:
    """A classifier trained on `sounds`, whose true answers are `labels[question][i]`; the same for the same seed.

    Give real training clips only. Each time a clip is used it is disturbed as `disturbance` says (speed, silence
    around it, a smooth random filter, a random band limit, random phases in its STFT, noise) and bands and moments of
    its mel are masked (SpecAugment: Park et al., 2019, arXiv 1904.08779). No vocoder and no Griffin-Lim is used: the
    random phases only teach that phase carries no answer. Clips may be mixed two at a time, with the answers weighted
    by their shares of the mix (Tokozume et al., 2018, arXiv 1711.10282). AdamW with one cosine cycle and label
    smoothing 0.05. `progress` is called with step and loss.

    Raises Error for no sounds, no steps, or an answer that `config.labels` doesn't list.
    """
    if not sounds or steps < 1:
        raise Error(f"a classifier needs sounds and steps to train; got {len(sounds)} sounds and {steps} steps")
    truths = numbered_answers(labels, config, len(sounds))
    chance = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(config).train()
        waves = [waveform_at(sound, classifier.rate) for sound in sounds]
        optimiser = torch.optim.AdamW(classifier.parameters(), lr=learning_rate, weight_decay=0.02)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps + 1, pct_start=0.15)
        for step in range(steps):
            chosen = chance.choice(len(waves), size=min(batch, len(waves)), replace=False)
            mixed = augmented([waves[i] for i in chosen], classifier.rate, disturbance, chance)
            loss = training_loss(classifier, mixed, {name: truth[chosen] for name, truth in truths.items()}, chance)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(classifier.parameters(), 5.0)
            optimiser.step()
            cycle.step()
            if progress is not None:
                progress(step, loss.item())
    return classifier.eval().requires_grad_(False)


@dataclass(frozen=True)
class Mixes:
    """Augmented waveforms of one rate. Of wave i the share `shares[i]` is the clip itself, the rest clip `partners[i]`
    of the same batch."""

    waves: list[Float[np.ndarray, " _"]]
    partners: Int[np.ndarray, " batch"]
    shares: Float[np.ndarray, " batch"]


def augmented(
    waves: Sequence[Float[np.ndarray, " _"]], rate: int, how: Disturbance, chance: np.random.Generator
) -> Mixes:
    """Each of `waves` (at `rate` Hz) disturbed anew, and as many as `how.mix` says mixed with another one of them."""
    clips = [disturbed(wave, rate, how, chance) for wave in waves]
    partners, shares = np.arange(len(clips)), np.ones(len(clips))
    if how.mix:
        partners = chance.permutation(len(clips))
        shares = np.where(chance.random(len(clips)) < how.mix, chance.uniform(0, 1, len(clips)), 1.0)
        clips = [mixture(a, clips[b], share) for a, b, share in zip(clips, partners, shares, strict=True)]
    return Mixes(clips, partners, shares)


def training_loss(
    classifier: Classifier, mixes: Mixes, answers: Mapping[str, Int[Tensor, " batch"]], chance: np.random.Generator
) -> Float[Tensor, ""]:
    """Cross-entropy with label smoothing, summed over the questions; each clip counts for its own answer and its
    partner's, by share. Bands and moments of the mels are masked.

    answers: for each question the number of each clip's answer (see `numbered_answers`).
    """
    waveform, lengths = (part.to(_device(classifier)) for part in batched(mixes.waves))
    mel, frames = classifier.log_mels(waveform, lengths)
    logits = classifier.logits(classifier.trunk(_masked(mel, chance), frames))
    own = torch.from_numpy(mixes.shares).float().to(mel.device)
    total = torch.zeros((), device=mel.device)
    for name, scores in logits.items():
        first, second = (
            F.cross_entropy(scores, truth.to(mel.device), label_smoothing=SMOOTHING, reduction="none")
            for truth in (answers[name], answers[name][mixes.partners])
        )
        total = total + (own * first + (1 - own) * second).mean()
    return total


@torch.no_grad()
def held_out(
    classifier: Classifier, waves: Sequence[Float[np.ndarray, " _"]], answers: Mapping[str, Int[Tensor, " clips"]]
) -> dict[str, float]:
    """`{"loss": cross-entropy summed over the questions, "accuracy": mean share right}` of clips as they are, at the
    classifier's rate, in the mode that it is in. At least one clip is needed."""
    device = _device(classifier)
    loss = right = 0.0
    for start in range(0, len(waves), BATCH):
        waveform, lengths = batched(waves[start : start + BATCH])
        for name, scores in classifier(waveform.to(device), lengths.to(device)).items():
            truth = answers[name][start : start + BATCH].to(device)
            loss += float(F.cross_entropy(scores, truth, reduction="sum"))
            right += float((scores.argmax(-1) == truth).sum())
    return {"loss": loss / len(waves), "accuracy": right / len(waves) / len(classifier.labels)}


def numbered_answers(
    labels: Mapping[str, Sequence[str]], config: ClassifierConfig, count: int
) -> dict[str, Int[Tensor, " clips"]]:
    """The numbers, in `config.labels`, of the answers of `count` clips.

    Raises Error for an answer that isn't listed there, or where there isn't one for each clip.
    """
    return {name: _numbered(name, labels.get(name, ()), names, count) for name, names in config.labels.items()}


def _device(classifier: Classifier) -> torch.device:
    return next(classifier.parameters()).device


def _numbered(question: str, answers: Sequence[str], names: Sequence[str], count: int) -> Int[Tensor, " sounds"]:
    if len(answers) != count:
        raise Error(f'{count} sounds came with {len(answers)} answers to "{question}"; give one for each sound')
    for answer in answers:
        if answer not in names:
            raise Error(f'"{answer}" is no known answer to "{question}"; known: {", ".join(names)}')
    return torch.tensor([names.index(answer) for answer in answers])


def disturbed(
    wave: Float[np.ndarray, " samples"], rate: int, how: Disturbance, chance: np.random.Generator
) -> Float[np.ndarray, " disturbed"]:
    """One training clip, changed in ways that change no answer."""
    if how.longest is not None and len(wave) > how.longest * rate:
        wave = _stretch_of(wave, round(how.longest * rate), chance)
    wave = wave / max(float(np.sqrt(np.mean(wave**2))), 1e-8)
    if chance.random() < 0.5:
        wave = _resampled(wave, chance.uniform(1 - how.speed, 1 + how.speed))
    wave = _filtered(wave, rate, how.gain, chance)
    if chance.random() < 0.5:
        wave = _rephased(wave, int(chance.choice([128, 256, 512])) * rate // 8000, chance)  # 16, 32 or 64 ms
    if chance.random() < 0.5:
        wave = wave[int(chance.uniform(0, 0.04) * len(wave)) :]
        wave = wave[: len(wave) - int(chance.uniform(0, 0.04) * len(wave))]
    if chance.random() < 0.7:
        wave = np.pad(wave, [int(chance.uniform(0, 0.15) * rate), int(chance.uniform(0, 0.25) * rate)])
    if chance.random() < 0.7:
        wave = wave + 10 ** (-chance.uniform(*how.noise) / 20) * chance.standard_normal(len(wave))
    return wave.astype(np.float32)


def _stretch_of(
    wave: Float[np.ndarray, " samples"], length: int, chance: np.random.Generator
) -> Float[np.ndarray, " length"]:
    """A stretch around a moment drawn by its power: one bark in five seconds is never cut away."""
    power = np.cumsum(wave.astype(np.float64) ** 2)
    moment = int(np.searchsorted(power, chance.random() * power[-1]))
    start = moment - int(chance.random() * length)
    start = min(max(start, 0), len(wave) - length)
    return wave[start : start + length]


def mixture(a: Float[np.ndarray, " a"], b: Float[np.ndarray, " b"], share: float) -> Float[np.ndarray, " longer"]:
    """`a` and `b` (at one level) together, `share` of the sound being `a`; a share of 1 is `a` alone."""
    if share == 1:
        return a
    mix = np.zeros(max(len(a), len(b)), dtype=np.float32)
    mix[: len(a)] += share * a
    mix[: len(b)] += (1 - share) * b
    return mix


def _resampled(wave: Float[np.ndarray, " samples"], speed: float) -> Float[np.ndarray, " fewer"]:
    return np.interp(np.arange(0, len(wave) - 1, speed), np.arange(len(wave)), wave)


def _filtered(
    wave: Float[np.ndarray, " samples"], rate: int, most: float, chance: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    """A smooth random equaliser (within `most` dB, six bands); half the time a low-pass from 3/4 of the band up."""
    size = 2 ** int(np.ceil(np.log2(len(wave))))  # a prime length would take ten times as long
    hz = np.fft.rfftfreq(size, 1 / rate)
    gain = np.interp(hz, np.linspace(0, rate / 2, 6), chance.uniform(-most, most, 6))
    if chance.random() < 0.5:
        gain = gain - 60 * np.clip(hz / (rate / 2) - chance.uniform(0.75, 1), 0, None) * 8
    return np.fft.irfft(np.fft.rfft(wave, size) * 10 ** (gain / 20), size)[: len(wave)]


def _rephased(
    wave: Float[np.ndarray, " samples"], window: int, chance: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    """The clip with random phase added to each point of its STFT, from none to almost all of the circle."""
    hann = torch.hann_window(window)
    stft = torch.stft(torch.from_numpy(wave).float(), window, window // 4, window=hann, return_complex=True,
                      pad_mode="constant")  # fmt: skip
    turn = chance.uniform(0, 1.5) * torch.from_numpy(chance.standard_normal(tuple(stft.shape))).float()
    return torch.istft(stft * torch.polar(torch.ones_like(turn), turn), window, window // 4, window=hann,
                       length=len(wave)).numpy()  # fmt: skip


def _masked(mel: Float[Tensor, "batch mels frames"], chance: np.random.Generator) -> Float[Tensor, "batch mels frames"]:
    """Two bands of up to an eighth of the mels and one moment of up to a tenth of the frames, set to the mean."""
    batch, mels, frames = mel.shape
    hidden = np.zeros((batch, mels, frames), dtype=bool)
    for row in hidden:
        for _ in range(2):
            low = chance.integers(0, mels)
            row[low : low + chance.integers(0, mels // 8 + 1)] = True
        start = chance.integers(0, frames)
        row[:, start : start + chance.integers(0, frames // 10 + 1)] = True
    return mel.masked_fill(torch.from_numpy(hidden).to(mel.device), float(mel.mean()))
