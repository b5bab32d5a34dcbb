"""Pictures changed a little from step to step: moved, zoomed, other colours, mirrored.

Nothing of it is on by itself, since left and right, place and colour may be what a caption says. The background stays
as it is, and what comes in from beyond the edge is background.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cymatic.data.reading import Example
from cymatic.data.settings import Augmentation
from cymatic.media.picture import PictureSpec
from cymatic.seeds import mixed
from cymatic.signal.spec import Spec

# What is another thing in a mirror: sides, and whatever is read.
SIDED = re.compile(
    r"\b(left|right|leftwards|rightwards|letters?|digits?|numbers?|numerals?|texts?|words?|writing|written|signs?|flags?|"
    r"arrows?|clocks?|o.clock|buttons?|keys?|keycaps?|maps?|notes?)\b",
    re.IGNORECASE,
)


class PictureAugmenter:
    """Changes pictures as `settings` say: a function of the example, the step and the place in its batch."""

    def __init__(self, settings: Augmentation, spec: PictureSpec, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.background = torch.tensor([*spec.background, *(0.0,) * (spec.shape[0] - 3)])[:, None, None]

    def __call__(self, one: Example, step: int, place: int) -> Example:
        """The example as it is met at `place` in the batch of `step`."""
        chance = torch.Generator().manual_seed(mixed(self.seed, step, place))
        settings = self.settings
        turn, scale, across, down = torch.rand(4, generator=chance).tolist()
        gains = torch.ones_like(self.background)  # alpha is no colour
        gains[:3] += settings.colour * (2 * torch.rand(3, 1, 1, generator=chance) - 1)
        away = one.target - self.background
        if settings.move or settings.zoom:
            zoom = 1 + settings.zoom * (2 * scale - 1)
            away = moved(away, zoom, settings.move * (2 * across - 1), settings.move * (2 * down - 1))
        if settings.flip and turn < 0.5 and not SIDED.search(one.caption):
            away = away.flip(-1)
        return replace(one, target=(away * gains + self.background).clamp(0, 1))


def moved(
    picture: Float[Tensor, "channels size size"], zoom: float, across: float, down: float
) -> Float[Tensor, "channels size size"]:
    """`zoom` times as large, moved to the right and down by shares of the side, zeros around it."""
    grid = torch.tensor([[[1 / zoom, 0.0, -2 * across / zoom], [0.0, 1 / zoom, -2 * down / zoom]]])
    places = F.affine_grid(grid, [1, *picture.shape], align_corners=False)
    return F.grid_sample(picture[None], places, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


def picture_augmenter(settings: Augmentation, spec: Spec, seed: int) -> PictureAugmenter | None:
    """What changes items of `spec`; None where they are no pictures, or nothing is to be changed."""
    if not isinstance(spec, PictureSpec) or not settings.changes_pictures:
        return None
    return PictureAugmenter(settings, spec, seed)
