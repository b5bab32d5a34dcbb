"""The task of training a classifier: what evaluation listens with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cymatic.data.batches import Batch
from cymatic.data.examples import Example
from cymatic.evaluation.classifier_training import Disturbance, augmented, training_loss
from cymatic.evaluation.classifier_training import held_out as measured
from cymatic.evaluation.classifiers import Classifier
from cymatic.hub.parts import WEIGHTS, load_weights, save_part
from cymatic.training.muon import groups_of
from cymatic.training.settings import TrainingSettings


class ClassificationTask(nn.Module):
    """A classifier of captions as one module whose `forward` is the loss of a batch of waveforms.

    Each time an item is met it is changed anew, in ways that leave its answer as it is.
    """

    keeps_best = True
    rounds = 1
    full_from = 0
    steps: Tensor

    def __init__(self, name: str, classifier: Classifier, disturbance: Disturbance) -> None:
        super().__init__()
        self.name, self.disturbance = name, disturbance
        self.total_steps: int | None = None
        self.classifier = classifier
        self.question, names = next(iter(classifier.config.labels.items()))
        self.number = {name: i for i, name in enumerate(names)}
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ...}`: cross-entropy with smoothed labels."""
        torch.manual_seed(seed)  # dropout draws from the global generator
        chance = np.random.default_rng(seed)
        waves = [wave[0, : int(n)].numpy() for wave, n in zip(batch.target, batch.lengths, strict=True)]
        mixes = augmented(waves, self.classifier.rate, self.disturbance, chance)
        answers = torch.tensor([self.number[caption] for caption in batch.captions])
        loss = training_loss(self.classifier, mixes, {self.question: answers}, chance)
        if self.training:
            self.steps += 1
        return {"loss": loss}

    @torch.no_grad()
    def measure(self, held_out: Sequence[Example], batch: int, frames: int | None = None) -> dict[str, float]:
        """Cross-entropy and the share of right answers, over items whose caption is one of the answers."""
        known = [one for one in held_out if one.caption in self.number]
        if not known:
            return {"loss": 0.0}
        answers = torch.tensor([self.number[one.caption] for one in known])
        waves = [one.target[0].float().numpy() for one in known]
        return measured(self.classifier, waves, {self.question: answers})

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, Any]]:
        """AdamW's steps for all."""
        return groups_of(self.classifier, settings, [])

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the classifier as it stands into `run`."""
        save_part(run / self.name, self.classifier)

    def load_parts(self, run: Path) -> None:
        """Fills the classifier with what `save_parts` wrote into `run`. Raises ModelError where it does not fit."""
        load_weights(self.classifier, run / self.name / WEIGHTS)
