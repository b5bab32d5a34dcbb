"""`cymatic sound` and `cymatic picture`: from words to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cymatic.apps.generate import (
    PNG,
    Device,
    Guidance,
    Keep,
    Prompts,
    Ranker,
    Request,
    Seed,
    Steps,
    Temperature,
    TopK,
    TopP,
    Words,
    generate,
)
from cymatic.errors import Error
from cymatic.files import check_output

if TYPE_CHECKING:
    from cymatic.media.picture import Picture
    from cymatic.pipelines.generate import Generator

STARTER = "starter-picture"
LARGEST = 8192  # pixels of a side


def sound(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Sound file to write: .wav, .flac, .ogg, .opus, .mp3.")
    ],
    prompt: Words = None,
    prompts: Prompts = None,
    n: Annotated[int, typer.Option("-n", help="How many; several are written as out-1.wav, out-2.wav, ...")] = 1,
    keep: Keep = None,
    ranker: Ranker = None,
    seed: Seed = 0,
    guidance: Guidance = None,
    steps: Steps = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seconds: Annotated[float | None, typer.Option(help="Length.", show_default="chosen by the model")] = None,
    device: Device = "cpu",
    model: Annotated[
        str, typer.Option(help="A starter's name, or a folder that cymatic train wrote.")
    ] = "starter-sound",
    plot: Annotated[Path | None, typer.Option(help="Also draw waveform and mel to this PNG.")] = None,
) -> None:
    """Make a sound from words, such as "george says seven"."""
    from cymatic.media.audio import AUDIO
    from cymatic.media.audio_files import FORMATS

    if prompts is None:
        check_output(output, FORMATS)
        if plot is not None:
            check_output(plot, PNG)
    settings = {"guidance": guidance, "steps": steps, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    generate(
        Request(
            AUDIO, FORMATS, prompt, prompts, output, n, seed, model, device, settings,
            keep=keep, ranker=ranker,
            tell=lambda one: f"{one.seconds:.2f} s, {one.rate} Hz", more={"seconds": seconds}, drawn=plot,
        )
    )  # fmt: skip


def picture(
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .webp, .jpg, .bmp.")],
    prompt: Words = None,
    prompts: Prompts = None,
    n: Annotated[int, typer.Option("-n", help="How many; several are written as out-1.png, out-2.png, ...")] = 1,
    keep: Keep = None,
    ranker: Ranker = None,
    seed: Seed = 0,
    guidance: Guidance = None,
    steps: Steps = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    size: Annotated[
        int | None, typer.Option(help="Pixels of the longer side; what is made is resized.", show_default="the model's")
    ] = None,
    background: Annotated[
        str | None, typer.Option(help='A colour behind what is clear: "white", "#ffcc00".', show_default="none")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="Makes a word of a sound, where the model is a Stable Diffusion.", show_default=False),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="The prompt around that word, which is <*> in it.", show_default="the model's")
    ] = None,
    grid: Annotated[Path | None, typer.Option(help="Also draw all of them, with their prompts, to this PNG.")] = None,
    device: Device = "cpu",
    model: Annotated[str, typer.Option(help="A starter's name, or a folder that cymatic train wrote.")] = STARTER,
) -> None:
    """Make a picture from words, such as "a red apple"; or from a file, such as bark.wav."""
    from cymatic.media.image_files import WRITTEN
    from cymatic.media.picture import PICTURE

    if prompts is None:
        check_output(output, WRITTEN)
    if size is not None and not 1 <= size <= LARGEST:
        raise Error(f"--size is {size}; give a number of pixels from 1 to {LARGEST}")
    colour = None if background is None else _colour(background)
    settings = {"guidance": guidance, "steps": steps, "temperature": temperature, "top_k": top_k, "top_p": top_p}

    def finish(one: Picture) -> Picture:
        shown = one if colour is None else one.on(colour)
        if size is None:
            return shown
        scale = size / max(shown.height, shown.width)
        return shown.resized(max(1, round(scale * shown.height)), max(1, round(scale * shown.width)))

    def check(make: Generator) -> None:
        if colour is not None and make.gives.shape[0] == 3:
            raise Error(f"{model} makes pictures without anything clear in them; leave --background out")

    generate(
        Request(
            PICTURE, WRITTEN, prompt, prompts, output, n, seed, model, device,
            settings, keep=keep, ranker=ranker, token=token, template=template,
            tell=lambda one: f"{one.width} x {one.height}", sheet=grid,
            finish=finish, check=check,
        )
    )  # fmt: skip


def _colour(given: str) -> tuple[float, ...]:
    from PIL import ImageColor

    try:
        found: Any = ImageColor.getrgb(given)
    except ValueError:
        raise Error(
            f'--background "{given:.40}" is no colour; give a name or red, green and blue, as "#ffcc00"'
        ) from None
    return tuple(value / 255 for value in found[:3])


GENERATE = (sound, picture)
