"""Side information: pitch and loudness as codes of their own, and the pulses that are made from them.

A network that writes spectra frame by frame must match the phases of neighbouring frames to hold a note, which it
learns late: without side information notes came back 13 semitones off. So the pitch is measured, coded, and made again
by an oscillator, as in speech codecs since Atal and Schroeder's (1985), and in neural ones since NSF (Wang et al.,
2019, arXiv 1904.12088); the network only filters the pulses.

Loudness is side information too. Norms inside the networks remove it from what they read: without it loud sounds came
back 9 dB softer and soft ones 2 dB. So it is measured, divided out before the networks, and multiplied in after them.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.config import Config
from cymatic.nn.streaming import StreamingState, extend_left
from cymatic.signal.yin import difference, normalised, period

WINDOW = 0.025  # seconds of sound that are compared with those one period earlier
PERIODS = 4  # of the fundamental, from which its phase is read
VOICED = 0.35  # frames whose dip is no deeper have no pitch
QUIETEST = 1e-7  # mean square; a frame below it has no pitch
USUAL = 0.1  # root mean square of what the networks see
LEAP = 0.25  # octaves: neighbouring frames further apart than this are two notes, not a glide
HIGHEST = 0.98  # of the Nyquist frequency: there is no harmonic above it


class PitchShape(Config):
    """`pitches` from `lowest` to `highest` Hz, equally far apart by ear, `phases` of the fundamental, and `levels` from
    `softest` to `loudest` dB, where 0 is a root mean square of 1."""

    lowest: float = Field(default=50.0, gt=0)
    highest: float = Field(default=1600.0, gt=0)
    pitches: int = Field(default=255, ge=2, le=65_535)
    phases: int = Field(default=64, ge=4, le=65_536)
    softest: float = Field(default=-81.0, ge=-200, le=20)
    loudest: float = Field(default=-3.0, ge=-200, le=20)
    levels: int = Field(default=64, ge=2, le=65_536)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.highest <= self.lowest:
            raise ValueError(f"the highest pitch is {self.highest:g} Hz and the lowest {self.lowest:g}; swap them")
        if self.loudest <= self.softest:
            raise ValueError(f"the loudest level is {self.loudest:g} dB and the softest {self.softest:g}; swap them")
        return self


class Pitch(nn.Module):
    """Waveform -> side information of each frame -> a waveform of pulses. It has no weights.

    The side information of a frame is four numbers: voiced (1 where there is a pitch, else 0), octaves above the
    lowest, loudness from 0 (softest) to 1, and the fundamental's phase in cycles at the frame's last sample. Three
    codes hold them, see `encode`. Octaves and phase are 0 where there is no pitch.
    """

    numbers = 4

    def __init__(self, shape: PitchShape, rate: int, hop: int) -> None:
        super().__init__()
        self.shape, self.rate, self.hop = shape, rate, hop
        self.window, self.longest = round(WINDOW * rate), round(rate / shape.lowest)
        self.octaves = math.log2(shape.highest / shape.lowest)
        self.sizes = (shape.pitches + 1, shape.phases, shape.levels)
        self.before = max(0, self.window + self.longest - hop)  # samples before a frame that its pitch depends on

    @torch.no_grad()
    def track(
        self, wave: Float[Tensor, "batch channels samples"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch 4 frames"]:
        """The side information of the mean of all channels, rounded to what the codes can hold."""
        extended = extend_left(state, self, wave, self.before)
        frames = extended.unfold(-1, self.before + self.hop, self.hop)[..., -self.window - self.longest :]
        level = 10 * frames.square().mean((1, 3)).clamp_min(1e-20).log10()
        level = ((level - self.shape.softest) / (self.shape.loudest - self.shape.softest)).clamp(0, 1)
        newest = frames.mean(1).flip(-1)  # so that lags count back from now
        newest = newest - newest.mean(-1, keepdim=True)
        lag, depth = period(normalised(difference(newest, self.longest)), int(self.rate / self.shape.highest))
        hz = self.rate / lag
        voiced = (depth < VOICED) & (newest[..., : self.window].square().mean(-1) > QUIETEST)
        octaves = (hz / self.shape.lowest).log2().clamp(0, self.octaves)
        return self.decode(self.encode(torch.stack([voiced, octaves, level, self._phase(newest, hz)], 1)))

    def encode(self, side: Float[Tensor, "batch 4 frames"]) -> Int[Tensor, "batch 3 frames"]:
        """Codes of the pitch (0 where there is none), the phase and the loudness."""
        voiced, octaves, level, phase = side.unbind(1)
        pitch = 1 + (octaves / self.octaves * (self.shape.pitches - 1)).round()
        phase = (phase * self.shape.phases).round() % self.shape.phases
        return torch.stack([voiced * pitch, voiced * phase, (level * (self.shape.levels - 1)).round()], 1).long()

    def decode(self, codes: Int[Tensor, "batch 3 frames"]) -> Float[Tensor, "batch 4 frames"]:
        """The side information that the three codes stand for."""
        pitch, phase, level = codes.unbind(1)
        voiced = (pitch > 0).double()
        octaves = (pitch - 1) * (self.octaves / (self.shape.pitches - 1))
        level = level / (self.shape.levels - 1)
        return torch.stack([voiced, voiced * octaves, level, voiced * phase / self.shape.phases], 1).float()

    def gain(self, side: Float[Tensor, "batch 4 frames"]) -> Float[Tensor, "batch frames"]:
        """By what factor a frame is louder than what the networks see."""
        level = self.shape.softest + side[:, 2] * (self.shape.loudest - self.shape.softest)
        return 10 ** (level / 20) / USUAL

    def pulses(
        self, side: Float[Tensor, "batch 4 frames"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch samples"]:
        """All harmonics up to the Nyquist frequency, equally loud and in phase with the fundamental, with a root mean
        square of 1 together; silence where there is no pitch.

        Pitch and loudness are interpolated linearly from frame to frame, and the fundamental arrives at the phase of
        the frame. The sum of K cosines is `sin((K + 1/2) x) / (2 sin(x / 2)) - 1/2`.
        """
        here = side.device
        exact = side.cpu() if here.type == "mps" else side  # Apple's GPUs have no float64, which phases need
        voiced, octaves, _, phase = exact.double().unbind(1)
        hz = self.shape.lowest * 2**octaves
        ends = torch.stack([voiced, hz, phase], 1)
        was, from_hz, from_phase = extend_left(state, (self, "pulses"), ends, 1)[..., :-1].unbind(1)
        both = (was > 0) & (voiced > 0) & ((hz / from_hz.clamp_min(1e-3)).log2().abs() <= LEAP)
        start = torch.where(both | (voiced == 0), from_hz, hz)[..., None]
        end = torch.where(voiced > 0, hz, from_hz)[..., None]
        n = torch.arange(1, self.hop + 1, device=exact.device, dtype=torch.float64)
        # Cycles after n samples of a straight line between two frequencies.
        rise = (end - start) / (2 * self.hop)
        missing = phase - from_phase - ((start + rise * (self.hop + 1)) * self.hop / self.rate)[..., 0]
        bend = torch.where(both, missing - missing.round(), 0.0)[..., None] / self.hop
        # Where a note begins the phases are counted back from its first frame's.
        origin = torch.where(both | (voiced == 0), from_phase, from_phase + missing)[..., None]
        cycles = torch.addcmul(origin, n, (rise / self.rate * n).add_((start + rise) / self.rate + bend))
        half = (cycles - cycles.round()).float().mul_(math.pi)  # no more sums follow, so float32 is enough
        along = (n / self.hop).float()
        now = torch.lerp(start.float(), end.float(), along)
        twice = (now.clamp_min_(1.0).reciprocal_() * (HIGHEST * self.rate / 2)).floor_().mul_(2)
        sine = half.sin()
        tiny = (sine.abs() < 1e-6).float()
        # Where a pulse is at its highest both sines are 0: 1 in the place of one makes it what is added for the other.
        pulses = ((twice + 1) * half).sin_().div_(sine.add_(tiny)).sub_(1).addcmul_(tiny, twice + 1)
        loud = torch.lerp(was[..., None].float(), voiced[..., None].float(), along)
        return (pulses * loud * twice.clamp_min(1).rsqrt()).flatten(1).to(here)

    def _phase(self, newest: Float[Tensor, "*batch samples"], hz: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """In cycles, at the newest sample, which comes first; through a Hann window of four periods."""
        back = torch.arange(newest.shape[-1], device=newest.device, dtype=newest.dtype)
        spread = (PERIODS * self.rate / hz).clamp(max=newest.shape[-1])[..., None]
        window = 1 - (back * (2 * math.pi / spread)).clamp_(max=2 * math.pi).cos_()
        angle = (2 * math.pi / self.rate * hz)[..., None] * back
        windowed = newest * window
        return torch.atan2((windowed * angle.sin()).sum(-1), (windowed * angle.cos()).sum(-1)) / (2 * math.pi)
