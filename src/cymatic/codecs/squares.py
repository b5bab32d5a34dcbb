"""What codecs of pictures of one size share: what they refuse, and how near two pictures are in dB."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.errors import Error
from cymatic.latent import Latent
from cymatic.media.picture import PictureSpec


def check_squares(
    pictures: Float[Tensor, "batch channels h w"], lengths: Int[Tensor, " batch"] | None, spec: PictureSpec
) -> Int[Tensor, " batch"]:
    """Their widths. Raises Error for pictures of another size than `spec` has, and for other `lengths`."""
    if pictures.shape[1:] != spec.shape:
        raise Error(f"pictures of {list(pictures.shape[1:])} were given; this codec reads {list(spec.shape)}")
    if lengths is not None and bool((lengths != spec.size).any()):
        raise Error(f"lengths of {lengths.tolist()} were given for pictures that are {spec.size} pixels wide each")
    return torch.full((len(pictures),), spec.size, device=pictures.device)


def check_latent(latent: Latent, shape: tuple[int, int, int], size: int) -> None:
    """Raises Error for a latent that is no grid of `shape` (numbers, rows, columns), or not of pictures of `size`."""
    if latent.layout != "grid" or latent.z.shape[1:] != shape or bool((latent.lengths != size).any()):
        raise Error(
            f'a latent "{latent.layout}" of {list(latent.z.shape)} for widths of {latent.lengths.tolist()} was given; '
            f'this codec reads a "grid" of {shape[0]} numbers, {shape[1]} rows and {shape[2]} columns for {size}'
        )


@torch.no_grad()
def signal_to_noise(
    made: Float[Tensor, "batch channels size size"], wanted: Float[Tensor, "batch channels size size"]
) -> Float[Tensor, ""]:
    """The peak signal-to-noise ratio of pictures in 0..1, `-10 log10 mean (made - wanted)^2` in dB; a mean over
    pictures, and 100 dB at most."""
    return -10 * (made - wanted).square().mean((1, 2, 3)).clamp_min(1e-10).log10().mean()
