"""The sets of discriminators that a recipe may name, and what sets one apart from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from cymatic.discriminators.patch import PatchSet
from cymatic.discriminators.sets import (
    DiscriminatorSet,
    DiscriminatorSetConfig,
    lumen,
    melgan_scales,
    spectrograms_and_periods,
)


@dataclass(frozen=True)
class DiscriminatorKind:
    """build: from the width, the width of a condition (None: there is none) and the channels of a picture. waveforms:
    whether they read waveforms, rather than pictures and mels. conditional: whether they may know the caption.
    doubling: whether their width is a power of two."""

    build: Callable[[int, int | None, int], nn.Module]
    waveforms: bool = True
    conditional: bool = False
    doubling: bool = False


def _of(config: Callable[[int], DiscriminatorSetConfig]) -> Callable[[int, int | None, int], nn.Module]:
    return lambda width, cond_dim, channels: DiscriminatorSet(config(width))


DISCRIMINATORS: dict[str, DiscriminatorKind] = {
    "patch": DiscriminatorKind(
        lambda width, cond_dim, channels: PatchSet(width, channels, cond_dim), waveforms=False, conditional=True
    ),
    "spectrograms": DiscriminatorKind(_of(lambda width: spectrograms_and_periods(width=width))),
    "scales": DiscriminatorKind(_of(lambda width: melgan_scales(width=width)), doubling=True),
    "lumen": DiscriminatorKind(_of(lambda width: lumen())),
}
