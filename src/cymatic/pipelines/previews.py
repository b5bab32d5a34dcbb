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

    A grid that is made row by row is decoded with its last row in the place of those to come, as no code stands for
    nothing, and where they will be the picture shows its background.
    """

    def show(done: int, steps: int, found: Tensor, lengths: Tensor) -> None:
        rows = found.shape[1]
        missing = 0 if model.rows is None else model.rows - rows
        if missing:
            found = torch.cat([found, found[:, -1:].expand(-1, missing, -1)], dim=1)
        values = model.finished(model.decoded(found, lengths), seed, info)
        if missing and model.medium.paste is not None:
            high, wide = model.gives.shape[-2:]
            open_rows = np.arange(high) >= high * rows // model.rows
            where = np.repeat(open_rows[:, None], wide, axis=1)
            values = [model.medium.paste(value, None, where, model.gives) for value in values]
        on_preview(done, steps, values)

    return show
