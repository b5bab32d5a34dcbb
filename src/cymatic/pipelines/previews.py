"""What is being made, as it stands: values of the medium while a prior samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cymatic.pipelines.asked import OnPreview
from cymatic.priors.progress import OnEstimate


def shown(model: Any, on_preview: OnPreview, info: Mapping[str, Any], seed: int) -> OnEstimate:
    """What hears of a prior's estimates and shows them as values of the medium, the first with `seed`.

    Of a grid of one size that is made row by row (or column by column) the last row stands in the place of those to
    come, as no code stands for nothing, and where they will be the picture shows its background.
    """

    def show(done: int, steps: int, found: Tensor, lengths: Tensor) -> None:
        width = model.spec.shape[-1]
        if model.rows is None or width < 0:
            on_preview(done, steps, model.finished(model.decoded(found, lengths), seed, info))
            return
        made, grid = found.shape[1:], (model.rows, model.codec.columns(width))
        rows, columns = (torch.arange(whole).clamp_max(there - 1) for whole, there in zip(grid, made, strict=True))
        lengths = torch.full((len(found),), grid[1])
        values = model.finished(model.decoded(found[:, rows][:, :, columns], lengths), seed, info)
        if model.medium.paste is not None and tuple(made) != grid:
            high, wide = model.gives.shape[-2:]
            below = np.arange(high)[:, None] >= high * made[0] // grid[0]
            beyond = np.arange(wide) >= wide * made[1] // grid[1]
            values = [model.medium.paste(value, None, below | beyond, model.gives) for value in values]
        on_preview(done, steps, values)

    return show
