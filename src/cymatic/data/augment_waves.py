"""Waveforms a little changed at every step, a whole batch at once; what is drawn comes from the generator alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from cymatic.config import Config
from cymatic.signal.filters import low_pass

NEPERS = math.log(10) / 20  # a decibel
WAVES = 4  # cosines, over the logarithm of frequency, that an equaliser is made of
LOWEST = 50.0  # Hz; below it an equaliser and noise are flat
SLOPES = 2.0  # noise's power falls at most with this power of frequency
SMALLEST = 1e-5  # what is quieter (RMS) is silence, and gets no noise and no overtones
THIRD = 3  # the highest overtone


class WaveAugmentation(Config):
    """How far waveforms are changed; 0 leaves them as they are.

    gain: dB up or down at most. polarity: share that is turned over. filter: dB of a smooth random equaliser (its
    spread). noise: share that gets noise between white and brown, at `snr` dB or up to 30 dB fainter. overtones: share
    whose second and third overtones are raised, the more the louder it is. mix: share that is overlaid with another
    item of the batch, which is as loud or up to 12 dB fainter. Nothing ends above full scale that was not before.
    """

    gain: float = Field(default=0.0, ge=0, le=24)
    polarity: float = Field(default=0.0, ge=0, le=1)
    filter: float = Field(default=0.0, ge=0, le=24)
    noise: float = Field(default=0.0, ge=0, le=1)
    snr: float = Field(default=20.0, ge=0, le=80)
    overtones: float = Field(default=0.0, ge=0, le=1)
    mix: float = Field(default=0.0, ge=0, le=1)

    def __call__(
        self, waves: Float[Tensor, "batch channels samples"], rate: int, generator: torch.Generator
    ) -> Float[Tensor, "batch channels samples"]:
        """`waves` as they are met once; a new tensor where anything is changed."""
        batch, most = len(waves), waves.abs().amax((1, 2), keepdim=True).clamp_min(1.0)
        made = waves
        if self.mix and batch > 1:
            partner = (torch.arange(batch) + int(torch.randint(1, batch, (), generator=generator))) % batch
            faint = _decibels(-12 * torch.rand(batch, 1, 1, generator=generator)).to(made)
            other = waves[partner.to(waves.device)]
            other = other * faint * _loudness(made) / _loudness(other).clamp_min(SMALLEST)
            made = made + other * _some(self.mix, batch, generator).to(made)
        if self.overtones:
            depth = torch.rand(2, batch, 1, 1, generator=generator) * _some(self.overtones, batch, generator)
            made = made + _overtones(made, rate, depth.to(made))
        if self.filter or self.noise:
            made = self._shaped(made, rate, generator)
        if self.gain:
            made = made * _decibels(self.gain * (2 * torch.rand(batch, 1, 1, generator=generator) - 1)).to(made)
        if self.polarity:
            made = made * (1 - 2 * _some(self.polarity, batch, generator).to(made))
        return (
            made
            if made is waves
            else made * (most / made.abs().amax((1, 2), keepdim=True).clamp_min(1e-9)).clamp_max(1)
        )

    def _shaped(self, made: Tensor, rate: int, generator: torch.Generator) -> Tensor:
        batch, channels, samples = made.shape
        hz = torch.fft.rfftfreq(samples, 1 / rate)
        octaves = (hz / LOWEST).clamp_min(1).log() / math.log(max(2.0, rate / 2 / LOWEST))  # 0 to 1
        if self.filter:
            weights = torch.randn(batch, WAVES, generator=generator) * (2 / WAVES) ** 0.5
            curve = weights @ torch.cos(torch.pi * torch.arange(1, WAVES + 1)[:, None] * octaves)
            shape = _decibels(self.filter * curve)[:, None].to(made)
            made = torch.fft.irfft(torch.fft.rfft(made) * shape, n=samples)
        if self.noise:
            white = torch.randn(batch, channels, samples, generator=generator)
            slope = SLOPES / 2 * torch.rand(batch, 1, 1, generator=generator)
            noise = torch.fft.irfft(torch.fft.rfft(white) * (hz / LOWEST).clamp_min(1) ** -slope, n=samples).to(made)
            level = _decibels(-self.snr - 30 * torch.rand(batch, 1, 1, generator=generator)).to(made)
            level = level * _some(self.noise, batch, generator).to(made)
            made = made + noise * level * _loudness(made) / _loudness(noise).clamp_min(SMALLEST)
        return made


def _some(share: float, batch: int, generator: torch.Generator) -> Float[Tensor, "batch 1 1"]:
    return (torch.rand(batch, 1, 1, generator=generator) < share).float()


def _decibels(x: Tensor) -> Tensor:
    return (NEPERS * x).exp()


def _loudness(waves: Float[Tensor, "batch channels samples"]) -> Float[Tensor, "batch 1 1"]:
    """RMS, and nought for silence."""
    rms = waves.square().mean((1, 2), keepdim=True).sqrt()
    return rms * (rms > SMALLEST)


def _overtones(
    waves: Float[Tensor, "batch channels samples"], rate: int, depth: Float[Tensor, "two batch 1 1"]
) -> Float[Tensor, "batch channels samples"]:
    """Chebyshev's polynomials turn a cosine into its overtones: `T_2(cos t) = cos 2t`, `T_3(cos t) = cos 3t`.

    What would lie above half the rate afterwards is left out first. The level `2 x^2 - 1` has with silence goes.
    """
    low = low_pass(waves, rate / 2 / THIRD / 1.1, rate)
    peak = low.abs().amax((1, 2), keepdim=True)
    x = low / peak.clamp_min(SMALLEST)
    second, third = 2 * x.square(), 4 * x**3 - 3 * x
    second = second - second.mean(-1, keepdim=True)
    return 0.5 * peak * (peak > SMALLEST) * (depth[0] * second + depth[1] * third)
