"""Up to a higher rate by wavelets: each number of a frame plays a short wave, and a frame's waves add up.

From audio_generation (Lumen), which names no paper. The wave of channel c is `psi_c(u) = cos(u) exp(-u^2 / scale_c)`, a
Morlet wavelet whose width is learned, on `points` points from -reach to reach.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv_transpose1d, pad

from cymatic.errors import Error
from cymatic.nn.streaming import StreamingState, add_overlap, extend_left

SCALE = 40.0  # of every channel at first
Mode = Literal["overlap-add", "moving-sum"]


class WaveletUp(nn.Module):
    """`[batch, inside, n]` -> `[batch, outside, n * stride]`, by `hidden` channels of waves between two convolutions.

    mode: `overlap-add` starts each wave with its frame, one after the other `stride` samples later, and adds them where
    they overlap; both convolutions are causal, so blocks with a `StreamingState` are the whole. `moving-sum` is what
    the reference does with its weights: the waves of all frames are laid end to end and summed over windows of one
    wave's length, `points / stride` points apart. As a wave has as many points as a window, that is between frame i and
    the next one

        y[i stride + r] = x_i (S - C_r) + x_{i+1} C_r,    C_r = the first r points / stride points of psi, S = all

    and the last `stride - 1` samples, which have no next frame, are the last points of the last wave. Both its
    convolutions look ahead, too, so it is not streamable: it takes whole signals, and no past changes what it gives.

    shared: one scale for all channels. Raises Error where `points` is no multiple of `stride`.
    """

    def __init__(
        self,
        inside: int,
        hidden: int,
        outside: int,
        *,
        stride: int,
        kernel: int,
        points: int,
        reach: float = 10.0,
        mode: Mode = "overlap-add",
        shared: bool = False,
    ) -> None:
        super().__init__()
        if points % stride or kernel % 2 == 0:
            raise Error(f"{points} points and {kernel} taps for a stride of {stride}; give whole strides and odd taps")
        self.stride, self.reach, self.points = stride, reach, points
        self.streamable = mode == "overlap-add"
        self.read = nn.Conv1d(inside, hidden, kernel)
        self.scale = nn.Parameter(torch.full((1,) if shared else (hidden,), SCALE))
        self.write = nn.Conv1d(hidden, outside, 3)

    def waves(self) -> Float[Tensor, "hidden points"]:
        """`psi` of every channel."""
        u = torch.linspace(-self.reach, self.reach, self.points, device=self.scale.device)
        return (u.cos() * torch.exp(-u.square() / self.scale[:, None])).expand(self.read.out_channels, -1)

    def forward(
        self, x: Float[Tensor, "batch inside n"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch outside m"]:
        return self._overlapped(x, state) if self.streamable else self._summed(x)

    def _overlapped(self, x: Tensor, state: StreamingState | None) -> Tensor:
        read, write, waves = self.read, self.write, self.waves()
        x = conv1d(extend_left(state, read, x, read.kernel_size[0] - 1), read.weight, read.bias)
        y = conv_transpose1d(x, waves[:, None], stride=self.stride, groups=len(waves))
        y = add_overlap(state, self, y, self.points - self.stride)
        return conv1d(extend_left(state, write, y, write.kernel_size[0] - 1), write.weight, write.bias)

    def _summed(self, x: Tensor) -> Tensor:
        read, write, waves, last = self.read, self.write, self.waves(), self.stride - 1
        x = conv1d(x, read.weight, read.bias, padding=read.kernel_size[0] // 2)
        steps = waves.unflatten(1, (self.stride, -1)).sum(2).cumsum(1)
        so_far = pad(steps[:, :-1], (1, 0))[:, None]  # hidden, 1, stride
        held = x[..., None] * (steps[:, -1:, None] - so_far)
        following = pad(x[..., 1:], (0, 1))[..., None] * so_far
        y = (held + following).flatten(2)
        if last:
            y = torch.cat([y[..., :-last], x[..., -1:] * waves[:, -last:]], dim=2)
        return conv1d(y, write.weight, write.bias, padding=1)
