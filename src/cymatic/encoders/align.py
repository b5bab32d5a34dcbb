"""Losses that bring the vectors of two encoders into one space, and how well one finds the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from cymatic.errors import Error

MOST_SCALE = 100.0  # as in CLIP; beyond it training becomes unstable
RECALLS = (1, 5, 10)  # the first so many among which an item's own is looked for
Contents = tuple[str | bytes, ...]  # of an item: its caption, and the bytes or hashes of what each role holds


def bounded_scale(log_scale: nn.Parameter) -> Float[Tensor, ""]:
    """The scale, at most `MOST_SCALE`: the parameter itself is kept there, so that it can come down again."""
    with torch.no_grad():
        log_scale.clamp_(max=math.log(MOST_SCALE))
    return log_scale.exp()


class InfoNCE(nn.Module):
    """`-log softmax_j(s a_i . b_j)` at `j = i`, the mean over i, and the same the other way round, halved.

    van den Oord et al. (2018, arXiv 1807.03748), symmetric and with a learned inverse temperature s as in CLIP
    (Radford et al., 2021, arXiv 2103.00020), which begins at 1 / 0.07.

    temperature: 1 / s at the beginning, or always where it is not `learned`. margin: taken from the logit of each pair
    that belongs together, in the denominator, too (Ilharco et al., 2019, arXiv 1909.08782). decoupled: the denominator
    is summed over `j != i` alone (Yeh et al., 2021, arXiv 2110.06848); an item without a negative then says nothing.
    Nothing that is stored depends on the size of a batch. Raises Error for a temperature that is not above 0.
    """

    def __init__(
        self, temperature: float = 0.07, *, learned: bool = True, margin: float = 0.0, decoupled: bool = False
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise Error(f"a temperature of {temperature} was given; give a number above 0, such as 0.07")
        self.temperature, self.learned, self.margin, self.decoupled = temperature, learned, margin, decoupled
        if learned:
            self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """By what similarities become logits."""
        return bounded_scale(self.log_scale) if self.learned else torch.tensor(1 / self.temperature)

    def forward(
        self, a: Float[Tensor, "n dim"], b: Float[Tensor, "n dim"], same: Bool[Tensor, "n n"] | None = None
    ) -> Float[Tensor, ""]:
        """`a[i]` and `b[i]`, of unit norm, belong together. `same` is True where two items count as one (i with itself
        included or not): such a pair is no negative of one another. With several processes give what all of them have.
        """
        logits = self.scale * a @ b.T
        if same is not None:
            logits = logits.masked_fill(_others(same), -torch.inf)
        if self.margin:
            logits = logits - self.margin * torch.eye(len(a), device=a.device)
        if self.decoupled:
            return (_decoupled(logits) + _decoupled(logits.T)) / 2
        own = torch.arange(len(a), device=a.device)
        return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def _decoupled(logits: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """`-l_ii + log sum_j exp l_ij` over `j != i`, the mean over i, with 0 where there is no such j."""
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool, device=logits.device), -torch.inf)
    some = (others > -torch.inf).any(1)
    others = others.masked_fill(~some[:, None], 0.0)  # the gradient of a sum over nothing is no number
    return ((others.logsumexp(1) - logits.diagonal()) * some).mean()


class SigLIP(nn.Module):
    """`-1/n sum_ij log sigmoid(z_ij (s a_i . b_j + c))` with z = 1 on the diagonal and -1 elsewhere.

    Zhai et al. (2023, arXiv 2303.15343): each pair on its own, with a learned scale s and bias c, which begin at 10 and
    -10, since nearly all pairs are negative.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """By what similarities become logits."""
        return bounded_scale(self.log_scale)

    def forward(
        self, a: Float[Tensor, "n dim"], b: Float[Tensor, "n dim"], same: Bool[Tensor, "n n"] | None = None
    ) -> Float[Tensor, ""]:
        """As `InfoNCE`'s."""
        logits = self.scale * a @ b.T + self.bias
        signs = 2 * torch.eye(len(a), device=a.device) - 1
        terms = logsigmoid(signs * logits)
        if same is not None:
            terms = terms.masked_fill(_others(same), 0.0)
        return -terms.sum() / len(a)


LOSSES: dict[str, type[InfoNCE | SigLIP]] = {"infonce": InfoNCE, "siglip": SigLIP}


def _others(same: Bool[Tensor, "n n"]) -> Bool[Tensor, "n n"]:
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def recall(similarity: Float[Tensor, "n m"], same: Bool[Tensor, "n m"], k: int) -> float:
    """The share of rows for which at least one of the `k` most similar columns is the same item."""
    best = similarity.topk(min(k, similarity.shape[1]), dim=1).indices
    return same.gather(1, best).any(1).float().mean().item()


def chance(same: Bool[Tensor, "n m"], k: int) -> float:
    """The recall of columns in random order: the mean of `1 - C(m - own, k) / C(m, k)` over rows that have `own`
    columns which are the same item."""
    m = same.shape[1]
    missed = [math.comb(m - own, min(k, m)) / math.comb(m, min(k, m)) for own in same.sum(1).tolist()]
    return 1 - sum(missed) / len(missed)


def same(contents: Sequence[Contents]) -> Bool[Tensor, "n n"]:
    """Which items count as one: each with itself, and those that have anything in common but an empty caption."""
    alike = torch.eye(len(contents), dtype=torch.bool)
    for column in zip(*contents, strict=True):
        numbers = {content: number for number, content in enumerate(dict.fromkeys(column))}
        own = torch.tensor([numbers[content] if content else -1 - i for i, content in enumerate(column)])
        alike |= own[:, None] == own
    return alike
