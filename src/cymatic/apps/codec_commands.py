"""`cymatic encode` and `cymatic decode`: files, pipes and folders between sounds and `.cym`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cymatic.apps.captions_option import CAPTIONS_HELP
from cymatic.apps.progress import ProgressBar, by_seconds

if TYPE_CHECKING:
    from cymatic.media.audio_streams import Blocks
    from cymatic.media.pipes import ByteSource, Sink
    from cymatic.pipelines.sound_codec import SoundCodec, Written

PIPE = Path("-")
STARTER = "starter-codec"

Model = Annotated[str, typer.Option(help="A starter's name, or a folder that cymatic train wrote.")]
Workers = Annotated[
    int | None, typer.Option(help="How many files of a folder at once.", show_default="one for each core")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there and not of its making.")]


def encode(
    audio: Annotated[
        Path,
        typer.Argument(help="A sound file, a folder of them, or - for a pipe.", show_default=False, readable=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .cym file; a folder for a folder; - for a pipe.")],
    kbps: Annotated[float | None, typer.Option(help="Thousand bits a second.", show_default="the model's")] = None,
    entropy: Annotated[
        bool, typer.Option("--entropy", help="Spend fewer bits on what was to be expected; slower, nothing is lost.")
    ] = False,
    model: Model = STARTER,
    workers: Workers = None,
    overwrite: Overwrite = False,
    device: Device = "cpu",
    engine: Annotated[
        str | None,
        typer.Option(
            help="local or ray: a folder, or tar archives of sounds, into shards of codes, on this machine or a "
            "cluster (docs/how-to-scale.md).",
            show_default="single files",
        ),
    ] = None,
    clips: Annotated[int, typer.Option(help="How many files a shard, with --engine.")] = 256,
    strict: Annotated[bool, typer.Option("--strict", help="Stop (2) where a file is broken, with --engine.")] = False,
    captions: Annotated[str | None, typer.Option(help=f"With --engine. {CAPTIONS_HELP}", show_default="auto")] = None,
) -> None:
    """Turn sounds into codes: small .cym files."""
    from cymatic.files import check_output

    if engine is not None:
        from cymatic.apps.bulk_command import bulk_command

        bulk_command(
            audio, output, model, kbps, engine, workers=workers, clips=clips, entropy=entropy, strict=strict,
            device=device, captions=captions,
        )  # fmt: skip
        return
    if captions is not None:
        from cymatic.errors import Error

        raise Error("single files have no captions; leave --captions out, or give --engine local for shards")
    _check_kinds(audio, output)
    sources = _found(audio, _sounds(), "sound") if audio.is_dir() else []
    if output != PIPE and not audio.is_dir():
        check_output(output, (".cym",))
        _check_source(output, audio, overwrite)
    places = _places(audio, sources, output, ".cym", overwrite)
    from cymatic.media import pipes
    from cymatic.pipelines.load import load_codec

    codec = load_codec(model, device=device)
    codec.levels(kbps)  # says before the work what would fail in it
    _say_if_whole(codec, audio)
    if audio.is_dir():
        _folder(audio, places, output, workers, lambda one, to: codec.encode_file(one, to, kbps, entropy=entropy))
    else:
        from cymatic.files import writing

        with ProgressBar("encoding", "s") as progress:

            def timed(blocks: Blocks) -> Blocks:
                return by_seconds(blocks, progress, None if audio == PIPE else audio)

            def through(sink: Sink) -> Written:
                if audio == PIPE:
                    return codec.encode_blocks(timed(pipes.blocks(_input())), sink, kbps, entropy=entropy)
                return codec.encode_stream(audio, sink, kbps, entropy=entropy, timed=timed)

            if output == PIPE:
                through(_Output())
                return
            with writing(output) as file:
                written = through(file)
        _say(output, written)


def decode(
    codes: Annotated[
        Path,
        typer.Argument(help="A .cym file, a folder of them, or - for a pipe.", show_default=False, readable=False),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Sound file to write: .wav, .flac, .ogg, .opus, .mp3; a folder; - for a WAV pipe."
        ),
    ],
    kbps: Annotated[
        float | None, typer.Option(help="Fewer thousand bits a second than there are.", show_default="all")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="What encoded it, if that is no starter: its folder.", show_default="as it says")
    ] = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    device: Device = "cpu",
) -> None:
    """Turn .cym files into sounds again."""
    from cymatic.files import check_output
    from cymatic.media.audio_files import FORMATS

    _check_kinds(codes, output)
    sources = _found(codes, (".cym",), ".cym") if codes.is_dir() else []
    if output != PIPE and not codes.is_dir():
        check_output(output, FORMATS)
        _check_source(output, codes, overwrite)
    places = _places(codes, sources, output, ".wav", overwrite)
    known = _Models(model, device)
    if codes.is_dir():
        _folder(codes, places, output, workers, lambda one, to: known.of(one).decode_file(one, to, kbps))
    else:
        _decode_one(codes, output, known, kbps)


def _decode_one(codes: Path, output: Path, known: _Models, kbps: float | None) -> None:
    from cymatic.files import writing
    from cymatic.media import pipes
    from cymatic.media.cym import CymReader
    from cymatic.media.pipes import WavPipe
    from cymatic.pipelines.sound_codec import opened

    with (
        nullcontext(_input()) if codes == PIPE else opened(codes) as stream,  # once, for it may be a pipe, too
        ProgressBar("decoding", "bytes") as progress,
    ):
        stream = _Counted(stream, progress, os.path.getsize(codes) if codes.is_file() else None)
        reader = CymReader(stream, pipes.NAME if codes == PIPE else str(codes))
        codec = known.named(reader.header.model)
        _say_if_whole(codec, codes)
        if output == PIPE:
            waves = codec.decoded(reader, kbps)
            pipe = WavPipe(_Output(), codec.rate, codec.channels)
            for wave in waves:
                pipe.add(wave)
        else:
            with writing(output) as file:
                written = codec.decode_blocks(reader, file, output.suffix, kbps)
            _say(output, written)


class _Models:
    """The models that files ask for, each loaded once; or the one that was given."""

    def __init__(self, given: str | None, device: str) -> None:
        from threading import Lock

        self.given, self.device = given, device
        self._loaded: dict[str, SoundCodec] = {}
        self._lock = Lock()

    def of(self, path: Path) -> SoundCodec:
        from cymatic.media.cym import CymReader
        from cymatic.pipelines.sound_codec import opened

        with opened(path) as file:
            return self.named(CymReader(file, str(path)).header.model)

    def named(self, name: str) -> SoundCodec:
        """Raises ModelError where a file's model is no starter, and none was given."""
        from cymatic.errors import ModelError
        from cymatic.pipelines.load import load_codec, starters

        wanted = self.given or name
        if self.given is None and name not in starters():  # a name alone must not open some folder
            raise ModelError(f'this was encoded by the model "{name}", which is no starter; give its folder as --model')
        with self._lock:
            if wanted not in self._loaded:
                self._loaded[wanted] = load_codec(wanted, device=self.device)
            return self._loaded[wanted]


# --- folders


def _sounds() -> Collection[str]:
    from cymatic.media.audio import AUDIO

    return AUDIO.suffixes


def _check_kinds(source: Path, output: Path) -> None:
    """Raises Error where one is a folder and the other is not, or binary data would go to a terminal."""
    from cymatic.apps.terminal import is_closed
    from cymatic.errors import Error

    if source == PIPE and is_closed("stdin"):
        raise Error("a pipe is to be read, and the standard input is closed; give a file, or pipe something in")
    if output == PIPE and is_closed("stdout"):
        raise Error("the output is to go into a pipe, and the standard output is closed; give -o FILE, or open it")
    if output == PIPE and sys.stdout.isatty():
        raise Error("the output would go to the terminal; give -o FILE, or pipe it into a program")
    if source.is_dir() and (output == PIPE or output.is_file()):
        raise Error(f"{source} is a folder, and {output} is none; give a folder to write to")


def _found(folder: Path, suffixes: Collection[str], what: str) -> list[Path]:
    """The files of a folder and those below it, links followed, in order; a link to nothing, too, so that it is named.

    Raises Error where there is none.
    """
    from cymatic.data.walk import walk
    from cymatic.errors import Error

    walked = walk(folder, hidden=True)
    there = sorted([*walked.files, *(path for path, _ in walked.broken)])
    found = [path for path in there if path.suffix.lower() in suffixes]
    if not found:
        raise Error(f"{folder} holds no {what} file; give a folder that holds some")
    return found


def _check_source(output: Path, source: Path, overwrite: bool) -> None:
    from cymatic.apps.outputs import check_not_source

    if not overwrite:
        check_not_source(output, source, hint="give another name, or --overwrite")


def _places(folder: Path, sources: Sequence[Path], output: Path, suffix: str, overwrite: bool) -> dict[Path, Path]:
    """Where each file of a folder goes. Raises Error where an original is in the way, unless that is to be replaced."""
    from cymatic.apps.outputs import check_originals, places_of
    from cymatic.pipelines.sound_codec import made_by_a_codec

    places = places_of(folder, sources, output, suffix)
    if not overwrite:
        check_originals(places, made_by_a_codec)
    return places


def _folder(
    folder: Path, places: Mapping[Path, Path], output: Path, workers: int | None, work: Callable[[Path, Path], Written]
) -> None:
    """Each file to its place below `output`. What is broken is named, skipped and counted."""
    from cymatic.folder_lock import only_writer

    with only_writer(output):
        _through(folder, places, workers, work)


def _through(
    folder: Path, places: Mapping[Path, Path], workers: int | None, work: Callable[[Path, Path], Written]
) -> None:
    import torch

    from cymatic.apps.terminal import printable
    from cymatic.errors import Error, OutputError
    from cymatic.files import make_folder

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = cores if workers is None else workers
    if not 1 <= workers <= 256:
        raise Error(f"{workers} workers were asked for; give a number from 1 to 256")
    sources = list(places)

    def one(source: Path) -> Written | str:
        try:
            make_folder(places[source].parent)
            return work(source, places[source])
        except OutputError:  # nor can any other be written
            raise
        except (Error, OSError) as error:
            return str(error)

    seconds, size, skipped, done = 0.0, 0, 0, 0
    sizes = [source.stat().st_size if source.is_file() else 0 for source in sources]  # a long file takes longer
    what = "encoding" if any(place.suffix == ".cym" for place in places.values()) else "decoding"
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // workers))
    try:
        with ThreadPoolExecutor(workers) as pool, ProgressBar(what) as progress:
            progress(0, sum(sizes), f"0 of {len(sources)} files")
            try:
                for i, (source, written) in enumerate(zip(sources, pool.map(one, sources), strict=True), 1):
                    progress(sum(sizes[:i]), sum(sizes), f"{i} of {len(sources)} files")
                    if isinstance(written, str):
                        skipped += 1
                        print(printable(f"skipped   {source}: {written.removeprefix(f'{source} ')}"), file=sys.stderr)
                        continue
                    seconds, size, done = seconds + written.seconds, size + written.size, done + 1
                    _say(places[source], written)
            except OutputError as error:
                pool.shutdown(cancel_futures=True)
                raise OutputError(f"{error}; {done} of {len(sources)} files are done") from None
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(threads)
    if not done:
        raise Error(f"none of the {skipped} files of {folder} could be used; see what is said of each")
    print(f"{done} files, {seconds:.2f} s, {size} bytes of codes; {skipped} skipped")


# --- pipes


def _input() -> ByteSource:
    return sys.stdin.buffer


class _Counted:
    """A stream whose reader is seen to go on, `size` bytes at most."""

    def __init__(self, stream: ByteSource, progress: ProgressBar, size: int | None) -> None:
        self._stream, self._progress, self._size, self._done = stream, progress, size, 0

    def read(self, size: int, /) -> bytes:
        self._progress(self._done, self._size)
        data = self._stream.read(size)
        self._done += len(data)
        return data


class _Output:
    """The standard output: whoever listens at its other end hears each piece at once."""

    def write(self, data: bytes, /) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _say_if_whole(codec: SoundCodec, source: Path) -> None:
    """A Note where a pipe would have to end before anything comes out."""
    import warnings

    from cymatic.errors import Note

    if source == PIPE and not codec.codec.streamable:
        warnings.warn(
            f"{codec.name} looks at a sound as a whole and can't stream it, so nothing comes out before the pipe ends",
            Note,
            stacklevel=2,
        )


def _say(path: Path, written: Written) -> None:
    from cymatic.apps.terminal import printable

    print(printable(f"{path}  {written.seconds:.2f} s, {written.kbps:g} kbps, {written.size} bytes of codes"))
