"""Did the model memorise? Does it vary? Distances between generated, held-out and training sounds of one caption.

A model that copies its training clips lands nearer to them than new recordings of the same speaker do; a model that
has collapsed generates one clip again and again. Distances are Euclidean, between feature vectors of either kind: a
judge's embedding (`cymatic.evaluation.classifiers.Judge.embed`) or `mel_features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.errors import Error
from cymatic.evaluation.diversity import by_caption, distances, diversity
from cymatic.media.sound import Sound
from cymatic.signal.mel import MelSpec, log_mel, to_log

LEVEL = 0.1  # root mean square to which sounds are brought before their mels are compared
RANGE = 60 / 20 * np.log(10)  # quieter than the loudest point by more than 60 dB counts as silence


@dataclass(frozen=True)
class Neighbours:
    """What `neighbours` found; distances in the units of the features."""

    generated: float  # median distance from a generated sound to the nearest training sound of its caption
    valid: float  # the same for real held-out sounds
    ratio: float  # generated / valid: 1 for new takes, towards 0 for copies, above 1 for sounds unlike any real one
    threshold: float  # the 1st percentile of the held-out sounds' distances
    nearer: float  # share of generated sounds nearer than the threshold: 0.01 for new takes, 1 for copies
    diversity: float  # mean pairwise distance among generated over that among training sounds, averaged over captions


def neighbours(
    generated: Float[np.ndarray, "generated dim"],
    generated_captions: Sequence[str],
    valid: Float[np.ndarray, "valid dim"],
    valid_captions: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_captions: Sequence[str],
) -> Neighbours:
    """Compares generated and held-out sounds with the training sounds of the same caption.

    For the comparison to be fair, let the held-out sounds pass through the vocoder that made the generated ones.
    Diversity counts captions that have at least two sounds on both sides, and is NaN where there is none.
    Raises Error for no sounds or for a caption without training sounds.
    """
    to_train = nearest(generated, generated_captions, train, train_captions)
    usual = nearest(valid, valid_captions, train, train_captions)
    threshold = float(np.percentile(usual, 1))
    median = float(np.median(usual))
    return Neighbours(
        generated=float(np.median(to_train)),
        valid=median,
        ratio=float(np.median(to_train)) / max(median, 1e-12),
        threshold=threshold,
        nearer=float(np.mean(to_train < threshold)),
        diversity=diversity(generated, generated_captions, train, train_captions),
    )


def nearest(
    queries: Float[np.ndarray, "queries dim"],
    query_captions: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_captions: Sequence[str],
) -> Float[np.ndarray, " queries"]:
    """For each query the distance to the nearest of `train` with the same caption.

    Raises Error for no queries or for a caption without training sounds.
    """
    if not len(queries):
        raise Error("there are no sounds to find neighbours for; give at least one")
    rows = by_caption(train_captions)
    found = np.empty(len(queries))
    for caption, asked in by_caption(query_captions).items():
        if caption not in rows:
            raise Error(f'no training sound has the caption "{caption}", so nothing can be its neighbour')
        found[asked] = distances(queries[asked], train[rows[caption]]).min(axis=1)
    return found


def mel_features(sounds: Sequence[Sound], spec: MelSpec, *, frames: int = 32) -> Float[np.ndarray, "sounds dim"]:
    """Length-aligned log-mels, flattened to `mels * frames` numbers for each sound.

    Each sound is mixed to one channel, resampled to `spec.rate` and brought to one level; its log-mel is clipped to the
    60 dB below its loudest point (so that digital silence is not far from a quiet room), stretched or squeezed to
    `frames` frames (linear interpolation, averaging where frames are lost), and divided by `sqrt(mels * frames)`. A
    distance is then the root mean square difference of two aligned log-mels in nepers (1 neper = 8.7 dB); length itself
    does not count.
    """
    return np.stack([_aligned(sound, spec, frames) for sound in sounds]).astype(np.float32)


def _aligned(sound: Sound, spec: MelSpec, frames: int) -> Float[np.ndarray, " dim"]:
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
