"""`cymatic embed` and `cymatic rank`: words, sounds and pictures in the space of aligned encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cymatic.apps.progress import ProgressBar
from cymatic.apps.terminal import printable, say_skipped

Model = Annotated[str, typer.Option(help="Aligned encoders, or a model that holds some: a run, a starter.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


def embed(
    given: Annotated[
        list[str],
        typer.Argument(help="Words, and files such as apple.png.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the vectors go: an .npz file.")],
    model: Model = "starter-picture",
    device: Device = "cpu",
) -> None:
    """Write the vectors of words and files."""
    from cymatic.apps.outputs import check_not_source
    from cymatic.files import check_output
    from cymatic.pipelines.load import load_embedder
    from cymatic.pipelines.vectors import SUFFIX, embedded

    check_output(output, (SUFFIX,))
    check_not_source(output, *(Path(one) for one in given))
    encoders = load_embedder(model, device=device)
    with ProgressBar("embedding", "items") as progress:
        vectors, skipped = embedded(encoders, given, progress)
    say_skipped(skipped)
    number, dim = vectors.vectors.shape
    print(printable(f"{vectors.write(output)}  {number} vectors of {dim} numbers by {vectors.model}"))


def rank(
    query: Annotated[str, typer.Argument(help="Words, or a file such as apple.png.", show_default=False)],
    candidates: Annotated[
        list[str],
        typer.Argument(help="Words, files, and vectors that cymatic embed wrote.", show_default=False),
    ],
    model: Model = "starter-picture",
    n: Annotated[int | None, typer.Option("-n", help="How many to show.", show_default="all")] = None,
    device: Device = "cpu",
) -> None:
    """Sort files and words by how much they are like a query."""
    from cymatic.errors import Error
    from cymatic.pipelines.embed import best_first
    from cymatic.pipelines.load import load_embedder
    from cymatic.pipelines.vectors import embedded

    if n is not None and n < 1:
        raise Error(f"{n} were asked for; give 1 or more")
    encoders = load_embedder(model, device=device)
    asked, _ = embedded(encoders, [query])
    if len(asked.names) > 1:
        raise Error(f"{query} holds {len(asked.names)} vectors, and one is asked with; give a file of one vector")
    with ProgressBar("embedding", "items") as progress:
        found, skipped = embedded(encoders, candidates, progress)
    say_skipped(skipped)
    scores = (found.vectors @ asked.vectors[0]).tolist()
    for i in best_first(scores)[:n]:
        print(printable(f"{scores[i]:.3f}  {found.names[i]}"))
