"""A recipe's recordings -> clips in memory, with every clip that was left out accounted for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from cymatic.data.augment import speaks_of_pitch
from cymatic.data.cache import Cache
from cymatic.data.clips import Loaded, load_clips, say_trouble
from cymatic.data.layouts import check_strictly
from cymatic.data.mels import Clip
from cymatic.data.packs import Source, Sources, fingerprint, read_packs, whole_folder
from cymatic.data.vas import is_given_mels, read_vas
from cymatic.data.waves import load_waves
from cymatic.encoders.text import normalise
from cymatic.errors import Error
from cymatic.files import write_atomically
from cymatic.signal.mel import MelSpec
from cymatic.training.planning import Facts
from cymatic.training.recipe import DataSettings, FeatureCondition, MelGPTRecipe, Recipe
from cymatic.training.start import Start

DATA = "data.json"
MOST_NAMED = 20


@dataclass(frozen=True)
class Data:
    """Clips to train on (as often as their pack says), clips held out, their mel, where they are from, and the
    fingerprint of it all."""

    train: list[Clip]
    valid: list[Clip]
    spec: MelSpec
    sources: Sources
    fingerprint: str


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
    """As `load_data`, but waveforms at `rate` Hz, and clips need no captions.

    A clip is drawn as often as the root of its length times its pack's `repeat`: long ones hold more, and short ones
    would hardly be heard otherwise.
    """
    packs = settings.packs or (whole_folder(settings.folder or "."),)
    sources = read_packs(packs, Path(settings.folder) if settings.folder is not None else None, captions=False)
    cache = Cache()
    train, valid = Loaded(), Loaded()
    waves: dict[str, list[np.ndarray]] = {"train": [], "valid": []}
    weights: list[float] = []
    for source in sources.packs:
        say(_plan(source))
        longest = source.pack.longest or settings.longest
        for split, into in (("train", train), ("valid", valid)):
            found, items, skipped = load_waves(source.of(split), rate, longest=longest, cache=cache)
            waves[split] += found
            into.add(Loaded(items=items, skipped=skipped))
            if split == "train":
                weights += [source.pack.repeat * len(wave) ** 0.5 for wave in found]
    say_trouble(cache)
    _account(sources, train, valid, strict, say)
    return Waves(waves["train"], weights, waves["valid"], fingerprint(train.items + valid.items))


def load_data(recipe: Recipe | MelGPTRecipe, *, strict: bool = False, say: Callable[[str], None] = print) -> Data:
    """Reads all packs of `recipe` into memory, so that what happens to the folders later does not matter.

    `say` hears what is read, skipped and doubtful. Raises Error where nothing is left to train on, for a pack that
    can't be read, and with `strict` where any file or line is broken.
    """
    settings = recipe.data
    if isinstance(recipe, MelGPTRecipe) and not settings.packs and is_given_mels(settings.folder or "."):
        return _given(recipe, strict=strict, say=say)
    packs = settings.packs or (whole_folder(settings.folder or "."),)
    sources = read_packs(packs, Path(settings.folder) if settings.folder is not None else None)
    cache = Cache()
    spec = recipe.mel_spec()
    train, valid = Loaded(), Loaded()
    repeated: list[Clip] = []
    for source in sources.packs:
        say(_plan(source))
        pack = source.pack
        # What is held out stays unheard: no other clip is moved to where it is.
        unheard = {item.caption for item in source.of("valid")}.union(map(str, pack.where_not.get("caption", ())))
        for split, into in (("train", train), ("valid", valid)):
            loaded = load_clips(
                source.of(split),
                spec,
                longest=pack.longest or settings.longest,
                long=pack.long or settings.long,
                transpose=pack.transpose if split == "train" else (),
                unheard=unheard,
                cache=cache,
            )
            into.add(loaded)
            repeated += loaded.clips * pack.repeat if split == "train" else []
    say_trouble(cache)
    _account(sources, train, valid, strict, say)
    return Data(repeated, valid.clips, spec, sources, fingerprint(train.items + valid.items))


def _given(recipe: MelGPTRecipe, *, strict: bool, say: Callable[[str], None]) -> Data:
    """Mels that are there already, in the layout of VAS or VGGSound. Raises Error where the recipe's mel is another."""
    folder = Path(recipe.data.folder or ".")
    features = recipe.condition.of if isinstance(recipe.condition, FeatureCondition) else None
    given = read_vas(folder, features=features, strict=strict)
    if recipe.mel != "auto" and recipe.mel_spec() != given.spec:
        raise Error(f"{folder} holds mels at {given.spec.rate} Hz as SpecVQGAN makes them; set mel to specvqgan-22k")
    train, valid = given.splits["train"], given.splits["valid"]
    say(f"reading {len(train) + len(valid)} mels of {folder} (by the lists of {given.layout})")
    for one in given.skipped[:MOST_NAMED]:
        say(f"skipped {one.name}: {one.why}")
    for note in given.notes:
        say(f"note   {note}")
    if not train:
        raise Error(f"{folder} has no mel of the list to train on; copy more of them, or mend the lists")
    digest = hashlib.sha256()
    for clip in (*train, *valid):
        digest.update(f"{clip.name}\0{clip.caption}\0".encode())
        digest.update(clip.mel.numpy().tobytes())
    return Data(list(train), list(valid), given.spec, Sources(), digest.hexdigest())


def at_other_pitches(data: Data, recipe: Recipe) -> list[Clip]:
    """Each clip to train on moved up and down by `data.augment.pitch`, with the caption that it has, where that does
    not speak of pitch; none of a pack that says itself how it is moved."""
    settings, cache = recipe.data, Cache()
    pitch = settings.augment.pitch
    clips: list[Clip] = []
    for source in data.sources.packs if pitch else ():
        if source.pack.transpose:
            continue
        loaded = load_clips(
            [item for item in source.of("train") if not speaks_of_pitch(item.caption)],
            data.spec,
            longest=source.pack.longest or settings.longest,
            transpose=(-pitch, pitch),
            only_moved=True,
            cache=cache,
        )
        clips += loaded.clips * source.pack.repeat
    return clips


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


def _plan(source: Source) -> str:
    pack, folder = source.pack, source.folder
    chosen = (
        f"{len(source.items)} of {len(folder.items)}" if len(source.items) < len(folder.items) else len(folder.items)
    )
    often = f", each {pack.repeat} times an epoch" if pack.repeat > 1 else ""
    return f"reading {chosen} sounds of {folder.root} (by {folder.layout}){often}"


def _account(sources: Sources, train: Loaded, valid: Loaded, strict: bool, say: Callable[[str], None]) -> None:
    skipped = sources.skipped + train.skipped + valid.skipped
    if strict:
        check_strictly(skipped)
    for one in skipped[:MOST_NAMED]:
        say(f"skipped {one.name}: {one.why}")
    if skipped:
        say(f"skipped {len(skipped)} in all" if len(skipped) > MOST_NAMED else f"{len(skipped)} skipped")
    for note in sources.notes:
        say(f"note   {note}")
    if problems := train.problems + valid.problems:
        name, what = problems[0]
        say(f"note   {len(problems)} used with a doubt, such as {name}, which {what} (cymatic data inspect names all)")
    if not train.items:
        count = sum(len(source.items) for source in sources.packs)
        places = ", ".join(str(source.folder.root) for source in sources.packs)
        raise Error(f"none of the {count} sounds in {places} can be used; see the reasons above")


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
