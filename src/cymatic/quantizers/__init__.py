"""Continuous vectors -> codes of a finite set, and back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from cymatic.config import Config
from cymatic.quantizers.finite import (
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    LookupFreeQuantizer,
    LookupFreeQuantizerConfig,
)
from cymatic.quantizers.gaussian import GaussianBottleneck, GaussianBottleneckConfig
from cymatic.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig
from cymatic.quantizers.vector import VectorQuantizer, VectorQuantizerConfig

Quantizer = VectorQuantizer | ResidualQuantizer | FiniteScalarQuantizer | LookupFreeQuantizer | GaussianBottleneck
QUANTIZERS: tuple[type[Quantizer], ...] = (
    VectorQuantizer,
    ResidualQuantizer,
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    GaussianBottleneck,
)  # every kind that a codec may be built with

# What a codec with levels of codes nests, and what one with a grid of codes does.
LevelsQuantizer = ResidualQuantizer | FiniteScalarQuantizer | LookupFreeQuantizer | GaussianBottleneck
GridQuantizer = VectorQuantizer | FiniteScalarQuantizer | LookupFreeQuantizer
LevelsQuantizerConfig = Annotated[
    ResidualQuantizerConfig | FiniteScalarQuantizerConfig | LookupFreeQuantizerConfig | GaussianBottleneckConfig,
    Field(discriminator="kind"),
]
GridQuantizerConfig = Annotated[
    VectorQuantizerConfig | FiniteScalarQuantizerConfig | LookupFreeQuantizerConfig, Field(discriminator="kind")
]


def build_quantizer(config: Config) -> Quantizer:
    """The quantizer of QUANTIZERS that `config` describes."""
    kind: Any = next(kind for kind in QUANTIZERS if isinstance(config, kind.config_class))
    built: Quantizer = kind(config)
    return built
