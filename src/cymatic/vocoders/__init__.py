"""Log mel -> waveform of exactly frames x hop samples."""

from cymatic.vocoders.griffin_lim import GriffinLimVocoder

VOCODERS = (GriffinLimVocoder,)  # every kind that a model folder may hold
