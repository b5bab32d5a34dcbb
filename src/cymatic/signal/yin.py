"""How periodic is each frame, and with which period? YIN (de Cheveigné and Kawahara, 2002), for many frames at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

DIP = 0.15  # the first lag whose difference dips below this is the period
SILENT = 1e-9  # a mean difference below this is rounding, and no sound


def difference(frames: Float[Tensor, "*batch samples"], longest: int) -> Float[Tensor, "*batch lags"]:
    """`d(lag) = sum_j (x_j - x_{j + lag})^2` over the first `samples - longest` samples, lags 0 to `longest`.

    By the Fourier transform: the two energies less twice the correlation.
    """
    window, samples = frames.shape[-1] - longest, frames.shape[-1]
    # As long as the frame is long enough: what wraps around lands beyond `longest`.
    head = torch.fft.rfft(frames[..., :window], samples)
    together = torch.fft.irfft(head.conj() * torch.fft.rfft(frames), samples)[..., : longest + 1]
    squares = frames.square()
    # Added up to both sides of the first window's end, so that no sum is longer than a window.
    gone, come = squares[..., :longest].cumsum(-1), squares[..., window:].cumsum(-1)
    first = squares[..., :window].sum(-1, keepdim=True)
    energies = torch.cat([first, first + come - gone], -1)
    return (energies[..., :1] + energies - 2 * together).clamp_min(0)  # rounding may leave less than nothing


def normalised(differences: Float[Tensor, "*batch lags"]) -> Float[Tensor, "*batch lags"]:
    """`d'(lag) = d(lag) / mean of d(1) to d(lag)`, and 1 at lag 0 and in silence: a period is a dip towards 0."""
    lags = torch.arange(1, differences.shape[-1], device=differences.device)
    mean = differences[..., 1:].cumsum(-1) / lags
    rest = torch.where(mean > SILENT, differences[..., 1:] / mean.clamp_min(SILENT), 1.0)
    return pad(rest, (1, 0), value=1.0)


def period(
    normal: Float[Tensor, "*batch lags"], shortest: int
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The lag (with fractions) of the first dip below `DIP`, else of the deepest dip, and how deep it goes: 0 is
    perfectly periodic, 1 not at all. Lags from `shortest` on; where none dips, the longest and 1."""
    inner = normal[..., shortest:-1]
    dips = (inner <= normal[..., shortest - 1 : -2]) & (inner < normal[..., shortest + 1 :])
    deep = dips & (inner < DIP)
    deepest = torch.where(dips, inner, torch.inf).argmin(-1)
    lag = shortest + torch.where(deep.any(-1), deep.to(torch.uint8).argmax(-1), deepest)
    before, here, after = (normal.gather(-1, (lag + step)[..., None])[..., 0] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    # The vertex of the parabola through three points.
    shift = torch.where(bend > 0, 0.5 * (before - after) / bend.clamp_min(1e-12), 0.0)
    found = dips.any(-1)
    return (
        torch.where(found, lag + shift, float(normal.shape[-1])),
        torch.where(found, here - 0.25 * (before - after) * shift, 1.0),
    )
