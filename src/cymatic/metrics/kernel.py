"""The kernel distance between two sets of embeddings, unbiased even for few clips.

Bińkowski et al., 2018, arXiv 1801.01401.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from cymatic.errors import Error
from cymatic.metrics.intervals import Estimate, jackknife


def kernel_distance(a: Float[np.ndarray, "a dim"], b: Float[np.ndarray, "b dim"]) -> float:
    """The squared maximum mean discrepancy under `k(x, y) = (x . y / dim + 1)^3`, unbiased.

    `mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_{ij} k(a_i, b_j)`. Its expectation does not depend
    on how many clips there are, so it may be compared between sets of different sizes; where both sets are alike it
    lies about 0, on either side. Raises Error for fewer than two embeddings on either side.
    """
    return kernel_estimate(a, b).value


def kernel_estimate(generated: Float[np.ndarray, "a dim"], reference: Float[np.ndarray, "b dim"]) -> Estimate:
    """`kernel_distance` with a jackknife interval over the generated side. Raises Error as that does."""
    if len(generated) < 2 or len(reference) < 2:
        raise Error(
            f"a kernel distance needs two clips or more on either side; got {len(generated)} and {len(reference)}"
        )
    own, across = _kernel(generated, generated), _kernel(generated, reference).mean(1)
    real = _off_diagonal(_kernel(reference, reference))

    def distance(rows: Int[np.ndarray, " rows"]) -> float:
        return _off_diagonal(own[np.ix_(rows, rows)]) + real - 2 * float(across[rows].mean())

    return jackknife(distance, len(generated))


def _kernel(a: Float[np.ndarray, "a dim"], b: Float[np.ndarray, "b dim"]) -> Float[np.ndarray, "a b"]:
    product: Float[np.ndarray, "a b"] = a.astype(np.float64) @ b.astype(np.float64).T
    return (product / a.shape[1] + 1) ** 3


def _off_diagonal(kernel: Float[np.ndarray, "n n"]) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
