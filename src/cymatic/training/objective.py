"""The distances that a reconstruction is compared by, by the names that recipes use.

Each is a function of what went through a part (`wanted`, `made`) and of the part; which of them a stage uses, and how
much, stands in its `objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from cymatic.signal.channel_average import LUMENS, channel_average_distance
from cymatic.signal.distances import loudness_distance, multi_scale_mel_distance, phase_distance
from cymatic.signal.mel import log_mel, to_log
from cymatic.signal.scattering import scattering_distance

Wave = Float[Tensor, "batch 1 samples"]


def absolute(made: Shaped[Tensor, "*shape"], wanted: Shaped[Tensor, "*shape"], spec: Any) -> Float[Tensor, ""]:
    """`mean |wanted - made|`, in the units that the part gives."""
    return (wanted - made).abs().mean()


def squared(made: Shaped[Tensor, "*shape"], wanted: Shaped[Tensor, "*shape"], spec: Any) -> Float[Tensor, ""]:
    """`mean (wanted - made)^2`."""
    return (wanted - made).square().mean()


def log_mel_distance(made: Wave, wanted: Wave, spec: Any) -> Float[Tensor, ""]:
    """Mean absolute difference of the log mels of `spec.mel`, the mel that a vocoder reads."""
    mel = spec.mel
    return (to_log(log_mel(made, mel), mel) - to_log(log_mel(wanted, mel), mel)).abs().mean()


DISTANCES: Mapping[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "l1": absolute,
    "l2": squared,
    "log_mel": log_mel_distance,
    "mel": lambda made, wanted, spec: multi_scale_mel_distance(made, wanted, spec.gives.rate),
    "loud": lambda made, wanted, spec: loudness_distance(wanted, made),
    "phase": lambda made, wanted, spec: phase_distance(wanted, made, spec.gives.rate),
    "perceptual": lambda made, wanted, spec: scattering_distance(made, wanted),
}
OF_WAVEFORMS = ("mel", "log_mel", "loud", "phase", "stages")
OF_PICTURES = ("perceptual",)


def stages_distance(outputs: Sequence[Tensor], wanted: Float[Tensor, "batch channels samples"]) -> Float[Tensor, ""]:
    """The mean channel of each decoder stage against the sound (see `signal.channel_average`), coarse first."""
    return channel_average_distance(outputs, wanted.mean(1, keepdim=True), LUMENS[: len(outputs)])
