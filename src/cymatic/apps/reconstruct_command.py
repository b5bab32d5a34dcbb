"""`cymatic reconstruct`: a file through a codec and back, to see or hear what it loses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Source = Annotated[Path, typer.Argument(help="A picture or a sound file.", show_default=False, readable=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="What came of it: a file of the same kind.")]
Model = Annotated[str, typer.Option(help="A model with a codec: a folder that cymatic train wrote, or a starter.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


def reconstruct(source: Source, output: Output, model: Model, device: Device = "cpu") -> None:
    """Pass a picture or a sound through a model's codec and back."""
    from cymatic.apps.outputs import check_not_source
    from cymatic.apps.terminal import printable
    from cymatic.errors import Error, ModelError
    from cymatic.files import check_output
    from cymatic.media import medium_of

    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give the path of a picture or a sound")
    check_not_source(output, source)
    given = medium_of(source)
    if given is not None:
        check_output(output, given.writes)
    from cymatic.pipelines.load import load

    make: Any = load(model, device=device)
    if getattr(make, "codec", None) is None:
        raise ModelError(f"{model} has no codec, so nothing can go through it and back; give a model that has one")
    if given is not None and given is not make.medium:
        raise Error(f"{source} is a {given.noun}, and {model} codes {make.medium.nouns}; give it one of these")
    check_output(output, make.medium.writes)
    value = make.medium.read(source)
    again = list(make.reconstructions(value).values())
    if not again:
        raise ModelError(f"{model} gives {make.medium.nouns} only through a vocoder, and has none; give a whole model")
    written = make.medium.write(again[-1], output)
    print(printable("  ".join([str(written), ", ".join(_losses(make, value, again[-1]))])))


def _losses(make: Any, value: Any, again: Any) -> list[str]:
    """What became of it: its codes, and of pictures how near it is to what it was."""
    from cymatic.evaluation.pictures import psnr
    from cymatic.media.picture import PICTURE

    codec: Any = make.codec
    latent = codec.encode(make.target(value)[None].to(codec.steps_trained.device))
    shape = " x ".join(map(str, latent.z.shape[1:]))
    found = [f"a latent of {shape} numbers"]
    if latent.codes is not None:
        different, books = len(latent.codes.unique()), "" if latent.layout == "grid" else " in each level"
        found = [f"{latent.codes.numel()} codes, {different} different ones of {max(codec.sizes)}{books}"]
    if make.medium is PICTURE:
        found.insert(0, f"PSNR {psnr(value, again, make.spec):.1f} dB at {make.spec.size} x {make.spec.size}")
    return found
