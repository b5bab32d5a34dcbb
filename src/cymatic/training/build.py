"""A stage of a recipe -> a task, batches and what is held out. The one place where kinds of stages are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cymatic.training.builders.alignment import build_alignment
from cymatic.training.builders.autoencoder import build_autoencoder
from cymatic.training.builders.classification import build_classification
from cymatic.training.builders.prior import build_prior
from cymatic.training.builders.token import build_token
from cymatic.training.built import Built, Context

BUILDERS: dict[str, Callable[[Context, Any], Built]] = {
    "autoencoder": build_autoencoder,
    "prior": build_prior,
    "alignment": build_alignment,
    "classification": build_classification,
    "token": build_token,
}


def build(context: Context) -> Built:
    """The stage `context.name`, ready for the loop. What is open in the recipe is planned here; a stage that is resumed
    has its plan already, and its weights, too, where it came as far as to write some. How captions were read from names
    becomes part of the recipe, so that files which come later don't change that.

    Raises Error and ModelError as `load_examples` and the parts do.
    """
    built = BUILDERS[context.stage.task](context, context.stage)
    return replace(built, recipe=built.recipe.read_as(built.data.settings))
