"""`cymatic codec map`: the codes of a codec as cells that can be seen, heard and counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from typer import Context

    from cymatic.pipelines.codec import MediaCodec
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
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page, .html, and a .png beside it; .png for pictures.")
    ],
    level: Annotated[int | None, typer.Option(help="Which level's codes; the first that there is says most.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Sounds or pictures to measure it on.", show_default="what it was trained on", readable=False
        ),
    ] = None,
) -> None:
    """Draw a codec's codes as a page that plays them, or as a picture, with how well neighbours are alike."""
    from cymatic.errors import Error, ModelError
    from cymatic.files import check_output, write_atomically

    check_output(output, (".html", ".htm", ".png"))
    if output.suffix.lower() == ".png":
        _map_of_pictures(model, output, level, data)
        return
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

    try:
        made = load_codec(model)
    except ModelError:
        if _codec_of_pictures(model) is None:
            raise
        raise Error(f"{model} is a codec of pictures, whose map is a picture; give it a name with -o map.png") from None
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


def _codec_of_pictures(model: str) -> MediaCodec | None:
    """The model, where it is one."""
    from cymatic.media.picture import PICTURE
    from cymatic.pipelines.codec import MediaCodec
    from cymatic.pipelines.load import load

    made = load(model)
    return made if isinstance(made, MediaCodec) and made.medium is PICTURE else None


def _map_of_pictures(model: str, output: Path, level: int | None, data: Path | None) -> None:
    """The map of a codec of pictures as one picture."""
    from cymatic.apps.clips import clips_of
    from cymatic.apps.terminal import printable
    from cymatic.data.reading import Reading, load_items
    from cymatic.errors import Error, ModelError
    from cymatic.evaluation.captions import balanced
    from cymatic.media.picture import PICTURE
    from cymatic.pipelines.picture_map import picture_map

    made = _codec_of_pictures(model)
    if made is None:
        raise ModelError(f"{model} is no codec of pictures, whose map a .png is; give -o map.html")
    if level not in (None, 1):
        raise Error(f"level {level} was asked for, and a codec of pictures has one; leave --level out")
    sources, longest, _ = clips_of(model, data, PICTURE)
    items = sources.of("valid" if sources.of("valid") else "train")
    some = [items[row] for row in balanced([item.caption for item in items], MOST_CLIPS)]
    loaded = load_items(some, Reading(PICTURE.name, made.spec), captions=False, longest=longest)
    if not loaded.examples:
        first = loaded.skipped[0]
        raise Error(f"none of the {len(some)} pictures can be used ({first.name} {first.why}); give others with --data")
    found = picture_map(made.codec, [one.target.float() for one in loaded.examples])
    found.picture().write(output)
    print(
        f"{len(loaded.examples)} pictures use {100 * found.used:.1f} % of {len(found.counts)} codes, with a perplexity "
        f"of {found.perplexity:.1f}."
    )
    if found.error is not None and found.control is not None:
        print(
            f"Topographic error {100 * found.error:.1f} %; with the same codes shuffled it would be "
            f"{100 * found.control:.1f} %."
        )
    print(printable(str(output)))
