"""The Fréchet distance between two sets of embeddings, each taken for a Gaussian.

Heusel et al., 2017, arXiv 1706.08500.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from cymatic.errors import Error
from cymatic.evaluation.captions import matched
from cymatic.evaluation.intervals import Estimate, groups_of, jackknife


def frechet_distance(a: Float[np.ndarray, "a dim"], b: Float[np.ndarray, "b dim"]) -> float:
    """`|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`, in squared units of the embedding.

    C are unbiased covariances. The last trace is the sum of the square roots of the eigenvalues of `C_a C_b`. With
    `C = F^T F` those are the singular values of `F_a F_b^T`, so no matrix root is taken, no small number is added to a
    diagonal, and there may be fewer clips than dimensions. Few clips make the distance too large, so compare only
    distances of equally many.

    Raises Error for fewer than two embeddings on either side.
    """
    _check(a, b)
    return _between(_Gaussian.of(a), _Gaussian.of(b))


def frechet_estimate(
    generated: Float[np.ndarray, "a dim"],
    generated_captions: Sequence[str],
    reference: Float[np.ndarray, "b dim"],
    reference_captions: Sequence[str],
) -> Estimate:
    """`frechet_distance` with the reference weighed so that its captions count as they do among the generated clips,
    and a jackknife interval over those (`intervals.groups_of`). Raises Error as that does, and for clips without
    reference."""
    _check(generated, reference)
    captions = np.array(generated_captions)

    def distance(rows: Int[np.ndarray, " rows"]) -> float:
        weights = matched(captions[rows].tolist(), reference_captions)
        return _between(_Gaussian.of(generated[rows]), _Gaussian.of(reference, weights))

    found = jackknife(distance, groups_of(generated_captions))
    return replace(found, low=max(found.low, 0.0))


@dataclass(frozen=True)
class _Gaussian:
    """A mean and a factor F of the covariance `F^T F`, with as few rows as will do."""

    mean: Float[np.ndarray, " dim"]
    factor: Float[np.ndarray, "rows dim"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "rows dim"], weights: Float[np.ndarray, " rows"] | None = None) -> _Gaussian:
        rows = rows.astype(np.float64)
        if weights is None:
            weights = np.full(len(rows), 1 / len(rows))
        rows, weights = rows[weights > 0], weights[weights > 0]
        mean = weights @ rows
        # Unbiased, as 1 / (n - 1) is where all weigh the same.
        scale = max(1 - float((weights**2).sum()), 1e-12)
        factor = (rows - mean) * np.sqrt(weights / scale)[:, None]
        if len(factor) > factor.shape[1]:
            factor = np.asarray(np.linalg.qr(factor, mode="r"))
        return cls(mean, factor)


def _between(a: _Gaussian, b: _Gaussian) -> float:
    shift = float(((a.mean - b.mean) ** 2).sum())
    spreads = float((a.factor**2).sum() + (b.factor**2).sum())
    together = float(np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum())
    return max(shift + spreads - 2 * together, 0.0)


def _check(a: Float[np.ndarray, "a dim"], b: Float[np.ndarray, "b dim"]) -> None:
    if len(a) < 2 or len(b) < 2:
        raise Error(f"a Fréchet distance needs two clips or more on either side; got {len(a)} and {len(b)}")
