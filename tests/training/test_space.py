"""Priors that read a vector of a space of aligned encoders: words, pictures and vectors of it draw."""

from __future__ import annotations

import copy
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.helpers import quiet, shape, shape_folder, tone, tone_folder

import cymatic
from cymatic.apps.cli import run as cymatic_command
from cymatic.apps.model_list import look
from cymatic.cond import Cond
from cymatic.data.batches import Bucketed
from cymatic.data.examples import Example, Reading
from cymatic.encoders.picture import PictureConfig, PictureEncoder
from cymatic.encoders.sound import SoundConfig, SoundEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part
from cymatic.hub.pipeline_file import read_pipeline, write_pipeline
from cymatic.media.picture import Picture, PictureSpec
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.generate import Generator
from cymatic.pipelines.load import load_generator
from cymatic.priors.grid_flow import GridFlowConfig, GridFlowPrior
from cymatic.signal.mel import PRESETS
from cymatic.training.coding import with_vectors
from cymatic.training.recipe import Recipe, make_recipe
from cymatic.training.stages import SPACE, PriorStage
from cymatic.training.tasks.prior import PriorTask
from cymatic.training.train import read_run, train

PICTURE = "{kind: picture, picture: {size: 16}, halvings: 2, width: 16, depth: 1, heads: 2, dim: 16}"
ALIGNED = (
    f"space.parts={{picture: {PICTURE}, caption: {{kind: text, dim: 16, depth: 1, heads: 2}}}}",
    "space.training={batch: 8, warmup: 2, steps: 4, learning_rate: 0.003}",
)
PRIOR = (
    "prior.part={kind: grid-flow, width: 32, depth: 1, heads: 2}", "prior.encoder={kind: text, dim: 16}",
    "prior.training={batch: 8, warmup: 2, steps: 6, checkpoint_steps: 3, condition_dropout: 0.3, vector_dropout: 0.3}",
    "prior.sampling={steps: 3}",
)  # fmt: skip
TINY = [
    "codec.picture={size: 16}", "codec.width=8", "codec.multiples=[1,2]", "codec.groups=4", "codec.latent=8",
    "codec.patch=[2,2]", "codec.training={batch: 8, warmup: 2, steps: 4}", *ALIGNED, *PRIOR,
]  # fmt: skip
PROMPT = "red circle"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shape_folder(tmp_path_factory.mktemp("shapes"), takes=3)


def recipe(folder: Path, *settings: str) -> Recipe:
    return make_recipe("text-to-picture", [*TINY, f"data.folder={folder}", *settings])


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `cymatic train` makes of a folder of pictures, by the recipe that it takes by itself."""
    run = tmp_path_factory.mktemp("runs") / "shapes"
    settings = [part for one in TINY for part in ("--set", one)]
    assert cymatic_command(["train", str(folder), "-o", str(run), "--no-verdict", *settings]) == 0
    return run


@pytest.fixture(scope="module")
def model(run: Path) -> Any:
    model = cymatic.load(run)
    with torch.no_grad():  # six steps hardly move what begins at zero, by which the vector acts
        for p in model.prior.parameters():  # type: ignore[union-attr]
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return model


def differ(a: Picture, b: Picture) -> float:
    return float(np.abs(a.pixels - b.pixels).max())


def test_a_run_holds_its_space_once(run: Path) -> None:
    file = read_pipeline(run)
    assert file.space == "space" and file.ranker is None and set(file.parts) == {"encoder", "prior", "codec"}
    space = cymatic.load(run / "space")
    assert isinstance(space, Embedder) and set(space.encoders) == {"picture", "caption"}
    found = sorted(one.parent.relative_to(run).as_posix() for one in run.rglob("config.json"))
    assert found == ["codec", "encoder", "prior", "space/caption", "space/picture"]


def test_words_pictures_and_vectors_draw(model: Any) -> None:
    words, picture = model(PROMPT, seed=1), model(shape(PROMPT, 1), seed=1)
    assert isinstance(picture, Picture) and picture.info["prompt"].startswith("Picture")
    assert differ(words, picture) > 1e-3
    vector = model.vector(shape(PROMPT, 1))
    assert vector.shape == (16,) and float(vector.norm()) == pytest.approx(1, abs=1e-5)
    for same in (vector, 3 * vector.numpy(), vector.tolist()):
        np.testing.assert_allclose(model(same, seed=1).pixels, picture.pixels, atol=1e-5)
    assert differ(model(shape("blue stripe", 1), seed=1), picture) > 1e-3


def test_either_alone_draws(model: Any) -> None:
    """Each otherwise than both, than the other, and than nothing."""
    both, tokens, vector = (model(PROMPT, seed=1, guidance=1.0, by=by) for by in (None, "tokens", "vector"))
    nothing = model(PROMPT, seed=1, guidance=0.0)
    made = [both, tokens, vector, nothing]
    assert all(differ(a, b) > 1e-4 for i, a in enumerate(made) for b in made[:i])
    assert tokens.info["by"] == "tokens" and "by" not in both.info
    np.testing.assert_allclose(vector.pixels, model(model.vector(PROMPT), seed=1, guidance=1.0).pixels, atol=1e-5)
    cond = model.condition(PROMPT)
    assert model.condition(PROMPT, by="tokens").vector is None and model.condition(PROMPT, by="vector").tokens is None
    torch.testing.assert_close(cond.vector[0].cpu(), model.vector(PROMPT))
    with pytest.raises(Error, match="has no tokens; leave by out, or ask with words"):
        model(shape(PROMPT, 1), by="tokens")
    with pytest.raises(Error, match="by is 'words'; give tokens or vector"):
        model(PROMPT, by="words")


def test_a_batch_equals_its_items(model: Any) -> None:
    pictures = [shape("red circle", 1), shape("blue stripe", 2)]
    for prompts in (["red circle", "blue stripe"], pictures):
        together = model.draw(prompts, [3, 4])
        for one, prompt, seed in zip(together, prompts, (3, 4), strict=True):
            torch.testing.assert_close(one, model.draw([prompt], [seed])[0], atol=1e-5, rtol=0)


def test_the_space_ranks_where_nothing_else_does(run: Path, model: Any, tmp_path: Path) -> None:
    assert model.has_ranker and model.ranker is model.space
    made = model(PROMPT, n=4, seed=2)
    similar = (model.space.embed(made, "picture") @ model.space.embed([PROMPT], "caption")[0]).tolist()
    (best,) = model(PROMPT, n=4, keep=1, seed=2)
    assert best.info["seed"] == 2 + int(np.argmax(similar))
    assert best.info["score"] == pytest.approx(max(similar), abs=1e-5)
    for prompt in (shape(PROMPT, 1), model.vector(shape(PROMPT, 1)).numpy()):
        kept = model(prompt, n=3, keep=3, seed=2)
        scores = [one.info["score"] for one in kept]
        wanted = model.space.embed(kept, "picture") @ model.vector(prompt)
        np.testing.assert_allclose(scores, wanted.numpy(), atol=1e-5)
    command = ["picture", PROMPT, "--model", str(run), "-n", "4", "--keep", "1", "-o", str(tmp_path / "red.png")]
    assert cymatic_command(command) == 0
    assert "score" in Picture.read(tmp_path / "red.png").info


def test_other_verbs_take_what_lies_in_the_space(model: Any) -> None:
    value = shape("blue stripe", 2)
    (made,) = model.vary(value, n=1, amount=0.5, prompt=shape(PROMPT, 1))
    (otherwise,) = model.vary(value, n=1, amount=0.5, prompt=PROMPT)
    assert differ(made, otherwise) > 1e-4


@pytest.mark.parametrize("prompt", [torch.zeros(16), torch.ones(15), np.full(16, np.nan), None, {"red": 1}, [PROMPT]])
def test_what_does_not_lie_in_the_space_is_named(model: Any, prompt: Any) -> None:
    with pytest.raises(Error, match="reads words, pictures, and vectors of 16 finite numbers, not all of them 0"):
        model(prompt)


def test_a_sound_does_not_lie_among_pictures(model: Any) -> None:
    with pytest.raises(Error, match="shapes/space has no encoder that reads sounds; its encoders are picture, caption"):
        model(cymatic.Sound(np.zeros(800), 8000))


def test_models_without_a_space_have_no_vectors(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "model")
    file = read_pipeline(run)
    write_pipeline(tmp_path / "model", file.model_copy(update={"space": None}))
    plain, whole = load_generator(tmp_path / "model"), load_generator(run)
    assert plain.sha256 != whole.sha256 and not plain.has_ranker
    with pytest.raises(ModelError, match="model has no space of aligned encoders; train one whose prior has a space"):
        plain.vector(PROMPT)
    with pytest.raises(Error, match="is conditioned on words; give these instead of"):
        plain(shape(PROMPT, 1))
    assert differ(plain(PROMPT, by="tokens"), whole(PROMPT, by="tokens")) == 0


def test_a_model_with_a_space_is_shipped_and_listed(
    run: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In half precision, whose rounding is all that changes; its size is that of all that it holds."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    starter = tmp_path / "starter"
    ship = importlib.import_module("ship").ship
    ship(run, starter)
    ship(run, starter)
    file = read_pipeline(starter)
    assert (file.space, file.version) == ("space", 2)
    ours, theirs = load_generator(starter), load_generator(run)
    torch.testing.assert_close(ours.vector(PROMPT), theirs.vector(PROMPT), atol=5e-3, rtol=0)
    assert differ(ours(PROMPT, keep=1, n=2)[0], theirs(PROMPT, keep=1, n=2)[0]) < 0.05
    space = {path: path.stat().st_size for path in starter.rglob("*.safetensors") if "space" in path.parts}
    assert len(space) == 2
    whole = sum(path.stat().st_size for path in starter.rglob("*.*") if path.name != "pipeline.json")
    assert look("starter", starter).megabytes == pytest.approx(whole / 1e6, abs=0.06)
    for path, size in space.items():
        assert size < 0.7 * (run / path.relative_to(starter)).stat().st_size


class Stop(Exception): ...


def stop(at: Any) -> None:
    if at.step == 5:  # codec and space have four
        raise Stop


def weights(run: Path) -> list[bytes]:
    parts = ("encoder", "prior", "space/picture", "space/caption")
    return [(run / part / "model.safetensors").read_bytes() for part in parts]


def test_a_resumed_run_is_the_uninterrupted_one(folder: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(recipe(folder), tmp_path / "run", say=quiet, on_report=stop)
    torch.rand(7)
    assert train(read_run(tmp_path / "run"), tmp_path / "run", resume=True, say=quiet).finished
    assert weights(tmp_path / "run") == weights(run)


def test_the_space_of_another_model_is_copied(folder: Path, run: Path, tmp_path: Path) -> None:
    """Once copied it is the run's own; of a model with a space it is that."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run, elsewhere)
    plan = recipe(folder, "stages.space=null", f"prior.space={elsewhere}")
    assert list(plan.stages) == ["codec", "prior"]
    with pytest.raises(Stop):
        train(plan, tmp_path / "run", say=quiet, on_report=stop)
    shutil.rmtree(elsewhere)
    assert train(read_run(tmp_path / "run"), tmp_path / "run", resume=True, say=quiet).finished
    assert read_pipeline(tmp_path / "run").space == "space"
    assert weights(tmp_path / "run") == weights(run), "as the one that trained its space itself"
    assert read_pipeline(tmp_path / "run" / "space").scale == read_pipeline(run / "space").scale
    with pytest.raises(ModelError, match=r'there is no model ".*elsewhere"'):
        train(plan, tmp_path / "again", say=quiet)
    assert not (tmp_path / "again" / "codec").exists(), "before anything is trained"
    with pytest.raises(ModelError, match="its encoders were not aligned"):
        train(recipe(folder, "stages.space=null", "prior.space=starter-sound"), tmp_path / "again", say=quiet)


def aligned(dim: int = 16, size: int = 16) -> Embedder:
    torch.manual_seed(0)
    picture = PictureConfig(picture=PictureSpec(size=size), halvings=2, width=16, depth=1, heads=2, dim=dim)
    encoders = {"picture": PictureEncoder(picture), "caption": TextEncoder(TextConfig(dim=dim, depth=1, heads=2))}
    return Embedder(encoders, name="space")


def examples(count: int, space: Embedder) -> list[Example]:
    """Items over a grid of 3 x 2 x 2, with vectors of their own."""
    chance = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(count, space.dim, generator=chance), dim=1)
    return [
        Example(torch.randn(3, 2, 2, generator=chance), {SPACE: vectors[i]}, caption=f"thing {i}") for i in range(count)
    ]


def task(space: Embedder | None, *settings: str) -> PriorTask:
    stage: Any = recipe(Path("anywhere"), *settings).stages["prior"]
    torch.manual_seed(0)
    prior = GridFlowPrior(GridFlowConfig(grid=(3, 2, 2), width=32, depth=1, heads=2, cond_dim=16))
    made = PriorTask("prior", stage, TextEncoder(stage.encoder), prior, kept="encoder", space=space)
    for p in made.parameters():  # layers that begin at zero would hide what lies before them
        p.data.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return made


def test_a_coin_says_whose_vector_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """About half of the items have their own vector, the others that of the caption they have this time; those held
    out that of the caption."""
    space = aligned()
    one, items = task(space), examples(300, space)
    heard: list[Cond] = []

    def loss(target: Any, lengths: Any, cond: Cond, *more: Any, **others: Any) -> dict[str, Any]:
        heard.append(cond)
        return {"loss": torch.zeros(()), "flow": torch.zeros(())}

    monkeypatch.setattr(one.prior, "loss", loss)
    batch = Bucketed(items, 300, 3)[0]
    one(batch, 5)
    vector = heard[0].vector
    assert vector is not None
    own = (vector == batch.given[SPACE].values).all(1)
    assert 0.4 < own.float().mean() < 0.6
    captions = space.vectors("caption", batch.captions).detach()
    torch.testing.assert_close(vector[~own], captions[~own])
    one.eval().measure(items[:5], 5)
    measured = heard[-1].vector
    assert measured is not None
    torch.testing.assert_close(measured, space.vectors("caption", [one.caption for one in items[:5]]).detach())
    for cond in heard:
        assert cond.tokens is not None


def test_nothing_more_is_drawn_without_a_space() -> None:
    """The same draws as of a task that never heard of spaces: the terms of a prior by hand."""
    one, batch = task(None, "prior.space=null"), Bucketed(examples(6, aligned()), 6, 3)[0]
    found = one(batch, 11)["loss"]
    generator = torch.Generator().manual_seed(11)
    settings = one.stage.training
    cond = one.encoder(batch.captions)
    cond = cond.drop(settings.condition_dropout, generator, vector=settings.vector_dropout)
    expected = one.prior.loss(batch.target, batch.lengths, cond, generator, step=0)["loss"]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("count", "ranks"), [(8, 2), (7, 3)])
def test_the_mean_over_shards_is_the_whole_batch(count: int, ranks: int) -> None:
    space = aligned()
    one, items = task(space), examples(count, space)
    whole = one(Bucketed(items, count, 3)[2], 11)["loss"]
    whole.backward()
    wanted = {name: p.grad.clone() for name, p in one.named_parameters() if p.grad is not None}
    one.zero_grad()
    total = 0.0
    for rank in range(ranks):
        loss = one(Bucketed(items, count, 3, rank=rank, ranks=ranks)[2], 11)["loss"] / ranks
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-5)
    got = {name: p.grad for name, p in one.named_parameters() if p.grad is not None}
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-5, rtol=1e-4)


def test_the_space_is_frozen_and_no_part_of_the_state() -> None:
    space = aligned()
    one = task(space)
    before = copy.deepcopy({role: encoder.state_dict() for role, encoder in space.encoders.items()})
    assert not any("space" in name for name in one.state_dict())
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    one.train()(Bucketed(examples(8, space), 8, 3)[0], 1)["loss"].backward()
    optimizer.step()
    for role, encoder in space.encoders.items():
        assert not encoder.training and all(p.grad is None for p in encoder.parameters())
        for name, tensor in before[role].items():
            assert torch.equal(tensor, encoder.state_dict()[name])


@pytest.mark.parametrize("size", [16, 8])
def test_targets_are_embedded_as_the_space_reads_them(size: int) -> None:
    """What was read by its spec is the target itself; else what was read beside it, and is forgotten then."""
    space, spec = aligned(size=size), PictureSpec(size=16)
    values = [shape(PROMPT, 1), shape("blue stripe", 2)]
    reads = space.encoders["picture"].config.reads
    items = [
        Example(
            cymatic.media.PICTURE.prepare(value, spec),
            {} if size == 16 else {"picture": cymatic.media.PICTURE.prepare(value, reads)},
            caption="x",
        )
        for value in values
    ]
    found = with_vectors([items[0], items[1], items[0]], space, Reading("picture", spec))
    assert found[0] is found[2] and set(found[0].given) == {SPACE}
    expected = space.embed(values, "picture")
    torch.testing.assert_close(torch.stack([one.given[SPACE] for one in found[:2]]), expected, atol=1e-5, rtol=0)


def test_a_space_may_read_pictures_of_another_size(folder: Path, tmp_path: Path) -> None:
    small = ALIGNED[0].replace("size: 16", "size: 8")
    run = tmp_path / "run"
    assert train(recipe(folder, small), run, say=quiet).finished
    model = load_generator(run)
    assert model.space is not None and model.space.encoders["picture"].config.reads.size == 8
    assert model(shape(PROMPT, 1)).pixels.shape == (16, 16, 3)


def test_a_folder_of_one_caption_trains(tmp_path: Path) -> None:
    """All items count as one then, so the alignment learns nothing, and nothing is NaN."""
    (tmp_path / "folder").mkdir()
    for take in range(6):
        shape("red circle", take).write(tmp_path / "folder" / f"red-circle_{take}.png")
    assert train(recipe(tmp_path / "folder"), tmp_path / "run", say=quiet).finished
    assert np.isfinite(load_generator(tmp_path / "run")("red circle").pixels).all()


def refused(message: str, *settings: str) -> None:
    with pytest.raises(ModelError, match=message):
        recipe(Path("anywhere"), *settings)


def test_recipes_that_can_not_be_are_refused() -> None:
    refused("the picture of space has dim 16, and the encoder of prior 32; give both the same", "prior.encoder.dim=32")
    refused('the space of prior is "codec", which is no earlier stage of aligned encoders', "prior.space=codec")
    refused('the space of prior is "prior", which is no earlier stage of aligned encoders', "prior.space=prior")
    refused(
        "is copied from runs/other into the run's folder space, which a stage is called, too", "prior.space=runs/other"
    )
    refused("a space goes with an encoder of words", "prior.encoder={kind: features}", "prior.given=features")
    values: dict[str, Any] = {"task": "prior", "part": {"kind": "gpt", "vector": False}, "codec": "a", "space": "b"}
    with pytest.raises(ModelError, match="a space gives a vector, and this prior reads none"):
        PriorStage.parse(values, "the stage")


def test_spaces_that_do_not_fit_are_refused(run: Path, folder: Path, tmp_path: Path) -> None:
    parts = [load_part(run / name, (kind,)) for name, kind in (("encoder", TextEncoder), ("prior", GridFlowPrior))]
    model = load_generator(run)
    how: dict[str, Any] = {"codec": model.codec, "file": read_pipeline(run), "name": "mine"}
    with pytest.raises(ModelError, match="vectors of space are 32 wide and the tokens of the encoder of mine 16"):
        Generator(*parts, space=aligned(dim=32), **how)
    deaf = aligned()
    del deaf.encoders["caption"]
    with pytest.raises(Error, match="space has no encoder that reads words; its encoders are picture"):
        Generator(*parts, space=deaf, **how)
    sound = SoundConfig(mel=PRESETS["voice-8k"], width=32, depth=1, heads=2, dim=16)
    hearing = Embedder({"audio": SoundEncoder(sound), "caption": aligned().encoders["caption"]}, name="hearing")
    hearing.save(tmp_path / "hearing")
    with pytest.raises(Error, match="hearing has no encoder that reads pictures; its encoders are audio, caption"):
        train(recipe(folder, "stages.space=null", f"prior.space={tmp_path / 'hearing'}"), tmp_path / "run", say=quiet)
    aligned(dim=32).save(tmp_path / "wide")
    with pytest.raises(ModelError, match=r"vectors of .*wide are 32 wide and the tokens of the encoder of prior 16"):
        train(recipe(folder, "stages.space=null", f"prior.space={tmp_path / 'wide'}"), tmp_path / "wider", say=quiet)
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    shutil.rmtree(broken / "space")
    with pytest.raises(ModelError, match=r"space is no model, for it holds no pipeline\.json"):
        cymatic.load(broken)
    write_pipeline(broken, read_pipeline(run).model_copy(update={"space": "../elsewhere"}))
    with pytest.raises(ModelError, match='"space" points outside the model'):
        cymatic.load(broken)


def test_going_on_from_a_model_takes_its_codec_and_aligns_anew() -> None:
    plan = recipe(Path("anywhere")).going_on_from("runs/mine")
    assert list(plan.stages) == ["space", "prior"]
    prior: Any = plan.stages["prior"]
    assert (prior.codec, prior.space, plan.stages["space"].start) == ("runs/mine", "space", None)
    first = Recipe.parse(
        {"stages": {name: recipe(Path("x")).stages[name].model_dump() for name in ("space", "codec", "prior")}}, "x"
    )
    assert first.going_on_from("runs/mine").stages["prior"].space == "runs/mine"  # type: ignore[union-attr]


EIGHT = [f"{colour} {kind}" for colour in ("red", "blue", "green") for kind in ("circle", "square", "stripe")][:8]
OVERFIT = """
stages:
  space:
    task: alignment
    parts:
      picture: {kind: picture, picture: {size: 16}, halvings: 2, width: 32, depth: 1, heads: 2, dim: 32}
      caption: {kind: text, dim: 32, depth: 1, heads: 2}
    training: {steps: 60, batch: 8, learning_rate: 5.0e-3, warmup: 5, ema: 0.5}
  prior:
    task: prior
    space: space
    part: {kind: grid-flow, width: 64, depth: 2, heads: 2, patch: 4, centre: -0.8, picture: {size: 16}}
    encoder: {kind: text, dim: 32}
    training:
      {steps: 400, batch: 8, learning_rate: 2.0e-3, warmup: 10, ema: 0.9, condition_dropout: 0.3, vector_dropout: 0.3}
    sampling: {guidance: 1.5, steps: 8}
"""


@pytest.mark.slow
def test_eight_pictures_are_drawn_by_words_tokens_vectors_and_pictures(tmp_path: Path) -> None:
    """By each of them alone, the nearest of the eight is the right one."""
    (tmp_path / "eight").mkdir()
    rows = []
    for name in EIGHT:
        shape(name, 1).write(tmp_path / "eight" / f"{name}.png")
        rows.append({"picture": f"{name}.png", "caption": name, "split": "train"})
    (tmp_path / "eight" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = Recipe.parse({"data": {"folder": str(tmp_path / "eight")}, **yaml.safe_load(OVERFIT)}, "the test")
    assert train(plan, tmp_path / "run", say=quiet).finished
    model = load_generator(tmp_path / "run")
    pictures = [shape(name, 1) for name in EIGHT]
    real = torch.stack([model.target(one) for one in pictures]).flatten(1)
    asked: dict[str, tuple[Any, Any]] = {
        "both": (EIGHT, None), "tokens": (EIGHT, "tokens"), "vector": (EIGHT, "vector"), "pictures": (pictures, None),
    }  # fmt: skip
    for how, (prompts, by) in asked.items():
        made = torch.stack(model.draw(prompts, range(8), by=by)).flatten(1)
        assert torch.cdist(made, real).argmin(1).tolist() == list(range(8)), how


SOUNDS = """
stages:
  space:
    task: alignment
    parts:
      audio: {kind: sound, mel: voice-8k, width: 32, depth: 1, heads: 2, dim: 16}
      caption: {kind: text, dim: 16}
    training: {steps: 3, batch: 4}
  prior:
    task: prior
    space: space
    start: null
    part: {kind: flow, mel: voice-8k, width: 32, depth: 1, heads: 2}
    encoder: {kind: text, dim: 16}
    training: {steps: 4, batch: 4, vector_dropout: 0.2}
    sampling: {steps: 2}
vocoder: {rounds: 2}
data: {augment: {pitch: 1.0}}
"""


def test_sounds_and_words_draw_a_sound(tmp_path: Path) -> None:
    """Those that are moved in pitch have vectors of their own."""
    tones = tone_folder(tmp_path / "tones")
    plan = Recipe.parse(yaml.safe_load(SOUNDS), "the test").at(str(tones))
    assert train(plan, tmp_path / "run", say=quiet).finished
    model = cymatic.load(tmp_path / "run")
    for how in (
        {"prompt": "low tone"}, {"prompt": tone(220)}, {"prompt": "low tone", "by": "tokens"},
        {"prompt": "low tone", "by": "vector"},
    ):  # fmt: skip
        made = model(**how, seconds=0.2)
        assert isinstance(made, cymatic.Sound) and np.isfinite(made.samples).all()
