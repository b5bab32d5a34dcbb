"""What does the small model of `--entropy` save? Bits of a frame with and without it, for a folder of .cym files.

    python benchmarks/cym.py CODES

For each bit rate that the files have: bits of a frame as packed, as the model codes them (each file from scratch, as
`cymatic encode --entropy` writes it, heads and checksums of blocks included in both), what is saved, and how long the
model takes for ten seconds of sound on one core, in processor time.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from scoring import table

from cymatic.errors import Error
from cymatic.signal.cym import CymReader, CymWriter


@dataclass
class Sums:
    """Of the files of one bit rate."""

    files: int = 0
    frames: int = 0
    seconds: float = 0.0
    plain: int = 0
    coded: int = 0
    took: float = 0.0


def main(folder: Path) -> None:
    """Prints one row for each bit rate."""
    rates: dict[str, Sums] = defaultdict(Sums)
    for path in sorted(folder.rglob("*.cym")):
        try:
            with open(path, "rb") as file:
                reader = CymReader(file, str(path))
                codes = np.concatenate(list(reader), axis=1)
        except (Error, ValueError) as error:
            print(f"skipped {error}")
            continue
        header = reader.header
        sums = rates[f"{header.kbps:g} kbps"]
        sizes = []
        for entropy in (False, True):
            sink = io.BytesIO()
            began = time.process_time()
            writer = CymWriter(sink, header, entropy=entropy)
            writer.add(codes)
            writer.close(0)
            sizes.append(writer.written - len(header.as_bytes()))
            sums.took += (time.process_time() - began) * (1 if entropy else -1)
        sums.files, sums.frames = sums.files + 1, sums.frames + codes.shape[1]
        sums.seconds += codes.shape[1] * header.hop / header.rate
        sums.plain, sums.coded = sums.plain + sizes[0], sums.coded + sizes[1]
    if not rates:
        raise SystemExit(f"{folder} holds no .cym file that can be read")
    rows = [
        [
            name,
            str(sums.files),
            str(sums.frames),
            f"{8 * sums.plain / sums.frames:.2f}",
            f"{8 * sums.coded / sums.frames:.2f}",
            f"{100 * (1 - sums.coded / sums.plain):.1f} %",
            f"{10 * sums.took / sums.seconds:.2f} s",
        ]
        for name, sums in sorted(rates.items(), key=lambda rate: float(rate[0].split()[0]))
    ]
    print(table(["rate", "files", "frames", "plain", "coded", "saved", "10 s take"], rows))


if __name__ == "__main__":
    typer.run(main)
