"""Speech on log mels: another vocal tract, another speed, noise, a room.

All take and give natural logarithms of mel magnitudes, `[mels, frames]` (see `signal.mel.to_log`). Powers add up as
they do on average, since a mel has no phase.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cymatic.signal.mel import MelSpec, hz_to_mel, log_mel, mel_to_hz, to_log

Mel = Float[Tensor, "mels _"]
NEPERS = math.log(10) / 20  # a decibel
BEND = 4800.0  # Hz up to which the tract's resonances move in proportion
MOST_BEND = 0.8  # of half the rate, where that is lower
WHITE_SECONDS = 30.0
FFT_STEP = 1024  # samples
PINK = 50.0  # Hz below which noise is flat
DAMPING = 0.5  # a room's reverberation at the highest frequency lasts so much of that at the lowest
SILENT = -10.0  # nepers; a sound whose loudest point is below has nothing to be compared with


def tract_source(hz: np.ndarray, warp: float, rate: int) -> np.ndarray:
    """Where in the sound lies what comes to lie at `hz`, as its vocal tract becomes `warp` times shorter.

    Vocal tract length perturbation (Jaitly and Hinton, 2013): `G(f) = f warp` up to `B min(warp, 1) / warp`, and from
    there on a straight line to half the rate, which stays where it is; B is 4.8 kHz. This is the inverse of G.
    """
    top = rate / 2
    bend = min(BEND, MOST_BEND * top) * min(warp, 1.0)
    return np.where(hz <= bend, hz / warp, top - (top - hz) * (top - bend / warp) / (top - bend))


def with_tract(mel: Mel, spec: MelSpec, warp: float) -> Mel:
    """The sound of a vocal tract that is `warp` times shorter: resonances, here pitch too, are as much higher."""
    if warp == 1:
        return mel
    centres = _centres(spec)
    return _moved(mel, spec, tract_source(centres, warp, spec.rate))[0]


def at_speed(mel: Mel, spec: MelSpec, faster: float) -> Mel:
    """The sound played `faster` times as fast, pitch and all; `max(1, round(frames / faster))` frames."""
    if faster == 1:
        return mel
    moved, beyond = _moved(mel, spec, _centres(spec) / faster)
    moved = torch.where(beyond[:, None], math.log(spec.floor), moved)
    frames = max(1, round(mel.shape[1] / faster))
    return F.interpolate(moved[None], size=frames, mode="linear", align_corners=False)[0]


def loudness(mel: Mel, spec: MelSpec) -> float:
    """The mean power of a sound in dB, up to a constant of the spec: squared magnitudes by the width of their bands."""
    power = (2 * mel).exp().mean(1) @ torch.from_numpy(_widths(spec))
    return 10 * math.log10(max(float(power), 1e-30))


def added(mel: Mel, other: Mel, spec: MelSpec, snr: float) -> Mel:
    """The sum of a sound and another one that is `snr` dB fainter; the sound itself where either is silent."""
    if float(mel.max()) < SILENT or float(other.max()) < SILENT:
        return mel
    shift = NEPERS * (loudness(mel, spec) - loudness(other, spec) - snr)
    return torch.logaddexp(2 * mel, 2 * (other + shift)) / 2


def noise(frames: int, spec: MelSpec, slope: float, chance: torch.Generator) -> Mel:
    """Noise whose power falls with the `slope`th power of frequency: 0 is white, 1 is pink.

    It begins anywhere in a long stretch of white noise that is made once, and goes round.
    """
    white = _white(spec)
    start = int(torch.randint(white.shape[1], (), generator=chance))
    octaves = torch.from_numpy(np.log(np.maximum(_centres(spec) / PINK, 1)).astype(np.float32))
    return white[:, (start + torch.arange(frames)) % white.shape[1]] - slope / 2 * octaves[:, None]


def noise_wave(samples: int, rate: int, slope: float, chance: torch.Generator) -> Float[Tensor, " samples"]:
    """The same as a waveform, of a loudness (RMS) of about 1."""
    size = fft_size(samples)
    white = torch.randn(size, generator=chance)
    hz = torch.fft.rfftfreq(size, 1 / rate)
    made = torch.fft.irfft(torch.fft.rfft(white) * (hz / PINK).clamp_min(1) ** (-slope / 2), n=size)[:samples]
    return made / made.square().mean().sqrt().clamp_min(1e-6)


def fft_size(samples: int) -> int:
    """As many samples or a few more, whose transform is quick."""
    return -(-samples // FFT_STEP) * FFT_STEP


def in_room(mel: Mel, spec: MelSpec, seconds: float, direct: float) -> Mel:
    """The sound in a room where reverberation falls by 60 dB in `seconds`, and what comes straight is `direct` dB
    louder than it. As many frames, and as loud but for what rings on after its end.

    Reverberation is noise that decays exponentially (Moorer, 1979), so powers are convolved with `10^(-6 t / seconds)`;
    high frequencies decay up to twice as fast.
    """
    step = spec.hop / spec.rate
    count = min(mel.shape[1] - 1, math.ceil(seconds / step))
    if count < 1:
        return mel
    lasting = seconds * torch.linspace(1, DAMPING, spec.mels)
    ages = torch.arange(1, count + 1) * step
    decay = 10 ** (-6 * ages / lasting[:, None])  # mels, count
    share = 10 ** (-direct / 10)
    decay = decay * (share / decay.sum(1, keepdim=True).clamp_min(1e-12))
    power = (2 * mel.double()).exp()
    kernel = torch.cat([decay.flip(1), torch.ones(spec.mels, 1)], 1)[:, None].double()
    rung = F.conv1d(F.pad(power, (count, 0))[None], kernel, groups=spec.mels)[0] / (1 + share)
    return (rung.log() / 2).to(mel.dtype)


@lru_cache(maxsize=4)
def _white(spec: MelSpec) -> Mel:
    """White noise, the same in every process."""
    samples = round(WHITE_SECONDS * spec.rate / spec.hop) * spec.hop
    wave = noise_wave(samples, spec.rate, 0.0, torch.Generator().manual_seed(0))
    return to_log(log_mel(wave[None, None], spec)[0], spec)


@lru_cache(maxsize=16)
def _edges(spec: MelSpec) -> np.ndarray:
    """Where the triangles of the mel begin, peak and end, in Hz."""
    return mel_to_hz(np.linspace(hz_to_mel(spec.fmin), hz_to_mel(spec.fmax), spec.mels + 2))


def _centres(spec: MelSpec) -> np.ndarray:
    return _edges(spec)[1:-1]


@lru_cache(maxsize=16)
def _widths(spec: MelSpec) -> np.ndarray:
    """Of each band in shares of all."""
    edges = _edges(spec)
    widths = edges[2:] - edges[:-2]
    return (widths / widths.sum()).astype(np.float32)


def _moved(mel: Mel, spec: MelSpec, source: np.ndarray) -> tuple[Mel, Tensor]:
    """Each band from where it lay, in Hz, between the two nearest; and which bands lay above all."""
    edges = hz_to_mel(_edges(spec))
    place = (hz_to_mel(source) - edges[1]) / (edges[1] - edges[0])
    beyond = torch.from_numpy(place > spec.mels - 1 + 1e-6)
    place = torch.from_numpy(place.clip(0, spec.mels - 1).astype(np.float32))[:, None]
    below = place.floor().long()
    above = (below + 1).clamp(max=spec.mels - 1)
    return torch.lerp(mel[below[:, 0]], mel[above[:, 0]], place - below), beyond
