"""The ways in which a folder says what its files are. Only one is read, the first that is found:

1. a manifest: `manifest.jsonl`, `metadata.jsonl`, `metadata.csv`, `captions.csv`, in the folder itself or else in
   folders below it (see `data.manifests`);
2. the lists of a published data set with several media (see `data.known`);
3. `clip.txt` beside `clip.wav`;
4. class folders: every file lies in a folder named as its caption, and there are at least two such folders;
5. file names: "dog-bark_03.wav" is "dog bark".

Whether the last two are read, or both together, is in `data.captions_by_name`. The last three work for the files of any
medium. Files of another medium belong to a row where they lie beside its file under the same name: `house.png` beside
`house.wav`. Names are compared in one Unicode form.

Links to files and folders are followed, loops excepted (see `walk`), since they are the user's own arrangement. But a
manifest may have come with the data, so what it names must really lie inside the folder, links followed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from cymatic.config import nearest
from cymatic.data.captions_by_name import CAPTIONS_BY, Captions, captions_by_name
from cymatic.data.known import known_layout
from cymatic.data.known.known_layout import read_known
from cymatic.data.known.wav2cap import WAV2CAP, is_given_wav2cap
from cymatic.data.manifests import manifests_among, read_manifests
from cymatic.data.rows import Layout, Row, Skipped, split_folders
from cymatic.data.spelling import nfc
from cymatic.data.table_lines import MANIFESTS, PARQUET, is_manifest
from cymatic.data.walk import Walk, walk
from cymatic.errors import Error
from cymatic.files import IS_LFS_POINTER, LFS_POINTER, reason
from cymatic.media import MEDIA, medium_of
from cymatic.media.audio import AUDIO

NO_TEXT = "has a name that is not UTF-8; rename it"
MADE = ("pipeline.json", "recipe.yaml", "report.html")  # one of them lies where a training or an evaluation wrote
CAPTION_BYTES = 65_536  # no caption file is larger
LAYOUTS = {"folder": "class folders", "file": "file names", "both": "folders' and file names"}
PARQUET_WHY = "is a Parquet table, which is not read; save it as metadata.csv, and what it holds as files"


def read_layout(
    root: Path,
    *,
    role: str | None = None,
    given: Collection[str] = (),
    captions: bool = True,
    captions_by: Captions = "auto",
) -> Layout:
    """The rows of `root`, a folder, in the first layout that is found there; or of a manifest by its own name.

    role: what each row must have a file of; None: the role that most rows have, or the medium that has most files.
    given: further roles that are asked for. captions: whether a row needs one; without, those that have none stay, and
    theirs is empty. captions_by: which names are captions, where nothing else is; or which fields of a manifest are.

    Raises Error for a manifest that can't be read, for a role that only a manifest could tell where there is none, and
    where captions are asked to be made of names and there are others.
    """
    walked: Walk | None = None
    if is_given_wav2cap(root):
        files = walk(root.parent, made=MADE).files
        return read_known(WAV2CAP, root.parent, [root], files, role, given, captions, _fields(captions_by))
    if is_manifest(root):
        root, manifests = root.parent, [root]
    else:
        manifests = [root / name for name in MANIFESTS if (root / name).is_file()][:1]
    if not manifests:
        walked = walk(root, made=MADE)
        manifests = manifests_among(walked.files)
    if manifests:
        fields = _fields(captions_by)
        if not fields:
            _refuse_names(root, captions_by, f"the captions of {manifests[0].relative_to(root)}")
        layout = read_manifests(root, manifests, role, given, captions, fields)
        if walked is not None:
            layout.skipped += _left_out(root, walked, _unlisted(layout, walked), manifests)
        return layout
    assert walked is not None
    if (known := known_layout(root, walked.files)) is not None:
        published, lists = known
        if not _fields(captions_by):
            _refuse_names(root, captions_by, f"the lists of {published.name}")
        found = read_known(published, root, lists, walked.files, role, given, captions, _fields(captions_by))
        found.skipped += _left_out(root, walked, (), ())
        return found
    if isinstance(captions_by, tuple):
        raise Error(
            f'{root} has no manifest whose lines could have the field "{captions_by[0]}"; give one that has, or '
            f"leave the field out ({nearest(captions_by[0], CAPTIONS_BY)})"
        )
    if unknown := [name for name in (role, *given) if name is not None and name not in MEDIA]:
        raise Error(
            f'{root} has no manifest that says which of its files are "{unknown[0]}"; write a manifest.jsonl, or use '
            f"one of the roles {', '.join(MEDIA)}"
        )
    by_medium: dict[str, list[Path]] = {name: [] for name in MEDIA}
    others: list[Path] = []
    for path in walked.files:
        medium = medium_of(path)
        (others if medium is None else by_medium[medium.name]).append(path)
    if role is None:
        role = max(MEDIA, key=lambda name: len(by_medium[name])) if any(by_medium.values()) else AUDIO.name
    medium, paths = MEDIA[role], by_medium[role]
    companions = _companions(paths, {name: some for name, some in by_medium.items() if name != role})
    used = {path for files in companions.values() for path in files.values()}
    others = sorted([*others, *(path for some in by_medium.values() for path in some if path not in {*paths, *used})])

    def row(path: Path, caption: str, fields: Mapping[str, str]) -> Row:
        return Row({role: path, **companions.get(_stem(path), {})}, caption, splits.get(path), fields=fields)

    splits, depth = split_folders(root, paths)
    texts = {_stem(path): path for path in others if path.suffix.lower() == ".txt"}
    beside = {path: texts[stem] for path in paths if (stem := _stem(path)) in texts}
    if beside:
        _refuse_names(root, captions_by, f"a .txt beside its {medium.nouns}")
        layout = Layout(f"a .txt beside each {medium.noun}", role)
        for path in paths:
            caption, why = _caption_in(beside.get(path))
            if caption or not captions:
                layout.rows.append(row(path, caption, {}))
            else:
                layout.skipped.append(Skipped(str(path.relative_to(root)), why))
        others = sorted(set(others) - set(beside.values()))
    else:
        named = captions_by_name(root, paths, captions_by, depth)
        layout = Layout(LAYOUTS[named.by], role, captions_by=named.by, why=named.why)
        for path in paths:
            caption, label = named.captions[path], named.labels.get(path)
            if caption or not captions or named.by != "folder":
                layout.rows.append(row(path, caption, {"label": label} if label else {}))
            else:
                why = "lies in no folder that could name it"
                layout.skipped.append(Skipped(str(path.relative_to(root)), why))
    if captions:
        _check_names(layout, root)
    layout.skipped += [
        Skipped(str(path.relative_to(root)), _no_file(path, medium.noun), broken=False) for path in others
    ]
    layout.skipped += _left_out(root, walked, (), ())
    return layout


def _fields(captions_by: Captions) -> tuple[str, ...]:
    """The fields that captions are made of, where such were asked for."""
    return captions_by if isinstance(captions_by, tuple) else ()


def _check_names(layout: Layout, root: Path) -> None:
    """Leaves out what takes its caption from a name that is no text."""
    rows = layout.rows
    layout.rows = [row for row in rows if is_text(row.caption)]
    layout.skipped += [
        Skipped(str(row.files[layout.role].relative_to(root)), NO_TEXT) for row in rows if not is_text(row.caption)
    ]


def is_text(name: str) -> bool:
    """Whether the bytes of a name are UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _refuse_names(root: Path, captions_by: Captions, what: str) -> None:
    if captions_by != "auto":
        raise Error(
            f"captions were asked to be made of names (--captions {captions_by}), but {root} has {what}; say "
            "--captions auto, or move these away"
        )


def _unlisted(layout: Layout, walked: Walk) -> list[Path]:
    """The files of the rows' medium that are in no row."""
    named = {nfc(path) for row in layout.rows for path in row.files.values()}
    media = {medium.name for row in layout.rows if (medium := medium_of(row.files[layout.role])) is not None}
    return [
        path
        for path in walked.files
        if (medium := medium_of(path)) is not None and medium.name in media and nfc(path) not in named
    ]


def _left_out(root: Path, walked: Walk, unlisted: Collection[Path], manifests: Collection[Path]) -> list[Skipped]:
    """What a walk passed by, and what is in no manifest."""
    left = [Skipped(str(path.relative_to(root)), "is in no manifest") for path in unlisted]
    left += [
        Skipped(str(path.relative_to(root)), PARQUET_WHY)
        for path in walked.files
        if manifests and path.suffix == PARQUET
    ]
    left += [
        Skipped(str(path.relative_to(root)), "is a link to a folder that is read under another name", broken=False)
        for path in walked.doubled
    ]
    left += [
        Skipped(str(path.relative_to(root)), "holds a model or a report, and no data", broken=False)
        for path in walked.made
    ]
    return left + [Skipped(str(path.relative_to(root)), why) for path, why in walked.broken]


def _no_file(path: Path, noun: str) -> str:
    return PARQUET_WHY if path.suffix == PARQUET else f"is not a {noun} by its extension"


def _stem(path: Path) -> str:
    """By what files that lie beside each other belong together."""
    return nfc(path.with_suffix(""))


def _companions(paths: Sequence[Path], others: Mapping[str, Sequence[Path]]) -> dict[str, dict[str, Path]]:
    """By name without suffix, the files of other media that lie beside one of `paths` under its name."""
    stems = {_stem(path) for path in paths}
    found: dict[str, dict[str, Path]] = {}
    for name, some in others.items():
        for path in some:
            if (stem := _stem(path)) in stems:
                found.setdefault(stem, {}).setdefault(name, path)
    return found


def _caption_in(text: Path | None) -> tuple[str, str]:
    """The caption in a text file, or an empty one and what is wrong."""
    if text is None:
        return "", "has no .txt with its caption beside it"
    try:
        with text.open("rb") as file:
            held = file.read(CAPTION_BYTES)
        if held.startswith(LFS_POINTER):
            return "", f"has a caption that {IS_LFS_POINTER} ({text.name})"
        caption = " ".join(held.decode("utf-8-sig").split())
    except OSError as error:
        return "", f"has a caption that can't be read ({text.name}: {reason(error)})"
    except UnicodeDecodeError:
        return "", f"has a caption that is not UTF-8 ({text.name})"
    return caption, f"has an empty caption ({text.name})"
