"""What a finished run comes to, in words: numbers in, sentences out. Every sentence has its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cymatic.evaluation.accuracy import ABOVE_CHANCE, STRONG, Accuracy, failing
from cymatic.evaluation.evaluate import MADE, REAL, Evaluation
from cymatic.evaluation.likelihood import CaptionSensitivity
from cymatic.evaluation.neighbours import Neighbours
from cymatic.evaluation.questions import CAPTION

FEW = 100  # steps after which a curve begins to say something
HARDLY = 1 / 3  # a loss that fell by less than this share says that hardly more than loudness by band was learned
RISEN = 0.05  # of the whole fall: a rise that is no noise
RESTING = 0.005  # of the whole fall, held out over the last quarter of the steps: below it nothing happens any more
RESTING_TRAIN = 0.03  # the same for the loss in training, which is noisier
LATE = 0.8  # of the steps: a best after this is the end
NAMED = 4
USUAL_MINUTES = 15
COPIES, NEAR, FAR = 0.5, 0.8, 2.0  # of the usual distance to the nearest training clip
ALIKE = 0.3  # of the training clips' spread
SAME = 0.01  # nepers: real clips that lie nearer to each other than this are copies already
SENSITIVE = 0.02  # rise of the loss under wrong captions below which captions hardly count


@dataclass(frozen=True)
class Curve:
    """Losses as (step, loss): in training (smoothed) and held out; `start`: of the first steps, where known; `further`:
    whether the model went on from another, so that it knew much before; `kept`: the step whose weights are kept."""

    steps: int
    seconds: float
    start: float | None
    train: Sequence[tuple[int, float]]
    valid: Sequence[tuple[int, float]]
    further: bool = False
    kept: int | None = None


@dataclass(frozen=True)
class Run:
    """What a run knows of itself.

    clips, captions: what it was trained on; middle: how many clips the middle caption has; rates: of the recipe's two
    optimisers; most: whether it ended because its plan allowed no more steps. words: that a probe of it knows;
    clips_of: training clips of each caption or word that a probe was tried on. noun, nouns: what a clip and several are
    called.
    """

    curve: Curve
    clips: int
    held_out: int
    captions: int
    middle: int
    rates: tuple[float, float]
    most: bool
    words: int
    clips_of: Mapping[str, int]
    noun: str = "clip"
    nouns: str = "clips"


@dataclass(frozen=True)
class _Probed:
    """What a probe found in real and in made clips; `question`: whether it told captions or words."""

    question: str
    real: Accuracy
    made: Accuracy | None

    @property
    def fails(self) -> list[str]:
        """Nothing where it can't be believed."""
        return [] if self.real.weak or self.made is None else failing(self.real, self.made)

    @property
    def one(self) -> str:
        return "caption" if self.question == CAPTION else "word"


@dataclass(frozen=True)
class Course:
    """How a curve went. kind: `short`, `learned`, `flat`, `overfits`, `diverged`."""

    kind: str
    start: float
    end: float
    best: float
    best_step: int
    late: float | None  # share of the whole fall that came in the last quarter
    held_out: bool


def course(curve: Curve) -> Course | None:
    """What a curve shows; None where nothing was recorded."""
    if not curve.train:
        return None
    seen = curve.valid or curve.train
    start = curve.start if curve.start is not None else max(curve.train[0][1], seen[0][1])
    best_step, best = min(seen, key=lambda pair: pair[1])
    end = seen[-1][1]
    # A model that knew much before has little left to fall by, so what counts is small beside all that is left.
    fall = max(abs(start) if curve.further else start - best, 1e-9)
    lowest_train = min(loss for _, loss in curve.train)
    train_end = curve.train[-1][1]
    before = [loss for step, loss in seen if 0.4 * curve.steps <= step <= 0.76 * curve.steps]
    late = (before[-1] - end) / fall if before else None
    rose = end - best > RISEN * fall and best_step < LATE * curve.steps
    worst = train_end if curve.further else max(end, train_end)
    if curve.steps < FEW:
        kind = "short"
    elif worst > start or (rose and train_end - lowest_train > 4 * RISEN * fall):
        kind = "diverged"
    elif start - best < HARDLY * abs(start) and not curve.further:
        kind = "flat"
    elif rose and curve.valid:
        kind = "overfits"
    else:
        kind = "learned"
    return Course(kind, start, end, best, best_step, late, bool(curve.valid))


def sentences(run: Run, found: Evaluation) -> list[str]:
    """The verdict on a run that was evaluated, eight lines at most."""
    probed = _probed(found)
    lines = [*_learning(run, probed), *_probing(run, found, probed)]
    if found.caption_sensitivity is not None:
        lines.append(_sensing(run, found.caption_sensitivity))
    if (near := _near(found)) is not None:
        lines.append(_remembering(run, near, found))
    if advice := suggestions(run, found):
        lines.append(f"Try: {'; '.join(advice)}.")
    return lines


def _probed(found: Evaluation) -> _Probed | None:
    for question, real in found.accuracy.get(REAL, {}).items():
        return _Probed(question, real, found.accuracy.get(MADE, {}).get(question))
    return None


def _near(found: Evaluation) -> Neighbours | None:
    """How near made clips lie to training clips; None where real ones are copies of each other."""
    return next((near for near in found.neighbours.values() if near.real >= SAME), None)


def _learning(run: Run, probed: _Probed | None) -> list[str]:
    curve, went = run.curve, course(run.curve)
    if went is None:
        return []
    what = "the loss held out" if went.held_out else f"the loss in training (0 {run.nouns} are held out)"
    fell = f"{what} {'fell' if went.best < went.start else 'went'} from {went.start:.2f} to {went.best:.2f}"
    train_end = curve.train[-1][1]
    if went.kind == "diverged":
        low_step, low = min(curve.train, key=lambda pair: pair[1])
        return [
            f"It came apart: the loss in training was {low:.2f} at step {low_step:,} and {train_end:.2f} at the end; "
            f"what is kept is of {'the best' if went.held_out else 'the last'} step."
        ]
    if went.kind == "short":
        return [
            f"It has hardly begun: {what} was {went.start:.2f} at first and {went.end:.2f} after {curve.steps} steps."
        ]
    if went.kind == "flat":
        moved = f"went from {went.start:.2f} to {went.best:.2f}"
        return [f"It has hardly learned: {what} {moved} in {curve.steps:,} steps ({_minutes(curve.seconds)})."]
    if went.kind == "overfits":
        later = curve.kept is not None and curve.kept != went.best_step
        kept = f"and hardly higher at step {curve.kept:,}, which is kept" if later else "whose weights are kept"
        low = min((pair for pair in curve.train), key=lambda pair: abs(pair[0] - went.best_step))[1]
        return [
            f"It overfits: the loss held out fell from {went.start:.2f} and was best ({went.best:.2f}) at step "
            f"{went.best_step:,} of {curve.steps:,}, {kept}; at the end it was {went.end:.2f}, while "
            f"the loss in training went on from {low:.2f} to {train_end:.2f}."
        ]
    learned = "It has learned, but not yet to say its captions" if _untold(probed) else "It has learned"
    if went.late is None:
        return [f"{learned}: {fell} in {curve.steps:,} steps."]
    share = f"{percent(max(went.late, 0), 1)} of it in the last quarter of the steps"
    if _still_falling(went):
        return [f"{learned}: {fell} and was still falling at the end ({share})."]
    return [f"{learned}: {fell} and had come to rest at the end ({share})."]


def _untold(probed: _Probed | None) -> bool:
    """Whether a probe that can be believed finds in made clips hardly more than guessing would."""
    if probed is None or probed.made is None or probed.real.weak:
        return False
    return probed.made.right.value < probed.made.chance + ABOVE_CHANCE


def _still_falling(went: Course) -> bool:
    return went.late is not None and went.late > (RESTING if went.held_out else RESTING_TRAIN)


def _probing(run: Run, found: Evaluation, probed: _Probed | None) -> list[str]:
    if probed is None:
        why = found.missing.get("accuracy")
        return [f"It has no probe: {why}."] if why else []
    real, made = probed.real, probed.made
    of = "" if probed.question == CAPTION else "the words of "
    if probed.question == CAPTION:
        probe = f"A probe, which tells {run.captions} captions apart,"
    else:
        probe = f"A probe, which looks for {run.words} words, since there are {run.captions:,} captions,"
    guessing = f"{found.tried_on}; guessing gives {percent(real.chance)}"
    right = f"{percent(real.right.value)} of {of}{real.right.n} real {run.nouns} ({guessing})"
    if real.weak:
        few = "only " if real.right.value < STRONG else ""
        return [f"{probe} can't say which captions fail: it is right about {few}{right}."]
    if made is None:
        return [f"{probe} is right about {right}."]
    lines = [f"{probe} is right about {right}, and about {percent(made.right.value)} of {of}{made.right.n} made ones."]
    if fails := probed.fails:
        named = ", ".join(_failure(label, made) for label in fails[:NAMED])
        more = f" and {len(fails) - NAMED} more" if len(fails) > NAMED else ""
        lines.append(f"It fails at {named}{more}.")
    else:
        lines.append(f"None of the {len(made.each)} {probed.one}s it was tried on fails.")
    return lines


def _failure(label: str, made: Accuracy) -> str:
    right, clips = made.each[label]
    instead = made.instead(label)
    taken = f', taken for "{instead}"' if instead else ""
    return f'"{label}" ({right} of {clips}{taken})'


def _sensing(run: Run, sensitivity: CaptionSensitivity) -> str:
    rise = sensitivity.rise
    count = "count" if rise >= SENSITIVE else "hardly count"
    change = f"{percent(abs(rise))} {'more' if rise >= 0 else 'less'}"
    losses = f"{sensitivity.wrong:.2f} instead of {sensitivity.right:.2f} ({change})"
    return f"The captions {count}: with wrong ones the loss of {sensitivity.clips} {run.nouns} is {losses}."


def _remembering(run: Run, near: Neighbours, found: Evaluation) -> str:
    ratio = near.ratio.value
    times = f"{ratio:.2f} times as far from the nearest training {run.noun} as {near.of} do"
    numbers = f"{near.ratio.n} made {run.nouns} lie {times}"
    if ratio < COPIES:
        says = f"It copies its training {run.nouns}"
    elif ratio < NEAR:
        says = f"It stays close to its training {run.nouns}"
    elif ratio > FAR:
        says = f"It is unlike any training {run.noun}"
    else:
        says = f"It makes {run.nouns} of its own"
    alike = ""
    varied = next(iter(found.diversity.values()), None)
    if varied is not None and varied.value < ALIKE:
        alike = f", and those of one caption differ {varied.value:.2f} times as much as real ones"
    return f"{says}: {numbers}{alike}."


def suggestions(run: Run, found: Evaluation) -> list[str]:
    """What to try, most helpful first; three at most, each because of a number."""
    advice: list[str] = []
    curve, went, clips = run.curve, course(run.curve), run.clips
    probed, near = _probed(found), _near(found)
    if went is not None:
        if went.kind == "diverged":
            slow, fast = (f"{rate / 3:.2g}" for rate in run.rates)
            advice.append(f"--set training.learning_rate={slow} --set training.matrix_rate={fast} (a third)")
        elif went.kind == "overfits":
            steps = round(went.best_step * 1.1)
            advice.append(
                f"more {run.nouns} than the {clips:,} there are, or --steps {steps} and the same in less time"
            )
        elif went.kind == "short":
            advice.append(f"--minutes {USUAL_MINUTES}, since {curve.steps} steps teach little")
        elif went.kind == "flat" or _still_falling(went) or _untold(probed):
            twice = 2 * curve.seconds / 60
            # Minutes give no more steps than were planned at most.
            longer = f"--minutes {twice:.0f}" if twice >= 2 and not run.most else f"--steps {2 * curve.steps}"
            advice.append(f"{longer} (twice as long)")
    if probed is not None:
        if scarce := _scarce(run, probed):
            advice.append(f"more {run.nouns} of {scarce}")
        if (trial := found.trial) is not None and trial.right >= max(2, trial.clips / 4):
            advice.append(
                f"--guidance {trial.guidance:g} instead of {trial.before:g} (of {trial.clips} {run.nouns} that failed, "
                f"{trial.right} were then right)"
            )
    begun = went is None or went.kind in ("learned", "overfits")
    if begun and found.caption_sensitivity is not None and found.caption_sensitivity.rise < SENSITIVE:
        advice.append(f"captions that say more of what is there ({run.captions:,} for {clips:,} {run.nouns})")
    if near is not None and near.ratio.value < COPIES and (went is None or went.kind != "overfits"):
        advice.append(f"more {run.nouns} for each caption (the middle one has {run.middle})")
    if run.held_out == 0:
        advice.append(f"more {run.nouns} than {clips:,}, so that a tenth can be held out")
    return advice[:3]


def _scarce(run: Run, probed: _Probed) -> str:
    """Those that fail and have fewer clips than the middle one has."""
    counts = sorted(run.clips_of.values())
    usual = counts[len(counts) // 2] if counts else 0
    rare = [(label, run.clips_of[label]) for label in probed.fails if run.clips_of.get(label, usual) < usual]
    named = ", ".join(f'"{label}" ({count})' for label, count in rare[:NAMED])
    return f"{named}, since the middle {probed.one} has {usual}" if named else ""


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"
