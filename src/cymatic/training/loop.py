"""The one training loop: warm-up, cosine, averaged weights, checkpoints, resume, stop on a signal."""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cymatic.data.mels import Batches, Clip
from cymatic.errors import ModelError
from cymatic.seeds import mixed
from cymatic.training.prior_task import PriorTask
from cymatic.training.recipe import TrainingSettings
from cymatic.training.state import Progress, has_state, load_state, save_state

MEASURED = 30  # steps after which minutes become a number of steps
BETWEEN_CHECKPOINTS = 120.0  # seconds aimed at
AT_LEAST_EVERY = 240.0  # seconds after which the state is written whatever the step


@dataclass(frozen=True)
class Report:
    """What a run says about itself: after each step, and with `valid` at each checkpoint."""

    step: int
    steps: int | None
    losses: dict[str, float]
    seconds: float
    valid: dict[str, float] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished`, or stopped by a signal with all it takes to resume."""

    progress: Progress
    finished: bool


def learning_rate(settings: TrainingSettings, step: int, steps: int | None) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step; constant while the last step is not known."""
    warm = min(1.0, (step + 1) / settings.warmup)
    if steps is None or step < settings.warmup:
        return settings.learning_rate * warm
    done = (step - settings.warmup) / max(1, steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@torch.no_grad()
def update_average(average: nn.Module, task: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average `a <- d a + (1 - d) w`, with d growing from 0.1 so that the start is forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    pairs = [(a, w) for a, w in zip(average.parameters(), task.parameters(), strict=True) if w.requires_grad]
    torch._foreach_lerp_([a for a, _ in pairs], [w for _, w in pairs], 1 - decay)


def fit(
    task: PriorTask,
    batches: Batches,
    valid: list[Clip],
    settings: TrainingSettings,
    run: Path,
    fabric: Fabric,
    *,
    resume: bool,
    deadline: float | None,
    on_report: Callable[[Report], None],
    on_settings: Callable[[TrainingSettings], None],
) -> Outcome:
    """Trains `task` and leaves in `run` the averaged weights that did best on `valid` (without it: the last).

    `deadline` (of `time.monotonic`) stands for `settings.minutes`; after 30 steps it becomes a fixed number of steps,
    and `on_settings` is told. Raises ModelError if the loss is no longer a number; the last checkpoint stays.
    """
    state = run / task.stage / "state"
    average = copy.deepcopy(task).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(
        task.parameter_groups(settings.weight_decay), lr=settings.learning_rate, betas=task.betas
    )
    # A run that was stopped before its first checkpoint has nothing to resume: it begins anew.
    at = load_state(state, task, average, optimizer) if resume and has_state(state) else Progress()
    if at.step == 0:
        average.save_parts(run, 0)  # so that the folder is a model at once: one that says it was never trained
    model, optimizer = fabric.setup(task, optimizer)
    steps, every = settings.steps, settings.checkpoint_steps
    before = at.seconds
    started = written = time.monotonic()
    measured_from, measured = max(at.step, 5), 0.0  # the first steps are slower than the rest

    def checkpoint() -> None:
        nonlocal written
        at.seconds = before + time.monotonic() - started
        save_state(state, task, average, optimizer, at)
        written = time.monotonic()

    def evaluate() -> dict[str, float] | None:
        scores = average.measure(valid, settings.batch) if valid else None
        if scores is not None and not math.isfinite(scores["loss"]):
            raise ModelError(
                f"the loss held out is {scores['loss']:g} at step {at.step}; train anew with a lower "
                f"training.learning_rate than {settings.learning_rate:g} (the last checkpoint is intact)"
            )
        if scores is None or at.best is None or scores["loss"] < at.best or not task.keeps_best:
            at.best, at.best_step = scores["loss"] if scores else None, at.step
            average.save_parts(run, at.step)
        return scores

    with _stop_on_signal() as stopped:
        while steps is None or at.step < steps:
            if at.step == measured_from:
                measured = time.monotonic()
            losses = _step(fabric, model, optimizer, task, average, batches, settings, at.step, steps)
            at.step += 1
            if at.step == MEASURED and (steps is None or every is None):
                pace = (time.monotonic() - measured) / (MEASURED - measured_from)
                if steps is None:
                    assert deadline is not None
                    steps = MEASURED + max(0, int((deadline - time.monotonic()) / pace))
                every = every or max(MEASURED, round(BETWEEN_CHECKPOINTS / pace))
                settings = replace_settings(settings, steps, every)
                on_settings(settings)
            # The first checkpoint is early, so that a run killed within minutes is a model already.
            due = at.step == MEASURED or at.step == steps or (every is not None and at.step % every == 0)
            scores = evaluate() if due else None
            if due or stopped.is_set() or time.monotonic() - written > AT_LEAST_EVERY:
                if at.best_step == 0:
                    scores = evaluate()
                checkpoint()
            on_report(Report(at.step, steps, losses, before + time.monotonic() - started, scores))
            if stopped.is_set():
                break
    return Outcome(replace(at), finished=steps is not None and at.step >= steps)


def _step(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: PriorTask,
    average: PriorTask,
    batches: Batches,
    settings: TrainingSettings,
    step: int,
    steps: int | None,
) -> dict[str, float]:
    task.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step, steps)
    losses: dict[str, Tensor] = model(batches[step], mixed(settings.seed, 2, step))
    fabric.backward(losses["loss"])
    norm = fabric.clip_gradients(model, optimizer, max_norm=settings.clip, error_if_nonfinite=False)
    if not (losses["loss"].isfinite() and norm is not None and norm.isfinite()):
        raise ModelError(
            f"the loss is {losses['loss'].item():g} at step {step} and its gradient is not finite; train anew with a "
            f"lower training.learning_rate than {settings.learning_rate:g} (the last checkpoint is intact)"
        )
    optimizer.step()
    optimizer.zero_grad()
    update_average(average, task, settings.ema, step)
    return {name: value.item() for name, value in losses.items()}


def replace_settings(settings: TrainingSettings, steps: int, checkpoint_steps: int) -> TrainingSettings:
    return settings.model_copy(update={"steps": steps, "minutes": None, "checkpoint_steps": checkpoint_steps})


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event set by the first interrupt or termination; a second one ends the process as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {int(number): signal.getsignal(number) for number in signals}

    def handle(number: int, _frame: object) -> None:
        event.set()
        signal.signal(number, before[number])

    for number in signals:
        signal.signal(number, handle)
    try:
        yield event
    finally:
        for number in signals:
            signal.signal(number, before[number])
