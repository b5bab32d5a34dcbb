"""Sounds under an evaluation: how they are read, and what is lost between two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cymatic.data.cache import Cache
from cymatic.data.facts import facts_of, say_trouble
from cymatic.data.folder import Item
from cymatic.data.packs import Sources
from cymatic.data.settings import Long, Pack
from cymatic.errors import Error
from cymatic.evaluation.corpus import Corpus, OnClip, read_corpus, silently
from cymatic.evaluation.domain import Domain, Losses
from cymatic.evaluation.intervals import bootstrap
from cymatic.evaluation.outlines import mel_statistics, sound_outline
from cymatic.evaluation.reconstruction import MISSING_STOI, has_stoi, log_spectral_distance, mel_l1, stoi
from cymatic.media.audio import AUDIO, levelled, mel_of
from cymatic.media.sound import Sound
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.signal.mel import MelSpec

LONGEST = 10.0  # seconds, where nobody says otherwise
SHORTEST = 0.05  # seconds: shorter sounds have no spectrum to compare

# rate -> a small front-end: windows of 32 to 43 ms, hops of 16 to 25 ms.
FRONT_ENDS = {
    8_000: MelSpec(rate=8_000, n_fft=256, hop=128, mels=40, fmax=4_000, floor=3e-4),
    16_000: MelSpec(rate=16_000, n_fft=512, hop=320, mels=56, fmax=8_000, floor=3e-4),
    24_000: MelSpec(rate=24_000, n_fft=1024, hop=600, mels=64, fmax=12_000, floor=3e-4),
}


def classifier_rate(usual: int, most: int) -> int:
    """The rate in Hz of a classifier for recordings at `usual` and models at `most`."""
    return max((rate for rate in FRONT_ENDS if rate <= min(usual, most)), default=min(FRONT_ENDS))


def read_sounds(
    sources: Sources,
    rate: int,
    *,
    longest: float = LONGEST,
    long: Long = "skip",
    seed: int = 0,
    on_clip: OnClip = silently,
) -> Corpus:
    """`read_corpus` of sounds, as mono at `rate` Hz.

    A recording longer than `longest` seconds (or than its pack says) is left out, or gives its first window where long
    ones are cut; silence is left out.
    """
    cache = Cache()

    def read(item: Item, pack: Pack) -> Sound | str:
        most, beyond = pack.longest or longest, pack.long or long
        path = item.path(AUDIO.name)
        facts, sound = facts_of(item, cache, keep=most, role=AUDIO.name, medium=AUDIO)
        length = facts.length or 0.0
        if facts.empty:
            return f"{path} is silent"
        if length > most and beyond == "skip":
            return f"{path} is {length:.1f} s long, more than {most:g} s"
        if length > most and AUDIO.windows is not None:
            sound = AUDIO.windows.read(path, AUDIO.windows.find(facts, most))[0]
        return (sound or Sound.read(path)).mono().resample(rate)

    corpus = read_corpus(sources, read, seed=seed, on_clip=on_clip)
    say_trouble(cache)
    return corpus


def sounds_by(spec: MelSpec) -> Domain:
    """Sounds, compared by mels of `spec`."""

    def features(sound: Sound) -> Sequence[np.ndarray]:
        return [sound_outline(sound, spec), mel_statistics(mel_of(levelled(sound, spec), spec))]

    return Domain(
        "mel",
        lambda sound: sound_outline(sound, spec),
        features=features,
        losses=lambda originals, again: sound_losses(originals, again, spec),
        missing={} if has_stoi() else {"stoi": MISSING_STOI},
    )


def check_rate(rate: int, name: str, model: Any) -> None:
    """Raises Error for a classifier called `name` at a higher rate than the model has."""
    if rate > model.rate:
        raise Error(
            f"the classifier {name} reads sounds of {rate} Hz and {model.name} makes sounds of {model.rate} Hz, which "
            f"it never learned from; give a classifier of at most {model.rate} Hz, or none"
        )


def sound_losses(originals: Sequence[Sound], again: Sequence[Sound], spec: MelSpec) -> Losses:
    """Mel L1, log-spectral distance, multi-scale mel distance, and where pystoi is there STOI: the means over clips.

    The originals are brought to the loudness and rate that the model works at first, and both sides to one length.
    """
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
        "mel_l1": lambda a, b: mel_l1(_mel(a, spec), _mel(b, spec)),
        "log_spectral_distance": lambda a, b: log_spectral_distance(a, b, spec.rate),
        "multi_scale_mel_distance": lambda a, b: float(multi_scale_mel_distance(_wave(a), _wave(b), spec.rate)),
    }
    if has_stoi():
        measures["stoi"] = lambda a, b: stoi(a, b, spec.rate)
    found: dict[str, list[float]] = {name: [] for name in measures}
    for original, other in zip(originals, again, strict=True):
        a, b = levelled(original, spec).samples[0], other.mono().resample(spec.rate).samples[0]
        length = min(len(a), len(b))
        if length < SHORTEST * spec.rate:
            continue
        for name, measure in measures.items():
            value = measure(a[:length], b[:length])
            if value is not None:
                found[name].append(value)
    return {name: bootstrap(np.mean, np.array(values)) for name, values in found.items() if values}


def _wave(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))[None, None]


def _mel(samples: np.ndarray, spec: MelSpec) -> np.ndarray:
    mel: np.ndarray = mel_of(Sound(samples, spec.rate), spec).numpy()
    return mel
