"""Continuous vectors -> codes of a finite set, and back. A quantizer is added by its name in `LevelsQuantizer` or
`GridQuantizer`, or in both."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field

from cymatic.config import Config
from cymatic.quantizers.finite import FiniteScalarQuantizer, LookupFreeQuantizer
from cymatic.quantizers.gaussian import GaussianBottleneck
from cymatic.quantizers.residual import ResidualQuantizer
from cymatic.quantizers.vector import VectorQuantizer

# What a codec with levels of codes nests, and what one with a grid of codes does.
LevelsQuantizer = ResidualQuantizer | FiniteScalarQuantizer | LookupFreeQuantizer | GaussianBottleneck
GridQuantizer = VectorQuantizer | ResidualQuantizer | FiniteScalarQuantizer | LookupFreeQuantizer
Quantizer = LevelsQuantizer | GridQuantizer
QUANTIZERS: tuple[type[Quantizer], ...] = get_args(Quantizer)  # every kind that a codec may be built with

if TYPE_CHECKING:  # the unions are those above, whatever they hold
    LevelsQuantizerConfig = Any
    GridQuantizerConfig = Any
else:
    LevelsQuantizerConfig, GridQuantizerConfig = (
        Annotated[reduce(or_, (kind.config_class for kind in get_args(union))), Field(discriminator="kind")]
        for union in (LevelsQuantizer, GridQuantizer)
    )


def build_quantizer(config: Config) -> Quantizer:
    """The quantizer of QUANTIZERS that `config` describes."""
    kind: Any = next(kind for kind in QUANTIZERS if isinstance(config, kind.config_class))
    built: Quantizer = kind(config)
    return built
