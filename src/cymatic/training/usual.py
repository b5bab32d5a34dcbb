"""Which recipe a folder is trained by where nobody names one: that of the medium which most of its files are of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cymatic.data.layouts import read_layout
from cymatic.errors import Error
from cymatic.media import MEDIA, medium_of


def usual_recipe(folder: Path) -> tuple[str | None, str]:
    """The recipe's name, None for the usual one; and where the folder holds files of another medium that has a recipe,
    too, a sentence that says which are taken, and how to take the others."""
    counts = media_in(folder)
    known = [name for name, _ in counts.most_common() if MEDIA[name].recipe is not None]
    if not known:
        return None, ""
    taken = MEDIA[known[0]]
    others = [MEDIA[name] for name in known[1:]]
    if not others:
        return taken.recipe, ""
    found = " and ".join(f"{counts[one.name]} {one.nouns}" for one in (taken, *others))
    ways = " or ".join(f"--recipe {one.recipe} for its {one.nouns}" for one in others)
    return taken.recipe, f"{folder} holds {found}; it is trained on its {taken.nouns}; say {ways}"


def media_in(folder: Path) -> Counter[str]:
    """How many files a folder's layout has of each medium; of equally many, those that its rows are about come first.

    Nothing of a folder that can't be read: whoever reads it to train on it says why.
    """
    try:
        layout = read_layout(folder, captions=False)
    except (Error, OSError):
        return Counter()
    files = {path for row in layout.rows for path in row.files.values()}
    found = Counter(medium.name for path in files if (medium := medium_of(path)) is not None)
    for one in layout.skipped:
        if (medium := medium_of(one.name)) is not None:
            found[medium.name] += 1
    first = {medium.name for row in layout.rows if (medium := medium_of(row.files[layout.role])) is not None}
    return Counter(dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0] not in first))))
