"""A classifier of pictures: which caption a picture shows. Its features stand under the Fréchet distance, too.

It is trained on the real pictures of one folder and frozen before anything is generated. Its features are not those of
the Inception net, so a Fréchet distance in them is no FID (Heusel et al., 2017, arXiv 1706.08500) and compares with
nothing but other models in the same features.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from cymatic.config import Config
from cymatic.evaluation.accuracy import Answer
from cymatic.evaluation.corpus import Clips
from cymatic.evaluation.questions import CAPTION, Truth, asked, truths
from cymatic.media.picture import PICTURE, Picture, PictureSpec
from cymatic.seeds import mixed

BATCH = 32
EPOCHS, FEWEST_STEPS, MOST_STEPS = 60, 150, 4000
FEWEST = 4  # pictures of a caption that make it learnable
TIMED = 4  # steps that show how fast it goes
RATE, DECAY = 3e-3, 0.05
MOVED = 1 / 16  # of the side: how far pictures are moved in training
NOISE, SMOOTHING = 0.02, 0.05
SIDE = 64  # pixels; larger pictures are made smaller


class PictureClassifierConfig(Config):
    """What it tells apart (`labels`: for each question its possible answers), what it reads, and the size of the net.

    widths: channels of the stem and of each stage, which halve the side; dim: of the features.
    """

    kind: Literal["picture-classifier"] = "picture-classifier"
    labels: dict[str, tuple[str, ...]]
    picture: PictureSpec = PictureSpec(size=SIDE)
    widths: tuple[int, ...] = Field(default=(24, 48, 72, 96), min_length=1)
    dim: int = Field(default=96, gt=0, le=4096)
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @field_validator("labels")
    @classmethod
    def _answerable(cls, labels: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not labels or any(len(set(names)) < 2 or len(set(names)) < len(names) for names in labels.values()):
            raise ValueError("each question needs two or more different answers")
        return labels


class PictureClassifier(nn.Module):
    """A residual convolutional net (He et al., 2015, arXiv 1512.03385), pooled by mean and maximum, with a head for
    each question of `config.labels`. It satisfies `questions.Recogniser`."""

    config_class: ClassVar[type[PictureClassifierConfig]] = PictureClassifierConfig

    def __init__(self, config: PictureClassifierConfig) -> None:
        super().__init__()
        self.config = config
        first, last = config.widths[0], config.widths[-1]
        self.stem = nn.Conv2d(3, first, 3, stride=2 if config.picture.size > 16 else 1, padding=1)
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in pairwise(config.widths))
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(2 * last, config.dim)
        self.heads = nn.ModuleDict({name: nn.Linear(config.dim, len(names)) for name, names in config.labels.items()})

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The possible answers to each question."""
        return self.config.labels

    def features(self, pictures: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """What all heads read."""
        x = F.relu(self.stem(2 * pictures - 1))
        for stage in self.stages:
            x = stage(x)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        found: Tensor = self.project(self.dropout(pooled))
        return found

    def forward(self, pictures: Float[Tensor, "batch 3 size size"]) -> dict[str, Float[Tensor, "batch answers"]]:
        """Logits for each question."""
        features = self.features(pictures)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.inference_mode()
    def embedding(self, values: Sequence[Picture]) -> Float[np.ndarray, "values dim"]:
        """`features` of pictures of any size, in evaluation mode."""
        was_training = self.training
        self.eval()
        read = [self.features(self._read(values[i : i + BATCH])) for i in range(0, len(values), BATCH)]
        self.train(was_training)
        return torch.cat(read).numpy() if read else np.zeros((0, self.config.dim), np.float32)

    @torch.inference_mode()
    def chances(self, values: Sequence[Picture]) -> dict[str, Float[np.ndarray, "values answers"]]:
        """For each question how likely each answer is; a row sums to 1."""
        features = torch.from_numpy(self.embedding(values))
        return {name: head(features).softmax(-1).numpy() for name, head in self.heads.items()}

    def answers(self, values: Sequence[Picture]) -> dict[str, list[Answer]]:
        """The likeliest answer to each question for each picture."""
        found = self.chances(values)
        return {name: [self.labels[name][best] for best in of.argmax(-1)] for name, of in found.items()}

    def truth(self, clips: Sequence[Clips]) -> Truth:
        """What captions answer (see `questions.truths`)."""
        return truths(self.labels, clips)

    def left_out(self) -> None:
        """Not known: only training anew without a picture could tell."""

    def _read(self, values: Sequence[Picture]) -> Float[Tensor, "batch 3 size size"]:
        return torch.stack([PICTURE.prepare(one, self.config.picture) for one in values])


class _Stage(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; the side is halved."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False)
        self.norm_first = nn.BatchNorm2d(width_out)
        self.second = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.norm_second = nn.BatchNorm2d(width_out)
        self.shortcut = nn.Conv2d(width_in, width_out, 1, stride=2)

    def forward(self, x: Float[Tensor, "batch inputs _ _"]) -> Float[Tensor, "batch outputs _ _"]:
        inner = F.relu(self.norm_first(self.first(x)))
        return F.relu(self.norm_second(self.second(inner)) + self.shortcut(x))


def shared_captions(clips: Clips) -> bool:
    """Whether most pictures have a caption that enough others have, too, so that whole captions can be learned."""
    counts = Counter(clips.captions)
    return len(counts) > 1 and sum(counts[one] >= FEWEST for one in clips.captions) > len(clips) / 2


def train_on_pictures(
    clips: Clips,
    spec: PictureSpec,
    *,
    seconds: float,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> tuple[PictureClassifier, int]:
    """A classifier of captions trained for about `seconds`, and its steps: at most 60 epochs, since more teach nothing
    new. spec: what the pictures are shown on; they are read at 64 pixels at most.

    Raises Error where the captions can't be told apart (see `questions.asked`).
    """
    answers = asked(clips, (CAPTION,))[CAPTION]
    names = tuple(sorted({str(one) for one in answers}))
    spec = spec.model_copy(update={"size": min(spec.size, SIDE)})
    pictures = torch.stack([PICTURE.prepare(one, spec) for one in clips.values])
    wanted = torch.tensor([names.index(str(one)) for one in answers])
    config = PictureClassifierConfig(labels={CAPTION: names}, picture=spec)
    most = min(max(FEWEST_STEPS, math.ceil(EPOCHS * len(pictures) / BATCH)), MOST_STEPS)
    clock: list[float] = []
    _fitted(config, pictures, wanted, TIMED, seed, lambda step, steps: clock.append(time.monotonic()))
    pace = (clock[-1] - clock[0]) / (TIMED - 1)  # the first step takes longer
    steps = min(max(round(seconds / max(pace, 1e-6)), 10), most)
    return _fitted(config, pictures, wanted, steps, seed, progress), steps


def _fitted(
    config: PictureClassifierConfig,
    pictures: Float[Tensor, "count 3 size size"],
    wanted: Tensor,
    steps: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> PictureClassifier:
    with torch.random.fork_rng(devices=[]):  # what the caller draws stays as it would be
        torch.manual_seed(mixed(seed, 0))
        classifier = PictureClassifier(config)
        generator = torch.Generator().manual_seed(mixed(seed, 1))
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 2))
        for step in range(steps):
            rows = torch.randint(len(pictures), (min(BATCH, len(pictures)),), generator=generator)
            logits = classifier(_moved(pictures[rows], generator))[CAPTION]
            loss = F.cross_entropy(logits, wanted[rows], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress(step + 1, steps)
    return classifier.eval()


def _moved(
    pictures: Float[Tensor, "batch 3 size size"], generator: torch.Generator
) -> Float[Tensor, "batch 3 size size"]:
    """Moved by some pixels, the edge repeated, with a little noise: colours and left and right may mean something."""
    size = pictures.shape[-1]
    reach = max(1, round(MOVED * size))
    wide = F.pad(pictures, (reach,) * 4, mode="replicate")
    places = torch.randint(2 * reach + 1, (len(pictures), 2), generator=generator).tolist()
    moved = [one[:, y : y + size, x : x + size] for one, (y, x) in zip(wide, places, strict=True)]
    return torch.stack(moved) + NOISE * torch.randn(pictures.shape, generator=generator)
