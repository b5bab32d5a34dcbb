"""A judge for a folder: what it is asked, how it is trained in the time that there is, how well it hears."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from cymatic.config import nearest
from cymatic.data.packs import Sources, read_packs, whole_folder
from cymatic.encoders.text import normalise
from cymatic.errors import Error
from cymatic.evaluation.accuracy import Accuracy, accuracy
from cymatic.evaluation.classifier_training import Disturbance, train_classifier
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk
from cymatic.evaluation.diversity import by_caption
from cymatic.evaluation.recordings import Recordings
from cymatic.media.audio import AUDIO
from cymatic.signal.mel import MelSpec

CAPTION = "caption"  # the question whose answers are whole captions
BATCH = 32
EPOCHS, FEWEST_STEPS = 60, 150  # more teach nothing new about a small folder; fewer begin nothing
TIMED = 4  # steps that show how fast it goes
STRETCH = 2.0  # seconds of a long clip that are heard at a time
MOST_ANSWERS = 1000

# rate -> a small front-end: windows of 32 to 43 ms, hops of 16 to 25 ms.
MELS = {
    8_000: MelSpec(rate=8_000, n_fft=256, hop=128, mels=40, fmax=4_000, floor=3e-4),
    16_000: MelSpec(rate=16_000, n_fft=512, hop=320, mels=56, fmax=8_000, floor=3e-4),
    24_000: MelSpec(rate=24_000, n_fft=1024, hop=600, mels=64, fmax=12_000, floor=3e-4),
}


def judge_rate(usual: int, most: int) -> int:
    """The rate in Hz a judge should hear at: recordings are at `usual`, and what is judged is at `most`."""
    return max((rate for rate in MELS if rate <= min(usual, most)), default=min(MELS))


def asked(recordings: Recordings, questions: Sequence[str]) -> dict[str, list[str | None]]:
    """For each question the answer of each recording: its caption, or what its manifest's field of that name holds.

    Raises Error for a question that is neither, or that has fewer than two answers.
    """
    found: dict[str, list[str | None]] = {}
    for question in dict.fromkeys(questions):
        if question == CAPTION:
            answers: list[str | None] = list(recordings.captions)
        else:
            known = {CAPTION}.union(*recordings.fields)
            if question not in known:
                raise Error(f'the clips have no field "{question}" to ask for; {nearest(question, known)}')
            answers = [_text(fields.get(question)) for fields in recordings.fields]
        different = set(answers) - {None}
        if len(different) < 2:
            raise Error(
                f'the {len(answers)} clips to train on have {len(different)} different answers to "{question}", and a '
                "judge tells two or more apart; ask another question or give a folder with more"
            )
        if len(different) > MOST_ANSWERS or len(different) > len(answers) / 2:
            raise Error(
                f'the {len(answers)} clips to train on have {len(different)} different answers to "{question}", too '
                "many to learn; ask for a field that several clips share, with --question"
            )
        found[question] = answers
    return found


def train_on(
    recordings: Recordings,
    questions: Sequence[str] = (CAPTION,),
    *,
    rate: int,
    seconds: float,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> tuple[Classifier, int]:
    """A judge of `questions` trained for about `seconds`, and its steps. See `evaluation.classifier_training.train_classifier`.

    At most 60 epochs, since more teach nothing new. Raises Error as `asked`.
    """
    answers = asked(recordings, questions)
    rows = [row for row in range(len(recordings)) if all(column[row] is not None for column in answers.values())]
    truth = {question: [str(column[row]) for row in rows] for question, column in answers.items()}
    for question, meant in truth.items():
        if len(set(meant)) < 2:
            raise Error(f'no two clips that answer every question differ in "{question}"; ask fewer questions')
    sounds = [recordings.sounds[row] for row in rows]
    labels = {question: tuple(sorted(set(meant))) for question, meant in truth.items()}
    trunk = ConvTrunk(mel=MELS[rate], widths=(16, 24, 48, 96), dropout=0.1)
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


def truths(labels: Mapping[str, Sequence[str]], recordings: Sequence[Recordings]) -> dict[str, dict[str, str]]:
    """For each question of a judge which captions answer it, and how.

    A caption answers by itself (the question "caption"); by the manifest's field of the question's name, or else any
    field, where all its clips agree on one known answer; else by its words, where they hold exactly one known answer.
    """
    found: dict[str, dict[str, str]] = {}
    for question, answers in labels.items():
        known = {normalise(answer): answer for answer in answers}
        found[question] = {}
        for some in recordings:
            for caption, rows in by_caption(some.captions).items():
                answer = _answer(question, caption, [some.fields[row] for row in rows], known)
                if answer is not None:
                    found[question].setdefault(caption, answer)
    return {question: answered for question, answered in found.items() if answered}


def _answer(
    question: str, caption: str, fields: Sequence[Mapping[str, object]], known: Mapping[str, str]
) -> str | None:
    if caption in known:
        return known[caption]
    if question == CAPTION:
        return None
    held = [_held(row, question) & set(known) for row in fields]
    if all(one == held[0] for one in held) and len(held[0]) == 1:
        return known[held[0].pop()]
    said = [answer for answer in known if f" {answer} " in f" {caption} "]
    longest = [one for one in said if not any(one != other and f" {one} " in f" {other} " for other in said)]
    return known[longest[0]] if len(longest) == 1 else None


def _held(row: Mapping[str, object], question: str) -> set[str]:
    """What the fields hold: the one named as the question, or else all."""
    values = [row[question]] if question in row else list(row.values())
    return {" ".join(text.lower().split()) for text in map(_text, values) if text}


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and str(value).strip() and not isinstance(value, bool) else None


def tried(
    classifier: Classifier, recordings: Recordings, truth: Mapping[str, Mapping[str, str]]
) -> dict[str, Accuracy]:
    """How much of `recordings` the judge hears as meant, for each question that some of them answer: by a field of the
    question's name, else by what their caption answers in `truth` (see `truths`)."""
    meant = {
        question: [
            _own(question, fields, answers) or truth.get(question, {}).get(caption)
            for caption, fields in zip(recordings.captions, recordings.fields, strict=True)
        ]
        for question, answers in classifier.config.labels.items()
    }
    rows = [row for row in range(len(recordings)) if any(column[row] is not None for column in meant.values())]
    heard = classifier.classifier([recordings.sounds[row] for row in rows])
    found = {}
    for question, column in meant.items():
        pairs = [(got, column[row]) for row, got in zip(rows, heard[question], strict=True)]
        known = [(got, want) for got, want in pairs if want is not None]
        if known:
            found[question] = accuracy([got for got, _ in known], [want for _, want in known])
    return found


def _own(question: str, fields: Mapping[str, object], answers: Sequence[str]) -> str | None:
    said = _text(fields.get(question)) if question != CAPTION else None
    return said if said in answers else None


def sources_of(folder: str) -> Sources:
    """A folder on its own. Raises Error as `read_packs`."""
    return read_packs((whole_folder(folder),), None, role=AUDIO.name)
