"""How few steps will do, and are they fast? Solvers against each other, and against diffusers' schedulers.

    python benchmarks/sampling.py compare DATA --model starter-sound --sampling "heun 12" --sampling "euler 6"
    python benchmarks/sampling.py peers --model starter-sound

`compare` makes clips by each way of sampling ("SOLVER STEPS", with "guidance=3" or "until=0.5" after it if wanted) and
lets frozen judges hear them: ten everyday sounds (ESC-10) with seeds 100-105, and sixty digits with seeds 100-101.
Those of the reports, 0-29, are left alone, so that nothing is tuned on them.

`peers` runs the same network for the same number of evaluations under diffusers' flow-matching schedulers and under
ours, in turns, and compares the times and what comes out (`pip install -c constraints.txt diffusers`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any, Self

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, and before torch is loaded

import digits
import effects
import folds
import numpy as np
import torch
import typer
from notes import read_rows
from scoring import table
from torch import Tensor

import cymatic
from cymatic.data.folder import read_folder
from cymatic.errors import Error
from cymatic.evaluation.classifiers import Classifier
from cymatic.hub.parts import load_part
from cymatic.media.sound import Sound
from cymatic.pipelines.generate import Generator
from cymatic.priors.samplers import SAMPLERS, Denoise, Prediction, grid

SEED, SOUNDS, WORDS = 100, 6, 2  # the first seed, and how many for each everyday sound and each digit
ROUNDS = 9

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Model = Annotated[str, typer.Option(help="A starter's name or a model's folder.")]


@dataclass(frozen=True)
class Way:
    """One way to sample: solver, steps, guidance, and the time until which guidance acts."""

    sampler: str
    steps: int
    guidance: float
    until: float

    @classmethod
    def read(cls, text: str, guidance: float) -> Self:
        """From "heun 12" or "euler 6 guidance=3 until=0.5". Raises Error for anything else."""
        try:
            sampler, steps, *rest = text.split()
            more = {name: float(value) for name, value in (word.split("=") for word in rest)}
            if sampler not in SAMPLERS:
                raise ValueError
            return cls(sampler, int(steps), more.pop("guidance", guidance), more.pop("until", 1.0), **more)
        except (ValueError, TypeError):
            raise Error(f'"{text}" is no way to sample; give one such as "euler 6" or "heun 12 until=0.5"') from None

    @property
    def evaluations(self) -> int:
        """Of the network for one item; a guided one counts twice."""
        asked: list[float] = []
        SAMPLERS[self.sampler](lambda x, t: asked.append(t) or Prediction(x), torch.zeros(1), grid(self.steps))
        return sum(2 if self.guidance != 1 and t <= self.until else 1 for t in asked)


def use(pipeline: Generator, way: Way) -> None:
    """Makes it the pipeline's default."""
    pipeline.defaults = pipeline.defaults.model_copy(
        update={
            "sampler": way.sampler,
            "steps": way.steps,
            "guidance": way.guidance,
            "guidance_interval": (0.0, way.until),
        }
    )


@app.command()
def compare(
    data: Path,
    model: Model = "starter-sound",
    sampling: Annotated[list[str] | None, typer.Option(help='Such as "euler 6"; may be given again.')] = None,
    judges: Annotated[Path, typer.Option(help="The folder of the frozen judges.")] = digits.JUDGES,
) -> None:
    """Prints one row for each way to sample."""
    pipeline = cymatic.load(model)
    ways = [Way.read(text, pipeline.defaults.guidance) for text in sampling or ("heun 12", "euler 4", "euler 6")]
    panel = folds.load(judges, effects.NAME)
    listeners = [load_part(judges / name, (Classifier,)) for name in digits.TRUNKS]
    label = {row["caption"]: row["label"] for row in read_rows(data / "effects") if row.get("fold")}
    words = sorted({item.caption for item in read_folder(data / "digits").of("train")})
    rows = []
    for way in ways:
        use(pipeline, way)
        began = time.perf_counter()
        made = [(label[caption], s) for caption in sorted(label) for s in pipeline(caption, seed=SEED, n=SOUNDS)]
        said = [(caption, s) for caption in words for s in pipeline(caption, seed=SEED, n=WORDS)]
        seconds = time.perf_counter() - began
        right, chance = everyday(panel, made)
        digit = spoken(listeners, said)
        rest = [f"{right:.1%}", f"{chance:.3f}", f"{digit:.1%}", f"{seconds:.0f}"]
        rows.append([way.sampler, str(way.steps), f"{way.guidance:g}", f"{way.until:g}", str(way.evaluations), *rest])
        typer.echo(f"{rows[-1]}", err=True)
    header = ["solver", "steps", "guidance", "until", "evaluations", "ESC-10", "chance", "digits and voices", "seconds"]
    typer.echo(table(header, rows))


def everyday(panel: folds.Panel, made: list[tuple[str, Sound]]) -> tuple[float, float]:
    """The share heard as meant by all four judges, and the mean chance that they give to what was meant."""
    (question,) = panel[1].config.labels
    answers = panel[1].config.labels[question]
    each = [judge.chances([s for _, s in made])[question] for judge in panel.values()]
    chances = torch.from_numpy(np.stack(each)).mean(0)
    meant = torch.tensor([answers.index(what) for what, _ in made])
    return (chances.argmax(1) == meant).float().mean().item(), chances.gather(1, meant[:, None]).mean().item()


def spoken(listeners: list[Classifier], said: list[tuple[str, Sound]]) -> float:
    """The share of answers that are right, over both judges and both questions."""
    meant = [caption.split(" says ") for caption, _ in said]
    right = []
    for judge in listeners:
        heard = judge.answers([sound for _, sound in said])
        for which, question in enumerate(("voice", "digit")):
            right += [parts[which] == answer for parts, answer in zip(meant, heard[question], strict=True)]
    return mean(right)


@app.command()
def peers(
    model: Model = "starter-sound",
    prompt: str = "rain falling",
    seconds: Annotated[float, typer.Option(help="Of sound.")] = 5.0,
    steps: Annotated[int, typer.Option(help="Evaluations of the network, each guided, for all.")] = 7,
    threads: int = 2,
) -> None:
    """Times ours and theirs in turns, without the vocoder, and says how far apart the outcomes of Euler are."""
    try:
        import diffusers
    except ImportError:
        typer.echo("diffusers is not installed; pip install -c constraints.txt diffusers, then again", err=True)
        raise typer.Exit(1) from None
    torch.set_num_threads(threads)
    denoise, noise = network(cymatic.load(model), prompt, seconds)

    def ours(solver: str, count: int) -> Callable[[], Tensor]:
        return lambda: SAMPLERS[solver](denoise, noise, grid(count))

    half = (steps + 1) // 2  # heun takes two evaluations a step but for the last
    runs = {
        "Euler": (ours("euler", steps), lambda: by_diffusers(diffusers.FlowMatchEulerDiscreteScheduler(), steps)),
        "Heun": (ours("heun", half), lambda: by_diffusers(diffusers.FlowMatchHeunDiscreteScheduler(), half)),
        "multistep": (
            ours("multistep", steps),
            lambda: by_diffusers(
                diffusers.DPMSolverMultistepScheduler(
                    prediction_type="flow_prediction", use_flow_sigmas=True, algorithm_type="dpmsolver++"
                ),
                steps,
            ),
        ),
    }

    def by_diffusers(scheduler: Any, count: int) -> Tensor:
        if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
            scheduler.set_timesteps(sigmas=[1 - t for t in grid(count)[:-1]])
        else:
            scheduler.set_timesteps(count)
        x = noise
        for timestep in scheduler.timesteps:
            level = max(float(timestep) / scheduler.config.num_train_timesteps, 1e-3)
            velocity = (denoise(x, 1 - level).mean - x) / level
            x = scheduler.step(-velocity, timestep, x, return_dict=False)[0]
        return x

    with torch.inference_mode():
        times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in runs}
        for _ in range(ROUNDS + 1):  # the first warms up
            for name, pair in runs.items():
                for taken, run in zip(times[name], pair, strict=True):
                    began = time.perf_counter()
                    run()
                    taken.append(time.perf_counter() - began)
        apart = (runs["Euler"][0]() - runs["Euler"][1]()).abs().max().item()
    rows = []
    for name, pair_times in times.items():
        our, their = (1000 * median(taken[1:]) for taken in pair_times)
        rows.append([name, f"{our:.0f}", f"{their:.0f}", f"{our / their:.2f}"])
    typer.echo(
        f"{prompt}, {seconds:g} s, {steps} guided evaluations, {threads} threads, diffusers {diffusers.__version__}"
    )
    typer.echo(table(["solver", "cymatic, ms", "diffusers, ms", "ratio"], rows))
    typer.echo(f"Euler's outcomes differ by {apart:.1e} at most (spread of the mels: 1).")


def network(pipeline: Generator, prompt: str, seconds: float) -> tuple[Denoise, Tensor]:
    """The guided network of the prior as a function of x and t that names the data to expect, and the first noise."""
    prior = pipeline.prior
    frames = prior.config.mel.frames(round(seconds * pipeline.rate))
    noise = torch.randn(1, prior.config.mel.mels, frames, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        denoise = prior.denoiser(pipeline.encoder([prompt]), torch.tensor([frames]), pipeline.defaults.guidance)

    def expect(x: Tensor, t: float) -> Prediction:
        mean, spread = denoise(x, t)
        gain = t * spread**2 / ((1 - t) ** 2 + (t * spread) ** 2)
        return Prediction(mean + gain * (x - t * mean))

    return expect, noise


if __name__ == "__main__":
    app()
