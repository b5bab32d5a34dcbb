"""What a run's numbers come to in words: synthetic histories and evaluations, and the sentences about each."""

import json
import math

import pytest

from cymatic.evaluation.accuracy import Accuracy
from cymatic.evaluation.evaluate import MADE, REAL, Evaluation, Trial
from cymatic.evaluation.intervals import Estimate, share
from cymatic.evaluation.likelihood import CaptionSensitivity
from cymatic.evaluation.neighbours import Neighbours
from cymatic.evaluation.verdict import Curve, Run, course, sentences, suggestions
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


def about(of=LEARNING, **more):
    given = {"clips": 90, "held_out": 10, "captions": 3, "middle": 30, "rates": (1e-3, 0.02), **more}
    return Run(curve=of, **{"most": False, "words": 0, "clips_of": {}, **given})


def found(real=None, made=None, question="caption", **more):
    accuracy = {what: {question: one} for what, one in ((REAL, real), (MADE, made)) if one is not None}
    return Evaluation({}, None, 0, 0, accuracy=accuracy, **more)


def near(made, diversity=None):
    """Made clips so far from training clips, where real ones have a distance of 1."""
    fields = {"neighbours": {"mel": Neighbours(made, 1.0, estimate(made, 40), share(0, 40), "20 clips held out")}}
    return fields if diversity is None else {**fields, "diversity": {"mel": estimate(diversity, 40)}}


def estimate(value, n):
    return Estimate(value, value, value, n)


NOTHING = found()


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
    assert sentences(about(of), NOTHING)[0].startswith(begin)
    tips = suggestions(about(of), NOTHING)
    assert any(advice in one for one in tips) if advice else tips == []


def test_an_overfit_names_the_step_that_is_kept_and_both_losses():
    (line, *_) = sentences(about(OVERFIT), NOTHING)
    assert "at step 400 of 2,000, whose weights are kept" in line and "the loss in training went on from" in line
    assert "--steps 440" in suggestions(about(OVERFIT), NOTHING)[0]


def test_a_few_steps_say_little():
    few = Curve(6, 2.0, 4.0, [(3, 4.2), (6, 6.6)], [(6, 3.9)])
    lines = sentences(about(few), found(caption_sensitivity=CaptionSensitivity(3.0, 3.0, 32)))
    assert lines[0] == "It has hardly begun: the loss held out was 4.00 at first and 3.90 after 6 steps."
    assert lines[-1] == "Try: --minutes 15, since 6 steps teach little."


def test_no_history_no_sentence():
    assert sentences(about(Curve(10, 1.0, None, [], [])), NOTHING) == []


def test_a_short_run_is_advised_in_steps():
    short = Curve(300, 20.0, 4.0, LEARNING.train, [(30, 3.0), (200, 1.0), (300, 0.8)])
    assert "--steps 600 (twice as long)" in suggestions(about(short), NOTHING)
    assert "--steps 4000 (twice as long)" in suggestions(about(LEARNING, most=True), NOTHING), (
        "minutes would change nothing"
    )


def test_a_model_that_went_on_from_another_falls_little():
    """Losses of a starter that learned other words, which would be called flat or worse of a new model."""
    train = [(100 * i, 0.2 - 0.01 * i) for i in range(1, 21)]
    valid = [(30, 0.17), *((200 * i, 0.21 - 0.005 * i) for i in range(1, 11))]
    went = Curve(STEPS, 900.0, 0.21, train, valid, further=True)
    assert course(went).kind == "learned"
    assert sentences(about(went), NOTHING)[0].startswith("It has learned: the loss held out fell from 0.21 to 0.16")
    risen = Curve(STEPS, 900.0, 0.21, train, [(step, 0.17 + step / 20_000) for step, _ in valid], further=True)
    assert course(risen).kind == "overfits"
    apart = Curve(STEPS, 900.0, 0.21, [(step, 0.1 + step / 5_000) for step, _ in train], valid, further=True)
    assert course(apart).kind == "diverged"


def accuracy(right, chance, clips, each, confusions=()):
    return Accuracy(Estimate(right, right, right, clips), chance, each, confusions)


HEARD = accuracy(0.93, 0.4, 30, {name: (9, 10) for name in ("dog", "door", "bell")})
PLAYED = accuracy(
    0.62, 0.4, 24, {"dog": (1, 8), "door": (7, 8), "bell": (7, 8)}, (("dog", "door", 6), ("dog", "bell", 1))
)
CLIPS_OF = {"dog": 4, "door": 40, "bell": 46}


def test_it_accuses_what_fails_and_says_what_it_was_taken_for():
    lines = sentences(about(clips_of=CLIPS_OF), found(HEARD, PLAYED))
    assert "tells 3 captions apart, is right about 93 % of 30 real clips (held out; guessing gives 40 %)" in lines[1]
    assert "about 62 % of 24 made ones" in lines[1]
    assert lines[2] == 'It fails at "dog" (1 of 8, taken for "door").'
    assert 'more clips of "dog" (4), since the middle caption has 40' in lines[-1]


def test_a_probe_that_fails_on_real_clips_blames_nothing():
    blind = accuracy(0.5, 0.4, 30, HEARD.each)
    lines = sentences(about(clips_of=CLIPS_OF), found(blind, PLAYED))
    assert not any("fails at" in line for line in lines)
    assert "can't say which captions fail: it is right about only 50 %" in lines[1]
    for weak in (accuracy(0.95, 0.9, 30, {}), accuracy(1.0, 0.4, 5, {})):  # guessing does as well; five are no proof
        assert "can't say which captions fail: it is right about" in sentences(about(), found(weak, PLAYED))[1]


def test_words_are_named_as_words():
    lines = sentences(
        about(captions=1492, words=251, clips_of={"flute": 5, "oboe": 20, "horn": 30}),
        found(
            accuracy(0.76, 0.2, 391, {"flute": (9, 10)}),
            accuracy(0.7, 0.2, 48, {"flute": (1, 5)}, (("flute", "oboe", 4),)),
            question="word",
        ),
    )
    assert "looks for 251 words, since there are 1,492 captions, is right about 76 % of the words of 391" in lines[1]
    assert lines[2] == 'It fails at "flute" (1 of 5, taken for "oboe").'
    assert "since the middle word has 20" in lines[-1]


def test_made_clips_at_chance_are_not_called_learned_captions():
    guessed = accuracy(0.5, 0.4, 24, PLAYED.each)
    assert "but not yet to say its captions" in sentences(about(RESTING), found(HEARD, guessed))[0]


def test_where_there_is_no_probe_it_says_why():
    lines = sentences(about(), found(missing={"accuracy": "all 9 clips have one caption"}))
    assert "It has no probe: all 9 clips have one caption." in lines


@pytest.mark.parametrize(
    ("made", "begin"),
    [(0.1, "It copies"), (0.7, "It stays close"), (1.0, "It makes clips of its own"), (3.0, "It is unlike")],
)
def test_memory_in_words(made, begin):
    (line,) = (one for one in sentences(about(), found(**near(made))) if begin in one)
    assert f"40 made clips lie {made:.2f} times as far from the nearest training clip as 20 clips held out do" in line


def test_copies_and_sameness_are_advised_on():
    lines = sentences(about(RESTING), found(**near(0.1, 0.05)))
    assert "differ 0.05 times as much as real ones" in lines[1]
    assert lines[-1] == "Try: more clips for each caption (the middle one has 30)."


def test_real_clips_that_are_copies_of_each_other_tell_nothing_of_memory():
    alike = {"mel": Neighbours(0.02, 0.005, estimate(4.0, 40), share(0, 40), "20 clips held out")}
    assert len(sentences(about(RESTING), found(neighbours=alike))) == 1


@pytest.mark.parametrize(("wrong", "count"), [(0.41, "hardly count"), (0.8, "The captions count")])
def test_captions_that_count(wrong, count):
    lines = sentences(about(RESTING), found(caption_sensitivity=CaptionSensitivity(0.405, wrong, 32)))
    assert count in lines[1]
    assert (len(lines) == 3 and "captions that say more" in lines[2]) == (count == "hardly count")


def test_guidance_is_advised_where_it_was_tried_and_helped():
    helped = suggestions(about(), found(HEARD, PLAYED, trial=Trial(2.0, 4.0, 5, 7)))
    assert any("--guidance 4 instead of 2 (of 7 clips that failed, 5" in one for one in helped)
    hardly = suggestions(about(), found(HEARD, PLAYED, trial=Trial(2.0, 4.0, 1, 7)))
    assert not any("guidance" in one for one in hardly)


def test_it_stays_short_and_every_sentence_has_a_number():
    everything = found(
        HEARD, PLAYED, caption_sensitivity=CaptionSensitivity(0.4, 0.401, 32), trial=Trial(2.0, 4.0, 5, 7),
        **near(0.1, 0.05),
    )  # fmt: skip
    run = about(OVERFIT, clips_of=CLIPS_OF)
    lines = sentences(run, everything)
    assert 5 <= len(lines) <= 8
    assert all(any(character.isdigit() for character in line) for line in lines)
    assert len(suggestions(run, everything)) == 3


def test_a_long_history_stays_small_and_keeps_its_mean():
    history = History()
    for step in range(1, 10_001):
        history.add(Report(step, 10_000, {"loss": float(step)}, 0.0))
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
