"""SpecVQGAN's ten seconds: what its weights and published mels take a recording to be (arXiv 2110.08791)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.errors import Error
from cymatic.media.sound import Sound
from cymatic.signal.mel import PRESETS, log_mel

SPEC = PRESETS["specvqgan-22k"]
SAMPLES = 220_500  # ten seconds
FRAMES = 860  # of a published mel; ten seconds have 862
CROP = 848  # frames that the codec reads: whole columns of 16


def ten_seconds(sound: Sound) -> Sound:
    """One channel at 22,050 Hz of exactly 220,500 samples: cut, or ended with silence; levels stay as recorded.

    SpecVQGAN takes a file's samples at whatever rate they have; here another rate is resampled.
    """
    samples = sound.mono().resample(SPEC.rate).samples[:, :SAMPLES]
    return Sound(np.pad(samples, ((0, 0), (0, SAMPLES - samples.shape[1]))), SPEC.rate, sound.info)


def published_mel(sound: Sound) -> Float[Tensor, "80 860"]:
    """The mel in 0..1 that SpecVQGAN's feature extraction gives: the first 860 frames of `ten_seconds`."""
    return log_mel(torch.from_numpy(ten_seconds(sound).samples)[None], SPEC)[0, :, :FRAMES]


def middle(tensor: Tensor, length: int = CROP, dim: int = -1) -> Tensor:
    """`length` entries from the middle of a dimension (of an odd rest the larger part is at the end): 848 of a mel's
    860 frames, 212 of 215 frames of video.

    Raises Error where there are fewer.
    """
    held = tensor.shape[dim]
    if held < length:
        raise Error(f"a clip has {held} frames where {length} are to be cut from its middle; give longer clips")
    return tensor.narrow(dim, (held - length) // 2, length)
