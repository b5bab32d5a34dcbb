"""Continuous vectors -> codes of a finite set, and back."""

from cymatic.quantizers.finite import FiniteScalarQuantizer, LookupFreeQuantizer
from cymatic.quantizers.residual import ResidualQuantizer
from cymatic.quantizers.vector import VectorQuantizer

# Every kind that a codec may be built with.
QUANTIZERS = (VectorQuantizer, ResidualQuantizer, FiniteScalarQuantizer, LookupFreeQuantizer)
