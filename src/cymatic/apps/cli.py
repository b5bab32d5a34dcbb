"""The command line: `cymatic sound`, `picture`, `train`, `evaluate`, `plot`, `encode`, `decode`, `convert`, ...

Only typer is imported at the top: `cymatic --help` is instant because torch is loaded by the command that needs it.
Whatever a user can mend is one line on stderr and exit code 2.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cymatic.apps.captions_option import CAPTIONS_HELP
from cymatic.apps.classifier_command import classifier, judge, renamed
from cymatic.apps.codec_commands import decode, encode
from cymatic.apps.codec_map_command import codec
from cymatic.apps.convert_command import convert
from cymatic.apps.data_command import data
from cymatic.apps.generate_commands import GENERATE
from cymatic.apps.import_command import import_command
from cymatic.apps.models_command import models
from cymatic.apps.reconstruct_command import reconstruct
from cymatic.apps.retrieve_command import retrieve
from cymatic.apps.space_commands import embed, rank
from cymatic.apps.terminal import open_closed_streams, say_note
from cymatic.apps.verbs import VERBS
from cymatic.errors import Error, Note
from cymatic.files import reason
from cymatic.version import __version__

# The base of typer's usage errors, found through a public name because typer has moved the class between its versions.
UsageError: type[Exception] = typer.BadParameter.__mro__[2]

PLOTS = (".png",)

app = typer.Typer(
    name="cymatic",
    help="Words in, sound out; and anyone trains the same small parts on a folder of their own.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data)
app.add_typer(classifier)
app.add_typer(judge)
app.add_typer(codec)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0, 2 for what the user can mend, 130 for an interrupt."""
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal can't show
    code = run(sys.argv[1:] if arguments is None else list(arguments))
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again and complain
        if code == 0 and not isinstance(error, BrokenPipeError):  # `cymatic ... | head` has what it wanted
            code = _fail(f"the output: {reason(error)}")
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of one command."""
    # Threads that wait for each other by spinning make torch 10 to 30 times slower as soon as another program wants a
    # core (measured: 10.9 s instead of 0.35 s a training step). OpenMP reads this once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _note
            return app(arguments or ["--help"], standalone_mode=False, prog_name="cymatic") or 0
    except UsageError as error:
        return _fail(error.format_message())  # type: ignore[attr-defined]
    except Error as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(str(error) if error.errno is None else f"{error.filename or 'the output'}: {reason(error)}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):  # torch's are RuntimeErrors
            raise
        return _fail(f"there is not enough memory ({str(error).splitlines()[0]}); ask for less at once")
    except (KeyboardInterrupt, typer.Abort):
        return 130


def _fail(message: str) -> int:
    print(f"cymatic: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
    if issubclass(category, Note):  # what libraries say to programmers is no news to a user
        say_note(message)


def _version(asked: bool) -> bool:
    if asked:
        print(f"cymatic {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Words in, sound out; and anyone trains the same small parts on a folder of their own."""


for command in GENERATE:
    app.command()(command)


@app.command()
def plot(
    audio: Annotated[Path, typer.Argument(help="A sound file.", show_default=False, readable=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")],
) -> None:
    """Draw the waveform and the mel spectrogram of a sound file."""
    from cymatic.apps.outputs import check_not_source
    from cymatic.files import check_output
    from cymatic.media.sound import Sound

    check_output(output, PLOTS)
    check_not_source(output, audio)
    print(Sound.read(audio).plot(output, title=audio.name))


@app.command()
def train(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Sounds or pictures and what they are called (docs/how-to-folder.md); with a recipe of packs, what "
            "holds them.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A shipped recipe's name or a YAML file.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The run's folder.", show_default="runs/FOLDER")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="How long, reading the data included.", show_default="15")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="How many steps instead.", show_default=False)] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Go on from a starter or a run; or scratch.", show_default="planned"),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the recipe: prior.width=256.", show_default=False)
    ] = None,
    captions: Annotated[str | None, typer.Option(help=CAPTIONS_HELP, show_default="auto")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    devices: Annotated[int, typer.Option(help="How many of them share each batch.")] = 1,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 where the device is faster with it.")] = "fp32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network first; pays on long runs.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop (2) where a file or a line is broken.")] = False,
    verdict: Annotated[
        bool, typer.Option("--verdict/--no-verdict", help="End with what it has learned, and what to try.")
    ] = True,
) -> None:
    """Train a model of your own on a folder of sounds or pictures."""
    from cymatic.apps.train_command import Hardware, train_command

    raise typer.Exit(
        train_command(
            folder,
            out,
            recipe=recipe,
            minutes=minutes,
            steps=steps,
            start=start,
            settings=settings or [],
            captions=captions,
            resume=resume,
            hardware=Hardware(device, devices, precision, compiled),
            strict=strict,
            verdict=verdict,
        )
    )


@app.command()
def evaluate(
    run: Annotated[
        str, typer.Argument(help="A folder that cymatic train wrote, or a starter's name.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The report's folder.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Real clips to compare with.", show_default="what it was trained on", readable=False),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            help="A classifier's folder (cymatic classifier train).",
            show_default="one is trained within a minute or so",
        ),
    ] = None,
    judge: Annotated[
        Path | None, typer.Option(hidden=True, help="The name of --classifier in earlier versions.")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="How many clips to generate.")] = 100,
    seed: Annotated[int, typer.Option(help="Take i of a caption uses seed + i.")] = 0,
    captions: Annotated[str | None, typer.Option(help=CAPTIONS_HELP, show_default="as it was trained")] = None,
) -> None:
    """Measure a model: reconstruction, accuracy, distances, memory, variety; as numbers and as a page."""
    from cymatic.apps.evaluate_command import evaluate_command

    if judge is not None:
        if classifier is not None:
            raise Error("--classifier and --judge are one option, and both were given; give --classifier")
        renamed("--judge", "--classifier")
    evaluate_command(run, data, classifier or judge, n, seed, output, captions)


for verb in VERBS:
    app.command()(verb)
app.command()(reconstruct)
app.command()(encode)
app.command()(decode)
app.command()(convert)
app.command("import")(import_command)
app.command()(models)
app.command()(retrieve)
app.command()(embed)
app.command()(rank)
