"""DALL-E mini and MaskGIT through the loop: a codec of pictures, a prior over its codes, and what such models do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.helpers import quiet

import cymatic
from cymatic.errors import Error, ModelError
from cymatic.media.picture import Picture
from cymatic.training.recipe import make_recipe
from cymatic.training.train import train

TINY = [
    "codec.picture={size: 32}", "codec.width=8", "codec.multiples=[1,2]", "codec.patch=[2,2]", "codec.groups=4",
    "codec.latent=8", "codec.quantizer={size: 16, dim: 8, lookup_dim: 4, metric: cosine, restart: encoder}",
    "codec.discriminators=null", "codec.training={batch: 4, warmup: 2, steps: 4}",
    "prior.width=32", "prior.depth=1", "prior.heads=2", "prior.encoder.dim=16",
    "prior.training={batch: 4, warmup: 2, steps: 6, checkpoint_steps: 3}",
]  # fmt: skip
COLOURS = {"red": (0.9, 0.1, 0.1), "blue": (0.1, 0.2, 0.9)}
RECIPES = ("dalle-mini", "maskgit")
every_recipe = pytest.mark.parametrize("name", RECIPES)


def square(colour: str, take: int) -> Picture:
    """A square of the colour, somewhere, on white."""
    chance = np.random.default_rng(take)
    pixels = np.ones((32, 32, 3), dtype=np.float32)
    top, left, side = (int(n) for n in chance.integers(4, 14, 3))
    pixels[top : top + side, left : left + side] = COLOURS[colour]
    return Picture(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a-red-square_1.png`, `a-blue-square_1.png`, ..."""
    root = tmp_path_factory.mktemp("squares")
    for colour in COLOURS:
        for take in range(1, 5):
            square(colour, take).write(root / f"a-{colour}-square_{take}.png")
    return root


def recipe(name: str, folder: Path) -> Any:
    return make_recipe(name, [*TINY, f"data.folder={folder}"])


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What training makes of the folder by each recipe."""
    root = tmp_path_factory.mktemp("runs")
    for name in RECIPES:
        assert train(recipe(name, folder), root / name, say=quiet).finished
    return {name: root / name for name in RECIPES}


@every_recipe
def test_words_become_a_picture(runs: dict[str, Path], name: str) -> None:
    model = cymatic.load(runs[name])
    made = model("a red square", seed=1)
    assert isinstance(made, Picture) and made.pixels.shape == (32, 32, 3)
    assert made.info["prompt"] == "a red square" and made.info["seed"] == 1
    three = model("a red square", seed=0, n=3)
    np.testing.assert_allclose(three[1].pixels, made.pixels, atol=1e-5)
    assert model.nll(square("red", 1), "a red square")[1] == 64, "codes of 8 x 8 places"
    with pytest.raises(Error, match="no length in time"):
        model("a red square", seconds=1.0)


def test_maskgit_draws_a_part_anew_varies_and_shows_what_it_expects(runs: dict[str, Path]) -> None:
    model, value, shown = cymatic.load(runs["maskgit"]), square("blue", 3), []
    mask = np.zeros((32, 32, 3), dtype=np.float32)
    mask[8:24, 8:24] = 1
    (made,) = model.inpaint(value, Picture(mask), prompt="a red square", seed=2)
    assert np.array_equal(made.pixels[mask == 0], value.pixels[mask == 0])
    assert np.abs(made.pixels - value.pixels).max() > 1e-3
    assert len(model.vary(value, n=2, amount=0.5)) == 2
    model("a red square", steps=3, on_preview=lambda done, steps, values: shown.append((done, steps, values[0])))
    assert [one[:2] for one in shown] == [(1, 3), (2, 3), (3, 3)]
    assert all(isinstance(one[2], Picture) for one in shown)
    with pytest.raises(ModelError, match=r"can't inpaint.*of the kind"):
        cymatic.load(runs["dalle-mini"]).inpaint(value, Picture(mask))


@every_recipe
def test_the_last_preview_is_the_picture(runs: dict[str, Path], name: str) -> None:
    model, shown = cymatic.load(runs[name]), []
    made = model("a red square", n=2, seed=1, on_preview=lambda *told: shown.append(told))
    again = model("a red square", n=2, seed=1)
    for last, whole, alone in zip(shown[-1][2], made, again, strict=True):
        np.testing.assert_array_equal(last.pixels, whole.pixels)
        np.testing.assert_array_equal(whole.pixels, alone.pixels)
        assert last.info == whole.info


def test_below_what_is_made_a_preview_shows_the_background(runs: dict[str, Path]) -> None:
    model, shown = cymatic.load(runs["dalle-mini"]), []
    model("a red square", seed=1, on_preview=lambda *told: shown.append(told))
    assert [told[:2] for told in shown] == [(row, 8) for row in range(1, 9)]
    assert all((told[2][0].pixels[4 * told[0] :] == 1).all() for told in shown), "a row of codes is four pixels high"
    assert not (shown[3][2][0].pixels[:16] == 1).all()


@pytest.mark.parametrize("name", ["dalle-mini"])
def test_sheets_at_checkpoints_change_nothing(
    runs: dict[str, Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("cymatic.training.sheets.SHARE", 1000.0)
    assert train(recipe(name, folder), tmp_path / "run", say=quiet).finished
    sheets = {path.name: Image.open(path) for path in (tmp_path / "run/sheets").iterdir()}
    assert sorted(sheets) == ["step-3.png", "step-6.png"], "at the checkpoints of the prior"
    pixels = [np.asarray(sheet).astype(int) for sheet in sheets.values()]
    high = pixels[0].shape[0] // 2
    assert np.array_equal(pixels[0][:high], pixels[1][:high]), "the same real ones, below which are those made"
    assert not np.array_equal(pixels[0][high:], pixels[1][high:])
    for part in ("encoder", "prior"):
        weights = [(run / part / "model.safetensors").read_bytes() for run in (runs[name], tmp_path / "run")]
        assert weights[0] == weights[1]


@every_recipe
def test_a_resumed_run_is_the_uninterrupted_one(runs: dict[str, Path], folder: Path, tmp_path: Path, name: str) -> None:
    class Stop(Exception):
        pass

    def stop(at: Any) -> None:
        if at.step == 5:  # the codec has four
            raise Stop

    with pytest.raises(Stop):
        train(recipe(name, folder), tmp_path / "run", say=quiet, on_report=stop)
    assert train(recipe(name, folder), tmp_path / "run", resume=True, say=quiet).finished
    for part in ("encoder", "prior"):
        weights = [(run / part / "model.safetensors").read_bytes() for run in (runs[name], tmp_path / "run")]
        assert weights[0] == weights[1]
