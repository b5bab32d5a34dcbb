"""What the processes that train one model exchange; with one process, nothing."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def total(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, which must all ask for it."""
    if processes() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x


def of_the_first(x: Tensor) -> Tensor:
    """`x` as the first process has it."""
    if processes() == 1:
        return x
    x = x.clone()
    dist.broadcast(x, 0)
    return x


def side_by_side(x: Tensor) -> list[Tensor]:
    """`x` of each process, in the order of their ranks; all of one shape."""
    if processes() == 1:
        return [x]
    held = [x.new_empty(x.shape) for _ in range(processes())]
    dist.all_gather(held, x)
    return held


def rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if processes() > 1 else 0
