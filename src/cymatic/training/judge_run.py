"""The last thing a run does: it hears what it has become, and says so within a minute."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.data.mels import Clip, in_order
from cymatic.encoders.text import TextEncoder
from cymatic.errors import Error
from cymatic.files import write_atomically
from cymatic.hub.parts import load_part
from cymatic.metrics.neighbours import diversity, nearest
from cymatic.priors.flow import FlowPrior
from cymatic.seeds import mixed
from cymatic.training.history import History
from cymatic.training.own_judge import MOST_CLIPS, Heard, OwnJudge, compared, normalised, outline
from cymatic.training.recipe import Recipe
from cymatic.training.state import Progress
from cymatic.training.verdict import Curve, Heed, Memory, Numbers, Trial, failing, sentences, weak

VERDICT_TEXT, VERDICT_JSON = "verdict.txt", "verdict.json"
SHARE, LEAST, MOST = 0.06, 10.0, 60.0  # of the training time; seconds
MADE, AGAIN = 48, 12  # clips made at most, and made again with more guidance
CAPTIONS = 16  # as many are tried three times each; of more, words are tried
TIMES = 4  # that one caption is tried at most
STEPS = 6  # of the sampler
AT_ONCE = 8
TESTED = 300  # real clips judged at most
HELD_OUT = 10  # fewer of them say too little
HEEDED = 32  # clips whose loss is taken with wrong captions
COMPARED = 100  # real clips whose nearest neighbours are looked up
SPREAD = 20  # training clips of a caption whose spread is looked at
SAME = 1e-3  # nepers: clips nearer to each other than this are copies already


def judge_run(
    run: Path,
    train: Sequence[Clip],
    valid: Sequence[Clip],
    recipe: Recipe,
    progress: Progress,
    history: History,
    *,
    device: torch.device | str = "cpu",
    seconds: float | None = None,
    say: Callable[[str], None] = print,
) -> list[str]:
    """The verdict on the model in `run`, also written there as text and, with its numbers, as JSON.

    seconds: what it may take, by default 6 % of the training time, from 10 to 60. Whatever goes wrong, or an interrupt,
    is told to `say` in one line and gives no verdict: the model is saved already.
    """
    try:
        for name in (VERDICT_TEXT, VERDICT_JSON):
            (run / name).unlink(missing_ok=True)
        budget = min(max(SHARE * progress.seconds, LEAST), MOST) if seconds is None else seconds
        text = load_part(run / "text", (TextEncoder,)).to(device)
        prior = load_part(run / "prior", (FlowPrior,)).to(device)
        model = Maker(text, prior, recipe.sampling.guidance, min(recipe.sampling.steps, STEPS), recipe.sampling.sampler)
        began = time.monotonic()
        numbers = assess(model, train, valid, recipe, progress, history, began + budget)
        lines = sentences(numbers)
        values = {"format": 1, "seconds": round(time.monotonic() - began, 1), "verdict": lines, **asdict(numbers)}
        write_atomically(run / VERDICT_JSON, json.dumps(_plain(values), indent=2, ensure_ascii=False).encode())
        write_atomically(run / VERDICT_TEXT, ("\n".join(lines) + "\n").encode())
        return lines
    except (Exception, KeyboardInterrupt) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        say(f"note   there is no verdict ({why[:300]}); the model is trained and saved")
        return []


@dataclass(frozen=True)
class Maker:
    """What makes mels from captions: the trained parts and how they sample."""

    text: TextEncoder
    prior: FlowPrior
    guidance: float
    steps: int
    sampler: str

    @torch.no_grad()
    def make(
        self, wanted: Sequence[tuple[str, int]], until: float, guidance: float | None = None
    ) -> Iterator[Float[Tensor, "mels _"]]:
        """A mel for each caption and seed, in order, as many as can be begun before `until`; the first in any case."""
        at, count = 0, 1
        while at < len(wanted) and (at == 0 or time.monotonic() < until):
            some = wanted[at : at + count]
            mel, frames = self.prior.sample(
                self.text([caption for caption, _ in some]),
                [seed for _, seed in some],
                guidance=self.guidance if guidance is None else guidance,
                steps=self.steps,
                sampler=self.sampler,
            )
            if not mel.isfinite().all():
                raise Error("it makes NaN or infinity instead of sound")
            yield from (one[:, :n].cpu() for one, n in zip(mel, frames.tolist(), strict=True))
            at += len(some)
            count = AT_ONCE

    @torch.no_grad()
    def heed(self, clips: Sequence[Clip]) -> Heed | None:
        """The loss with the captions and with those of other clips; None where all captions are one."""
        captions = sorted({clip.caption for clip in clips})
        if len({normalised(caption) for caption in captions}) < 2:
            return None
        swapped = {caption: captions[i - 1] for i, caption in enumerate(captions)}
        right = wrong = 0.0
        for number, batch in enumerate(in_order(clips, AT_ONCE)):
            mel, frames = batch.mel.to(self.prior.mean.device), batch.frames.to(self.prior.mean.device)
            both = [
                self.prior.loss(mel, frames, self.text(said), torch.Generator().manual_seed(number))["flow"].item()
                for said in (batch.captions, [swapped[caption] for caption in batch.captions])
            ]
            right += both[0] * len(batch.captions) / len(clips)
            wrong += both[1] * len(batch.captions) / len(clips)
        return Heed(right, wrong, len(clips))


def assess(
    maker: Maker,
    train: Sequence[Clip],
    valid: Sequence[Clip],
    recipe: Recipe,
    progress: Progress,
    history: History,
    until: float,
) -> Numbers:
    """All that the verdict rests on, in about the time until `until` (of `time.monotonic`)."""
    train = list({id(clip): clip for clip in train}.values())  # a pack may repeat its clips
    spelt = _spellings(train)
    counts = {spelt[key]: n for key, n in Counter(normalised(clip.caption) for clip in train).items()}
    start = sum(history.start) / len(history.start) if history.start else None
    curve = Curve(progress.step, progress.seconds, start, history.curve(), history.valid)
    learned = chosen(train, MOST_CLIPS)
    settings = recipe.training
    base = {
        "curve": curve,
        "held_out": len(valid),
        "counts": counts,
        "rates": (settings.learning_rate, settings.matrix_rate),
        "heed": maker.heed(chosen(valid if len(valid) >= HELD_OUT else train, HEEDED)),
    }
    wanted = _wanted(counts)
    left = max(until - time.monotonic(), 0.0)
    try:
        judge = OwnJudge(learned)
    except Error as error:
        mels = list(maker.make(wanted, time.monotonic() + 0.8 * left))
        made = [Clip(caption, mel) for (caption, _), mel in zip(wanted, mels, strict=False)]
        return Numbers(**base, no_judge=str(error), memory=memory(made, learned, valid))
    unit = "captions" if len(counts) <= CAPTIONS else "words"
    if unit == "words":
        wanted = _wanted({caption: n for caption, n in counts.items() if judge.meaning(caption)})
    names = {judge.meaning(caption): caption for caption, _ in sorted(counts.items(), key=lambda pair: pair[1])}
    real, how = hear_real(judge, learned, valid, unit, names, spelt)
    mels = list(maker.make(wanted, time.monotonic() + 0.7 * left))
    made = [Clip(caption, mel) for (caption, _), mel in zip(wanted, mels, strict=False)]
    meant = [judge.meaning(clip.caption) for clip in made]
    heard = judge.hear(mels)
    found = compared(meant, heard, names, unit)
    trial = None
    if not weak(real) and (fails := failing(real, found)):
        missed = [
            one
            for one, want, got in zip(wanted, meant, heard, strict=False)
            if (names[want] in fails if unit == "captions" else want & set(fails)) and want != got
        ]
        trial = _again(maker, judge, missed[:AGAIN], until)
    return Numbers(
        **base,
        words=len(judge.words),
        real=real,
        how=how,
        made=found,
        memory=memory(made, learned, valid),
        trial=trial,
    )


def hear_real(
    judge: OwnJudge,
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
    if len(fit) >= HELD_OUT:
        fit = chosen(fit, TESTED)
        judge.allow([clip.caption for clip in fit])
        for clip in fit:
            names.setdefault(judge.meaning(clip.caption), clip.caption)
        meant = [judge.meaning(clip.caption) for clip in fit]
        return compared(meant, judge.hear([clip.mel for clip in fit]), names, unit), "held out"
    pairs = list(zip(judge.meanings, judge.hear_own(), strict=True))
    pairs = [(want, got) for want, got in pairs if want or unit == "captions"]
    return compared(*map(list, zip(*pairs, strict=True)), names, unit), "training clips, each left out in turn"


def memory(made: Sequence[Clip], train: Sequence[Clip], valid: Sequence[Clip]) -> Memory | None:
    """How near made clips lie to training clips of their caption, and how near real clips do.

    Where captions have one clip each, all training clips count as neighbours. None where nothing can be compared.
    """
    if len(train) < 2 or not made:
        return None
    features = np.stack([outline(clip.mel) for clip in train])
    keys = [normalised(clip.caption) for clip in train]
    counts = Counter(keys)
    known = [clip for clip in valid if normalised(clip.caption) in counts]
    if len(known) < HELD_OUT and max(counts.values()) < 2:
        keys, known = [""] * len(train), list(valid)
    whole = keys[0] == ""

    def distance(mel: Float[np.ndarray, " dim"], key: str, but: int | None = None) -> float:
        rows = [i for i, other in enumerate(keys) if other == key and i != but]
        return float(nearest(mel[None], [key], features[rows], [key] * len(rows))[0])

    def key_of(clip: Clip) -> str:
        return "" if whole else normalised(clip.caption)

    outlines = np.stack([outline(clip.mel) for clip in made])
    near = [distance(one, key_of(clip)) for one, clip in zip(outlines, made, strict=True)]
    if len(known) >= HELD_OUT:
        real = [distance(outline(clip.mel), key_of(clip)) for clip in chosen(known, COMPARED)]
        of = f"{len(real)} clips held out"
    else:
        several = [i for i, key in enumerate(keys) if whole or counts[key] > 1][:COMPARED]
        real = [distance(features[i], keys[i], but=i) for i in several]
        of = f"{len(real)} training clips from each other"
    usual = float(np.median(real)) if real else 0.0
    if usual < SAME:
        return None
    few = [i for i, clip in enumerate(train) if keys[:i].count(keys[i]) < SPREAD] if len(train) <= MOST_CLIPS else []
    spread = diversity(outlines, [key_of(clip) for clip in made], features[few], [keys[i] for i in few])
    return Memory(float(np.median(near)), usual, of, len(made), None if whole or math.isnan(spread) else spread)


def chosen(clips: Sequence[Clip], most: int) -> list[Clip]:
    """At most `most` clips, of every caption about as many; the same at every call."""
    by_caption: dict[str, list[Clip]] = {}
    for clip in clips:
        by_caption.setdefault(normalised(clip.caption), []).append(clip)
    ranked = []
    for number, (_, group) in enumerate(sorted(by_caption.items())):
        order = np.random.default_rng(mixed(number, 1)).permutation(len(group))
        ranked += [(turn, float(np.random.default_rng(mixed(number, 2)).random()), group[i]) for turn, i in enumerate(order)]
    return [clip for *_, clip in sorted(ranked, key=lambda one: one[:2])[:most]]


def _wanted(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Which captions to make, with which seeds: each a few times where they are few, else some of them once."""
    captions = sorted(counts)
    if len(captions) > MADE:
        captions = [captions[i] for i in sorted(np.random.default_rng(0).permutation(len(captions))[:MADE])]
    times = min(TIMES, MADE // len(captions)) if captions else 0
    return [(caption, seed) for seed in range(times) for caption in captions]


def _again(maker: Maker, judge: OwnJudge, missed: Sequence[tuple[str, int]], until: float) -> Trial | None:
    """What failed, made again from the same seeds at twice the guidance, where there is time and room for that."""
    guidance = min(2 * max(maker.guidance, 1.0), 8.0)
    if guidance <= maker.guidance or not missed or time.monotonic() >= until:
        return None
    mels = list(maker.make(missed, until, guidance))
    heard = judge.hear(mels)
    right = sum(judge.meaning(caption) == got for (caption, _), got in zip(missed, heard, strict=False))
    return Trial(maker.guidance, guidance, right, len(mels))


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
