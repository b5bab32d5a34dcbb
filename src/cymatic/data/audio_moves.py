"""Sounds at another pitch, and captions that say so.

Playing a recording faster or slower by `2^(semitones / 12)` moves its pitch, its length and its timbre together, as a
tape does: within two semitones an instrument stays itself. A caption that names a note names another one afterwards; a
caption that speaks of pitch in other words keeps its sound as it is.
"""

from __future__ import annotations

import re

from cymatic.media.sound import Sound

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
# "D#4" anywhere; a letter alone only where it can't be the article or a name: "a bass note on C".
NOTE = re.compile(r"\b([A-Ga-g])([#♯b♭]?)(-?\d)(?![\w#])|(?<=\bon )([A-G])([#♯b♭]?)(?![\w#])")
PITCH_WORDS = re.compile(
    r"\b(low|lower|lowest|high|higher|highest|deep|deeper|pitch|pitched|bass|treble|soprano|tenor|hertz|hz|octave|"
    r"semitones?|rising|falling|dropping)\b",
    re.IGNORECASE,
)


def transposed_caption(caption: str, semitones: float) -> str | None:
    """The caption of the sound moved by `semitones`; None where no caption would be right.

    >>> transposed_caption("violin playing A#3 softly", 2)
    'violin playing C4 softly'
    """
    notes = list(NOTE.finditer(caption))
    if not notes:
        return None if PITCH_WORDS.search(caption) else caption
    if semitones != round(semitones):
        return None
    return NOTE.sub(lambda match: _moved(match, round(semitones)), caption)


def _moved(match: re.Match[str], semitones: int) -> str:
    letter, sign, octave = (match[1], match[2], match[3]) if match[1] else (match[4], match[5], None)
    step = STEPS[letter.upper()] + {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}[sign] + semitones
    name = NOTES[step % 12]
    if letter.islower():
        name = name.lower()
    return name if octave is None else f"{name}{int(octave) + step // 12}"


def transposed(sound: Sound, semitones: float) -> Sound:
    """`sound` moved by `semitones` at its own rate; its length changes by `2^(-semitones / 12)`."""
    if semitones == 0:
        return sound
    faster = round(sound.rate * 2 ** (semitones / 12))
    return Sound(Sound(sound.samples, faster).resample(sound.rate).samples, sound.rate)


def speaks_of_pitch(caption: str) -> bool:
    """Whether the sound at another pitch would need another caption."""
    return transposed_caption(caption, 0.5) is None
