"""How differently a classifier answers for generated and for real clips of one caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cymatic.errors import Error
from cymatic.evaluation.captions import by_caption

LEAST = 1e-6  # chance below which an answer is not told from an impossible one


def divergences(
    generated: Float[np.ndarray, "generated answers"],
    generated_captions: Sequence[str],
    real: Float[np.ndarray, "real answers"],
    real_captions: Sequence[str],
) -> Float[np.ndarray, " generated"]:
    """For each generated clip the divergence from it to the real clips of its caption, in nats.

    Rows are a classifier's chances of its answers. Generated clip i is paired with every real clip j of its caption; of
    those pairs it is the mean Kullback-Leibler divergence `KL(p_j || q_i) = sum_k p_jk ln(p_jk / q_ik)`, p real and q
    generated, chances below 1e-6 lifted to that. The mean over clips is the MKL of Iashin and Rahtu (2021, arXiv
    2110.08791), who had one real clip for each generated one, and a classifier of their own.

    Raises Error for a caption that no real clip has.
    """
    p, q = np.maximum(real.astype(np.float64), LEAST), np.maximum(generated.astype(np.float64), LEAST)
    negative_entropy = (p * np.log(p)).sum(1)
    rows = by_caption(real_captions)
    found = np.empty(len(q))
    for caption, asked in by_caption(generated_captions).items():
        if caption not in rows:
            raise Error(f'no real clip has the caption "{caption}", so nothing can be compared with it')
        own = rows[caption]
        found[asked] = negative_entropy[own].mean() - np.log(q[asked]) @ p[own].mean(0)
    return np.maximum(found, 0.0)  # lifted chances need not sum to 1
