"""Lumen's judges of waveforms (audio_generation, 2023) as its weights have them; for looking only.

What cymatic trains against is in `adversarial/`: no spectral norm, whose buffers change with every look, no sigmoid,
under which a hinge's margins are out of reach, and windows for spectrograms.

A state_dict says all sizes but strides and the window. A block of the spectrogram's has kernels two longer than its
strides, and the last kernel says how long the window is at least. Of the waveform's layers those with groups have a
stride of 4 where nothing else is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, conv1d, conv2d, leaky_relu

from cymatic.discriminators.output import DiscriminatorOutput
from cymatic.errors import ModelError

SLOPE = 0.2
STRIDE = 4
WAVEFORM = re.compile(r"layers\.(\d+)(?:\.0)?")
SPECTROGRAM = re.compile(r"first_conv|final_conv|blocks\.\d+\.layers\.[02]")


class LumenWaveformDiscriminator(nn.Module):
    """Convolutions without padding over means of `2 * scale` samples, `scale` apart; a sigmoid ends them."""

    def __init__(self, tensors: Mapping[str, Tensor], scale: int, strides: Sequence[int] | None = None) -> None:
        """`strides` of the layers, by default 4 where there are groups. Raises ModelError for tensors of anything else,
        and for strides that are too few or too many."""
        super().__init__()
        layers = _layers(tensors, WAVEFORM, 3)
        names = sorted(layers, key=lambda name: int(name.split(".")[1]))
        self.scale, self.count, self.strides = scale, len(names), strides
        if strides is not None and len(strides) != len(names):
            raise ModelError(f"{len(strides)} strides were given for {len(names)} layers; give one for each")
        for i, name in enumerate(names):
            self.register_buffer(f"weight_{i}", layers[name][0])
            self.register_buffer(f"bias_{i}", layers[name][1])

    def forward(self, waveform: Float[Tensor, "batch channels samples"]) -> DiscriminatorOutput:
        """Probabilities, and as features what is heard, what lies on the way, and the scores before the sigmoid."""
        x = avg_pool1d(waveform, 2 * self.scale, self.scale, padding=self.scale)
        features = [x]
        for i in range(self.count):
            weight, bias = self.get_buffer(f"weight_{i}"), self.get_buffer(f"bias_{i}")
            groups = x.shape[1] // weight.shape[1]
            stride = (STRIDE if groups > 1 else 1) if self.strides is None else self.strides[i]
            x = conv1d(x, weight, bias, stride, groups=groups)
            if i + 1 < self.count:
                x = leaky_relu(x, SLOPE)
            features.append(x)
        return x.sigmoid(), features


class LumenSpectrogramDiscriminator(nn.Module):
    """Convolutions over time and frequency of a two-sided STFT of bare frames, rectified inside of blocks only.

    A sigmoid ends them.
    """

    def __init__(self, tensors: Mapping[str, Tensor], window: int | None = None) -> None:
        """`window` in samples, by default the shortest that its last kernel can be of. Raises ModelError for tensors of
        anything else."""
        super().__init__()
        layers = _layers(tensors, SPECTROGRAM, 4)
        self.blocks = sum(name.startswith("blocks") for name in layers) // 2
        names = ["first_conv", *(f"blocks.{i}.layers.{j}" for i in range(self.blocks) for j in (0, 2)), "final_conv"]
        if missing := [name for name in names if name not in layers]:
            raise ModelError(f"these layers of Lumen's judge of spectrograms are missing: {', '.join(missing)}")
        for i, name in enumerate(names):
            self.register_buffer(f"weight_{i}", layers[name][0])
            self.register_buffer(f"bias_{i}", layers[name][1])
        self.window = window or layers["final_conv"][0].shape[-1] << (self.blocks + 1)

    def _layer(self, x: Tensor, i: int, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        return conv2d(x, self.get_buffer(f"weight_{i}"), self.get_buffer(f"bias_{i}"), stride, padding)

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> DiscriminatorOutput:
        """Probabilities, and the features of the first layer and of each block."""
        bare = torch.ones(self.window, device=waveform.device)
        found = torch.stft(
            waveform[:, 0], self.window, window=bare, normalized=True, onesided=False, return_complex=True
        )
        x = self._layer(torch.view_as_real(found).permute(0, 3, 2, 1), 0, (1, 1), (3, 3))
        features = [x]
        for i in range(1, 2 * self.blocks, 2):
            x = leaky_relu(self._layer(x, i, (1, 1), (1, 1)), SLOPE)
            high, wide = self.get_buffer(f"weight_{i + 1}").shape[2:]
            x = self._layer(x, i + 1, (high - 2, wide - 2), ((high - 1) // 2, (wide - 1) // 2))
            features.append(x)
        last = 2 * self.blocks + 1
        wide = self.get_buffer(f"weight_{last}").shape[3]
        return self._layer(x, last, (1, 1), (0, (wide - 1) // 2)).sigmoid(), features


def _layers(tensors: Mapping[str, Tensor], known: re.Pattern[str], rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias of each layer, divided by its spectral norm `u W v` (Miyato et al., 2018, arXiv 1802.05957)."""
    found = {}
    for name in {name.rpartition(".")[0] for name in tensors}:
        parts = [tensors.get(f"{name}.{part}") for part in ("weight_orig", "weight_u", "weight_v", "bias")]
        if not known.fullmatch(name) or any(part is None for part in parts):
            raise ModelError(f'"{name}" is no layer of Lumen\'s judges, which have spectral norm')
        weight, u, v, bias = (part.float() for part in parts if part is not None)
        if weight.ndim != rank or len(u) != len(weight) or v.numel() * len(weight) != weight.numel():
            raise ModelError(f'"{name}" has the wrong shape for a layer of Lumen\'s judges: {list(weight.shape)}')
        found[name] = weight / torch.dot(u, weight.flatten(1) @ v), bias
    if not found:
        raise ModelError("there are no tensors of a judge")
    return found
