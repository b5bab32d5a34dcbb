"""What `cymatic sound` and `cymatic picture` have in common: prompts -> files, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cymatic.apps.outputs import check_not_source, check_outside
from cymatic.apps.progress import ProgressBar, by_items
from cymatic.apps.prompts import names_of, prompt_of, read_prompts
from cymatic.apps.terminal import printable, say_notes, say_skipped
from cymatic.apps.verbs import numbered
from cymatic.errors import Error, ModelError
from cymatic.files import check_output

if TYPE_CHECKING:
    from cymatic.media.medium import Medium
    from cymatic.pipelines.generate import Generator

PNG = (".png",)

Words = Annotated[str | None, typer.Argument(help="What to make.", show_default=False)]
Prompts = Annotated[
    Path | None,
    typer.Option(
        help="A text file with a prompt a line, or a folder of files; -o is then a folder.",
        readable=False,
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same; number i of several uses seed + i.")]
Guidance = Annotated[
    float | None, typer.Option(help="How strongly to follow the prompt; 1 is as learned.", show_default="the model's")
]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.", show_default="the model's")]
Temperature = Annotated[float | None, typer.Option(help="How boldly codes are drawn.", show_default="the model's")]
TopK = Annotated[int | None, typer.Option(help="Draw among so many of the likeliest codes.")]
TopP = Annotated[float | None, typer.Option(help="Draw among the likeliest codes of this share.")]
Keep = Annotated[int | None, typer.Option(help="Write the best so many of the -n, best first.", show_default="all")]
Ranker = Annotated[
    str | None,
    typer.Option(help="A model that aligns words with these, to choose by.", show_default="the model's"),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


@dataclass(frozen=True)
class Request:
    """What a command was asked for.

    medium: what it makes. suffixes: of files that it writes. settings: of sampling, None where the user says nothing.
    keep: of the `n` the best so many, by the encoders of `ranker`, or the model's own. token: a model that makes a word
    of a sound, for a Stable Diffusion; template: the prompt around that word. more: what else the model is
    told. drawn: where each is drawn to, too. sheet: where all are drawn to on one page. finish: what is done to each
    before it is written. check: looks at the model before anything is made. tell: says what one is like.
    """

    medium: Medium[Any]
    suffixes: Collection[str]
    prompt: str | None
    prompts: Path | None
    output: Path
    n: int
    seed: int
    model: str
    device: str
    settings: Mapping[str, Any]
    tell: Callable[[Any], str]
    keep: int | None = None
    ranker: str | None = None
    token: str | None = None
    template: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    drawn: Path | None = None
    sheet: Path | None = None
    finish: Callable[[Any], Any] = lambda value: value
    check: Callable[[Generator], None] = lambda make: None

    @property
    def kept(self) -> int:
        """How many of one prompt are written."""
        return self.n if self.keep is None else self.keep


@dataclass(frozen=True)
class PromptFiles:
    """One prompt, and where what is made of it is written and drawn."""

    prompt: str | Path
    places: list[Path]
    drawings: list[Path]


def generate(asked: Request) -> None:
    """Makes, writes and names everything that was asked for.

    Raises Error, before anything is made, for outputs that can't be written, a prompt that can't be read, and a model
    of another medium or without a setting.
    """
    from cymatic.pipelines.asked import AT_ONCE, check_count, described
    from cymatic.pipelines.load import load_prompted

    check_count(asked.seed, asked.n)
    _check_keep(asked)
    jobs, n = _jobs(asked), asked.n
    _check_nothing_is_lost(asked, jobs)
    if asked.sheet is not None:
        check_output(asked.sheet, PNG)
        _check_sheet(asked, len(jobs) * asked.kept)
    make: Any = load_prompted(asked.model, device=asked.device)
    if asked.token is not None or asked.template is not None:
        make = _with_token(make, asked)
    check_medium(make, asked.medium, asked.model)
    given = _settings(make, asked)
    asked.check(make)
    more = {**asked.more, **_ranked(make, asked)}
    of_folder = asked.prompts is not None and asked.prompts.is_dir()
    if asked.prompts is not None:
        if not of_folder:
            _check_prompts(make, jobs, asked.prompts)
        for folder in filter(None, (asked.output, asked.drawn)):
            folder.mkdir(exist_ok=True)
    shown: list[tuple[str, Any] | None] = []
    skipped: list[tuple[str, str]] = []
    noun, total = asked.medium.noun, len(jobs) * n
    with ProgressBar(f"making {asked.medium.nouns}" if total > 1 else f"making a {noun}") as progress:
        # A few at a time, so that of ten thousand none is lost when the command is stopped; but the best are of all.
        at_once = n if asked.keep is not None else AT_ONCE
        for number, job in enumerate(jobs):
            for start in range(0, n, at_once):
                some = min(at_once, n - start)
                follow = by_items(progress, number * n + start, some, total)
                try:
                    made = make(job.prompt, n=some, seed=asked.seed + start, on_step=follow, **more, **given)
                except (Error, OSError) as error:
                    if not of_folder or isinstance(error, ModelError):
                        raise
                    skipped.append((str(job.prompt), str(error)))  # one of many files that can't be read
                    break
                if start == 0:
                    say_notes(made)
                for i, one in enumerate(map(asked.finish, made), start):
                    written = asked.medium.write(one, job.places[i])
                    score = f", score {one.info['score']:.3f}" if "score" in one.info else ""
                    print(printable(f"{written}  {asked.tell(one)}, seed {one.info['seed']}{score}"))
                    if job.drawings and asked.medium.plot is not None:
                        print(printable(str(asked.medium.plot(one, job.drawings[i], None))))
                    if asked.sheet is not None:
                        shown.append((described(job.prompt), one))
    if len(skipped) == len(jobs):
        raise Error(skipped[0][1])
    say_skipped(skipped)
    if asked.sheet is not None and asked.medium.sheet is not None:
        print(printable(str(asked.medium.sheet(asked.sheet, shown, _columns(len(jobs), asked.kept)))))


def _with_token(make: Any, asked: Request) -> Any:
    """A Stable Diffusion that reads sounds as words. Raises Error where the model is none, or the word of another
    one."""
    from cymatic.pipelines.load import load_word
    from cymatic.pipelines.stable_diffusion import PictureDiffusion

    if not isinstance(make, PictureDiffusion):
        given = "--token" if asked.token is not None else "--template"
        raise Error(f"{given} is for a Stable Diffusion, and {asked.model} is none; leave it out")
    word = make.word if asked.token is None else load_word(asked.token, device=asked.device)
    if asked.template is not None:
        if word is None:
            raise Error("--template is a prompt around a sound's word; give --token, which makes one")
        word.template = asked.template
    return PictureDiffusion(make.diffusion, word, name=make.name)


def check_medium(make: Any, medium: Medium[Any], model: str) -> None:
    """Raises Error for a model that makes something else, naming the command for that."""
    if make.medium is medium:
        return
    command = make.medium.command
    hint = f"say cymatic {command[0]}" if command is not None else "use it from Python, by cymatic.load"
    raise Error(f"{model} makes {make.medium.nouns} and no {medium.nouns}; {hint}, or give a model of {medium.nouns}")


def _jobs(asked: Request) -> list[PromptFiles]:
    """Each prompt with its files. Raises Error where one can't be written."""
    if (asked.prompt is None) == (asked.prompts is None):
        both = "both words and --prompts were" if asked.prompt is not None else "neither words nor --prompts were"
        raise Error(f"{both} given; give one of them, such as cymatic {(asked.medium.command or ('sound',))[0]} "
                    '"..." -o ..., or --prompts FILE')  # fmt: skip
    if asked.prompts is None:
        assert asked.prompt is not None
        return [PromptFiles(prompt_of(asked.prompt), *_numbered(asked, asked.output, asked.drawn))]
    suffix = (asked.medium.command or ("", ""))[1]
    for folder in filter(None, (asked.output, asked.drawn)):
        if folder.suffix.lower() in (*asked.suffixes, *PNG):
            raise Error(f"{folder} is the name of one file, and --prompts makes several; give a folder")
        if folder.exists() and not folder.is_dir():
            raise Error(f"{folder} is a file, and --prompts makes several; give a folder")
        if not folder.exists():
            check_output(folder.with_name(f"{folder.name}{suffix}"), asked.suffixes if suffix else PNG)
    jobs = []
    prompts = read_prompts(asked.prompts)
    for prompt, name in zip(prompts, names_of(prompts), strict=True):
        drawn = None if asked.drawn is None else asked.drawn / f"{name}{PNG[0]}"
        jobs.append(PromptFiles(prompt, *_numbered(asked, asked.output / f"{name}{suffix}", drawn)))
    return jobs


def _numbered(asked: Request, output: Path, drawn: Path | None) -> tuple[list[Path], list[Path]]:
    """The files of one prompt. Raises Error for one that can't be written into a folder that is there."""
    count = asked.kept
    places = [numbered(output, i, count) for i in range(1, count + 1)]
    drawings = [] if drawn is None else [numbered(drawn, i, count) for i in range(1, count + 1)]
    first = asked.prompts is None
    for paths, suffixes in ((places, asked.suffixes), (drawings, PNG)):
        for path in paths:
            if first or path.parent.is_dir():
                check_output(path, suffixes)
    return places, drawings


def _check_nothing_is_lost(asked: Request, jobs: Sequence[PromptFiles]) -> None:
    """Raises Error where a file would be written over one that is read, or into the folder of those."""
    if asked.prompts is not None and asked.prompts.is_dir():
        for folder in filter(None, (asked.output, asked.drawn)):
            check_outside(folder, asked.prompts)
    for job in jobs:
        if isinstance(job.prompt, Path):
            for place in filter(None, (*job.places, *job.drawings, asked.sheet)):
                check_not_source(place, job.prompt)


def _settings(make: Generator, asked: Request) -> dict[str, Any]:
    given = {name: value for name, value in asked.settings.items() if value is not None}
    if strange := [name for name in given if name not in make.settings]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in asked.settings if name in make.settings)
        raise Error(f"{asked.model} takes no --{strange[0].replace('_', '-')}; it takes {options}")
    return given


def _check_keep(asked: Request) -> None:
    if asked.keep is not None and not 1 <= asked.keep <= asked.n:
        raise Error(f"--keep is {asked.keep} of -n {asked.n}; give a number from 1 to that, such as -n 16 --keep 4")
    if asked.ranker is not None and asked.keep is None:
        raise Error("--ranker chooses what --keep keeps; give that, too, such as -n 16 --keep 4")


def _ranked(make: Generator, asked: Request) -> dict[str, Any]:
    """How the best are chosen. Raises Error, before anything is made, where nothing could choose them."""
    if asked.keep is None:
        return {}
    if asked.ranker is None:
        if not make.has_ranker:
            raise Error(
                f"{asked.model} has nothing to choose the best by; leave --keep out, or give --ranker, a model that "
                "aligns words and what is made"
            )
        return {"keep": asked.keep, "ranker": make.ranker}
    from cymatic.pipelines.embed import Embedder
    from cymatic.pipelines.load import load

    ranker = load(asked.ranker, device=asked.device)
    if not isinstance(ranker, Embedder):
        raise Error(f"{asked.ranker} aligns nothing, so it can't choose; give a model that aligns words and "
                    f"{asked.medium.nouns} (task: alignment)")  # fmt: skip
    return {"keep": asked.keep, "ranker": ranker}


def _check_prompts(make: Generator, jobs: list[PromptFiles], path: Path) -> None:
    """Raises Error for the first prompt of a file that can't be read, before any is made."""
    for job in jobs:
        try:
            make.condition(job.prompt)
        except Error as error:
            raise Error(f'{path}, "{job.prompt!s:.60}": {error}') from None


def _check_sheet(asked: Request, count: int) -> None:
    from cymatic.media.picture import MOST_ITEMS

    if count > MOST_ITEMS:
        raise Error(
            f"{count} {asked.medium.nouns} don't fit on one sheet; make {MOST_ITEMS} at most, or leave --grid out"
        )


def _columns(prompts: int, n: int) -> int:
    """A row for each prompt; of one prompt, or of one of each, about a square."""
    return n if prompts > 1 and n > 1 else round((prompts * n) ** 0.5 + 0.49)
