"""`cymatic retrieve`: words -> the nearest pictures of a folder, or a picture -> the nearest captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cymatic.apps.captions_option import CaptionsOption, captions_asked
from cymatic.apps.progress import Phases
from cymatic.apps.terminal import printable, say_skipped


def retrieve(
    query: Annotated[
        str, typer.Argument(help="Words, or the path of a file such as red-apple.png.", show_default=False)
    ],
    folder: Annotated[Path, typer.Argument(help="Where to search.", show_default=False, readable=False)],
    model: Annotated[
        str, typer.Option(help="Aligned encoders, or a model that holds some: a run, an imported CLIP, a starter.")
    ] = "starter-picture",
    n: Annotated[int, typer.Option("-n", help="How many to show.")] = 5,
    find: Annotated[
        str | None,
        typer.Option(help="What to search: picture or caption, say.", show_default="files for words, else captions"),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    captions: CaptionsOption = "auto",
) -> None:
    """Find the nearest pictures of a folder, or the nearest captions."""
    from cymatic.media import medium_of
    from cymatic.pipelines.load import load_embedder
    from cymatic.pipelines.retrieve import retrieve as search

    by = captions_asked(captions) or "auto"
    encoders = load_embedder(model, device=device)
    medium = medium_of(query)  # by the suffix, so that a file that is not there is no words
    name, value = (None, query) if medium is None else (medium.name, medium.read(Path(query)))
    with Phases("items") as show:

        def on_item(done: int, total: int) -> None:
            show("reading", done, total)

        matches, skipped = search(encoders, value, name, folder, find=find, count=n, captions_by=by, on_item=on_item)
    say_skipped(skipped, " of the folder")
    for match in matches:
        parts = [f"{match.score:.3f}", *([] if match.path is None else [str(match.path)]), match.caption]
        print(printable("  ".join(part for part in parts if part)))
