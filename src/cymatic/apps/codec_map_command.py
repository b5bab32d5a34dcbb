"""`cymatic codec map`: the codes of a codec as cells that can be seen, heard and counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from typer import Context
else:
    Context = typer.Context.__mro__[1]  # the base, of which typer makes what it passes

MOST_CLIPS = 300

codec = typer.Typer(
    name="codec",
    help="Look into a codec.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@codec.callback()
def about(context: Context) -> None:
    """Look into a codec."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@codec.command("map")
def map_command(
    model: Annotated[
        str, typer.Argument(help="A starter's name, or a folder that cymatic train wrote.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, .html; a .png is written beside it.")],
    level: Annotated[int | None, typer.Option(help="Which level's codes; the first that there is says most.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Sounds to measure it on.", show_default="what it was trained on", readable=False),
    ] = None,
) -> None:
    """Draw a codec's codes as a page that plays them, with how well neighbours are alike."""
    from cymatic.errors import Error, ModelError
    from cymatic.files import check_output, write_atomically

    check_output(output, (".html", ".htm"))
    drawn = output.with_suffix(".png")
    if drawn.exists() and not output.exists():
        raise Error(f"{drawn} is there already, and the picture of {output} would go there; give another name with -o")
    from cymatic.apps.clips import clips_of
    from cymatic.apps.map_page import page, picture, summary
    from cymatic.apps.progress import ProgressBar
    from cymatic.apps.terminal import printable
    from cymatic.codecs.waveform import WaveformCodec
    from cymatic.data.reading import Reading, load_items
    from cymatic.evaluation.captions import balanced
    from cymatic.media.audio import AUDIO
    from cymatic.media.wave_spec import WaveSpec
    from cymatic.pipelines.codebook_map import check_level, codebook_map
    from cymatic.pipelines.load import load_codec

    made = load_codec(model)
    if not isinstance(made.codec, WaveformCodec):
        raise ModelError(f"{model} is another project's codec, and maps are of codecs trained here; give one of these")
    level = made.codec.min_levels if level is None else level
    check_level(made.codec, level)
    sources, longest, _ = clips_of(model, data, AUDIO)
    split = "valid" if sources.of("valid") else "train"
    items = sources.of(split)
    some = [items[row] for row in balanced([item.caption for item in items], MOST_CLIPS)]
    loaded = load_items(some, Reading(AUDIO.name, WaveSpec(rate=made.rate)), captions=False, longest=longest)
    sounds, skipped = [one.target[0].numpy() for one in loaded.examples], loaded.skipped
    if not sounds:
        raise Error(
            f"none of the {len(some)} sounds to measure on can be used ({skipped[0].name} {skipped[0].why}); give "
            "others with --data"
        )
    with ProgressBar("measuring", "sounds") as progress:
        found = codebook_map(made.codec, sounds, level, on_sound=progress)
    write_atomically(drawn, picture(found))
    write_atomically(output, page(found, made.name).encode())
    for line in summary(found):
        print(printable(line))
    print(printable(f"{output}  and  {drawn}"))
