"""Signals -> a coarse grid of codes, and back. A codec is added by its name in `Codec`."""

from __future__ import annotations

from typing import get_args

from cymatic.codecs.palette import PaletteCodec
from cymatic.codecs.picture import PictureCodec
from cymatic.codecs.spectrogram import SpectrogramCodec
from cymatic.codecs.waveform import WaveformCodec

Codec = SpectrogramCodec | WaveformCodec | PictureCodec | PaletteCodec
CODECS: tuple[type[Codec], ...] = get_args(Codec)  # every kind that a recipe trains and a model folder may hold
