"""A classifier for a folder: what it is asked, and how it is trained in the time that there is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from cymatic.errors import Error
from cymatic.evaluation.audio import FRONT_ENDS
from cymatic.evaluation.classifier_training import Disturbance, train_classifier
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk
from cymatic.evaluation.corpus import Clips
from cymatic.evaluation.questions import CAPTION, asked

BATCH = 32
EPOCHS, FEWEST_STEPS = 60, 150  # more teach nothing new about a small folder; fewer begin nothing
TIMED = 4  # steps that show how fast it goes
STRETCH = 2.0  # seconds of a long clip that are used at a time


def train_on(
    clips: Clips,
    questions: Sequence[str] = (CAPTION,),
    *,
    rate: int,
    seconds: float,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> tuple[Classifier, int]:
    """A classifier of `questions` trained on sounds for about `seconds`, and its steps (see `train_classifier`).

    At most 60 epochs, since more teach nothing new. Raises Error as `asked`.
    """
    answers = asked(clips, questions)
    rows = [row for row in range(len(clips)) if all(column[row] is not None for column in answers.values())]
    truth = {question: [str(column[row]) for row in rows] for question, column in answers.items()}
    for question, meant in truth.items():
        if len(set(meant)) < 2:
            raise Error(f'no two clips that answer every question differ in "{question}"; ask fewer questions')
    sounds = [clips.values[row] for row in rows]
    labels = {question: tuple(sorted(set(meant))) for question, meant in truth.items()}
    trunk = ConvTrunk(mel=FRONT_ENDS[rate], widths=(16, 24, 48, 96), dropout=0.1)
    config = ClassifierConfig(labels=labels, trunk=trunk)
    middle = sorted(sound.seconds for sound in sounds)[len(sounds) // 2]
    how = Disturbance(longest=STRETCH if middle > 1.5 * STRETCH else None)

    def trained(steps: int, tell: Callable[[int, float], None]) -> Classifier:
        return train_classifier(
            sounds, truth, config, steps=steps, batch=BATCH, learning_rate=5e-3, seed=seed, disturbance=how,
            progress=tell,
        )  # fmt: skip

    clock: list[float] = []
    trained(TIMED, lambda step, loss: clock.append(time.monotonic()))
    pace = (clock[-1] - clock[0]) / (TIMED - 1)
    most = max(FEWEST_STEPS, math.ceil(EPOCHS * len(sounds) / BATCH))
    steps = min(max(round(seconds / max(pace, 1e-6)), 10), most)
    return trained(steps, lambda step, loss: progress(step + 1, steps)), steps
