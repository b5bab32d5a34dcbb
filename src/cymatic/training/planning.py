"""What a folder is trained with where its recipe leaves it open: facts in, choices out, each with its reason.

The rules were chosen by experiments; docs/planning.md has them all. Nothing that a recipe sets is ever chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cymatic.config import Config
from cymatic.data.budget import budgeted

C = TypeVar("C", bound=Config)

CHANGES = {"data.augment.gain": 1.0, "data.augment.shift": 0.02, "data.augment.filter": 2.0}
ENOUGH_TO_CHANGE = 200  # clips, from which on a starter learns new words better than a new network does
STEPS_A_CLIP, FEWEST_STEPS = 2, 120  # in batches of PER_CLIP
PER_CLIP = 64
ENOUGH_STEPS, SMALLEST_BATCH = 400, 16
ENOUGH_WITH_FRAMES = 150  # steps, where each batch is of nearly one length
FRAMES = 1.5  # times what a batch of clips of the mean length holds: what any batch may
PATIENCE = 3
ENOUGH_HELD_OUT = 8  # clips whose loss says when it rises


@dataclass(frozen=True)
class PlanFacts:
    """What a plan rests on.

    clips, captions, seconds: what is trained on; held_out: clips that are not. pitched: clips whose captions speak of
    pitch. start: a starter that fits the recipe, if there is one; known: captions that it was trained on. ends: whether
    the number of steps was given. lengths: of the clips in frames, where those of a batch are open; batch: its clips.
    """

    clips: int
    captions: int
    known: int
    seconds: float
    held_out: int
    pitched: int
    start: str | None
    ends: bool
    lengths: Sequence[int] = ()
    batch: int = PER_CLIP

    @property
    def frames(self) -> int | None:
        """A budget for batches; None where lengths differ so little that any batch would keep to it."""
        if not self.lengths:
            return None
        budget = math.ceil(FRAMES * self.batch * sum(self.lengths) / len(self.lengths))
        return budget if self.batch * max(self.lengths) > budget else None


@dataclass(frozen=True)
class Choice:
    """Values for keys such as `prior.width`, and why."""

    values: Mapping[str, Any]
    why: str


def given(recipe: Config) -> set[str]:
    """The keys that a recipe sets, such as `prior.width`; of an empty section the section's own."""
    return _given({name: value for name, value in recipe if name in recipe.model_fields_set})


def _given(values: Mapping[str, Any]) -> set[str]:
    keys: set[str] = set()
    for name, value in values.items():
        inner = given(value) if isinstance(value, Config) else _given(value) if isinstance(value, dict) else set()
        keys |= {f"{name}.{key}" for key in inner} or {name}
    return keys


def is_given(key: str, keys: Collection[str]) -> bool:
    """Whether `key` or a section that holds it is among `keys`, or `key` is a section that holds one of them."""
    return any(f"{one}.".startswith(f"{key}.") or f"{key}.".startswith(f"{one}.") for one in keys)


def with_choices(recipe: C, choices: Collection[Choice]) -> C:
    """`recipe` with all that was chosen."""
    for choice in choices:
        for key, value in choice.values.items():
            recipe = _with(recipe, key.split("."), value)
    return recipe


def _with(held: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    if isinstance(held, dict):
        return {**held, first: _with(held[first], rest, value) if rest else value}
    return held.model_copy(update={first: _with(dict(held)[first], rest, value) if rest else value})


def choices(facts: PlanFacts, keys: Collection[str], stage: str) -> list[Choice]:
    """What to train the stage with, but for `keys` that were given."""
    rules = (_start, _frames, _most_steps, _patience)
    wanted = [of_stage(choice, stage) for rule in rules if (choice := rule(facts)) is not None]
    return [one for one in wanted if not any(is_given(key, keys) for key in one.values)]


def of_stage(choice: Choice, stage: str) -> Choice:
    """A choice whose keys are those of a stage, but for those of the data."""
    values = {key if key.startswith("data.") else f"stages.{stage}.{key}": one for key, one in choice.values.items()}
    return Choice(values, choice.why)


def smaller_batch(
    batch: int, steps: float, most: int | None, stage: str, *, least: int = 1, frames: int | None = None
) -> Choice | None:
    """A batch halved, and its frames with it, until enough steps, or as many as are wanted at `most`, fit where `steps`
    of the whole one would, but not below `SMALLEST_BATCH` or `least`; None where enough fit.

    Under a budget of frames batches hold some half of the clips that they may, so these are twice as many at least, and
    fewer steps are enough.
    """
    smallest, enough = (SMALLEST_BATCH, ENOUGH_STEPS) if frames is None else (2 * SMALLEST_BATCH, ENOUGH_WITH_FRAMES)
    half, wanted, enough = batch, max(smallest, least), min(enough, most or enough)
    while steps * batch / half < enough and half // 2 >= wanted:
        half //= 2
    if half == batch:
        return None
    values, inside = {"training.batch": half}, ""
    if frames is not None:
        values["training.frames"] = math.ceil(frames * half / batch)
        inside = f" in {values['training.frames']:,} frames"
    why = f"batches of {half}{inside}, since {steps:,.0f} steps of {batch} are few"
    return of_stage(Choice(values, why), stage)


def changed_clips(clips: int, steps: float, most: int, stage: str) -> Choice | None:
    """Clips changed from step to step, and twice the steps, where that many fit and clips are few."""
    if clips >= ENOUGH_TO_CHANGE or steps < 2 * most:
        return None
    why = f"{2 * most:,} steps instead, since there is time, with items changed a little from step to step"
    return of_stage(Choice({"training.most_steps": 2 * most, **CHANGES}, why), stage)


def _start(facts: PlanFacts) -> Choice | None:
    if facts.start is None:
        return None
    if 2 * facts.known >= facts.captions:
        why = f"which knows {facts.known:,} of the {facts.captions:,} captions"
    elif facts.clips >= ENOUGH_TO_CHANGE:
        why = f"since {facts.clips:,} items are enough to teach it new captions"
    else:
        why = f"for {facts.start} knows few of the captions, and {facts.clips:,} items teach a new network sooner"
        return Choice({"start": None}, f"from scratch, {why}")
    return Choice({"start": facts.start}, f"from {facts.start}, {why}")


def _frames(facts: PlanFacts) -> Choice | None:
    if (frames := facts.frames) is None:
        return None
    least, longest = min(facts.lengths), max(facts.lengths)
    why = f"{frames:,} frames a batch at most, since items of {least:,} to {longest:,} frames should cost alike"
    return Choice({"training.frames": frames}, why)


def _most_steps(facts: PlanFacts) -> Choice | None:
    if facts.ends:
        return None
    steps = STEPS_A_CLIP * facts.clips
    if (frames := facts.frames) is not None:  # batches hold fewer clips then, and each is to be met as often
        steps = STEPS_A_CLIP * PER_CLIP * len(budgeted(facts.lengths, min(facts.batch, facts.clips), frames))
    most = max(FEWEST_STEPS, steps)
    why = f"{most:,} steps at most, since {facts.clips:,} items are known by heart after that"
    return Choice({"training.most_steps": most}, why)


def _patience(facts: PlanFacts) -> Choice | None:
    if facts.ends or facts.held_out < ENOUGH_HELD_OUT:
        return None
    why = f"an earlier end where the loss held out stays clearly above its lowest for {PATIENCE} checkpoints"
    return Choice({"training.patience": PATIENCE}, why)
