"""Speech a little changed each time that it is heard, since most languages here have one voice.

What an encoder reads is changed as it reads it: mels as mels (`mel_moves`), waveforms as waveforms (`wave_moves`). An
item's changes are a function of the seed, the item and the epoch alone, so they are the same in any batch. Each kind of
change draws its own numbers, so one that is turned on or off leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cymatic.data import mel_moves, wave_moves
from cymatic.data.audio_moves import speaks_of_pitch
from cymatic.data.reading import Example
from cymatic.data.settings import Augmentation
from cymatic.errors import Error
from cymatic.media.wave_spec import WaveSpec
from cymatic.seeds import mixed
from cymatic.signal.mel import MelSpec, from_log, to_log
from cymatic.signal.spec import Spec

TARGET = ""  # in the place of a role: the target of an example
TRACT, SPEED, ROOM, OVERLAY, NOISE = range(5)  # what draws numbers of its own
DIRECT = (0.0, 15.0)  # dB by which what comes straight is louder than a room's reverberation
SHORTEST_ROOM = 0.1  # of the longest reverberation


class SpeechAugmenter:
    """Changes the sounds of examples as `settings` say, in the roles of `specs`; TARGET is the target's."""

    def __init__(
        self, settings: Augmentation, specs: Mapping[str, Spec], examples: Sequence[Example], seed: int
    ) -> None:
        self.settings, self.examples, self.seed = settings, examples, seed
        self.specs = {role: spec for role, spec in specs.items() if isinstance(spec, MelSpec | WaveSpec)}

    def __call__(self, one: Example, item: int, epoch: int) -> Example:
        """The example as it is met in `epoch`; `item`: its place among all."""
        moving = not speaks_of_pitch(one.caption)
        given = dict(one.given)
        for number, (role, spec) in enumerate(sorted(self.specs.items())):
            value = one.target if role == TARGET else given.get(role)
            if value is None:
                continue
            draws = _Draws(self.seed, item, epoch, number)
            if isinstance(spec, MelSpec):
                changed = self._mel(value, spec, role, item, moving, draws)
            else:
                changed = self._wave(value, spec, role, item, moving, draws)
            if role == TARGET:
                one = replace(one, target=changed)
            else:
                given[role] = changed
        return replace(one, given=given)

    def _mel(self, value: Tensor, spec: MelSpec, role: str, item: int, moving: bool, draws: _Draws) -> Tensor:
        settings = self.settings
        mel = before = to_log(value, spec)
        if settings.tract and moving:
            mel = mel_moves.with_tract(mel, spec, draws.around(TRACT, settings.tract))
        if settings.speed and moving:
            mel = mel_moves.at_speed(mel, spec, draws.around(SPEED, settings.speed))
        if settings.room:
            mel = mel_moves.in_room(mel, spec, *draws.room(settings.room))
        if draws.chosen(OVERLAY, settings.overlay) and (other := self._other(role, item, draws)) is not None:
            other = draws.gone_round(to_log(other, spec), mel.shape[1])
            mel = mel_moves.added(mel, other, spec, draws.between(OVERLAY, settings.snr))
        if draws.chosen(NOISE, settings.noise):
            snr, slope = draws.between(NOISE, settings.snr), draws.between(NOISE, (0.0, 1.0))
            mel = mel_moves.added(mel, mel_moves.noise(mel.shape[1], spec, slope, draws[NOISE]), spec, snr)
        return value if mel is before else from_log(mel, spec)

    def _wave(self, value: Tensor, spec: WaveSpec, role: str, item: int, moving: bool, draws: _Draws) -> Tensor:
        settings = self.settings
        wave = before = value.float()
        if settings.tract and moving:
            wave = wave_moves.with_tract(wave, spec.rate, draws.around(TRACT, settings.tract))
        if settings.speed and moving:
            wave = wave_moves.at_speed(wave, spec.rate, draws.around(SPEED, settings.speed))
        if settings.room:
            wave = wave_moves.in_room(wave, spec.rate, *draws.room(settings.room), draws[ROOM])
        if draws.chosen(OVERLAY, settings.overlay) and (other := self._other(role, item, draws)) is not None:
            other = draws.gone_round(other.float(), wave.shape[1])
            wave = wave_moves.added(wave, other, draws.between(OVERLAY, settings.snr))
        if draws.chosen(NOISE, settings.noise):
            snr, slope = draws.between(NOISE, settings.snr), draws.between(NOISE, (0.0, 1.0))
            wave = wave_moves.added(wave, wave_moves.noise(wave.shape[1], spec.rate, slope, draws[NOISE]), snr)
        if wave is before:
            return value
        most = max(1.0, float(before.abs().max()) if before.numel() else 1.0)
        loud = float(wave.abs().max()) if wave.numel() else 0.0
        return (wave * min(1.0, most / max(loud, 1e-9))).to(value.dtype)

    def _other(self, role: str, item: int, draws: _Draws) -> Tensor | None:
        """The sound of another item; None where it has none, or there is no other."""
        if len(self.examples) < 2:
            return None
        other = self.examples[(item + draws.whole(OVERLAY, 1, len(self.examples))) % len(self.examples)]
        found = other.target if role == TARGET else other.given.get(role)
        return found if found is not None and found.shape[-1] else None


class _Draws:
    """The numbers of one item in one epoch, each kind of change with a generator of its own."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.made: dict[int, torch.Generator] = {}

    def __getitem__(self, kind: int) -> torch.Generator:
        if kind not in self.made:
            self.made[kind] = torch.Generator().manual_seed(mixed(*self.numbers, kind))
        return self.made[kind]

    def between(self, kind: int, ends: tuple[float, float]) -> float:
        return ends[0] + (ends[1] - ends[0]) * float(torch.rand((), generator=self[kind]))

    def around(self, kind: int, share: float) -> float:
        """A factor within `1 - share` and `1 + share`."""
        return self.between(kind, (1 - share, 1 + share))

    def chosen(self, kind: int, share: float) -> bool:
        return bool(share) and self.between(kind, (0.0, 1.0)) < share

    def whole(self, kind: int, low: int, high: int) -> int:
        """From `low` up to `high`, that not included."""
        return int(torch.randint(low, high, (), generator=self[kind]))

    def room(self, longest: float) -> tuple[float, float]:
        """The seconds of a room's reverberation, and how much louder the direct sound is."""
        return self.between(ROOM, (SHORTEST_ROOM * longest, longest)), self.between(ROOM, DIRECT)

    def gone_round(self, sound: Tensor, steps: int) -> Tensor:
        """So many steps of a sound, from anywhere on; where it ends, it begins again."""
        start = self.whole(OVERLAY, 0, sound.shape[-1])
        return sound[..., (start + torch.arange(steps)) % sound.shape[-1]]


def speech_augmenter(
    settings: Augmentation, specs: Mapping[str, Spec], examples: Sequence[Example], seed: int
) -> SpeechAugmenter | None:
    """What changes the sounds in the roles of `specs`; None where nothing is to be changed.

    Raises Error where speech is to be changed and none of the roles is a sound's.
    """
    if not settings.changes_speech:
        return None
    made = SpeechAugmenter(settings, specs, examples, seed)
    if not made.specs:
        raise Error(
            "data.augment changes speech by tract, speed, room, noise and overlay, and nothing here reads sounds that "
            "it could change; leave these out"
        )
    return made
