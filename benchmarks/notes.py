"""Which notes is a model asked for? Chooses the committed list `notes.json`: 50 pairs seen in training, 50 unseen.

    python benchmarks/notes.py INSTRUMENTS --soundfont FluidR3_GM.sf2

INSTRUMENTS is the instruments pack. A pair is an instrument and a note, and it may be chosen only where the pitch
tracker hears the right note in the real recording, at both velocities: then a wrong note is the model's fault. Seen
pairs come from the pack's train split; unseen ones from its valid split and, as that holds too few, from notes that are
in no split of the pack, of instruments of which the pack leaves one pitch out. Those are played here by FluidSynth as
the pack's were (https://www.fluidsynth.org, Debian packages fluidsynth and fluid-soundfont-gm) and not kept.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cymatic.errors import Error
from cymatic.evaluation.pitch import note_pitch
from cymatic.files import write_atomically
from cymatic.media.sound import Sound

LIST = Path(__file__).parent / "notes.json"
VELOCITIES = {"softly": 48, "loudly": 112}
UNPITCHED = ("drum kit", "sound effects")  # families whose notes are no notes
EACH = 50  # pairs seen, and pairs unseen
CENTS = 50
PITCHES = 6  # of each instrument, were none left out of the pack
HELD, SLOT = 1.5, 3.5  # seconds that a note is held, and from note to note
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True)
class Pair:
    """An instrument and a note."""

    instrument: str
    note: str
    program: int  # General MIDI, 0-127
    pitch: int  # MIDI number
    family: str
    source: str  # the pack's split that holds the real notes, or "played": they are in no split

    def caption(self, how: str) -> str:
        """As the pack writes it: "violin playing A#3 softly"."""
        return f"{self.instrument} playing {self.note} {how}"


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of a pack's manifest. Raises Error where there is none."""
    manifest = folder / "manifest.jsonl"
    if not manifest.is_file():
        raise Error(f"{manifest} is missing; give the folder of the pack")
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def read_list(path: Path = LIST) -> dict[str, list[Pair]]:
    """The committed pairs, `seen` and `unseen`."""
    listed = json.loads(path.read_text(encoding="utf-8"))
    return {which: [Pair(**pair) for pair in listed[which]] for which in ("seen", "unseen")}


def hears(sound: Sound, pitch: int) -> bool:
    """Whether the tracker hears that note, within 50 cents; another octave is another note."""
    heard = note_pitch(sound)
    return heard is not None and abs(heard - pitch) * 100 <= CENTS


def main(
    folder: Path,
    soundfont: Annotated[Path, typer.Option(help="FluidR3 GM, the SoundFont that the pack was made from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the list goes.")] = LIST,
    seed: int = 0,
) -> None:
    """Writes the list and says of how many real notes the tracker hears the pitch."""
    chance = np.random.default_rng(seed)
    rows = [row for row in read_rows(folder) if row["family"] not in UNPITCHED]
    recorded: dict[Pair, list[bool]] = {}
    for row in rows:
        pair = Pair(row["instrument"], row["note"], row["program"], row["pitch"], row["family"], row["split"])
        recorded.setdefault(pair, []).append(hears(Sound.read(folder / row["audio"]), pair.pitch))
    candidates = _left_out(list(recorded), chance)
    played = {
        pair: [hears(sound, pair.pitch) for sound in sounds]
        for pair, sounds in zip(candidates, play(candidates, soundfont), strict=True)
    }
    right = {pair for pair, heard in (recorded | played).items() if len(heard) == len(VELOCITIES) and all(heard)}
    seen = _spread([pair for pair in recorded if pair.source == "train" and pair in right], [], EACH, chance)
    valid = [pair for pair in recorded if pair.source == "valid" and pair in right]
    unseen = _spread([pair for pair in candidates if pair in right], valid[:EACH], EACH, chance)
    tracked = {
        "recorded": _share([heard for pair in recorded for heard in recorded[pair]]),
        "played": _share([heard for pair in played for heard in played[pair]]),
        "recorded_of_each_family": {
            family: _share([heard for pair in recorded if pair.family == family for heard in recorded[pair]])
            for family in sorted({pair.family for pair in recorded})
        },
    }
    listed = {"seed": seed, "tracked": tracked} | {
        which: [asdict(pair) for pair in sorted(pairs, key=lambda pair: (pair.program, pair.pitch))]
        for which, pairs in (("seen", seen), ("unseen", unseen))
    }
    text = re.sub(r"\{[^{}]*\}", lambda pair: " ".join(pair[0].split()), json.dumps(listed, indent=1))  # one line each
    write_atomically(output, (text + "\n").encode())
    typer.echo(json.dumps(tracked, indent=2))
    for which, pairs in (("seen", seen), ("unseen", unseen)):
        typer.echo(f"{which}: {dict(Counter(pair.family for pair in pairs))}")


def _share(heard: Sequence[bool]) -> dict[str, int]:
    return {"right": sum(heard), "notes": len(heard)}


def _left_out(pairs: Sequence[Pair], chance: np.random.Generator) -> list[Pair]:
    """One new note for each instrument that the pack leaves a pitch out of, between its lowest and its highest."""
    found = []
    for program in sorted({pair.program for pair in pairs}):
        own = [pair for pair in pairs if pair.program == program]
        there = {pair.pitch for pair in own}
        if len(there) < PITCHES:
            pitch = int(chance.choice([p for p in range(min(there), max(there)) if p not in there]))
            found.append(Pair(own[0].instrument, name_of(pitch), program, pitch, own[0].family, "played"))
    return found


def name_of(pitch: int) -> str:
    """60 is "C4"."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def _spread(pool: Sequence[Pair], taken: Sequence[Pair], count: int, chance: np.random.Generator) -> list[Pair]:
    """`taken` filled up to `count` from `pool`: each time at random from the family, then the instrument, had least."""
    left, chosen = [pool[i] for i in chance.permutation(len(pool))], list(taken)
    while len(chosen) < count:
        if not left:
            raise Error(f"only {len(chosen)} pairs of {count} were found; draw more candidates")
        families = Counter(pair.family for pair in chosen)
        instruments = Counter(pair.program for pair in chosen)
        chosen.append(min(left, key=lambda pair: (families[pair.family], instruments[pair.program])))
        left.remove(chosen[-1])
    return chosen


def play(pairs: Sequence[Pair], soundfont: Path) -> list[list[Sound]]:
    """Each pair's notes at both velocities, played by FluidSynth as the pack's: held 1.5 s, no reverb, no chorus."""
    with tempfile.TemporaryDirectory() as place:
        score, wave = Path(place) / "notes.mid", Path(place) / "notes.wav"
        score.write_bytes(_midi([(pair.program, pair.pitch, v) for pair in pairs for v in VELOCITIES.values()]))
        settings = ["-ni", "-q", "-R", "0", "-C", "0", "-g", "1.35", "-r", "24000", "-O", "float"]
        subprocess.run(["fluidsynth", *settings, "-F", wave, soundfont, score], check=True)
        whole = Sound.read(wave).mono()
    slots = [whole.cut(i * SLOT, i * SLOT + HELD + 1).trim() for i in range(len(pairs) * len(VELOCITIES))]
    return [slots[i : i + len(VELOCITIES)] for i in range(0, len(slots), len(VELOCITIES))]


def _midi(notes: Sequence[tuple[int, int, int]]) -> bytes:
    """A standard MIDI file, format 0: one note after the other, silence in between (120 beats a minute, 480 ticks)."""
    events = b""
    for program, pitch, velocity in notes:
        for wait, message in (
            (0, bytes([0xC0, program])),
            (0, bytes([0x90, pitch, velocity])),
            (HELD, bytes([0x80, pitch, 0])),
            (1.0, bytes([0xB0, 120, 0])),  # all sound off: no tail reaches the next note
            (SLOT - HELD - 1.0, bytes([0xB0, 123, 0])),
        ):
            events += _length(round(wait * 960)) + message
    track = events + b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(track)) + track


def _length(ticks: int) -> bytes:
    """MIDI's variable-length number: seven bits a byte, all but the last with the high bit set."""
    parts = [ticks & 0x7F]
    while ticks := ticks >> 7:
        parts.append(0x80 | ticks & 0x7F)
    return bytes(reversed(parts))


if __name__ == "__main__":
    typer.run(main)
