"""`cymatic data ...`: look at a folder before training on it, and at what the cache holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cymatic.apps.captions_option import CaptionsOption

if TYPE_CHECKING:
    from typer import Context
else:
    Context = typer.Context.__mro__[1]  # the base, of which typer makes what it passes

data = typer.Typer(
    name="data",
    help="Look at a folder of sounds or pictures, and at what is cached of it.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@data.callback()
def about(context: Context) -> None:
    """Look at a folder of sounds or pictures, and at what is cached of it."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@data.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="A folder of sounds or pictures.", show_default=False, readable=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also draw some clips of each caption to this PNG.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop (2) where a file or a line is broken.")] = False,
    captions: CaptionsOption = "auto",
) -> None:
    """Say what a folder holds: clips, hours, rates, sizes, captions and problems."""
    from cymatic.apps.inspect_command import inspect_command

    inspect_command(folder, output, strict, captions)


@data.command()
def unpack(
    archive: Annotated[
        Path, typer.Argument(help="A tar archive, or a folder of them.", show_default=False, readable=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
) -> None:
    """Make a folder to train on of tar archives as webdataset has them."""
    import shlex

    from cymatic.apps.progress import ProgressBar
    from cymatic.apps.terminal import printable, say_note
    from cymatic.data.unpacking import archives_in, unpack

    with ProgressBar("unpacking", "rows") as progress:
        found = unpack(archives_in(archive), output, on_row=progress)
    for one in found.skipped[:10]:
        say_note(f"{one.name} {one.why}")
    if len(found.skipped) > 10:
        say_note(f"{len(found.skipped)} are left out in all")
    print(printable(f"{output}  {found.rows} rows; train on it: cymatic train {shlex.quote(str(output))}"))


@data.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Empty it; what is needed again is computed again.")] = False,
) -> None:
    """Say where the cache of features lies and how large it is."""
    from cymatic.apps.inspect_command import cache_command

    cache_command(clear)


@data.command("get")
def get_data(
    name: Annotated[str, typer.Argument(help="digits, samples, instruments, esc10, esc50 or vas.", show_default=False)],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where the pack's folder goes.")] = Path("data"),
    given: Annotated[
        Path | None,
        typer.Option(
            "--from", help="What was fetched by hand: a folder, an archive, a sound font.", show_default=False
        ),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help="Of vas: rgb, flow, resnet50, or none beside the mels; may be given again.",
            show_default="rgb and flow",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(help="Of vas: a class, such as dog; may be given again.", show_default="all")
    ] = None,
) -> None:
    """Fetch published data, most of which the starters were made of, as a folder to train on."""
    from cymatic.apps.data_get_command import data_get_command

    data_get_command(name, folder, given, features or (), classes or ())


@data.command("list")
def list_data() -> None:
    """List the published data that can be fetched, with sizes and licences."""
    from cymatic.apps.data_get_command import data_list_command

    data_list_command()
