"""Sounds from sounds, pictures from pictures: `cymatic extend`, `cymatic vary`, `cymatic blend`.

A verb works where the model can do it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cymatic.apps.progress import ProgressBar, by_items
from cymatic.apps.terminal import printable, say_notes

if TYPE_CHECKING:
    from cymatic.media.medium import Medium

Source = Annotated[Path, typer.Argument(help="A sound or a picture.", show_default=False, readable=False)]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="File to write; several are written as out-1.wav, out-2.wav, ...")
]
Model = Annotated[
    str, typer.Option(help="A folder that cymatic train wrote; most have a codec and a prior over its codes.")
]
Prompt = Annotated[str | None, typer.Option(help="What is to be heard or seen.", show_default="nothing in particular")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same; number i of several uses seed + i.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


def extend(
    source: Source,
    output: Output,
    model: Model,
    keep: Annotated[
        float | None,
        typer.Option(help="How much to keep: seconds of a sound, a share of a picture's height.", show_default="half"),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="The whole length.", show_default="chosen by the model")] = None,
    prompt: Prompt = None,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 1,
    seed: Seed = 0,
    guidance: Annotated[float | None, typer.Option(help="How strongly to follow the prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(help="How boldly codes are drawn.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among so many of the likeliest codes.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the likeliest codes of this share.")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the likeliest code.")] = False,
    device: Device = "cpu",
) -> None:
    """Go on from the beginning of a sound, or from the upper part of a picture."""
    value, make = _ready(model, device, output, n, source)
    with ProgressBar("extending") as progress:
        made = make.extend(
            value[0], prompt=prompt, keep=keep, seconds=seconds, seed=seed, n=n, guidance=guidance,
            temperature=temperature, top_k=top_k, top_p=top_p, greedy=greedy or None,
            on_step=by_items(progress, 0, 1, 1),
        )  # fmt: skip
    _write(made, output, make)


def vary(
    source: Source,
    output: Output,
    model: Model,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 4,
    amount: Annotated[float, typer.Option(help="How far from it: 0 is as the model has it, 1 forgets it.")] = 0.5,
    prompt: Prompt = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Make sounds that are like a sound, or pictures that are like a picture."""
    value, make = _ready(model, device, output, n, source)
    with ProgressBar("varying") as progress:
        follow = by_items(progress, 0, 1, 1)
        made = make.vary(value[0], n=n, amount=amount, seed=seed, prompt=prompt, on_step=follow)
    _write(made, output, make)


def blend(
    first: Source,
    second: Source,
    output: Output,
    model: Model,
    steps: Annotated[int, typer.Option(help="How many, both ends included.")] = 5,
    prompt: Prompt = None,
    device: Device = "cpu",
) -> None:
    """Walk from one sound to another, or from one picture to another."""
    values, make = _ready(model, device, output, steps, first, second)
    with ProgressBar("blending") as progress:
        made = make.blend(*values, steps=steps, prompt=prompt, on_step=by_items(progress, 0, 1, 1))
    _write(made, output, make)


VERBS = (extend, vary, blend)


def numbered(path: Path, i: int, n: int) -> Path:
    """Where number `i` of `n` is written."""
    return path if n == 1 else path.with_name(f"{path.stem}-{i}{path.suffix}")


def _ready(model: str, device: str, output: Path, n: int, *sources: Path) -> tuple[list[Any], Any]:
    """What the files hold, and the model. Raises Error for an output that can't be written, and for files of another
    medium than the model's."""
    from cymatic.apps.outputs import check_not_source
    from cymatic.errors import Error
    from cymatic.files import check_output
    from cymatic.media import medium_of
    from cymatic.pipelines.load import load_generator

    def check(medium: Medium[Any]) -> list[Any]:
        for i in range(1, min(n, 10_000) + 1):
            check_output(numbered(output, i, n), medium.writes)
            check_not_source(numbered(output, i, n), *sources)
        return [medium.read(source) for source in sources]

    given = medium_of(sources[0])
    values = None if given is None else check(given)  # before a model is read
    make = load_generator(model, device=device)
    if given is not None and given is not make.medium:
        raise Error(f"{sources[0]} is a {given.noun}, and {model} makes {make.medium.nouns}; give it one of these")
    return check(make.medium) if values is None else values, make


def _write(made: list[Any], output: Path, make: Any) -> None:
    say_notes(made)
    for i, one in enumerate(made, 1):
        written = make.medium.write(one, numbered(output, i, len(made)))
        print(printable("  ".join([str(written), *SIZE.get(make.medium.name, lambda one: [])(one)])))


SIZE: dict[str, Callable[[Any], list[str]]] = {
    "audio": lambda one: [f"{one.seconds:.2f} s, {one.rate} Hz"],
    "picture": lambda one: [f"{one.width} x {one.height}"],
}
