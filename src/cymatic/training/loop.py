"""The one training loop: warm-up, plateau, decay, averaged weights, checkpoints, resume, stop on a signal."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cymatic.data.batches import Sequenced
from cymatic.errors import ModelError
from cymatic.seeds import mixed
from cymatic.training.clock import Clock
from cymatic.training.muon import Muon, clip_each_side
from cymatic.training.pace import Pace
from cymatic.training.settings import TrainingSettings
from cymatic.training.state import STATE, Decided, Progress, has_state, load_state, save_state

MEASURED = 30  # steps after which the time between checkpoints becomes a number of steps
BETWEEN_CHECKPOINTS = 120.0  # seconds aimed at
AT_LEAST_EVERY = 240.0  # seconds after which the state is written whatever the step
CHECKPOINTS = 15  # aimed at where they are quick, so that a short run that overfits is noticed, too
MEASURING = 0.03  # share of the time that they may take then
STAYS = 0.1  # of the steps to go: an end that the clock sees within it stays
HARDLY_MORE = 0.05  # of the lowest loss held out: within it, later weights follow their captions more closely


@dataclass(frozen=True)
class Report:
    """What a run says about itself: after each step, with `valid` at each checkpoint, with a `note` of what changed."""

    step: int
    steps: int
    losses: dict[str, float]
    seconds: float
    valid: dict[str, float] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished`, or stopped by a signal with all it takes to resume. use: see `built.Built`."""

    progress: Progress
    finished: bool
    use: str | None = None


def schedule(settings: TrainingSettings, step: int, steps: int, decided: Decided | None = None) -> float:
    """The share of the learning rate at `step` of `steps`: a linear rise, 1, then a linear fall to 0 over the last
    `decay` of all, or from where it was `decided` that they fall.

    The plateau needs no end to be known, and the fall does what a whole cosine does (Hägele et al., 2024, arXiv
    2405.18392).
    """
    rise = min(1.0, (step + 1) / settings.warmup)
    if decided is not None and decided.since is not None:
        return min(rise, decided.share * (steps - step) / (steps - decided.since))
    return min(rise, (1 - step / steps) / settings.decay)


def with_end(decided: Decided, settings: TrainingSettings, step: int, steps: int) -> Decided:
    """The same with another end, as is decided at `step`: rates that fall go on from where they are, to 0 there, and
    those that should have begun to, begin now."""
    falls = decided.since is not None or (decided.steps is not None and (1 - step / decided.steps) / settings.decay < 1)
    if not falls and (1 - step / steps) / settings.decay >= 1:
        return replace(decided, steps=steps)
    share = 1.0
    if falls:
        assert decided.steps is not None
        share = schedule(settings.model_copy(update={"warmup": 1}), step, decided.steps, decided)
    return replace(decided, steps=steps, since=step, share=min(1.0, share))


@torch.no_grad()
def update_average(average: nn.Module, task: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average `a <- d a + (1 - d) w`, with d growing from 0.1 so that the start is forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    pairs = [(a, w) for a, w in zip(average.parameters(), task.parameters(), strict=True) if w.requires_grad]
    torch._foreach_lerp_([a for a, _ in pairs], [w for _, w in pairs], 1 - decay)
    for mean, value in zip(average.buffers(), task.buffers(), strict=True):  # such as a codebook of running means
        mean.copy_(value)


def fit(
    task: Any,
    batches: Sequenced,
    valid: Sequence[Any],
    settings: TrainingSettings,
    run: Path,
    fabric: Fabric,
    *,
    stage: str,
    expected: Pace,
    data: str,
    resume: bool,
    renew: Callable[[Any], None] | None,
    deadline: float | None,
    stopped: Callable[[], bool],
    on_report: Callable[[Report], None],
    on_settings: Callable[[TrainingSettings], None],
    on_checkpoint: Callable[[Any, int], object] = lambda average, step: None,
) -> Outcome:
    """Trains `task` and leaves in `run` its averaged weights: the latest that did about best on `valid`, or the last.

    stage: the folder of `run` in which its state lies. expected: what steps cost, as far as was tried before. data: the
    fingerprint of the data. renew: given where the data of a resumed run are others than before: fits a task that was
    filled from the state to them. Losses of different items held out are no measure, so the weights kept so far are
    measured anew.

    `deadline` (of `time.monotonic`) stands for `settings.minutes`: the number of steps is what the clock leaves time
    for, counted anew wherever that has changed, and the rates fall with it. What was decided so is part of the state.
    `on_settings` is told the steps between checkpoints, and at the end how many steps it made. `on_checkpoint` has the
    task of the averaged weights at each checkpoint, and its step. `stopped` is asked after each step. Of several
    processes each has its share in `batches`; rank 0 alone measures, writes and reports, and what it decides by the
    clock holds for all.

    Raises ModelError if the loss is no longer a number; the last checkpoint stays.
    """
    state = run / stage / STATE
    average = copy.deepcopy(task).requires_grad_(False).eval()
    optimizer = Muon(task.parameter_groups(settings), betas=settings.betas)
    # A run that was stopped before its first checkpoint has nothing to resume: it begins anew.
    at = load_state(state, task, average, optimizer) if resume and has_state(state) else Progress()
    at.data = data
    if renew is not None:
        for one in (task, average):
            renew(one)
        at.best, at.worse = measured_anew(average, valid, settings, run, renew) if at.best_step else None, 0
    if at.step == 0 and fabric.is_global_zero:
        average.save_parts(run, 0)  # so that the folder is a model at once: one that says it was never trained
    model, optimizer = fabric.setup(task, optimizer)
    every, timed = settings.checkpoint_steps, settings.steps is None
    clock = Clock(at.step, deadline, expected)
    before = at.seconds
    started = written = time.monotonic()

    def end() -> int:
        """What the clock leaves time for, the same in every process."""
        most = min(settings.most_steps or math.inf, at.decided.most or math.inf)
        return int(max(at.step + 1, min(fabric.broadcast(clock.end(at.step, every)), most)))

    steps = settings.steps or at.decided.steps or end()
    task.total_steps = steps
    if timed:
        at.decided.steps = steps

    def ends_at(new: int) -> None:
        nonlocal steps
        if timed:
            at.decided = with_end(at.decided, settings, at.step, new)
        steps = task.total_steps = new

    def checkpoint() -> None:
        nonlocal written
        at.seconds = before + time.monotonic() - started
        save_state(state, task, average, optimizer, at)
        written = time.monotonic()

    def evaluate() -> dict[str, float] | None:
        scores = average.measure(valid, settings.batch, settings.frames) if valid else None
        if scores is not None and not math.isfinite(scores["loss"]):
            raise ModelError(
                f"the loss held out is {scores['loss']:g} at step {at.step}; train anew with a lower "
                f"training.learning_rate than {settings.learning_rate:g} (the last checkpoint is intact)"
            )
        loss = scores["loss"] if scores else None
        if loss is None or at.best is None or loss <= at.best + HARDLY_MORE * abs(at.best) or not task.keeps_best:
            at.best = loss if at.best is None or loss is None or not task.keeps_best else min(loss, at.best)
            at.best_step, at.worse = at.step, 0
            average.save_parts(run, at.step)
        else:
            at.worse += 1
        return scores

    stop = False
    while not stop and at.step < steps:
        share = schedule(settings, at.step, steps, at.decided)
        terms = _step(fabric, model, optimizer, task, average, batches, settings, at.step, share)
        at.step += 1
        if every is None and at.step == MEASURED:
            pace = clock.pace(at.step)
            each = pace.late if at.step >= pace.turn else pace.early
            fewest = seldom(steps, len(valid), settings, task.rounds)
            every = round(BETWEEN_CHECKPOINTS / each)
            every = fabric.broadcast(max(MEASURED, min(every, fewest) if task.keeps_best else every))
            settings = settings.model_copy(update={"checkpoint_steps": every})
            on_settings(settings)
        losses, stop = _agreed(fabric, terms, stopped())
        # The first checkpoint is early, so that a run killed within minutes is a model already.
        due = at.step == MEASURED or at.step == steps or (every is not None and at.step % every == 0)
        scores, note = None, None
        with clock.paused() if due else nullcontext():
            scores = evaluate() if due and fabric.is_global_zero else None
            if due and settings.patience is not None and valid:
                fewer = fabric.broadcast(sooner(at, steps, settings))
                if fewer < steps:
                    note = _shortened(at, fewer)
                    ends_at(fewer)
                    if timed:
                        at.decided.most = fewer
                    else:
                        settings = settings.model_copy(update={"steps": fewer, "checkpoint_steps": every})
                        on_settings(settings)
            if fabric.is_global_zero and (due or stop or time.monotonic() - written > AT_LEAST_EVERY):
                if at.best_step == 0:
                    scores = evaluate()
                checkpoint()
            if due and fabric.is_global_zero:
                on_checkpoint(average, at.step)
        if fabric.is_global_zero:
            on_report(Report(at.step, steps, losses, before + time.monotonic() - started, scores, note))
        clock.tick(at.step)
        if timed and at.step < steps and abs((new := end()) - steps) > max(1, STAYS * (steps - at.step)):
            ends_at(new)
    fabric.barrier()  # until all is written
    finished = at.step >= steps
    if finished and timed:
        on_settings(settings.model_copy(update={"steps": at.step, "minutes": None, "checkpoint_steps": every}))
    return Outcome(replace(at), finished=finished)


def measured_anew(
    average: Any, valid: Sequence[Any], settings: TrainingSettings, run: Path, renew: Callable[[Any], None]
) -> float | None:
    """The loss on `valid` of the weights that a run keeps; None where that is not measured, or is no number."""
    if not (valid and average.keeps_best):
        return None
    kept = copy.deepcopy(average)
    kept.load_parts(run)
    renew(kept)
    loss: float = kept.measure(valid, settings.batch)["loss"]
    return loss if math.isfinite(loss) else None


def _step(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Any,
    average: Any,
    batches: Sequenced,
    settings: TrainingSettings,
    step: int,
    share: float,
) -> dict[str, Tensor]:
    """One step at a share of the learning rates."""
    task.train()
    for group in optimizer.param_groups:
        group["lr"] = share * group["rate"]
    losses: dict[str, Tensor] = model(batches[step], mixed(settings.seed, 2, step))
    fabric.backward(losses["loss"])
    norm = clip_each_side(optimizer, settings.clip)
    if not (losses["loss"].isfinite() and norm.isfinite()):
        raise ModelError(
            f"the loss is {losses['loss'].item():g} at step {step} and its gradient is not finite; train anew with a "
            f"lower training.learning_rate than {settings.learning_rate:g} (the last checkpoint is intact)"
        )
    optimizer.step()
    optimizer.zero_grad()
    update_average(average, task, settings.ema, step)
    return losses


def _agreed(fabric: Fabric, losses: dict[str, Tensor], stop: bool) -> tuple[dict[str, float], bool]:
    """The losses of the whole batch, and whether any process is to stop: then all of them do after the same step."""
    values = torch.stack([value.detach().float() for value in losses.values()])
    if fabric.world_size > 1:
        values = cast(
            Tensor, fabric.all_reduce(torch.cat([values, values.new_tensor([float(stop)])]), reduce_op="mean")
        )
        stop = bool(values[-1] > 0)
    return dict(zip(losses, values.tolist(), strict=False)), stop


def sooner(at: Progress, steps: int, settings: TrainingSettings) -> int:
    """The steps of a run that is to end sooner because the loss held out has risen, else `steps`.

    After `patience` checkpoints in a row that were clearly worse than the best the rates begin to fall, since weights
    that they never fell on are much worse; after as many more it ends.
    """
    if settings.patience is None or at.worse < settings.patience:
        return steps
    if at.worse >= 2 * settings.patience:
        return at.step
    return min(steps, math.ceil(at.step / max(1 - settings.decay, 1e-9)))


def _shortened(at: Progress, steps: int) -> str:
    what = f"the loss held out has been clearly above its lowest for {at.worse} checkpoints"
    if steps == at.step:
        return f"{what}, so it ends here"
    return f"{what}, so the learning rates fall from now on and it ends at step {steps}"


def seldom(steps: int, held_out: int, settings: TrainingSettings, rounds: int) -> int:
    """Steps between checkpoints: there are several in any run, and measuring takes a small share of the time."""
    measuring = rounds * math.ceil(held_out / settings.batch) / 3  # in steps, which go backwards, too
    return max(math.ceil(steps / CHECKPOINTS), math.ceil(measuring / MEASURING))
