"""The last thing a run does: it hears what it has become, and says so within a minute."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from cymatic.data.mels import Clip
from cymatic.errors import Error
from cymatic.evaluation.diversity import diversity
from cymatic.evaluation.probe import MOST_CLIPS, Heard, Probe, compared, normalised, outline, squares
from cymatic.evaluation.verdict import Curve, Memory, Numbers, Trial, failing, sentences, weak
from cymatic.files import write_atomically
from cymatic.training.data import Data
from cymatic.training.history import History
from cymatic.training.job import Job
from cymatic.training.makers import Maker, load_maker
from cymatic.training.recipe import CodecGPTRecipe, CodecRecipe, MelGPTRecipe, Recipe, VocoderRecipe
from cymatic.training.state import Progress

VERDICT_TEXT, VERDICT_JSON = "verdict.txt", "verdict.json"
SHARE, LEAST, MOST = 0.06, 10.0, 60.0  # of the training time; seconds
MADE, AGAIN = 48, 12  # clips made at most, and made again with more guidance
CAPTIONS = 16  # as many are tried three times or more each; of more captions, their words are tried
TIMES = 8  # that one caption is tried at most
TESTED = 300  # real clips judged at most
HELD_OUT = 10  # fewer real clips tell no distance, and no loss
TRIED = 20  # fewer held out don't try a judge: then the clips trained on do, each left out in turn
HEEDED = 32  # clips whose loss is taken with wrong captions
COMPARED = 100  # real clips whose nearest neighbours are looked up
SPREAD = 20  # training clips of a caption whose spread is looked at
SAME = 0.01  # nepers: clips nearer to each other than this are copies already
MANY = 30  # clips of different captions that tell how far clips lie from each other


def judge_run(
    run: Path,
    job: Job,
    progress: Progress,
    history: History,
    *,
    device: torch.device | str = "cpu",
    seconds: float | None = None,
    say: Callable[[str], None] = print,
) -> list[str]:
    """The verdict on the model in `run`, also written there as text and, with its numbers, as JSON; none on a vocoder,
    a waveform codec, or a prior over its codes.

    seconds: what it may take, by default 6 % of the training time, from 10 to 60. Whatever goes wrong, or an interrupt,
    is told to `say` in one line and gives no verdict: the model is saved already.
    """
    recipe, data = job.recipe, job.data
    if isinstance(recipe, VocoderRecipe | CodecRecipe | CodecGPTRecipe) or not isinstance(data, Data):
        return []
    try:
        for name in (VERDICT_TEXT, VERDICT_JSON):
            (run / name).unlink(missing_ok=True)
        if data.spec.normalisation != "natural-log":
            raise Error(f"its judge counts in nepers, so it hears natural-log mels, not {data.spec.normalisation} ones")
        budget = min(max(SHARE * progress.seconds, LEAST), MOST) if seconds is None else seconds
        say(f"trained; judging what it makes ({budget:.0f} s at most)")
        model = load_maker(run, recipe, device)
        began = time.monotonic()
        numbers = assess(model, data.train, data.valid, recipe, progress, history, began + budget)
        lines = sentences(numbers)
        values = {"format": 1, "seconds": round(time.monotonic() - began, 1), "verdict": lines, **asdict(numbers)}
        write_atomically(run / VERDICT_JSON, json.dumps(_plain(values), indent=2, ensure_ascii=False).encode())
        write_atomically(run / VERDICT_TEXT, ("\n".join(lines) + "\n").encode())
        return lines
    except (Exception, KeyboardInterrupt) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        say(f"note   there is no verdict ({why[:300]}); the model is trained and saved")
        return []


def assess(
    maker: Maker,
    train: Sequence[Clip],
    valid: Sequence[Clip],
    recipe: Recipe | MelGPTRecipe,
    progress: Progress,
    history: History,
    until: float,
) -> Numbers:
    """All that the verdict rests on, in about the time until `until` (of `time.monotonic`)."""
    train = list({id(clip): clip for clip in train}.values())  # a pack may repeat its clips
    spelt = _spellings(train)
    counts = {spelt[key]: n for key, n in Counter(normalised(clip.caption) for clip in train).items()}
    start = sum(history.start) / len(history.start) if history.start else None
    numbers = Numbers(
        curve=Curve(
            progress.step,
            progress.seconds,
            start,
            history.curve(),
            history.valid,
            further=isinstance(recipe, Recipe) and recipe.start is not None,
            kept=progress.best_step,
        ),
        clips=len(train),
        held_out=len(valid),
        captions=len(counts),
        middle=sorted(counts.values())[len(counts) // 2],
        rates=(recipe.training.learning_rate, recipe.training.matrix_rate),
        most=progress.step >= (recipe.training.most_steps or math.inf),
        heed=maker.heed(chosen(valid if len(valid) >= HELD_OUT else train, HEEDED)),
    )
    learned = chosen(train, MOST_CLIPS)
    try:
        judge = Probe(learned)
    except Error as error:
        made = _made(maker, _wanted(counts), until)
        return replace(numbers, no_judge=str(error), memory=memory(made, train, valid))
    unit = "captions" if len(counts) <= CAPTIONS else "words"
    if unit == "captions":
        clips_of, wanted = counts, _wanted(counts)
    else:
        clips_of = Counter(word for clip in train for word in judge.meaning(clip.caption))
        wanted = _wanted(caption for caption in counts if judge.meaning(caption))
    names = {judge.meaning(caption): caption for caption, _ in sorted(counts.items(), key=lambda pair: pair[1])}
    real, how = hear_real(judge, learned, valid, unit, names, spelt)
    made = _made(maker, wanted, until)
    heard = judge.hear([clip.mel for clip in made])
    found = compared([judge.meaning(clip.caption) for clip in made], heard, names, unit)
    numbers = replace(numbers, words=len(judge.words), real=real, how=how, made=found, clips_of=dict(clips_of))
    numbers = replace(numbers, memory=memory(made, train, valid))
    if not weak(real) and (fails := set(failing(real, found))):
        missed = [
            one
            for one, got in zip(wanted, heard, strict=False)
            if (want := judge.meaning(one[0])) != got and fails & ({names[want]} if unit == "captions" else want)
        ]
        numbers = replace(numbers, trial=_again(maker, judge, missed[:AGAIN], until))
    return numbers


def hear_real(
    judge: Probe,
    learned: Sequence[Clip],
    valid: Sequence[Clip],
    unit: str,
    names: dict[frozenset[str], str],
    spelt: dict[str, str],
) -> tuple[Heard, str]:
    """How well the judge hears real clips that it did not learn from, and which those were."""
    if unit == "captions":
        fit = [clip for clip in valid if normalised(clip.caption) in spelt]
    else:
        fit = [clip for clip in valid if judge.meaning(clip.caption)]
    if len(fit) >= TRIED:
        fit = chosen(fit, TESTED)
        judge.allow([clip.caption for clip in fit])
        for clip in fit:
            names.setdefault(judge.meaning(clip.caption), clip.caption)
        meant = [judge.meaning(clip.caption) for clip in fit]
        return compared(meant, judge.hear([clip.mel for clip in fit]), names, unit), "held out"
    pairs = list(zip(judge.meanings, judge.hear_own(), strict=True))
    pairs = [(want, got) for want, got in pairs if want or unit == "captions"]
    own = compared([want for want, _ in pairs], [got for _, got in pairs], names, unit)
    return own, "training clips, each left out in turn"


def memory(made: Sequence[Clip], train: Sequence[Clip], valid: Sequence[Clip]) -> Memory | None:
    """How near made clips lie to training clips of their caption, and how near real clips do.

    Where captions have one clip each, all training clips count as neighbours. None where nothing can be compared.
    """
    asked = {normalised(clip.caption) for clip in made}
    pool = chosen(train, MOST_CLIPS)
    there = {id(clip) for clip in pool}
    # Whatever a made clip may be a copy of has to be among them.
    pool += [clip for clip in train if normalised(clip.caption) in asked and id(clip) not in there][:MOST_CLIPS]
    keys = [normalised(clip.caption) for clip in pool]
    counts = Counter(keys)
    known = [clip for clip in valid if normalised(clip.caption) in counts]
    several = [i for i, key in enumerate(keys) if counts[key] > 1]
    whole = len(known) < HELD_OUT and len(several) < len(pool) / 2
    if whole:
        keys, known, several = [""] * len(pool), list(valid), list(range(len(pool)))
    if not made or not several or (whole and len(pool) < MANY):
        return None
    features = _outlines(pool)

    def middle(queries: Float[np.ndarray, "queries dim"], asked: Sequence[str], but: Sequence[int] | None) -> float:
        """The middle distance to the nearest of the same caption (`but` itself)."""
        far = squares(queries, features)
        far[np.array(asked)[:, None] != np.array(keys)] = np.inf
        if but is not None:
            far[np.arange(len(but)), but] = np.inf
        return float(np.median(np.sqrt(far.min(1))))

    def keys_of(clips: Sequence[Clip]) -> list[str]:
        return ["" if whole else normalised(clip.caption) for clip in clips]

    if len(known) >= HELD_OUT:
        some = chosen(known, COMPARED)
        usual, of = middle(_outlines(some), keys_of(some), None), f"{len(some)} clips held out"
    else:
        rows = several[:COMPARED]
        usual = middle(features[rows], [keys[i] for i in rows], rows)
        of = f"{len(rows)} training clips from each other"
    if usual < SAME:
        return None
    outlines = _outlines(made)
    near = middle(outlines, keys_of(made), None)
    spread = _spread(outlines, keys_of(made), features, keys) if not whole else None
    return Memory(near, usual, of, len(made), spread)


def _spread(
    made: Float[np.ndarray, "made dim"],
    made_keys: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_keys: Sequence[str],
) -> float | None:
    """`neighbours.diversity`, with a few training clips of each caption made."""
    seen: Counter[str] = Counter()
    few = []
    for row, key in enumerate(train_keys):
        seen[key] += 1
        if key in made_keys and seen[key] <= SPREAD:
            few.append(row)
    found = diversity(made, made_keys, train[few], [train_keys[row] for row in few])
    return None if math.isnan(found) else found


def _outlines(clips: Sequence[Clip]) -> Float[np.ndarray, "clips dim"]:
    return np.stack([outline(clip.mel) for clip in clips]).astype(np.float64)


def chosen(clips: Sequence[Clip], most: int) -> list[Clip]:
    """At most `most` clips, of every caption about as many; the same at every call."""
    by_caption: dict[str, list[Clip]] = {}
    for clip in clips:
        by_caption.setdefault(normalised(clip.caption), []).append(clip)
    chance = np.random.default_rng(0)
    ranked = []
    for _, group in sorted(by_caption.items()):
        place = float(chance.random())
        ranked += [(turn, place, group[i]) for turn, i in enumerate(chance.permutation(len(group)))]
    return [clip for *_, clip in sorted(ranked, key=lambda one: one[:2])[:most]]


def _made(maker: Maker, wanted: Sequence[tuple[str, int]], until: float) -> list[Clip]:
    """Clips of what is wanted, as many as most of the time that is left allows."""
    now = time.monotonic()
    mels = maker.make(wanted, now + 0.7 * max(until - now, 0.0))
    return [Clip(caption, mel) for (caption, _), mel in zip(wanted, mels, strict=False)]


def _wanted(captions: Iterable[str]) -> list[tuple[str, int]]:
    """Which captions to make, with which seeds: each a few times where they are few, else some of them once."""
    captions = sorted(captions)
    if len(captions) > MADE:
        captions = [captions[i] for i in sorted(np.random.default_rng(0).permutation(len(captions))[:MADE])]
    times = min(TIMES, MADE // len(captions)) if captions else 0
    return [(caption, seed) for seed in range(times) for caption in captions]


def _again(maker: Maker, judge: Probe, missed: Sequence[tuple[str, int]], until: float) -> Trial | None:
    """What failed, made again from the same seeds at twice the guidance, where there is time and room for that."""
    before = maker.guidance
    guidance = min(2 * max(before, 1.0), 8.0)
    if guidance <= before or not missed or time.monotonic() >= until:
        return None
    mels = maker.make(missed, until, guidance)
    heard = judge.hear(mels)
    right = sum(judge.meaning(caption) == got for (caption, _), got in zip(missed, heard, strict=False))
    return Trial(before, guidance, right, len(mels))


def _spellings(clips: Sequence[Clip]) -> dict[str, str]:
    """For each normalised caption how it is spelt first."""
    spelt: dict[str, str] = {}
    for clip in clips:
        spelt.setdefault(normalised(clip.caption), clip.caption)
    return spelt


def _plain(value: object) -> object:
    """Values as JSON has them: six digits are enough, and there is no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
