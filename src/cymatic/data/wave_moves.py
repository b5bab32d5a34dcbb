"""Speech as waveforms, `[channels, samples]` float32: another vocal tract, another speed, noise, a room."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.data.audio_moves import transposed
from cymatic.data.mel_moves import fft_size, noise_wave, tract_source
from cymatic.media.sound import Sound

Wave = Float[Tensor, "channels _"]
WINDOW = 0.032  # seconds that a spectrum is of
QUEFRENCY = 0.002  # seconds; slower ripples of a spectrum are the tract's, faster ones its pitch
MOST = 20.0  # dB by which a resonance is raised or lowered
SMALLEST = 1e-5  # RMS of what is silence


def with_tract(wave: Wave, rate: int, warp: float) -> Wave:
    """The sound of a vocal tract that is `warp` times shorter, at its own pitch and length: each spectrum's envelope
    is moved (see `mel_moves.tract_source`), and what lies below the envelope stays.

    The envelope is the logarithm of the spectrum without its fast ripples (liftered cepstrum).
    """
    size = 2 ** round(math.log2(WINDOW * rate))
    if warp == 1 or wave.shape[1] < size:
        return wave
    window = torch.hann_window(size)
    spectra = torch.stft(wave, size, size // 4, window=window, return_complex=True)  # channels, bins, frames
    logs = spectra.abs().clamp_min(1e-6).log()
    kept = max(1, round(QUEFRENCY * rate))
    cepstra = torch.fft.irfft(logs, n=size, dim=1)
    cepstra[:, kept : size - kept + 1] = 0
    envelope = torch.fft.rfft(cepstra, dim=1).real
    hz = np.fft.rfftfreq(size, 1 / rate)
    place = torch.from_numpy((tract_source(hz, warp, rate) / hz[1]).clip(0, size // 2).astype(np.float32))
    below = place.floor().long()
    above = (below + 1).clamp(max=size // 2)
    moved = torch.lerp(envelope[:, below], envelope[:, above], (place - below)[:, None])
    most = MOST * math.log(10) / 20
    spectra = spectra * (moved - envelope).clamp(-most, most).exp()
    return torch.istft(spectra, size, size // 4, window=window, length=wave.shape[1])


def at_speed(wave: Wave, rate: int, faster: float) -> Wave:
    """The sound played about `faster` times as fast, pitch and all; about `samples / faster` samples, at least 1."""
    if faster == 1 or not wave.shape[1]:
        return wave
    return torch.from_numpy(transposed(Sound(wave.numpy(), rate), 12 * math.log2(faster)).samples)


def added(wave: Wave, other: Wave, snr: float) -> Wave:
    """The sum of a sound and another one that is `snr` dB fainter; the sound itself where either is silent."""
    loud, faint = (float(one.square().mean().sqrt()) if one.numel() else 0.0 for one in (wave, other))
    if loud < SMALLEST or faint < SMALLEST:
        return wave
    return wave + other * (loud / faint * 10 ** (-snr / 20))


def noise(samples: int, rate: int, slope: float, chance: torch.Generator) -> Wave:
    """Noise whose power falls with the `slope`th power of frequency: 0 is white, 1 is pink. One channel."""
    return noise_wave(samples, rate, slope, chance)[None]


def in_room(wave: Wave, rate: int, seconds: float, direct: float, chance: torch.Generator) -> Wave:
    """The sound in a room where reverberation falls by 60 dB in `seconds`, and what comes straight is `direct` dB
    louder than it; as many samples. Reverberation is noise that decays exponentially (Moorer, 1979)."""
    count = min(wave.shape[1] - 1, round(seconds * rate))
    if count < 1:
        return wave
    tail = torch.randn(count, generator=chance) * 10 ** (-3 * torch.arange(1, count + 1) / (seconds * rate))
    share = 10 ** (-direct / 10)
    response = torch.cat([torch.ones(1), tail * (share / tail.square().sum().clamp_min(1e-12)).sqrt()])
    size = fft_size(wave.shape[1] + count)
    rung = torch.fft.irfft(torch.fft.rfft(wave, n=size) * torch.fft.rfft(response, n=size), n=size)
    return rung[:, : wave.shape[1]] / (1 + share) ** 0.5
