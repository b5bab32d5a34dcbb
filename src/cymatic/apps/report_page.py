"""An evaluation as one page that needs nothing else: pictures and players inside it, no script, no network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cymatic.apps.html import rendered
from cymatic.evaluation.evaluate import MADE, REAL, THROUGH, Shown
from cymatic.media.audio import AUDIO
from cymatic.media.audio_files import encoded
from cymatic.media.medium import Medium
from cymatic.media.plot import thumbnail
from cymatic.media.sound import Sound

PLAYED = 5.0  # seconds of a clip that can be played and seen
BARS = 256  # of the histogram at most
CONFUSED = 8  # confusions named for each question
LEGEND = "Mel spectrograms, low notes below, 80 dB deep; each fills its field."

MEASURES = {
    "mel_l1": ("mel L1", "nepers", 3),
    "log_spectral_distance": ("log-spectral distance", "dB", 2),
    "multi_scale_mel_distance": ("multi-scale mel distance", "nepers", 3),
    "stoi": ("STOI", "0 to 1, speech only", 3),
    "psnr": ("PSNR", "dB", 1),
    "distance": ("distance", "the codec's own", 3),
}


@dataclass(frozen=True)
class Cell:
    """A number as text, and its interval if it has one."""

    text: str
    interval: str = ""


@dataclass(frozen=True)
class Figure:
    """One clip: a PNG and an MP3 (none of what can't be played) in base 64, with the picture's description."""

    picture: str
    text: str
    alt: str
    sound: str = ""


def page(report: Mapping[str, Any], shown: Sequence[Shown], medium: Medium[Any], sheet: Path | None = None) -> str:
    """The page of `report` (what report.json holds) with the clips in `shown`, which are values of `medium`; those of a
    medium that is not drawn are left out. sheet: a contact sheet, which stands in their place."""
    sounds = medium is AUDIO
    draw = sound_figure if sounds else partial(plotted, medium)
    clips = [
        {
            "caption": one.caption,
            "figures": [
                draw(what, one.caption, value)
                for what, value in ((REAL, one.real), (THROUGH, one.through), (MADE, one.made))
                if value is not None
            ],
        }
        for one in (shown if medium.plot is not None and sheet is None else ())
    ]
    return rendered(
        "report.html.j2",
        title=f"How good is {report['model']['name']}?",
        report=report,
        clips=clips,
        sheet="" if sheet is None else b64encode(sheet.read_bytes()).decode(),
        legend=LEGEND if sounds else "",
        accuracy=_accuracy(report),
        distances=_distances(report),
        memory=_memory(report),
        reconstruction=_reconstruction(report),
        particulars=_particulars(report),
        cell=cell,
        histogram=histogram,
    )


def sound_figure(what: str, caption: str, sound: Sound) -> Figure:
    """A sound as a mel spectrogram and a player."""
    # Players should be about equally loud, whatever the recording's level was.
    some = sound.cut(0, PLAYED).at_loudness(-23)
    return Figure(
        b64encode(thumbnail(some)).decode(),
        f"{what}, {sound.seconds:.2f} s",
        f"Mel spectrogram, {what}: {caption}",
        b64encode(encoded(some.samples, some.rate, None, "clip.mp3")).decode(),
    )


def plotted(medium: Medium[Any], what: str, caption: str, value: Any) -> Figure:
    """A value as its medium draws it."""
    assert medium.plot is not None
    with TemporaryDirectory() as folder:
        picture = medium.plot(value, Path(folder) / "figure.png", None).read_bytes()
    return Figure(b64encode(picture).decode(), what, f"{medium.noun.capitalize()}, {what}: {caption}")


def cell(found: Mapping[str, Any] | None, digits: int = 2, percent: bool = False) -> Cell:
    """A number and its interval."""
    if found is None or found["value"] is None:
        return Cell("–")

    def text(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.{digits}f}"

    value = f"{text(found['value'])}{' %' if percent else ''}"
    return Cell(value) if found["low"] is None else Cell(value, f"{text(found['low'])} to {text(found['high'])}")


def histogram(counts: Sequence[int]) -> list[float]:
    """Bars of how often each code was used, in the order given, the highest 100; of many codes a bar stands for
    several."""
    step = -(-len(counts) // BARS)
    heights = [sum(counts[i : i + step]) / len(counts[i : i + step]) for i in range(0, len(counts), step)]
    top = max(heights) or 1.0
    return [100 * height / top for height in heights]


def _texts(*texts: object) -> list[Cell]:
    return [Cell(str(text)) for text in texts]


def _accuracy(report: Mapping[str, Any]) -> dict[str, Any] | None:
    found, classifier = report["accuracy"], report["classifier"]
    if not found:
        return None
    questions = list(found[MADE]) if MADE in found else list(next(iter(found.values())))
    rows = [
        [
            Cell(what),
            *(cell(of[q]["right"], percent=True) if q in of else Cell("–") for q in questions),
            Cell(str(max((one["right"]["n"] for one in of.values()), default=0))),
        ]
        for what, of in found.items()
    ]
    confusions = []
    for question in questions:
        wrong = found.get(MADE, {}).get(question, {}).get("confusions", [])[:CONFUSED]
        if wrong:
            confusions.append(
                (question, [f"“{want}” as “{got}”{f' ({n})' if n > 1 else ''}" for want, got, n in wrong])
            )
    chance = ", ".join(f"{q} {one['chance']:.1%}" for q, one in next(iter(found.values())).items())
    name, origin = classifier["name"], classifier["origin"]
    return {
        "header": ["clips", *questions, "n"],
        "rows": rows,
        "confusions": confusions,
        "caption": f"Classifier: {name}, {origin}. The same answer every time would give: {chance}.",
    }


def _distances(report: Mapping[str, Any]) -> dict[str, Any] | None:
    found = report["distances"]
    if not found:
        return None
    questions = list(next(iter(found.values()))["mkl"])
    rows = [
        [
            Cell(what),
            cell(one["frechet"]),
            cell(one["kernel"], 3),
            *(cell(one["mkl"][question], 3) for question in questions),
            cell(one["precision"], percent=True),
            cell(one["recall"], percent=True),
            Cell(str(one["clips"])),
        ]
        for what, one in found.items()
    ]
    embedding = report["embedding"]
    return {
        "header": ["clips", "Fréchet", "kernel", *(f"MKL {q}" for q in questions), "precision", "recall", "n"],
        "rows": rows,
        "caption": f"From {report['protocol']['reference']} training clips of the same captions, in "
        f"{embedding['name']}{_hash(embedding, 12)}. Comparable within this table, and with other models in "
        "this same embedding at this n; with no other published Fréchet distance.",
    }


def _memory(report: Mapping[str, Any]) -> list[list[Cell]]:
    near, diversity = report["neighbours"], report["diversity"]
    return [
        [
            Cell("the classifier's embedding" if kind == "classifier" else f"aligned {kind}s"),
            cell(near.get(kind, {}).get("ratio")),
            cell(near.get(kind, {}).get("nearer"), percent=True),
            cell(diversity.get(kind)),
        ]
        for kind in {**near, **diversity}
    ]


def _reconstruction(report: Mapping[str, Any]) -> dict[str, Any] | None:
    found = report["reconstruction"]
    if not found:
        return None
    names = [name for name in MEASURES if any(name in one for one in found.values())]
    return {
        "header": ["through", *(f"{MEASURES[name][0]}, {MEASURES[name][1]}" for name in names)],
        "rows": [
            [Cell(way), *(cell(one.get(name), MEASURES[name][2]) for name in names)] for way, one in found.items()
        ],
    }


def _hash(part: Mapping[str, Any], digits: int | None = None) -> str:
    """In brackets; nothing where it has none."""
    return f" ({part['sha256'][:digits]})" if part["sha256"] else ""


def _particulars(report: Mapping[str, Any]) -> list[list[Cell]]:
    model, data, classifier, plan = report["model"], report["data"], report["classifier"], report["protocol"]
    rate = f", {model['rate']} Hz" if model.get("rate") else ""
    rows = [
        _texts("model", f"{model['name']}{rate}, {model['sha256']}"),
        _texts(
            "clips",
            f"{', '.join(data['folders'])}: {data['train']} to train on ({data['train_read']} read), "
            f"{data['valid']} held out ({data['valid_read']} read), {data['sha256']}",
        ),
        _texts(
            "beside", f"{plan['held_out']} held-out and {plan['reference']} training clips of the captions asked for"
        ),
    ]
    if classifier is not None:
        labels = "; ".join(f"{question}: {len(answers)} answers" for question, answers in classifier["labels"].items())
        rate = f", {classifier['rate']} Hz" if classifier["rate"] else ""
        about = f"{classifier['name']}{rate}, {labels}{_hash(classifier)}"
        rows.append(_texts("classifier", about))
    commit = f", commit {report['commit']}" if report["commit"] else ""
    rows.append(_texts("made by", f"cymatic {report['cymatic']}{commit}, torch {report['torch']}"))
    return rows
