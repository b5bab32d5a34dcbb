"""What `cymatic classifier train` does."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cymatic.apps.captions_option import captions_asked, say_chosen
from cymatic.apps.evaluate_command import check_folder
from cymatic.apps.outputs import check_not_source
from cymatic.apps.progress import ProgressBar
from cymatic.apps.terminal import printable
from cymatic.data.facts import usual_rate
from cymatic.data.folder import captions_taken
from cymatic.data.packs import read_packs, whole_folder
from cymatic.errors import Error
from cymatic.evaluation.accuracy import Accuracy
from cymatic.evaluation.audio import classifier_rate, read_sounds
from cymatic.evaluation.folder_classifier import train_on
from cymatic.evaluation.questions import asked, tried
from cymatic.folder_lock import only_writer
from cymatic.hub.parts import CONFIG, fingerprint, save_part
from cymatic.media.audio import AUDIO

HIGHEST = 24_000  # Hz that a classifier reads


def classifier_training_command(
    folder: Path, output: Path, questions: Sequence[str], minutes: float, seed: int, captions: str = "auto"
) -> None:
    """Trains and saves a classifier and prints how good it is. Raises Error for what the user can mend."""
    if not 0 < minutes <= 24 * 60:
        raise Error(f"--minutes is {minutes:g}; give a number above 0, at most a day (1440)")
    if seed < 0:
        raise Error(f"the seed is {seed}; give a whole number from 0")
    check_folder(output)
    check_not_source(output, folder, hint="give another folder with -o")
    with only_writer(output):
        if (output / CONFIG).exists():
            raise Error(f"{output} already holds a part; a classifier stays as it is, so give another folder with -o")
        _train_into(output, folder, questions, minutes, seed, captions)


def _train_into(output: Path, folder: Path, questions: Sequence[str], minutes: float, seed: int, captions: str) -> None:
    by = captions_asked(captions) or "auto"
    sources = read_packs((whole_folder(str(folder)),), None, role=AUDIO.name, captions_by=by)
    say_chosen(by, [source.folder for source in sources.packs], lambda line: print(printable(line), file=sys.stderr))
    rate = classifier_rate(usual_rate(sources.of("train")), HIGHEST)
    with ProgressBar("reading", "clips") as progress:
        corpus = read_sounds(sources, rate, long="cut", on_clip=progress)
    asked(corpus.train, questions)  # before minutes pass
    with ProgressBar("training", "steps") as progress:
        classifier, steps = train_on(
            corpus.train, questions, rate=rate, seconds=60 * minutes, seed=seed, progress=progress
        )
    save_part(output, classifier)
    found = tried(classifier, corpus.valid, classifier.truth((corpus.train, corpus.valid)))
    for line in lines_of(found, len(corpus.valid)):
        print(printable(line))
    print(
        printable(
            f"trained {steps} steps on {len(corpus.train)} clips at {rate} Hz; {output} holds the classifier "
            f"{fingerprint([output])[:12]}"
        )
    )
    where = f"--data {shlex.quote(str(folder))} --classifier {shlex.quote(str(output))}"
    taken = captions_taken(by, sources.packs[0].folder)
    if taken != "auto":  # or the clips may be called otherwise there, as those of the model are
        where += f" --captions {shlex.quote(taken if isinstance(taken, str) else ','.join(taken))}"
    print(printable(f"use it: cymatic evaluate RUN {where} -o report"))


def lines_of(found: dict[str, Accuracy], held_out: int) -> list[str]:
    """How good it is, and a warning where that is too little."""
    if not found:
        return [
            f"nobody knows how good it is, for none of the {held_out} held-out clips has an answer that it learned; "
            "give more clips"
        ]
    lines = []
    for question, one in found.items():
        right = one.right
        lines.append(
            f'"{question}": {100 * right.value:.1f} % of {right.n} held-out clips are right '
            f"({100 * right.low:.1f} to {100 * right.high:.1f} %; guessing gives {100 * one.chance:.1f} %)"
        )
        if one.weak:
            lines.append(
                f'warning: that is too weak to measure a model by "{question}"; give it more --minutes, more clips '
                "or an easier question"
            )
        elif one.confusions:
            meant, found_instead, count = one.confusions[0]
            lines.append(f'most often confused: "{meant}" with "{found_instead}" ({count} of {one.each[meant][1]})')
    return lines
