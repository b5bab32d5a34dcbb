"""Items -> examples: each file read once and prepared as its spec says, or fetched from the cache."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cymatic.data.audio_moves import transposed, transposed_caption
from cymatic.data.cache import Cache
from cymatic.data.facts import check_unchanged, facts_of
from cymatic.data.folder import Item
from cymatic.data.rows import Skipped
from cymatic.data.settings import Long
from cymatic.encoders.text import token_ids
from cymatic.errors import Error, PromptError
from cymatic.media import MEDIA
from cymatic.media.medium import Medium, Spec, Window


@dataclass(frozen=True, eq=False)
class Example:
    """What a task sees of one row.

    target: what is learned, as the target's spec has it (mels and pictures float32, waveforms float16). given: by role,
    what it is made from, each as its own spec has it. variants: other renderings of the target, met in turn, one an
    epoch. name: how messages call it. balanced_by: the value that it shares the draws of an epoch with, see
    `data.balance`; None: every epoch meets it.
    """

    target: Tensor
    given: Mapping[str, Tensor] = field(default_factory=dict)
    caption: str = ""
    variants: tuple[Tensor, ...] = ()
    name: str = ""
    balanced_by: str | None = None


@dataclass(frozen=True)
class Reading:
    """A role of a row, and the spec that its file is read by.

    auto: whether data that are prepared already (see `data.vas`) may say another spec.
    """

    role: str
    spec: Spec
    auto: bool = False

    @property
    def medium(self) -> Medium[Any]:
        return MEDIA[self.spec.medium]


@dataclass
class Loaded:
    """Examples in the order of their items, the item of each, what was skipped, and what was used with a doubt."""

    examples: list[Example] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Loaded) -> None:
        self.examples += other.examples
        self.items += other.items
        self.skipped += other.skipped
        self.problems += other.problems

    def leave_out(self, odd: Sequence[Skipped]) -> None:
        """Without the examples of these names."""
        names = {one.name for one in odd}
        kept = [place for place, one in enumerate(self.examples) if one.name not in names]
        self.examples, self.items = [self.examples[i] for i in kept], [self.items[i] for i in kept]


def length(tensor: Tensor, spec: Spec) -> int:
    """Steps of a tensor along its last dimension where its spec leaves that open; else 1."""
    return tensor.shape[-1] if spec.shape[-1] == -1 else 1


def of_one_width(examples: Sequence[Example], role: str) -> tuple[int | None, list[Skipped]]:
    """How wide the `given[role]` of most examples is (None where none has any), and those where it is not."""
    widths = Counter(one.given[role].shape[0] for one in examples if role in one.given)
    usual = widths.most_common(1)[0][0] if widths else None
    return usual, [
        Skipped(one.name, f"its {role} have {one.given[role].shape[0]} numbers a step where most have {usual}")
        for one in examples
        if role in one.given and one.given[role].shape[0] != usual
    ]


def load_items(
    items: Sequence[Item],
    target: Reading,
    given: Sequence[Reading] = (),
    *,
    captions: bool,
    longest: float,
    long: Long = "skip",
    transpose: Sequence[float] = (),
    unheard: Collection[str] = (),
    only_moved: bool = False,
    cache: Cache | None = None,
) -> Loaded:
    """The examples of `items`, from the cache where they are there, else read, prepared and cached.

    captions: whether they are learned. Then those that no prompt could be are skipped, and so is what is silent or
    blank, and what is longer than `longest` seconds, since cutting it would teach that its caption ends in the middle;
    with `long="cut"`, right for rain and the like, it gives up to four windows of that length. Where captions do not
    count, nothing is claimed about a clip: silence stays, and what is long is always cut.

    `transpose`: semitones by which each whole sound is moved to make further ones, with the caption that it then has
    (see `data.audio_moves`), unless that caption is one of `unheard`. only_moved: these further ones alone.

    An item with no content (see `Item`) is not cached. A cache that can't be written stops nothing: see `say_trouble`.
    """
    loader = _Loader(
        target,
        tuple(given),
        captions,
        longest,
        long if captions else "cut",
        Cache() if cache is None else cache,
        tuple(transpose) if only_moved else (0.0, *transpose),
        frozenset(unheard),
    )
    result = Loaded()
    with ThreadPoolExecutor() as pool:
        for item, (examples, skipped, problems) in zip(items, pool.map(loader.load, items), strict=True):
            name = str(item.path())
            result.add(
                Loaded(
                    examples,
                    [item] * len(examples),
                    [Skipped(name, why, broken) for why, broken in skipped],
                    [(name, problem) for problem in problems],
                )
            )
    return result


Result = tuple[list[Example], list[tuple[str, bool]], Sequence[str]]  # why not, and if that is damage; doubts


@dataclass
class _Loader:
    target: Reading
    given: tuple[Reading, ...]
    captions: bool
    longest: float
    long: Long
    cache: Cache
    moves: tuple[float, ...]
    unheard: frozenset[str]
    prompts: set[str] = field(default_factory=set)  # captions that were found to be prompts

    def load(self, item: Item) -> Result:
        role, medium = self.target.role, self.target.medium
        try:
            if self.captions and item.caption not in self.prompts:
                token_ids(item.caption)
                self.prompts.add(item.caption)
            facts, value = facts_of(item, self.cache, keep=self.longest, role=role, medium=medium)
            if facts.empty and self.captions:
                return [], [(medium.empty, False)], []
            if facts.length is None or facts.length <= self.longest:
                captioned = self._whole(item, value)
            elif self.long == "cut" and 0.0 in self.moves and medium.windows is not None:
                windows = medium.windows.find(facts, self.longest)
                captioned = [(item.caption, tensor) for tensor in self._windows(item, windows)]
            else:
                return [], [(self._too_long(facts.length), False)], []
            if not any(tensor.numel() for _, tensor in captioned):
                return [], [(medium.empty, False)] if 0.0 in self.moves else [], facts.problems
            given = {one.role: self._given(item, one) for one in self.given}
            name = str(item.path())
            examples = [Example(tensor, given, caption, name=name) for caption, tensor in captioned if tensor.numel()]
            return examples, [], facts.problems
        except PromptError as error:
            return [], [(f"has a caption that can't be a prompt: {error}", True)], []
        except (Error, OSError) as error:
            return [], [(str(error).removeprefix(f"{item.path()} "), True)], []

    def _too_long(self, seconds: float) -> str:
        return f"is {seconds:.1f} s long, more than the recipe's {self.longest:g} s"

    def _given(self, item: Item, reading: Reading) -> Tensor:
        """What the target is made from, always whole. Raises Error where that can't be."""
        medium, path = reading.medium, item.path(reading.role)
        facts, value = facts_of(item, self.cache, keep=self.longest, role=reading.role, medium=medium)
        if facts.empty:
            raise Error(f"{path} {medium.empty}")
        if facts.length is not None and facts.length > self.longest:
            raise Error(f"{path} {self._too_long(facts.length)}")
        return self._prepared(item, reading, None, value)

    def _whole(self, item: Item, value: Any) -> list[tuple[str, Tensor]]:
        """The clip at each pitch that is wanted, with the caption that it then has."""
        captioned = []
        for semitones in self.moves:
            caption = transposed_caption(item.caption, semitones) if semitones else item.caption
            if caption is None or (semitones and caption in self.unheard):
                continue
            captioned.append((caption, self._prepared(item, self.target, semitones or None, value)))
        return captioned

    def _prepared(self, item: Item, reading: Reading, semitones: float | None, value: Any) -> Tensor:
        key = _key(item, reading, f"{semitones:g} semitones" if semitones else None)
        tensor = self._cached(key, reading.spec)
        if tensor is not None:
            return tensor
        if value is None:
            value = reading.medium.read(item.path(reading.role))
            check_unchanged(item, reading.role)
        return self._fresh(key, reading, transposed(value, semitones) if semitones else value)

    def _windows(self, item: Item, wanted: list[Window]) -> list[Tensor]:
        keys = [_key(item, self.target, window) for window in wanted]
        known = [tensor for key in keys if (tensor := self._cached(key, self.target.spec)) is not None]
        if len(known) == len(wanted):
            return known
        windows, role = self.target.medium.windows, self.target.role
        assert windows is not None
        values = windows.read(item.path(role), wanted)
        check_unchanged(item, role)
        return [self._fresh(key, self.target, value) for key, value in zip(keys, values, strict=True)]

    def _cached(self, key: str | None, spec: Spec) -> Tensor | None:
        data = self.cache.get(key) if key is not None else None
        if data is None:
            return None
        return torch.from_numpy(np.frombuffer(data, "<f2").reshape(spec.shape).astype(np.float32))

    def _fresh(self, key: str | None, reading: Reading, value: Any) -> Tensor:
        """What `prepare` gives; what is cached of it is float16, and so it is rounded to that already."""
        tensor = reading.medium.prepare(value, reading.spec)
        if key is not None:
            self.cache.put(key, tensor.numpy().astype("<f2").tobytes())
        return tensor


def _key(item: Item, reading: Reading, window: Window | str | None) -> str | None:
    """Of what a spec makes of a content; None where it is not cached."""
    content = item.contents.get(reading.role)
    if content is None or not reading.spec.cached:
        return None
    kind = type(reading.spec).__name__.removesuffix("Spec").lower()
    settings = json.dumps([*reading.medium.preparation, reading.spec.model_dump()], sort_keys=True)
    return f"{kind} {content} {window} {settings}"
