"""Priors with the encoder of their condition: over what a medium is prepared as, or over a codec's codes or latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cymatic.codecs import CODECS
from cymatic.data.augment import Augmenter
from cymatic.data.augment_pictures import picture_augmenter
from cymatic.data.augment_speech import TARGET, SpeechAugmenter, speech_augmenter
from cymatic.data.batches import Bucketed, Sequenced, Streamed, longest_of
from cymatic.data.examples import Data, Example, Reading, at_other_pitches, captions_of, load_examples
from cymatic.encoders import ENCODERS
from cymatic.encoders.familiarity import telling
from cymatic.errors import Error
from cymatic.evaluation.captions import balanced
from cymatic.evaluation.domain import MELS, Domain
from cymatic.evaluation.values import targets_of
from cymatic.hub.parts import CONFIG, copy_part, load_part, save_part
from cymatic.hub.pipeline_file import MOST_CAPTIONS, PIPELINE, PipelineFile, write_pipeline
from cymatic.hub.wave_codecs import load_any_codec
from cymatic.latent import TargetFacts
from cymatic.media import MEDIA
from cymatic.media.medium import Medium
from cymatic.pipelines.conditioning import check_space
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.generate import Generator
from cymatic.priors import PRIORS
from cymatic.seeds import mixed
from cymatic.training.built import Built, Context, Known
from cymatic.training.coding import as_latents, coded, with_vectors
from cymatic.training.pace import Pace
from cymatic.training.plan import describe_data, parameters
from cymatic.training.planning import Choice, changed_clips, choices, given, is_given, smaller_batch, with_choices
from cymatic.training.recipe import Recipe
from cymatic.training.resumed import kept_of, own_config
from cymatic.training.shards import Streams, open_streams
from cymatic.training.sheets import SHOWN, Sheets
from cymatic.training.stages import SPACE, PriorStage
from cymatic.training.start import (
    CODEC,
    GivenCodec,
    facts,
    fitting,
    given_codec,
    load_space,
    load_start,
    shaped,
    vocoder_for,
)
from cymatic.training.tasks.prior import PriorTask

ENCODER_OF: dict[type, type[nn.Module]] = {encoder.config_class: encoder for encoder in ENCODERS}
PRIOR_OF: dict[type, type[nn.Module]] = {prior.config_class: prior for prior in PRIORS}
ENCODER = "encoder"  # the folder of a run in which the encoder of its condition lies


def build_prior(context: Context, stage: PriorStage) -> Built:
    """Raises Error and ModelError as `load_examples`, `open_streams` and the parts do."""
    space = None if stage.space is None else _space(context, stage.space)
    if stage.codec is None:
        return _over_targets(context, stage, space)
    source = None if stage.codec in context.recipe.stages else given_codec(stage.codec, context.run)
    codec: Any = load_part(context.run / stage.codec, CODECS) if source is None else source.codec
    codec.to(context.fabric.device)
    if codec.kept_in_shards and stage.part.over == "codes":
        if space is not None:
            raise Error(
                "codes in shards have no vectors in a space; leave space out, or give a prior over something else"
            )
        return _over_shards(context, stage, codec, source)
    return _over_encoded(context, stage, codec, source, space)


def _space(context: Context, name: str) -> Embedder:
    """The aligned encoders of an earlier stage or another model, or those that a resumed run has a copy of."""
    kept, device = context.run / SPACE, str(context.fabric.device)
    if name in context.recipe.stages:
        return load_space(str(context.run / name), device=device)
    return load_space(str(kept) if context.resumed and (kept / PIPELINE).is_file() else name, device=device)


def _parts(
    context: Context, stage: PriorStage, facts: TargetFacts, examples: Sequence[Example], space: Embedder | None = None
) -> PriorTask:
    config: Any
    if context.resumed:  # its classes and lengths stay those that its weights have learned
        config = own_config(context.run / ENCODER, ENCODER_OF[type(stage.encoder)], stage.encoder)
        longest = int(load_part(context.run / context.name, (PRIOR_OF[type(stage.part)],)).longest)  # type: ignore[arg-type]
        facts = replace(facts, longest=longest)
    else:
        config = stage.encoder.fitted(examples, stage.given)
    if space is not None:
        spec: Any = facts.spec
        check_space(space, config, MEDIA[spec.medium], context.name)
    torch.manual_seed(mixed(stage.training.seed, 0))  # the initial weights
    encoder: Any = ENCODER_OF[type(config)](config)
    prior: Any = PRIOR_OF[type(stage.part)](stage.part.fitted(replace(facts, cond_dim=config.dim)))
    return PriorTask(context.name, stage, encoder, prior, kept=ENCODER, space=space)


def _known(task: PriorTask, held_out: Sequence[Example]) -> list[Example]:
    """Those held out that can be measured: no longer than any trained on, under conditions that are known."""
    return [one for one in held_out if task.knows(one)]


def _learnable(context: Context, task: PriorTask, data: Data, targets: Sequence[Example]) -> Data:
    """Of a resumed run only what its parts can take in, which were made for other data perhaps; `targets` are what is
    learned of `data.train`. Raises Error where that is nothing."""
    if not context.resumed:
        return data
    known = [one for one, target in zip(data.train, targets, strict=True) if task.knows(target)]
    return kept_of(context, data, known)


def _read(context: Context, stage: PriorStage, target: Reading, space: Embedder | None) -> Data:
    """The data of a stage, with the vectors of what is learned in the space. Raises Error as `load_examples`
    does, and for a space without an encoder of it."""
    reads = stage.encoder.reads
    givens = [] if reads is None else [Reading(stage.given, reads)]
    if space is not None:
        spec = space.encoders[space.role_of(target.spec.medium)].config.reads
        givens += [] if spec == target.spec else [Reading(target.role, spec)]
    data = load_examples(
        context.recipe.data, target, givens, captions=reads is None, strict=context.strict, say=context.say
    )
    if space is None:
        return data
    if data.spec != target.spec:
        raise Error("these data were made by another spec than the recipe names, and a space needs that; leave it out")
    train = with_vectors(data.train, space, target)
    known = dict(zip(map(id, data.train), train, strict=True))
    return replace(data, train=train, epoch=[known[id(one)] for one in data.epoch])


def _over_targets(context: Context, stage: PriorStage, space: Embedder | None) -> Built:
    """A prior straight over what the medium is prepared as, such as a mel; what its recipe leaves open is planned."""
    recipe, name = context.recipe, context.name
    start = load_start(stage.start, stage.part) if stage.start is not None and not context.resumed else None
    if start is not None:
        recipe = shaped(recipe, name, start)
        stage = recipe.stages[name]  # type: ignore[assignment]
    spec = stage.part.reads
    target = Reading(stage.role or spec.medium, spec, not stage.part.names_its_spec)
    data = _read(context, stage, target, space)
    chosen: tuple[Choice, ...] = ()
    if not context.resumed:
        could = fitting(recipe, name)
        keys = given(recipe)
        chosen = tuple(choices(facts(data, recipe, name, could), keys, name))
        recipe = with_choices(recipe, chosen)
        if start is None and could is not None and recipe.stages[name].start is not None:
            start, recipe = could, shaped(recipe, name, could)
        stage = recipe.stages[name]  # type: ignore[assignment]
    longest = max(one.target.shape[-1] for one in data.train)
    task = _parts(context, stage, TargetFacts(spec=spec, longest=longest), data.train, space)
    if start is None:
        task.prior.fit_statistics([one.target for one in data.epoch])
    else:
        start.give(task.encoder, task.prior, longest)
    data = _learnable(context, task, data, data.train)
    settings = recipe.data.augment
    if (settings.changes or settings.pitch) and not spec.vocoded:
        raise Error(
            f"data.augment changes sounds by gain, shift, filter, mix and pitch, and this prior learns "
            f"{MEDIA[spec.medium].nouns}; leave them out"
        )
    moved = at_other_pitches(data, recipe.data, settings.pitch) if settings.pitch else []
    examples = [*data.epoch, *(moved if space is None else with_vectors(moved, space, target))]
    built = Built(
        recipe, name, data, task, _batches(context, recipe, examples, spec), _known(task, data.valid),
        _about(data, task, stage), _complete(context, data, space=space), chosen, use_of(MEDIA[spec.medium]),
        _domain(stage, spec), _sheets(context, stage, data, task, space=space),
        lambda task: task.prior.take_over(task.prior, longest),
    )  # fmt: skip
    return replace(built, at_pace=_at_pace(context, examples, data, spec))


def _batches(context: Context, recipe: Recipe, examples: list[Example], spec: Any) -> Bucketed:
    """The batches of a run, each item changed as the recipe's `data.augment` says."""
    settings = recipe.stages[context.name].training
    augment = recipe.data.augment
    seed = mixed(settings.seed, 3)
    change = Augmenter(augment, examples, spec, seed) if augment.changes else picture_augmenter(augment, spec, seed)
    vary = _spoken(context, recipe.stages[context.name], examples, spec)
    return Bucketed(
        examples, settings.batch, mixed(settings.seed, 1), frames=settings.frames, change=change, vary=vary,
        **context.ranks,
    )  # fmt: skip


def _spoken(context: Context, stage: Any, examples: Sequence[Example], spec: Any = None) -> SpeechAugmenter | None:
    """What changes speech: the condition where it is read from files, else the mels that are learned.

    Raises Error where neither is a sound.
    """
    reads = stage.encoder.reads
    specs = {stage.given: reads} if reads is not None else {} if spec is None else {TARGET: spec}
    return speech_augmenter(context.recipe.data.augment, specs, examples, mixed(stage.training.seed, 4))


def _at_pace(
    context: Context, examples: list[Example], data: Data, spec: Any
) -> Callable[[Built, Pace, float], tuple[Built, Pace]]:
    """What so many seconds allow at a pace, where the recipe leaves that open; and the pace then."""

    def at_pace(built: Built, pace: Pace, seconds: float) -> tuple[Built, Pace]:
        recipe, name, settings = built.recipe, built.name, built.training
        keys, most = given(recipe), settings.most_steps
        fit, before, frames = pace.steps_in(seconds), min(settings.batch, len(examples)), settings.frames
        chosen = {key for one in built.chosen for key in one.values}
        planned = f"stages.{name}.training.most_steps" in chosen
        choice = None
        if planned and most is not None and spec.vocoded and not is_given("data.augment", keys):
            choice = changed_clips(len(data.train), fit, most, name)
        open_batch = not is_given(f"stages.{name}.training.batch", keys)
        if choice is None and open_batch and (frames is None or f"stages.{name}.training.frames" in chosen):
            choice = smaller_batch(before, fit, most, name, least=context.fabric.world_size, frames=frames)
        if choice is None:
            return built, pace
        recipe = with_choices(recipe, [choice])
        stage: Any = recipe.stages[name]
        batches = _batches(context, recipe, examples, spec)
        about = _about(data, built.task, stage)
        built = replace(built, recipe=recipe, batches=batches, about=about, chosen=(*built.chosen, choice))
        return built, pace.scaled(min(stage.training.batch, len(examples)) / before)

    return at_pace


def _over_encoded(
    context: Context, stage: PriorStage, codec: Any, source: GivenCodec | None, space: Embedder | None
) -> Built:
    """A prior over the codes or the latents of items in memory. Raises Error for latents that are no grid."""
    latents = stage.part.over == "latents"
    if latents and codec.dim is None:
        raise Error("the latents of this codec are no grid, which this prior is over; give a codec of pictures or mels")
    target = Reading(stage.role or codec.config.reads.medium, codec.config.reads)
    data = _read(context, stage, target, space)
    context.say(f"encoding {len(data.train) + len(data.valid)} items, in {stage.variants} variants each")
    if latents:
        learned, valid = as_latents(data.train, codec), as_latents(data.valid, codec)
    else:
        learned = coded(data.train, codec, stage.variants, stage.levels)
        valid = coded(data.valid, codec, 1, stage.levels)
    known = dict(zip(map(id, data.train), learned, strict=True))
    longest = max(map(longest_of, learned))
    spec = codec.config.reads
    if latents:
        shape = tuple(learned[0].target.shape)
        task = _parts(context, stage, TargetFacts(spec, longest=longest, shape=shape), data.train, space)
        task.prior.fit_statistics([one.target for one in learned])
        line = f"over   latents of {shape[0]} numbers in {shape[1]} x {shape[2]} places"
    else:
        sizes = tuple(codec.sizes[: stage.levels])
        task = _parts(context, stage, TargetFacts(spec, sizes, longest), data.train, space)
        line = f"codes  {max(sizes)} of them, {len(sizes)} in a column, at most {longest} columns"
    data = _learnable(context, task, data, learned)
    epoch = [known[id(one)] for one in data.epoch]
    if stage.start is not None and not context.resumed:
        load_start(stage.start, stage.part).give(task.encoder, task.prior, longest)
    settings = stage.training
    vary = _spoken(context, stage, epoch)
    batches = Bucketed(
        epoch, settings.batch, mixed(settings.seed, 1), frames=settings.frames, vary=vary, **context.ranks
    )
    return Built(
        context.recipe, context.name, data, task, batches, _known(task, valid), (*_about(data, task, stage), line),
        _complete(context, data, source, space=space), use=use_of(MEDIA[codec.config.gives.medium]),
        domain=_domain(stage, codec.config.gives), sheets=_sheets(context, stage, data, task, codec, space),
    )  # fmt: skip


def _over_shards(context: Context, stage: PriorStage, codec: Any, source: GivenCodec | None) -> Built:
    """A prior over the codes of sounds in shards, which need not fit in memory."""
    streams: Streams = open_streams(context, stage, codec, source)
    recipe = with_choices(context.recipe, streams.chosen)
    stage = recipe.stages[context.name]  # type: ignore[assignment]
    sizes = codec.sizes[: streams.wanted.levels]
    task = _parts(context, stage, TargetFacts(codec.config.reads, sizes, streams.longest), ())
    settings = stage.training
    if settings.frames is not None:
        raise Error("training.frames is for data in memory, and these are read from shards; leave it out")
    batches: Sequenced = Streamed(
        streams.shards, streams.wanted, streams.count, settings.batch, mixed(settings.seed, 1), **context.ranks
    )
    even = len(set(sizes)) == 1
    about = (
        *streams.about,
        f"codes  {len(sizes)} levels of {'' if even else 'up to '}{max(sizes)} codes, at most {streams.longest} frames",
        f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {min(settings.batch, streams.count)}",
    )
    return Built(
        recipe, context.name, streams, task, batches, _known(task, streams.valid), about,
        _complete(context, streams, source, captions=streams.captions), streams.chosen,
        use=use_of(MEDIA[codec.config.gives.medium]),
    )  # fmt: skip


def _domain(stage: PriorStage, spec: Any) -> Domain | None:
    """How targets are compared at the end of a run; None for waveforms, for mels that are not in nepers, and where no
    caption says what is to be made."""
    if stage.encoder.reads is not None:
        return None
    if spec.vocoded:
        return MELS if spec.normalisation == "natural-log" else None
    return None if spec.waveform else targets_of(MEDIA[spec.medium], spec)


def _sheets(
    context: Context, stage: PriorStage, data: Data, task: PriorTask, codec: Any = None, space: Embedder | None = None
) -> Sheets | None:
    """What draws the values that the stage makes as it trains; None of those that are not shown by themselves."""
    spec = stage.part.reads if codec is None else codec.config.gives
    domain, medium = _domain(stage, spec), MEDIA[spec.medium]
    if domain is None or domain.restored is None or medium.sheet is None:
        return None
    named = {"encoder": ENCODER, "prior": context.name}
    file = PipelineFile(parts=named, sampling=stage.sampling)
    held_out = [one for one in data.valid if task.encoder.knows(one.caption)]
    if (few := SHOWN - len(held_out)) > 0:  # some of what is learned is shown, too
        held_out += [data.train[row] for row in balanced([one.caption for one in data.train], few)]
    name = context.run.name
    return Sheets(
        held_out, domain, medium,
        lambda now: Generator(now.encoder, now.prior, codec=codec, file=file, name=name, space=space), context.say,
    )  # fmt: skip


def use_of(medium: Medium[Any]) -> str:
    """The command that plays or shows what a model makes."""
    if medium.command is None:
        return "make one: python -c \"import cymatic, sys; print(cymatic.load(sys.argv[1])('...'))\" {run}"
    suffix = medium.command[1]
    return f'make one: cymatic {medium.command[0]} "..." --model {{run}} -o out{suffix}'


def _about(data: Data, task: Any, stage: PriorStage) -> tuple[str, ...]:
    batch, frames = min(stage.training.batch, len(data.epoch)), stage.training.frames
    of = f"{batch}" if frames is None else f"{batch} at most, in {frames:,} frames"
    return (*describe_data(data), f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {of}")


def _complete(
    context: Context,
    data: Known,
    source: GivenCodec | None = None,
    captions: Sequence[str] = (),
    space: Embedder | None = None,
) -> Callable[[Path], None]:
    """Writes the codec and the space of other models, the vocoder where mels are made, and what names all parts. A run
    that is resumed keeps its own codec and vocoder."""

    def complete(run: Path) -> None:
        stage: Any = context.stage
        named = {"encoder": ENCODER, "prior": context.name}
        if source is not None:
            copy_part(source.place, run / CODEC, source.sha256)
            named[CODEC] = CODEC
        if stage.codec in context.recipe.stages:
            named[CODEC] = stage.codec
        spec = stage.part.reads if stage.codec is None else load_any_codec(run / named[CODEC]).config.gives
        if (run / PIPELINE).is_file() and (run / "vocoder" / CONFIG).is_file():
            named["vocoder"] = "vocoder"
        elif (vocoder := vocoder_for(context.recipe.vocoder, spec)) is not None:
            save_part(run / "vocoder", vocoder, half=vocoder.kept_half)
            named["vocoder"] = "vocoder"
        place = stage.space
        if space is not None and place not in context.recipe.stages:
            place = SPACE
            space.save(run / SPACE)
        known = captions or captions_of(data.train)  # type: ignore[arg-type]
        file = PipelineFile(
            parts=named, captions=tuple(telling(known, MOST_CAPTIONS)), sampling=stage.sampling, space=place
        )
        write_pipeline(run, file)

    return complete
