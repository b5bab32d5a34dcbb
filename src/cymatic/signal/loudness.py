"""How loud a sound is: integrated loudness in LUFS and true peak in dBTP, after ITU-R BS.1770-4."""

from __future__ import annotations

import math

import numpy as np
import soxr
from jaxtyping import Float

from cymatic.quiet import quiet

# BS.1770-4 measures in blocks of 0.4 s.
BLOCK_SECONDS = 0.4
# BS.1770-4 annex 2: four times oversampling finds the peaks between samples to within 0.6 dB at 48 kHz.
OVERSAMPLING = 4


def integrated(samples: Float[np.ndarray, "channels samples"], rate: int) -> float:
    """Gated loudness in LUFS (ITU-R BS.1770-4); silence gives -inf.

    `L = -0.691 + 10 log10(sum_c G_c <y_c^2>)` over the K-weighted channels y, in 0.4 s blocks gated at -70 LUFS and at
    10 LU below the mean. A sound shorter than 0.4 s is repeated until it fills one block. Above five channels, where no
    weights G are defined, the mix to mono is measured; below 8 kHz, where the K filter does not fit, the sound is first
    resampled to 8 kHz.
    """
    import pyloudnorm  # brings in scipy, so not at import time

    if len(samples) > 5:
        samples = samples.mean(axis=0, keepdims=True)
    block = math.ceil(BLOCK_SECONDS * rate)
    if samples.shape[1] < block:
        samples = np.tile(samples, -(-block // samples.shape[1]))
    if rate < 8000:
        samples, rate = soxr.resample(samples.T, rate, 8000, quality="HQ").T, 8000
    if not samples.any():
        return -math.inf
    # "DeMan" is the filter of BS.1770-4 itself (pyloudnorm's default is 0.04 LU off at 1 kHz).
    # pyloudnorm takes the mean of no blocks and the logarithm of zero where every block lies below the gate.
    # It also changes the filters of warnings by itself, which threads must not do at once.
    with quiet(), np.errstate(all="ignore"):
        meter = pyloudnorm.Meter(rate, filter_class="DeMan", block_size=BLOCK_SECONDS)
        loudness = float(meter.integrated_loudness(samples.T))
    return loudness if math.isfinite(loudness) else -math.inf


def true_peak(samples: Float[np.ndarray, "channels samples"], rate: int) -> float:
    """Highest level between and at the samples in dBTP, four times oversampled (BS.1770-4 annex 2); silence: -inf."""
    peak = float(np.abs(samples).max())
    # As a stream, so that an hour of sound needs no four hours of memory.
    stream = soxr.ResampleStream(rate, OVERSAMPLING * rate, len(samples), dtype="float32", quality="HQ")
    step = max(1, 2**20 // len(samples))
    for start in range(0, samples.shape[1], step):
        block = np.ascontiguousarray(samples[:, start : start + step].T)
        above = stream.resample_chunk(block, last=start + step >= samples.shape[1])
        peak = max(peak, float(np.abs(above).max(initial=0)))
    return 20 * math.log10(peak) if peak > 0 else -math.inf
