"""Signals -> a coarse grid of codes, and back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig
from cymatic.codecs.waveform import WaveformCodec, WaveformCodecConfig

Codec = SpectrogramCodec | WaveformCodec
CODECS: tuple[type[Codec], ...] = (SpectrogramCodec, WaveformCodec)  # every kind that a model folder may hold
CodecConfig = Annotated[SpectrogramCodecConfig | WaveformCodecConfig, Field(discriminator="kind")]
