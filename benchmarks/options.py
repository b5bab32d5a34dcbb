"""What does each trainable option of a waveform codec gain? One small codec, and all others that differ by an option.

    python benchmarks/options.py run DATA -o options.jsonl --minutes 0.7
    python benchmarks/options.py show options.jsonl

`run` trains each variant of `options_list.py` for equal minutes of processor time from the same seed on the same
pieces (digits, words, instruments, effects at 8 kHz), measures it on held-out clips and appends a line; what is there
already is not run again. What meets discriminators goes on from one codec of twice the minutes, against the same
without them.

`show` prints the tables. Bold is better than the comparison by more than its seeds are apart, italic is worse.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import typer
from options_list import BASE, RECIPE, VARIANTS, Variant
from options_scores import PACKS, RATE, Clip, chosen, held_out, scores
from scoring import table

from cymatic.codecs.waveform import WaveformCodec
from cymatic.data.batches import RandomCrops
from cymatic.data.reading import Example, Reading, load_items
from cymatic.errors import Error
from cymatic.hub.parts import load_part, save_part
from cymatic.media.wave_spec import WaveSpec
from cymatic.seeds import mixed
from cymatic.training.loop import update_average
from cymatic.training.muon import Muon, clip_each_side
from cymatic.training.recipe import make_recipe
from cymatic.training.stages import AutoencoderStage
from cymatic.training.tasks.autoencoder import AutoencoderTask

TRAINED_ON = 300  # clips of a pack
REHEARSED = 10  # steps that tell how many there will be
BETTER = {"mel": -1, "half": -1, "stoi": 1, "notes": 1, "use": 1, "frechet": -1, "snr": 1, "shaken": -1,
          "topography": -1, "told": -1}  # fmt: skip
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass
class Sounds:
    """Waveforms to train on, and how often each is drawn."""

    examples: list[Example]
    weights: list[float]


@dataclass
class Trained:
    codec: WaveformCodec
    settings: list[str]  # over BASE
    steps: int
    seconds: float


def stage_of(variant: Variant, steps: int = 100) -> AutoencoderStage:
    """How a row trains, with `steps` put in where it asks for them. Raises ModelError for settings that aren't."""
    recipe = make_recipe(RECIPE, [*BASE, *filled(variant, steps), f"training.seed={variant.seed}"])
    stage = recipe.stages["codec"]
    assert isinstance(stage, AutoencoderStage)
    return stage


def filled(variant: Variant, steps: int) -> list[str]:
    return [
        one.replace("<steps>", str(steps)).replace("<two thirds>", str(max(1, steps * 2 // 3)))
        for one in variant.settings
    ]


class Run:
    """A task on its way: `AutoencoderTask` stepped as `training.loop` does, but by processor time."""

    def __init__(self, stage: AutoencoderStage, sounds: Sounds, start: Path | None) -> None:
        self.settings = settings = stage.training
        torch.manual_seed(mixed(settings.seed, 0))
        self.task = AutoencoderTask("codec", stage, WaveformCodec(stage.part))
        if start is not None:
            self.task.part.load_state_dict(load_part(start, (WaveformCodec,)).state_dict())
        self.average = copy.deepcopy(self.task).requires_grad_(False).eval()
        self.optimizer = Muon(self.task.parameter_groups(settings), betas=settings.betas)
        assert stage.segment is not None
        self.crops = RandomCrops(
            sounds.examples, round(stage.segment * RATE), settings.batch, mixed(settings.seed, 1),
            weights=sounds.weights, level=stage.level,
        )  # fmt: skip
        self.step = 0

    def go(self, share: float) -> None:
        """One step at a share of the rates. Raises Error where the loss is no number any more."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["rate"]
        self.task.train()
        loss = self.task(self.crops[self.step], mixed(settings.seed, 2, self.step))["loss"]
        loss.backward()
        norm = clip_each_side(self.optimizer, settings.clip)
        if not (loss.isfinite() and norm.isfinite()):
            raise Error(f"the loss is {loss.item():g} at step {self.step} and its gradient is not finite")
        self.optimizer.step()
        self.optimizer.zero_grad()
        update_average(self.average, self.task, settings.ema, self.step)
        self.step += 1


def trained(variant: Variant, sounds: Sounds, seconds: float, start: Path | None) -> Trained:
    """A codec after so many seconds of processor time; the rates fall with the time that is left."""
    steps = 100
    if any("<" in one for one in variant.settings):
        rehearsal = Run(stage_of(variant), sounds, start)
        rehearsal.go(0.01)
        began = time.process_time()
        for _ in range(REHEARSED):
            rehearsal.go(0.01)
        steps = round(seconds * REHEARSED / (time.process_time() - began))
    run = Run(stage_of(variant, steps), sounds, start)
    settings = run.settings
    began = time.process_time()
    while (spent := time.process_time() - began) < seconds:
        run.go(min(1.0, (run.step + 1) / settings.warmup, (1 - spent / seconds) / settings.decay))
    codec = run.average.part
    codec.steps_trained.fill_(run.step)
    return Trained(codec.eval(), filled(variant, steps), run.step, spent)


@app.command()
def run(
    data: Annotated[Path, typer.Argument(help="The folder that holds the packs.")],
    output: Annotated[Path, typer.Option("-o", help="Lines of JSON; what is there is not run again.")],
    minutes: Annotated[float, typer.Option(help="Of processor time, for a plain variant.")] = 2.0,
    only: Annotated[list[str] | None, typer.Option(help="Names of variants; may be given several times.")] = None,
    until: Annotated[str | None, typer.Option(help="A time of day such as 03:00 after which none begins.")] = None,
) -> None:
    """Trains and measures each variant that is not in the file yet."""
    torch.set_num_threads(1)
    sounds = training_sounds(data)
    clips = held_out(data)
    for variant in VARIANTS:
        folder = output.with_suffix("") / variant.name
        known = variant.key in {line["name"] for line in read(output)} and (not gone_on(variant) or folder.is_dir())
        if known or (only and variant.name not in only):
            continue
        if until is not None and time.strftime("%H:%M") >= until:
            typer.echo(f"it is {until}, so {variant.key} and what follows are left out")
            break
        start = None if variant.goes_on is None else output.with_suffix("") / variant.goes_on
        line = measured(variant, sounds, clips, 60 * minutes * variant.minutes, start, output.with_suffix(""))
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        typer.echo(f"{time.strftime('%H:%M:%S')} {variant.key}: {line.get('steps')} steps, {line['scores']}")


def measured(
    variant: Variant,
    sounds: Sounds,
    clips: list[Clip],
    seconds: float,
    start: Path | None,
    folder: Path,
) -> dict[str, Any]:
    """A line of the file. A codec that others go on from is saved in `folder`."""
    line: dict[str, Any] = {"name": variant.key, "seed": variant.seed, "settings": list(variant.settings), "scores": {}}
    try:
        made = trained(variant, sounds, seconds, start)
    except Error as error:
        return {**line, "failed": str(error)}
    if gone_on(variant):
        save_part(folder / variant.name, made.codec)
    began = time.process_time()
    found = scores(made.codec, clips, judged=variant.group == "discriminators")
    return {
        **line, "settings": made.settings, "steps": made.steps, "seconds": round(made.seconds, 1),
        "measuring": round(time.process_time() - began, 1),
        "scores": {name: None if value is None else round(value, 4) for name, value in found.items()},
    }  # fmt: skip


def gone_on(variant: Variant) -> bool:
    """Whether others go on from it, so that its weights are needed, not its numbers alone."""
    return any(other.goes_on == variant.name for other in VARIANTS)


def training_sounds(data: Path) -> Sounds:
    """What is trained on: packs alike, clips by their length."""
    sounds = Sounds([], [])
    target = Reading("audio", WaveSpec(rate=RATE))
    for pack in PACKS:
        some = load_items(chosen(data, pack, "train", TRAINED_ON), target, captions=False, longest=5.0).examples
        total = sum(one.target.shape[-1] for one in some)
        sounds.examples.extend(some)
        sounds.weights.extend(one.target.shape[-1] / total for one in some)
    return sounds


def read(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


@app.command()
def show(path: Annotated[Path, typer.Argument(help="What `run` wrote.")]) -> None:
    """Prints a table for each group of options."""
    typer.echo(tables(list(read(path))))


def tables(lines: list[dict[str, Any]]) -> str:
    """One table for each group, without what is the same in all its rows. What others are compared to is a mean of its
    seeds, with how far they are apart."""
    by_key = {line["name"]: line for line in lines}
    variants = [v for v in VARIANTS if v.key in by_key]
    printed = []
    for group in dict.fromkeys(v.group for v in variants):
        rows = []
        shown = [v for v in variants if v.group == group or v.name in {w.against for w in variants if w.group == group}]
        # What is the same in all rows compares nothing, and without a map there is none to be folded.
        columns = [
            column
            for column in BETTER
            if len({by_key[v.key]["scores"].get(column) for v in shown}) > 1
            and (column != "topography" or group == "map")
        ]
        for name in dict.fromkeys(v.against for v in variants if v.group == group):  # what others are compared to
            seeds = [by_key[v.key] for v in variants if v.name == name]
            if seeds:
                steps = round(mean(line.get("steps", 0) for line in seeds))
                settings = " ".join(f"`{one}`" for one in seeds[0]["settings"])
                rows.append([name, settings, str(steps), *(of_seeds(seeds, column) for column in columns)])
        for variant in variants:
            if variant.group == group and variant.name != variant.against:
                line = by_key[variant.key]
                seeds = [by_key[v.key] for v in variants if v.name == variant.against]
                cells = [cell(line, seeds, noise(by_key, seeds, column), column) for column in columns]
                common = {one for seed in seeds for one in seed["settings"]}
                own = " ".join(f"`{one}`" for one in line["settings"] if one not in common)
                rows.append([variant.key, own, str(line.get("steps")), *cells])
        printed.append(f"{group}\n\n" + table([group, "settings", "steps", *columns], rows))
    return "\n\n".join(printed)


def values(lines: list[dict[str, Any]], column: str) -> list[float]:
    found = (line["scores"].get(column) for line in lines)
    return [value for value in found if value is not None]


def noise(by_key: dict[str, dict[str, Any]], seeds: list[dict[str, Any]], column: str) -> float:
    """How far seeds are apart: of the comparison itself, or of the base where it has one seed only; endless
    where nobody knows."""
    own = values(seeds, column)
    if len(own) < 2:
        own = values([line for key, line in by_key.items() if key.split(",")[0] == "base"], column)
    return max(own) - min(own) if len(own) > 1 else math.inf


def cell(line: dict[str, Any], seeds: list[dict[str, Any]], apart: float, column: str) -> str:
    """The value: bold where it is better than the comparison by more than seeds are apart, italic where it is worse."""
    value, usual = line["scores"].get(column), values(seeds, column)
    if value is None:
        return "-"
    gain = (value - mean(usual)) * BETTER[column] if usual else 0.0
    mark = "**" if gain > apart else "*" if gain < -apart else ""
    return f"{mark}{value:.3f}{mark}"


def of_seeds(seeds: list[dict[str, Any]], column: str) -> str:
    """Their mean, and how far they are apart if there are several."""
    found = values(seeds, column)
    if not found:
        return "-"
    return f"{mean(found):.3f}" + (f" ({max(found) - min(found):.3f})" if len(found) > 1 else "")


if __name__ == "__main__":
    app()
