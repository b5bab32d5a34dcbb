"""Single notes of the 128 General MIDI instruments and a drum kit, rendered from the FluidR3 sound font.

Six pitches of an instrument, each soft and loud, and four strengths of a drum. One pitch of each of 77 instruments is
held out for tests: the table does not list it, so it is not rendered.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import soxr

from cymatic.data.published.dataset_writer import DatasetWriter, ManifestRow, encoded
from cymatic.data.published.fluidsynth import RATE as RENDERED_RATE
from cymatic.data.published.fluidsynth import find_font, find_program, render
from cymatic.data.published.midi import MidiNote
from cymatic.data.published.shaping import RATE, levels, loud_part
from cymatic.errors import Error

LEAD, LONGEST = 0.005, 2.5  # seconds before a note and, at most, from its start
SILENCE_DB, AFTER = -72.0, 0.05  # a note has died away below this level (dBFS); seconds kept behind it
FADE = 0.03  # seconds
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FIRST_EFFECT = 120  # from this program on General MIDI has sound effects
TOUCHES = {48: "softly", 112: "loudly"}
STRENGTHS = {36: "very softly", 64: "at medium strength", 96: "hard", 127: "very hard"}
LEVEL_OFF, LENGTH_OFF = 2.0, 0.3  # dB and seconds beyond which a note counts as another than the starters heard
MOST_OFF = 0.02  # the share of notes that may be: FluidSynth's versions differ a little
MADE = (
    "FluidSynth rendered each note dry (no reverb, no chorus) at gain 1.35 and 48 kHz, held for 1.5 s and 2.5 s in "
    "all. Both channels were mixed, resampled to 24 kHz (soxr), cut where the note had died away below -72 dBFS, faded "
    "over the last 30 ms and stored as Ogg Vorbis. The level is as rendered: velocity is loudness."
)


@dataclass(frozen=True)
class Rendered:
    """One note of the pack: what is played, on what, and how long and loud the starters heard it."""

    program: int | None  # None for the drum kit
    instrument: str
    family: str
    verb: str  # what is done to a drum
    note: MidiNote
    split: str
    seconds: float
    level: float  # dBFS

    @property
    def id(self) -> str:
        name = re.sub(r"[^A-Za-z0-9]", "_", self.instrument)
        if self.program is None:
            return f"perc_{self.note.pitch}_{name}_{self.note.velocity}"
        return f"{self.program:03d}_{name}_{self.note.pitch}_{self.note.velocity}"

    @property
    def audio(self) -> str:
        return f"audio/{'percussion' if self.program is None else f'{self.program:03d}'}/{self.id}.ogg"

    def row(self, seconds: float) -> ManifestRow:
        pitch, velocity = self.note.pitch, self.note.velocity
        row: ManifestRow = {"id": self.id, "audio": self.audio}
        if self.program is None:
            row["caption"] = f"{self.instrument} {self.verb} {STRENGTHS[velocity]}"
            row |= {"instrument": self.instrument, "family": self.family, "pitch": pitch}
        else:
            name = f"{NAMES[pitch % 12]}{pitch // 12 - 1}"
            how = "playing {}" if self.program < FIRST_EFFECT else "sound effect at {},"
            row["caption"] = f"{self.instrument} {how.format(name)} {TOUCHES[velocity]}"
            row |= {"instrument": self.instrument, "program": self.program, "family": self.family}
            row |= {"pitch": pitch, "note": name}
        return row | {"velocity": velocity, "seconds": round(seconds, 4), "split": self.split}


def make(writer: DatasetWriter, font: Path | None) -> list[ManifestRow]:
    """Renders what is not there yet and gives the rows. Raises Error without FluidSynth or the sound font."""
    program = find_program()
    found = find_font(font, writer.downloads)
    notes = table()
    seconds = {note.id: writer.has(note.audio, RATE) for note in notes}
    missing = [note for note in notes if seconds[note.id] is None]
    writer.count(len(notes) - len(missing))
    groups: dict[int | None, list[Rendered]] = {}
    for note in missing:
        groups.setdefault(note.program, []).append(note)
    # Half of the cores: FluidSynth keeps a core busy, and somebody may be working on this machine.
    odd: list[str] = []
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        try:
            for done in pool.map(lambda group: list(_render_group(writer, group, found, program)), groups.values()):
                for note, length, as_heard in done:
                    seconds[note.id] = length
                    odd += [] if as_heard else [note.id]
                writer.count(len(done))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if len(odd) > MOST_OFF * len(notes):
        raise Error(
            f"{len(odd)} of {len(missing)} notes sound otherwise than those that the starters heard, such as {odd[0]}; "
            f"they lie in {writer.work} as they are; update fluidsynth to version 2.3 or newer, remove that folder and "
            "run again"
        )
    return [note.row(seconds[note.id] or 0.0) for note in notes]


def table() -> list[Rendered]:
    """All notes in the order of the manifest."""
    text = resources.files(__package__).joinpath("tables", "instruments.tsv").read_text(encoding="utf-8")
    return [note for line in csv.DictReader(io.StringIO(text), delimiter="\t") for note in _notes_of(line)]


def licence_text() -> str:
    """The notice that the MIT licence asks to be passed on."""
    return resources.files(__package__).joinpath("tables", "fluidr3-licence.txt").read_text(encoding="utf-8")


def shaped(rendered: np.ndarray) -> np.ndarray:
    """A rendered note at 48 kHz, `LEAD` before it included, as it lies in the pack: 24 kHz, cut and faded."""
    samples = soxr.resample(rendered, RENDERED_RATE, RATE, quality="HQ")
    _, end = loud_part(samples, SILENCE_DB, 0.0, AFTER)
    kept = samples[:end].copy()
    fade = min(round(FADE * RATE), len(kept))
    kept[len(kept) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return kept


def _notes_of(line: dict[str, str]) -> Iterator[Rendered]:
    """`40:1.68/38,1.99/24v ...`: a pitch, then seconds and level below full scale for each velocity, v for valid."""
    drum = line["program"] == "drum"
    for written in line["notes"].split():
        pitch, entries = written.split(":")
        for velocity, entry in zip(STRENGTHS if drum else TOUCHES, entries.split(","), strict=True):
            if entry == "-":  # too quiet to hear
                continue
            length, level = entry.removesuffix("v").split("/")
            yield Rendered(
                program=None if drum else int(line["program"]),
                instrument=line["instrument"],
                family=line["family"],
                verb=line["verb"],
                note=MidiNote(int(pitch), velocity),
                split="valid" if entry.endswith("v") else "train",
                seconds=float(length),
                level=-float(level),
            )


def _render_group(
    writer: DatasetWriter, group: Sequence[Rendered], font: Path, program: str
) -> Iterator[tuple[Rendered, float, bool]]:
    """Writes the notes of one instrument; gives each with its length and whether it is as the starters heard it."""
    played = [note.note for note in group]
    for note, rendered in zip(
        group, render(played, group[0].program, font, program, lead=LEAD, length=LONGEST), strict=True
    ):
        samples = shaped(rendered)
        writer.put(note.audio, encoded(samples, RATE, "OGG", "VORBIS"))
        seconds = len(samples) / RATE
        near = abs(levels(samples, 1)[0] - note.level) <= LEVEL_OFF and abs(seconds - note.seconds) <= LENGTH_OFF
        yield note, seconds, near
