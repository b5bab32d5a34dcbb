"""What every pipeline does last: mels to sounds that say how they were made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cymatic.errors import Error, ModelError
from cymatic.media import audio
from cymatic.media.sound import Sound
from cymatic.version import __version__

AT_ONCE = 16  # sounds sampled side by side: more would cost memory and save no time
SHORTEST = 0.05  # seconds that may be asked for


def voiced(
    vocoder: nn.Module, mels: Float[Tensor, "batch mels frames"], frames: Sequence[int], rate: int, name: str
) -> list[Sound]:
    """The sounds of `mels`, each of its own length. Raises ModelError where the model `name` makes no finite sound."""
    # One by one: beside longer sounds, a vocoder would hear the silence that fills up the shorter ones.
    with torch.inference_mode():
        waveforms = [vocoder(mels[i : i + 1, :, :n]).cpu() for i, n in enumerate(frames)]
    if not all(waveform.isfinite().all() for waveform in waveforms):
        raise ModelError(f"{name} made NaN or infinity instead of sound; lower the guidance or mend the model")
    return [Sound(waveform[0].numpy(), rate) for waveform in waveforms]


def finished(sounds: Sequence[Sound], seed: int, info: Mapping[str, Any]) -> list[Sound]:
    """`sounds` without clicks and clipping, each with `info` and its own seed."""
    return [audio.finished(sound, {**info, "seed": seed + i, "cymatic": __version__}) for i, sound in enumerate(sounds)]


def check_seconds(seconds: float, longest: float) -> None:
    """Raises Error for a length that a model can't make."""
    if not (math.isfinite(seconds) and SHORTEST <= seconds <= longest):
        raise Error(
            f"{seconds:g} seconds were asked for and this model makes {SHORTEST} to {longest:.2f}; "
            "give a length in that range"
        )


def check_count(seed: int, n: int) -> None:
    """Raises Error for a number of sounds or a seed out of range."""
    if n < 1 or n > 10_000:
        raise Error(f"{n} sounds were asked for; give a number from 1 to 10000")
    if seed < 0 or seed + n > 2**63:
        raise Error(f"the seed is {seed}; give a whole number from 0 to 2^63 - n")


def check_settings(
    *,
    guidance: float = 1.0,
    steps: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> None:
    """Raises Error for settings of sampling that are outside of what any model can do."""
    if not (math.isfinite(guidance) and 0 <= guidance <= 100):
        raise Error(f"the guidance is {guidance:g}; give a number from 0 to 100 (1 follows the prompt as learned)")
    if not 1 <= steps <= 1000:
        raise Error(f"{steps} sampling steps were asked for; give a number from 1 to 1000")
    if not (math.isfinite(temperature) and 0 < temperature <= 100):
        raise Error(f"the temperature is {temperature:g}; give a number above 0, up to 100 (1 draws as learned)")
    if top_k is not None and top_k < 1:
        raise Error(f"top-k is {top_k}; give a whole number from 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise Error(f"top-p is {top_p:g}; give a number above 0, up to 1")
