"""A folder and a recipe -> a run: reads the data, makes the parts, trains, and leaves a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import yaml
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger

from cymatic.data.folder import read_folder
from cymatic.data.mels import Clip, load_clips, usual_rate
from cymatic.errors import Error, ModelError
from cymatic.files import write_atomically
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import MOST_CAPTIONS, PIPELINE, PipelineFile, write_pipeline
from cymatic.signal.mel import MelSpec
from cymatic.training.loop import Outcome, Report, fit
from cymatic.training.plan import check_disk, check_place, describe, seconds_a_step
from cymatic.training.prior_task import PriorTask, batches_of
from cymatic.training.recipe import Recipe, TrainingSettings, write_recipe
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder

RECIPE = "recipe.yaml"


def train(
    recipe: Recipe,
    run: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    on_report: Callable[[Report], None] = lambda report: None,
) -> Outcome:
    """Trains `recipe` into the folder `run`; with `resume`, goes on where that run stopped (see `read_run`).

    device: `cpu`, `cuda`, `cuda:1` or `mps`, which must be there (see `pipelines.load.choose_device`).

    Raises Error for a folder without usable sounds, a run that is in the way, a disk too full, or a recipe without an
    end; ModelError for a state that does not fit.
    """
    began = time.monotonic()
    settings = recipe.training
    if recipe.data.folder is None:
        raise Error("there is no folder to train on; give one: cymatic train FOLDER")
    if settings.steps is None and settings.minutes is None:
        raise Error("how long to train is not said; give --minutes or --steps")
    if not resume and (run / RECIPE).exists():
        raise Error(f"{run} already holds a run; add --resume to go on with it, or give another folder with --out")
    if not resume and (run / PIPELINE).exists():
        raise Error(f"{run} already holds a model; give another folder with --out")
    check_place(run)
    kind, _, index = device.partition(":")
    logger = TensorBoardLogger(root_dir=run, name="logs", version="")
    fabric = Fabric(accelerator=kind, devices=[int(index)] if index and kind == "cuda" else 1, loggers=logger)
    clips, valid, spec = _load(recipe, say)
    recipe = recipe.model_copy(update={"mel": spec})
    task = PriorTask(recipe, spec)
    task.prior.fit_statistics([clip.mel for clip in clips])
    check_disk(run, task)
    batches = batches_of(clips, recipe)
    task.to(fabric.device)
    for line in describe(recipe, spec, clips, valid, task, seconds_a_step(task, batches[0])):
        say(line)

    def keep(settings: TrainingSettings) -> None:
        write_atomically(run / RECIPE, write_recipe(recipe.model_copy(update={"training": settings})).encode())

    if not resume:
        run.mkdir(parents=True, exist_ok=True)
        keep(settings)
    if not (run / PIPELINE).exists():  # a resumed run may have been killed before it came this far
        save_part(run / "vocoder", GriffinLimVocoder(GriffinLimConfig(mel=spec, rounds=recipe.vocoder.rounds)))
        write_pipeline(run, _pipeline_file(recipe, clips))

    def report(at: Report) -> None:
        if at.step % 10 == 0 or at.valid:
            fabric.log_dict({f"train/{name}": value for name, value in at.losses.items()}, step=at.step)
        if at.valid:
            fabric.log_dict({f"valid/{name}": value for name, value in at.valid.items()}, step=at.step)
        on_report(at)

    deadline = began + 60 * settings.minutes if settings.minutes is not None else None
    try:
        return fit(
            task,
            batches,
            valid,
            settings,
            run,
            fabric,
            resume=resume,
            deadline=deadline,
            on_report=report,
            on_settings=keep,
        )
    finally:
        logger.finalize("done")  # writes what it still holds


def read_run(run: Path) -> Recipe:
    """The resolved recipe of a run to resume. Raises ModelError where `run` is none."""
    path = run / RECIPE
    if not path.is_file():
        raise ModelError(f"{run} holds no run to resume ({RECIPE} is missing); start one without --resume")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return Recipe.parse(values, str(path))


def _load(recipe: Recipe, say: Callable[[str], None]) -> tuple[list[Clip], list[Clip], MelSpec]:
    assert recipe.data.folder is not None
    folder = read_folder(recipe.data.folder)
    spec = recipe.mel_spec(usual_rate(folder.of("train")))
    say(f"reading {len(folder.items)} sounds of {folder.root}")
    clips, skipped = load_clips(folder.of("train"), spec, longest=recipe.data.longest)
    valid, skipped_valid = load_clips(folder.of("valid"), spec, longest=recipe.data.longest)
    skipped = folder.skipped + skipped + skipped_valid
    for name, why in skipped[:20]:
        say(f"skipped {name}: {why}")
    if skipped:
        say(f"skipped {len(skipped)} in all" if len(skipped) > 20 else f"{len(skipped)} skipped")
    if not clips:
        raise Error(f"none of the {len(folder.items)} sounds in {folder.root} can be used; see the reasons above")
    return clips, valid, spec


def _pipeline_file(recipe: Recipe, clips: list[Clip]) -> PipelineFile:
    captions = tuple(sorted({clip.caption for clip in clips}))[:MOST_CAPTIONS]
    return PipelineFile(
        parts={name: name for name in ("text", "prior", "vocoder")}, captions=captions, **recipe.sampling.model_dump()
    )
