"""Mel -> waveform of exactly frames x hop samples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN, MelGANConfig
from cymatic.vocoders.vocos import Vocos, VocosConfig

Vocoder = GriffinLimVocoder | Vocos | MelGAN
VOCODERS: tuple[type[Vocoder], ...] = (GriffinLimVocoder, Vocos, MelGAN)  # every kind that a model folder may hold
TRAINED_VOCODERS: tuple[type[Vocos | MelGAN], ...] = (Vocos, MelGAN)  # those that a recipe trains
VocoderConfig = Annotated[GriffinLimConfig | VocosConfig | MelGANConfig, Field(discriminator="kind")]
