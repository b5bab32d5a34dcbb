"""`cymatic convert`: sounds of any format that can be read, as WAV or FLAC."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cymatic.apps.progress import ProgressBar, by_seconds

if TYPE_CHECKING:
    from cymatic.media.audio_streams import Blocks

FORMATS = ("wav", "flac")


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
    from cymatic.folder_lock import only_writer
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
    with only_writer(output):
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
    with ProgressBar("converting", "s") as progress:
        seconds = _write(source, place, wanted, lambda blocks: by_seconds(blocks, progress, source))
    print(printable(f"{place}  {seconds:.2f} s"))


def _folder(source: Path, output: Path, wanted: _Wanted, workers: int) -> tuple[int, float, int]:
    """Each sound to its place below `output`; how many, their seconds, and how many were broken, each named."""
    from cymatic.apps.outputs import places_of
    from cymatic.apps.terminal import printable
    from cymatic.errors import Error, OutputError
    from cymatic.files import make_folder

    sources, broken = _sounds(source, output)
    places = places_of(source, sources, output, f".{wanted.kind}")
    taken = [place for place in places.values() if os.path.lexists(place)]
    if taken:
        raise Error(
            f"{taken[0]}{f' and {len(taken) - 1} more' if len(taken) > 1 else ''} of the files to write are there "
            "already, and nothing is overwritten; give another folder"
        )
    for name, why in broken:
        print(printable(f"skipped   {name}: {why}"), file=sys.stderr)

    def work(one: tuple[Path, Path]) -> float | str:
        try:
            make_folder(one[1].parent)
            return _write(*one, wanted)
        except OutputError:  # nor can any other be written
            raise
        except (Error, OSError) as error:
            return str(error)

    done, seconds, skipped = 0, 0.0, len(broken)
    with ThreadPoolExecutor(workers) as pool, ProgressBar("converting", "files") as progress:
        progress(0, len(sources))
        try:
            for number, (one, made) in enumerate(zip(sources, pool.map(work, places.items()), strict=True), 1):
                if isinstance(made, str):
                    skipped += 1
                    print(printable(f"skipped   {one}: {made.removeprefix(f'{one} ')}"), file=sys.stderr)
                else:
                    done, seconds = done + 1, seconds + made
                progress(number, len(sources))
        except OutputError as error:
            pool.shutdown(cancel_futures=True)
            raise OutputError(f"{error}; {done} of {len(sources)} files are done") from None
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


def _write(
    source: Path, place: Path, wanted: _Wanted, timed: Callable[[Blocks], Blocks] = lambda blocks: blocks
) -> float:
    """Converts one file, which appears whole or not at all; its length in seconds. timed: sees the pieces pass.

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
    quieter = ((block / np.float32(peak), own) for block, own in timed(files.blocks(source)))
    with writing(place) as file, SoundWriter(file, f".{wanted.kind}", rate, channels) as writer:
        for block in fitted(quieter, rate, channels, mix, name=str(source)):
            writer.add(block)
            samples += block.shape[1]
        if os.path.lexists(place):  # since the work began
            raise Error(f"{place} is there already, and nothing is overwritten; give another name")
    return samples / rate
