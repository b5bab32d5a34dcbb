"""What flows over mels and over grids share: the straight path from noise to data, its loss, and its condition.

Rectified flow (Liu et al., 2022, arXiv 2209.03003; Lipman et al., 2022, arXiv 2210.02747): on the path
`x_t = (1 - t) noise + t data` a network gives the clean data (Li and He, 2025, arXiv 2511.13720), as an outline and
how far the data stray from it. The loss is that of the velocity `data - noise`, `|given - data|^2 / (1 - t)^2`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond, guide
from cymatic.priors.samplers import Denoise, Prediction

# Most times are logit-normal (Esser et al., 2024, arXiv 2403.03206) with this spread, and this share is drawn evenly.
TIME_SPREAD, TIME_EVENLY = 1.2, 0.2
NEAREST = 0.1  # 1 - t in the loss is at least this, or the last of the path would outweigh all else
LOG_SPREADS = (-5.0, 1.0)  # the least and the most that may be said of a spread
SPREAD_AT_FIRST = 0.2  # of the data around their outline, in the units of the network


class Given(NamedTuple):
    """A condition as a network reads it: tokens `[batch, n, dim]`, their mask, and a vector `[batch, dim]`."""

    tokens: Tensor
    mask: Tensor
    vector: Tensor


class TrainingDraws(NamedTuple):
    """What a step of training draws: noise `[batch, *shape]`, normal numbers `[batch]` and even ones `[2, batch]`."""

    noise: Tensor
    normal: Tensor
    even: Tensor


def training_draws(
    items: int, shape: Sequence[int], generator: torch.Generator, shard: BatchShard | None = None
) -> TrainingDraws:
    """Drawn from `generator`, on the CPU, so that a step is the same on every machine; a `shard` draws for the whole
    batch and takes its own items."""
    count = items if shard is None else shard.items
    noise = torch.randn(count, *shape, generator=generator)
    normal, even = torch.randn(count, generator=generator), torch.rand(2, count, generator=generator)
    if shard is None:
        return TrainingDraws(noise, normal, even)
    return TrainingDraws(shard.take(noise), shard.take(normal), torch.stack([shard.take(row) for row in even]))


def training_times(
    normal: Float[Tensor, " batch"], even: Float[Tensor, "2 batch"], centre: float | Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Times to train at, made from normal and even draws; centre: the mean of their logit."""
    return torch.where(even[0] < TIME_EVENLY, even[1], (centre + TIME_SPREAD * normal).sigmoid())


def velocity_error(
    given: Float[Tensor, "batch *shape"], data: Float[Tensor, "batch *shape"], t: Float[Tensor, "batch *ones"]
) -> Float[Tensor, "batch *shape"]:
    """The square of how far the velocity towards `given` is from the one towards `data`."""
    return ((given - data) / (1 - t).clamp_min(NEAREST)).square()


def expected(
    outline: Float[Tensor, "batch *shape"],
    spread: Float[Tensor, "batch *shape"],
    x: Float[Tensor, "batch *shape"],
    t: Float[Tensor, "batch *ones"],
) -> Float[Tensor, "batch *shape"]:
    """The data to expect behind `x`: of a normal with the outline as its mean, and that spread, where x was observed.

    What the network can't say of fine grain so passes by it, the more the later.
    """
    variance = spread.square()
    gain = t * variance / ((1 - t).square() + t.square() * variance)
    return outline + gain * (x - t * outline)


def with_null(cond: Cond, null: Float[Tensor, " dim"]) -> Given:
    """The condition with the learned null in place of what was dropped, and of tokens or a vector that are not there.

    Of dropped tokens one null is left. The vector, of unit norm, is scaled to numbers of about 1.
    """
    dim, items = len(null), len(cond)
    tokens, mask = cond.tokens, cond.mask
    if tokens is None or mask is None:
        tokens, mask = null.expand(items, 1, dim), torch.ones(items, 1, dtype=torch.bool, device=null.device)
    vector = null.expand(items, dim) if cond.vector is None else cond.vector * dim**0.5
    if cond.tokens_dropped is not None:
        gone = cond.tokens_dropped[:, None]
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        tokens, mask = torch.where(gone[..., None], null, tokens), torch.where(gone, first, mask)
    if cond.vector_dropped is not None:
        vector = torch.where(cond.vector_dropped[:, None], null, vector)
    return Given(tokens, mask, vector)


def halves(given: Given) -> list[tuple[Tensor, Given]]:
    """The half of a batch that has fewer tokens and the half that has more, each with no more padding than its longest
    needs: their places in the batch, and their conditions. Of a batch of one there is one."""
    counts = given.mask.sum(1)
    found = []
    for rows in counts.argsort(stable=True).chunk(2):
        most = int(counts[rows].max())
        found.append((rows, Given(given.tokens[rows, :most], given.mask[rows, :most], given.vector[rows])))
    return found


Predict = Callable[[Tensor, Tensor, Given], Prediction]  # x and times of a batch, and its condition


def guided(
    predict: Predict, conditional: Given, both: Given, guidance: float, interval: tuple[float, float]
) -> Denoise:
    """The guided prediction as a function of x and the time t; both: the condition, and then the null for each item.

    Guidance above 1 acts at times within `interval` (Kynkäänniemi et al., 2024, arXiv 2404.07724), and outside of it an
    evaluation costs half.
    """

    def denoise(x: Tensor, t: float) -> Prediction:
        guides = guidance < 1 or (guidance > 1 and interval[0] <= t <= interval[1])
        inputs, given = (torch.cat([x, x]), both) if guides else (x, conditional)
        found = predict(inputs, torch.full((len(inputs),), t, device=x.device), given)
        if not guides:
            return found
        (mean, plain_mean), (spread, plain_spread) = found.mean.chunk(2), torch.as_tensor(found.spread).chunk(2)
        # The outline is exaggerated, and its spread is not.
        return Prediction(guide(mean, plain_mean, guidance), guide(spread, plain_spread, min(guidance, 1.0)))

    return denoise
