"""Judges: classifiers of sound that say what a generated clip says, and in whose voice.

A judge is trained on real training clips only, and frozen before anything is generated. Two designs that share neither
front-end nor architecture (`ConvTrunk`, `RecurrentTrunk`) guard against a generator that pleases one of them by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cymatic.config import Config
from cymatic.errors import Error
from cymatic.signal.mel import MelSpec, log_mel
from cymatic.signal.sound import Sound

LEVEL = 0.1  # root mean square of every clip as a judge hears it, so that loudness is no cue
BATCH = 64  # clips judged at once


class ConvTrunk(Config):
    """A 2-D residual convolutional net over a log-mel picture, pooled by mean and maximum over time."""

    kind: Literal["conv"] = "conv"
    mel: MelSpec = MelSpec(rate=8_000, n_fft=256, hop=96, mels=48, fmax=4_000, floor=3e-4)
    widths: tuple[int, ...] = Field(default=(20, 32, 64, 96), min_length=1)  # channels; the second keeps both axes, the
    # others halve them
    dim: int = Field(default=96, gt=0)  # of the embedding
    dropout: float = Field(default=0.3, ge=0, lt=1)


class RecurrentTrunk(Config):
    """A bidirectional GRU over mel-frequency cepstra and their slopes, pooled by attention over time."""

    kind: Literal["recurrent"] = "recurrent"
    mel: MelSpec = MelSpec(rate=8_000, n_fft=200, hop=100, mels=40, fmax=4_000, floor=3e-4)
    cepstra: int = Field(default=20, gt=0)
    width: int = Field(default=80, gt=0)  # of each direction
    layers: int = Field(default=2, gt=0)
    dim: int = Field(default=96, gt=0)
    dropout: float = Field(default=0.3, ge=0, lt=1)


class JudgeConfig(Config):
    """What a judge tells apart (`labels`: for each question its possible answers), and by which design."""

    kind: Literal["judge"] = "judge"
    labels: dict[str, tuple[str, ...]]
    trunk: Annotated[ConvTrunk | RecurrentTrunk, Field(discriminator="kind")]

    @field_validator("labels")
    @classmethod
    def _answerable(cls, labels: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not labels or any(len(set(names)) < 2 or len(set(names)) < len(names) for names in labels.values()):
            raise ValueError("each question needs two or more different answers")
        return labels


class Judge(nn.Module):
    """A classifier with one head for each question of `config.labels`.

    An item gets the same answer alone and inside a padded batch (1e-4), and at any loudness.
    """

    config_class = JudgeConfig

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk: _Conv | _Recurrent
        match config.trunk:
            case ConvTrunk() as trunk:
                self.trunk = _Conv(trunk)
            case RecurrentTrunk() as trunk:
                self.trunk = _Recurrent(trunk)
        self.heads = nn.ModuleDict({name: nn.Linear(trunk.dim, len(names)) for name, names in config.labels.items()})

    @property
    def rate(self) -> int:
        """The rate in Hz that this judge hears."""
        return self.config.trunk.mel.rate

    def forward(
        self, waveform: Float[Tensor, "batch 1 samples"], lengths: Int[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, "batch answers"]]:
        """Logits for each question; `waveform` at `self.rate`, `lengths` in samples (what lies beyond is ignored)."""
        return self.answer(self.features(waveform, lengths))

    def features(
        self, waveform: Float[Tensor, "batch 1 samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """The embedding all heads read, for distances between sounds (`cymatic.metrics.neighbours`)."""
        embedding: Tensor = self.trunk(*self.look(waveform, lengths))
        return embedding

    def look(
        self, waveform: Float[Tensor, "batch 1 samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch mels frames"], Int[Tensor, " batch"]]:
        """Log-mels of the levelled waveform, scaled to about unit variance, and their lengths in frames."""
        spec = self.config.trunk.mel
        waveform = waveform * _valid(lengths, waveform.shape[-1])[:, None]
        power = waveform.square().sum((1, 2)) / lengths
        waveform = waveform * (LEVEL / power.sqrt().clamp_min(1e-8))[:, None, None]
        # Between the floor and about e^0 for speech at this level.
        return log_mel(waveform, spec) / 3 + 1.5, -(-lengths // spec.hop)

    def answer(self, embedding: Float[Tensor, "batch dim"]) -> dict[str, Float[Tensor, "batch answers"]]:
        """Logits for each question from `features`."""
        return {name: head(embedding) for name, head in self.heads.items()}

    @torch.inference_mode()
    def embed(self, sounds: Sequence[Sound]) -> Float[Tensor, "sounds dim"]:
        """`features` of sounds of any rate, channel count and length, in evaluation mode."""
        was_training = self.training
        self.eval()
        waves = [_heard(sound, self.rate) for sound in sounds]
        chunks = [self.features(*_batched(waves[i : i + BATCH])) for i in range(0, len(waves), BATCH)]
        self.train(was_training)
        return torch.cat(chunks) if chunks else torch.zeros(0, self.config.trunk.dim)

    def judge(self, sounds: Sequence[Sound]) -> dict[str, list[str]]:
        """The likeliest answer to each question for each sound."""
        with torch.inference_mode():
            logits = self.answer(self.embed(sounds))
        return {
            name: [self.config.labels[name][best] for best in scores.argmax(-1).tolist()]
            for name, scores in logits.items()
        }


class _Conv(nn.Module):
    def __init__(self, config: ConvTrunk) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Conv2d(1, widths[0], 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            _Block(a, b, stride=1 if i == 0 else 2) for i, (a, b) in enumerate(pairwise(widths))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(2 * widths[-1], config.dim)

    def forward(
        self, mel: Float[Tensor, "batch mels frames"], frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        x, mask = mel[:, None], _valid(frames, mel.shape[-1])[:, None, None]
        x, mask = self.stem(x * mask), mask[..., ::2]
        x = F.relu(x) * mask
        for block in self.blocks:
            x, mask = block(x, mask)
        x = x.mean(2)
        mask = mask[:, :, 0]
        mean = (x * mask).sum(-1) / mask.sum(-1)
        most = x.masked_fill(~mask, -torch.inf).amax(-1)
        embedding: Tensor = self.project(self.dropout(torch.cat([mean, most], 1)))
        return embedding


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al., 2015, arXiv 1512.03385); silence after the end stays silent."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False)
        self.norm_first = nn.BatchNorm2d(width_out)
        self.second = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.norm_second = nn.BatchNorm2d(width_out)
        self.shortcut = nn.Conv2d(width_in, width_out, 1, stride=stride)
        self.stride = stride

    def forward(
        self, x: Float[Tensor, "batch inputs mels frames"], mask: Bool[Tensor, "batch 1 1 frames"]
    ) -> tuple[Float[Tensor, "batch outputs fewer_mels fewer_frames"], Bool[Tensor, "batch 1 1 fewer_frames"]]:
        after = mask[..., :: self.stride]
        inner = F.relu(self.norm_first(self.first(x))) * after
        return F.relu(self.norm_second(self.second(inner)) + self.shortcut(x)) * after, after


class _Recurrent(nn.Module):
    """Mel cepstra (Davis and Mermelstein, 1980) -> GRU (Cho et al., 2014, arXiv 1406.1078) -> attention pooling."""

    cosines: Tensor
    slope: Tensor

    def __init__(self, config: RecurrentTrunk) -> None:
        super().__init__()
        mels = config.mel.mels
        rows = torch.arange(min(config.cepstra, mels))[:, None] * (torch.arange(mels) + 0.5)
        self.register_buffer("cosines", torch.cos(torch.pi / mels * rows) * (2 / mels) ** 0.5, persistent=False)
        self.register_buffer("slope", torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]) / 10, persistent=False)
        self.norm = nn.BatchNorm1d(3 * len(rows))
        self.gru = nn.GRU(
            3 * len(rows), config.width, config.layers, batch_first=True, bidirectional=True, dropout=config.dropout
        )
        self.attend = nn.Linear(2 * config.width, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(4 * config.width, config.dim)

    def forward(
        self, mel: Float[Tensor, "batch mels frames"], frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        mask = _valid(frames, mel.shape[-1])
        cepstra = (self.cosines @ mel) * mask[:, None]
        slopes = self._slopes(cepstra) * mask[:, None]
        curves = self._slopes(slopes)
        x = self.norm(torch.cat([cepstra, slopes, curves], 1)).transpose(1, 2)
        packed = pack_padded_sequence(x, frames.cpu(), batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])
        weights = self.attend(x)[..., 0].masked_fill(~mask, -torch.inf).softmax(-1)
        attended = (weights[:, None] @ x)[:, 0]
        mean = x.sum(1) / frames[:, None]
        embedding: Tensor = self.project(self.dropout(torch.cat([attended, mean], 1)))
        return embedding

    def _slopes(self, x: Float[Tensor, "batch rows frames"]) -> Float[Tensor, "batch rows frames"]:
        """Least-squares slope over five frames: `d_t = sum_n n (x_{t+n} - x_{t-n}) / (2 sum_n n^2)`, n = 1, 2."""
        kernel = self.slope.expand(x.shape[1], 1, -1)
        return F.conv1d(x, kernel, padding=2, groups=x.shape[1])


def train_judge(
    sounds: Sequence[Sound],
    labels: Mapping[str, Sequence[str]],
    config: JudgeConfig,
    *,
    steps: int = 1500,
    batch: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> Judge:
    """A judge trained on `sounds`, whose true answers are `labels[question][i]`; the same for the same seed.

    Give real training clips only. Each time a clip is used it is disturbed by `_disturbed` (speed within 4 %,
    silence around it, a smooth random filter, a random band limit, random phases in its STFT, noise at 10-50 dB) and
    bands and moments of its mel are masked (SpecAugment: Park et al., 2019, arXiv 1904.08779). No vocoder and no
    Griffin-Lim is used: the random phases only teach that phase carries no answer. AdamW with one cosine cycle and
    label smoothing 0.05. `progress` is called with step and loss.

    Raises Error for no sounds, no steps, or an answer that `config.labels` doesn't list.
    """
    if not sounds or steps < 1:
        raise Error(f"a judge needs sounds and steps to train; got {len(sounds)} sounds and {steps} steps")
    truths = {name: _numbered(name, labels.get(name, ()), names, len(sounds)) for name, names in config.labels.items()}
    chance = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge(config).train()
        waves = [_heard(sound, judge.rate) for sound in sounds]
        optimiser = torch.optim.AdamW(judge.parameters(), lr=learning_rate, weight_decay=0.02)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps + 1, pct_start=0.15)
        for step in range(steps):
            chosen = chance.choice(len(waves), size=min(batch, len(waves)), replace=False)
            heard = [_disturbed(waves[i], judge.rate, chance) for i in chosen]
            mel, frames = judge.look(*_batched(heard))
            logits = judge.answer(judge.trunk(_masked(mel, chance), frames))
            loss = torch.stack(
                [F.cross_entropy(scores, truths[name][chosen], label_smoothing=0.05) for name, scores in logits.items()]
            ).sum()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 5.0)
            optimiser.step()
            cycle.step()
            if progress is not None:
                progress(step, loss.item())
    return judge.eval().requires_grad_(False)


def _numbered(question: str, answers: Sequence[str], names: Sequence[str], count: int) -> Int[Tensor, " sounds"]:
    if len(answers) != count:
        raise Error(f'{count} sounds came with {len(answers)} answers to "{question}"; give one for each sound')
    for answer in answers:
        if answer not in names:
            raise Error(f'"{answer}" is no known answer to "{question}"; known: {", ".join(names)}')
    return torch.tensor([names.index(answer) for answer in answers])


def _heard(sound: Sound, rate: int) -> Float[np.ndarray, " samples"]:
    """The sound as a judge hears it: one channel, at its rate."""
    return sound.mono().resample(rate).samples[0]


def _batched(
    waves: Sequence[Float[np.ndarray, " _"]],
) -> tuple[Float[Tensor, "batch 1 samples"], Int[Tensor, " batch"]]:
    lengths = torch.tensor([len(wave) for wave in waves])
    padded = np.zeros((len(waves), 1, int(lengths.max())), dtype=np.float32)
    for row, wave in zip(padded, waves, strict=True):
        row[0, : len(wave)] = wave
    return torch.from_numpy(padded), lengths


def _valid(lengths: Int[Tensor, " batch"], longest: int) -> Bool[Tensor, "batch longest"]:
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def _disturbed(
    wave: Float[np.ndarray, " samples"], rate: int, chance: np.random.Generator
) -> Float[np.ndarray, " disturbed"]:
    """One training clip, changed in ways that change neither what is said nor who says it."""
    wave = wave / max(float(np.sqrt(np.mean(wave**2))), 1e-8)
    if chance.random() < 0.5:
        wave = _resampled(wave, chance.uniform(0.96, 1.04))
    wave = _filtered(wave, rate, chance)
    if chance.random() < 0.5:
        wave = _rephased(wave, int(chance.choice([128, 256, 512])), chance)
    if chance.random() < 0.5:
        wave = wave[int(chance.uniform(0, 0.04) * len(wave)) :]
        wave = wave[: len(wave) - int(chance.uniform(0, 0.04) * len(wave))]
    if chance.random() < 0.7:
        wave = np.pad(wave, [int(chance.uniform(0, 0.15) * rate), int(chance.uniform(0, 0.25) * rate)])
    if chance.random() < 0.7:
        wave = wave + 10 ** (-chance.uniform(10, 50) / 20) * chance.standard_normal(len(wave))
    return wave.astype(np.float32)


def _resampled(wave: Float[np.ndarray, " samples"], speed: float) -> Float[np.ndarray, " fewer"]:
    return np.interp(np.arange(0, len(wave) - 1, speed), np.arange(len(wave)), wave)


def _filtered(
    wave: Float[np.ndarray, " samples"], rate: int, chance: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    """A smooth random equaliser (within 6 dB, six bands), and half the time a low-pass from 3/4 of the bandwidth up."""
    hz = np.fft.rfftfreq(len(wave), 1 / rate)
    gain = np.interp(hz, np.linspace(0, rate / 2, 6), chance.uniform(-6, 6, 6))
    if chance.random() < 0.5:
        gain = gain - 60 * np.clip(hz / (rate / 2) - chance.uniform(0.75, 1), 0, None) * 8
    return np.fft.irfft(np.fft.rfft(wave) * 10 ** (gain / 20), n=len(wave))


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
    return mel.masked_fill(torch.from_numpy(hidden), float(mel.mean()))
