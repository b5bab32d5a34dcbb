"""Do neighbours on a map of codes mean alike?"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MOST_SCORES = 2**22  # that lie in memory at once


@torch.no_grad()
def topographic_error(
    vectors: Float[Tensor, "n dim"], codebook: Float[Tensor, "size dim"], shape: tuple[int, int]
) -> float:
    """The share of `vectors` whose nearest and second nearest codes are no neighbours on the map.

    The codes lie row by row on a map of `shape` rows and columns; up to eight others are neighbours of a code, the
    diagonal ones among them (Kiviluoto, 1996). 0 is a map without a fold, and codes in no order have one minus the
    share of codes that are neighbours, so nearly 1.
    """
    columns = shape[1]
    bias = -codebook.square().sum(-1) / 2
    wrong = 0
    for chunk in vectors.split(max(1, MOST_SCORES // len(codebook))):
        best, second = torch.addmm(bias, chunk, codebook.T).topk(2, dim=-1).indices.unbind(-1)
        rows = (best // columns - second // columns).abs()
        across = (best % columns - second % columns).abs()
        wrong += int((torch.maximum(rows, across) > 1).sum())
    return wrong / max(1, len(vectors))


def shuffled(codebook: Float[Tensor, "size dim"], generator: torch.Generator) -> Float[Tensor, "size dim"]:
    """The same codes at random places of the map: the control that a map is measured against."""
    return codebook[torch.randperm(len(codebook), generator=generator).to(codebook.device)]
