"""Rendering MIDI with the FluidSynth program and the FluidR3 sound font."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from cymatic.data.published.download import Checksum
from cymatic.data.published.midi import MidiNote, notes_apart
from cymatic.errors import Error
from cymatic.files import into_temporary

FONT = "FluidR3_GM.sf2"
FONT_BYTES = 148_398_306  # version 3.1
FONT_CHECKSUM = Checksum("sha256", "74594e8f4250680adf590507a306655a299935343583256f3b722c48a1bc1cb0")
PLACES = (
    "/usr/share/sounds/sf2",
    "/usr/share/soundfonts",
    "/usr/local/share/sounds/sf2",
    "/usr/local/share/soundfonts",
    "~/.local/share/sounds/sf2",
    "~/.local/share/soundfonts",
    "~/Library/Audio/Sounds/Banks",
)
RATE = 48_000  # Hz
GAIN = 1.35
FIRST, APART, HELD, CUT = (
    0.1,
    3.0,
    1.5,
    2.7,
)  # seconds; HELD is what the starters heard, the others leave room around it
LONGEST_RUN = 600  # seconds


def find_program() -> str:
    """Where FluidSynth is. Raises Error where it is not."""
    program = shutil.which("fluidsynth")
    if program is None:
        raise Error(
            "the instruments are rendered by the program fluidsynth, which is not on the PATH; install it "
            "(apt install fluidsynth, dnf install fluidsynth, brew install fluid-synth, choco install fluidsynth)"
        )
    return program


def find_font(given: Path | None, *more: Path) -> Path:
    """The sound font: the file or folder `given`, or else where systems put it, or in a folder of `more`.

    Raises Error where it is not, or is another one.
    """
    if given is not None:
        font = given / FONT if given.is_dir() else given
        if not font.is_file():
            raise Error(f"{font} does not exist; give --from the file {FONT}")
    else:
        places = [*(Path(place).expanduser() for place in PLACES), *more]
        found = [place / FONT for place in places if (place / FONT).is_file()]
        if not found:
            raise Error(
                f"the sound font {FONT} is in none of the usual places; install it (apt install fluid-soundfont-gm, "
                f"dnf install fluid-soundfont-gm, pacman -S soundfont-fluid) or put version 3.1 of it, "
                f"{FONT_BYTES:,} bytes, anywhere and run again with --from FILE"
            )
        font = found[0]
    try:
        FONT_CHECKSUM.check(font)
    except Error:
        raise Error(
            f"{font} is not the sound font that the starters heard, {FONT} of FluidR3 3.1 (SHA-256 "
            f"{FONT_CHECKSUM.digits[:16]}..., {FONT_BYTES:,} bytes); give that one with --from FILE"
        ) from None
    return font


def render(
    notes: Sequence[MidiNote], instrument: int | None, font: Path, program: str, *, lead: float, length: float
) -> list[Float[np.ndarray, " samples"]]:
    """Each note on its own at 48 kHz, the mean of both channels, dry: no reverb, no chorus.

    instrument: a General MIDI program 0-127, None for the drum kit. lead: seconds before the note, length: seconds
    from its start. Raises Error where FluidSynth fails.
    """
    with into_temporary():
        scratch = tempfile.TemporaryDirectory(prefix="cymatic-")
    with scratch as temporary:
        place = Path(temporary)
        (place / "settings").touch()  # an empty one instead of the user's, which may load other fonts or effects
        song = notes_apart(notes, instrument, first=FIRST, apart=APART, held=HELD, cut=CUT)
        with into_temporary():
            (place / "notes.mid").write_bytes(song)
        command = [program, "-n", "-i", "-q", "-f", str(place / "settings"), "-R", "0", "-C", "0", "-g", str(GAIN)]
        command += ["-r", str(RATE), "-O", "float", "-o", "synth.dynamic-sample-loading=1"]
        command += ["-F", str(place / "notes.wav"), str(font), str(place / "notes.mid")]
        if nice := shutil.which("nice"):
            command = [nice, "-n", "10", *command]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST_RUN, check=False
            )
            stereo, rate = soundfile.read(place / "notes.wav", dtype="float32", always_2d=True)
        except (OSError, subprocess.TimeoutExpired, soundfile.SoundFileError, RuntimeError) as error:
            said = str(error) if not isinstance(error, soundfile.SoundFileError) else _last_line(done.stderr)
            raise Error(f"fluidsynth rendered no sound ({said}); try it by hand: fluidsynth {font}") from None
    expected = (FIRST + (len(notes) - 1) * APART + length) * RATE
    if rate != RATE or len(stereo) < expected:
        raise Error(
            f"fluidsynth rendered {len(stereo) / rate:.1f} s at {rate} Hz, and {expected / RATE:.1f} s at {RATE} Hz "
            f"were expected ({_last_line(done.stderr)}); update fluidsynth to version 2"
        )
    mono = stereo.mean(axis=1)
    starts = [round((FIRST + i * APART - lead) * RATE) for i in range(len(notes))]
    return [mono[start : start + round((lead + length) * RATE)] for start in starts]


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
