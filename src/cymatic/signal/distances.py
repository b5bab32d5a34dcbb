"""How far apart two sounds are, as functions that a gradient passes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from cymatic.nn.linear import linear
from cymatic.signal.magnitudes import magnitudes
from cymatic.signal.mel import MelSpec, filterbank, framed, from_magnitude

# Window in samples and mels: each halving of the window halves what can be told apart in frequency.
SCALES = ((2048, 160), (1024, 80), (512, 40), (256, 20), (128, 10))
FLOOR = 1e-5  # magnitudes below this are silence
FOLLOWED = 6000  # Hz up to which phases count
WHISPER, QUIET = 1e-4, 1e-3  # energies and mean roots of magnitudes below these have no phase worth following
AT_ONCE = 2**17  # samples: few enough that freed memory stays with the process, enough to make up for the calls


def multi_scale_mel_distance(
    a: Float[Tensor, "batch 1 samples"], b: Float[Tensor, "batch 1 samples"], rate: int
) -> Float[Tensor, ""]:
    """Mean absolute difference of natural-log mels, averaged over five windows with hops of a quarter.

    Several windows, because each is blind to what is finer than itself in time or in frequency (Kumar et al., 2023,
    arXiv 2306.06546, section 3.4). A gradient passes, but no gradient of a gradient.
    """
    specs = [MelSpec(rate=rate, n_fft=window, hop=window // 4, mels=mels, fmax=rate / 2) for window, mels in SCALES]

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([(_log_mel(a, spec) - _log_mel(b, spec)).abs().mean() for spec in specs]).mean()

    return by_items(distance, a, b)


def loudness_distance(
    real: Float[Tensor, "batch 1 samples"],
    fake: Float[Tensor, "batch 1 samples"],
    windows: Sequence[int] = (1024, 256),
) -> Float[Tensor, ""]:
    """`mean |sqrt |R| - sqrt |F|| / mean sqrt |R|` of each item's magnitudes, averaged over windows and items.

    What is loud counts more here, as it does for whoever tries to understand speech; logarithms let a whisper of noise
    between two words count as much as the words.
    """

    def distance(real: Tensor, fake: Tensor) -> Tensor:
        terms = []
        for window in windows:
            r, f = (magnitudes(_framed(x, window), window, window // 4).add(FLOOR).sqrt() for x in (real, fake))
            terms.append(((r - f).abs().mean((1, 2)) / r.mean((1, 2))).mean())
        return torch.stack(terms).mean()

    return by_items(distance, real, fake)


def phase_distance(
    real: Float[Tensor, "batch 1 samples"],
    fake: Float[Tensor, "batch 1 samples"],
    rate: int,
    windows: Sequence[int] = (1024, 256),
) -> Float[Tensor, ""]:
    """`mean |R' - F'| / mean |R'|` of complex spectra up to 6 kHz, each bin divided by the root of its magnitude,
    averaged over windows and items: near 0 where both waves are one, and above 1 where only their loudness is.

    Real and imaginary parts are compared each on its own, as in Braun and Tashev (2020, arXiv 2009.12286). Above 6 kHz
    ears follow no phase.
    """

    def distance(real: Tensor, fake: Tensor) -> Tensor:
        terms = []
        for window in windows:
            shape = torch.hann_window(window, device=real.device)
            bins = max(1, min(window // 2 + 1, round(window * FOLLOWED / rate)))
            r, f = (
                torch.view_as_real(
                    torch.fft.rfft(_framed(x, window).unfold(1, window, window // 4) * shape)[..., :bins]
                )
                for x in (real, fake)
            )
            r, f = (x * (x.square().sum(-1, keepdim=True) + WHISPER) ** -0.25 for x in (r, f))
            terms.append(((r - f).abs().mean((1, 2, 3)) / r.abs().mean((1, 2, 3)).clamp_min(QUIET)).mean())
        return torch.stack(terms).mean()

    return by_items(distance, real, fake)


def by_items(
    distance: Callable[[Tensor, Tensor], Tensor], a: Float[Tensor, "batch *shape"], b: Float[Tensor, "batch *shape"]
) -> Float[Tensor, ""]:
    """`distance(a, b)` for one that is a mean over the items of a batch, a few items at a time.

    Each few are walked through forwards and at once backwards, so what lies between is small, near and soon gone.
    """
    flags = [torch.is_grad_enabled() and x.requires_grad for x in (a, b)]
    size = max(1, AT_ONCE // max(1, a[0].numel())) if a.device.type == "cpu" else len(a)
    total, found = a.new_zeros(()), []
    for few in zip(a.split(size), b.split(size), strict=True):
        leaves = [x.detach().requires_grad_(flag) for x, flag in zip(few, flags, strict=True)]
        value = distance(*leaves) * (len(leaves[0]) / len(a))
        total += value.detach()
        if any(flags):
            found.append(torch.autograd.grad(value, [leaf for leaf in leaves if leaf.requires_grad]))
    asked = [x for x, flag in zip((a, b), flags, strict=True) if flag]
    for x, gradients in zip(asked, zip(*found, strict=True), strict=True):
        total = total + ((x - x.detach()) * torch.cat(gradients)).sum()
    return total


def _log_mel(waveform: Float[Tensor, "batch 1 samples"], spec: MelSpec) -> Float[Tensor, "batch frames mels"]:
    with torch.autocast(waveform.device.type, enabled=False):  # a mel is no place to save digits
        size = magnitudes(framed(waveform[:, 0], spec), spec.n_fft, spec.hop)
        return from_magnitude(linear(size, torch.from_numpy(filterbank(spec)).to(size)), spec)


def _framed(waveform: Float[Tensor, "batch 1 samples"], window: int) -> Float[Tensor, "batch padded"]:
    """Extended with silence so that a frame looks at the middle of each quarter of a window, as mels do."""
    hop, samples = window // 4, waveform.shape[-1]
    left = (window - hop) // 2
    return pad(waveform[:, 0], (left, window - hop - left + -samples % hop))
