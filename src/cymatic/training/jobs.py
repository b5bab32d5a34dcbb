"""What a recipe asks for, made ready for the loop: data, task, batches, and the parts that need no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lightning_fabric import Fabric

from cymatic.data.mels import Batches, Clip
from cymatic.data.waves import RandomCrops
from cymatic.errors import ModelError
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import MOST_CAPTIONS, PipelineFile, write_pipeline
from cymatic.seeds import mixed
from cymatic.training.codec_gpt_job import codec_gpt_job
from cymatic.training.codes_jobs import codec_job, codes_job
from cymatic.training.data import Data, at_other_pitches, facts, load_data, load_wave_data
from cymatic.training.job import Job
from cymatic.training.plan import describe, describe_vocoder
from cymatic.training.planning import Choice, changed_clips, choices, given, is_given, smaller_batch, with_choices
from cymatic.training.prior_task import PriorTask, batches_of
from cymatic.training.recipe import AnyRecipe, CodecGPTRecipe, CodecRecipe, MelGPTRecipe, Recipe, VocoderRecipe
from cymatic.training.start import fitting, load_start, load_vocoder, shaped, take_over, vocoder_for
from cymatic.training.state import STATE, Progress, has_state, read_progress
from cymatic.training.vocoder_task import VocoderTask, held_out
from cymatic.training.wave_codec_job import wave_codec_job
from cymatic.vocoders.vocos import Vocos


def stages_of(recipe: AnyRecipe) -> tuple[str, ...]:
    """The stages of a recipe in their order; each is named after the part that it trains."""
    if isinstance(recipe, VocoderRecipe):
        return ("vocoder",)
    if isinstance(recipe, CodecRecipe):
        return ("codec",)
    return ("codec", "prior") if isinstance(recipe, MelGPTRecipe) and recipe.start is None else ("prior",)


def ended(run: Path, stage: str, recipe: AnyRecipe) -> Progress | None:
    """How far `stage` came, where it is over and another follows."""
    if stage == stages_of(recipe)[-1] or not has_state(run / stage / STATE):
        return None
    assert isinstance(recipe, MelGPTRecipe)
    done, steps = read_progress(run / stage / STATE), recipe.codec_training.steps
    return done if steps is not None and done.step >= steps else None


def make_job(
    recipe: AnyRecipe,
    stage: str,
    fabric: Fabric,
    *,
    strict: bool,
    say: Callable[[str], None],
    run: Path,
    resume: bool = False,
) -> Job:
    """What is open in the recipe is planned here; a run that is resumed has its plan already, and its weights, too,
    where it came as far as to write some.

    Raises Error and ModelError as `load_data` and the parts do.
    """
    if isinstance(recipe, VocoderRecipe):
        return _vocoder_job(recipe, fabric, strict, say)
    if isinstance(recipe, CodecRecipe):
        return wave_codec_job(recipe, fabric, strict=strict, say=say)
    if isinstance(recipe, MelGPTRecipe):
        make = codec_job if stage == "codec" else codes_job
        return make(recipe, fabric, strict=strict, say=say, run=run)
    if isinstance(recipe, CodecGPTRecipe):
        return codec_gpt_job(recipe, fabric, strict=strict, say=say, run=run)
    return _prior_job(recipe, fabric, strict, say, run if resume else None)


def _prior_job(recipe: Recipe, fabric: Fabric, strict: bool, say: Callable[[str], None], resumed: Path | None) -> Job:
    begun = resumed is not None and has_state(resumed / PriorTask.stage / STATE)  # then its weights are there
    start = load_start(recipe.start) if recipe.start is not None and not begun else None
    if start is not None:
        recipe = shaped(recipe, start)
    data = load_data(recipe, strict=strict, say=say)
    recipe = recipe.model_copy(update={"mel": data.spec})
    chosen: tuple[Choice, ...] = ()
    if resumed is None:
        could = fitting(recipe)
        chosen = tuple(choices(facts(data, recipe, could), given(recipe)))
        recipe = with_choices(recipe, chosen)
        if start is None and could is not None and recipe.start is not None:
            start, recipe = could, shaped(recipe, could)
    vocoder = vocoder_for(recipe.vocoder, data.spec)
    task = PriorTask(recipe, data.spec)
    if start is None:
        task.prior.fit_statistics([clip.mel for clip in data.train])
    else:
        take_over(task, start, max(clip.mel.shape[1] for clip in data.train))

    def complete(run: Path) -> None:
        # A vocoder that is shipped in half precision loses nothing by being kept in it.
        save_part(run / "vocoder", vocoder, half=isinstance(vocoder, Vocos))
        write_pipeline(run, _pipeline_file(recipe, data.train))

    clips = [*data.train, *at_other_pitches(data, recipe)]
    return Job(
        recipe,
        data,
        task,
        _batches(clips, recipe, fabric),
        data.valid,
        describe(recipe, data, task),
        complete,
        chosen,
    )


def at_pace(job: Job, pace: float, fabric: Fabric) -> tuple[Job, float]:
    """The job with what its minutes allow at this pace, where its recipe leaves that open; and the pace then."""
    recipe, batches = job.recipe, job.batches
    if not isinstance(recipe, Recipe) or recipe.training.minutes is None:
        return job, pace
    assert isinstance(job.data, Data)
    clips = batches.clips
    keys, most = given(recipe), recipe.training.most_steps
    fit, before = 60 * recipe.training.minutes / pace, min(recipe.training.batch, len(clips))
    planned = any("training.most_steps" in one.values for one in job.chosen)
    choice = None
    if planned and most is not None and not is_given("data.augment", keys):
        choice = changed_clips(len(job.data.train), fit, most)
    if choice is None and not is_given("training.batch", keys):
        choice = smaller_batch(before, fit, most, least=fabric.world_size)
    if choice is None:
        return job, pace
    recipe = with_choices(recipe, [choice])
    job = replace(
        job,
        recipe=recipe,
        batches=_batches(clips, recipe, fabric),
        about=describe(recipe, job.data, job.task),
        chosen=(*job.chosen, choice),
    )
    return job, pace * min(recipe.training.batch, len(clips)) / before


def _batches(clips: list[Clip], recipe: Recipe, fabric: Fabric) -> Batches:
    return batches_of(clips, recipe, recipe.mel_spec(), rank=fabric.global_rank, ranks=fabric.world_size)


def _pipeline_file(recipe: Recipe, clips: list[Clip]) -> PipelineFile:
    captions = tuple(sorted({clip.caption for clip in clips}))[:MOST_CAPTIONS]
    return PipelineFile(
        parts={name: name for name in ("text", "prior", "vocoder")}, captions=captions, **recipe.sampling.model_dump()
    )


def _vocoder_job(recipe: VocoderRecipe, fabric: Fabric, strict: bool, say: Callable[[str], None]) -> Job:
    spec, settings = recipe.mel_spec(), recipe.training
    recipe = recipe.model_copy(update={"mel": spec})
    data = load_wave_data(recipe.data, spec.rate, strict=strict, say=say)
    task = VocoderTask(recipe.vocoder, recipe.judges, spec, settings.seed, ranks=fabric.world_size)
    if recipe.start is not None:
        trained = load_vocoder(recipe.start, spec)
        if trained.config != task.vocoder.config:
            raise ModelError(f"the vocoder of {recipe.start} is of another size; set vocoder to {trained.config!r}")
        task.vocoder.load_state_dict(trained.state_dict())
    crops = RandomCrops(
        data.train,
        data.weights,
        spec.frames(round(recipe.judges.piece * spec.rate)) * spec.hop,
        settings.batch,
        mixed(settings.seed, 1),
        rank=fabric.global_rank,
        ranks=fabric.world_size,
    )
    return Job(
        recipe,
        data,
        task,
        crops,
        held_out(data.valid, spec.rate),
        describe_vocoder(recipe, data, task),
        lambda run: None,
    )
