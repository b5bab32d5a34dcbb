"""Several folders as one dataset: which clips of each, how long, how often; copies found across all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cymatic.config import nearest
from cymatic.data.captions import caption_key
from cymatic.data.captions_by_name import Captions
from cymatic.data.folder import Folder, Item, captions_taken, in_one_spelling, read_folder
from cymatic.data.rows import Skipped
from cymatic.data.settings import DataSettings, Pack
from cymatic.data.spelling import Spelling
from cymatic.errors import Error


@dataclass
class Source:
    """A pack and those of its clips that are used."""

    pack: Pack
    folder: Folder
    items: list[Item]

    def of(self, split: str) -> list[Item]:
        return [item for item in self.items if item.split == split]


@dataclass
class Sources:
    """All packs of a recipe, what was left out, and the copies that were found."""

    packs: list[Source] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, split: str) -> list[Item]:
        return [item for source in self.packs for item in source.of(split)]


def read_packs(
    packs: Sequence[Pack],
    base: Path | None,
    *,
    role: str | None = None,
    given: Collection[str] = (),
    captions: bool = True,
    captions_by: Captions = "auto",
) -> Sources:
    """Lists the clips of `packs`, whose relative folders lie in `base`. The settings: as in `read_layout`;
    `captions_by` is for packs that don't say it themselves.

    Captions that are one are spelt in one way across all packs. A clip that was there before with the same content and
    the same caption is left out; with another caption it stays.

    Raises Error for a folder that can't be read, a filter that names no field or leaves nothing, and where no clip is
    left to train on.
    """
    sources = Sources()
    for pack in packs:
        place = Path(pack.folder)
        if not place.is_absolute():
            if base is None:
                raise Error(f"where is the pack {pack.folder}? Give the folder that holds it: cymatic train FOLDER")
            place = Path(Spelling().of(base, pack.folder))
        by = pack.captions or captions_by
        folder = read_folder(place, role=role, given=given, captions=captions, captions_by=by)
        sources.packs.append(Source(pack, folder, _chosen(pack, folder)))
        sources.skipped += folder.skipped
    _spell_alike(sources)
    _drop_copies(sources)
    if not sources.of("train"):
        noun = sources.packs[0].folder.medium.noun if sources.packs else "file"
        raise Error(
            f"{', '.join(str(source.folder.root) for source in sources.packs)} holds no {noun} to train on, for every "
            'clip is held out by its split; give some the split "train"'
        )
    return sources


def _chosen(pack: Pack, folder: Folder) -> list[Item]:
    known = {"caption", "group", "split"}.union(*(item.fields for item in folder.items))
    for name in (*pack.where, *pack.where_not):
        if name not in known:
            raise Error(f'the clips in {folder.root} have no field "{name}"; {nearest(name, known)}')
    wanted = {name: {_text(value, name) for value in values} for name, values in pack.where.items()}
    unwanted = {name: {_text(value, name) for value in values} for name, values in pack.where_not.items()}
    chosen = []
    for item in folder.items:
        fields = {**item.fields, "caption": item.caption, "group": item.group, "split": item.split}
        if all(_values(fields, name) & allowed for name, allowed in wanted.items()):
            if not any(_values(fields, name) & refused for name, refused in unwanted.items()):
                chosen.append(item)
    if not chosen:
        raise Error(
            f"the filters leave none of the {len(folder.items)} clips in {folder.root}; mend where or where_not"
        )
    return chosen


def _values(fields: Mapping[str, Any], name: str) -> set[str]:
    """A field's value, or each of its values where it holds a list, as texts."""
    value = fields.get(name)
    if isinstance(value, list):
        return {_text(one, name) for one in value}
    return set() if value is None else {_text(value, name)}


def _text(value: object, name: str) -> str:
    """3 and "3" are one value, and so are true and "true": a CSV knows texts only. Captions are compared as such."""
    if name == "caption":
        return caption_key(str(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _spell_alike(sources: Sources) -> None:
    spelt = iter(in_one_spelling([item for source in sources.packs for item in source.items]))
    for source in sources.packs:
        source.items = [next(spelt) for _ in source.items]


def _drop_copies(sources: Sources) -> None:
    """Leaves out exact copies under the same caption, and says which contents lie on both sides of the split."""
    first: dict[tuple[tuple[str, ...], str], Item] = {}
    dropped: list[Item] = []
    for source in sources.packs:
        kept: list[Item] = []
        for item in source.items:
            before = first.setdefault(_copied(item), item) if item.content else item
            (kept if before is item else dropped).append(item)
        source.items = kept
    if dropped:
        one = dropped[0]
        sources.notes.append(
            f"{len(dropped)} exact copies under the same caption are left out, such as {one.path()} "
            f"(the same as {first[_copied(one)].path()})"
        )
    trained_on = {item.content for item in sources.of("train") if item.content}
    leaks = [item for item in sources.of("valid") if item.content in trained_on]
    if leaks:
        sources.notes.append(
            f"{len(leaks)} held-out clips are also trained on under another caption, such as {leaks[0].path()}"
        )


def _copied(item: Item) -> tuple[tuple[str, ...], str]:
    """What two copies have in common: the contents of all their files, and the caption."""
    return tuple(item.contents[role] for role in sorted(item.contents)), item.caption


def fingerprint(items: Sequence[Item], given: Collection[str] = ()) -> str:
    """A SHA-256 of what is trained on and held out, in any order: contents, captions and splits.

    given: the roles of further files that count, too.
    """
    lines = sorted(
        "\t".join(
            [str(item.content), *(str(item.contents.get(role)) for role in given), item.split, item.caption]
            + [text for group in item.captions for text in group]
        )
        for item in items
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def with_chosen_captions(settings: DataSettings, folders: Sequence[Folder]) -> DataSettings:
    """`settings` with what `auto` came to in each of its packs, or in its one folder (see `captions_taken`)."""
    if not settings.packs:
        return settings.model_copy(update={"captions": captions_taken(settings.captions, folders[0])})
    packs = []
    for pack, folder in zip(settings.packs, folders, strict=True):
        asked = pack.captions or settings.captions
        taken = captions_taken(asked, folder)
        packs.append(pack if taken == asked else pack.model_copy(update={"captions": taken}))
    return settings.model_copy(update={"packs": tuple(packs)})


def whole_folder(folder: str) -> Pack:
    """A folder on its own, as the one pack of a recipe that lists none."""
    return Pack(folder=str(Path(folder).absolute()))
