"""What a run's numbers come to in words: synthetic histories and judges, and what is said of each."""

import json
import math

import pytest

from cymatic.evaluation.probe import Heard, Tally
from cymatic.evaluation.verdict import (
    Curve,
    Heed,
    Memory,
    Numbers,
    Trial,
    course,
    failing,
    sentences,
    suggestions,
    weak,
)
from cymatic.training.history import MOST, History
from cymatic.training.loop import Report

STEPS = 2000


def curve(train, valid=None, start=4.0, seconds=900.0):
    """Losses as functions of the share of the run that is over."""
    history = History()
    for step in range(1, STEPS + 1):
        share = step / STEPS
        noise = 0.02 * math.sin(7 * step)
        held_out = {"loss": valid(share)} if valid and (step == 30 or step % 200 == 0) else None
        history.add(Report(step, STEPS, {"loss": train(share) + noise}, 0.0, held_out))
    return Curve(STEPS, seconds, start, history.curve(), history.valid)


def falling(share):
    return 0.3 + 2 * 0.01**share


LEARNING = curve(falling, lambda share: falling(share) + 0.1)
RESTING = curve(lambda share: 0.3 + 2 * 1e-9**share, lambda share: 0.4 + 2 * 1e-9**share)
FLAT = curve(lambda share: 3.5 - 0.2 * share, lambda share: 3.6 - 0.2 * share)
OVERFIT = curve(lambda share: 0.1 + 2 * 0.01**share, lambda share: 0.4 + 10 * max(0.2 - share, 0) + max(share - 0.2, 0))
DIVERGING = curve(lambda share: 0.5 + 3 * max(share - 0.5, 0), lambda share: 0.6 + 3 * max(share - 0.5, 0))
UNSEEN = curve(lambda share: 2.5 - 1.5 * share)


def numbers(of=LEARNING, **more):
    given = {"clips": 90, "held_out": 10, "captions": 3, "middle": 30, "rates": (1e-3, 0.02), **more}
    return Numbers(curve=of, **given)


@pytest.mark.parametrize(
    ("of", "kind", "begin", "advice"),
    [
        (LEARNING, "learned", "It has learned: the loss held out fell from 4.00 to 0.42 and was still", "--minutes 30"),
        (RESTING, "learned", "It has learned: the loss held out fell from 4.00 to 0.40 and had come to rest", None),
        (
            FLAT,
            "flat",
            "It has hardly learned: the loss held out went from 4.00 to 3.40 in 2,000 steps",
            "--minutes 30",
        ),
        (
            OVERFIT,
            "overfits",
            "It overfits: the loss held out fell from 4.00 and was best (0.40) at step",
            "more clips",
        ),
        (DIVERGING, "diverged", "It came apart: the loss in training was 0.50", "learning_rate=0.00033"),
        (UNSEEN, "learned", "It has learned: the loss in training (0 clips are held out) fell", "--minutes 30"),
    ],
)
def test_a_history_in_words(of, kind, begin, advice):
    assert course(of).kind == kind
    assert sentences(numbers(of))[0].startswith(begin)
    found = suggestions(numbers(of))
    assert any(advice in one for one in found) if advice else found == []


def test_an_overfit_names_the_step_that_is_kept_and_both_losses():
    (line, *_) = sentences(numbers(OVERFIT))
    assert "at step 400 of 2,000, whose weights are kept" in line and "the loss in training went on from" in line
    assert "--steps 440" in suggestions(numbers(OVERFIT))[0]


def test_a_few_steps_say_little():
    few = Curve(6, 2.0, 4.0, [(3, 4.2), (6, 6.6)], [(6, 3.9)])
    lines = sentences(numbers(few, heed=Heed(3.0, 3.0, 32)))
    assert lines[0] == "It has hardly begun: the loss held out was 4.00 at first and 3.90 after 6 steps."
    assert lines[-1] == "Try: --minutes 15, since 6 steps teach little."


def test_no_history_no_sentence():
    assert sentences(numbers(Curve(10, 1.0, None, [], []))) == []


def test_a_short_run_is_advised_in_steps():
    short = Curve(300, 20.0, 4.0, LEARNING.train, [(30, 3.0), (200, 1.0), (300, 0.8)])
    assert "--steps 600 (twice as long)" in suggestions(numbers(short))
    assert "--steps 4000 (twice as long)" in suggestions(numbers(LEARNING, most=True)), "minutes would change nothing"


def test_a_model_that_went_on_from_another_falls_little():
    """Losses of a starter that learned other words, which would be called flat or worse of a new model."""
    train = [(100 * i, 0.2 - 0.01 * i) for i in range(1, 21)]
    valid = [(30, 0.17), *((200 * i, 0.21 - 0.005 * i) for i in range(1, 11))]
    went = Curve(STEPS, 900.0, 0.21, train, valid, further=True)
    assert course(went).kind == "learned"
    assert sentences(numbers(went))[0].startswith("It has learned: the loss held out fell from 0.21 to 0.16")
    risen = Curve(STEPS, 900.0, 0.21, train, [(step, 0.17 + step / 20_000) for step, _ in valid], further=True)
    assert course(risen).kind == "overfits"
    apart = Curve(STEPS, 900.0, 0.21, [(step, 0.1 + step / 5_000) for step, _ in train], valid, further=True)
    assert course(apart).kind == "diverged"


REAL = Heard("captions", 0.93, 0.4, 30, {name: Tally(9, 10, "door") for name in ("dog", "door", "bell")})
MADE = Heard(
    "captions", 0.62, 0.4, 24, {"dog": Tally(1, 8, "door"), "door": Tally(7, 8, None), "bell": Tally(7, 8, None)}
)
CLIPS_OF = {"dog": 4, "door": 40, "bell": 46}


def test_it_accuses_what_fails_and_says_as_what_it_was_heard():
    given = numbers(real=REAL, made=MADE, clips_of=CLIPS_OF)
    lines = sentences(given)
    assert "tells 3 captions apart, hears 93 % of 30 real clips rightly (held out; guessing gives 40 %)" in lines[1]
    assert "62 % of 24 made ones" in lines[1]
    assert lines[2] == 'It fails at "dog" (1 of 8, heard as "door").'
    assert 'more clips of "dog" (4), since the middle caption has 40' in lines[-1]


def test_a_judge_that_can_t_hear_real_clips_blames_nothing():
    blind = Heard("captions", 0.5, 0.4, 30, REAL.each)
    lines = sentences(numbers(real=blind, made=MADE, clips_of=CLIPS_OF))
    assert weak(blind) and not any("fails at" in line for line in lines)
    assert "can't say which captions fail: it hears only 50 %" in lines[1]
    assert weak(Heard("captions", 0.95, 0.9, 30, {})), "guessing does as well"
    assert weak(Heard("captions", 1.0, 0.4, 5, {})), "five clips are no proof"


def test_a_caption_that_the_judge_mishears_in_real_clips_is_not_blamed():
    deaf = Heard("captions", 0.8, 0.4, 30, {**REAL.each, "dog": Tally(2, 10, "door")})
    assert failing(REAL, MADE) == ["dog"] and failing(deaf, MADE) == []


def test_one_miss_is_no_failure():
    assert failing(REAL, Heard("captions", 0.5, 0.5, 2, {"dog": Tally(1, 2, "door")})) == []


def test_words_are_named_as_words():
    lines = sentences(
        numbers(
            captions=1492,
            words=251,
            real=Heard("words", 0.76, 0.2, 391, {"flute": Tally(9, 10, None)}),
            made=Heard("words", 0.7, 0.2, 48, {"flute": Tally(1, 5, "oboe")}),
            clips_of={"flute": 5, "oboe": 20, "horn": 30},
        )
    )
    assert (
        "listens for 251 words, since there are 1,492 captions, hears 76 % of the words of 391 real clips" in lines[1]
    )
    assert lines[2] == 'It fails at "flute" (1 of 5, heard as "oboe").'
    assert "since the middle word has 20" in lines[-1]


def test_made_clips_at_chance_are_not_called_learned_captions():
    guessed = Heard("captions", 0.5, 0.4, 24, MADE.each)
    assert "but not yet to say its captions" in sentences(numbers(RESTING, real=REAL, made=guessed))[0]


@pytest.mark.parametrize(
    ("made", "said"),
    [(0.1, "It copies"), (0.7, "It stays close"), (1.0, "It makes sounds of its own"), (3.0, "It sounds unlike")],
)
def test_memory_in_words(made, said):
    (line,) = (
        one for one in sentences(numbers(memory=Memory(made, 1.0, "20 clips held out", 40, None))) if said in one
    )
    assert f"{made:.2f} times as far" in line


def test_copies_and_sameness_are_advised_on():
    lines = sentences(numbers(RESTING, memory=Memory(0.1, 1.0, "20 clips held out", 40, 0.05)))
    assert "differ 0.05 times as much as real ones" in lines[1]
    assert lines[-1] == "Try: more clips for each caption (the middle one has 30)."


@pytest.mark.parametrize(("wrong", "said"), [(0.41, "hardly count"), (0.8, "The captions count")])
def test_captions_that_count(wrong, said):
    lines = sentences(numbers(RESTING, heed=Heed(0.405, wrong, 32)))
    assert said in lines[1]
    assert (len(lines) == 3 and "captions that say more" in lines[2]) == (said == "hardly count")


def test_guidance_is_advised_where_it_was_tried_and_helped():
    helped = numbers(real=REAL, made=MADE, trial=Trial(2.0, 4.0, 5, 7))
    assert any("--guidance 4 instead of 2 (of 7 clips that failed, 5" in one for one in suggestions(helped))
    assert not any("guidance" in one for one in suggestions(numbers(real=REAL, made=MADE, trial=Trial(2.0, 4.0, 1, 7))))


def test_it_stays_short_and_every_sentence_has_a_number():
    everything = numbers(
        OVERFIT, real=REAL, made=MADE, clips_of=CLIPS_OF, heed=Heed(0.4, 0.401, 32), trial=Trial(2.0, 4.0, 5, 7),
        memory=Memory(0.1, 1.0, "20 clips held out", 40, 0.05),
    )  # fmt: skip
    lines = sentences(everything)
    assert 5 <= len(lines) <= 8
    assert all(any(character.isdigit() for character in line) for line in lines)
    assert len(suggestions(everything)) == 3


def test_a_long_history_stays_small_and_keeps_its_mean():
    history = History()
    for step in range(1, 10_001):
        history.add(Report(step, None, {"loss": float(step)}, 0.0))
    assert len(history.train) <= MOST and history.start == [1.0, 2.0, 3.0]
    assert history.between(1, 10_000) == pytest.approx(5000.5)
    assert [step for step, _ in history.curve()][-1] == 10_000


def test_a_resumed_history_goes_on_from_its_checkpoint(tmp_path):
    history = History()
    for step in range(1, 9):
        history.add(Report(step, 20, {"loss": 1.0}, 0.0, {"loss": 2.0} if step % 2 == 0 else None))
    history.keep(tmp_path)
    resumed = History.of_run(tmp_path)
    assert resumed == history
    resumed.add(Report(5, 20, {"loss": 7.0}, 0.0))
    assert resumed.train[-2:] == [(4, 1.0, 1), (5, 7.0, 1)] and resumed.valid == [(2, 2.0), (4, 2.0)]
    (tmp_path / "history.json").write_text(json.dumps({"start": 3}))
    assert History.of_run(tmp_path) == History()
