"""Sets of clips as wholes: how far each lies from the training clips of its captions, in a classifier's embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cymatic.evaluation.captions import balanced
from cymatic.evaluation.corpus import Clips
from cymatic.evaluation.divergence import divergences
from cymatic.evaluation.frechet import frechet_estimate
from cymatic.evaluation.intervals import Estimate, bootstrap, share
from cymatic.evaluation.kernel import kernel_estimate
from cymatic.evaluation.manifold import NEAREST, inside
from cymatic.evaluation.questions import Chances, Recogniser

FEW = 2  # clips: of fewer no distance can be told


@dataclass(frozen=True)
class Distances:
    """How far a set of clips lies from the training clips of its captions, in a classifier's embedding.

    mkl: for each question the mean divergence of the answers; empty where the classifier gives no chances. precision:
    the share that lies among as many training clips; recall: the share of those that lies among this set.
    """

    clips: int
    frechet: Estimate
    kernel: Estimate
    mkl: dict[str, Estimate]
    precision: Estimate | None
    recall: Estimate | None


def compared(recogniser: Recogniser, sets: Mapping[str, Clips], reference: Clips) -> dict[str, Distances]:
    """The distances of each set of two clips or more; `reference`: two training clips or more of their captions."""
    real, chances = recogniser.embedding(reference.values), _chances(recogniser, reference)
    found = {}
    for what, some in sets.items():
        if len(some) < FEW:
            continue
        embedded, own = recogniser.embedding(some.values), _chances(recogniser, some)
        mkl = {
            question: bootstrap(
                np.mean, divergences(own[question], some.captions, chances[question], reference.captions)
            )
            for question in own
        }
        precision, recall = _among(embedded, real[balanced(reference.captions, len(some))])
        both = (embedded, some.captions, real, reference.captions)
        found[what] = Distances(len(some), frechet_estimate(*both), kernel_estimate(*both), mkl, precision, recall)
    return found


def _chances(recogniser: Recogniser, clips: Clips) -> dict[str, Float[np.ndarray, "clips answers"]]:
    return recogniser.chances(clips.values) if isinstance(recogniser, Chances) else {}


def _among(
    clips: Float[np.ndarray, "clips dim"], real: Float[np.ndarray, "real dim"]
) -> tuple[Estimate | None, Estimate | None]:
    if min(len(clips), len(real)) <= NEAREST:
        return None, None
    among, found = inside(clips, real), inside(real, clips)
    return share(int(among.sum()), len(among)), share(int(found.sum()), len(found))
