"""Continuous vectors -> codes of a finite set, and back."""

from cymatic.quantizers.vector import VectorQuantizer

QUANTIZERS = (VectorQuantizer,)  # every kind that a codec may be built with
