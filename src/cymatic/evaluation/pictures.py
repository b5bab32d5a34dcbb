"""Pictures under an evaluation: what is lost between two of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cymatic.evaluation.domain import Domain, Losses
from cymatic.evaluation.intervals import bootstrap
from cymatic.media.picture import PICTURE, Picture, PictureSpec

MOST_DECIBELS = 99.0  # of two pictures that are the same


def pictures_by(spec: PictureSpec) -> Domain:
    """Pictures, compared by their outlines; what is lost is measured in the size and on the background of `spec`."""
    return Domain(
        "outline",
        PICTURE.outline,
        losses=lambda originals, again: picture_losses(originals, again, spec),
        restored=lambda picture: picture,
    )


def psnr(original: Float[np.ndarray, "*shape"], again: Float[np.ndarray, "*shape"]) -> float:
    """Peak signal-to-noise ratio of values in 0..1, in dB: `-10 log10 mean (a - b)^2`, at most 99."""
    error = float(np.mean((original.astype(np.float64) - again) ** 2))
    return MOST_DECIBELS if error <= 10 ** (-MOST_DECIBELS / 10) else -10 * float(np.log10(error))


def picture_psnr(original: Picture, again: Picture, spec: PictureSpec) -> float:
    """`psnr` of two pictures as `spec` has them; what was made is resized where it has another size."""
    first, other = (picture.on(spec.background).square(spec.size).pixels for picture in (original, again))
    return psnr(first, other)


def picture_losses(originals: Sequence[Picture], again: Sequence[Picture], spec: PictureSpec) -> Losses:
    """PSNR: the mean over pictures."""
    found = [picture_psnr(one, other, spec) for one, other in zip(originals, again, strict=True)]
    return {"psnr": bootstrap(np.mean, np.array(found))} if found else {}
