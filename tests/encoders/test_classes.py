import pytest
import torch

from cymatic.encoders.classes import ClassConfig, ClassEncoder
from cymatic.encoders.features import FeatureConfig, FeatureEncoder, places
from cymatic.errors import Error, PromptError


def test_an_unknown_class_is_named_with_the_nearest():
    encoder = ClassEncoder(ClassConfig(names=("baby", "dog", "fireworks"), dim=4))
    with pytest.raises(PromptError, match='there is no class "dogs"; did you mean "dog"'):
        encoder(["baby", "dogs"])


@pytest.mark.parametrize(("names", "message"), [(("a", "b", "a"), '"a" is there twice'), ((), "at least 1")])
def test_classes_that_can_not_be(names, message):
    with pytest.raises(ValueError, match=message):
        ClassConfig(names=names)


def test_frames_are_chosen_as_specvqgan_does():
    assert places(212, 1, "spread").tolist() == [106], "the middle one"
    assert places(212, 5, "spread").tolist() == [35, 77, 119, 162, 204]
    assert places(5, 5, "spread").tolist() == [0, 1, 2, 3, 4]
    assert places(300, 212, "cut").tolist() == list(range(212))
    assert places(100, 212, "cut").tolist() == [*range(100), *range(100), *range(12)]
    assert places(2, 5, "spread").tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("have", range(1, 40))
def test_frames_that_are_spread_are_there_and_in_order(have):
    for keep in range(1, have + 1):
        chosen = places(have, keep, "spread")
        assert chosen.min() >= 0 and chosen.max() < have
        assert (chosen.diff() > 0).all()


def test_the_mean_of_all_frames():
    encoder = FeatureEncoder(FeatureConfig(features=3, dim=4, frames=1, fewer="mean"))
    features = torch.randn(7, 3)
    torch.testing.assert_close(encoder([features]).tokens[0], encoder.project(features.mean(0, keepdim=True)))


def test_videos_of_one_length_may_come_as_one_tensor():
    encoder, features = FeatureEncoder(FeatureConfig(features=3, dim=4, frames=5)), torch.randn(2, 9, 3)
    assert torch.equal(encoder(features).tokens, encoder(list(features)).tokens)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(4, 5), "5 numbers a frame came where 3 are expected"),
        (torch.zeros(3, 9), "9 numbers .* transpose"),
        (torch.zeros(0, 3), "no frame"),
        (torch.full((4, 3), torch.nan), "NaN or infinity"),
    ],
)
def test_features_that_can_not_be_are_named(features, message):
    with pytest.raises(Error, match=message):
        FeatureEncoder(FeatureConfig(features=3, dim=4))([features])
