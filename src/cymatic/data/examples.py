"""A recipe's files -> examples in memory, with everything that was left out accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cymatic.data.audio_moves import speaks_of_pitch
from cymatic.data.balance import check_field, groups_of, value_of, values_of
from cymatic.data.cache import Cache
from cymatic.data.facts import say_trouble
from cymatic.data.folder import chosen_captions
from cymatic.data.limit import Limited, limit_training, limited
from cymatic.data.packs import Source, Sources, fingerprint, read_packs, whole_folder, with_chosen_captions
from cymatic.data.reading import Example, Loaded, Reading, length, load_items, of_one_width
from cymatic.data.rows import check_strictly
from cymatic.data.settings import DataSettings
from cymatic.data.vas import is_given_mels, read_vas
from cymatic.errors import Error
from cymatic.media.audio import AUDIO
from cymatic.media.features import FEATURES, FeatureSpec
from cymatic.media.medium import Spec
from cymatic.signal.mel import MelSpec

__all__ = ["Data", "Example", "Reading", "at_other_pitches", "captions_of", "length", "load_examples"]

MOST_NAMED = 20


@dataclass(frozen=True)
class Data:
    """Examples in memory, where they are from, and the fingerprint of it all.

    train: to learn from, each once. epoch: the same as often as their packs say (`repeat`), pack after pack. weights:
    of each in `train`, the root of its length times its pack's `repeat`: how often random crops are cut from it, since
    long ones hold more, and short ones would hardly be met otherwise; where values are balanced, its share of that in
    all of its value. valid: held out. spec: the target's. settings: the recipe's, with the
    captions that were chosen.
    """

    train: list[Example]
    epoch: list[Example]
    weights: list[float]
    valid: list[Example]
    spec: Spec
    sources: Sources
    fingerprint: str
    settings: DataSettings
    given: tuple[Reading, ...] = ()

    @property
    def seconds(self) -> float:
        """Of `train` together; 0 where length is no time."""
        return sum(self.spec.seconds(length(one.target, self.spec)) or 0.0 for one in self.train)


def captions_of(examples: Sequence[Example]) -> list[str]:
    """All that the examples are called, in order; first what each has for its caption."""
    first = {one.caption for one in examples if one.caption}
    others = {text for one in examples for group in one.captions for text in group}
    return [*sorted(first), *sorted(others - first)]


def load_examples(
    settings: DataSettings,
    target: Reading,
    given: Sequence[Reading] = (),
    *,
    captions: bool,
    strict: bool = False,
    say: Callable[[str], None] = print,
) -> Data:
    """Reads all packs of `settings` into memory, so that what happens to the folders later does not matter.

    captions: whether they are learned, and so needed; see `data.reading.load_items` for what follows from that. `say`
    hears what is read, skipped and doubtful.

    Raises Error where nothing is left to train on, for a pack that can't be read, and with `strict` where any file or
    line is broken.
    """
    if isinstance(target.spec, MelSpec) and not settings.packs and is_given_mels(settings.folder or "."):
        if settings.balance is not None:
            raise Error(f"{settings.folder} holds mels by lists, which data.balance is not for; leave it out")
        return _given_mels(settings, target, given, strict, say)
    packs = settings.packs or (whole_folder(settings.folder or "."),)
    base = Path(settings.folder) if settings.folder is not None else None
    roles = [one.role for one in given]
    sources = read_packs(packs, base, role=target.role, given=roles, captions=captions, captions_by=settings.captions)
    if settings.limit is not None:
        say(_limit(limit_training(sources, settings.limit), settings.limit))
    if target.medium is not AUDIO and (moved := [pack for pack in packs if pack.transpose]):
        raise Error(f"{moved[0].folder} is read for its {target.medium.nouns}, which have no pitch; remove transpose")
    if settings.balance is not None:
        check_field(settings.balance, [item for source in sources.packs for item in source.items])
    cache = Cache()
    train, valid = Loaded(), Loaded()
    by_pack: list[tuple[int, list[Example]]] = []
    for source in sources.packs:
        say(_plan(source))
        pack = source.pack
        if captions and (pack.captions or settings.captions) == "auto" and (chosen := chosen_captions(source.folder)):
            say(f"chosen {chosen}")
        # What is held out stays unheard: no other clip is moved to where it is.
        unheard = {item.caption for item in source.of("valid")}.union(map(str, pack.where_not.get("caption", ())))
        for split, into in (("train", train), ("valid", valid)):
            loaded = load_items(
                source.of(split),
                target,
                given,
                captions=captions,
                longest=pack.longest or settings.longest,
                long=pack.long or settings.long,
                transpose=pack.transpose if captions and split == "train" else (),
                unheard=unheard,
                cache=cache,
            )
            loaded.examples = _balanced(loaded, settings)
            into.add(loaded)
            if split == "train":
                by_pack.append((pack.repeat, loaded.examples))
    say_trouble(cache)
    for one in given:
        if isinstance(one.spec, FeatureSpec) and one.spec.dim is None:
            _, odd = of_one_width([*train.examples, *valid.examples], one.role)
            train.leave_out(odd)
            valid.leave_out(odd)
            valid.skipped += odd
    _account(sources, train, valid, strict, say)
    used = {id(one) for one in train.examples}
    epoch, weights = list[Example](), list[float]()
    for repeat, examples in by_pack:
        kept = [one for one in examples if id(one) in used]
        epoch += kept * repeat
        weights += [repeat * length(one.target, target.spec) ** 0.5 for one in kept]
    if groups := groups_of(train.examples):
        weights = _shared(weights, groups)
        if settings.balance_power:
            say(f"values of {settings.balance} are met by the number of their items ^ {settings.balance_power:g}")
        else:
            say(f"each of {len(groups)} values of {settings.balance} is met equally often")
    everything = fingerprint(train.items + valid.items, roles)
    asked = with_chosen_captions(settings, [source.folder for source in sources.packs]) if captions else settings
    return Data(train.examples, epoch, weights, valid.examples, target.spec, sources, everything, asked, tuple(given))


def _limit(found: Limited, most: int) -> str:
    """What data.limit came to."""
    if found.kept == found.rows:
        return f"limit  all {found.rows:,} rows to train on are used, since data.limit is {most:,}"
    of = f"of {found.kept_captions:,} captions" + (
        "" if found.kept_captions == found.captions else f" (there are {found.captions:,})"
    )
    return f"limit  {found.kept:,} of {found.rows:,} rows to train on are used, {of}, since data.limit is {most:,}"


def _balanced(loaded: Loaded, settings: DataSettings) -> list[Example]:
    """The examples with what they have in the field that is balanced by."""
    if settings.balance is None:
        return loaded.examples
    pairs = zip(loaded.items, loaded.examples, strict=True)
    values = values_of([value_of(settings.balance, item, one.caption) for item, one in pairs], settings.balance_power)
    return [replace(one, balanced_by=value) for one, value in zip(loaded.examples, values, strict=True)]


def _shared(weights: Sequence[float], groups: Sequence[Sequence[int]]) -> list[float]:
    """Weights that come to 1 in each group."""
    shared = list(weights)
    for group in groups:
        whole = sum(weights[i] for i in group)
        for i in group:
            shared[i] = weights[i] / whole
    return shared


def at_other_pitches(data: Data, settings: DataSettings, pitch: float) -> list[Example]:
    """Each sound to train on moved up and down by `pitch` semitones, with the caption that it has, where that does not
    speak of pitch, as often as its pack says; none of a pack that says itself how it is moved."""
    examples: list[Example] = []
    for source in data.sources.packs if pitch else ():
        if source.pack.transpose:
            continue
        loaded = load_items(
            [item for item in source.of("train") if not speaks_of_pitch(item.caption)],
            Reading(source.folder.role, data.spec),
            data.given,
            captions=True,
            longest=source.pack.longest or settings.longest,
            transpose=(-pitch, pitch),
            only_moved=True,
        )
        examples += _balanced(loaded, settings) * source.pack.repeat
    return examples


def _given_mels(
    settings: DataSettings, target: Reading, given: Sequence[Reading], strict: bool, say: Callable[[str], None]
) -> Data:
    """Mels that are there already, in the layout of VAS or VGGSound, and the features beside them.

    Raises Error where the target's mel is another, and for other things to be given than features.
    """
    folder = Path(settings.folder or ".")
    kinds = [one.spec.name for one in given if isinstance(one.spec, FeatureSpec)]
    if len(kinds) < len(given) or len(kinds) > 1:
        raise Error(f"{folder} holds mels and {FEATURES.nouns} alone; give them one role of features at most")
    found = read_vas(folder, features=kinds[0] if kinds else None, role=given[0].role if given else "", strict=strict)
    if not target.auto and target.spec != found.spec:
        raise Error(f"{folder} holds mels at {found.spec.rate} Hz as SpecVQGAN makes them; set mel to specvqgan-22k")
    train, valid = found.splits["train"], found.splits["valid"]
    say(f"reading {len(train) + len(valid)} mels of {folder} (by the lists of {found.layout})")
    for one in found.skipped[:MOST_NAMED]:
        say(f"skipped {one.name}: {one.why}")
    for note in found.notes:
        say(f"note   {note}")
    if not train:
        raise Error(f"{folder} has no mel of the list to train on; copy more of them, or mend the lists")
    if settings.limit is not None:
        places = limited([(clip.caption, clip.name) for clip in train], settings.limit)
        captions = len({clip.caption for clip in train})
        kept, count = [train[place] for place in places], len(train)
        counts = Limited(len(kept), count, len({clip.caption for clip in kept}), captions)
        say(_limit(counts, settings.limit))
        train = kept
    digest = hashlib.sha256()
    for clip in (*train, *valid):
        digest.update(f"{clip.name}\0{clip.caption}\0".encode())
        digest.update(clip.target.numpy().tobytes())
    weights = [clip.target.shape[1] ** 0.5 for clip in train]
    sha256 = digest.hexdigest()
    return Data(train, list(train), weights, valid, found.spec, Sources(), sha256, settings, tuple(given))


def _plan(source: Source) -> str:
    pack, folder = source.pack, source.folder
    chosen = (
        f"{len(source.items)} of {len(folder.items)}" if len(source.items) < len(folder.items) else len(folder.items)
    )
    often = f", each {pack.repeat} times an epoch" if pack.repeat > 1 else ""
    return f"reading {chosen} {folder.medium.nouns} of {folder.root} (by {folder.layout}){often}"


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
        nouns = sources.packs[0].folder.medium.nouns
        raise Error(f"none of the {count} {nouns} in {places} can be used; see the reasons above")
