"""Pictures changed a little: nothing by itself, nothing that a caption speaks of, the same for the same step."""

import pytest
import torch

from cymatic.data.augment_pictures import moved, picture_augmenter
from cymatic.data.reading import Example
from cymatic.data.settings import Augmentation
from cymatic.media.picture import PictureSpec
from cymatic.signal.mel import PRESETS

WHITE, RED = PictureSpec(size=8), PictureSpec(size=8, background=(1.0, 0.0, 0.0))


def one(caption="an apple", spec=WHITE):
    """A blue corner, above on the left, on the background."""
    picture = torch.tensor(spec.background)[:, None, None].repeat(1, 8, 8)
    picture[:, :3, :2] = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    return Example(picture, caption=caption)


def test_nothing_is_changed_by_itself():
    assert picture_augmenter(Augmentation(), WHITE, 0) is None
    assert picture_augmenter(Augmentation(gain=3, pitch=1), WHITE, 0) is None
    assert picture_augmenter(Augmentation(flip=True), PRESETS["voice-8k"], 0) is None


def test_moving_and_zooming_by_known_amounts():
    picture = one().target
    assert torch.allclose(moved(picture, 1.0, 0.0, 0.0), picture, atol=1e-6)
    right = moved(picture, 1.0, 2 / 8, 1 / 8)
    assert torch.allclose(right[:, 1:, 2:], picture[:, :-1, :-2], atol=1e-5) and right[:, 0].abs().max() < 1e-6
    middle = torch.zeros(3, 8, 8)
    middle[:, 3:5, 3:5] = 1
    assert float(moved(middle, 2.0, 0, 0).sum()) == pytest.approx(4 * float(middle.sum()), rel=0.3)


@pytest.mark.parametrize("spec", [WHITE, RED])
def test_the_background_stays(spec):
    change = picture_augmenter(Augmentation(move=0.2, zoom=0.2, colour=0.5), spec, 0)
    for step in range(20):
        target = change(one(spec=spec), step, 0).target
        assert target.min() >= 0 and target.max() <= 1
        assert torch.allclose(target[:, -1, -1], torch.tensor(spec.background), atol=1e-5)


def test_the_same_step_and_place_give_the_same_and_others_another():
    change = picture_augmenter(Augmentation(move=0.2, zoom=0.1, colour=0.2, flip=True), WHITE, 3)
    assert torch.equal(change(one(), 5, 1).target, change(one(), 5, 1).target)
    assert not torch.equal(change(one(), 5, 1).target, change(one(), 6, 1).target)
    assert not torch.equal(change(one(), 5, 1).target, change(one(), 5, 2).target)


def test_half_are_mirrored_and_none_that_speaks_of_sides():
    change = picture_augmenter(Augmentation(flip=True), WHITE, 0)
    same = [torch.equal(change(one(), step, 0).target, one().target) for step in range(200)]
    assert 70 < sum(same) < 130
    assert all(
        torch.equal(change(one(), step, 0).target, one().target.flip(-1)) for step in range(200) if not same[step]
    )
    for caption in ("an arrow pointing LEFT", "right hand", "the letter B", "flag: Japan", "three o'clock"):
        assert all(torch.equal(change(one(caption), step, 0).target, one().target) for step in range(30)), caption
