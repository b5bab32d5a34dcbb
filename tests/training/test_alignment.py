"""Pictures and captions into one space: cached gradients, which items count as one, and what is measured and kept."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from tests.helpers import interrupted_after, quiet

import cymatic
from cymatic.data.batches import Batch, collate
from cymatic.data.reading import Example
from cymatic.encoders.align import chance, same
from cymatic.encoders.picture import PictureConfig, PictureEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import ModelError
from cymatic.hub.parts import load_part
from cymatic.hub.pipeline_file import read_pipeline
from cymatic.media.picture import Picture
from cymatic.training.recipe import Recipe
from cymatic.training.stages import AlignmentStage
from cymatic.training.tasks.alignment import AlignmentTask
from cymatic.training.train import read_run, train

PICTURE = {"kind": "picture", "picture": {"size": 16}, "halvings": 2, "width": 16, "depth": 1, "heads": 2, "dim": 16}
CAPTION = {"kind": "text", "dim": 16, "depth": 1, "heads": 2}
NAMES = ["apple", "bear", "car", "dog", "egg", "fish", "goat", "house"]


def task(at_once: int | None = None, dropout: float = 0.0, loss: str = "infonce", batch: int = 7) -> AlignmentTask:
    parts = {"picture": {**PICTURE, "dropout": dropout}, "caption": CAPTION}
    stage = AlignmentStage.parse(
        {"task": "alignment", "parts": parts, "loss": loss, "at_once": at_once, "training": {"batch": batch}}, "here"
    )
    torch.manual_seed(0)
    encoders = {
        "picture": PictureEncoder(PictureConfig.parse(parts["picture"], "here")),
        "caption": TextEncoder(TextConfig.parse(parts["caption"], "here")),
    }
    return AlignmentTask(stage, encoders).train()


def batch_of(count: int) -> Batch:
    chance = torch.Generator().manual_seed(1)
    captions = [NAMES[i % 5] for i in range(count)]  # from five on, some have the caption of another
    return collate([Example(torch.rand(3, 16, 16, generator=chance), caption=caption) for caption in captions])


def gradients(one: AlignmentTask, count: int = 7) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    terms = one(batch_of(count), 5)
    terms["loss"].backward()
    named = {name: p.grad for name, p in one.named_parameters()}
    without = {name for name, gradient in named.items() if gradient is None}
    assert without == {"encoders.picture.project.weight", "encoders.picture.project.bias"}, "they make tokens alone"
    return terms, [gradient for gradient in named.values() if gradient is not None]


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("at_once", [1, 2, 3, 6])
def test_a_batch_encoded_a_few_at_a_time_has_the_loss_and_the_gradient_of_the_whole(at_once, loss):
    (terms, whole), (others, few) = gradients(task(loss=loss)), gradients(task(at_once, loss=loss))
    assert terms.keys() == others.keys()
    for name, value in terms.items():
        torch.testing.assert_close(others[name], value, atol=1e-5, rtol=1e-5)
    for a, b in zip(whole, few, strict=True):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-4)


def test_dropout_is_the_same_on_both_ways_through():
    """The squared norm of a vector of unit norm has no slope, but where a second pass gives another vector."""
    one = task(2, dropout=0.5)
    one._terms = lambda vectors, alike: {"loss": torch.stack([v.square().sum() for v in vectors.values()]).sum()}  # type: ignore[method-assign]
    one(batch_of(6), 5)["loss"].backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-4 for p in one.encoders.parameters())


def test_measuring_needs_no_graph_and_no_room_for_one():
    one = task(2).eval()
    with torch.no_grad():
        few, whole = one(batch_of(7), 5), task().eval()(batch_of(7), 5)
    torch.testing.assert_close(few["loss"], whole["loss"])
    assert not few["loss"].requires_grad and not int(one.steps)


def test_items_that_have_anything_in_common_count_as_one():
    contents = [("red", b"1"), ("red", b"2"), ("", b"3"), ("", b"4"), ("blue", b"2"), ("green", b"4")]
    expected = torch.eye(6, dtype=torch.bool)
    for i, j in ((0, 1), (1, 4), (3, 5)):
        expected[i, j] = expected[j, i] = True
    assert torch.equal(same(contents), expected)


def test_the_same_picture_under_two_names_is_no_negative():
    """Three flags, two of which look the same: neither of these is pushed from the other's words."""
    flags = torch.rand(2, 3, 16, 16)
    batch = collate([Example(flags[i], caption=name) for i, name in ((0, "chad"), (0, "romania"), (1, "peru"))])
    one = task()
    assert same(one._contents(batch)).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    vectors = one._vectors(batch)
    logits = vectors["picture"] @ vectors["caption"].T / 0.07
    for i, j in ((0, 1), (1, 0)):
        logits[i, j] = -math.inf
    own = torch.arange(3)
    expected = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(one(batch, 0)["loss"], expected)


def test_chance_is_counted():
    """Over all orders of five columns, by hand: one of five, and for a row with a twin two of five."""
    alike = torch.eye(5, dtype=torch.bool)
    assert chance(alike, 1) == pytest.approx(0.2) and chance(alike, 2) == pytest.approx(0.4)
    alike[0, 1] = alike[1, 0] = True
    assert chance(alike, 1) == pytest.approx((0.4 + 0.4 + 0.2 * 3) / 5)
    assert chance(alike, 4) == pytest.approx((1 + 1 + 0.8 * 3) / 5) and chance(alike, 9) == 1


def test_what_is_measured_has_chance_beside_it():
    """Untrained, so recall is what counting gives; of 60 items in an order of their own."""
    one = task().eval()
    generator = torch.Generator().manual_seed(2)
    held_out = [Example(torch.rand(3, 16, 16, generator=generator), caption=f"thing {i}") for i in range(60)]
    scores = one.measure(held_out, 8)
    for k in (1, 5, 10):
        assert scores[f"chance@{k}"] == pytest.approx(k / 60)
        for way in ("picture-caption", "caption-picture"):
            assert 0 <= scores[f"{way}@{k}"] <= 0.6
    assert scores["picture-caption@1"] <= scores["picture-caption@5"] <= scores["picture-caption@10"]
    assert one.measure(held_out, 13) == pytest.approx(scores, abs=1e-5), "whatever the batches"


def picture_folder(root):
    """Eight pictures of coloured squares, all to train on."""
    root.mkdir()
    rows = []
    for i, name in enumerate(NAMES):
        pixels = np.random.default_rng(i).random((8, 8, 3)).repeat(3, 0).repeat(3, 1)
        Picture(pixels).write(root / f"{name}.png")
        rows.append({"picture": f"{name}.png", "caption": name, "split": "train"})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def recipe(folder, steps, **changes):
    stage = {
        "task": "alignment",
        "parts": {"picture": PICTURE, "caption": CAPTION},
        "training": {
            "steps": steps,
            "batch": 8,
            "warmup": 2,
            "checkpoint_steps": 20,
            "learning_rate": 5e-3,
            "ema": 0.5,
        },
        **changes,
    }
    return Recipe.parse({"data": {"folder": str(folder)}, "stages": {"space": stage}}, "the test")


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return picture_folder(tmp_path_factory.mktemp("pictures") / "eight")


@pytest.fixture(scope="module")
def learned(eight, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    assert train(recipe(eight, 60, at_once=3), run, say=quiet).finished
    return run


def test_eight_pictures_and_their_names_find_each_other(eight, learned):
    """By the model as it is loaded: recall at 1 of 1 both ways."""
    model = cymatic.load(learned)
    names = sorted(NAMES)
    pictures = [Picture.read(eight / f"{name}.png") for name in names]
    similarity = model.embed(pictures, "picture") @ model.embed(names, "caption").T
    assert similarity.argmax(1).tolist() == similarity.argmax(0).tolist() == list(range(8))


def test_the_scale_of_the_similarities_is_kept_with_the_model(learned):
    file = read_pipeline(learned)
    assert file.kind == "encoders" and set(file.parts) == {"picture", "caption"}
    assert file.scale is not None and 1 < file.scale <= 100 and file.scale != pytest.approx(1 / 0.07, abs=1e-4)
    assert cymatic.load(learned).scale == file.scale


def test_nothing_of_the_batch_s_size_is_kept(learned):
    """What one batch size has trained another goes on with, state and all."""
    for name, kind in (("picture", PictureEncoder), ("caption", TextEncoder)):
        load_part(learned / name, (kind,))
    one = task(batch=8)
    gradients(one, 5)
    other = task(batch=2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.eval()(batch_of(5), 0)["loss"], one.eval()(batch_of(5), 0)["loss"])


def test_a_resumed_run_with_cached_gradients_and_dropout_equals_an_uninterrupted_one(eight, tmp_path):
    parts = {"picture": {**PICTURE, "dropout": 0.2}, "caption": {**CAPTION, "dropout": 0.2}}
    settings = {"parts": parts, "at_once": 3}
    assert train(recipe(eight, 12, **settings), tmp_path / "whole", say=quiet).finished
    cut = tmp_path / "cut"
    assert not train(recipe(eight, 12, **settings), cut, say=quiet, on_report=interrupted_after(7)).finished
    torch.rand(7)  # whatever else draws random numbers in between
    assert train(read_run(cut), cut, resume=True, say=quiet).finished
    for file in ("picture/model.safetensors", "caption/model.safetensors", "pipeline.json"):
        assert (cut / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_small_pictures_first(eight, tmp_path):
    """The second stage begins with what the first has learned, over pictures of twice the side."""
    values = recipe(eight, 4).model_dump()
    small, space = (copy.deepcopy(values["stages"]["space"]) for _ in range(2))
    small["parts"]["picture"]["picture"]["size"] = 8
    space["start"] = "small"
    space["training"] |= {"learning_rate": 1e-12, "weight_decay": 0.0}
    stages = Recipe.parse({**values, "stages": {"small": small, "space": space}}, "the test")
    assert train(stages, tmp_path / "both", say=quiet).finished
    alone = Recipe.parse({**values, "stages": {"small": small}}, "the test")
    assert train(alone, tmp_path / "small", say=quiet).finished
    for name, kind, size in (("picture", PictureEncoder, 16), ("caption", TextEncoder, None)):
        ours, first = (load_part(tmp_path / run / name, (kind,)) for run in ("both", "small"))
        for key, tensor in first.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], tensor, atol=1e-5, rtol=0)
        assert size is None or (ours.config.picture.size, first.config.picture.size) == (16, 8)


def test_what_can_not_be_gone_on_from_is_said(eight, learned, tmp_path):
    assert train(recipe(eight, 2, start=str(learned)), tmp_path / "further", say=quiet).finished
    wider = {"parts": {"picture": {**PICTURE, "width": 32}, "caption": CAPTION}}
    with pytest.raises(ModelError, match=r"the picture of .* has width 16, and 32 is asked for"):
        train(recipe(eight, 2, start=str(learned), **wider), tmp_path / "wider", say=quiet)
    classes = {"parts": {"picture": PICTURE, "caption": {"kind": "class", "dim": 16}}}
    with pytest.raises(ModelError, match=r"the caption of .* is of the kind text, not class"):
        train(recipe(eight, 2, start=str(learned), **classes), tmp_path / "classes", say=quiet)
