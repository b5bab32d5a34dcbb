"""Three folders that nothing was tuned on: does `cymatic train FOLDER --minutes 15` make a model that is understood?

    python benchmarks/folders.py prepare drums /usr/share/hydrogen/data/drumkits FOLDER
    python benchmarks/folders.py prepare languages /usr/share/klettres FOLDER
    python benchmarks/folders.py prepare voices SPOKEN_EMOJI FOLDER
    python benchmarks/folders.py judge FOLDER --minutes 15 -o report.json

The drums are those of Debian's package hydrogen-drumkits, the letters and syllables those of klettres-data, the voices
six of the pack spoken-emoji. `prepare` copies them into one folder a class, as a user would have them. `judge` trains a
judge on the folder's own training split, tries it on what is held out, trains a model with nothing but the defaults,
and lets the judge hear 20 sounds of each class, seeds 0-19, no selection.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, and before torch is loaded

import typer
from effects import TRUNK
from memory import neighbours
from notes import read_rows
from scoring import Clips, cell, scored, table

import cymatic
from cymatic.data.folder import read_folder
from cymatic.errors import Error
from cymatic.evaluation.classifier_training import Disturbance, train_classifier
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig
from cymatic.evaluation.outlines import mel_features
from cymatic.files import write_atomically
from cymatic.hub.parts import load_part, save_part
from cymatic.media.sound import Sound

DRUMS = {  # what an instrument of a kit is called -> the class; the first that fits
    "a hi-hat": r"hat|\bhh",
    "a crash cymbal": r"crash|splash|china",
    "a ride cymbal": r"ride|\brd",
    "a tom": r"\btom|tom\b|floor",
    "a snare drum": r"snare|\bsd|\bsn",
    "a bass drum": r"kick|\bbd|bass ?drum",
}
LANGUAGES = {
    "es": "Spanish", "hu": "Hungarian", "it": "Italian", "lt": "Lithuanian", "pt_BR": "Portuguese", "ru": "Russian",
    "uk": "Ukrainian",
}  # fmt: skip
VOICES = ("awb", "de", "es", "fr", "kal16", "slt")
HOW = Disturbance(speed=0.05, gain=4.0, noise=(20.0, 60.0), longest=2.0)
SEEDS, STEPS = 20, 400
AT_LEAST = 0.8

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


class Name(StrEnum):
    """The three folders."""

    drums = "drums"
    languages = "languages"
    voices = "voices"


@app.command()
def prepare(name: Name, source: Path, folder: Path) -> None:
    """Copies the sounds of `source` into one folder a class."""
    counts: dict[str, int] = {}
    for caption, sound in {Name.drums: _drums, Name.languages: _languages, Name.voices: _voices}[name](source):
        place = folder / caption
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(sound, place / f"{sound.parent.name} {sound.name}")
        counts[caption] = counts.get(caption, 0) + 1
    if len(counts) < 5:
        raise Error(f"{source} holds sounds of {len(counts)} classes; give the folder that `prepare {name}` is for")
    typer.echo(", ".join(f"{caption} {count}" for caption, count in sorted(counts.items())))


def _drums(source: Path) -> Iterator[tuple[str, Path]]:
    for kit in sorted(source.glob("*/drumkit.xml")):
        root = ElementTree.parse(kit).getroot()
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]  # some kits have a namespace
        for instrument in root.iter("instrument"):
            called = (instrument.findtext("name") or "").lower()
            fits = next((caption for caption, words in DRUMS.items() if re.search(words, called)), None)
            for file in instrument.iter("filename"):
                if fits and file.text and (kit.parent / file.text).is_file():
                    yield fits, kit.parent / file.text


def _languages(source: Path) -> Iterator[tuple[str, Path]]:
    for code, language in LANGUAGES.items():
        for sound in sorted((source / code).rglob("*.ogg")):
            yield f"a letter in {language}", sound


def _voices(source: Path) -> Iterator[tuple[str, Path]]:
    for row in read_rows(source):
        if row["voice"] in VOICES:
            yield f"the voice {row['voice']}", source / row["audio"]


@app.command()
def judge(
    folder: Path,
    minutes: Annotated[float, typer.Option(help="For cymatic train.")] = 15.0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the JSON report goes.")] = None,
    run: Annotated[Path, typer.Option(help="Where the run and its judge go.")] = Path("runs/folder"),
) -> None:
    """Trains a judge and a model on FOLDER; the judge hears both real and generated sounds."""
    items = read_folder(folder)
    train, valid = (
        Clips([Sound.read(item.path()) for item in some], [item.caption for item in some], [i.caption for i in some])
        for some in (items.of("train"), items.of("valid"))
    )
    place = run.parent / f"{run.name}-judge"
    if not place.exists():
        config = ClassifierConfig(labels={"class": tuple(sorted(set(train.truth)))}, trunk=TRUNK)
        save_part(
            place,
            train_classifier(train.sounds, {"class": train.truth}, config, steps=STEPS, batch=32, disturbance=HOW),
            half=True,
        )
    listener = load_part(place, (Classifier,))
    start = time.monotonic()
    command = [sys.executable, "-m", "cymatic", "train", str(folder), "--minutes", str(minutes), "-o", str(run)]
    subprocess.run([*command, "--no-verdict"], check=True)
    taken = (time.monotonic() - start) / 60
    pipeline = cymatic.load(run)
    captions = sorted(set(train.captions))
    sounds = [sound for caption in captions for sound in pipeline(caption, seed=0, n=SEEDS)]
    made = Clips(sounds, *([[caption for caption in captions for _ in range(SEEDS)]] * 2))
    through = valid.revocoded(pipeline)
    spec = pipeline.spec
    report: dict[str, Any] = {
        "folder": folder.name,
        "clips": len(train),
        "minutes": round(taken, 1),
        "protocol": f"{len(captions)} captions x seeds 0-{SEEDS - 1}, the model's defaults, no selection",
        **{
            what: _heard(listener, clips)
            for what, clips in (("generated", made), ("held out", valid), ("held out through the vocoder", through))
        },
        "neighbours": neighbours(
                mel_features(made.sounds, spec), made.captions, mel_features(through.sounds, spec), through.captions,
                mel_features(train.sounds, spec), train.captions,
            ),
    }  # fmt: skip
    if output is not None:
        write_atomically(output, (json.dumps(report, indent=2) + "\n").encode())
    rows = [[what, cell(report[what])] for what in ("generated", "held out", "held out through the vocoder")]
    near, met = report["neighbours"], report["generated"]["share"] >= AT_LEAST
    typer.echo(f"{folder.name}: {len(train)} clips, {taken:.1f} minutes; {report['protocol']}")
    typer.echo(table(["sounds", "heard as meant"], rows))
    typer.echo(f"nearest to train / held out's {near['ratio']:.2f}, diversity {near['diversity']:.2f}")
    typer.echo(f"generated, each: {json.dumps(report['generated']['share_of_each'])}")
    typer.echo(f"at least {AT_LEAST:.0%} is {'met' if met else 'not met'}")


def _heard(listener: Classifier, clips: Clips) -> dict[str, Any]:
    (heard,) = listener.answers(clips.sounds).values()
    return scored(heard, clips.truth, clips.captions)


if __name__ == "__main__":
    app()
