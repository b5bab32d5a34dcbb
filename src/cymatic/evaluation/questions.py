"""What classifiers and probes are asked, what clips should be answered as, and how much is answered rightly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from cymatic.config import nearest
from cymatic.encoders.text import normalise
from cymatic.errors import Error
from cymatic.evaluation.accuracy import Accuracy, Answer, accuracy
from cymatic.evaluation.captions import by_caption
from cymatic.evaluation.corpus import Clips

CAPTION = "caption"  # the question whose answers are whole captions
MOST_ANSWERS = 1000

Truth = Mapping[str, Mapping[str, Answer]]  # question -> caption -> answer


@runtime_checkable
class Recogniser(Protocol):
    """What says what a clip is: a `Classifier` or a `Probe`. It was fitted on real training clips, and is frozen."""

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """The labels that may be the answer to each question."""

    def answers(self, values: Sequence[Any]) -> dict[str, list[Answer]]:
        """The answer to each question for each value."""

    def embedding(self, values: Sequence[Any]) -> Float[np.ndarray, "values dim"]:
        """What the answers are read from, for distances between clips."""

    def truth(self, clips: Sequence[Clips]) -> Truth:
        """For each question which captions of `clips` answer it, and how."""

    def left_out(self) -> dict[str, Accuracy] | None:
        """How right it would be about each clip that it was fitted on, had that one been left out; None where only
        training anew could tell."""


@runtime_checkable
class Chances(Protocol):
    """A recogniser that says how likely each answer is."""

    def chances(self, values: Sequence[Any]) -> dict[str, Float[np.ndarray, "values answers"]]:
        """For each question a row for each value, whose sum is 1."""


def asked(clips: Clips, questions: Sequence[str]) -> dict[str, list[str | None]]:
    """For each question the answer of each clip: its caption, or what its manifest's field of that name holds.

    Raises Error for a question that is neither, or that has fewer than two answers.
    """
    found: dict[str, list[str | None]] = {}
    for question in dict.fromkeys(questions):
        if question == CAPTION:
            answers: list[str | None] = list(clips.captions)
        else:
            known = {CAPTION}.union(*clips.fields)
            if question not in known:
                raise Error(f'the clips have no field "{question}" to ask for; {nearest(question, known)}')
            answers = [_text(fields.get(question)) for fields in clips.fields]
        different = set(answers) - {None}
        if len(different) < 2:
            raise Error(
                f'the {len(answers)} clips to train on have {len(different)} different answers to "{question}", and a '
                "classifier tells two or more apart; ask another question or give a folder with more"
            )
        if len(different) > MOST_ANSWERS or len(different) > len(answers) / 2:
            raise Error(
                f'the {len(answers)} clips to train on have {len(different)} different answers to "{question}", too '
                "many to learn; ask for a field that several clips share, with --question"
            )
        found[question] = answers
    return found


def truths(labels: Mapping[str, Sequence[str]], clips: Sequence[Clips]) -> dict[str, dict[str, Answer]]:
    """For each question which captions answer it, and how.

    A caption answers by itself (the question "caption"); by the manifest's field of the question's name, or else any
    field, where all its clips agree on one known answer; else by its words, where they hold exactly one known answer.
    """
    found: dict[str, dict[str, Answer]] = {}
    for question, answers in labels.items():
        known = {normalise(answer): answer for answer in answers}
        found[question] = {}
        for some in clips:
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
    named = [answer for answer in known if f" {answer} " in f" {caption} "]
    longest = [one for one in named if not any(one != other and f" {one} " in f" {other} " for other in named)]
    return known[longest[0]] if len(longest) == 1 else None


def _held(row: Mapping[str, object], question: str) -> set[str]:
    """What the fields hold: the one named as the question, or else all."""
    values = [row[question]] if question in row else list(row.values())
    return {" ".join(text.lower().split()) for text in map(_text, values) if text}


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and str(value).strip() and not isinstance(value, bool) else None


def meant(labels: Mapping[str, Sequence[str]], clips: Clips, truth: Truth) -> dict[str, list[Answer | None]]:
    """What each clip should be answered as: by a field of the question's name, else by what its caption answers in
    `truth`; None where neither says."""
    return {
        question: [
            _own(question, fields, answers) or truth.get(question, {}).get(caption)
            for caption, fields in zip(clips.captions, clips.fields, strict=True)
        ]
        for question, answers in labels.items()
    }


def tried(recogniser: Recogniser, clips: Clips, truth: Truth) -> dict[str, Accuracy]:
    """How much of `clips` is answered as meant, for each question that some of them answer (see `meant`)."""
    wanted = meant(recogniser.labels, clips, truth)
    rows = [row for row in range(len(clips)) if any(column[row] is not None for column in wanted.values())]
    answered = recogniser.answers([clips.values[row] for row in rows])
    found = {}
    for question, column in wanted.items():
        pairs = [(got, column[row]) for row, got in zip(rows, answered[question], strict=True)]
        known = [(got, want) for got, want in pairs if want is not None]
        if known:
            found[question] = accuracy([got for got, _ in known], [want for _, want in known])
    return found


def _own(question: str, fields: Mapping[str, object], answers: Sequence[str]) -> str | None:
    own = _text(fields.get(question)) if question != CAPTION else None
    return own if own in answers else None
