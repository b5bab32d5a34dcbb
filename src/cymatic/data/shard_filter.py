"""Which sounds of shards a prior learns from, and what one look at all shards tells of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch

from cymatic.data.reading import Example
from cymatic.data.settings import Long
from cymatic.data.shards import CodedSound, Shards
from cymatic.encoders.text import token_ids
from cymatic.errors import ModelError, PromptError

MOST_VALID = 500  # sounds held out that are kept in memory for measuring
MOST_CAPTIONS = 10_000  # that are remembered


@dataclass(frozen=True)
class ShardFilter:
    """Which sounds of shards a prior learns from, and what of them: the codes of the model `sha256`, the first `levels`
    of a frame; of those longer than `longest` frames none, or with `long="cut"` a piece of that length."""

    sha256: str
    levels: int
    longest: int
    long: Long = "skip"

    def check(self, sound: CodedSound) -> None:
        """Raises ModelError for another model's codes, and for fewer levels than are wanted."""
        if sound.header.sha256 != self.sha256:
            raise ModelError(
                f"{sound.source} was encoded by {sound.header.model or 'an unnamed model'} "
                f"({sound.header.sha256[:8]}), and this recipe's codec is another ({self.sha256[:8]}); set start to "
                "the model that encoded the shards"
            )
        if len(sound.codes) < self.levels:
            raise ModelError(
                f"{sound.source} has {len(sound.codes)} levels of codes and {self.levels} are wanted; set levels to "
                f"{len(sound.codes)}, or encode at more kbps"
            )

    def fits(self, sound: CodedSound) -> bool:
        frames = sound.codes.shape[1]
        return frames > 0 and (self.long == "cut" or frames <= self.longest)

    def example(self, sound: CodedSound, at: float = 0.0) -> Example:
        """The codes that are wanted; of a longer sound those from `at` (0 to 1) of where a piece can begin."""
        begin = round(at * max(0, sound.codes.shape[1] - self.longest))
        codes = sound.codes[: self.levels, begin : begin + self.longest]
        return Example(torch.from_numpy(np.ascontiguousarray(codes)), caption=sound.caption)

    def trains_on(self, sound: CodedSound) -> bool:
        """Whether a sound is one to learn from."""
        return sound.split == "train" and self.fits(sound) and _is_prompt(sound.caption, set())


@dataclass
class ShardStatistics:
    """What one look at all shards found: how many sounds to train on, their longest in frames, those held out (as many
    as are measured), captions, how many are too long or have no usable caption, and a fingerprint of it all."""

    count: int = 0
    longest: int = 0
    seconds: float = 0.0
    valid: list[Example] = field(default_factory=list)
    captions: set[str] = field(default_factory=set)
    too_long: int = 0
    not_prompts: int = 0
    fingerprint: str = ""


def shard_statistics(shards: Shards, wanted: ShardFilter) -> ShardStatistics:
    """Reads everything once, so that damage comes to light before the training.

    Raises ModelError as `ShardFilter.check`.
    """
    found, digest = ShardStatistics(), hashlib.sha256()
    for sound in shards:
        wanted.check(sound)
        digest.update(f"{sound.key}\0{sound.caption}\0{sound.split}\0".encode("utf-8", "surrogateescape"))
        digest.update(sound.codes.tobytes())
        if not wanted.fits(sound):
            found.too_long += 1
        elif not _is_prompt(sound.caption, found.captions):
            found.not_prompts += 1
        elif sound.split == "train":
            found.count += 1
            found.seconds += sound.seconds
            found.longest = max(found.longest, min(wanted.longest, sound.codes.shape[1]))
            if len(found.captions) < MOST_CAPTIONS:
                found.captions.add(sound.caption)
        elif sound.split == "valid" and len(found.valid) < MOST_VALID:
            found.valid.append(wanted.example(sound))
    found.fingerprint = digest.hexdigest()
    return found


def _is_prompt(caption: str, known: set[str]) -> bool:
    if caption in known:
        return True
    try:
        token_ids(caption)
    except PromptError:
        return False
    return True
