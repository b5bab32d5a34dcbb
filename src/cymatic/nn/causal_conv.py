"""Causal convolutions: down to a lower rate, and up to a higher one.

Columns of the lower rate are frames of `stride` samples. A frame depends on nothing later than its own last sample, and
what is made of a frame begins at its own first sample. So down and up again there is no delay, and what was computed of
a signal so far stays right whatever follows. Both take blocks of whole frames with a `StreamingState`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv_transpose1d

from cymatic.errors import Error
from cymatic.nn.streaming import StreamingState, add_overlap, extend_left


class CausalConv(nn.Conv1d):
    """`[batch, inside, n]` -> `[batch, outside, n / stride]`: taps `dilation` apart, all before the frame's end.

    Raises Error where the taps span less than a stride, or `n` is no whole number of strides.
    """

    def __init__(
        self, inside: int, outside: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inside, outside, kernel, stride, dilation=dilation, groups=groups)
        self.behind = dilation * (kernel - 1) + 1 - stride
        if self.behind < 0:
            raise Error(f"{kernel} taps {dilation} apart leave out samples at a stride of {stride}; give more taps")

    def forward(
        self, x: Float[Tensor, "batch inside n"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch outside m"]:
        if x.shape[-1] % self.stride[0]:
            raise Error(f"{x.shape[-1]} samples are no whole number of strides of {self.stride[0]}; fill them up first")
        x = extend_left(state, self, x, self.behind)
        return conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class CausalConvTranspose(nn.ConvTranspose1d):
    """`[batch, inside, n]` -> `[batch, outside, n * stride]`; each frame rings for `kernel` samples from its first on.

    Raises Error where that is less than a stride.
    """

    def __init__(self, inside: int, outside: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inside, outside, kernel, stride, groups=groups)
        if kernel < stride:
            raise Error(f"{kernel} taps leave gaps at a stride of {stride}; give more taps")
        self.rings = kernel - stride

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch inside n"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch outside m"]:
        # The bias comes last: where two blocks overlap it would count twice.
        y = conv_transpose1d(x, self.weight, None, self.stride, 0, 0, self.groups)
        y = add_overlap(state, self, y, self.rings)
        return y if self.bias is None else y + self.bias[:, None]
