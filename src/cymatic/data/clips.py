"""Items -> clips: each recording read once, levelled and analysed, or fetched from the cache."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.data.cache import Cache
from cymatic.data.contents import sha256_of
from cymatic.data.facts import Facts, Window, listen, read_windows, windows
from cymatic.data.folder import Item
from cymatic.data.layouts import Skipped
from cymatic.data.mels import LOUDNESS, Clip, mel_of, prepare
from cymatic.data.transpose import transposed, transposed_caption
from cymatic.encoders.text import token_ids
from cymatic.errors import Error, Note, PromptError, SoundError
from cymatic.media.sound import Sound
from cymatic.signal.mel import MelSpec

# Part of every key. Raise it when `prepare` or `mel_of` gives other numbers, or facts are measured in another way.
PREPARATION = 1

Long = Literal["skip", "cut"]


@dataclass
class Loaded:
    """Clips in the order of their items, the item of each, what was skipped, and what was used with a doubt."""

    clips: list[Clip] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Loaded) -> None:
        self.clips += other.clips
        self.items += other.items
        self.skipped += other.skipped
        self.problems += other.problems


def load_clips(
    items: Sequence[Item],
    spec: MelSpec,
    *,
    longest: float,
    long: Long = "skip",
    transpose: Sequence[float] = (),
    unheard: Collection[str] = (),
    only_moved: bool = False,
    cache: Cache | None = None,
) -> Loaded:
    """The mels of `items` in `spec`, from the cache where they are there, else read, levelled, analysed and cached.

    Clips longer than `longest` seconds are skipped, since cutting one would teach that its caption ends in the middle;
    with `long="cut"`, right for rain and the like, each gives up to four windows of `longest` seconds. Clips whose
    caption no prompt could be are skipped, too, and so is silence. An item with no content (see `Item`) is not cached.

    `transpose`: semitones by which each whole clip is moved to make further clips, with the caption that it then has
    (see `data.transpose`), unless that caption is one of `unheard`. only_moved: these further clips alone.

    A cache that can't be written stops nothing: see `say_trouble`.
    """
    cache = Cache() if cache is None else cache
    moves = tuple(transpose) if only_moved else (0.0, *transpose)
    loader = _Loader(spec, longest, long, cache, moves, frozenset(unheard))
    result = Loaded()
    with ThreadPoolExecutor() as pool:
        for item, (clips, skipped, problems) in zip(items, pool.map(loader.load, items), strict=True):
            name = str(item.audio)
            result.add(
                Loaded(
                    clips,
                    [item] * len(clips),
                    [Skipped(name, why, broken) for why, broken in skipped],
                    [(name, problem) for problem in problems],
                )
            )
    return result


def say_trouble(cache: Cache) -> None:
    """One Note where the cache could not be written."""
    if cache.trouble is not None:
        warnings.warn(
            f"features are not cached, for {cache.folder} {cache.trouble}; it goes on without, and reads the sounds "
            "again next time (CYMATIC_CACHE names another place)",
            Note,
            stacklevel=2,
        )


def facts_of(item: Item, cache: Cache, *, keep: float = 0.0) -> tuple[Facts, Sound | None]:
    """The facts of a recording; and the sound itself where it had to be read for them and is not longer than `keep`."""
    key = f"facts {PREPARATION} {item.content}"
    known = cache.get(key) if item.content else None
    if known is not None:
        return Facts.from_bytes(known), None
    facts, sound = listen(item.audio, keep)
    _check_unchanged(item)
    if item.content:
        cache.put(key, facts.as_bytes())
    return facts, sound


def _check_unchanged(item: Item) -> None:
    """Raises SoundError where a file is no longer what it was when the folder was listed.

    What was read is then not cached under the content of that time, nor put into that content's split.
    """
    if item.content and sha256_of(item.audio) != item.content:
        raise SoundError(f"{item.audio} changed while it was being read; start again when the folder is at rest")


def usual_rate(items: Sequence[Item], *, looked_at: int = 40, cache: Cache | None = None) -> int:
    """The middle rate in Hz of some sounds from all over `items`; 24 kHz where none can be read."""
    cache = Cache() if cache is None else cache
    rates = []
    for item in items[:: max(1, len(items) // looked_at)]:
        try:
            rates.append(facts_of(item, cache)[0].rate)
        except (Error, OSError):
            continue
    return sorted(rates)[len(rates) // 2] if rates else 24_000


Result = tuple[list[Clip], list[tuple[str, bool]], list[str]]  # clips; why not, and if that is damage; doubts


class _Loader:
    def __init__(
        self,
        spec: MelSpec,
        longest: float,
        long: Long,
        cache: Cache,
        moves: tuple[float, ...],
        unheard: frozenset[str],
    ) -> None:
        self.spec, self.longest, self.long, self.cache = spec, longest, long, cache
        self.moves, self.unheard = moves, unheard
        self.settings = json.dumps([PREPARATION, LOUDNESS, spec.model_dump()], sort_keys=True)
        self.prompts: set[str] = set()  # captions that were found to be prompts

    def load(self, item: Item) -> Result:
        try:
            if item.caption not in self.prompts:
                token_ids(item.caption)
                self.prompts.add(item.caption)
            facts, sound = facts_of(item, self.cache, keep=self.longest)
            if facts.level == float("-inf"):
                return [], [("is silent", False)], []
            if facts.seconds <= self.longest:
                pieces = self._whole(item, sound)
            elif self.long == "cut" and 0.0 in self.moves:
                pieces = [(item.caption, mel) for mel in self._windows(item, windows(facts, self.longest))]
            else:
                why = f"is {facts.seconds:.1f} s long, more than the recipe's {self.longest:g} s"
                return [], [(why, False)], []
            clips = [Clip(caption, mel) for caption, mel in pieces if mel.shape[1]]
            return clips, [] if clips or 0.0 not in self.moves else [("is silent", False)], facts.problems
        except PromptError as error:
            return [], [(f"has a caption that can't be a prompt: {error}", True)], []
        except (Error, OSError) as error:
            return [], [(str(error).removeprefix(f"{item.audio} "), True)], []

    def _whole(self, item: Item, sound: Sound | None) -> list[tuple[str, Float[Tensor, "mels frames"]]]:
        """The clip at each pitch that is wanted, with the caption that it then has."""
        pieces = []
        for semitones in self.moves:
            caption = transposed_caption(item.caption, semitones) if semitones else item.caption
            if caption is None or (semitones and caption in self.unheard):
                continue
            key = self._key(item, f"{semitones:g} semitones" if semitones else None)
            mel = self._cached(key)
            if mel is None:
                if sound is None:
                    sound = Sound.read(item.audio)
                    _check_unchanged(item)
                mel = self._fresh(key, transposed(sound, semitones))
            pieces.append((caption, mel))
        return pieces

    def _windows(self, item: Item, wanted: list[Window]) -> list[Float[Tensor, "mels frames"]]:
        keys = [self._key(item, window) for window in wanted]
        known = [mel for key in keys if (mel := self._cached(key)) is not None]
        if len(known) == len(wanted):
            return known
        sounds = read_windows(item.audio, wanted)
        _check_unchanged(item)
        return [self._fresh(key, sound) for key, sound in zip(keys, sounds, strict=True)]

    def _key(self, item: Item, window: Window | str | None) -> str | None:
        return f"mel {item.content} {window} {self.settings}" if item.content else None

    def _cached(self, key: str | None) -> Float[Tensor, "mels frames"] | None:
        data = self.cache.get(key) if key is not None else None
        if data is None:
            return None
        mel = np.frombuffer(data, "<f2").reshape(self.spec.mels, -1)
        return torch.from_numpy(mel.astype(np.float32))

    def _fresh(self, key: str | None, sound: Sound) -> Float[Tensor, "mels frames"]:
        """The mel of a sound, with no frame where it is silent."""
        prepared = prepare(sound, self.spec)
        # Rounded whether cached or not, so that the first run and the second see the same numbers.
        mel = mel_of(prepared, self.spec).half()
        if not prepared.samples.any():
            mel = mel[:, :0]
        if key is not None:
            self.cache.put(key, mel.numpy().astype("<f2").tobytes())
        return mel.float()
