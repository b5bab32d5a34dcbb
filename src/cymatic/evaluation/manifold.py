"""Precision and recall: are generated clips among the real ones, and real ones among the generated?

Kynkäänniemi et al., 2019, arXiv 1904.06991.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from cymatic.errors import Error
from cymatic.evaluation.distances import squared_distances

NEAREST = 3  # as in the paper
ROUNDING = 1e-9  # of a squared distance; a copy of the clip that a ball reaches to lies on its surface, hence inside


def inside(
    clips: Float[np.ndarray, "clips dim"], others: Float[np.ndarray, "others dim"], nearest: int = NEAREST
) -> Bool[np.ndarray, " clips"]:
    """Which of `clips` lie among `others`: within one of the balls around each of them that reach to its `nearest`th
    neighbour among themselves.

    The share of generated clips among real ones is precision, that of real ones among generated is recall; let there
    be equally many of both, since a ball is smaller where there are more. Raises Error for too few of the others.
    """
    if len(others) <= nearest:
        raise Error(f"neighbourhoods need more than {nearest} clips; got {len(others)}")
    radii = np.sort(squared_distances(others, others), axis=1)[:, nearest]  # the 0th is the clip itself
    return np.any(squared_distances(clips, others) <= radii * (1 + ROUNDING), axis=1)
