"""What a model over grids of one size makes of a picture that is there: a part of it anew.

`model` is a `pipelines.generate.Generator`, whose methods these are. What is kept are the picture's own pixels, as the
model's spec reads them, and not what its codec makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from cymatic.errors import Error, ModelError
from cymatic.pipelines.asked import Prompt, check_count
from cymatic.priors.progress import OnStep
from cymatic.scalars import Number, number

Draw = Callable[[Any, dict[str, Any]], tuple[Tensor, Tensor]]  # condition, settings -> targets and their lengths


def inpaint(
    model: Any,
    value: Any,
    mask: Any,
    known: Tensor,
    *,
    n: SupportsIndex = 1,
    seed: SupportsIndex = 0,
    prompt: Prompt | None = None,
    on_step: OnStep | None = None,
    **settings: Any,
) -> list[Any]:
    """See `editing.inpaint`; known: `value` as the prior knows it."""
    _check_pictures(model, "which have no mask")
    if (mask.height, mask.width) != (value.height, value.width):
        raise Error(
            f"the mask is {mask.width} x {mask.height} and the picture {value.width} x {value.height}; give a mask of "
            "the same size"
        )
    n, seed = check_count(seed, n)
    white = model.medium.prepare(mask, model.spec).float()[:3].mean(0)
    if not white.any():
        raise Error("the mask has nothing white, so nothing would be drawn anew; paint what is to change white")
    pixels = model.medium.prepare(value, model.spec).float()
    redraw = adaptive_max_pool2d(white[None], model.prior.config.shape[1:])[0] > 0
    drawn = _redrawing(model, known, redraw, n, seed, on_step)
    info = {"inpaints": round(float((white > 0).float().mean()), 4)}

    def mixed(found: Sequence[Tensor]) -> list[Tensor]:
        return [torch.lerp(pixels, one.cpu().clamp(0, 1), white) for one in found]

    return _finished(model, value, drawn, prompt, settings, n, seed, info, (white == 0).numpy(), mixed)


def extend(
    model: Any,
    value: Any,
    known: Tensor,
    *,
    prompt: Prompt | None = None,
    keep: Number | None = None,
    seconds: Number | None = None,
    seed: SupportsIndex = 0,
    n: SupportsIndex = 1,
    on_step: OnStep | None = None,
    **settings: Any,
) -> list[Any]:
    """See `editing.extend`; known: `value` as the prior knows it."""
    _check_pictures(model, "which have no length in time to go on in")
    if seconds is not None:
        raise Error(f"{model.name} makes {model.medium.nouns}, which have no length in time; leave seconds out")
    n, seed = check_count(seed, n)
    share = 0.5 if keep is None else number(keep, "what is kept")
    rows = known.shape[-2]
    kept = round(share * rows) if 0 <= share <= 1 else 0
    if not 0 < kept < rows:
        raise Error(
            f"{share:g} of the height is to be kept; this model makes pictures in {rows} rows and keeps {1 / rows:.3g} "
            f"to {1 - 1 / rows:.3g} of it; give --keep in that range"
        )
    if "inpaint" in model.prior.verbs:
        redraw = (torch.arange(rows) >= kept)[:, None].expand(known.shape[-2:])
        drawn = _redrawing(model, known, redraw, n, seed, on_step)
    elif model.prior.config.by_rows:
        drawn = _going_on(model, known[:kept], n, seed, on_step)
    else:
        raise ModelError(
            f"{model.name} makes pictures column by column, and rows are kept; give a model that goes by rows"
        )
    high, wide = model.gives.shape[-2:]
    where = np.repeat((np.arange(high) < high * kept // rows)[:, None], wide, axis=1)
    info = {"extends": f"{kept / rows:.3g} of the height"}
    return _finished(model, value, drawn, prompt, settings, n, seed, info, where)


def _check_pictures(model: Any, why: str) -> None:
    if len(model.spec.shape) != 3 or model.medium.paste is None:
        raise ModelError(f"{model.name} makes {model.medium.nouns}, {why}; give a model of pictures")


def _redrawing(
    model: Any, known: Tensor, redraw: Bool[Tensor, "rows columns"], n: int, seed: int, on_step: OnStep | None
) -> Draw:
    """By a prior that fills in any places."""

    def draw(cond: Any, how: dict[str, Any]) -> tuple[Tensor, Tensor]:
        made: tuple[Tensor, Tensor] = model.prior.inpaint(
            known, redraw, n, cond=cond, seed=seed, on_step=on_step, **how
        )
        return made

    return draw


def _going_on(model: Any, begun: Tensor, n: int, seed: int, on_step: OnStep | None) -> Draw:
    """By a prior that makes one row after another."""

    def draw(cond: Any, how: dict[str, Any]) -> tuple[Tensor, Tensor]:
        many, start = None if cond is None else cond.repeat(n), begun.expand(n, -1, -1)
        made: tuple[Tensor, Tensor] = model.prior.sample(
            many, range(seed, seed + n), start=start, on_step=on_step, **how
        )
        return made

    return draw


def _finished(
    model: Any,
    value: Any,
    draw: Draw,
    prompt: Prompt | None,
    settings: dict[str, Any],
    n: int,
    seed: int,
    info: dict[str, Any],
    where: Bool[np.ndarray, "height width"],
    mixed: Callable[[Sequence[Tensor]], Sequence[Tensor]] = lambda found: found,
) -> list[Any]:
    """What was drawn, as values, with the pixels of `value` where `where` is True. mixed: what is done to it first."""
    how = model.sampling(settings if prompt is not None else {**settings, "guidance": 1.0})
    with torch.inference_mode():
        cond = None if prompt is None else model.condition(prompt)
        made = mixed(model.decoded(*draw(cond, how.model_dump())))
    values = model.finished(made, seed, {**info, **model.info(prompt, how)})
    return [model.medium.paste(one, value, where, model.gives) for one in values]
