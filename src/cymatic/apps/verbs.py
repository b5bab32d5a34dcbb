"""Sounds from sounds: `cymatic extend`, `cymatic vary`, `cymatic blend`. A verb works where the model can do it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cymatic.apps.progress import ProgressBar, by_items
from cymatic.apps.terminal import say_notes

if TYPE_CHECKING:
    from cymatic.media.sound import Sound

Audio = Annotated[Path, typer.Argument(help="A sound file.", show_default=False, readable=False)]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Sound file to write; several are written as out-1.wav, out-2.wav, ...")
]
Model = Annotated[str, typer.Option(help="A folder that cymatic train wrote, with a codec and a prior over its codes.")]
Prompt = Annotated[str | None, typer.Option(help="What is to be heard.", show_default="nothing in particular")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same sound; sound i uses seed + i.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


def extend(
    audio: Audio,
    output: Output,
    model: Model,
    keep: Annotated[
        float | None, typer.Option(help="How many seconds of it to keep.", show_default="half of it")
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
    """Go on from the beginning of a sound."""
    sound, make = _ready("extend", model, device, output, n, audio)
    with ProgressBar("extending") as progress:
        made = make.extend(
            sound[0], prompt=prompt, keep=keep, seconds=seconds, seed=seed, n=n, guidance=guidance,
            temperature=temperature, top_k=top_k, top_p=top_p, greedy=greedy or None,
            on_step=by_items(progress, 0, 1, 1),
        )  # fmt: skip
    _write(made, output)


def vary(
    audio: Audio,
    output: Output,
    model: Model,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 4,
    amount: Annotated[
        float, typer.Option(help="How far from it: 0 is the sound as the model has it, 1 forgets it.")
    ] = 0.5,
    prompt: Prompt = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Make sounds that are like a sound."""
    sound, make = _ready("vary", model, device, output, n, audio)
    with ProgressBar("varying") as progress:
        follow = by_items(progress, 0, 1, 1)
        made = make.vary(sound[0], n=n, amount=amount, seed=seed, prompt=prompt, on_step=follow)
    _write(made, output)


def blend(
    first: Audio,
    second: Audio,
    output: Output,
    model: Model,
    steps: Annotated[int, typer.Option(help="How many sounds, both ends included.")] = 5,
    prompt: Prompt = None,
    device: Device = "cpu",
) -> None:
    """Walk from one sound to another."""
    sounds, make = _ready("blend", model, device, output, steps, first, second)
    with ProgressBar("blending") as progress:
        made = make.blend(*sounds, steps=steps, prompt=prompt, on_step=by_items(progress, 0, 1, 1))
    _write(made, output)


VERBS = (extend, vary, blend)


def numbered(path: Path, i: int, n: int) -> Path:
    """Where sound `i` of `n` is written."""
    return path if n == 1 else path.with_name(f"{path.stem}-{i}{path.suffix}")


def _ready(verb: str, model: str, device: str, output: Path, n: int, *audio: Path) -> tuple[list[Sound], Any]:
    """The sounds and the model. Raises Error for an output that can't be written, ModelError for a lack of the verb."""
    from cymatic.apps.outputs import check_not_source
    from cymatic.errors import ModelError
    from cymatic.files import check_output
    from cymatic.media.audio_files import FORMATS

    for i in range(1, min(n, 10_000) + 1):
        check_output(numbered(output, i, n), FORMATS)
        check_not_source(numbered(output, i, n), *audio)
    from cymatic.media.sound import Sound
    from cymatic.pipelines.load import load_generator

    sounds = [Sound.read(path) for path in audio]
    make = load_generator(model, device=device)
    if make.codec is None:
        raise ModelError(
            f"{model} can't {verb}, for it makes sounds without codes; give a model trained with "
            "--recipe melspec-gpt-small, say"
        )
    return sounds, make


def _write(made: list[Sound], output: Path) -> None:
    say_notes(made)
    for i, one in enumerate(made, 1):
        print(f"{one.write(numbered(output, i, len(made)))}  {one.seconds:.2f} s, {one.rate} Hz")
