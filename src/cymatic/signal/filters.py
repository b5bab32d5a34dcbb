"""Filters of waveforms that a gradient passes through: a low-pass, and when it opens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

EDGE = 0.1  # of the cut-off: how far above it all is gone
MARGIN = 1024  # samples of silence in between, where a transform of the whole goes round


def low_pass(
    waveform: Float[Tensor, "batch channels samples"], cut_off: float | Float[Tensor, " batch"], rate: int
) -> Float[Tensor, "batch channels samples"]:
    """What lies below `cut_off` Hz (one for all, or one for each item) as it is, and nothing from a tenth above it on.

    In between is half a cosine. No phase is moved. At half the rate and above, all is left as it is.
    """
    if not isinstance(cut_off, Tensor):
        if cut_off >= rate / 2:
            return waveform
        cut_off = torch.full((len(waveform),), cut_off)
    samples = waveform.shape[-1]
    length = samples + MARGIN
    hz = torch.fft.rfftfreq(length, 1 / rate, device=waveform.device)
    edge = cut_off.to(hz)[:, None, None]
    above = ((hz / edge - 1) / EDGE).clamp(0, 1)
    # No more than half the rate is there, so a cut-off there has no edge.
    keep = torch.where(edge >= rate / 2, 1.0, 0.5 + 0.5 * torch.cos(torch.pi * above))
    return torch.fft.irfft(torch.fft.rfft(waveform, n=length) * keep, n=length)[..., :samples]


def opening(step: int, steps: int, levels: int, rate: int, *, open_by: float = 0.5) -> float:
    """The cut-off in Hz of a low-pass over what a codec of `levels` levels is shown at `step` of `steps`.

    At first it is `5000 (1 + levels / 10)`, so deeper levels carry treble, as Lumen (audio_generation, 2023) has it for
    good; then it rises by equal ratios to half the rate, where it is when `open_by` of the steps are done.
    """
    top = rate / 2
    low = min(5000 * (1 + levels / 10), top)
    share = min(1.0, step / max(1.0, open_by * steps))
    return top if share == 1 else min(top, low * (top / low) ** share)
