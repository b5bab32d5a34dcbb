"""Mel spectrograms: what one is (`MelSpec`), and waveform -> mel.

A `MelSpec` travels with every part that reads or writes mels, so a pipeline can refuse parts that would misunderstand
each other. Importing this module needs numpy alone; torch is loaded by the functions that compute with tensors.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from cymatic.config import Config

if TYPE_CHECKING:
    from torch import Tensor


class MelSpec(Config):
    """One way to look at sound: log-compressed mel magnitudes, `[mels, frames]`, `frames = ceil(samples / hop)`.

    Frame i is centred on sample `i * hop + hop / 2`; the sound is extended with silence on both sides, so any length
    from one sample up has a mel, and a frame never depends on how much padding follows it.
    """

    rate: int = Field(gt=0, le=768_000)  # Hz
    n_fft: int = Field(gt=0, le=65_536)  # samples; also the length of the Hann window
    hop: int = Field(gt=0)  # samples
    mels: int = Field(gt=0, le=512)
    fmin: float = Field(default=0.0, ge=0)  # Hz
    fmax: float = Field(gt=0)  # Hz
    scale: Literal["slaney"] = "slaney"
    normalisation: Literal["natural-log"] = "natural-log"
    floor: float = Field(default=1e-5, gt=0)  # magnitudes below this are silence

    @model_validator(mode="after")
    def _consistent(self) -> MelSpec:
        if self.fmax > self.rate / 2:
            raise ValueError(f"fmax {self.fmax:g} Hz is above half the rate ({self.rate / 2:g} Hz)")
        if self.fmin >= self.fmax:
            raise ValueError(f"fmin {self.fmin:g} Hz is not below fmax {self.fmax:g} Hz")
        if self.hop > self.n_fft:
            raise ValueError(f"hop {self.hop} is longer than the window ({self.n_fft}), so samples would be lost")
        return self

    def frames(self, samples: int) -> int:
        """Frames that cover `samples` samples."""
        return -(-samples // self.hop)

    def seconds(self, frames: int) -> float:
        """Length of `frames` frames in seconds."""
        return frames * self.hop / self.rate


PRESETS: dict[str, MelSpec] = {
    # The house's own mel, for sound of any kind.
    "sound-24k": MelSpec(rate=24_000, n_fft=1024, hop=256, mels=100, fmax=12_000),
    # For recordings that hold nothing above 4 kHz (telephone bandwidth): 80 frames a second.
    "voice-8k": MelSpec(rate=8_000, n_fft=400, hop=100, mels=64, fmax=4_000),
}


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz (3 mels per 200 Hz), logarithmic above."""
    hz = np.asarray(hz, dtype=np.float64)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """Inverse of `hz_to_mel`."""
    mel = np.asarray(mel, dtype=np.float64)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


@lru_cache(maxsize=16)
def filterbank(spec: MelSpec) -> Float[np.ndarray, "mels bins"]:
    """Triangular filters of equal area (Slaney 1998), `[mels, n_fft // 2 + 1]` float32: mel = filterbank @ magnitude.

    Each triangle spans two mel steps and is scaled by 2 / its width in Hz.
    """
    edges = mel_to_hz(np.linspace(hz_to_mel(spec.fmin), hz_to_mel(spec.fmax), spec.mels + 2))
    bins = np.linspace(0, spec.rate / 2, spec.n_fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    return (triangles * 2 / (edges[2:] - edges[:-2])[:, None]).astype(np.float32)


def framed(waveform: Float[Tensor, "*batch samples"], spec: MelSpec) -> Float[Tensor, "*batch padded"]:
    """`waveform` extended with silence so that its STFT without centring has exactly ceil(samples / hop) frames."""
    from torch.nn.functional import pad

    samples = waveform.shape[-1]
    extra = spec.n_fft - spec.hop
    left = extra // 2
    return pad(waveform, (left, spec.frames(samples) * spec.hop - samples + extra - left))


def log_mel(waveform: Float[Tensor, "batch 1 samples"], spec: MelSpec) -> Float[Tensor, "batch mels frames"]:
    """Waveform at `spec.rate` -> log mel, `ln(max(filterbank @ |STFT|, floor))`."""
    import torch

    window = torch.hann_window(spec.n_fft, dtype=waveform.dtype, device=waveform.device)
    stft = torch.stft(
        framed(waveform[:, 0], spec), spec.n_fft, spec.hop, window=window, center=False, return_complex=True
    )
    filters = torch.from_numpy(filterbank(spec)).to(waveform)
    with torch.autocast(waveform.device.type, enabled=False):  # a mel is no place to save digits
        return (filters @ stft.abs()).clamp_min(spec.floor).log()
