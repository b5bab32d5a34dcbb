"""Sonic Pi's samples: FLAC files become 24 kHz Ogg Vorbis; captions, kinds and splits come from a table of our own.

Two loops of the source are left out although they are marked CC0, for they are cut from a commercial record.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from importlib import resources

import soundfile

from cymatic.data.published.dataset_writer import DatasetWriter, ManifestRow, encoded
from cymatic.data.published.originals import Originals
from cymatic.data.published.shaping import RATE, as_in_packs, decoded, levels, loud_part
from cymatic.errors import Error

PARTS = 8
SILENCE_DB, BEFORE, AFTER = -80.0, 0.02, 0.2  # dBFS; seconds kept around what is louder
LENGTH_OFF = 0.35  # seconds; another resampler may find a faint tail a little longer
LEVEL_OFF = (
    6.0  # dB; the levels were taken after a Vorbis encoder, which moved those of Debian's 163 files by 2.5 at most
)
MADE = (
    "The FLAC files were mixed to one channel and resampled to 24 kHz (soxr), silence below -80 dBFS at the ends was "
    "cut, and the rest was stored as Ogg Vorbis. Captions are a hand-made table keyed by file name. The files' own MD5 "
    "sums, lengths and levels were compared with those of the pack that the starters heard."
)
LICENCE_TEXT = """\
Every clip: CC0 1.0 Universal, https://creativecommons.org/publicdomain/zero/1.0/legalcode
The authors, who ask for no mention, stand in manifest.jsonl.
"""


@dataclass(frozen=True)
class Sample:
    """A line of the table; levels in dB below full scale, over eighths of the clip."""

    id: str
    caption: str
    kind: str
    author: str
    source: str
    seconds: float
    split: str
    levels: tuple[float, ...]

    @property
    def audio(self) -> str:
        return f"audio/{self.id}.ogg"


def make(writer: DatasetWriter, originals: Originals) -> list[ManifestRow]:
    """Writes every clip and gives the rows. Raises Error, also where a file is not the one that was captioned."""
    known = {f"{sample.id}.flac": sample for sample in table()}
    seconds = {sample.id: writer.has(sample.audio, RATE) for sample in known.values()}
    missing = [name for name, sample in known.items() if seconds[sample.id] is None]
    writer.count(len(known) - len(missing))
    for name, data in originals.each(missing):
        seconds[known[name].id] = _make_one(writer, known[name], name, data)
        writer.count()
    return [_row(sample, seconds[sample.id] or 0.0) for sample in known.values()]


def table() -> list[Sample]:
    """The clips in the order of the manifest."""
    text = resources.files(__package__).joinpath("tables", "samples.tsv").read_text(encoding="utf-8")
    return [
        Sample(
            id=line["id"],
            caption=line["caption"],
            kind=line["kind"],
            author=line["author"],
            source=line["source"],
            seconds=float(line["seconds"]),
            split=line["split"],
            levels=tuple(-int(level) for level in line["levels"].split()),
        )
        for line in csv.DictReader(io.StringIO(text), delimiter="\t")
    ]


def _make_one(writer: DatasetWriter, sample: Sample, name: str, data: bytes) -> float:
    _check_flac(data, name)
    mono = as_in_packs(decoded(data, name)).samples[0]
    start, end = loud_part(mono, SILENCE_DB, BEFORE, AFTER)
    kept = mono[start:end]
    seconds = len(kept) / RATE
    if abs(seconds - sample.seconds) > LENGTH_OFF:
        raise Error(
            f"{name} is {seconds:.2f} s long, and {sample.seconds:.2f} s were expected; it is another file than "
            "Sonic Pi published, so fetch it again"
        )
    # Over the length that the table's levels were taken over.
    off = [abs(a - b) for a, b in zip(levels(kept[: round(sample.seconds * RATE)], PARTS), sample.levels, strict=True)]
    # Near silence a level is made of rounding.
    if max(one for one, level in zip([*off, 0.0], [*sample.levels, 0], strict=True) if level > -70) > LEVEL_OFF:
        raise Error(f"{name} sounds otherwise than the sample that Sonic Pi published; fetch it again")
    writer.put(sample.audio, encoded(kept, RATE, "OGG", "VORBIS"))
    return seconds


def _check_flac(data: bytes, name: str) -> None:
    """A FLAC file holds the MD5 of its samples (RFC 9639, section 8.2), which libsndfile does not look at."""
    promised = data[26:42]
    if data[:4] != b"fLaC" or not any(promised):
        raise Error(f"{name} is no FLAC file with a checksum; fetch it again")
    try:
        info = soundfile.info(io.BytesIO(data))
        width = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}[info.subtype]
        samples, _ = soundfile.read(io.BytesIO(data), dtype="int32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, KeyError) as error:
        raise Error(f"{name} is not a sound that can be read ({str(error).strip(' .')}); fetch it again") from None
    raw = samples.astype("<i4").reshape(-1, 1).view("u1")[:, 4 - width :].tobytes()
    if hashlib.md5(raw, usedforsecurity=False).digest() != promised:
        raise Error(f"{name} is damaged: its samples do not have the MD5 that it holds; fetch it again")


def _row(sample: Sample, seconds: float) -> ManifestRow:
    row = {
        "id": sample.id,
        "audio": sample.audio,
        "caption": sample.caption,
        "kind": sample.kind,
        "author": sample.author,
        "source": sample.source,
        "licence": "CC0-1.0",
        "seconds": round(seconds, 4),
        "split": sample.split,
    }
    return row if sample.source else {key: value for key, value in row.items() if key != "source"}
