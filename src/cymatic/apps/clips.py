"""Which clips a model is measured on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from cymatic.apps.captions_option import captions_asked, say_chosen
from cymatic.data.captions_by_name import Captions
from cymatic.data.layouts import read_layout
from cymatic.data.packs import Sources, read_packs, whole_folder
from cymatic.data.settings import Long
from cymatic.errors import Error
from cymatic.evaluation.audio import LONGEST
from cymatic.hub.pipeline_file import RECIPE
from cymatic.media.medium import Medium
from cymatic.pipelines.load import starters
from cymatic.training.recipe import parse_recipe, read_recipe


def clips_of(
    run: str,
    data: Path | None,
    medium: Medium[Any],
    given: Collection[str] = (),
    *,
    captions: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Sources, float, Long]:
    """The clips of `data` or those that the run was trained on, how long they may be, what becomes of longer ones.

    given: further roles of files that each has to have. captions: as --captions says; None: as those of the run were
    made, where other clips have names for that. say: hears what was chosen.
    """
    recipe = starters().get(run, Path(run)) / RECIPE
    asked = captions_asked(captions)
    if data is not None:
        by = asked or (parse_recipe(read_recipe(recipe), str(recipe)).data.captions if recipe.is_file() else "auto")
        if asked is None and not _usable(by, data, medium):
            by = "auto"
        found = read_packs((whole_folder(str(data)),), None, role=medium.name, given=given, captions_by=by)
        say_chosen(by, [source.folder for source in found.packs], say)
        return found, LONGEST, "cut"
    if not recipe.is_file():
        raise Error(f"{run} doesn't say what it was trained on (it holds no {RECIPE}); give its folder with --data")
    settings = parse_recipe(read_recipe(recipe), str(recipe)).data
    if settings.folder is not None and not Path(settings.folder).exists():
        raise Error(f"{settings.folder}, which {run} was trained on, is not there; say where it is now with --data")
    packs = settings.packs or (whole_folder(settings.folder or "."),)
    if asked is not None:
        packs = tuple(pack.model_copy(update={"captions": asked}) for pack in packs)
    base = Path(settings.folder) if settings.folder is not None else None
    found = read_packs(packs, base, role=medium.name, given=given, captions_by=settings.captions)
    return found, settings.longest, settings.long


def _usable(by: Captions, data: Path, medium: Medium[Any]) -> bool:
    """Whether the captions of other clips can be made in the way of those that a model was trained on."""
    try:
        layout = read_layout(data, role=medium.name, captions_by=by)
    except Error:
        return False
    return bool(layout.rows)
