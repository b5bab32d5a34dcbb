"""Pictures under an evaluation: what is lost between two of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cymatic.codecs.squares import signal_to_noise
from cymatic.evaluation.domain import Domain, Losses
from cymatic.evaluation.intervals import bootstrap
from cymatic.media.picture import PICTURE, Picture, PictureSpec


def pictures_by(spec: PictureSpec) -> Domain:
    """Pictures, compared by their outlines; what is lost is measured in the size and on the background of `spec`."""
    return Domain(
        "outline",
        PICTURE.outline,
        losses=lambda originals, again: picture_losses(originals, again, spec),
        restored=lambda picture: picture,
        noun=PICTURE.noun,
        nouns=PICTURE.nouns,
    )


def psnr(original: Picture, again: Picture, spec: PictureSpec) -> float:
    """The peak signal-to-noise ratio in dB of two pictures as `spec` has them (see `codecs.squares.signal_to_noise`);
    what was made is resized where it has another size."""
    made, wanted = (PICTURE.prepare(picture, spec)[None] for picture in (again, original))
    return float(signal_to_noise(made, wanted))


def picture_losses(originals: Sequence[Picture], again: Sequence[Picture], spec: PictureSpec) -> Losses:
    """PSNR: the mean over pictures."""
    found = [psnr(one, other, spec) for one, other in zip(originals, again, strict=True)]
    return {"psnr": bootstrap(np.mean, np.array(found))} if found else {}
