"""What only some priors say: how likely real clips are, what a latent says of them, and whether captions count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cymatic.evaluation.corpus import Clips
from cymatic.evaluation.evaluable import HasLatent, HasLikelihood, HasLoss
from cymatic.evaluation.intervals import Estimate, bootstrap
from cymatic.priors.variational import active_units, divergence, mutual_information

AT_ONCE = 8  # clips whose loss is taken side by side


@dataclass(frozen=True)
class Likelihood:
    """The negative log-likelihood of held-out clips: nats a code, and what knowing nothing would come to."""

    nats_a_code: Estimate
    uniform: float


@dataclass(frozen=True)
class LatentUse:
    """What a latent of `dim` numbers says of held-out clips, in nats: how far their posteriors are from the prior, and
    how much it tells them apart (at most the log of their number); and how many of its numbers vary at all."""

    dim: int
    clips: int
    divergence: Estimate
    mutual_information: float
    active: int


@dataclass(frozen=True)
class CaptionSensitivity:
    """The mean loss of `clips` clips with their own captions (`right`) and with those of others (`wrong`)."""

    right: float
    wrong: float
    clips: int

    @property
    def rise(self) -> float:
        """By what share the loss rises with wrong captions: 0 where the model does without them."""
        return self.wrong / self.right - 1


def likelihood(model: HasLikelihood, clips: Clips, sizes: Sequence[int]) -> Likelihood | None:
    """Nats a code over those `clips` that are not too long for the model; None where there are none.

    sizes: of the codebooks.
    """
    each = (model.nll(value, caption) for value, caption in zip(clips.values, clips.captions, strict=True))
    pairs = [pair for pair in each if pair is not None]
    if not pairs:
        return None
    nats, codes = np.array(pairs).T
    found = bootstrap(lambda rows: nats[rows].sum() / codes[rows].sum(), np.arange(len(nats)))
    return Likelihood(found, float(np.log(sizes).mean()))


def latent_use(model: HasLatent, clips: Clips) -> LatentUse | None:
    """What the model's latent says of `clips`; None where it has none, or says it of fewer than two."""
    each = (model.posterior(value, caption) for value, caption in zip(clips.values, clips.captions, strict=True))
    pairs = [pair for pair in each if pair is not None]
    if len(pairs) < 2:
        return None
    mean, log_var = (torch.cat(part).float().cpu() for part in zip(*pairs, strict=True))
    nats = divergence(mean, log_var).sum(1).numpy()
    return LatentUse(
        mean.shape[1],
        len(pairs),
        bootstrap(lambda rows: nats[rows].mean(), np.arange(len(nats))),
        mutual_information(mean, log_var, torch.Generator().manual_seed(0)),
        active_units(mean),
    )


@torch.no_grad()
def caption_sensitivity(
    model: HasLoss, targets: Sequence[Tensor], captions: Sequence[str]
) -> CaptionSensitivity | None:
    """The loss with the captions and with those of other clips, under the same noise; None where all are one."""
    names = sorted(set(captions))
    if len(names) < 2:
        return None
    swapped = {name: names[(i + len(names) // 2) % len(names)] for i, name in enumerate(names)}
    order = sorted(range(len(targets)), key=lambda row: targets[row].numel())  # of about one length together
    right = wrong = 0.0
    for number, start in enumerate(range(0, len(order), AT_ONCE)):
        some = order[start : start + AT_ONCE]
        clips, own = [targets[row] for row in some], [captions[row] for row in some]
        right += model.loss(clips, own, number) * len(some) / len(order)
        wrong += model.loss(clips, [swapped[caption] for caption in own], number) * len(some) / len(order)
    return CaptionSensitivity(right, wrong, len(order))
