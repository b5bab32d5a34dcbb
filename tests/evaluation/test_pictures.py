"""Pictures under an evaluation: PSNR, a classifier of them, a contact sheet, copies among neighbours."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.helpers import draw, shape_clips

from cymatic.errors import Error
from cymatic.evaluation.contact import contact_sheet
from cymatic.evaluation.evaluate import Shown
from cymatic.evaluation.neighbours import neighbours
from cymatic.evaluation.picture_classifier import (
    PictureClassifier,
    PictureClassifierConfig,
    shared_captions,
    train_on_pictures,
)
from cymatic.evaluation.pictures import pictures_by, psnr
from cymatic.evaluation.questions import CAPTION, Recogniser
from cymatic.evaluation.values import targets_of
from cymatic.hub.parts import load_part, save_part
from cymatic.media.picture import PICTURE, Picture, PictureSpec

SPEC = PictureSpec(size=16)


def test_psnr_is_measured_in_the_size_and_on_the_background_of_the_model():
    picture = Picture(np.full((8, 8, 3), 0.5))
    assert psnr(picture, Picture(np.full((16, 16, 3), 0.6)), PictureSpec(size=8)) == pytest.approx(20, abs=0.1)
    clear = Picture(np.concatenate([np.ones((8, 8, 3)), np.zeros((8, 8, 1))], 2))
    black = Picture(np.zeros((8, 8, 3)))
    assert psnr(clear, black, PictureSpec(size=8, background=(0, 0, 0))) == 100
    assert psnr(clear, black, PictureSpec(size=8)) == pytest.approx(0)
    losses = pictures_by(PictureSpec(size=8)).losses
    assert losses is not None and losses([picture] * 2, [picture, black])["psnr"].value == pytest.approx(53, abs=0.1)


@pytest.fixture(scope="module")
def trained():
    clips = shape_clips(takes=12)
    classifier, steps = train_on_pictures(clips, SPEC, seconds=20)
    assert 10 <= steps <= 203
    return classifier


def test_a_classifier_learns_shapes_and_colours_of_pictures_it_never_met(trained):
    held = shape_clips(takes=6, seed=1)
    assert isinstance(trained, Recogniser)
    right = np.mean(
        [got == want for got, want in zip(trained.answers(held.values)[CAPTION], held.captions, strict=True)]
    )
    assert right > 0.85
    chances = trained.chances(held.values)[CAPTION]
    assert chances.shape == (len(held), 9) and np.allclose(chances.sum(1), 1, atol=1e-5)
    assert trained.truth([held])[CAPTION]["red circle"] == "red circle"


def test_a_picture_is_answered_alike_alone_and_among_others(trained):
    held = shape_clips(takes=2, seed=2)
    together = trained.embedding(held.values)
    alone = np.concatenate([trained.embedding([one]) for one in held.values])
    np.testing.assert_allclose(alone, together, atol=1e-4)
    assert trained.embedding([]).shape == (0, 96)


def test_a_classifier_is_saved_and_read_again(trained, tmp_path):
    save_part(tmp_path / "classifier", trained)
    again = load_part(tmp_path / "classifier", (PictureClassifier,))
    held = shape_clips(takes=1, seed=3)
    np.testing.assert_array_equal(again.embedding(held.values), trained.embedding(held.values))


def test_training_draws_nothing_from_the_callers_generator():
    clips = shape_clips(takes=2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, steps = train_on_pictures(clips, SPEC, seconds=0.0)
    assert torch.equal(torch.rand(3), expected) and steps == 10
    again, _ = train_on_pictures(clips, SPEC, seconds=0.0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_a_gradient_reaches_every_parameter():
    config = PictureClassifierConfig(labels={CAPTION: ("a", "b")}, picture=SPEC)
    classifier = PictureClassifier(config)
    classifier(draw(4, 3, 16, 16).sigmoid())[CAPTION].square().sum().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in classifier.parameters())


def test_captions_of_their_own_are_left_to_a_probe():
    clips = shape_clips(takes=1)
    assert shared_captions(shape_clips(takes=4)) and not shared_captions(clips)
    with pytest.raises(Error, match="too many to learn"):
        train_on_pictures(clips, SPEC, seconds=1)


def test_a_sheet_shows_real_and_generated_side_by_side(tmp_path):
    clips = shape_clips(takes=1)
    shown = [Shown(caption, value, None, value) for caption, value in zip(clips.captions, clips.values, strict=True)]
    path = contact_sheet(tmp_path / "contact.png", shown, pictures_by(SPEC), PICTURE)
    assert Image.open(path).width == 12 + 4 * 140, "two captions a row, without what nothing has"
    target = PICTURE.prepare(clips.values[0], SPEC)
    path = contact_sheet(tmp_path / "one.png", [Shown("a", target, None, None)], targets_of(PICTURE, SPEC), PICTURE)
    assert Image.open(path).width == 12 + 140
    assert contact_sheet(tmp_path / "none.png", [], pictures_by(SPEC), PICTURE) is None
    assert not (tmp_path / "none.png").exists()


def test_identical_pictures_count_as_one_among_neighbours():
    draws = np.random.default_rng(0)
    apart = draws.normal(size=(40, 8))
    copied = np.concatenate([apart, apart])  # each under two captions
    captions = [str(i) for i in range(80)]
    made = apart + 0.5
    found = neighbours(made, captions[:40], apart[:0], [], copied, captions)
    once = neighbours(made, captions[:40], apart[:0], [], apart, captions[:40])
    assert found is not None and once is not None
    assert found.real == pytest.approx(once.real) and found.real > 0
    held = np.concatenate([apart[:5], draws.normal(size=(5, 8))])  # five of ten are trained on, too
    found = neighbours(made, captions[:40], held, captions[:10], copied, captions, nouns="pictures")
    assert found is not None and found.of == "5 pictures held out" and found.real > 0
