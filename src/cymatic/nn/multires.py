"""One short filter at many resolutions: a convolution with a long memory and few weights.

Shi, Wang and Fox, 2023, "Sequence Modeling with Multiresolution Convolutional Memory", arXiv 2305.01638: like a wavelet
transform without decimation. A low-pass `h0` and a high-pass `h1` of each channel's own take the signal apart again and
again, with taps twice as far apart each time, and what each resolution held is weighed and added up.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu

from cymatic.nn.causal_conv import CausalConv
from cymatic.nn.streaming import StreamingState, extend_left


class MultiresConv(nn.Module):
    """`gelu(sum_j w_j high_j + v low_J + u x)`, where `low_0 = x`, `low_j = h0 * low_{j-1}`, `high_j = h1 * low_{j-1}`.

    The taps of resolution j are 2^(j-1) apart, so an output hears `(kernel - 1) (2^depth - 1)` samples before its own,
    and none after. `weights`: v, w_J to w_1, u.
    """

    def __init__(self, channels: int, kernel: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.behind = (kernel - 1) * (2**depth - 1)
        self.h0 = nn.Parameter(torch.empty(channels, 1, kernel))
        self.h1 = nn.Parameter(torch.empty(channels, 1, kernel))
        self.weights = nn.Parameter(torch.empty(channels, depth + 2))
        for filters in (self.h0, self.h1):
            nn.init.uniform_(filters, -(2**0.5) / (2 * kernel), 2**0.5 / (2 * kernel))
        bound = math.sqrt(2 / (2 * depth + 4))
        nn.init.uniform_(self.weights, -bound, bound)

    def forward(
        self, x: Float[Tensor, "batch channels n"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch channels n"]:
        channels, n = x.shape[1:]
        y = x * self.weights[:, -1:]
        # The past of every resolution follows from that of x, so one memory is enough. Each resolution uses some of it.
        low = extend_left(state, self, x, self.behind)
        both = torch.cat([self.h0, self.h1], dim=1).flatten(0, 1)[:, None]  # those of a channel side by side
        for j in range(self.depth):
            apart = conv1d(low, both, dilation=1 << j, groups=channels).unflatten(1, (channels, 2))
            low, high = apart.unbind(2)
            y = torch.addcmul(y, high[..., -n:], self.weights[:, self.depth - j, None])
        return gelu(torch.addcmul(y, low, self.weights[:, :1]))


class MultiresUp(nn.Module):
    """`[batch, inside, n]` -> `[batch, outside, n * stride]`: each column of `gelu(mix(multires(x)))` `stride` times.

    The steps between columns are left to what follows.
    """

    def __init__(self, inside: int, outside: int, kernel: int, depth: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.multires = MultiresConv(inside, kernel, depth)
        self.mix = CausalConv(inside, outside, 1)

    def forward(
        self, x: Float[Tensor, "batch inside n"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch outside m"]:
        # Repeated columns mix alike, so they are repeated last.
        return gelu(self.mix(self.multires(x, state))).repeat_interleave(self.stride, dim=2)
