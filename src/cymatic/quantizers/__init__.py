"""Continuous vectors -> codes of a finite set, and back."""

from cymatic.quantizers.residual import ResidualQuantizer
from cymatic.quantizers.vector import VectorQuantizer

QUANTIZERS = (VectorQuantizer, ResidualQuantizer)  # every kind that a codec may be built with
