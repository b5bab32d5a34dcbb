"""Clips a little changed at every step, so that few sound like more: each a function of the seed, step and place alone.

All of it is done on log mels in memory but for the pitch, which moves waveforms (see `data.audio_moves`) while they are
read: a mel has too few bands to be moved well.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.data.audio_moves import speaks_of_pitch
from cymatic.data.reading import Example
from cymatic.data.settings import Augmentation
from cymatic.seeds import mixed
from cymatic.signal.mel import MelSpec, from_log, to_log

NEPERS = math.log(10) / 20  # a decibel
WAVES = 4  # cosines across the mels that an equaliser is made of
MOST_CUT = 1 / 8  # of a clip, at either end
MEANS = 0.25  # seconds over which a texture is the same again and again
STEADY, ROUGH = 0.4, 0.2  # nepers: how little such means differ in a texture, and how much its frames do
QUIETER = 6.0  # dB by which one of two sounds overlaid is quieter at most


def is_texture(mel: Float[Tensor, "mels frames"], spec: MelSpec) -> bool:
    """Whether a sound goes on as it is and is noise: such as rain, but not a held note, a bark or a clock.

    The means of each band over quarters of a second then differ little, and neighbouring frames much. Two such sounds
    at once are one.
    """
    frames = max(1, round(MEANS * spec.rate / spec.hop))
    count = mel.shape[1] // frames
    if count < 4:
        return False
    mel = to_log(mel, spec)
    means = mel[:, : count * frames].unflatten(1, (count, frames)).mean(2)
    return bool(means.std(1).mean() < STEADY and mel.diff(dim=1).abs().mean() > ROUGH)


class Augmenter:
    """Changes clips as `settings` say. Which it overlays is decided once, from `clips`."""

    def __init__(self, settings: Augmentation, clips: Sequence[Example], spec: MelSpec, seed: int) -> None:
        self.settings, self.spec, self.seed = settings, spec, seed
        self.silence = float(to_log(torch.tensor(spec.silence), spec))
        self.reach = round(settings.shift * spec.rate / spec.hop)  # frames
        self.textures: dict[str, list[Example]] = defaultdict(list)
        if settings.mix:
            for clip in {id(clip): clip for clip in clips}.values():
                if not speaks_of_pitch(clip.caption) and is_texture(clip.target, spec):
                    self.textures[clip.caption].append(clip)
        self.mixed = {id(clip) for some in self.textures.values() if len(some) > 1 for clip in some}

    def __call__(self, clip: Example, step: int, place: int) -> Example:
        """`clip` as it is met at `place` in the batch of `step`: finite, and at least one frame long."""
        chance = torch.Generator().manual_seed(mixed(self.seed, step, place))
        settings = self.settings
        mel = before = to_log(clip.target, self.spec)
        if id(clip) in self.mixed and torch.rand((), generator=chance) < settings.mix:
            mel = self._overlaid(mel, self.textures[clip.caption], chance)
        if self.reach:
            mel = self._shifted(mel, chance)
        if settings.filter:
            mel = mel + settings.filter * NEPERS * _curve(len(mel), chance)[:, None]
        if settings.gain:
            mel = mel + settings.gain * NEPERS * (2 * torch.rand((), generator=chance) - 1)
        return clip if mel is before else replace(clip, target=from_log(mel, self.spec))

    def _overlaid(
        self, mel: Float[Tensor, "mels frames"], others: Sequence[Example], chance: torch.Generator
    ) -> Float[Tensor, "mels frames"]:
        """The sum of two sounds' powers at one sound's loudness; the other begins anywhere and goes round."""
        other = to_log(others[int(torch.randint(len(others), (), generator=chance))].target, self.spec)
        start = int(torch.randint(other.shape[1], (), generator=chance))
        other = other[:, (start + torch.arange(mel.shape[1])) % other.shape[1]]
        decibels = QUIETER * (2 * torch.rand((), generator=chance) - 1)
        share = torch.sigmoid(2 * NEPERS * decibels)  # of the power
        return torch.logaddexp(2 * mel + share.log(), 2 * other + (1 - share).log()) / 2

    def _shifted(self, mel: Float[Tensor, "mels _"], chance: torch.Generator) -> Float[Tensor, "mels _"]:
        most = min(self.reach, int(MOST_CUT * mel.shape[1]))
        ends = torch.randint(-self.reach, self.reach + 1, (2,), generator=chance).clamp(max=most).tolist()
        cut = [max(0, end) for end in ends]
        mel = mel[:, cut[0] : mel.shape[1] - cut[1]]
        return torch.nn.functional.pad(mel, (max(0, -ends[0]), max(0, -ends[1])), value=self.silence)


def _curve(mels: int, chance: torch.Generator) -> Float[Tensor, " mels"]:
    """A smooth random curve of spread 1: a few cosines, the level among them left out."""
    places = (torch.arange(mels) + 0.5) / mels
    waves = torch.cos(torch.pi * torch.arange(1, WAVES + 1)[:, None] * places)
    return torch.randn(WAVES, generator=chance) @ waves * (2 / WAVES) ** 0.5
