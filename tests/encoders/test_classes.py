from dataclasses import dataclass, field

import pytest
import torch

from cymatic.cond import padded
from cymatic.encoders.classes import ClassConfig, ClassEncoder
from cymatic.encoders.features import FeatureConfig, FeatureEncoder, places
from cymatic.errors import Error, PromptError
from cymatic.media.features import FeatureSpec


def test_an_unknown_class_is_named_with_the_nearest():
    encoder = ClassEncoder(ClassConfig(names=("baby", "dog", "fireworks"), dim=4))
    with pytest.raises(PromptError, match='there is no class "dogs"; did you mean "dog"'):
        encoder(["baby", "dogs"])


def test_classes_that_can_not_be():
    with pytest.raises(ValueError, match='"a" is there twice'):
        ClassConfig(names=("a", "b", "a"))
    with pytest.raises(Error, match="set names, or fit the config to data"):
        ClassEncoder(ClassConfig())
    with pytest.raises(Error, match="set features, or fit the config to data"):
        FeatureEncoder(FeatureConfig())


@dataclass(frozen=True)
class Item:
    caption: str = ""
    given: dict[str, torch.Tensor] = field(default_factory=dict)
    captions: tuple[tuple[str, ...], ...] = ()


def test_what_only_the_data_know_is_filled_in():
    assert ClassConfig(dim=4).fitted([Item("dog"), Item("cat"), Item("dog"), Item()]).names == ("cat", "dog")
    assert ClassConfig(dim=4).fitted([Item("dog", captions=(("hound", "dog"),))]).names == ("dog", "hound")
    assert ClassConfig(names=("rain",)).fitted([Item("dog")]).names == ("rain",)
    with pytest.raises(Error, match="these have none; give data with captions"):
        ClassConfig().fitted([Item()])
    config = FeatureConfig(frames=3, name="flow")
    assert config.reads == FeatureSpec(name="flow")
    items = [Item(given={"video": torch.zeros(12, 9)}), Item(given={"video": torch.zeros(12, 2)}), Item()]
    fitted = config.fitted(items, "video")
    assert (fitted.features, fitted.frames) == (12, 3) and fitted.reads == FeatureSpec(name="flow", dim=12)
    with pytest.raises(Error, match='"video" are missing in these data'):
        config.fitted([Item(given={"features": torch.zeros(12, 9)})], "video")
    with pytest.raises(Error, match='"video" are of 2 widths in these data'):
        config.fitted([*items, Item(given={"video": torch.zeros(13, 9)})], "video")


def test_a_padded_batch_of_features_is_its_items():
    encoder = FeatureEncoder(FeatureConfig(features=4, dim=6, frames=3))
    items = [torch.randn(n, 4) for n in (7, 2, 5)]
    together = encoder(padded([item.mT for item in items], value=torch.nan))
    assert torch.equal(together.tokens, encoder(items).tokens)


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
