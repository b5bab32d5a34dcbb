"""A mel as a vector of one size, whatever its length: for probes, neighbours and diversity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.media.sound import Sound
from cymatic.signal.mel import MelSpec, log_mel, to_log

LEVEL = 0.1  # root mean square to which sounds are brought before their mels are compared
RANGE = 60 / 20 * np.log(10)  # quieter than the loudest point by more than 60 dB counts as silence
FRAMES = 32  # of an outline


def levelled(mel: Float[Tensor, "mels frames"]) -> Float[Tensor, "mels frames"]:
    """The log mel with a mean power of 1, so that loudness is no cue."""
    return mel - (torch.logsumexp(2 * mel.flatten(), 0) - math.log(mel.numel())) / 2


def mel_outline(mel: Float[Tensor, "mels frames"]) -> Float[np.ndarray, " dim"]:
    """The levelled natural-log mel stretched to 32 frames: `mel_features` of a mel."""
    return aligned(levelled(mel), FRAMES)


def mel_statistics(mel: Float[Tensor, "mels frames"]) -> Float[np.ndarray, " dim"]:
    """Mean, spread, maximum, lower quartile and mean absolute step of each band, and the log of the length."""
    mel = levelled(mel)
    values = mel.clamp_min(float(mel.max()) - RANGE).numpy()
    steps = np.abs(np.diff(values, axis=1)).mean(1) if values.shape[1] > 1 else np.zeros(len(values))
    parts = [values.mean(1), values.std(1), values.max(1), np.quantile(values, 0.25, axis=1), steps]
    return np.concatenate([*parts, [math.log(values.shape[1])]])


def mel_features(sounds: Sequence[Sound], spec: MelSpec, *, frames: int = FRAMES) -> Float[np.ndarray, "sounds dim"]:
    """Length-aligned log-mels, flattened to `mels * frames` numbers for each sound.

    Each sound is mixed to one channel, resampled to `spec.rate` and brought to one level; its log-mel is clipped to the
    60 dB below its loudest point (so that digital silence is not far from a quiet room), stretched or squeezed to
    `frames` frames (linear interpolation, averaging where frames are lost), and divided by `sqrt(mels * frames)`. A
    distance is then the root mean square difference of two aligned log-mels in nepers (1 neper = 8.7 dB); length itself
    does not count.
    """
    return np.stack([sound_outline(sound, spec, frames) for sound in sounds]).astype(np.float32)


def sound_outline(sound: Sound, spec: MelSpec, frames: int = FRAMES) -> Float[np.ndarray, " dim"]:
    """One row of `mel_features`."""
    samples = sound.mono().resample(spec.rate).samples
    samples = samples * (LEVEL / max(float(np.sqrt(np.mean(samples**2))), 1e-8))
    return aligned(to_log(log_mel(torch.from_numpy(samples.astype(np.float32))[None], spec)[0], spec), frames)


def aligned(mel: Float[Tensor, "mels _"], frames: int) -> Float[np.ndarray, " dim"]:
    """What `mel_features` makes of one log-mel: clipped, fitted to `frames`, flattened; its level counts."""
    mel = mel.clamp_min(float(mel.max()) - RANGE)
    # Antialiased on the way down, plain linear interpolation on the way up.
    fitted = torch.nn.functional.interpolate(
        mel[None, None], size=(len(mel), frames), mode="bilinear", antialias=True, align_corners=False
    )
    return fitted.flatten().numpy() / (len(mel) * frames) ** 0.5
