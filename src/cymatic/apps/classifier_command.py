"""`cymatic judge train`: a judge from a folder's own clips, and how well it hears those that are held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from typer import Context
else:
    Context = typer.Context.__mro__[1]  # the base, of which typer makes what it passes

judge = typer.Typer(
    name="judge",
    help="Train a judge that says what a sound is, to evaluate models with.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@judge.callback()
def about(context: Context) -> None:
    """Train a judge that says what a sound is, to evaluate models with."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@judge.command()
def train(
    folder: Annotated[
        Path, typer.Argument(help="Sounds and what they are called.", show_default=False, readable=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The judge's folder.")],
    question: Annotated[
        list[str] | None,
        typer.Option(
            help="What it learns to hear: caption, or a field of the manifest; may be given twice.",
            show_default="caption",
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long at most.")] = 5.0,
    seed: Annotated[int, typer.Option(help="The same seed and steps give the same judge.")] = 0,
) -> None:
    """Train a judge on a folder's clips, and try it on those that are held out."""
    from cymatic.apps.classifier_training_command import judge_training_command

    judge_training_command(folder, output, question or ["caption"], minutes, seed)
