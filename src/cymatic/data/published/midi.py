"""Just enough of a Standard MIDI File (format 0) to play single notes one after another."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

TICKS = 1000  # a quarter note, which is played in one second: a tick is a millisecond
DRUM_CHANNEL = 9  # the tenth, which General MIDI keeps for percussion


@dataclass(frozen=True)
class MidiNote:
    """A key 0-127, struck at `velocity` 1-127."""

    pitch: int
    velocity: int


def notes_apart(
    notes: Sequence[MidiNote], program: int | None, *, first: float, apart: float, held: float, cut: float
) -> bytes:
    """A file that plays `notes` on one channel, the first at `first` seconds and each `apart` seconds after another.

    program: 0-127, or None for the drum kit. held: seconds until a note is let go; cut: until whatever still sounds of
    it is silenced.
    """
    channel = DRUM_CHANNEL if program is None else 0
    events: list[tuple[float, bytes]] = []
    if program is not None:
        events.append((0.0, bytes([0xC0 | channel, program])))
    for i, note in enumerate(notes):
        start = first + i * apart
        events.append((start, bytes([0x90 | channel, note.pitch, note.velocity])))
        events.append((start + held, bytes([0x80 | channel, note.pitch, 0])))
        events.append((start + cut, bytes([0xB0 | channel, 120, 0])))  # all sound off
    track = b"\0\xff\x51\x03" + (1_000_000).to_bytes(3, "big")  # microseconds a quarter note
    now = 0
    for seconds, message in sorted(events, key=lambda event: event[0]):
        tick = round(seconds * TICKS)
        track += _length(tick - now) + message
        now = tick
    track += _length(round((first + len(notes) * apart) * TICKS) - now) + b"\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS) + b"MTrk" + struct.pack(">I", len(track)) + track


def _length(number: int) -> bytes:
    """A variable-length quantity: seven bits a byte, the highest first, all but the last marked."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))
