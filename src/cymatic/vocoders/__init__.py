"""Log mel -> waveform of exactly frames x hop samples."""

from cymatic.vocoders.griffin_lim import GriffinLimVocoder
from cymatic.vocoders.vocos import Vocos

VOCODERS = (GriffinLimVocoder, Vocos)  # every kind that a model folder may hold
