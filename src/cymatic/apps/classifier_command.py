"""`cymatic classifier train`: a classifier from a folder's own clips, and how good it is on those that are held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cymatic.apps.captions_option import CaptionsOption
from cymatic.apps.terminal import say_note

if TYPE_CHECKING:
    from typer import Context
else:
    Context = typer.Context.__mro__[1]  # the base, of which typer makes what it passes


def _commands(name: str, help: str, hidden: bool) -> typer.Typer:
    return typer.Typer(name=name, help=help, invoke_without_command=True, hidden=hidden, rich_markup_mode=None)


classifier = _commands("classifier", "Train a classifier that tells what a sound is, to evaluate models with.", False)
judge = _commands("judge", "The name of cymatic classifier in earlier versions.", True)


@classifier.callback()
def about(context: Context) -> None:
    """Train a classifier that tells what a sound is, to evaluate models with."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@judge.callback()
def about_the_earlier_name(context: Context) -> None:
    """The name of cymatic classifier in earlier versions."""
    renamed("cymatic judge", "cymatic classifier")
    about(context)


def renamed(earlier: str, name: str) -> None:
    """Says in one line on stderr what a command or an option is called by now."""
    say_note(f"{earlier} is called {name} by now")


@classifier.command()
@judge.command()
def train(
    folder: Annotated[
        Path, typer.Argument(help="Sounds and what they are called.", show_default=False, readable=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The classifier's folder.")],
    question: Annotated[
        list[str] | None,
        typer.Option(
            help="What it learns to tell: caption, or a field of the manifest; may be given twice.",
            show_default="caption",
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long at most.")] = 5.0,
    seed: Annotated[int, typer.Option(help="The same seed and steps give the same classifier.")] = 0,
    captions: CaptionsOption = "auto",
) -> None:
    """Train a classifier on a folder's clips, and try it on those that are held out."""
    from cymatic.apps.classifier_training_command import classifier_training_command

    classifier_training_command(folder, output, question or ["caption"], minutes, seed, captions)
