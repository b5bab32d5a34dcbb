"""Encoders that come to lie in one space, from items that have all of their roles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cymatic.data.batches import CAPTION, Bucketed
from cymatic.data.examples import Reading, load_examples
from cymatic.encoders import ENCODERS
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part
from cymatic.hub.pipeline_file import read_pipeline
from cymatic.pipelines.load import find_model
from cymatic.seeds import mixed
from cymatic.training.built import Built, Context
from cymatic.training.plan import describe_data, parameters
from cymatic.training.stages import AlignmentStage
from cymatic.training.tasks.alignment import AlignmentTask

ENCODER_OF: dict[type, type[nn.Module]] = {encoder.config_class: encoder for encoder in ENCODERS}
FREE = ("mel", "picture", "dropout")  # what no weight depends on


def build_alignment(context: Context, stage: AlignmentStage) -> Built:
    """Raises Error where no role but the captions is there, and as `load_examples`, `take_over` and the parts
    do."""
    readings = [Reading(role, config.reads) for role, config in stage.parts.items() if config.reads is not None]
    if not readings:
        raise Error(
            "alignment needs a role that is not a text; give parts such as {audio: {kind: sound}, caption: ...}"
        )
    captions = any(config.reads is None for config in stage.parts.values())
    data = load_examples(
        context.recipe.data, readings[0], readings[1:], captions=captions, strict=context.strict, say=context.say
    )
    # The target of a batch is the first role that is read from files.
    order = [readings[0].role, *(role for role in stage.parts if role != readings[0].role)]
    parts = {role: stage.parts[role].fitted(data.train, role) for role in order}
    recipe = context.recipe.with_stage(context.name, parts=parts)
    torch.manual_seed(mixed(stage.training.seed, 0))
    encoders: dict[str, Any] = {role: ENCODER_OF[type(config)](config) for role, config in parts.items()}
    if stage.start is not None and not context.resumed:
        own = stage.start in context.recipe.stages  # an earlier stage of the run, which left its encoders there
        take_over(encoders, context.run / stage.start if own else find_model(stage.start), stage.start)
    # The last stage makes a model of the run; an earlier one leaves its own in a folder, as a space or a start.
    task = AlignmentTask(stage, encoders, folder="" if context.name == context.recipe.last else context.name)
    settings = stage.training
    batches = Bucketed(data.epoch, settings.batch, mixed(settings.seed, 1), frames=settings.frames, **context.ranks)
    about = (
        *describe_data(data),
        f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {batches.batch}",
        f"roles  {', '.join(order)}, each with each",
    )
    return Built(recipe, context.name, data, task, batches, data.valid, about, task.complete)


def take_over(encoders: Mapping[str, Any], model: Path, name: str) -> None:
    """Fills encoders with what those of a model have learned, who may have read pictures of another size.

    Raises ModelError where the model has no such encoders, or others.
    """
    for role, place in read_pipeline(model).places(model, tuple(encoders)).items():
        found: Any = load_part(place, ENCODERS)
        wanted = encoders[role].config
        if type(found.config) is not type(wanted):
            raise ModelError(f"the {role} of {name} is of the kind {found.config.kind}, not {wanted.kind}")
        for key, value in wanted:
            if key not in FREE and dict(found.config)[key] != value:
                raise ModelError(
                    f"the {role} of {name} has {key} {dict(found.config)[key]}, and {value} is asked for; leave it "
                    "out, or train from scratch (--from scratch)"
                )
        encoders[role].load_state_dict(found.state_dict())


__all__ = ["CAPTION", "ENCODER_OF", "build_alignment"]
