"""Codecs and vocoders, from data that need no captions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cymatic.codecs import CODECS
from cymatic.data.augment_pictures import picture_augmenter
from cymatic.data.batches import Bucketed, RandomCrops, Sequenced
from cymatic.data.examples import Data, Reading, load_examples
from cymatic.errors import Error, ModelError
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.seeds import mixed
from cymatic.training.built import Built, Context
from cymatic.training.plan import describe_data, parameters
from cymatic.training.stages import AutoencoderStage
from cymatic.training.start import load_trained
from cymatic.training.tasks.autoencoder import AutoencoderTask
from cymatic.vocoders import TRAINED_VOCODERS

PARTS: dict[type, type[nn.Module]] = {part.config_class: part for part in (*CODECS, *TRAINED_VOCODERS)}
MEASURED = 2.0  # seconds of each item held out, where segments are trained on


def build_autoencoder(context: Context, stage: AutoencoderStage) -> Built:
    """Raises Error and ModelError as `load_examples` and the parts do."""
    config = stage.part
    conditional = stage.discriminators is not None and stage.discriminators.conditional
    target = Reading(stage.role or config.gives.medium, config.gives, auto=not config.names_its_spec)
    data = load_examples(
        context.recipe.data, target, captions=conditional, strict=context.strict, say=context.say,
    )  # fmt: skip
    if data.spec != config.gives:
        if config.names_its_spec:
            raise Error(f"the data are prepared as {data.spec!r} already; leave the recipe's own out, or give others")
        config = config.reading(data.spec)
    recipe = context.recipe.with_stage(context.name, part=config)
    stage = stage.model_copy(update={"part": config})
    torch.manual_seed(mixed(stage.training.seed, 0))  # the initial weights
    part: Any = PARTS[type(config)](config)
    part.fit_statistics([one.target for one in data.train])
    if stage.start is not None and not context.resumed:
        trained = load_trained(stage.start, context.name, PARTS.values())
        if trained.config != config:
            raise ModelError(
                f"the {context.name} of {stage.start} is another one; set {context.name}.part to {trained.config!r}"
            )
        part.load_state_dict(trained.state_dict())
    task = AutoencoderTask(context.name, stage, part, **context.ranks)
    batches, valid = _batches(context, stage, data, part), data.valid
    if stage.segment is not None:
        most = size_of(data, MEASURED)
        valid = [replace(one, target=one.target[..., :most]) for one in valid]
    return Built(
        recipe, context.name, data, task, batches, valid, _about(stage, data, task, part), _complete(context, part),
        use=part.use,
    )  # fmt: skip


def _batches(context: Context, stage: AutoencoderStage, data: Data, part: Any) -> Sequenced:
    settings = stage.training
    if context.recipe.data.augment.changes_speech:
        raise Error(
            "data.augment changes what encoders hear by tract, speed, room, noise and overlay, and a codec or vocoder "
            "has an augment of its own stage; leave these out"
        )
    seed = mixed(settings.seed, 1)
    if stage.segment is None:
        change = picture_augmenter(context.recipe.data.augment, data.spec, mixed(settings.seed, 3))
        return Bucketed(data.epoch, settings.batch, seed, frames=settings.frames, change=change, **context.ranks)
    if settings.frames is not None:
        raise Error("training.frames bounds batches of whole items, and segments are of one length; leave it out")
    cell = part.cell
    size = max(1, round(size_of(data, stage.segment) / cell)) * cell
    return RandomCrops(
        data.train, size, settings.batch, seed, weights=data.weights, fill=data.spec.silence, level=stage.level,
        **context.ranks,
    )  # fmt: skip


def _about(stage: AutoencoderStage, data: Data, task: AutoencoderTask, part: Any) -> tuple[str, ...]:
    batch = f"batches of {stage.training.batch}"
    if stage.segment is not None:
        batch += f" segments of {stage.segment:.2g} s"
    model = f"model  {parameters(part) / 1e6:.1f} M parameters"
    if task.adversary is not None and stage.discriminators is not None:
        others, first = parameters(task.adversary) / 1e6, stage.discriminators.start
        model += f", and {others:.1f} M of discriminators from step {first} on"
    return (*describe_data(data), *_codes(data, part), f"{model}; {batch}")


def _codes(data: Data, part: Any) -> tuple[str, ...]:
    """How many codes there are, and what they cost, where the part gives some."""
    if not part.sizes:
        return ()
    line = f"codes  {len(part.sizes)} in a column of {part.cell}, of up to {max(part.sizes)}"
    seconds = data.spec.seconds(part.cell)
    if seconds is not None:
        bits = sum((size - 1).bit_length() for size in part.sizes)
        line += f"; {bits / seconds / 1000:.3g} kbit/s at most"
    return (line,)


def _complete(context: Context, part: Any) -> Any:
    """A codec alone is a model; a vocoder waits for others that take it over, and so does a codec before its prior."""

    def complete(run: Path) -> None:
        if context.name == context.recipe.last and part.is_model:
            write_pipeline(run, PipelineFile(parts={context.name: context.name}))

    return complete


def size_of(data: Data, seconds: float) -> int:
    """How many steps along the open dimension last so long. Raises Error where length is no time."""
    of_one = data.spec.seconds(1)
    if of_one is None:
        raise Error("segments are given in seconds, and these data have no length in time; set segment to null")
    return round(seconds / of_one)
