"""What a recipe asks for, made ready for the loop: data, task, batches, and the parts that need no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from cymatic.data.mels import Batches, Clip
from cymatic.data.waves import Crops
from cymatic.errors import ModelError
from cymatic.hub.parts import CONFIG, load_part, save_part
from cymatic.hub.pipeline_file import MOST_CAPTIONS, PipelineFile, read_pipeline, write_pipeline
from cymatic.pipelines.load import starters
from cymatic.seeds import mixed
from cymatic.signal.mel import MelSpec
from cymatic.training.data import Data, Waves, at_other_pitches, facts, load_data, load_vocoder_data
from cymatic.training.plan import describe, describe_vocoder
from cymatic.training.planning import Choice, changed_clips, choices, given, is_given, smaller_batch, with_choices
from cymatic.training.prior_task import PriorTask, batches_of
from cymatic.training.recipe import AnyRecipe, Recipe, VocoderRecipe, VocoderSettings
from cymatic.training.start import fitting, load_start, shaped, take_over
from cymatic.training.state import STATE, has_state
from cymatic.training.vocoder_task import VocoderTask, held_out
from cymatic.vocoders import VOCODERS, Vocoder
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN
from cymatic.vocoders.vocos import Vocos


@dataclass(frozen=True)
class Job:
    """`complete` writes into the run what a model needs beside it; `chosen`: what its recipe left open."""

    recipe: AnyRecipe
    data: Data | Waves
    task: PriorTask | VocoderTask
    batches: Any
    valid: list[Any]
    complete: Callable[[Path], None]
    chosen: tuple[Choice, ...] = ()

    def plan(self, pace: float) -> list[str]:
        """What it will do, in a few lines; `pace`: seconds of a step."""
        recipe, data, task = self.recipe, self.data, self.task
        if isinstance(recipe, VocoderRecipe):
            assert isinstance(data, Waves) and isinstance(task, VocoderTask)
            return describe_vocoder(recipe, data, task, pace)
        assert isinstance(data, Data)
        return describe(recipe, data.spec, data.train, data.valid, task, pace, self.chosen)

    def at_pace(self, pace: float, fabric: Fabric) -> tuple[Job, float]:
        """The job with what its minutes allow at this pace, where its recipe leaves that open; and the pace then."""
        recipe, batches = self.recipe, self.batches
        if not isinstance(recipe, Recipe) or recipe.training.minutes is None:
            return self, pace
        clips = batches.clips
        keys, most = given(recipe), recipe.training.most_steps
        fit, before = 60 * recipe.training.minutes / pace, min(recipe.training.batch, len(clips))
        planned = any("training.most_steps" in one.values for one in self.chosen)
        choice = None
        if planned and most is not None and not is_given("data.augment", keys):
            choice = changed_clips(len(self.data.train), fit, most)
        if choice is None and not is_given("training.batch", keys):
            choice = smaller_batch(before, fit, most, least=fabric.world_size)
        if choice is None:
            return self, pace
        recipe = with_choices(recipe, [choice])
        job = replace(self, recipe=recipe, batches=_batches(clips, recipe, fabric), chosen=(*self.chosen, choice))
        return job, pace * min(recipe.training.batch, len(clips)) / before


def make_job(
    recipe: AnyRecipe, fabric: Fabric, *, strict: bool, say: Callable[[str], None], resumed: Path | None = None
) -> Job:
    """What is open in the recipe is planned here; a run that is `resumed` has its plan already, and its weights, too,
    where it came as far as to write some.

    Raises Error and ModelError as `load_data` and the parts do.
    """
    if isinstance(recipe, VocoderRecipe):
        return _vocoder_job(recipe, fabric, strict, say)
    return _prior_job(recipe, fabric, strict, say, resumed)


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
        complete,
        chosen,
    )


def _batches(clips: list[Clip], recipe: Recipe, fabric: Fabric) -> Batches:
    return batches_of(clips, recipe, recipe.mel_spec(), rank=fabric.global_rank, ranks=fabric.world_size)


def _pipeline_file(recipe: Recipe, clips: list[Clip]) -> PipelineFile:
    captions = tuple(sorted({clip.caption for clip in clips}))[:MOST_CAPTIONS]
    return PipelineFile(
        parts={name: name for name in ("text", "prior", "vocoder")}, captions=captions, **recipe.sampling.model_dump()
    )


def vocoder_for(settings: VocoderSettings, spec: MelSpec) -> Vocoder:
    """The vocoder that a run takes over: a trained one of the same mel where there is one, else Griffin-Lim.

    Raises ModelError where `vocos` or `melgan` is asked for and the model named has none for this mel.
    """
    if settings.kind != "griffin-lim":
        try:
            vocoder = load_vocoder(settings.model, spec)
            if settings.kind not in ("auto", vocoder.config.kind):
                raise ModelError(
                    f"the vocoder of {settings.model} is of the kind {vocoder.config.kind}, and vocoder.kind is "
                    f"{settings.kind}; let them agree, or set vocoder.kind to auto"
                )
            return vocoder
        except ModelError:
            if settings.kind != "auto":
                raise
    return GriffinLimVocoder(GriffinLimConfig(mel=spec, rounds=settings.rounds))


def load_vocoder(model: str, spec: MelSpec) -> Vocos | MelGAN:
    """The trained vocoder of a starter, or of a run. Raises ModelError where there is none that speaks of `spec`."""
    folder = starters().get(model, Path(model))
    place = folder / "vocoder"
    if not (place / CONFIG).exists():
        place = read_pipeline(folder).folder(folder, "vocoder")
    vocoder = load_part(place, VOCODERS)
    if not isinstance(vocoder, Vocos | MelGAN) or vocoder.config.mel != spec:
        raise ModelError(f"{model} has no trained vocoder for this recipe's mel; train one with --recipe vocoder")
    return vocoder


def _vocoder_job(recipe: VocoderRecipe, fabric: Fabric, strict: bool, say: Callable[[str], None]) -> Job:
    spec, settings = recipe.mel_spec(), recipe.training
    recipe = recipe.model_copy(update={"mel": spec})
    data = load_vocoder_data(recipe, strict=strict, say=say)
    task = VocoderTask(recipe.vocoder, recipe.judges, spec, settings.seed, ranks=fabric.world_size)
    if recipe.start is not None:
        trained = load_vocoder(recipe.start, spec)
        if trained.config != task.vocoder.config:
            raise ModelError(f"the vocoder of {recipe.start} is of another size; set vocoder to {trained.config!r}")
        task.vocoder.load_state_dict(trained.state_dict())
    crops = Crops(
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
        lambda run: None,
    )
