"""The kernel distance between two sets of embeddings, unbiased even for few clips.

Bińkowski et al., 2018, arXiv 1801.01401.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from cymatic.errors import Error
from cymatic.evaluation.intervals import Estimate, groups_of, jackknife


def kernel_distance(a: Float[np.ndarray, "a dim"], b: Float[np.ndarray, "b dim"]) -> float:
    """The squared maximum mean discrepancy under `k(x, y) = (x . y / dim + 1)^3`, unbiased.

    `mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_{ij} k(a_i, b_j)`. Its expectation does not depend
    on how many clips there are, so it may be compared between sets of different sizes; where both sets are alike it
    lies about 0, on either side. Raises Error for fewer than two embeddings on either side.
    """
    return kernel_estimate(a, [""] * len(a), b, [""] * len(b)).value


def kernel_estimate(
    generated: Float[np.ndarray, "a dim"],
    generated_captions: Sequence[str],
    reference: Float[np.ndarray, "b dim"],
    reference_captions: Sequence[str],
) -> Estimate:
    """`kernel_distance` of clips that were chosen by caption, and a jackknife interval over the generated ones.

    With two clips of each of thirty captions, two clips drawn from them are of one caption half as often as two drawn
    from the recordings, and the plain distance would come out below 0. So the means run over captions: with s_c the
    share of caption c among the generated clips, `sum_cd s_c s_d k_cd`, where k_cd is the mean of k over clips of c and
    of d, and for c = d over different clips. Captions that have fewer than two clips on either side don't count; the
    value is NaN where that is all of them.

    Raises Error for fewer than two embeddings on either side.
    """
    if len(generated) < 2 or len(reference) < 2:
        raise Error(
            f"a kernel distance needs two clips or more on either side; got {len(generated)} and {len(reference)}"
        )
    captions, others = list(generated_captions), list(reference_captions)
    names = {caption: i for i, caption in enumerate(dict.fromkeys(captions + others))}
    a, b = (np.eye(len(names))[[names[caption] for caption in some]] for some in (captions, others))
    enough = b.sum(0) >= 2
    real = _means(_kernel(reference, reference), b)
    own = _kernel(generated, generated)
    across = _kernel(generated, reference) @ b / np.maximum(b.sum(0), 1)  # of each clip to each caption

    def distance(rows: Int[np.ndarray, " rows"]) -> float:
        kept = a[rows]
        counts = np.where(enough & (kept.sum(0) >= 2), kept.sum(0), 0.0)
        there = counts > 0
        if not there.any():
            return float("nan")
        shares = counts / counts.sum()
        means = kept.T @ across[rows] / np.maximum(kept.sum(0), 1)[:, None]
        total = _means(own[np.ix_(rows, rows)], kept) + real - means - means.T
        return float(shares[there] @ total[np.ix_(there, there)] @ shares[there])

    return jackknife(distance, groups_of(generated_captions))


def _kernel(a: Float[np.ndarray, "a dim"], b: Float[np.ndarray, "b dim"]) -> Float[np.ndarray, "a b"]:
    product: Float[np.ndarray, "a b"] = a.astype(np.float64) @ b.astype(np.float64).T
    return (product / a.shape[1] + 1) ** 3


def _means(
    kernel: Float[np.ndarray, "rows rows"], members: Float[np.ndarray, "rows captions"]
) -> Float[np.ndarray, "captions captions"]:
    """The mean of the kernel over pairs of different clips, for each pair of captions."""
    counts = members.sum(0)
    sums = members.T @ kernel @ members - np.diag(members.T @ np.diag(kernel))
    return sums / np.maximum(np.outer(counts, counts) - np.diag(counts), 1)
