"""What a finished run comes to, in words: numbers in, sentences out. Every sentence has its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cymatic.evaluation.accuracy import ABOVE_CHANCE, ENOUGH, STRONG
from cymatic.evaluation.probe import Heard

FEW = 100  # steps after which a curve begins to say something
HARDLY = 1 / 3  # a loss that fell by less than this share says that hardly more than loudness by band was learned
RISEN = 0.05  # of the whole fall: a rise that is no noise
RESTING = 0.005  # of the whole fall, held out over the last quarter of the steps: below it nothing happens any more
RESTING_TRAIN = 0.03  # the same for the loss in training, which is noisier
LATE = 0.8  # of the steps: a best after this is the end
FAILS = 0.5  # share of made clips heard rightly at which a caption fails, with two misses at least
NAMED = 4
USUAL_MINUTES = 15
COPIES, NEAR, FAR = 0.5, 0.8, 2.0  # of the usual distance to the nearest training clip
ALIKE = 0.3  # of the training clips' spread
HEED = 0.02  # rise of the loss under wrong captions below which captions hardly count


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
class Heed:
    """The loss with the right and with wrong captions, over `clips` clips."""

    right: float
    wrong: float
    clips: int


@dataclass(frozen=True)
class Memory:
    """Middle distances to the nearest training clip, of made clips and of real ones (`usual`; `of` says which).

    diversity: how far made clips of one caption differ, over how far training clips do; None where it can't be said.
    """

    made: float
    usual: float
    of: str
    clips: int
    diversity: float | None


@dataclass(frozen=True)
class Trial:
    """Clips that failed, made again with a stronger guidance: how many of `clips` were then heard rightly."""

    before: float
    guidance: float
    right: int
    clips: int


@dataclass(frozen=True)
class Numbers:
    """All that a verdict rests on.

    clips, captions: what it was trained on; middle: how many clips the middle caption has; rates: of the recipe's two
    optimisers. real: what the judge hears of real clips, and how they were kept from it; no_judge: why there is none;
    words: that it knows; clips_of: training clips of each caption or word that it was tried on. most: whether it ended
    because its plan allowed no more steps.
    """

    curve: Curve
    clips: int
    held_out: int
    captions: int
    middle: int
    rates: tuple[float, float]
    no_judge: str | None = None
    words: int = 0
    real: Heard | None = None
    how: str = "held out"
    clips_of: dict[str, int] = field(default_factory=dict)
    made: Heard | None = None
    heed: Heed | None = None
    memory: Memory | None = None
    most: bool = False
    trial: Trial | None = None


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


def weak(real: Heard) -> bool:
    """Whether a judge that hears so much of real clips can't be believed about made ones."""
    return real.clips < ENOUGH or real.right < STRONG or real.right < real.chance + ABOVE_CHANCE


def failing(real: Heard, made: Heard) -> list[str]:
    """The captions or words that fail, worst first: those only that the judge hears rightly in real clips."""
    unheard = {one for one, tally in real.each.items() if tally.right < STRONG * tally.clips}
    fails = [
        one
        for one, tally in made.each.items()
        if tally.right <= FAILS * tally.clips and tally.clips - tally.right >= 2 and one not in unheard
    ]
    return sorted(fails, key=lambda one: (made.each[one].right / made.each[one].clips, -made.each[one].clips, one))


def sentences(numbers: Numbers) -> list[str]:
    """The verdict, five to eight lines at most."""
    lines = [*_learning(numbers), *_judging(numbers)]
    if numbers.heed is not None:
        lines.append(_heeding(numbers.heed))
    if numbers.memory is not None:
        lines.append(_remembering(numbers.memory))
    if advice := suggestions(numbers):
        lines.append(f"Try: {'; '.join(advice)}.")
    return lines


def _learning(numbers: Numbers) -> list[str]:
    curve, went = numbers.curve, course(numbers.curve)
    if went is None:
        return []
    what = "the loss held out" if went.held_out else "the loss in training (0 clips are held out)"
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
    learned = "It has learned, but not yet to say its captions" if _untold(numbers) else "It has learned"
    if went.late is None:
        return [f"{learned}: {fell} in {curve.steps:,} steps."]
    share = f"{percent(max(went.late, 0), 1)} of it in the last quarter of the steps"
    if _still_falling(went):
        return [f"{learned}: {fell} and was still falling at the end ({share})."]
    return [f"{learned}: {fell} and had come to rest at the end ({share})."]


def _untold(numbers: Numbers) -> bool:
    """Whether a judge that can be believed hears made clips hardly better than by guessing."""
    real, made = numbers.real, numbers.made
    return real is not None and made is not None and not weak(real) and made.right < made.chance + ABOVE_CHANCE


def _still_falling(went: Course) -> bool:
    return went.late is not None and went.late > (RESTING if went.held_out else RESTING_TRAIN)


def _judging(numbers: Numbers) -> list[str]:
    real, made = numbers.real, numbers.made
    if real is None:
        return [f"It has no judge of its own: {numbers.no_judge}."] if numbers.no_judge else []
    of = "" if real.unit == "captions" else "the words of "
    if real.unit == "captions":
        classifier = f"Its own judge, which tells {numbers.captions} captions apart,"
    else:
        classifier = (
            f"Its own judge, which listens for {numbers.words} words, since there are {numbers.captions:,} captions,"
        )
    guessing = f"{numbers.how}; guessing gives {percent(real.chance)}"
    right = f"{percent(real.right)} of {of}{real.clips} real clips rightly ({guessing})"
    if weak(real):
        few = "only " if real.right < STRONG else ""
        return [f"{classifier} can't say which captions fail: it hears {few}{right}."]
    if made is None:
        return [f"{classifier} hears {right}."]
    lines = [f"{classifier} hears {right}, and {percent(made.right)} of {of}{made.clips} made ones."]
    if fails := failing(real, made):
        named = ", ".join(_failure(one, made) for one in fails[:NAMED])
        more = f" and {len(fails) - NAMED} more" if len(fails) > NAMED else ""
        lines.append(f"It fails at {named}{more}.")
    else:
        lines.append(f"None of the {len(made.each)} {made.unit} it was tried on fails.")
    return lines


def _failure(one: str, made: Heard) -> str:
    tally = made.each[one]
    heard = f', heard as "{tally.instead}"' if tally.instead else ""
    return f'"{one}" ({tally.right} of {tally.clips}{heard})'


def _heeding(heed: Heed) -> str:
    rise = heed.wrong / heed.right - 1
    count = "count" if rise >= HEED else "hardly count"
    change = f"{percent(abs(rise))} {'more' if rise >= 0 else 'less'}"
    losses = f"the loss of {heed.clips} clips is {heed.wrong:.2f} instead of {heed.right:.2f} ({change})"
    return f"The captions {count}: with wrong ones {losses}."


def _remembering(memory: Memory) -> str:
    ratio = memory.made / memory.usual
    numbers = f"{memory.clips} made clips lie {ratio:.2f} times as far from the nearest training clip as {memory.of} do"
    if ratio < COPIES:
        found = "It copies its training clips"
    elif ratio < NEAR:
        found = "It stays close to its training clips"
    elif ratio > FAR:
        found = "It sounds unlike any training clip"
    else:
        found = "It makes sounds of its own"
    alike = ""
    if memory.diversity is not None and memory.diversity < ALIKE:
        alike = f", and those of one caption differ {memory.diversity:.2f} times as much as real ones"
    return f"{found}: {numbers}{alike}."


def suggestions(numbers: Numbers) -> list[str]:
    """What to try, most helpful first; three at most, each because of a number."""
    advice: list[str] = []
    curve, went = numbers.curve, course(numbers.curve)
    clips = numbers.clips
    if went is not None:
        if went.kind == "diverged":
            slow, fast = (f"{rate / 3:.2g}" for rate in numbers.rates)
            advice.append(f"--set training.learning_rate={slow} --set training.matrix_rate={fast} (a third)")
        elif went.kind == "overfits":
            steps = round(went.best_step * 1.1)
            advice.append(f"more clips than the {clips:,} there are, or --steps {steps} and the same in less time")
        elif went.kind == "short":
            advice.append(f"--minutes {USUAL_MINUTES}, since {curve.steps} steps teach little")
        elif went.kind == "flat" or _still_falling(went) or _untold(numbers):
            twice = 2 * curve.seconds / 60
            # Minutes give no more steps than were planned at most.
            longer = f"--minutes {twice:.0f}" if twice >= 2 and not numbers.most else f"--steps {2 * curve.steps}"
            advice.append(f"{longer} (twice as long)")
    if numbers.real is not None and numbers.made is not None and not weak(numbers.real):
        if scarce := _scarce(numbers, failing(numbers.real, numbers.made)):
            advice.append(f"more clips of {scarce}")
        if (trial := numbers.trial) is not None and trial.right >= max(2, trial.clips / 4):
            advice.append(
                f"--guidance {trial.guidance:g} instead of {trial.before:g} (of {trial.clips} clips that failed, "
                f"{trial.right} were heard rightly)"
            )
    begun = went is None or went.kind in ("learned", "overfits")
    if begun and numbers.heed is not None and numbers.heed.wrong / numbers.heed.right - 1 < HEED:
        advice.append(f"captions that say more of what is heard ({numbers.captions:,} for {clips:,} clips)")
    if numbers.memory is not None and numbers.memory.made / numbers.memory.usual < COPIES:
        if went is None or went.kind != "overfits":
            advice.append(f"more clips for each caption (the middle one has {numbers.middle})")
    if numbers.held_out == 0:
        advice.append(f"more clips than {clips:,}, so that a tenth can be held out")
    return advice[:3]


def _scarce(numbers: Numbers, fails: Sequence[str]) -> str:
    """Those that fail and have fewer clips than the middle one has."""
    counts = sorted(numbers.clips_of.values())
    usual = counts[len(counts) // 2] if counts else 0
    rare = [(one, numbers.clips_of[one]) for one in fails if numbers.clips_of.get(one, usual) < usual]
    named = ", ".join(f'"{one}" ({count})' for one, count in rare[:NAMED])
    return f"{named}, since the middle {_one_of(numbers)} has {usual}" if named else ""


def _one_of(numbers: Numbers) -> str:
    return "word" if numbers.real is not None and numbers.real.unit == "words" else "caption"


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"
