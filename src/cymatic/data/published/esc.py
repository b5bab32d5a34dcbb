"""ESC-50 and its part ESC-10 (Piczak, 2015, doi 10.1145/2733373.2806390): field recordings of everyday sounds.

The clips, padded with silence to 5 s at 44.1 kHz, become 24 kHz Ogg Vorbis without the padding. Fold 5 is `test`, as in
the benchmark; of the other folds a tenth is `valid`, by Freesound recording (its id's SHA-256), so that no recording
lies on two sides. The ESC-10 clips that the starters heard keep the ids and splits that they had.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import numpy as np

from cymatic.data.published.dataset_writer import DatasetWriter, ManifestRow, encoded
from cymatic.data.published.download import Checksum
from cymatic.data.published.originals import Originals
from cymatic.data.published.shaping import RATE, as_in_packs, decoded, loud_part
from cymatic.errors import Error
from cymatic.media.sound import Sound

SILENCE_DB, BEFORE, AFTER = -80.0, 0.02, 0.2  # dBFS; seconds kept around what is louder
# Not in ESC-10 here: a near copy of another clip. Clips under CC Sampling+ are left out besides.
NEAR_COPIES = frozenset({"2-30322-A-12"})
LICENCES = {"CC0": "CC0-1.0", "CC-BY": "CC-BY-3.0", "CC-BY-NC": "CC-BY-NC-3.0"}
SAMPLING = "CC-Sampling+"
LICENCE_FILE = "LICENSE"
CREDIT = re.compile(
    r"^- \[(?P<clip>[\w-]+)\.\w+\]:\s+clip derived from (?P<title>.*) \((?P<source>https?://\S+)\)"
    r" by (?P<author>.+?) \[(?P<licence>[^\]]+)\]\s*$"
)
# Class number -> label and caption; those of ESC-10 as in the starters' data.
CLASSES: dict[int, tuple[str, str]] = {
    0: ("dog bark", "a dog barking"),
    1: ("rooster", "a rooster crowing"),
    2: ("pig", "a pig grunting"),
    3: ("cow", "a cow mooing"),
    4: ("frog", "a frog croaking"),
    5: ("cat", "a cat meowing"),
    6: ("hen", "a hen clucking"),
    7: ("insects", "insects buzzing"),
    8: ("sheep", "a sheep bleating"),
    9: ("crow", "a crow cawing"),
    10: ("rain", "rain falling"),
    11: ("sea waves", "sea waves"),
    12: ("crackling fire", "a crackling fire"),
    13: ("crickets", "crickets chirping"),
    14: ("chirping birds", "birds chirping"),
    15: ("water drops", "water dripping"),
    16: ("wind", "wind blowing"),
    17: ("pouring water", "water being poured"),
    18: ("toilet flush", "a toilet being flushed"),
    19: ("thunderstorm", "thunder in a storm"),
    20: ("crying baby", "a baby crying"),
    21: ("sneeze", "a person sneezing"),
    22: ("clapping", "people clapping"),
    23: ("breathing", "a person breathing"),
    24: ("coughing", "a person coughing"),
    25: ("footsteps", "footsteps"),
    26: ("laughing", "a person laughing"),
    27: ("brushing teeth", "a person brushing their teeth"),
    28: ("snoring", "a person snoring"),
    29: ("drinking", "a person drinking"),
    30: ("door knock", "a knock on a wooden door"),
    31: ("mouse click", "clicks of a computer mouse"),
    32: ("keyboard typing", "typing on a keyboard"),
    33: ("door creak", "a wooden door creaking"),
    34: ("can opening", "a can being opened"),
    35: ("washing machine", "a washing machine running"),
    36: ("vacuum cleaner", "a vacuum cleaner running"),
    37: ("clock alarm", "an alarm clock ringing"),
    38: ("clock tick", "a clock ticking"),
    39: ("glass breaking", "glass breaking"),
    40: ("helicopter", "a helicopter flying"),
    41: ("chainsaw", "a chainsaw"),
    42: ("siren", "a siren wailing"),
    43: ("car horn", "a car horn honking"),
    44: ("engine", "an engine running"),
    45: ("train", "a train passing"),
    46: ("church bells", "church bells ringing"),
    47: ("airplane", "an airplane flying"),
    48: ("fireworks", "fireworks exploding"),
    49: ("hand saw", "a hand saw cutting wood"),
}
ESC10 = frozenset({0, 1, 10, 11, 12, 20, 21, 38, 40, 41})
MADE = (
    "The WAV files, compared with pinned MD5 sums, were resampled to 24 kHz (soxr); padding and silence below -80 dBFS "
    "at the ends were cut, and the rest was stored as Ogg Vorbis. Captions are one sentence a class. Fold 5 is `test`, "
    "and so are two clips of fold 4 from recordings that fold 5 holds, too; `group` names the Freesound recording."
)


@dataclass(frozen=True)
class Clip:
    """A clip by its published name, in which are fold, recording, take and class."""

    name: str
    md5: str  # its first digits
    split: str

    @property
    def fold(self) -> int:
        return int(self.name.split("-")[0])

    @property
    def recording(self) -> str:
        return self.name.split("-")[1]

    @property
    def target(self) -> int:
        return int(self.name.split("-")[3])

    @property
    def file(self) -> str:
        return f"{self.name}.wav"

    @property
    def id(self) -> str:
        fold, recording, take, _ = self.name.split("-")
        return f"{'esc10' if self.target in ESC10 else 'esc50'}/{fold}_{recording}_{take.lower()}"

    @property
    def audio(self) -> str:
        return f"audio/{self.id}.ogg"

    @property
    def checksum(self) -> Checksum:
        return Checksum("md5", self.md5)


@dataclass(frozen=True)
class Credit:
    """Whose recording a clip was cut from, and under which licence."""

    author: str
    licence: str
    source: str
    title: str


def make(writer: DatasetWriter, originals: Originals, *, ten: bool) -> tuple[list[ManifestRow], str]:
    """Writes ESC-10's clips, or all, and gives the rows and the source's licence text. Raises Error."""
    ((_, data),) = originals.each([LICENCE_FILE])
    text = data.decode("utf-8", "replace")
    credits = credits_in(text)
    clips = chosen(table(), credits) if ten else table()
    seconds = {clip.file: writer.has(clip.audio, RATE) for clip in clips}
    known = {clip.file: clip for clip in clips}
    missing = [name for name in known if seconds[name] is None]
    writer.count(len(known) - len(missing))
    for name, wave in originals.each(missing):
        seconds[name] = _make_one(writer, known[name], wave)
        writer.count()
    return [_row(clip, seconds[clip.file] or 0.0, credits.get(clip.name)) for clip in clips], text


def table() -> list[Clip]:
    """All 2,000 clips, by fold and recording."""
    text = resources.files(__package__).joinpath("tables", "esc50.txt").read_text(encoding="utf-8")
    return [Clip(*line.split()) for line in text.splitlines()[1:]]


def credits_in(text: str) -> dict[str, Credit]:
    """What the source's licence file says of each clip, by the clip's published name.

    The file names clips without their class. Raises Error where it does not credit most of them, so that it is another
    file.
    """
    named = {clip.name.rsplit("-", 1)[0]: clip.name for clip in table()}
    found = {}
    for line in text.splitlines():
        if (match := CREDIT.match(line)) and match["clip"] in named:
            licence = LICENCES.get(match["licence"], match["licence"])
            found[named[match["clip"]]] = Credit(match["author"], licence, match["source"], match["title"])
    if len(found) < 0.9 * len(named):
        raise Error(
            f"{LICENCE_FILE} credits {len(found)} of {len(named)} clips, so it is not that of ESC-50; fetch it again"
        )
    return found


def chosen(clips: list[Clip], credits: dict[str, Credit]) -> list[Clip]:
    """ESC-10 without near copies and without clips under CC Sampling+, which is no free licence."""
    sampling = {name for name, credit in credits.items() if credit.licence == SAMPLING}
    return [clip for clip in clips if clip.target in ESC10 and clip.name not in NEAR_COPIES | sampling]


def _make_one(writer: DatasetWriter, clip: Clip, data: bytes) -> float:
    came = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if not came.startswith(clip.md5):
        raise Error(
            f"{clip.file} is not what was published: its MD5 begins {came[:8]}, and {clip.md5} was expected; fetch it "
            "again"
        )
    mono = as_in_packs(_unpadded(decoded(data, clip.file))).samples[0]
    start, end = loud_part(mono, SILENCE_DB, BEFORE, AFTER)
    writer.put(clip.audio, encoded(mono[start:end], RATE, "OGG", "VORBIS"))
    return (end - start) / RATE


def _unpadded(sound: Sound) -> Sound:
    """Without the zeros that fill a clip up to 5 s."""
    filled = np.flatnonzero(sound.samples.any(axis=0))
    return Sound(sound.samples[:, filled[0] : filled[-1] + 1], sound.rate) if len(filled) else sound


def _row(clip: Clip, seconds: float, credit: Credit | None) -> ManifestRow:
    label, caption = CLASSES[clip.target]
    row: ManifestRow = {
        "id": clip.id,
        "audio": clip.audio,
        "caption": caption,
        "label": label,
        "seconds": round(seconds, 4),
    }
    if credit is None:  # what the source says of all of it
        row["licence"] = "CC-BY-3.0" if clip.target in ESC10 else "CC-BY-NC-3.0"
    else:
        row |= {"licence": credit.licence, "author": credit.author}
    row |= {"source_repository": "karolpiczak/ESC-50", "source_file": f"audio/{clip.file}"}
    if credit is not None:
        row |= {"source_url": credit.source, "source_title": credit.title}
    return row | {"source_rate": 44_100, "group": f"esc{clip.recording}", "fold": clip.fold, "split": clip.split}
