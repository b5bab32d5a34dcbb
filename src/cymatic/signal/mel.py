"""Mel spectrograms: what one is (`MelSpec`), and waveform -> mel.

A `MelSpec` travels with every part that reads or writes mels, so a pipeline can refuse parts that would misunderstand
each other. Importing this module needs numpy alone; torch is loaded by the functions that compute with tensors.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BeforeValidator, Field, model_validator

from cymatic.config import nearest
from cymatic.signal.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


NEPERS = 5 * math.log(10)  # that decibel-unit's 100 dB are
FULL = 0.8  # where decibel-unit puts a magnitude of 1


class MelSpec(Spec):
    """One way to look at sound: compressed mel magnitudes, `[mels, frames]`, `frames = ceil(samples / hop)`.

    `framing`: where frame i looks. `middle`: at sample `i * hop + hop / 2`; the sound is extended with silence on both
    sides, so a frame never depends on how much silence follows. `centred`, as librosa 0.8 and SpecVQGAN have it: at
    sample `i * hop`; the sound is reflected at both ends, so its last frames depend on where it ends. Of the frames
    that librosa gives, one that lies at the very end of a sound of whole hops is left out, since it covers no sample.
    A sound too short for its reflection (n_fft / 2 samples or fewer) is extended with silence first. Either way any
    length from one sample up has a mel.

    `normalisation` of a mel magnitude m: `natural-log` is `ln(max(m, floor))`; `decibel-unit` is
    `clip((20 log10(max(m, floor)) - 20 + 100) / 100, 0, 1)`, so 0 is -80 dB and 1 is +20 dB.
    """

    medium: ClassVar[str] = "audio"
    cached: ClassVar[bool] = True
    vocoded: ClassVar[bool] = True

    rate: int = Field(gt=0, le=768_000)  # Hz
    n_fft: int = Field(gt=0, le=65_536)  # samples; also the length of the Hann window
    hop: int = Field(gt=0)  # samples
    mels: int = Field(gt=0, le=512)
    fmin: float = Field(default=0.0, ge=0)  # Hz
    fmax: float = Field(gt=0)  # Hz
    scale: Literal["slaney"] = "slaney"
    normalisation: Literal["natural-log", "decibel-unit"] = "natural-log"
    floor: float = Field(default=1e-5, gt=0)  # magnitudes below this are silence
    framing: Literal["middle", "centred"] = "middle"

    @model_validator(mode="after")
    def _consistent(self) -> MelSpec:
        if self.fmax > self.rate / 2:
            raise ValueError(f"fmax {self.fmax:g} Hz is above half the rate ({self.rate / 2:g} Hz)")
        if self.fmin >= self.fmax:
            raise ValueError(f"fmin {self.fmin:g} Hz is not below fmax {self.fmax:g} Hz")
        if self.hop > self.n_fft:
            raise ValueError(f"hop {self.hop} is longer than the window ({self.n_fft}), so samples would be lost")
        if self.framing == "centred" and self.hop > self.n_fft // 2:
            raise ValueError(
                f"hop {self.hop} is longer than half the window ({self.n_fft}), so the last samples would be lost"
            )
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Of a mel; -1: its frames."""
        return self.mels, -1

    @property
    def silence(self) -> float:
        """What a mel holds where there is no sound: `ln(floor)`, or 0 for `decibel-unit` with its usual floor."""
        if self.normalisation == "natural-log":
            return math.log(self.floor)
        return min(max(math.log(self.floor) / NEPERS + FULL, 0.0), 1.0)

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"mels at {self.rate} Hz, {self.mels} of them, {self.rate / self.hop:g} frames a second"

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
    # SpecVQGAN's (Iashin and Rahtu, 2021, arXiv 2110.08791), for its weights and its mels; see `media/specvqgan.py`.
    "specvqgan-22k": MelSpec(
        rate=22_050, n_fft=1024, hop=256, mels=80, fmin=125, fmax=7_600, normalisation="decibel-unit", framing="centred"
    ),
}


def mel_spec(value: Any) -> Any:
    """The preset of this name, for configs that name one; anything else as it is. Raises ValueError for no preset."""
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f'there is no mel "{value}"; {nearest(value, PRESETS)}')
    return PRESETS[value]


NamedMel = Annotated[MelSpec, BeforeValidator(mel_spec)]  # in a config: a mel, or the name of a preset


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
    """`waveform` extended so that its STFT without centring has exactly ceil(samples / hop) frames (see `MelSpec`)."""
    from torch.nn.functional import pad

    samples = waveform.shape[-1]
    needed = spec.n_fft + (spec.frames(samples) - 1) * spec.hop
    if spec.framing == "centred":
        half = spec.n_fft // 2
        long_enough = pad(waveform, (0, max(0, half + 1 - samples)))
        rows = long_enough.reshape(-1, 1, long_enough.shape[-1])  # torch reflects rows of channels only
        return pad(rows, (half, half), mode="reflect").reshape(*waveform.shape[:-1], -1)[..., :needed]
    left = (spec.n_fft - spec.hop) // 2
    return pad(waveform, (left, needed - samples - left))


def log_mel(waveform: Float[Tensor, "batch 1 samples"], spec: MelSpec) -> Float[Tensor, "batch mels frames"]:
    """Waveform at `spec.rate` -> mel, `filterbank @ |STFT|` on the scale of `spec.normalisation`."""
    import torch

    window = torch.hann_window(spec.n_fft, dtype=waveform.dtype, device=waveform.device)
    stft = torch.stft(
        framed(waveform[:, 0], spec), spec.n_fft, spec.hop, window=window, center=False, return_complex=True
    )
    filters = torch.from_numpy(filterbank(spec)).to(waveform)
    with torch.autocast(waveform.device.type, enabled=False):  # a mel is no place to save digits
        return from_magnitude(filters @ stft.abs(), spec)


def from_magnitude(magnitude: Float[Tensor, "*shape"], spec: MelSpec) -> Float[Tensor, "*shape"]:
    """Linear mel magnitudes on the scale of `spec`; what lies below its floor, or above +20 dB, is cut off."""
    logarithm = magnitude.clamp_min(spec.floor).log()
    return logarithm if spec.normalisation == "natural-log" else from_log(logarithm, spec)


def to_magnitude(mel: Float[Tensor, "*shape"], spec: MelSpec) -> Float[Tensor, "*shape"]:
    """The linear magnitudes behind a mel on the scale of `spec`; what was cut off stays so."""
    return to_log(mel, spec).exp()


def from_log(logarithm: Float[Tensor, "*shape"], spec: MelSpec) -> Float[Tensor, "*shape"]:
    """Natural logarithms of magnitudes on the scale of `spec`, none below its silence."""
    if spec.normalisation == "natural-log":
        return logarithm.clamp_min(spec.silence)
    return (logarithm / NEPERS + FULL).clamp(spec.silence, 1.0)


def to_log(mel: Float[Tensor, "*shape"], spec: MelSpec) -> Float[Tensor, "*shape"]:
    """Natural logarithms of the magnitudes behind a mel, for whatever counts in nepers; of `natural-log`, the mel."""
    return mel if spec.normalisation == "natural-log" else (mel - FULL) * NEPERS
