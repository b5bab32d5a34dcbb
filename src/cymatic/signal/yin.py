"""How periodic is each frame, and with which period? YIN (de Cheveigné and Kawahara, 2002), for many frames at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

DIP = 0.15  # the first lag whose difference dips below this is the period
SILENT = 1e-9  # mean differences far below this are rounding, and no sound


def difference(frames: Float[Tensor, "*batch samples"], longest: int) -> Float[Tensor, "*batch lags"]:
    """`d(lag) = sum_j (x_j - x_{j + lag})^2` over the first `samples - longest` samples, lags 0 to `longest`.

    By the Fourier transform: the two energies less twice the correlation.
    """
    window, samples = frames.shape[-1] - longest, frames.shape[-1]
    # As long as the frame is long enough: what wraps around lands beyond `longest`.
    head = torch.fft.rfft(frames[..., :window], samples)
    together = torch.fft.irfft(head.conj() * torch.fft.rfft(frames), samples)[..., : longest + 1]
    squares = frames.square()
    first = squares[..., :window].sum(-1, keepdim=True)
    # What comes into the window with each lag, less what goes: no sum is longer than a window.
    moved = pad((squares[..., window:] - squares[..., :longest]).cumsum(-1), (1, 0))
    return torch.sub(moved.add_(2 * first), together, alpha=2).clamp_min_(0)  # rounding may leave less than nothing


def normalised(differences: Float[Tensor, "*batch lags"]) -> Float[Tensor, "*batch lags"]:
    """`d'(lag) = d(lag) / mean of d(1) to d(lag)`, and 1 at lag 0 and in silence: a period is a dip towards 0."""
    lags = torch.arange(1, differences.shape[-1], device=differences.device)
    mean = differences[..., 1:].cumsum(-1).div_(lags)
    return pad((differences[..., 1:] + SILENT).div_(mean.add_(SILENT)), (1, 0), value=1.0)


def period(
    normal: Float[Tensor, "*batch lags"], shortest: int
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The lag (with fractions) of the first dip below `DIP`, else of the deepest dip, and how deep it goes: 0 is
    perfectly periodic, 1 not at all. Lags from `shortest` on; where none dips, the longest and 1."""
    inner = normal[..., shortest:-1]
    rising = inner >= normal[..., shortest + 1 :]
    dips = inner.masked_fill(rising.logical_or_(inner > normal[..., shortest - 1 : -2]), torch.inf)
    depth, deepest = dips.min(-1)
    lag = shortest + torch.where(depth < DIP, (dips < DIP).to(torch.uint8).argmax(-1), deepest)
    before, here, after = (normal.gather(-1, (lag + step)[..., None])[..., 0] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    # The vertex of the parabola through three points.
    shift = torch.where(bend > 0, 0.5 * (before - after) / bend.clamp_min(1e-12), 0.0)
    found = depth < torch.inf
    return (
        torch.where(found, lag + shift, float(normal.shape[-1])),
        torch.where(found, here - 0.25 * (before - after) * shift, 1.0),
    )
