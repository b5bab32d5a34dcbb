"""Did the model memorise? Distances from generated and from real clips to the training clips of their caption.

A model that copies its training clips lands nearer to them than new recordings of the same speaker do. Distances are
Euclidean, between outlines (`domain.Domain`) or between a classifier's embeddings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cymatic.errors import Error
from cymatic.evaluation.captions import by_caption
from cymatic.evaluation.distances import squared_distances
from cymatic.evaluation.intervals import Estimate, bootstrap, share

COMPARED = 100  # training clips that stand for new ones where too few are held out
SAME = 1e-6  # a distance of copies
MANY = 30  # clips of different captions that tell how far clips lie from each other

Rows = Float[np.ndarray, "clips dim"]


@dataclass(frozen=True)
class Neighbours:
    """Median distances to the nearest training clip of the same caption: of generated clips, of real ones (`of` says
    which), and the first over the second; the share of generated clips nearer than the 1st percentile of the others.

    ratio: 1 for new takes, towards 0 for copies, above 1 for clips unlike any real one.
    """

    generated: float
    real: float
    ratio: Estimate
    nearer: Estimate
    of: str


def neighbours(
    generated: Float[np.ndarray, "generated dim"],
    generated_captions: Sequence[str],
    held_out: Float[np.ndarray, "held_out dim"],
    held_out_captions: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_captions: Sequence[str],
    *,
    fewest: int = 1,
    nouns: str = "clips",
) -> Neighbours | None:
    """Compares generated and real clips, which a report calls `nouns`, with the training clips of their captions.

    Training clips that are identical count as one, and a held-out clip that is one of them does not count. For the
    comparison to be fair, let the held-out clips pass through what made the generated ones. Where fewer than
    `fewest` of them have a caption trained on, up to 100 training clips stand for them, each beside the others of its
    caption; and where most captions have one clip each, then 30 training clips or more all count as neighbours,
    whatever the caption. None where nothing can be compared, or the real clips are copies of training clips themselves.

    Raises Error for a generated clip without a training clip of its caption.
    """
    counts = Counter(train_captions)
    known = [row for row, caption in enumerate(held_out_captions) if caption in counts]
    several = [row for row, caption in enumerate(train_captions) if counts[caption] > 1]
    if not len(generated) or not len(train):
        return None
    if len(known) < fewest and len(several) < len(train) / 2:
        if len(train) < MANY:
            return None
        generated_captions, train_captions = [""] * len(generated), [""] * len(train)
        held_out_captions = [""] * len(held_out)
        train, train_captions = _each_once(train, train_captions)
        known, several = list(range(len(held_out))), list(range(len(train)))
    if len(known) >= fewest:
        usual = nearest(held_out[known], [held_out_captions[row] for row in known], train, train_captions)
        whose = f"{nouns} held out"
    else:
        usual = _nearest_other(several[:COMPARED], train, train_captions)
        whose = f"training {nouns} from each other"
    usual = usual[usual > SAME]
    if not len(usual):
        return None
    made = nearest(generated, generated_captions, train, train_captions)
    middle = float(np.median(usual))
    return Neighbours(
        float(np.median(made)),
        middle,
        bootstrap(lambda a, b: np.median(a) / max(float(np.median(b)), 1e-12), made, usual),
        share(int((made < np.percentile(usual, 1)).sum()), len(made)),
        f"{len(usual)} {whose}",
    )


def _each_once(
    clips: Float[np.ndarray, "clips dim"], captions: Sequence[str]
) -> tuple[Float[np.ndarray, "distinct dim"], list[str]]:
    """The clips without those that are identical to an earlier one, and their captions."""
    rows = np.sort(np.unique(clips, axis=0, return_index=True)[1])
    return clips[rows], [captions[row] for row in rows]


def nearest(
    queries: Float[np.ndarray, "queries dim"],
    query_captions: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_captions: Sequence[str],
) -> Float[np.ndarray, " queries"]:
    """For each query the distance to the nearest of `train` with the same caption.

    Raises Error for no queries or for a caption without training clips.
    """
    if not len(queries):
        raise Error("there are no clips to find neighbours for; give at least one")
    rows = by_caption(train_captions)
    found = np.empty(len(queries))
    for caption, asked in by_caption(query_captions).items():
        if caption not in rows:
            raise Error(f'no training clip has the caption "{caption}", so nothing can be its neighbour')
        found[asked] = np.sqrt(squared_distances(queries[asked], train[rows[caption]]).min(axis=1))
    return found


def _nearest_other(
    rows: Sequence[int], train: Float[np.ndarray, "train dim"], captions: Sequence[str]
) -> Float[np.ndarray, " rows"]:
    """For each of these rows the distance to the nearest other row of its caption."""
    of = by_caption(captions)
    found = np.empty(len(rows))
    for caption, places in by_caption([captions[row] for row in rows]).items():
        own = np.array([rows[place] for place in places])
        far = squared_distances(train[own], train[of[caption]])
        far[own[:, None] == np.array(of[caption])] = np.inf
        found[places] = np.sqrt(far.min(axis=1))
    return found
