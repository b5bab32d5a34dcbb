"""Codebooks of quantization-maps (LumenPallidium), as they learn there: what goes on with old weights, or checks them.

What differs from a map of ours (`quantizers/maps.py`), and why ours has it otherwise:

- The neighbourhood hardly narrows. A gaussian kernel starts at `exp(-d^2)` and is raised to `1 + t / 2000`; a hard one
  is divided by that, which scales the winner along with its neighbours.
- The clock t is shared by all levels and goes on at each, so ten levels age ten times as fast. It isn't saved.
- Counts are smoothed by one for each code, which draws codes that are used little towards zero.
- Losses are summed over levels, both terms weigh alike, and the gradient comes back once for each level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import conv2d, embedding, normalize

from cymatic.errors import Error

AGEING = 5e-4


def grid(size: int) -> tuple[int, int]:
    """Rows and columns: prime factors, least first, go to the rows, or to the columns where the rows are more already:
    512 -> (32, 16), 24 -> (4, 6)."""
    rows = columns = 1
    factor = 2
    while size > 1:
        while size % factor:
            factor += 1
        size //= factor
        rows, columns = (rows * factor, columns) if rows <= columns else (rows, columns * factor)
    return rows, columns


class Clock:
    """The kernel that all levels share, and its age."""

    def __init__(
        self,
        shape: tuple[int, int],
        kernel: Literal["hard", "gaussian"],
        distance: int = 2,
        *,
        normalized: bool = False,
    ) -> None:
        self.shape, self.kind, self.distance, self.normalized = shape, kernel, distance, normalized
        self.age = 0

    @property
    def kernel(self) -> Float[Tensor, "side side"]:
        """What a code's neighbours get, at its age."""
        places = torch.arange(-self.distance, self.distance + 1, dtype=torch.float32)
        line = torch.ones_like(places) if self.kind == "hard" else (-(places**2)).exp()
        first, slower = torch.outer(line, line), 1 + self.age * AGEING
        if self.normalized:
            first = first / first.sum()
        now = first / slower if self.kind == "hard" else first**slower
        return now / now.sum() if self.normalized else now

    def spread(self, chosen: Float[Tensor, "n size"]) -> Float[Tensor, "n size"]:
        """The codes of each place, given to their neighbours as well; what falls off the map is lost."""
        kernel = self.kernel
        maps = conv2d(chosen.view(-1, 1, *self.shape), kernel[None, None], padding=self.distance)
        return maps.view(chosen.shape)


class Step(NamedTuple):
    """`z` with a straight-through gradient, the codes, and the loss."""

    z: Float[Tensor, "batch n dim"]
    codes: Int[Tensor, "batch n"]
    loss: Float[Tensor, ""]


@dataclass
class MapCodebook:
    """One level. `codebook` and `sums` are `[dim, size]` as in their files (`codebook`, `ema_codebook`), `usage` is
    their `cluster_frequency`; without `sums` the codebook learns by gradient.

    cut: a code is stale where neither its running count nor the batch's reaches it. decay: of counts and sums; theirs
    is 0.95 by default where the codebook learns by gradient. smoothing: what every count gets before sums are divided.
    """

    codebook: Float[Tensor, "dim size"]
    usage: Float[Tensor, " size"]
    sums: Float[Tensor, "dim size"] | None = None
    clock: Clock | None = None
    metric: Literal["euclidean", "cosine"] = "euclidean"
    cut: float = 2.0
    decay: float = 0.96
    smoothing: float = 1.0
    stale: int = field(default=0, init=False)

    def __call__(self, x: Float[Tensor, "batch n dim"]) -> Step:
        """As in eval mode: the nearest codes and `|x - sg(e)|^2`, a mean."""
        codes = self._nearest(x.detach())
        z = embedding(codes, self.codebook.T)
        return Step(x + (z - x).detach(), codes, (z.detach() - x).square().mean())

    def learn(
        self, x: Float[Tensor, "batch n dim"], *, refresh: bool, generator: torch.Generator | None = None
    ) -> Step:
        """As in training: also counts and, where there are sums, moves them. `refresh`: the clock of running means goes
        on, and stale codes are put on vectors of the batch, drawn with `generator`.

        A codebook by gradient has `|e_j - sg(x)|^2` in the loss, a mean over all pairs of a vector and a code on the
        kernel around its own, whatever the kernel's values are.
        """
        step = self(x)
        chosen = torch.nn.functional.one_hot(step.codes.flatten(), len(self.usage)).to(x.dtype)
        if self.clock:
            chosen = self.clock.spread(chosen)
            if self.sums is not None and refresh:
                self.clock.age += 1
        self._count(chosen.sum(0), x.detach().flatten(0, 1), refresh, generator)
        if self.sums is not None:
            self._move(chosen, x.detach().flatten(0, 1))
            return step
        row, code = chosen.nonzero(as_tuple=True)
        pairs = self.codebook.T[code] - x.detach().flatten(0, 1)[row]
        return step._replace(loss=step.loss + pairs.square().mean())

    @torch.no_grad()
    def _nearest(self, x: Tensor) -> Tensor:
        if self.metric == "cosine":
            return (x @ normalize(self.codebook, dim=0)).argmax(-1)
        return (x @ self.codebook - self.codebook.square().sum(0) / 2).argmax(-1)

    @torch.no_grad()
    def _count(self, hits: Tensor, rows: Tensor, refresh: bool, generator: torch.Generator | None) -> None:
        self.usage.lerp_(hits, 1 - self.decay)
        stale = torch.maximum(self.usage, hits) < self.cut
        self.stale = int(stale.sum())
        if not refresh or self.stale in (0, len(stale)):
            return
        if generator is None:
            raise Error("stale codes are drawn from the batch; give a generator")
        rows = rows.repeat(-(-self.stale // len(rows)), 1)
        vectors = rows[torch.randperm(len(rows), generator=generator)[: self.stale]].T
        self.codebook[:, stale] = vectors
        self.usage[stale] += 1
        if self.sums is not None:
            self.sums[:, stale] = vectors

    @torch.no_grad()
    def _move(self, chosen: Tensor, rows: Tensor) -> None:
        assert self.sums is not None
        self.sums.lerp_(rows.T @ chosen, 1 - self.decay)
        every = self.usage.sum()
        counts = (self.usage + self.smoothing) / (every + len(self.usage) * self.smoothing) * every
        self.codebook.copy_(self.sums / counts)


def residual(
    levels: Sequence[MapCodebook], x: Float[Tensor, "batch n dim"]
) -> tuple[Float[Tensor, "batch n dim"], Int[Tensor, "batch n levels"], Float[Tensor, ""]]:
    """Several levels in eval mode: their sum, their codes, and the sum of their losses. Theirs changes the input in
    place and leaves the last residual in it; this does not."""
    given, codes, loss = torch.zeros_like(x), [], x.new_zeros(())
    for level in levels:
        step = level(x)
        given, loss, x = given + step.z, loss + step.loss, x - step.z.detach()
        codes.append(step.codes)
    return given, torch.stack(codes, -1), loss
