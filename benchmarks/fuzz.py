"""What becomes of files whose headers are damaged: crashes, hangs and memory, which must all be 0.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --kind wav --count 100000 --seed 1
    python benchmarks/fuzz.py --kind ogg --keep 1234 -o case.ogg

Of each format so many files are made from sound ones by changing the bytes that say what follows: single bytes and
bits, lengths and counts that are extreme, pieces left out, doubled or taken from another file. Where a format has
checksums (Ogg's pages, .cym), most of the changed files get right ones, or nothing behind the checksum would ever be
reached. File i of a seed is the same file everywhere; `--keep` writes it.

Each file is read in a child process as `cymatic.Sound.read`, the pipe of `cymatic encode -` (WAV) or `Encoded.read`
(.cym) do it, without ffmpeg. "refused" is an Error in one sentence, which is right. Every other exception and a child
that dies is a crash; more than 5 s is a hang, if it takes them a second time, too (the machine may have been busy);
memory is what the child holds beyond what it held before the first file. Exit code 1 where one of them is not 0.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import typer
from scoring import table

from cymatic.errors import Error
from cymatic.media import pipes
from cymatic.media.cym import CymHeader, CymWriter
from cymatic.media.sound import Sound

SECONDS, BYTES = 5.0, 2**30
HEAD = 160  # bytes in which most changes are made
RATE = 8000
FORMS = {
    "wav": [
        *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM")),
        *(("WAV", "GSM610"), ("WAV", "NMS_ADPCM_32"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16")),
    ],
    "ogg": [("OGG", "VORBIS"), ("OGG", "OPUS")],
    "flac": [("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    "mp3": [("MP3", "MPEG_LAYER_III")],
    "aiff": [("AIFF", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "GSM610")],
    "caf": [("CAF", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT", "ALAW", "ALAC_16", "ALAC_24")],
    "cym": [],
}  # fmt: skip
EXTREMES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 127, 128, 255, 256, 1024, 2**15 - 1, 2**15, 2**16 - 1, 2**16, 2**24, 2**28)
EXTREMES += (2**31 - 1, 2**31, 2**31 + 1, 2**32 - 8, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

Reader = Callable[[str, bytes, Path], None]


@cache
def sound_files(kind: str) -> tuple[bytes, ...]:
    """The files that are changed: a second or less of noise in one and two channels, with and without a comment."""
    if kind == "cym":
        return tuple(_codes(sizes, entropy) for entropy in (False, True) for sizes in ((16, 16), (1024,) * 4, (5, 7)))
    made = []
    for container, subtype in FORMS[kind]:
        for channels, comment in ((1, ""), (2, "a comment")):
            noise = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE // 4, channels))
            buffer = io.BytesIO()
            try:
                with soundfile.SoundFile(buffer, "w", RATE, channels, subtype, format=container) as file:
                    if comment:
                        file.comment = comment
                    file.write(noise)
            except soundfile.LibsndfileError:  # GSM and NMS have one channel
                continue
            made.append(buffer.getvalue())
    return (*made, made[0] + made[-1], made[-1] + made[-1])  # joined, too


def _codes(sizes: tuple[int, ...], entropy: bool) -> bytes:
    buffer = io.BytesIO()
    writer = CymWriter(buffer, CymHeader("starter-codec", "0" * 64, 24_000, 1, 320, sizes), entropy=entropy)
    codes = np.stack([np.random.default_rng(0).integers(0, size // 2 + 1, 200) for size in sizes])
    writer.add(np.repeat(codes, 2, axis=1))
    writer.close(400 * 320)
    return buffer.getvalue()


def changed(kind: str, seed: int, number: int) -> bytes:
    """File `number` of a seed."""
    rng = random.Random(f"{seed} {kind} {number}")
    whole = rng.choice(sound_files(kind))
    cut = rng.randrange(8, len(whole)) if rng.random() < 0.1 else len(whole)
    data = bytearray(whole[:cut])
    span = HEAD if rng.random() < 0.8 else len(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4, 8, 16))):
        _change(data, min(span, len(data)), rng, kind)
    if kind == "ogg" and rng.random() < 0.8:
        _renew_pages(data)
    if kind == "cym" and rng.random() < 0.9:
        data = _renew_records(bytes(data))
    return bytes(data)


def _change(data: bytearray, span: int, rng: random.Random, kind: str) -> None:
    at = rng.randrange(max(1, span))
    what = rng.randrange(8)
    if what == 0:
        data[at : at + 1] = bytes([rng.randrange(256)])
    elif what == 1 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif what in (2, 3, 4):
        width = rng.choice((1, 2, 4, 4, 8))
        at -= at % rng.choice((1, 2, 4))
        value = rng.choice(EXTREMES) if rng.random() < 0.7 else rng.getrandbits(8 * width)
        value = value % 2 ** (8 * width)
        data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    elif what == 5:
        del data[at : at + rng.choice((1, 2, 4, 8, rng.randrange(1, 64)))]
    elif what == 6:
        data[at:at] = data[at : at + rng.choice((4, 8, rng.randrange(1, 64)))]
    else:
        other = rng.choice(sound_files(kind))
        start, length = rng.randrange(len(other)), rng.randrange(1, 32)
        data[at : at + length] = other[start : start + length]


def _renew_pages(data: bytearray) -> None:
    """Right checksums for the pages of an Ogg file, up to where it has none any more."""
    at = 0
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        end = at + 27 + data[at + 26]
        end += sum(data[at + 27 : end])
        data[at + 22 : at + 26] = bytes(4)
        crc = 0
        for byte in data[at:end]:
            crc = (crc << 8 & 0xFFFFFFFF) ^ _OGG_CRC[crc >> 24 ^ byte]
        data[at + 22 : at + 26] = struct.pack("<I", crc)
        at = end


def _ogg_crc(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if crc & 0x80000000 else 0)
    return crc


_OGG_CRC = [_ogg_crc(byte) for byte in range(256)]


def _renew_records(data: bytes) -> bytearray:
    """Right checksums for the header and the records of a .cym file, as it now says they lie."""
    made, at = bytearray(), 56 + 4 * data[22] + data[23] if len(data) > 23 else len(data)
    made += data[:at]
    crc = zlib.crc32(data[:at])
    made += struct.pack("<I", crc)
    at += 4
    while at + 4 <= len(data):
        length = 10 if data[at : at + 2] == b"\0\0" else 4 + struct.unpack_from("<H", data, at + 2)[0]
        crc = zlib.crc32(data[at : at + length], crc)
        made += data[at : at + length] + struct.pack("<I", crc)
        at += length + 4
    return made


def read(kind: str, data: bytes, folder: Path) -> None:
    """As cymatic reads a file of this kind. Raises Error for what it refuses."""
    path = folder / "file"
    path.write_bytes(data)
    if kind == "cym":
        from cymatic.pipelines.sound_codec import Encoded

        Encoded.read(path)
        return
    refused = None
    if kind == "wav":
        try:
            for _ in pipes.blocks(io.BytesIO(data)):
                pass
        except Error as error:
            refused = error
    Sound.read(path)
    if refused is not None:
        raise refused


@dataclass
class Found:
    """What became of the files of one kind: how many were read and refused; crashes, hangs and memory by number."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, dict[int, str]] = field(default_factory=lambda: {"crash": {}, "hang": {}, "memory": {}})
    slowest: float = 0.0
    most: int = 0  # bytes

    @property
    def count(self) -> int:
        return sum(len(files) for files in self.faults.values())


def fuzz(kind: str, count: int, seed: int = 0, reader: Reader = read, first: int = 0) -> Found:
    """Reads files `first` to `first + count` of a seed in child processes, a new one after each that died."""
    found, number, again = Found(), first, False
    with tempfile.TemporaryDirectory(prefix="cymatic-fuzz-") as folder:
        while number < first + count:
            for outcome, seconds, grown in _child(kind, range(number, first + count), seed, reader, folder):
                found.slowest, found.most = max(found.slowest, seconds), max(found.most, grown)
                if grown > BYTES:
                    outcome = f"memory: {grown / 2**20:.0f} MB"
                name, _, text = outcome.partition(": ")
                again = name == "hang" and not again
                if again:  # the machine may have been busy
                    break
                if name in found.faults:
                    found.faults[name][number] = text
                else:
                    found.outcomes[name] += 1
                number += 1
                if name in ("hang", "memory"):  # a child that has grown would be blamed for what follows, too
                    break
    return found


def _child(kind: str, numbers: range, seed: int, reader: Reader, folder: str) -> Iterator[tuple[str, float, int]]:
    """Outcome, seconds and grown memory of each file, until the child dies or is stopped."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(there, kind, numbers, seed, reader, folder), daemon=True)
    child.start()
    there.close()
    try:
        try:
            here.recv()  # it has imported everything
        except EOFError:
            raise RuntimeError(f"the process that reads {kind} files could not begin; see above") from None
        for _ in numbers:
            if not here.poll(SECONDS):
                yield "hang", SECONDS, 0
                return
            yield here.recv()
    except EOFError:
        child.join()
        yield f"crash: the process ended with {child.exitcode}", 0.0, 0
    finally:
        child.kill()
        child.join()
        here.close()


def _work(pipe: Any, kind: str, numbers: range, seed: int, reader: Reader, folder: str) -> None:
    os.environ["PATH"] = ""
    warnings.simplefilter("ignore")
    with suppress(Error):
        reader(kind, sound_files(kind)[0], Path(folder))
    base = _held()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (base + 4 * BYTES, base + 4 * BYTES))  # lest the machine itself suffers
    pipe.send("ready")
    for number in numbers:
        data = changed(kind, seed, number)
        start = time.perf_counter()
        try:
            reader(kind, data, Path(folder))
            outcome = "read"
        except Error as error:
            outcome = "refused" if "\n" not in str(error) else f"crash: a message of several lines: {error}"
        except MemoryError:
            outcome = "memory: more than the process may have"
        except Exception as error:
            outcome = f"crash: {type(error).__name__}: {error}"
        pipe.send((outcome, time.perf_counter() - start, _held() - base))


def _held() -> int:
    """The most bytes that this process has held so far. Linux counts in `ru_maxrss` what the process that began it
    held."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(
    count: Annotated[int, typer.Option(help="Files of each kind.")] = 10_000,
    kind: Annotated[list[str] | None, typer.Option(help=f"One or more of {', '.join(FORMS)}.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    first: Annotated[int, typer.Option(help="The number of the first file.")] = 0,
    keep: Annotated[int | None, typer.Option(help="Write the file of this number, and read nothing.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where --keep writes it.")] = Path("case"),
) -> None:
    """Reads damaged files, and says what became of them."""
    kinds = kind or list(FORMS)
    if strange := [one for one in kinds if one not in FORMS]:
        raise typer.BadParameter(f"{strange[0]} is none of {', '.join(FORMS)}")
    if keep is not None:
        output.write_bytes(changed(kinds[0], seed, keep))
        return
    rows, faults = [], 0
    for one in kinds:
        start = time.perf_counter()
        found = fuzz(one, count, seed, first=first)
        faults += found.count
        rows.append(
            [
                one, str(count), str(found.outcomes["read"]), str(found.outcomes["refused"]),
                *(str(len(found.faults[name])) for name in ("crash", "hang", "memory")),
                f"{found.slowest:.2f}", f"{math.ceil(found.most / 2**20)}",
            ]
        )  # fmt: skip
        print(f"{one}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        for name, files in found.faults.items():
            for number, text in list(files.items())[:20]:
                print(f"{one} {number}: {name} {text}", file=sys.stderr, flush=True)
    print(table(["format", "files", "read", "refused", "crashes", "hangs", "memory", "slowest s", "most MB"], rows))
    raise typer.Exit(1 if faults else 0)


if __name__ == "__main__":
    typer.run(main)
