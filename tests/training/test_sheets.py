"""Contact sheets while a prior trains: what is on them, and that they take no more time than they may."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import COLOURS, shape

from cymatic.data.examples import Example
from cymatic.errors import ModelError
from cymatic.evaluation.values import targets_of
from cymatic.media.picture import PICTURE, PictureSpec, prepare
from cymatic.training.sheets import MOST, SHARE, SHEETS, Sheets

SPEC = PictureSpec(size=16)
EXAMPLES = [
    Example(prepare(shape(f"{colour} square", take), SPEC), caption=f"{colour} square")
    for colour in COLOURS
    for take in range(5)
]


class Model:
    """Takes `seconds` of a clock that stands still otherwise, in four steps."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.now = seconds, 0.0
        self.asked: list[tuple[list[str], list[int]]] = []
        self.fails = False

    def draw(self, prompts: Any, seeds: Any, on_step: Any, allow_untrained: bool) -> list[torch.Tensor]:
        assert allow_untrained
        self.asked.append((list(prompts), list(seeds)))
        if self.fails:
            raise ModelError("it made NaN; lower the rate")
        for step in range(1, 5):
            self.now += self.seconds / 4
            on_step(step, 4)
        return [torch.zeros(3, 16, 16) for _ in prompts]


def sheets_of(model: Model, said: list[str] | None = None) -> Sheets:
    say = [].append if said is None else said.append
    return Sheets(EXAMPLES, targets_of(PICTURE, SPEC), PICTURE, lambda task: model, say, clock=lambda: model.now)


def drawn(run: Path) -> list[str]:
    return sorted(path.name for path in (run / SHEETS).glob("*")) if (run / SHEETS).exists() else []


def test_the_same_captions_and_seeds_each_time(tmp_path: Path) -> None:
    model = Model()
    sheets = sheets_of(model)
    model.now = 1e3
    for step in (10, 20):
        assert sheets(tmp_path, None, step) == tmp_path / SHEETS / f"step-{step}.png"
    first, second = model.asked
    assert first == second and len(first[0]) == 8 and set(first[0]) == {f"{colour} square" for colour in COLOURS}
    assert first[1] == list(range(8))


def test_they_take_no_more_than_their_share_of_the_time(tmp_path: Path) -> None:
    model = Model(seconds=1.0)
    sheets, trained = sheets_of(model), 0.0
    for step in range(1, 301):
        model.now += 1.0
        trained += 1.0
        sheets(tmp_path, None, step)
        assert model.now - trained <= SHARE * model.now + model.seconds / 4, "to within a step"
    taken = model.now - trained
    assert taken > 0.5 * SHARE * model.now, "and they use it"
    assert 3 <= len(drawn(tmp_path)) < 6
    assert len(model.asked) == len(drawn(tmp_path)) + 1, "one try says what one takes"


def test_at_most_so_many_are_kept_and_the_first_and_the_last_are_among_them(tmp_path: Path) -> None:
    model = Model()
    sheets = sheets_of(model)
    model.now = 1e3
    for step in range(10, 10 * (2 * MOST + 1), 10):
        sheets(tmp_path, None, step)
    kept = sorted(int(name[5:-4]) for name in drawn(tmp_path))
    assert len(kept) == MOST and kept[0] == 10 and kept[-1] == 20 * MOST
    assert max(b - a for a, b in pairwise(kept)) <= 60


def test_one_that_fails_ends_them_and_not_the_training(tmp_path: Path) -> None:
    model, said = Model(), []
    sheets = sheets_of(model, said)
    model.now, model.fails = 1e3, True
    assert sheets(tmp_path, None, 1) is None and sheets(tmp_path, None, 2) is None
    assert said == ["note   there are no more sheets (it made NaN; lower the rate)"] and len(model.asked) == 1
    assert not drawn(tmp_path)


def test_an_interrupt_is_one(tmp_path: Path) -> None:
    model = Model()
    sheets = sheets_of(model)
    model.now = 1e3
    model.draw = lambda *args, **how: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        sheets(tmp_path, None, 1)
