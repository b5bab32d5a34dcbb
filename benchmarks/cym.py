"""What does the small model of `--entropy` save? Bits of a frame with and without it.

    python benchmarks/cym.py CODES
    python benchmarks/cym.py DATA --model starter-codec --kbps 1.5 --kbps 3 --kbps 6 --minutes 2

Of a folder of .cym files: one row for each bit rate that they have. With a model, of a folder of packs: held-out clips
of each pack, as many as make so many minutes, are encoded at each rate; one row for each pack and rate. The model of
what comes next begins anew with each file, so there are two numbers: each clip a file of its own, and all clips of a
pack one file, which is what a long recording of such sounds is.

Bits are as `cymatic encode` writes them, heads and checksums of blocks included, the file's own head left out. "10 s
take" is how long the model takes for ten seconds of sound on one core, in processor time.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scoring import table

from cymatic.data.folder import read_folder
from cymatic.errors import Error
from cymatic.media.cym import CymHeader, CymReader, CymWriter
from cymatic.media.sound import Sound
from cymatic.pipelines.load import load_codec
from cymatic.pipelines.sound_codec import SoundCodec

PACKS = ("digits", "words", "spoken-emoji", "instruments", "samples", "effects")


@dataclass
class Sums:
    """Of several files."""

    files: int = 0
    frames: int = 0
    seconds: float = 0.0
    plain: int = 0
    coded: int = 0
    took: float = 0.0

    def add(self, codes: np.ndarray, header: CymHeader) -> None:
        sizes = []
        for entropy in (False, True):
            began = time.process_time()
            writer = CymWriter(io.BytesIO(), header, entropy=entropy)
            writer.add(codes)
            writer.close(0)
            sizes.append(writer.written - len(header.as_bytes()))
            self.took += (time.process_time() - began) * (1 if entropy else -1)
        self.files, self.frames = self.files + 1, self.frames + codes.shape[1]
        self.seconds += codes.shape[1] * header.hop / header.rate
        self.plain, self.coded = self.plain + sizes[0], self.coded + sizes[1]

    @property
    def saved(self) -> str:
        return f"{100 * (1 - self.coded / self.plain):.1f} %"

    @property
    def row(self) -> list[str]:
        bits = (f"{8 * size / self.frames:.2f}" for size in (self.plain, self.coded))
        return [str(self.files), str(self.frames), *bits, self.saved, f"{10 * self.took / self.seconds:.2f} s"]


COLUMNS = ["files", "frames", "plain", "coded", "saved", "10 s take"]


def of_files(folder: Path) -> None:
    rates: dict[float, Sums] = defaultdict(Sums)
    for path in sorted(folder.rglob("*.cym")):
        try:
            with open(path, "rb") as file:
                reader = CymReader(file, str(path))
                rates[reader.header.kbps].add(np.concatenate(list(reader), axis=1), reader.header)
        except (Error, ValueError) as error:
            print(f"skipped {error}")
    if not rates:
        raise SystemExit(f"{folder} holds no .cym file that can be read")
    print(table(["rate", *COLUMNS], [[f"{kbps:g} kbps", *sums.row] for kbps, sums in sorted(rates.items())]))


def held_out(pack: Path, minutes: float) -> Iterator[Sound]:
    """Clips of the valid split in an order by chance, until they make so many minutes."""
    items, seconds = read_folder(pack).of("valid"), 0.0
    for place in np.random.default_rng(0).permutation(len(items)):
        if seconds >= 60 * minutes:
            return
        sound = Sound.read(items[place].path())
        seconds += sound.seconds
        yield sound


def of_packs(data: Path, codec: SoundCodec, kbps: Iterable[float], minutes: float) -> None:
    rows = []
    for pack in PACKS:
        coded = [codec.encode(sound, codec.offers[-1]) for sound in held_out(data / pack, minutes)]
        for rate in sorted(kbps):
            alone, together = Sums(), Sums()
            levels = codec.levels(rate)
            header = replace(coded[0].header, sizes=coded[0].header.sizes[:levels])
            for one in coded:
                alone.add(one.codes[:levels], header)
            together.add(np.concatenate([one.codes[:levels] for one in coded], axis=1), header)
            rows.append([f"{header.kbps:.3g} kbps", pack, *alone.row, together.saved])
    rows.sort(key=lambda row: float(row[0].split()[0]))
    print(table(["rate", "pack", *COLUMNS, "saved in one file"], rows))


def main(
    folder: Annotated[Path, typer.Argument(help="A folder of .cym files; with --model, one of packs.")],
    model: Annotated[str | None, typer.Option(help="A codec, to encode held-out clips with.")] = None,
    kbps: Annotated[list[float] | None, typer.Option(help="With --model, several times; 3 if not given.")] = None,
    minutes: Annotated[float, typer.Option(help="Of each pack, with --model.")] = 2.0,
    threads: int = 1,
) -> None:
    """Prints what is saved."""
    torch.set_num_threads(threads)
    if model is None:
        of_files(folder)
    else:
        of_packs(folder, load_codec(model), kbps or [3.0], minutes)


if __name__ == "__main__":
    typer.run(main)
