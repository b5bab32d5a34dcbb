"""A folder and a recipe -> a run: reads the data, makes the parts, trains, and leaves a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger

from cymatic.errors import Error, ModelError
from cymatic.files import remove_leftovers, write_atomically
from cymatic.folder_lock import only_writer
from cymatic.hub.pipeline_file import PIPELINE, RECIPE
from cymatic.training import ranks
from cymatic.training.build import build
from cymatic.training.built import Built, Context
from cymatic.training.data import check_apart, located, noticed, remember_data, remember_place, remembered
from cymatic.training.hardware import check_compiler, check_precision, compile_blocks, make_fabric
from cymatic.training.history import History
from cymatic.training.loop import Outcome, Report, fit
from cymatic.training.pace import Pace
from cymatic.training.plan import TRIED_FOR, TRIED_SHARE, check_disk, check_place, measured_pace
from cymatic.training.recipe import Recipe, parse_recipe, write_recipe
from cymatic.training.report import for_verdict, report_on
from cymatic.training.settings import TrainingSettings
from cymatic.training.start import check_spaces
from cymatic.training.state import STATE, Progress, has_state, read_progress
from cymatic.training.stop import stop_on_signal


def train(
    recipe: Recipe,
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
    verdict: what a finished model makes is measured by a probe, within a minute (see `training.report`).

    Raises Error for a folder without usable files, a run that is in the way or that another process is training, a disk
    too full, a recipe without an end, or devices, precision or compiler that are not here; ModelError for a state that
    does not fit.
    """
    began = time.monotonic()
    if recipe.data.folder is None and not recipe.data.packs:
        raise Error("there is no folder to train on; give one: cymatic train FOLDER")
    for name in recipe.stages:
        settings = recipe.lasting(name)
        if settings.steps is None and settings.minutes is None:
            raise Error("how long to train is not said; give --minutes or --steps")
    if not resume:
        check_spaces(recipe)
    check_place(run)
    check_apart(recipe, run)
    with only_writer(run):
        _check_vacant(run, resume)
    logger = TensorBoardLogger(root_dir=run, name="logs", version="")
    unused = any(stage.unused_gradients for stage in recipe.stages.values())
    fabric = make_fabric(device, devices, precision, loggers=logger, some_unused=unused)
    check_precision(device, precision, say)
    if compiled:
        check_compiler()
    work = partial(
        _train_on,
        recipe=recipe,
        run=run,
        resume=resume,
        began=began,
        compiled=compiled,
        strict=strict,
        verdict=verdict,
    )
    if devices > 1:
        return ranks.train_together(fabric, work, say=say, on_report=on_report)
    return work(fabric, say=say, on_report=on_report)


def _check_vacant(run: Path, resume: bool) -> None:
    """Raises Error where a run that is not to be resumed, or a model, is in the way."""
    if not resume and (run / RECIPE).exists():
        raise Error(f"{run} already holds a run; add --resume to go on with it, or give another folder with --out")
    if not resume and (run / PIPELINE).exists():
        raise Error(f"{run} already holds a model; give another folder with --out")


def ended(run: Path, name: str, recipe: Recipe) -> Progress | None:
    """How far a stage came, where it is over and another follows."""
    if name == recipe.last or not has_state(run / name / STATE):
        return None
    done, steps = read_progress(run / name / STATE), recipe.stages[name].training.steps
    return done if steps is not None and done.step >= steps else None


def _spent(run: Path, name: str) -> float:
    """Seconds that a stage has trained already."""
    return read_progress(run / name / STATE).seconds if has_state(run / name / STATE) else 0.0


def deadline_of(recipe: Recipe, name: str, run: Path, began: float, *, resume: bool) -> float | None:
    """When a stage is to end (of `time.monotonic`), where minutes say so; what was spent before a stop counts.

    The first stage's minutes begin with the run (at `began`), and the last stage of a run by minutes ends with it, so
    that reading and encoding are in them.
    """
    minutes = recipe.lasting(name).minutes
    if minutes is None:
        return None
    if name == recipe.last and recipe.minutes is not None and recipe.stages[name].training.minutes is None:
        spent = sum(_spent(run, other) for other in recipe.stages) if resume else 0.0
        return began + 60 * recipe.minutes - spent
    from_now = began if name == next(iter(recipe.stages)) else time.monotonic()
    return from_now + 60 * minutes - (_spent(run, name) if resume else 0.0)


def _train_on(fabric: Fabric, *, run: Path, resume: bool, **how: Any) -> Outcome:
    """One process's part. The one that writes has the lock, since of several it may outlive the one that was called."""
    with only_writer(run) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            _check_vacant(run, resume)
            remove_leftovers(run)
        return _through_stages(fabric, run=run, resume=resume, **how)


def _through_stages(
    fabric: Fabric,
    *,
    recipe: Recipe,
    run: Path,
    resume: bool,
    began: float,
    compiled: bool,
    strict: bool,
    verdict: bool,
    say: Callable[[str], None],
    on_report: Callable[[Report], None],
    stopped: Callable[[], bool] | None = None,
) -> Outcome:
    """Rank 0 writes, and its `say` and `on_report` are heard. `stopped`: by a signal, if None."""
    outcome = None
    stages = list(recipe.stages)
    for name in stages:
        if resume and (done := ended(run, name, recipe)) is not None:
            outcome = Outcome(done, finished=True)
            continue
        begun = resume and has_state(run / name / STATE)
        if begun:
            read_progress(run / name / STATE)  # one of an earlier version is refused before anything else is read
        deadline = deadline_of(recipe, name, run, began, resume=resume)
        context = Context(recipe, name, fabric, run, resumed=begun, strict=strict, say=say)
        with fabric.rank_zero_first():  # what it computes the others find in the cache
            built = build(context)
        if len(stages) > 1:
            say(f"stage  {name}, {stages.index(name) + 1} of {len(stages)}")
        recipe, outcome = _fit(
            built,
            fabric,
            run=run,
            resume=resume,
            begun=begun,
            deadline=deadline,
            compiled=compiled,
            verdict=verdict and name == stages[-1],
            say=say,
            on_report=on_report,
            stopped=stopped,
        )
        if not outcome.finished:
            break
    assert outcome is not None
    return outcome


def _fit(
    built: Built,
    fabric: Fabric,
    *,
    run: Path,
    resume: bool,
    begun: bool,
    deadline: float | None,
    compiled: bool,
    verdict: bool,
    say: Callable[[str], None],
    on_report: Callable[[Report], None],
    stopped: Callable[[], bool] | None,
) -> tuple[Recipe, Outcome]:
    """One stage, from its plan to its last checkpoint; the recipe as it stands after."""
    first = fabric.is_global_zero
    if fabric.broadcast(built.data.fingerprint) != built.data.fingerprint:
        raise Error("the files changed while they were read; train again, when they no longer do")
    task: Any = built.task
    check_disk(run, task)
    task.to(fabric.device)
    if compiled:
        compile_blocks(task)
    verdict = verdict and built.domain is not None
    reserve = 0.0 if deadline is None or not verdict else for_verdict(deadline - time.monotonic())
    if deadline is not None:
        deadline -= reserve

    def left() -> float | None:
        """Seconds for training."""
        return None if deadline is None else fabric.broadcast(deadline - time.monotonic())

    def measured() -> Pace:
        seconds = left()
        limit = TRIED_FOR if seconds is None else min(TRIED_FOR, TRIED_SHARE * seconds)
        with fabric.autocast():
            return fabric.broadcast(measured_pace(task, built.batches, built.training, limit, step))

    done = read_progress(run / built.name / STATE) if begun else None
    step = 0 if done is None else done.step
    pace, seconds = measured(), left()
    if not begun and seconds is not None:
        tried = built.batches
        built, pace = built.at_pace(built, pace, seconds)
        if built.batches is not tried:
            pace = measured()
    recipe = built.recipe
    for line in built.plan(pace, left(), step):
        say(line)

    def keep(settings: TrainingSettings) -> None:
        nonlocal recipe
        recipe = recipe.with_stage(built.name, training=settings)
        if first:
            write_atomically(run / RECIPE, write_recipe(recipe).encode())

    before = remembered(run) if resume else None
    where = recipe.data.folder
    for line in [] if before is None else noticed(before, built.data, built.name, where):
        say(f"note   {line}")
    history = History.of_run(run) if begun else History()
    others = done is not None and (done.data or (before.sha256 if before else "")) not in ("", built.data.fingerprint)
    if done is not None and others and built.training.steps is not None and done.step >= built.training.steps:
        say(f"note   it is finished and stays as it is; to learn these items, too: cymatic train FOLDER --from {run}")
        others = False
    elif done is not None and others:
        history.valid.clear()  # of other clips
        if built.valid and done.best_step and task.keeps_best:
            say(f"note   what it keeps, the weights of step {done.best_step}, is measured anew on what is held out now")
    if first and not begun:
        keep(built.training)
        remember_data(run, built.data, stage=built.name, folder=where)
    elif first and (before is None or before.folder != where):
        keep(built.training)
        if before is not None:
            remember_place(run, before, where)
    if first and (others or not (run / PIPELINE).exists()):  # it may have been killed before it came this far
        built.complete(run)

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

    settings = built.training
    try:
        with stop_on_signal() if stopped is None else nullcontext(stopped) as asked:
            outcome = fit(
                task,
                built.batches,
                built.valid,
                settings,
                run,
                fabric,
                stage=built.name,
                expected=pace,
                data=built.data.fingerprint,
                resume=begun,
                renew=built.renew if others else None,
                deadline=deadline,
                stopped=asked,
                on_report=report,
                on_settings=keep,
                on_checkpoint=lambda average, step: None if built.sheets is None else built.sheets(run, average, step),
            )
    finally:
        fabric.logger.finalize("done")  # writes what it still holds
    if verdict and first and outcome.finished:
        budget = None if deadline is None else max(reserve, deadline + reserve - time.monotonic())
        report_on(run, built, outcome.progress, history, device=fabric.device, seconds=budget, say=say)
    return recipe, replace(outcome, use=built.use)


def read_run(run: Path, folder: Path | None = None) -> Recipe:
    """The resolved recipe of a run to resume, with its data where they are by now: in `folder`, or found (see
    `training.data.located`).

    Raises ModelError where `run` is none, Error where its data are nowhere.
    """
    path = run / RECIPE
    if not path.is_file():
        raise ModelError(f"{run} holds no run to resume ({RECIPE} is missing); start one without --resume")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return located(parse_recipe(values, str(path)), run, folder)
