"""The Free Spoken Digit Dataset: 8 kHz WAV files become FLAC files with the very same samples.

The source's own test set, takes 0 to 4, is left out, so that nobody trains on it by accident; takes 5 to 9 are `valid`.
"""

from __future__ import annotations

import hashlib
import io
from importlib import resources

import numpy as np
import soundfile

from cymatic.data.published.dataset_writer import DatasetWriter, ManifestRow, encoded
from cymatic.data.published.originals import Originals
from cymatic.errors import Error

RATE = 8000  # Hz
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = {
    "george": "GRC/Greek",
    "jackson": "USA/neutral",
    "lucas": "DEU/German",
    "nicolas": "BEL/French",
    "theo": "USA/neutral",
    "yweweler": "DEU/German",
}
TAKES = range(5, 50)
VALID_TAKES = range(5, 10)
# The SHA-256 of all lines "ID SHA-256\n" sorted by id, the hashes being those of the samples as 16 bits, little-endian.
ALL_SAMPLES = "d710f09d70c60380252ffeae72942de3909e395e570e6fc6f3cf482deacf949f"
MADE = (
    "The 16-bit samples of the WAV files were stored as FLAC, unchanged and compared with pinned SHA-256 sums. Takes 0 "
    "to 4, the source's test set, were left out."
)
LICENCE_TEXT = """\
Free Spoken Digit Dataset, by Zohar Jackson and contributors
https://github.com/Jakobovski/free-spoken-digit-dataset
Creative Commons Attribution-ShareAlike 4.0 International (CC BY-SA 4.0)
https://creativecommons.org/licenses/by-sa/4.0/legalcode
Changed here: WAV files were stored as FLAC, without loss.
"""


def make(writer: DatasetWriter, originals: Originals) -> list[ManifestRow]:
    """Writes every clip, checked against its hash, and gives the rows. Raises Error."""
    pinned = hashes()
    missing = [clip for clip in pinned if _kept(writer, clip, pinned[clip]) is None]
    writer.count(len(pinned) - len(missing))
    for name, data in originals.each([f"{clip}.wav" for clip in missing]):
        clip = name.removesuffix(".wav")
        samples = _samples(data, name)
        if not _hash(samples).startswith(pinned[clip]):
            raise Error(
                f"{name} holds other samples than were published: their SHA-256 begins {_hash(samples)[:8]}, and "
                f"{pinned[clip]} was expected; fetch it again"
            )
        writer.put(_audio(clip), encoded(samples, RATE, "FLAC", "PCM_16"))
        writer.count()
    rows, lines = [], []
    for clip in pinned:
        kept = _kept(writer, clip, pinned[clip])
        if kept is None:
            raise Error(f"{writer.work / _audio(clip)} was changed while the pack was made; run again")
        rows.append(_row(clip, len(kept)))
        lines.append(f"{clip} {_hash(kept)}\n")
    if hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() != ALL_SAMPLES:
        raise Error(f"the samples in {writer.work} are not those that were published; fetch them again")
    return rows


def hashes() -> dict[str, str]:
    """The first 8 hex digits of the SHA-256 of each clip's samples, in the order of the manifest."""
    found = {}
    table = resources.files(__package__).joinpath("tables", "digits.txt").read_text(encoding="utf-8")
    for line in table.splitlines()[1:]:
        speaker, digit, joined = line.split()
        for i, take in enumerate(TAKES):
            found[f"{digit}_{speaker}_{take}"] = joined[8 * i : 8 * i + 8]
    return found


def _audio(clip: str) -> str:
    return f"audio/{clip.split('_')[1]}/{clip}.flac"


def _row(clip: str, samples: int) -> ManifestRow:
    digit, speaker, take = clip.split("_")
    word = WORDS[int(digit)]
    return {
        "id": clip,
        "audio": _audio(clip),
        "caption": f"{speaker} says {word}",
        "label": int(digit),
        "word": word,
        "speaker": speaker,
        "gender": "male",
        "accent": ACCENTS[speaker],
        "language": "en",
        "take": int(take),
        "seconds": round(samples / RATE, 4),
        "split": "valid" if int(take) in VALID_TAKES else "train",
    }


def _samples(data: bytes, name: str) -> np.ndarray:
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise Error(f"{name} is not a sound that can be read ({str(error).strip(' .')}); fetch it again") from None
    if rate != RATE or samples.ndim != 1:
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        raise Error(f"{name} has {channels} channels at {rate} Hz, and one at {RATE} Hz was expected; fetch it again")
    return samples


def _hash(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


def _kept(writer: DatasetWriter, clip: str, pinned: str) -> np.ndarray | None:
    """The samples of a clip that is there and right."""
    try:
        samples = _samples((writer.work / _audio(clip)).read_bytes(), clip)
    except (OSError, Error):
        return None
    return samples if _hash(samples).startswith(pinned) else None
