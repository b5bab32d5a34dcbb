"""`cymatic convert`: sounds of any format that can be read, as WAV or FLAC."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("wav", "flac")
EVERY = 2.0  # seconds between two reports of progress
EVERY_IN_A_LOG = 30.0


def convert(
    source: Annotated[
        Path, typer.Argument(help="A folder of sounds, or one sound.", show_default=False, readable=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to; a file for one sound.")],
    rate: Annotated[int | None, typer.Option(help="Samples a second.", show_default="each sound's own")] = None,
    channels: Annotated[
        int | None, typer.Option(help="1 mixes all of them; more repeat one.", show_default="each sound's own")
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="wav or flac, both of 16 bits.", show_default="wav")] = "",
    workers: Annotated[
        int | None, typer.Option(help="How many files at once.", show_default="one for each core")
    ] = None,
) -> None:
    """Convert sounds of any format to WAV or FLAC."""
    from cymatic.apps.terminal import printable
    from cymatic.config import nearest
    from cymatic.errors import Error
    from cymatic.media.audio_files import MAX_RATE
    from cymatic.media.sound import MAX_CHANNELS

    single = not source.is_dir()
    kind = kind or (output.suffix.lower().removeprefix(".") if single and output.suffix else FORMATS[0])
    if kind not in FORMATS:
        raise Error(f'"{kind}" is no format to convert to; {nearest(kind, FORMATS)}')
    if rate is not None and not 1 <= rate <= MAX_RATE:
        raise Error(f"a rate of {rate} Hz was asked for; give 1 to {MAX_RATE}")
    if channels is not None and not 1 <= channels <= (8 if kind == "flac" else MAX_CHANNELS):
        raise Error(f"{channels} channels were asked for; a .{kind} has 1 to {8 if kind == 'flac' else MAX_CHANNELS}")
    wanted = _Wanted(kind, rate, channels)
    if not source.exists():
        raise Error(f"{source} does not exist; give a folder of sounds, or one sound")
    if single:
        _one(source, output, wanted)
        return
    if output.exists() and not output.is_dir():
        raise Error(f"{source} is a folder, and {output} is none; give a folder to write to")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = cores if workers is None else workers
    if not 1 <= workers <= 256:
        raise Error(f"{workers} workers were asked for; give a number from 1 to 256")
    done, seconds, skipped = _folder(source, output, wanted, workers)
    if done == 0:
        raise Error(f"none of the {skipped} files of {source} could be used; see what is said of each")
    print(printable(f"{done} files, {seconds:.2f} s, in {output}; {skipped} skipped"))


@dataclass(frozen=True)
class _Wanted:
    kind: str
    rate: int | None
    channels: int | None


def _one(source: Path, output: Path, wanted: _Wanted) -> None:
    from cymatic.apps.terminal import printable
    from cymatic.errors import Error
    from cymatic.files import check_output

    place = output / f"{source.stem}.{wanted.kind}" if output.is_dir() else output
    check_output(place, (f".{wanted.kind}",))
    if os.path.lexists(place):
        raise Error(f"{place} is there already, and nothing is overwritten; give another name")
    print(printable(f"{place}  {_write(source, place, wanted):.2f} s"))


def _folder(source: Path, output: Path, wanted: _Wanted, workers: int) -> tuple[int, float, int]:
    """Each sound to its place below `output`; how many, their seconds, and how many were broken, each named."""
    from cymatic.apps.terminal import printable
    from cymatic.errors import Error

    sources, broken = _sounds(source, output)
    places = _places(source, sources, output, wanted.kind)
    taken = [place for place in places if os.path.lexists(place)]
    if taken:
        raise Error(
            f"{taken[0]}{f' and {len(taken) - 1} more' if len(taken) > 1 else ''} of the files to write are there "
            "already, and nothing is overwritten; give another folder"
        )
    for name, why in broken:
        print(printable(f"skipped   {name}: {why}"), file=sys.stderr)

    def work(one: tuple[Path, Path]) -> float | str:
        try:
            one[1].parent.mkdir(parents=True, exist_ok=True)
            return _write(*one, wanted)
        except (Error, OSError) as error:
            return str(error)

    progress, done, seconds, skipped = _Progress(len(sources)), 0, 0.0, len(broken)
    with ThreadPoolExecutor(workers) as pool:
        try:
            pairs = list(zip(sources, places, strict=True))
            for number, (one, made) in enumerate(zip(sources, pool.map(work, pairs), strict=True), 1):
                if isinstance(made, str):
                    skipped += 1
                    print(printable(f"skipped   {one}: {made.removeprefix(f'{one} ')}"), file=sys.stderr)
                else:
                    done, seconds = done + 1, seconds + made
                progress.at(number)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return done, seconds, skipped


def _sounds(folder: Path, output: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The sounds in a folder and below, and what can't be read of it. What lies in `output` is not among them."""
    from cymatic.data.walk import walk
    from cymatic.errors import Error
    from cymatic.media.audio import AUDIO

    walked = walk(folder)
    inside = output.resolve()
    found = [
        path
        for path in walked.files
        if path.suffix.lower() in AUDIO.suffixes
        and (inside == folder.resolve() or not path.resolve().is_relative_to(inside))
    ]
    broken = [(path, why) for path, why in walked.broken if not path.suffix or path.suffix.lower() in AUDIO.suffixes]
    if not found and not broken:
        raise Error(f"{folder} holds no sound file; give a folder that holds some")
    return found, broken


def _places(folder: Path, sources: Sequence[Path], output: Path, kind: str) -> list[Path]:
    """Where each goes. Several that would get one name keep their extensions: `a.wav.flac`, `a.mp3.flac`.

    Names are compared without upper and lower case, as some file systems do. Raises Error where that leaves two alike.
    """
    from cymatic.errors import Error

    names = [source.relative_to(folder) for source in sources]
    plain = Counter(str(name.with_suffix("")).casefold() for name in names)
    made = [
        name.with_suffix(f".{kind}")
        if plain[str(name.with_suffix("")).casefold()] == 1
        else name.with_name(f"{name.name}.{kind}")
        for name in names
    ]
    first: dict[str, Path] = {}
    for name, one in zip(names, made, strict=True):
        other = first.setdefault(str(one).casefold(), name)
        if other != name:
            raise Error(f"{folder / other} and {folder / name} would both become {output / one}; rename one of them")
    return [output / one for one in made]


def _write(source: Path, place: Path, wanted: _Wanted) -> float:
    """Converts one file, which appears whole or not at all; its length in seconds.

    It is read twice: what is louder than full scale is made quieter as a whole, and a mix must not cancel its channels.
    """
    import numpy as np

    from cymatic.errors import Error
    from cymatic.files import writing
    from cymatic.media import audio_files as files
    from cymatic.media.audio_streams import SoundWriter, fitted
    from cymatic.signal.cancellation import Cancellation

    peak, mix, rate, channels, samples = 1.0, None, wanted.rate, wanted.channels, 0
    for block, own in files.blocks(source, lambda what: None):
        rate, channels = rate or own, channels or len(block)
        mix = mix or Cancellation(len(block), own)
        if len(block) not in (1, channels):
            mix.add(block)
        peak = max(peak, float(np.abs(block).max(initial=0)))
    assert rate is not None and channels is not None
    quieter = ((block / np.float32(peak), own) for block, own in files.blocks(source))
    with writing(place) as file, SoundWriter(file, f".{wanted.kind}", rate, channels) as writer:
        for block in fitted(quieter, rate, channels, mix):
            writer.add(block)
            samples += block.shape[1]
        if os.path.lexists(place):  # since the work began
            raise Error(f"{place} is there already, and nothing is overwritten; give another name")
    return samples / rate


class _Progress:
    """Says after two seconds how far the work is and how long it will take: on a terminal in one line, in a log in
    lines of their own, now and then."""

    def __init__(self, count: int) -> None:
        self._count, self._start = count, time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._every = EVERY if self._terminal else EVERY_IN_A_LOG
        self._next = self._start + self._every

    def at(self, number: int) -> None:
        """`number` files are done."""
        now = time.monotonic()
        if self._terminal and number == self._count and self._next > self._start + self._every:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if now < self._next or number == self._count:
            return
        self._next = now + self._every
        left = round((now - self._start) / number * (self._count - number))
        line = f"{number} of {self._count} files, about {left // 60}:{left % 60:02} left"
        print(
            f"\r\x1b[K{line}" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=sys.stderr,
            flush=True,
        )
