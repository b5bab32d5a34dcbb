"""Flows over pictures through the loop: over pixels and over an autoencoder's latents, and what such models do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import batch_of, quiet

import cymatic
from cymatic.apps.cli import run as cymatic_command
from cymatic.cond import Cond
from cymatic.data.examples import Example
from cymatic.encoders.text import TextEncoder
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.pipeline_file import PipelineFile
from cymatic.media.picture import Picture
from cymatic.pipelines.generate import Generator
from cymatic.priors import PRIORS
from cymatic.priors.grid_flow import GridFlowConfig, GridFlowPrior
from cymatic.training.coding import as_latents
from cymatic.training.recipe import make_recipe
from cymatic.training.stages import PriorStage
from cymatic.training.tasks.prior import PriorTask
from cymatic.training.train import train

FLOW = "width: 32, depth: 1, heads: 2"
LATENTS = [
    "codec.picture={size: 32}", "codec.width=8", "codec.multiples=[1,2]", "codec.groups=4", "codec.latent=8",
    "codec.patch=[2,2]", "codec.training={batch: 4, warmup: 2, steps: 4}",
    f"prior.part={{kind: grid-flow, {FLOW}}}",
    "stages.space=null", "prior.space=null",  # priors with one: test_space.py
    "prior.encoder.dim=16", "prior.training={batch: 4, warmup: 2, steps: 6, checkpoint_steps: 3}",
    "prior.sampling={steps: 3}",
]  # fmt: skip
COLOURS = {"red": (0.9, 0.1, 0.1), "blue": (0.1, 0.2, 0.9)}


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
        for take in range(1, 7):
            square(colour, take).write(root / f"a-{colour}-square_{take}.png")
    return root


def over_latents(folder: Path, *settings: str) -> Any:
    return make_recipe("text-to-picture", [*LATENTS, f"data.folder={folder}", *settings])


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `cymatic train` makes of the folder."""
    run = tmp_path_factory.mktemp("runs") / "squares"
    settings = [part for one in LATENTS for part in ("--set", one)]
    command = ["train", str(folder), "--recipe", "text-to-picture", "-o", str(run), "--no-verdict", *settings]
    assert cymatic_command(command) == 0
    return cymatic.load(run)


def over_pixels(folder: Path, *settings: str) -> Any:
    return make_recipe(
        "text-to-sound",
        [
            f"prior.part={{kind: grid-flow, {FLOW}, patch: 4, centre: -0.8, picture: {{size: 32}}}}", *LATENTS[-3:],
            f"data.folder={folder}", *settings,
        ],
    )  # fmt: skip


@pytest.fixture(scope="module")
def pixel_model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = tmp_path_factory.mktemp("runs") / "pixels"
    assert train(over_pixels(folder), run, say=quiet).finished
    return cymatic.load(run)


@pytest.fixture(params=["latents", "pixels"])
def either(request: pytest.FixtureRequest, model: Any, pixel_model: Any) -> Any:
    return {"latents": model, "pixels": pixel_model}[request.param]


def test_the_recipes_have_one_autoencoder_and_one_space() -> None:
    """So that what is trained by the one recipe serves the flow of the other."""
    one, other = (make_recipe(name, []).stages["codec"] for name in ("picture-autoencoder", "text-to-picture"))
    assert one == other
    one, other = (make_recipe(name, []).stages["space"] for name in ("picture-text", "text-to-picture"))
    assert one == other


def test_words_become_a_picture(either: Any) -> None:
    made = either("a red square", seed=1)
    assert isinstance(made, Picture) and made.pixels.shape == (32, 32, 3)
    assert made.info["prompt"] == "a red square" and made.info["seed"] == 1 and made.info["steps"] == 3
    assert np.array_equal(either("a red square", seed=1).pixels, made.pixels)
    three = either("a red square", seed=0, n=3)
    assert [one.info["seed"] for one in three] == [0, 1, 2]
    np.testing.assert_allclose(three[1].pixels, made.pixels, atol=1e-5)
    assert np.abs(three[2].pixels - made.pixels).max() > 1e-3
    with pytest.raises(Error, match="no length in time"):
        either("a red square", seconds=1.0)


def test_a_prior_over_latents_learned_the_codecs_own(model: Any, folder: Path) -> None:
    assert model.prior.config.shape == (8, 8, 8)
    examples = [Example(model.target(square("red", take))) for take in range(1, 4)]
    latents = as_latents(examples, model.codec)
    for one, example in zip(latents, examples, strict=True):
        torch.testing.assert_close(one.target, model.codec.latent(example.target[None])[0], atol=1e-5, rtol=0)
    everything = [
        model.codec.latent(model.target(Picture.read(path))[None])[0] for path in sorted(folder.glob("*.png"))
    ]
    assert model.prior.mean.shape == (8, 1, 1) and model.prior.std.min() > 0
    spread = torch.stack(everything).std((0, 2, 3))
    assert ((model.prior.std.flatten() / spread).log().abs() < 0.7).all(), "held-out ones are not in the statistics"


def test_what_an_evaluation_asks(either: Any) -> None:
    value = square("blue", 3)
    assert either.rows is None and either.nll(value, "a blue square") is None
    (drawn,) = either.draw(["a red square"], [1])
    assert drawn.shape == (3, 32, 32)
    loss = either.loss([either.target(value)] * 2, ["a blue square"] * 2, seed=0)
    assert np.isfinite(loss) and loss == either.loss([either.target(value)] * 2, ["a blue square"] * 2, seed=0)
    with pytest.raises(ModelError, match="has no codes"):
        either.codes_of(value)


def test_through_the_codec_and_back(model: Any) -> None:
    value = square("blue", 3)
    (again,) = model.reconstructions(value).values()
    with torch.inference_mode():
        wanted = model.codec.decode(model.codec.encode(model.target(value)[None]))[0]
    np.testing.assert_allclose(again.pixels.transpose(2, 0, 1), wanted.numpy(), atol=1e-5)


def test_a_mask_keeps_pixels_exactly_and_redraws_the_white(either: Any) -> None:
    value, mask = square("blue", 3), np.zeros((32, 32), dtype=np.float32)
    mask[9:21, 6:30] = 1
    made = either.inpaint(value, Picture(mask), prompt="a red square", n=2, seed=5)
    assert [one.info["seed"] for one in made] == [5, 6] and made[0].info["inpaints"] == pytest.approx(
        mask.mean(), abs=1e-4
    )
    for one in made:
        assert np.array_equal(one.pixels[mask == 0], value.pixels[mask == 0])
        assert np.abs(one.pixels - value.pixels)[mask == 1].max() > 1e-3
    assert np.abs(made[0].pixels - made[1].pixels)[mask == 1].max() > 1e-3
    (soft,) = either.inpaint(value, Picture(0.5 * mask), prompt="a red square", seed=5)
    np.testing.assert_allclose(soft.pixels, (made[0].pixels + value.pixels) / 2, atol=2e-3)
    with pytest.raises(Error, match="the mask has nothing white"):
        either.inpaint(value, Picture(np.zeros((32, 32))))
    with pytest.raises(Error, match="the mask is 16 x 32 and the picture 32 x 32"):
        either.inpaint(value, Picture(np.ones((32, 16))))


def test_an_extension_keeps_the_upper_part(either: Any) -> None:
    value = square("blue", 3)
    made = either.extend(value, keep=0.25, prompt="a red square", n=2, seed=5)
    assert [one.info["seed"] for one in made] == [5, 6] and made[0].info["extends"] == "0.25 of the height"
    for one in made:
        assert np.array_equal(one.pixels[:8], value.pixels[:8])
        assert np.abs(one.pixels - value.pixels)[8:].max() > 1e-3
    assert np.abs(made[0].pixels - made[1].pixels).max() > 1e-3


def test_variations_of_a_picture(either: Any) -> None:
    value = square("red", 2)
    near, far = (either.vary(value, n=2, amount=amount, seed=3, prompt="a red square") for amount in (0.05, 1.0))
    assert [one.info["varies"] for one in near] == [0.05] * 2
    assert np.abs(near[0].pixels - value.pixels).mean() <= np.abs(far[0].pixels - value.pixels).mean()
    np.testing.assert_allclose(far[0].pixels, either("a red square", seed=3).pixels, atol=1e-4)
    with pytest.raises(ModelError, match="can't blend"):
        either.blend(value, value)


def test_previews_are_pictures(either: Any) -> None:
    shown: list[Any] = []
    made = either("a red square", n=2, seed=1, on_preview=lambda *told: shown.append(told))
    assert [told[:2] for told in shown] == [(1, 3), (2, 3), (3, 3)]
    assert all(isinstance(one, Picture) and one.pixels.shape == (32, 32, 3) for told in shown for one in told[2])
    assert [one.info["seed"] for one in shown[0][2]] == [1, 2]
    again = either("a red square", n=2, seed=1)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(made, again, strict=True))


class Stop(Exception): ...


@pytest.mark.parametrize("make", [over_latents, over_pixels])
def test_a_resumed_run_is_the_uninterrupted_one(make: Any, folder: Path, tmp_path: Path) -> None:
    def stop(at: Any) -> None:
        if at.step == 5:  # the codec has four
            raise Stop

    with pytest.raises(Stop):
        train(make(folder), tmp_path / "run", say=quiet, on_report=stop)
    assert train(make(folder), tmp_path / "run", resume=True, say=quiet).finished
    assert train(make(folder), tmp_path / "whole", say=quiet).finished
    for part in ("encoder", "prior"):
        weights = [(tmp_path / run / part / "model.safetensors").read_bytes() for run in ("whole", "run")]
        assert weights[0] == weights[1]


def test_parts_that_do_not_fit_are_refused(model: Any, tmp_path: Path) -> None:
    other = GridFlowPrior(GridFlowConfig(grid=(8, 4, 8), cond_dim=16, width=32, depth=1, heads=2))
    with pytest.raises(ModelError, match="latents of 8 x 8 x 8 numbers, and its prior makes 8 x 4 x 8"):
        Generator(model.encoder, other, codec=model.codec, file=model_file(), name="mine")
    with pytest.raises(ModelError, match="its prior is over latents, and it has no codec"):
        Generator(model.encoder, model.prior, file=model_file(), name="mine")
    save_part(tmp_path / "prior", model.prior)
    again = load_part(tmp_path / "prior", PRIORS)
    assert again.config == model.prior.config and int(again.steps_trained) == int(model.prior.steps_trained)


def model_file() -> Any:
    return PipelineFile(parts={"encoder": "encoder", "prior": "prior", "codec": "codec"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": {"kind": "grid-flow"}}, "this prior is over latents, and no codec gives any"),
        ({"part": {"kind": "grid-flow"}, "codec": "a", "levels": 2}, "levels and variants are of codes"),
        ({"part": {"kind": "grid-flow"}, "codec": "a", "variants": 2}, "levels and variants are of codes"),
        ({"part": {"kind": "grid-flow", "picture": {"size": 8}}, "codec": "a"}, "over no codes; leave codec out"),
        ({"part": {"kind": "grid-flow", "picture": {"size": 9}, "patch": 2}}, "no whole number of patches"),
    ],
)
def test_stages_that_can_not_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        PriorStage.parse({"task": "prior", **settings}, "the stage")


def test_what_changes_sounds_is_refused_for_pictures(folder: Path, tmp_path: Path) -> None:
    for setting in ("data.augment.gain=1.0", "data.augment.pitch=1.0"):
        with pytest.raises(Error, match=r"data\.augment changes sounds by .*, and this prior learns pictures"):
            train(over_pixels(folder, setting), tmp_path / setting, say=quiet)


def test_tokens_and_vector_are_dropped_as_often_as_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dropped(*settings: str) -> tuple[Any, Any]:
        stage: Any = over_pixels(folder, *settings).stages["prior"]
        torch.manual_seed(0)
        prior = GridFlowPrior(GridFlowConfig(grid=(3, 2, 2), width=32, depth=1, heads=2, cond_dim=16))
        task = PriorTask("prior", stage, TextEncoder(stage.encoder), prior, kept="encoder")
        heard: list[Cond] = []

        def loss(target: Any, lengths: Any, cond: Cond, *more: Any, **others: Any) -> dict[str, Any]:
            heard.append(cond)
            return {"loss": torch.zeros(())}

        monkeypatch.setattr(prior, "loss", loss)
        task(batch_of(torch.zeros(400, 3, 2, 2), "a red square"), 3)
        return heard[0].tokens_dropped, heard[0].vector_dropped

    tokens, vector = dropped("prior.training.condition_dropout=0.3")
    assert torch.equal(tokens, vector) and 0.2 < tokens.float().mean() < 0.4
    again, vector = dropped("prior.training.condition_dropout=0.3", "prior.training.vector_dropout=0.6")
    assert torch.equal(again, tokens), "what is drawn for the tokens stays as it was"
    assert 0.5 < vector.float().mean() < 0.7
    assert (vector & ~tokens).any() and (tokens & ~vector).any() and (tokens & vector).any()
