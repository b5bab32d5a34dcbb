"""What a recording is like before anything is made of it: length, rate, level, clipping; and its windows.

The details in a sound's `Facts` are `rate` in Hz, `channels`, `samples` a channel, `level` (root mean square in dBFS,
-inf for silence), and `clipped`: the share of samples that lie at full scale, three or more in a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from cymatic.media import audio_files as files
from cymatic.media.medium import Facts, Window
from cymatic.media.sound import Sound
from cymatic.signal.cancellation import Cancellation

# A level of -60 dBFS is lifted by some 37 dB on the way to -23 LUFS: 16 bits' own noise becomes audible.
NEAR_SILENCE_DB = -60.0
# The last step of 16 bits. A pure tone that just reaches it stays there for three samples only below 70 Hz (at 44.1
# kHz); whatever was cut off stays longer. Lossy formats decode to beyond it.
FULL_SCALE = 1 - 1.5 / 32768
CLIPPED_RUN = 3  # samples
CLIPPED_SHARE = 1e-3  # less than one sample in a thousand is hardly heard


def sound_facts(
    rate: int, channels: int, samples: int, level: float, clipped: float, notes: Sequence[str] = ()
) -> Facts:
    """The facts of a sound with these details, and what is worth a look, `notes` first."""
    found = [*notes]
    if -math.inf < level < NEAR_SILENCE_DB:
        found.append(f"is nearly silent ({level:.0f} dBFS)")
    if clipped >= CLIPPED_SHARE:
        found.append(f"is clipped ({100 * clipped:.1f} % of its samples at full scale)")
    details = {"rate": rate, "channels": channels, "samples": samples, "level": level, "clipped": clipped}
    return Facts(samples / rate, level == -math.inf, tuple(found), details)


def listen(path: Path, keep: float) -> tuple[Facts, Sound | None]:
    """Decodes a file once: its facts, and the whole sound where it is no longer than `keep` seconds.

    A longer one is read to its end all the same, piece by piece, since only then is it known to be whole. Raises
    FileNotFoundError and SoundError as `media.audio_files.read`.
    """
    power, clipped, samples, rate, channels = 0.0, 0, 0, 1, 1
    kept: list[np.ndarray] = []
    notes: list[str] = []
    mix: Cancellation | None = None
    for block, rate in files.blocks(path, notes.append):
        channels = len(block)
        mix = mix or Cancellation(channels, rate)
        mix.add(block)
        samples += block.shape[1]
        power += float(np.square(block, dtype=np.float64).sum())
        clipped += _in_runs(np.abs(block) >= FULL_SCALE)
        kept.append(block)
        if samples > keep * rate:
            kept.clear()
    level = 10 * math.log10(power / (samples * channels)) if power > 0 else -math.inf
    if mix is not None and mix.loudest is not None:
        notes.append(mix.remark)
    facts = sound_facts(rate, channels, samples, level, clipped / (samples * channels), notes)
    return facts, Sound(np.concatenate(kept, axis=1), rate) if samples <= keep * rate else None


def _in_runs(extreme: Bool[np.ndarray, "channels samples"]) -> int:
    """How many values are true with at least two neighbours in a row. A run across two blocks may lose its ends."""
    if not extreme.any():
        return 0
    starts = extreme[:, :-2] & extreme[:, 1:-1] & extreme[:, 2:]
    inside = np.zeros_like(extreme)
    for shift in range(CLIPPED_RUN):
        inside[:, shift : shift + starts.shape[1]] |= starts
    return int(inside.sum())


def windows(facts: Facts, longest: float, most: int = 4) -> list[Window]:
    """Up to `most` windows of `longest` seconds spread evenly over a longer recording, which do not overlap."""
    rate, samples = int(facts.details["rate"]), int(facts.details["samples"])
    length = round(longest * rate)
    count = max(1, min(most, samples // length))
    middles = [(2 * i + 1) * samples // (2 * count) for i in range(count)]
    return [(middle - length // 2, middle - length // 2 + length) for middle in middles]


def _silent(what: str) -> None:
    """What is left out of a file is among its facts already."""


def read_windows(path: Path, wanted: Sequence[Window]) -> list[Sound]:
    """Those pieces of a file, in order, without ever holding more of it. Raises as `listen`."""
    # Read from the front, not by seeking: MP3s and streamed files seek to places that are only about right.
    stretches: list[list[Float[np.ndarray, "channels samples"]]] = [[] for _ in wanted]
    at, rate = 0, 1
    for block, rate in files.blocks(path, _silent):  # noqa: B007
        for stretch, (first, end) in zip(stretches, wanted, strict=True):
            part = block[:, max(first - at, 0) : max(end - at, 0)]
            if part.shape[1]:
                stretch.append(part.copy())
        at += block.shape[1]
        if at >= wanted[-1][1]:
            break
    return [Sound(np.concatenate(stretch, axis=1), rate) for stretch in stretches]


def beginning(path: Path, seconds: float) -> Sound:
    """The first seconds of a file, or all of it where it is shorter. Raises as `listen`."""
    blocks, held, rate = [], 0, 1
    for block, rate in files.blocks(path, _silent):
        blocks.append(block)
        held += block.shape[1]
        if held >= seconds * rate:
            break
    return Sound(np.concatenate(blocks, axis=1)[:, : max(1, round(seconds * rate))], rate)
