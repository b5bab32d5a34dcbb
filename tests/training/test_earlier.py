"""Recipes of earlier versions."""

import pytest

from cymatic.errors import ModelError
from cymatic.training.recipe import make_recipe, parse_recipe

CODEC = make_recipe(None, ["kind=waveform-codec"])
SIGNS = make_recipe(None, ["kind=waveform-codec", "quantizer={kind: lookup-free, dim: 8, temperature: 0.5}"])


def before(**changes):
    """A waveform codec's recipe as version 0.1 wrote it into a run, with `objective__time=1` for `objective.time`."""
    values = CODEC.model_dump(mode="json")
    values["objective"].update(stft=0.0, time=0.0, emphasis=0.0)
    values["quantizer"].update(temperature=None, decorrelation=0.0)
    for name, value in changes.items():
        place, key = name.split("__")
        values[place][key] = value
    return values


def test_a_runs_recipe_of_before_is_read():
    assert parse_recipe(before(), "recipe.yaml") == CODEC


def test_so_is_one_by_hand_that_says_no_kind_of_quantizer():
    values = before()
    del values["quantizer"]["kind"]
    assert parse_recipe(values, "mine.yaml") == CODEC


def test_another_quantizers_temperature_stays():
    assert parse_recipe(SIGNS.model_dump(mode="json"), "recipe.yaml") == SIGNS


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("objective", "stft", 0.5),
        ("objective", "time", 1),
        ("objective", "emphasis", 0.97),
        ("quantizer", "temperature", 0.3),
        ("quantizer", "decorrelation", 1.0),
    ],
)
def test_an_option_that_is_gone_is_refused_in_one_sentence(place, key, value):
    with pytest.raises(ModelError, match=rf'^run/recipe.yaml: "{place}.{key}" is {value}, and this version no longer'):
        parse_recipe(before(**{f"{place}__{key}": value}), "run/recipe.yaml")


def test_values_that_are_gone_are_refused_with_those_that_are_left():
    with pytest.raises(ModelError, match=r"\"judges.judges\" is 'lumen-complex': input should be 'spectrograms' or"):
        parse_recipe(before(judges__judges="lumen-complex"), "recipe.yaml")
    with pytest.raises(ModelError, match="alone leaves these out; give one of the two"):
        make_recipe(None, ["kind=waveform-codec", "judges.balanced=true", "judges.alone=true"])
