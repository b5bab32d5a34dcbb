"""A folder and a recipe -> a run: reads the data, makes the parts, trains, and leaves a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import yaml
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger

from cymatic.errors import Error, ModelError
from cymatic.files import write_atomically
from cymatic.hub.pipeline_file import PIPELINE
from cymatic.training import ranks
from cymatic.training.data import changes, remember_data
from cymatic.training.hardware import check_compiler, check_precision, compile_blocks, make_fabric
from cymatic.training.history import History
from cymatic.training.job import Job
from cymatic.training.jobs import at_pace, ended, make_job, stages_of
from cymatic.training.loop import Outcome, Report, fit
from cymatic.training.plan import check_disk, check_place, seconds_a_step
from cymatic.training.recipe import AnyRecipe, CodecRecipe, TrainingSettings, VocoderRecipe, parse_recipe, write_recipe
from cymatic.training.report import report_on
from cymatic.training.state import STATE, has_state
from cymatic.training.stop import stop_on_signal

RECIPE = "recipe.yaml"


def train(
    recipe: AnyRecipe,
    run: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    devices: int = 1,
    precision: str = "fp32",
    compiled: bool = False,
    strict: bool = False,
    verdict: bool = False,
    say: Callable[[str], None] = print,
    on_report: Callable[[Report], None] = lambda report: None,
) -> Outcome:
    """Trains `recipe` into the folder `run`; with `resume`, goes on where that run stopped (see `read_run`).

    device: `cpu`, `cuda`, `cuda:1` or `mps`, which must be there (see `pipelines.load.choose_device`).
    devices: how many share each batch, each in a process of its own (a script that asks for more than one starts with
    `if __name__ == "__main__":`).
    precision: `fp32`, or `bf16` for the products inside the network; weights and checkpoints are float32 either way.
    compiled: `torch.compile` for the network's blocks.
    strict: a broken file or line stops it, where it would be skipped.
    verdict: a finished model of sounds is evaluated within a minute (see `report_on`).

    Raises Error for a folder without usable sounds, a run that is in the way, a disk too full, a recipe without an end,
    or devices, precision or compiler that are not here; ModelError for a state that does not fit.
    """
    began = time.monotonic()
    settings = recipe.training
    if recipe.data.folder is None and not recipe.data.packs:
        raise Error("there is no folder to train on; give one: cymatic train FOLDER")
    if settings.steps is None and settings.minutes is None:
        raise Error("how long to train is not said; give --minutes or --steps")
    if not resume and (run / RECIPE).exists():
        raise Error(f"{run} already holds a run; add --resume to go on with it, or give another folder with --out")
    if not resume and (run / PIPELINE).exists():
        raise Error(f"{run} already holds a model; give another folder with --out")
    check_place(run)
    logger = TensorBoardLogger(root_dir=run, name="logs", version="")
    # Judges learn nothing while a vocoder or a codec trains alone.
    unused = isinstance(recipe, VocoderRecipe | CodecRecipe)
    fabric = make_fabric(device, devices, precision, loggers=logger, some_unused=unused)
    check_precision(device, precision, say)
    if compiled:
        check_compiler()
    deadline = began + 60 * settings.minutes if settings.minutes is not None else None
    work = partial(
        _train_on,
        recipe=recipe,
        run=run,
        resume=resume,
        deadline=deadline,
        compiled=compiled,
        strict=strict,
        verdict=verdict,
    )
    if devices > 1:
        return ranks.train_together(fabric, work, say=say, on_report=on_report)
    return work(fabric, say=say, on_report=on_report)


def _train_on(
    fabric: Fabric,
    *,
    recipe: AnyRecipe,
    run: Path,
    resume: bool,
    deadline: float | None,
    compiled: bool,
    strict: bool,
    verdict: bool,
    say: Callable[[str], None],
    on_report: Callable[[Report], None],
    stopped: Callable[[], bool] | None = None,
) -> Outcome:
    """One process's part; rank 0 writes, and its `say` and `on_report` are heard. `stopped`: by a signal, if None."""
    outcome = None
    stages = stages_of(recipe)
    for stage in stages:
        if resume and (done := ended(run, stage, recipe)) is not None:
            outcome = Outcome(done, finished=True)
            continue
        with fabric.rank_zero_first():  # what it computes the others find in the cache
            job = make_job(recipe, stage, fabric, strict=strict, say=say, run=run, resume=resume)
        if len(stages) > 1:
            say(f"stage  {stage}, {stages.index(stage) + 1} of {len(stages)}")
        recipe, outcome = _fit(
            job,
            fabric,
            run=run,
            resume=resume,
            deadline=None
            if job.minutes is None
            else (deadline if stage == stages[-1] else time.monotonic() + 60 * job.minutes),
            compiled=compiled,
            verdict=verdict and stage == stages[-1],
            say=say,
            on_report=on_report,
            stopped=stopped,
        )
        if not outcome.finished:
            break
    assert outcome is not None
    return outcome


def _fit(
    job: Job,
    fabric: Fabric,
    *,
    run: Path,
    resume: bool,
    deadline: float | None,
    compiled: bool,
    verdict: bool,
    say: Callable[[str], None],
    on_report: Callable[[Report], None],
    stopped: Callable[[], bool] | None,
) -> tuple[AnyRecipe, Outcome]:
    """One stage, from its plan to its last checkpoint; the recipe as it stands after."""
    first = fabric.is_global_zero
    if fabric.broadcast(job.data.fingerprint) != job.data.fingerprint:
        raise Error("the sounds changed while they were read; train again, when they no longer do")
    task = job.task
    check_disk(run, task)
    task.to(fabric.device)
    if compiled:
        compile_blocks(task)
    with fabric.autocast():
        pace = fabric.broadcast(seconds_a_step(task, job.batches[0]))
    begun = resume and has_state(run / task.stage / STATE)
    if not begun:
        job, pace = at_pace(job, pace, fabric)
    recipe = job.recipe
    for line in job.plan(pace):
        say(line)

    def keep(settings: TrainingSettings) -> None:
        nonlocal recipe
        recipe = recipe.model_copy(update={job.settings: settings})
        if first:
            write_atomically(run / RECIPE, write_recipe(recipe).encode())

    if first and not begun:
        run.mkdir(parents=True, exist_ok=True)
        keep(job.training)
        remember_data(run, job.data)
    elif first and (changed := changes(run, job.data)):
        say(f"note   {changed}")
    if first and not (run / PIPELINE).exists():  # a resumed run may have been killed before it came this far
        job.complete(run)

    history = History.of_run(run) if begun else History()

    def report(at: Report) -> None:
        if verdict:
            history.add(at)
            if at.valid or at.step % 100 == 0:
                history.keep(run)
        if at.step % 10 == 0 or at.valid:
            fabric.log_dict({f"train/{name}": value for name, value in at.losses.items()}, step=at.step)
        if at.valid:
            fabric.log_dict({f"valid/{name}": value for name, value in at.valid.items()}, step=at.step)
        on_report(at)
        if at.note:
            say(f"note   {at.note}")

    try:
        with stop_on_signal() if stopped is None else nullcontext(stopped) as asked:
            outcome = fit(
                task,
                job.batches,
                job.valid,
                job.training,
                run,
                fabric,
                resume=begun,
                deadline=deadline,
                stopped=asked,
                on_report=report,
                on_settings=keep,
            )
    finally:
        fabric.logger.finalize("done")  # writes what it still holds
    if verdict and first and outcome.finished:
        further = recipe.kind == "text-to-sound" and recipe.start is not None
        report_on(run, job, outcome.progress, history, further=further, device=fabric.device, say=say)
    return recipe, outcome


def read_run(run: Path) -> AnyRecipe:
    """The resolved recipe of a run to resume. Raises ModelError where `run` is none."""
    path = run / RECIPE
    if not path.is_file():
        raise ModelError(f"{run} holds no run to resume ({RECIPE} is missing); start one without --resume")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return parse_recipe(values, str(path))
