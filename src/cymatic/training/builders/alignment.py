"""Encoders that come to lie in one space, from items that have all of their roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cymatic.data.augment_speech import TARGET, speech_augmenter
from cymatic.data.batches import CAPTION, Bucketed
from cymatic.data.examples import Data, Example, Reading, load_examples
from cymatic.encoders import ENCODERS
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import CONFIG, load_part
from cymatic.hub.pipeline_file import PIPELINE, read_pipeline
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.load import find_model, load_embedder, starters
from cymatic.seeds import mixed
from cymatic.training.built import Built, Context
from cymatic.training.coding import as_states, as_vectors
from cymatic.training.plan import describe_data, parameters
from cymatic.training.stages import OVER_A_TOWER, AlignmentStage
from cymatic.training.start import load_space
from cymatic.training.tasks.alignment import AlignmentTask

ENCODER_OF: dict[type, type[nn.Module]] = {**{one.config_class: one for one in ENCODERS}, **OVER_A_TOWER}
FREE = ("mel", "picture", "dropout")  # what no weight depends on


def build_alignment(context: Context, stage: AlignmentStage) -> Built:
    """Raises Error where no role but the captions is there, and as `load_examples`, `take_over` and the parts
    do."""
    # The last stage makes a model of the run; an earlier one leaves its own in a folder, as a space or a start.
    folder = "" if context.name == context.recipe.last else context.name
    space = None if stage.space is None else _space(context, stage, context.run / folder)
    towers = {role: _tower(context, stage, role, context.run / folder) for role in stage.towers}
    own: dict[str, Any] = {
        role: part.over(towers[role].config) if role in towers else part for role, part in stage.parts.items()
    }
    readings = [Reading(role, config.reads) for role, config in own.items() if config.reads is not None]
    if not readings:
        raise Error(
            "alignment needs a role that is not a text; give parts such as {audio: {kind: sound}, caption: ...}"
        )
    known = {} if space is None else {role: encoder.config.reads for role, encoder in space.encoders.items()}
    captions = None in known.values() or any(config.reads is None for config in own.values())
    readings += [Reading(role, spec) for role, spec in known.items() if spec is not None]
    data = load_examples(
        context.recipe.data, readings[0], readings[1:], captions=captions, strict=context.strict, say=context.say
    )
    # The target of a batch is the first role that is read from files.
    order = [readings[0].role, *(role for role in own if role != readings[0].role)]
    parts = {role: own[role].fitted(data.train, role) for role in order}
    recipe = context.recipe.with_stage(context.name, parts=parts)
    torch.manual_seed(mixed(stage.training.seed, 0))
    encoders: dict[str, Any] = {role: ENCODER_OF[type(config)](config) for role, config in parts.items()}
    for role, tower in towers.items():
        encoders[role] = encoders[role].over(tower)
        encoders[role].unfreeze(stage.unfreeze.get(role, ()))
    if stage.start is not None and not context.resumed:
        inside = stage.start in context.recipe.stages  # an earlier stage of the run, which left its encoders there
        take_over(encoders, context.run / stage.start if inside else find_model(stage.start), stage.start)
    if space is not None:
        for one in readings:
            data = _with_vectors(data, space, one.role) if one.role in known else data
    described = describe_data(data)
    frozen = {role: tower for role, tower in towers.items() if not stage.unfreeze.get(role)}
    for role in frozen:
        context.say(f"reading with the tower of {stage.towers[role]}, once for each item")
        data = _changed(data, partial(as_states, encoder=encoders[role], role=None if role == order[0] else role))
        encoders[role] = encoders[role].over(None)
    generator = _generator(context, stage, context.run / folder)
    task = AlignmentTask(stage, encoders, space=space, folder=folder, generator=generator, towers=frozen)
    settings = stage.training
    # What a tower says was made before, so nothing can change what it hears.
    specs = {role: config.reads for role, config in parts.items() if config.reads is not None and role not in frozen}
    heard = {TARGET if role == order[0] else role: spec for role, spec in specs.items()}
    vary = speech_augmenter(context.recipe.data.augment, heard, data.epoch, mixed(settings.seed, 4))
    batches = Bucketed(
        data.epoch, settings.batch, mixed(settings.seed, 1), frames=settings.frames, vary=vary, **context.ranks
    )
    others = ", ".join(known)
    about = (
        *described,
        f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {batches.batch}",
        f"roles  {', '.join(order)}, {'each with each' if space is None else f'among {others} of {stage.space}'}",
    )
    return Built(recipe, context.name, data, task, batches, data.valid, about, task.complete)


def _space(context: Context, stage: AlignmentStage, kept: Path) -> Embedder:
    """The encoders that stay as they are: of an earlier stage, of another model, or those that a resumed run has a copy
    of. Raises Error where they are of a role that is trained, or give vectors of another width."""
    device, name = str(context.fabric.device), str(stage.space)
    if name in context.recipe.stages:
        found = load_space(str(context.run / name), device=device)
    elif context.resumed and (kept / PIPELINE).is_file():
        found = load_space(str(kept), device=device)
        found.encoders = {role: one for role, one in found.encoders.items() if role not in stage.parts}
    else:
        found = load_space(name, device=device)
    for role, config in stage.parts.items():
        if role in found.encoders:
            raise Error(f"{name} has an encoder of {role} already, which stays as it is; leave {role} out of parts")
        if config.dim != found.dim:
            raise Error(f"the vectors of {name} are {found.dim} wide and those of {role} {config.dim}; set its dim")
    for encoder in found.encoders.values():
        encoder.requires_grad_(False)
    return found


def _generator(context: Context, stage: AlignmentStage, kept: Path) -> str | None:
    """What a run names as its generator: the model that has the space, where it draws by its vectors."""
    if stage.space is None or stage.space in context.recipe.stages:
        return None
    if context.resumed and (kept / PIPELINE).is_file():
        return read_pipeline(kept).generator
    place = find_model(stage.space)
    if read_pipeline(place).space_of(place) is None:
        return None
    return stage.space if stage.space in starters() else str(place.resolve())


def _tower(context: Context, stage: AlignmentStage, role: str, kept: Path) -> Any:
    """What stands below the encoder of a role, and learns nothing: of another model, or of a resumed run itself. Raises
    ModelError where the model has no such encoder."""
    device, name = str(context.fabric.device), stage.towers[role]
    over = OVER_A_TOWER[type(stage.parts[role])]
    if context.resumed and (kept / role / CONFIG).is_file():
        found: Any = load_part(kept / role, (over,)).to(device).speech
    else:
        model = load_embedder(name, device=device)
        found = model.encoders[model.role_of(stage.parts[role].reads.medium)]
        if type(found) is not over.tower_class:
            raise ModelError(
                f"{name} has an encoder of the kind {found.config.kind}, and {role} is learned over one of the kind "
                f"{over.tower_class.config_class.model_fields['kind'].default}; import one of these"
            )
    return found.requires_grad_(False).eval()


def _changed(data: Data, change: Callable[[Sequence[Example]], list[Example]]) -> Data:
    """The data with examples changed, each once."""
    epoch = change(data.epoch)
    by_id = dict(zip(map(id, data.epoch), epoch, strict=True))
    return replace(data, train=[by_id[id(one)] for one in data.train], epoch=epoch, valid=change(data.valid))


def _with_vectors(data: Data, space: Embedder, role: str) -> Data:
    """The data with vectors of the space in the place of what they were of."""
    return _changed(data, lambda some: as_vectors(some, space, role))


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
