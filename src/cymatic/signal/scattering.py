"""A distance of pictures that looks at texture before exact places, without a trained network.

Local energies of oriented wavelets: the first order of a scattering transform (Bruna and Mallat, 2013, arXiv
1203.1513), as a loss of networks that make pictures in Angles and Mallat (2018, arXiv 1805.06621). Blur takes energy
away at fine scales, and costs; moving a texture by a pixel leaves the energies where they are, and costs little,
where a distance of pixels would say the opposite.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

ORIENTATIONS = 4
SIDE = 7  # pixels of a filter
FREQUENCY = 0.75 * math.pi  # radians a pixel, the middle of the finest octave
WIDTH = 1.1  # pixels, the standard deviation of a filter's window
AROUND = 4  # pixels at each scale over which an energy is taken
SCALES = 4
LEAST = 16  # pixels that a scale must have left
SMOOTH = 1e-3  # of a modulus near zero, so that its gradient is one


def scattering_distance(
    made: Float[Tensor, "batch channels h w"], wanted: Float[Tensor, "batch channels h w"]
) -> Float[Tensor, ""]:
    """`mean over scales j of mean |S_j made - S_j wanted|` with `S_j x = |x_j * psi| * box`.

    `x_j` is the picture halved j times, `psi` four Gabor filters (complex, without a mean) of an octave at different
    orientations, and the box takes the mean over 4 x 4 places, half of that apart. Up to four scales, as long as a
    side has 16 pixels. In the pictures' own unit. It does not see colours that do not change: give a distance of
    pixels beside it.
    """
    filters = _filters(made)
    total = made.new_zeros(())
    scales = 0
    while scales < SCALES and (not scales or min(made.shape[-2:]) >= LEAST):
        total = total + (_energies(made, filters) - _energies(wanted, filters)).abs().mean()
        made, wanted = avg_pool2d(made, 2), avg_pool2d(wanted, 2)
        scales += 1
    return total / scales


def _energies(x: Tensor, filters: Tensor) -> Tensor:
    """Local energies `[batch * channels, orientations, h', w']`; beyond an edge the picture is mirrored."""
    each = x.flatten(0, 1)[:, None]
    mode = "reflect" if min(x.shape[-2:]) > SIDE // 2 else "replicate"
    waves = conv2d(pad(each, (SIDE // 2,) * 4, mode=mode), filters)
    real, imaginary = waves.chunk(2, dim=1)
    modulus = (real.square() + imaginary.square() + SMOOTH**2).sqrt()
    return avg_pool2d(modulus, min(AROUND, *x.shape[-2:]), AROUND // 2)


def _filters(like: Tensor) -> Float[Tensor, "filters 1 side side"]:
    """Real parts, then imaginary parts, of the Gabor filters; absolute values of a filter add up to about one."""
    at = torch.arange(SIDE, dtype=like.dtype, device=like.device) - SIDE // 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    window = (-(x.square() + y.square()) / (2 * WIDTH**2)).exp()
    window = window / window.sum()
    waves = []
    for turn in range(ORIENTATIONS):
        angle = math.pi * turn / ORIENTATIONS
        phase = FREQUENCY * (math.cos(angle) * x + math.sin(angle) * y)
        # The window's own share is taken away, so that a flat picture gives nothing.
        even = window * phase.cos()
        waves.append((even - window * even.sum(), window * phase.sin()))
    return torch.stack([part for parts in zip(*waves, strict=True) for part in parts])[:, None]
