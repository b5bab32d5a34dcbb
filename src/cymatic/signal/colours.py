"""Colours by how they look: OKLab, in which equal steps look equal, and what of it a screen can show."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Colours = Float[np.ndarray, "*shape 3"]

# Ottosson (2020, "A perceptual color space for image processing"): linear sRGB -> cones, their cube roots -> OKLab.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
FROM_CONES, FROM_LAB = np.linalg.inv(TO_CONES), np.linalg.inv(TO_LAB)
HALVINGS = 20  # of the chroma's interval: to a millionth


def oklab(
    lightness: Float[np.ndarray, " n"], chroma: Float[np.ndarray, " n"], hue: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 3"]:
    """OKLab of OKLCH: `(L, C cos h, C sin h)`; lightness 0 to 1, chroma 0 (grey) to about 0.3, hue in degrees."""
    angle = np.radians(hue)
    return np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1)


def from_srgb(colours: Colours) -> Colours:
    """OKLab of sRGB values in 0..1."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((np.maximum(colours, 0) + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T


def to_srgb(colours: Colours) -> Colours:
    """sRGB values in 0..1 of OKLab. A colour that no screen has keeps its lightness and hue, and loses chroma."""
    shown = _linear(fitted(colours)).clip(0, 1)
    return np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** (1 / 2.4) - 0.055).clip(0, 1)


def fitted(colours: Colours) -> Colours:
    """OKLab colours with as much of their chroma as sRGB can show, and a lightness from 0 to 1."""
    lightness = np.clip(colours[..., :1], 0, 1)
    low, high = np.zeros_like(lightness), np.ones_like(lightness)
    whole = _shown(np.concatenate([lightness, colours[..., 1:]], -1))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = _shown(np.concatenate([lightness, middle * colours[..., 1:]], -1))
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.concatenate([lightness, np.where(whole, 1.0, low) * colours[..., 1:]], -1)


def difference(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """How different colours look: their distance in OKLab. 0.02 can just be seen; black and white are 1 apart."""
    return np.linalg.norm(a - b, axis=-1)


def _shown(colours: Colours) -> np.ndarray:
    linear = _linear(colours)  # near black, where 1e-9 already is a chroma of 0.002, the margin is small
    return np.all((linear > -1e-10) & (linear < 1 + 1e-6), axis=-1, keepdims=True)


def _linear(colours: Colours) -> Colours:
    return (colours @ FROM_LAB.T) ** 3 @ FROM_CONES.T
