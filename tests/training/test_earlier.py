"""Recipes of version 0.1, of one kind each, become data and stages."""

import pytest

from cymatic.errors import ModelError
from cymatic.training.recipe import parse_recipe
from cymatic.training.stages import AutoencoderStage, PriorStage

# What version 0.1 wrote into a run, where an option has gone since.
GONE = {
    "kind": "waveform-codec", "rate": 8000, "tile": 4, "piece": 0.1,
    "network": {"kind": "fast", "hop": 80, "width": 16},
    "quantizer": {"kind": "residual", "levels": 2, "size": 16, "dim": 8, "temperature": None, "decorrelation": 0.0},
    "objective": {"mel": 1.0, "stft": 0.0, "time": 0.0, "emphasis": 0.0},
    "judges": {"judges": "spectrograms", "judged": 2, "rule": "hinge", "choice": "all", "alone": False},
}  # fmt: skip


def before(**changes):
    """That recipe with `objective__time=1` for `objective.time`."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in GONE.items()}
    for name, value in changes.items():
        place, key = name.split("__")
        values[place][key] = value
    return values


def test_a_waveform_codecs_recipe_becomes_a_stage():
    recipe = parse_recipe(before(), "recipe.yaml")
    stage = recipe.stages["codec"]
    assert isinstance(stage, AutoencoderStage)
    assert (stage.part.rate, stage.part.block, stage.part.network.hop, stage.segment) == (8000, 4, 80, 0.1)
    assert (stage.part.quantizer.levels, stage.part.quantizer.dim) == (2, 8)
    chosen = stage.discriminators
    assert (chosen.kind, chosen.segments, chosen.loss, chosen.selection) == ("spectrograms", 2, "hinge", "all")
    assert (stage.objective.mel, stage.training.betas) == (1.0, (0.8, 0.99))


def test_so_does_one_by_hand_that_says_no_kind_of_quantizer():
    values = before()
    del values["quantizer"]["kind"]
    assert parse_recipe(values, "mine.yaml") == parse_recipe(before(), "mine.yaml")


def test_another_quantizers_temperature_stays():
    values = before()
    values["quantizer"] = {"kind": "lookup-free", "dim": 8, "temperature": 0.5}
    assert parse_recipe(values, "recipe.yaml").stages["codec"].part.quantizer.temperature == 0.5


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
    with pytest.raises(ModelError, match=rf'^run/recipe.yaml: .*{key}" is {value}, and this version no longer') as said:
        parse_recipe(before(**{f"{place}__{key}": value}), "run/recipe.yaml")
    assert "\n" not in str(said.value)


def test_values_that_are_gone_are_refused_with_those_that_are_left():
    with pytest.raises(ModelError, match="discriminators of complex weights, which gained nothing; set it to lumen"):
        parse_recipe(before(judges__judges="lumen-complex"), "recipe.yaml")


def test_a_recipe_of_no_kind_is_one_of_words_to_sound():
    values = {
        "mel": "voice-8k", "data": {"folder": "tones"}, "text": {"dim": 16}, "prior": {"width": 32, "heads": 2},
        "vocoder": {"rounds": 2}, "start": None, "training": {"steps": 3}, "sampling": {"guidance": 3.0},
    }  # fmt: skip
    recipe = parse_recipe(values, "recipe.yaml")
    stage = recipe.stages["prior"]
    assert isinstance(stage, PriorStage)
    assert (stage.part.width, stage.part.reads.rate, stage.encoder.dim) == (32, 8000, 16)
    assert (recipe.vocoder.rounds, stage.training.steps, stage.sampling) == (2, 3, {"guidance": 3.0})
    assert "start" in stage.model_fields_set, "null says that it goes on from nothing"


def test_a_recipe_over_codes_is_two_stages_or_one_over_a_codec_that_is_there():
    values = {
        "kind": "mel-gpt", "mel": "voice-8k", "condition": {"dim": 16}, "codec_training": {"steps": 4},
        "codes": {"piece": 3, "variants": 2, "codec_share": 0.25}, "training": {"minutes": 8}, "judge": {"width": 4},
        "codec": {"multiples": [1, 2], "attention": [], "patch": [8, 4]},
    }  # fmt: skip
    codec, prior = parse_recipe(values, "recipe.yaml").stages.values()
    assert (codec.segment, codec.training.steps, codec.discriminators.width, codec.share) == (0.3, 4, 4, 0.25)
    assert (prior.codec, prior.variants, prior.encoder.dim) == ("codec", 2, 16)
    (alone,) = parse_recipe({**values, "start": "runs/codes"}, "recipe.yaml").stages.values()
    assert alone.codec == "runs/codes"


def test_a_vocoders_recipe_of_before_means_vocos():
    values = {"kind": "vocoder", "mel": "voice-8k", "vocoder": {"width": 16}, "judges": {"piece": 0.1, "alone": 6}}
    stage = parse_recipe(values, "recipe.yaml").stages["vocoder"]
    assert (stage.part.kind, stage.part.width, stage.segment, stage.discriminators.start) == ("vocos", 16, 0.1, 6)
    assert stage.objective.weights() == {"mel": 8.0, "log_mel": 8.0}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "text-to-soup"}, 'recipe.yaml is of the kind "text-to-soup"; did you mean "text-to-sound"'),
        ({"trainin": {}}, 'recipe.yaml: unknown key "trainin"; did you mean "training"'),
        ({"kind": "vocoder", "vocoder": 3}, 'recipe.yaml: "vocoder" is 3; give it a mapping'),
    ],
)
def test_what_no_version_knew_is_refused(values, said):
    with pytest.raises(ModelError, match=said):
        parse_recipe(values, "recipe.yaml")
