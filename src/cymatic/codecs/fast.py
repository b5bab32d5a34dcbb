"""The fast family: an STFT in front, ConvNeXt blocks at the frame rate, an inverse STFT behind; all of it causal.

The decoder is Vocos' (Siuzdak, 2023, arXiv 2306.00814) made causal, the encoder its mirror image. Only the transforms
run at the rate of the samples, so it is many times faster than a stack of strided convolutions.

With a pitch (see `codecs/pitch.py`) both halves compute the same pulses: the encoder reads phases relative to theirs,
and the decoder filters them and adds what does not belong to a note.
"""

from __future__ import annotations

import math
from typing import Literal, Self, cast

import torch
from jaxtyping import Complex, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import conv2d

from cymatic.codecs.pitch import Pitch, PitchShape
from cymatic.config import Config
from cymatic.nn.linear import Linear, gelu_linear
from cymatic.nn.streaming import StreamingState, add_overlap, extend_left
from cymatic.signal.stft import overlap_add

KERNEL = 7  # frames that a block looks at
MOST_MAGNITUDE = 100.0  # of a bin, as in `vocoders/vocos.py`
FIRST_LOUDNESS = 0.1  # of the pulses before training
FAINT = 1e-3  # bins of the pulses (of root mean square 1) with a smaller magnitude lie between harmonics


class FastShape(Config):
    """`hop`: samples of a frame; `split`: transforms a frame; `overlap`: how many of their windows cover a sample.

    `encoder` and `decoder`: blocks at the rate of the transforms and at that of the frames, in the order of the signal.
    `pitch`: pitch and loudness of a frame are coded on their own, as three side codes.
    """

    kind: Literal["fast"] = "fast"
    hop: int = Field(default=480, gt=0, le=65_536)
    split: int = Field(default=2, ge=1, le=16)
    overlap: int = Field(default=4, ge=3, le=16)
    width: int = Field(default=256, gt=0, le=4096)
    widening: int = Field(default=2, gt=0, le=8)
    encoder: tuple[int, int] = (1, 2)
    decoder: tuple[int, int] = (2, 3)
    pitch: PitchShape | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hop % self.split or self.hop // self.split * self.overlap % 2:
            raise ValueError(f"a frame of {self.hop} samples can't be split into {self.split} transforms")
        if min(*self.encoder, *self.decoder) < 0:
            raise ValueError("a number of blocks is below 0")
        return self


class CausalMix(nn.Module):
    """A causal ConvNeXt block (Liu et al., 2022, arXiv 2201.03545).

    `x + gain * narrow(gelu(widen(norm(near(x)))))`: a depthwise convolution over this frame and the six before it, then
    each frame mixes its channels.
    """

    def __init__(self, width: int, hidden: int, gain: float) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, KERNEL, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = Linear(width, hidden)
        self.narrow = Linear(hidden, width)
        self.gain = nn.Parameter(torch.full((width,), gain))

    def forward(
        self, x: Float[Tensor, "batch frames width"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch frames width"]:
        extended = extend_left(state, self, x, KERNEL - 1, dim=1)
        # As a picture one pixel high whose channels lie side by side, which needs no transpose in memory.
        near = conv2d(extended.mT[:, :, None], self.near.weight[:, :, None], self.near.bias, groups=x.shape[-1])
        return torch.addcmul(x, self.gain, self.narrow(gelu_linear(self.norm(near[:, :, 0].mT), self.widen)))


class Excitation(nn.Module):
    """Side information -> the spectra of its pulses, in the windows of the transforms."""

    def __init__(self, shape: FastShape, pitch: Pitch) -> None:
        super().__init__()
        self.pitch = pitch
        self.step = shape.hop // shape.split
        self.window = shape.overlap * self.step

    def forward(
        self, side: Float[Tensor, "batch 4 frames"], state: StreamingState | None = None
    ) -> Complex[Tensor, "batch transforms bins"]:
        extended = extend_left(state, self, self.pitch.pulses(side, state), self.window - self.step)
        return _spectra(extended, self.window, self.step)

    def gain(self, side: Float[Tensor, "batch 4 frames"]) -> Float[Tensor, "batch 1 transforms 1"]:
        """Of each transform."""
        return self.pitch.gain(side).repeat_interleave(self.pitch.hop // self.step, 1)[:, None, :, None]


class FastEncoder(nn.Module):
    """Waveform `[batch, channels, frames * hop]` -> latent `[batch, dim, frames]`; with a pitch its side information
    follows as four more rows.

    Each transform covers `overlap` hops up to the frame's own last sample. The network reads the logarithm of each
    bin's magnitude, and its real and imaginary parts divided by the magnitude to the power of 0.7, which compresses
    them as ears do. With a pitch, phases are relative to those of its pulses, so that they hardly change from frame to
    frame, and all frames are scaled to one loudness.
    """

    def __init__(self, shape: FastShape, channels: int, dim: int, excitation: Excitation | None) -> None:
        super().__init__()
        self.shape, self.excitation = shape, excitation
        self.step = shape.hop // shape.split
        self.window = shape.overlap * self.step
        width, (fine, coarse) = shape.width, shape.encoder
        self.read = Linear(3 * channels * (self.window // 2 + 1), width)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        hidden, gain = shape.widening * width, 1 / max(1, fine + coarse)
        self.fine = nn.ModuleList(CausalMix(width, hidden, gain) for _ in range(fine))
        self.join = Linear(shape.split * width, width)
        self.coarse = nn.ModuleList(CausalMix(width, hidden, gain) for _ in range(coarse))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.write = Linear(width, dim)

    def forward(
        self, wave: Float[Tensor, "batch channels samples"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch numbers frames"]:
        extended = extend_left(state, self, wave, self.window - self.step)
        spectra = _spectra(extended, self.window, self.step)  # [batch, channels, transforms, bins]
        side = None
        if self.excitation is not None:
            side = self.excitation.pitch.track(wave, state)
            relative = _relative_to(self.excitation(side, state), self.excitation.gain(side)[:, 0])
            spectra = spectra * relative[:, None]
        loud = _energy(spectra).add_(1e-10).log_()
        parts = torch.view_as_real(spectra * (-0.35 * loud).exp_())
        features = torch.cat([loud / 8, parts.flatten(-2)], -1)
        x = self.first_norm(self.read(features.transpose(1, 2).flatten(2)))
        for block in self.fine:
            x = block(x, state)
        x = self.join(x.unflatten(1, (-1, self.shape.split)).flatten(2))
        for block in self.coarse:
            x = block(x, state)
        z: Tensor = self.write(self.last_norm(x)).mT
        return z if side is None else torch.cat([z, side], 1)


class FastDecoder(nn.Module):
    """Latent `[batch, dim, frames]` -> waveform `[batch, channels, frames * hop]`, late by a window less its hop.

    Each transform's magnitude and phase come from the network, `exp(m) * (cos p + i sin p)`; a sample is done when the
    last window that covers it is there. With a pitch, whose four rows of side information come after the latent, its
    pulses are filtered in the same way, bin by bin, and added, and the sum is scaled to the loudness of the frame.
    """

    def __init__(self, shape: FastShape, channels: int, dim: int, excitation: Excitation | None) -> None:
        super().__init__()
        self.shape, self.channels, self.excitation = shape, channels, excitation
        self.step = shape.hop // shape.split
        self.window = shape.overlap * self.step
        width, (coarse, fine) = shape.width, shape.decoder
        self.read = Linear(dim if excitation is None else dim + Pitch.numbers - 2, width)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        hidden, gain = shape.widening * width, 1 / max(1, fine + coarse)
        self.coarse = nn.ModuleList(CausalMix(width, hidden, gain) for _ in range(coarse))
        self.part = Linear(width, shape.split * width)
        self.fine = nn.ModuleList(CausalMix(width, hidden, gain) for _ in range(fine))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        written = 2 * channels * (self.window // 2 + 1)
        self.write = Linear(width, written)
        self.filter = None if excitation is None else Linear(width, written)

    def forward(
        self, z: Float[Tensor, "batch numbers frames"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch channels samples"]:
        # The network does not see loudness and phase: what it makes is scaled and placed by them afterwards.
        x = self.first_norm(self.read((z if self.excitation is None else z[:, :-2]).mT))
        for block in self.coarse:
            x = block(x, state)
        x = self.part(x).unflatten(2, (self.shape.split, -1)).flatten(1, 2)
        for block in self.fine:
            x = block(x, state)
        x = self.last_norm(x)
        spectrum = self._polar(self.write(x))
        if self.excitation is not None and self.filter is not None:
            side = z[:, -Pitch.numbers :]
            pulses = self.excitation(side, state)[:, None]
            spectrum = torch.addcmul(spectrum, self._polar(self.filter(x)), pulses) * self.excitation.gain(side)
        window = torch.hann_window(self.window, device=z.device)
        # Squared Hann windows, `overlap` of them over each sample, add up to 3/8 of their number everywhere.
        segments = torch.fft.irfft(spectrum.flatten(0, 1), n=self.window) * (window * (8 / 3 / self.shape.overlap))
        wave = overlap_add(segments, self.step).unflatten(0, (-1, self.channels))
        return add_overlap(state, self, wave, self.window - self.step)

    @property
    def last(self) -> nn.Parameter | None:
        """The last weights where all of the output comes through them: not with a pitch, which has a filter beside."""
        return self.write.weight if self.filter is None else None  # type: ignore[return-value]

    def _polar(
        self, written: Float[Tensor, "batch transforms numbers"]
    ) -> Complex[Tensor, "batch channels transforms bins"]:
        magnitude, phase = written.unflatten(2, (self.channels, -1)).transpose(1, 2).chunk(2, dim=-1)
        size = magnitude.exp().clamp(max=MOST_MAGNITUDE)
        return torch.complex(size * phase.cos(), size * phase.sin())  # as `polar`, in less time


class FastNet(nn.Module):
    """Both halves. `delay`: samples by which the decoder's output lags behind the encoder's input.

    `pitch`: what makes the four rows of side information that follow the latent's `dim`, or None.
    """

    streamable = True
    decoder_stages: tuple[nn.Module, ...] = ()  # all of it runs at one rate

    def __init__(self, shape: FastShape, channels: int, dim: int, rate: int) -> None:
        super().__init__()
        self.hop = shape.hop
        self.delay = shape.hop // shape.split * (shape.overlap - 1)
        self.pitch: Pitch | None = None if shape.pitch is None else Pitch(shape.pitch, rate, shape.hop)
        excitations = [None if self.pitch is None else Excitation(shape, self.pitch) for _ in range(2)]
        self.encoder = FastEncoder(shape, channels, dim, excitations[0])
        self.decoder = FastDecoder(shape, channels, dim, excitations[1])
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.trunc_normal_(p, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        if self.decoder.filter is not None:
            # Pulses begin at about the loudness that the networks see.
            bias = self.decoder.filter.bias.view(channels, 2, -1)
            nn.init.constant_(bias[:, 0], math.log(FIRST_LOUDNESS))

    def matrices(self) -> list[nn.Parameter]:
        """The matrices inside the blocks, for Muon."""
        return [
            cast(nn.Parameter, layer.weight)
            for block in self.modules()
            if isinstance(block, CausalMix)
            for layer in (block.widen, block.narrow)
        ]


def _spectra(
    wave: Float[Tensor, "*batch samples"], window: int, step: int
) -> Complex[Tensor, "*batch transforms bins"]:
    return torch.fft.rfft(wave.unfold(-1, window, step) * torch.hann_window(window, device=wave.device))


def _relative_to(
    spectra: Complex[Tensor, "batch transforms bins"], gain: Float[Tensor, "batch transforms 1"]
) -> Complex[Tensor, "batch transforms bins"]:
    """A factor for each bin that subtracts the phase of `spectra` there and divides by the gain; by the gain alone
    where `spectra` are faint."""
    energy = _energy(spectra)
    loud = (energy > FAINT**2).to(energy)
    size = 1 / gain
    shrink = energy.clamp_min_(FAINT**2).rsqrt_().mul_(loud).mul_(size)
    return spectra.conj_physical().mul_(shrink).add_(loud.sub_(1).mul_(-size))


def _energy(spectra: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return spectra.real.square() + spectra.imag.square()
