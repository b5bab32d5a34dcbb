"""`cymatic train`: says the plan, shows how it goes, ends with the command that plays the result."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cymatic.apps.captions_option import captions_asked
from cymatic.apps.outputs import check_not_source
from cymatic.apps.terminal import printable, say_note
from cymatic.errors import Error

DEFAULT_MINUTES = 15.0
SCRATCH = "scratch"  # what --from says of a model that goes on from none


@dataclass(frozen=True)
class Hardware:
    """What a run trains on, which is no part of its recipe."""

    device: str = "cpu"
    devices: int = 1
    precision: str = "fp32"
    compiled: bool = False

    @property
    def options(self) -> str:
        """As options of the command line, where they are not the usual ones."""
        given = {"device": self.device, "devices": self.devices, "precision": self.precision}
        usual = asdict(Hardware())
        options = [f" --{name} {value}" for name, value in given.items() if value != usual[name]]
        return "".join(options) + (" --compile" if self.compiled else "")


def train_command(
    folder: Path | None,
    out: Path | None,
    *,
    recipe: str | None,
    minutes: float | None,
    steps: int | None,
    start: str | None,
    settings: list[str],
    captions: str | None = None,
    resume: bool,
    hardware: Hardware,
    strict: bool,
    verdict: bool,
) -> int:
    """The exit code: 0 when trained, 130 when stopped on the way. Raises Error for what the user can mend."""
    if minutes is not None and steps is not None:
        raise Error("both --minutes and --steps were given; give one of them")
    if out is None:
        if folder is None:
            raise Error("no folder was given; say cymatic train FOLDER, or --resume --out RUN to go on with a run")
        out = Path("runs") / (folder.resolve().stem if folder.is_file() else folder.resolve().name)
    _check_length(minutes, steps)
    try:
        from cymatic.pipelines.load import choose_device
        from cymatic.training.loop import Report
        from cymatic.training.recipe import make_recipe
        from cymatic.training.report import VERDICT_TEXT
        from cymatic.training.train import read_run, train
        from cymatic.training.usual import usual_recipe
    except ImportError as error:
        raise Error(f"training needs the package {error.name}; run: pip install 'cymatic[train]'") from None
    hardware = replace(hardware, device=choose_device(hardware.device))
    if resume:
        if recipe or settings or captions or minutes is not None or steps is not None or start is not None:
            raise Error(
                "a resumed run keeps its recipe, minutes and steps; leave out --recipe, --set, --minutes, --steps, "
                "--from, --captions"
            )
        plan = read_run(out, folder)
    else:
        asked = captions_asked(captions)
        by = [] if asked is None else [f"data.captions={json.dumps(asked, ensure_ascii=False)}"]
        if recipe is None and folder is not None:
            recipe, told = usual_recipe(folder)
            if told:
                say_note(told)
        plan = make_recipe(recipe, settings + by)
        if asked is not None:  # for all packs, whatever they say themselves
            packs = tuple(pack.model_copy(update={"captions": None}) for pack in plan.data.packs)
            plan = plan.read_as(plan.data.model_copy(update={"packs": packs}))
        if folder is None and not plan.data.packs:
            raise Error("no folder was given; say cymatic train FOLDER")
        if start is not None:
            plan = plan.going_on_from(_start(start))
        if minutes is not None or steps is not None:
            plan = plan.lasting_for(minutes=minutes, steps=steps)
        elif not plan.has_length:
            plan = plan.lasting_for(minutes=DEFAULT_MINUTES)
        if folder is not None:
            plan = plan.model_copy(update={"data": plan.data.model_copy(update={"folder": str(folder.resolve())})})
    if plan.data.folder is not None:
        check_not_source(out, Path(plan.data.folder), hint="give another folder with --out")
    console = Console(stderr=True)

    def say(line: str) -> None:  # as it is: a file's name may look like markup
        console.out(printable(line), highlight=False)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training", total=None)

        def on_report(at: Report) -> None:
            progress.update(bar, completed=at.step, total=at.steps, description=f"loss {at.losses['loss']:.3f}")
            if at.valid:
                pace = at.seconds / at.step
                left = f", {pace * (at.steps - at.step) / 60:.0f} min to go" if at.steps else ""
                say(
                    f"step {at.step}{f' of {at.steps}' if at.steps else ''}: loss {at.losses['loss']:.4f}, held out "
                    f"{at.valid['loss']:.4f}{left}"
                )

        outcome = train(
            plan, out, resume=resume, strict=strict, verdict=verdict, say=say, on_report=on_report, **asdict(hardware)
        )
    where = shlex.quote(str(out))
    if not outcome.finished:
        again = f"cymatic train --resume --out {where}{hardware.options}"
        print(f"stopped at step {outcome.progress.step}; go on with: {again}")
        return 130
    done = outcome.progress
    print(f"trained {done.step} steps in {done.seconds / 60:.1f} min; {out} holds the weights of step {done.best_step}")
    if verdict and (out / VERDICT_TEXT).is_file():
        for line in (out / VERDICT_TEXT).read_text(encoding="utf-8").splitlines():
            print(printable(line))
    if outcome.use is not None:
        print(outcome.use.format(run=where))
    return 0


def _start(given: str) -> str | None:
    """What --from names, as it is to stand in the recipe: a folder holds wherever the run is resumed."""
    from cymatic.pipelines.load import starters

    if given == SCRATCH:
        return None
    return str(Path(given).resolve()) if given not in starters() and Path(given).is_dir() else given


def _check_length(minutes: float | None, steps: int | None) -> None:
    if minutes is not None and not 0 < minutes <= 60 * 24 * 30:
        raise Error(f"--minutes is {minutes:g}; give a number above 0, at most a month (43200)")
    if steps is not None and steps < 1:
        raise Error(f"--steps is {steps}; give a whole number from 1")
