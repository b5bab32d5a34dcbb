"""Classifiers of sound: what a clip says, and in whose voice.

A classifier is trained on real clips only (`classifier_training`), and frozen before anything is generated. Two designs
that share neither front-end nor architecture (`ConvTrunk`, `RecurrentTrunk`) guard against a generator that suits one
of them by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from cymatic.evaluation.accuracy import Answer
from cymatic.evaluation.corpus import Clips
from cymatic.evaluation.questions import Truth, truths
from cymatic.media.sound import Sound
from cymatic.signal.mel import MelSpec, log_mel, to_log

LEVEL = 0.1  # root mean square to which every clip is brought first, so that loudness is no cue
BATCH = 64  # clips classified at once


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


class ClassifierConfig(Config):
    """What a classifier tells apart (`labels`: for each question its possible answers), and by which design.

    Earlier versions wrote the kind "judge"; `hub.parts.load_part` reads it.
    """

    kind: Literal["classifier"] = "classifier"
    labels: dict[str, tuple[str, ...]]
    trunk: Annotated[ConvTrunk | RecurrentTrunk, Field(discriminator="kind")]

    @field_validator("labels")
    @classmethod
    def _answerable(cls, labels: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not labels or any(len(set(names)) < 2 or len(set(names)) < len(names) for names in labels.values()):
            raise ValueError("each question needs two or more different answers")
        return labels


class Classifier(nn.Module):
    """One network with one head for each question of `config.labels`. It satisfies `questions.Recogniser`.

    An item gets the same answer alone and inside a padded batch (1e-4), and at any loudness.
    """

    config_class = ClassifierConfig

    def __init__(self, config: ClassifierConfig) -> None:
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
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The possible answers to each question."""
        return self.config.labels

    @property
    def rate(self) -> int:
        """The rate in Hz that it reads sounds at."""
        return self.config.trunk.mel.rate

    def forward(
        self, waveform: Float[Tensor, "batch 1 samples"], lengths: Int[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, "batch answers"]]:
        """Logits for each question; `waveform` at `self.rate`, `lengths` in samples (what lies beyond is ignored)."""
        return self.logits(self.features(waveform, lengths))

    def features(
        self, waveform: Float[Tensor, "batch 1 samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """The embedding all heads read, for distances between sounds (see `evaluation.neighbours`)."""
        embedding: Tensor = self.trunk(*self.log_mels(waveform, lengths))
        return embedding

    def log_mels(
        self, waveform: Float[Tensor, "batch 1 samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch mels frames"], Int[Tensor, " batch"]]:
        """Log-mels of the levelled waveform, scaled to about unit variance, and their lengths in frames."""
        spec = self.config.trunk.mel
        waveform = waveform * _valid(lengths, waveform.shape[-1])[:, None]
        power = waveform.square().sum((1, 2)) / lengths
        waveform = waveform * (LEVEL / power.sqrt().clamp_min(1e-8))[:, None, None]
        # Between the floor and about e^0 for speech at this level.
        return to_log(log_mel(waveform, spec), spec) / 3 + 1.5, -(-lengths // spec.hop)

    def logits(self, embedding: Float[Tensor, "batch dim"]) -> dict[str, Float[Tensor, "batch answers"]]:
        """Logits for each question from `features`."""
        return {name: head(embedding) for name, head in self.heads.items()}

    @torch.inference_mode()
    def embed(self, sounds: Sequence[Sound]) -> Float[Tensor, "sounds dim"]:
        """`features` of sounds of any rate, channel count and length, in evaluation mode."""
        was_training = self.training
        self.eval()
        chunks = [
            self.features(*batched([waveform_at(sound, self.rate) for sound in sounds[i : i + BATCH]]))
            for i in range(0, len(sounds), BATCH)
        ]
        self.train(was_training)
        return torch.cat(chunks) if chunks else torch.zeros(0, self.config.trunk.dim)

    def embedding(self, values: Sequence[Sound]) -> Float[np.ndarray, "values dim"]:
        """`embed` in numpy."""
        return self.embed(values).numpy()

    @torch.inference_mode()
    def chances(self, values: Sequence[Sound]) -> dict[str, Float[np.ndarray, "values answers"]]:
        """For each question how likely each answer is; a row sums to 1."""
        return {name: scores.softmax(-1).numpy() for name, scores in self.logits(self.embed(values)).items()}

    def answers(self, values: Sequence[Sound]) -> dict[str, list[Answer]]:
        """The likeliest answer to each question for each sound."""
        return ensemble_answers([self], values)

    def truth(self, clips: Sequence[Clips]) -> Truth:
        """What captions answer, by themselves, by fields or by their words (see `questions.truths`)."""
        return truths(self.config.labels, clips)

    def left_out(self) -> None:
        """Not known: only training anew without a clip could tell."""


def ensemble_answers(classifiers: Sequence[Classifier], sounds: Sequence[Sound]) -> dict[str, list[Answer]]:
    """The answers of the highest mean chance among classifiers of the same questions.

    Raises Error for no classifiers, or for such that know different answers.
    """
    if not classifiers or any(one.config.labels != classifiers[0].config.labels for one in classifiers):
        raise Error(
            f"{len(classifiers)} classifiers can't answer together; give one or more that know the same answers"
        )
    each = [one.chances(sounds) for one in classifiers]
    return {
        question: [answers[best] for best in np.stack([chances[question] for chances in each]).mean(0).argmax(-1)]
        for question, answers in classifiers[0].config.labels.items()
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


def waveform_at(sound: Sound, rate: int) -> Float[np.ndarray, " samples"]:
    """The sound as a classifier reads it: one channel, at its rate."""
    return sound.mono().resample(rate).samples[0]


def batched(
    waves: Sequence[Float[np.ndarray, " _"]],
) -> tuple[Float[Tensor, "batch 1 samples"], Int[Tensor, " batch"]]:
    """Waves of different lengths side by side, filled up with silence, and their lengths in samples."""
    lengths = torch.tensor([len(wave) for wave in waves])
    padded = np.zeros((len(waves), 1, int(lengths.max())), dtype=np.float32)
    for row, wave in zip(padded, waves, strict=True):
        row[0, : len(wave)] = wave
    return torch.from_numpy(padded), lengths


def _valid(lengths: Int[Tensor, " batch"], longest: int) -> Bool[Tensor, "batch longest"]:
    return torch.arange(longest, device=lengths.device) < lengths[:, None]
