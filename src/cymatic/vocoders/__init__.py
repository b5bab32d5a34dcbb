"""Mel -> waveform of exactly frames x hop samples."""

from cymatic.vocoders.griffin_lim import GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN
from cymatic.vocoders.vocos import Vocos

Vocoder = GriffinLimVocoder | Vocos | MelGAN
VOCODERS = (GriffinLimVocoder, Vocos, MelGAN)  # every kind that a model folder may hold
