"""Mel -> waveform of exactly frames x hop samples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimShape, GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN, MelGANConfig, MelGANShape
from cymatic.vocoders.vocos import Vocos, VocosConfig, VocosShape

Vocoder = GriffinLimVocoder | Vocos | MelGAN
VOCODERS: tuple[type[Vocoder], ...] = (GriffinLimVocoder, Vocos, MelGAN)  # every kind that a model folder may hold
VocoderConfig = Annotated[GriffinLimConfig | VocosConfig | MelGANConfig, Field(discriminator="kind")]
VocoderShape = Annotated[GriffinLimShape | VocosShape | MelGANShape, Field(discriminator="kind")]
