"""`cymatic evaluate` of aligned encoders: how well each finds what belongs to the other, as JSON and on one screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from cymatic.apps.clips import clips_of
from cymatic.apps.progress import Phases
from cymatic.apps.terminal import printable
from cymatic.errors import Error
from cymatic.evaluation.plain import as_json, plain
from cymatic.files import write_atomically
from cymatic.media import MEDIA
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.retrieve import recalls
from cymatic.version import __version__

FORMAT, REPORT = 1, "recall.json"


def recall_report(
    model: Embedder, run: str, data: Path | None, output: Path, captions: str | None, say: Callable[[str], None],
    show: Phases,
) -> None:  # fmt: skip
    """Recall among the items held out, both ways, beside chance, into `output`/recall.json; a caption or file that
    several items have counts once. Raises Error where none is held out."""
    specs = {role: encoder.config.reads for role, encoder in model.encoders.items()}
    first, *others = (role for role, spec in specs.items() if spec is not None)
    medium = MEDIA[first if first in MEDIA else specs[first].medium]
    sources, *_ = clips_of(run, data, medium, others, captions=captions, say=say)
    items = sources.of("valid")
    if not items:
        raise Error("no item is held out, so recall can't be measured; give a folder whose rows have split: valid")
    say(f"{len(items)} items are held out; each is looked for among all of them")

    def on_item(done: int, total: int) -> None:
        show("embedding", done, total)

    measured = recalls(model, items, on_item, unique=True)
    show.end()
    report = {
        "format": FORMAT, "cymatic": __version__, "model": {"name": model.name, "sha256": model.sha256},
        "items": measured[0].share.n, "recall": [asdict(one) for one in measured],
    }  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / REPORT, as_json(plain(report)))
    for one in measured:
        found = one.share
        print(
            printable(
                f"{one.given} -> {one.found}, in the first {one.first}: {100 * found.value:.1f} % "
                f"({100 * found.low:.1f} to {100 * found.high:.1f}) of {found.n}; by chance {100 * one.chance:.1f} %"
            )
        )
    print(printable(str(output / REPORT)))
