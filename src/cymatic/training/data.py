"""A recipe's recordings -> clips in memory, as the batchers of today take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cymatic.data import examples
from cymatic.data.audio_moves import speaks_of_pitch
from cymatic.data.examples import Example, Reading, load_examples
from cymatic.data.mels import Clip
from cymatic.data.packs import Sources
from cymatic.data.settings import DataSettings
from cymatic.encoders.text import normalise
from cymatic.files import write_atomically
from cymatic.media.audio import AUDIO
from cymatic.media.features import FEATURES, FeatureSpec
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.mel import MelSpec
from cymatic.training.planning import Facts
from cymatic.training.recipe import FeatureCondition, MelGPTRecipe, Recipe
from cymatic.training.start import Start

DATA = "data.json"


@dataclass(frozen=True)
class Data:
    """Clips to train on (as often as their pack says), clips held out, their mel, where they are from, and the
    fingerprint of it all."""

    train: list[Clip]
    valid: list[Clip]
    spec: MelSpec
    sources: Sources
    fingerprint: str
    whole: examples.Data


@dataclass(frozen=True)
class FeatureClip(Clip):
    features: Float[Tensor, "steps dim"] | None = None


@dataclass(frozen=True)
class Waves:
    """Waveforms to train on, how often each is drawn, those held out, and the fingerprint of it all."""

    train: list[np.ndarray]
    weights: list[float]
    valid: list[np.ndarray]
    fingerprint: str


@runtime_checkable
class Known(Protocol):
    """What any data say of themselves: how much there is to train on and held out, and its fingerprint."""

    @property
    def train(self) -> Sized: ...

    @property
    def valid(self) -> Sized: ...

    @property
    def fingerprint(self) -> str: ...


def load_wave_data(
    settings: DataSettings, rate: int, *, strict: bool = False, say: Callable[[str], None] = print
) -> Waves:
    target = Reading(AUDIO.name, WaveSpec(rate=rate))
    data = load_examples(settings, target, captions=False, strict=strict, say=say)
    train, valid = ([one.target[0].numpy() for one in some] for some in (data.train, data.valid))
    return Waves(train, data.weights, valid, data.fingerprint)


def load_data(recipe: Recipe | MelGPTRecipe, *, strict: bool = False, say: Callable[[str], None] = print) -> Data:
    target = Reading(AUDIO.name, recipe.mel_spec(), auto=recipe.mel == "auto")
    given = []
    if isinstance(recipe, MelGPTRecipe) and isinstance(recipe.condition, FeatureCondition):
        given.append(Reading(FEATURES.name, FeatureSpec(name=recipe.condition.of)))
    data = load_examples(recipe.data, target, given, captions=True, strict=strict, say=say)
    clips = {id(one): _clip(one) for one in (*data.train, *data.valid)}
    assert isinstance(data.spec, MelSpec)
    return Data(
        [clips[id(one)] for one in data.epoch],
        [clips[id(one)] for one in data.valid],
        data.spec,
        data.sources,
        data.fingerprint,
        data,
    )


def _clip(one: Example) -> Clip:
    features = one.given.get(FEATURES.name)
    return Clip(one.caption, one.target) if features is None else FeatureClip(one.caption, one.target, features)


def at_other_pitches(data: Data, recipe: Recipe) -> list[Clip]:
    return [_clip(one) for one in examples.at_other_pitches(data.whole, recipe.data, recipe.data.augment.pitch)]


def facts(data: Data, recipe: Recipe, start: Start | None) -> Facts:
    """What a plan for this recipe rests on; `start`: a starter that fits it."""
    clips = list({id(clip): clip for clip in data.train}.values())  # a pack may repeat its clips
    captions = {normalise(clip.caption) for clip in clips}
    return Facts(
        clips=len(clips),
        captions=len(captions),
        known=len(captions.intersection(map(normalise, start.captions))) if start is not None else 0,
        seconds=sum(data.spec.seconds(clip.mel.shape[1]) for clip in clips),
        held_out=len(data.valid),
        pitched=sum(speaks_of_pitch(clip.caption) for clip in clips),
        start=start.name if start is not None else None,
        ends=recipe.training.steps is not None,
    )


def remember_data(run: Path, data: Known) -> None:
    """Writes down what a run is trained on."""
    values = {"format": 1, "sha256": data.fingerprint, "train": len(data.train), "valid": len(data.valid)}
    write_atomically(run / DATA, json.dumps(values, indent=2).encode())


def changes(run: Path, data: Known) -> str | None:
    """One sentence where a resumed run meets other clips than it began with; None where it doesn't, or can't know."""
    try:
        before = json.loads((run / DATA).read_text(encoding="utf-8"))
        then = f"{before['train']} clips to train on and {before['valid']} held out"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if before.get("sha256") == data.fingerprint:
        return None
    return (
        f"the clips have changed since this run began with {then}; it goes on with the {len(data.train)} and "
        f"{len(data.valid)} that are there now"
    )
