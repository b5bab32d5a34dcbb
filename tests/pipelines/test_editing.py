"""What a model over codes makes of sounds that are there: to go on, to vary, to blend, to measure."""

import numpy as np
import pytest
from tests.helpers import quiet, tiny_codes_recipe, tone

import cymatic
from cymatic.errors import Error, ModelError
from cymatic.training.train import train


@pytest.fixture(scope="module")
def model(tiny_codes_run):
    return cymatic.load(tiny_codes_run)


@pytest.fixture(scope="module")
def latent_model(tones, tiny_codes_run, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "latent"
    keys = ("training.steps=30", "prior.part={kind: gpt-vae, latent: 8, width: 32, depth: 1, heads: 2}")
    recipe = tiny_codes_recipe(tones, *keys).going_on_from(str(tiny_codes_run))
    assert train(recipe, run, say=quiet).finished
    return cymatic.load(run)


SOUND = tone(440, seconds=0.3)


def test_an_extension_begins_as_the_sound_does(model):
    codes, _ = model.codes_of(SOUND)
    column = model.spec.seconds(model.codec.length(2) - model.codec.length(1))
    made = model.extend(SOUND, keep=2 * column, seed=1, n=2, seconds=0.3)
    assert [sound.info["seed"] for sound in made] == [1, 2]
    assert all(sound.seconds >= 0.3 for sound in made)
    drawn, _ = model.prior.sample(None, [1], start=codes[None, :, :2], guidance=1.0)
    assert (drawn[0][:, :2] == codes[:, :2]).all()
    assert made[0].info["extends"] == f"{2 * column:.2f} s"


def test_an_extension_has_the_notes_of_its_prompt(model):
    made = model.extend(SOUND, prompt="low eleven", n=2)
    assert all('"eleven" is unlike' in sound.info["notes"][0] for sound in made)
    (alone,) = model.extend(SOUND)
    assert alone.info["prompt"] == "" and "notes" not in alone.info


def test_bad_extensions(model):
    with pytest.raises(Error, match="give --keep in that range"):
        model.extend(SOUND, keep=0.0)
    for keep in (float("nan"), float("inf"), 1e308, -1e308, -0.1):
        with pytest.raises(Error, match="give --keep in that range"):
            model.extend(SOUND, keep=keep)
    with pytest.raises(Error, match="no more than is kept"):
        model.extend(SOUND, keep=0.2, seconds=0.1)


def test_what_a_perfect_prior_would_give(model):
    again = model.revocode(SOUND)
    assert again.rate == 8000
    assert abs(again.seconds - SOUND.seconds) < 0.02


def test_how_likely_a_sound_is(model):
    nats, count = model.nll(SOUND, "low tone")
    codes, _ = model.codes_of(SOUND)
    assert count == codes.numel() and 0 < nats / count < 10


def test_a_model_without_a_latent_says_so(model):
    with pytest.raises(ModelError, match="can't vary, for its prior"):
        model.vary(SOUND)
    with pytest.raises(ModelError, match="can't blend"):
        model.blend(SOUND, SOUND)


def test_a_model_without_a_flow_over_grids_says_what_has_one(model):
    with pytest.raises(ModelError, match=r"can't inpaint, for its prior .*grid-flow"):
        model.inpaint(SOUND, SOUND)


@pytest.mark.parametrize("which", ["model", "latent_model"])
def test_a_preview_is_the_sound_as_far_as_it_is_made(request, which):
    one, shown = request.getfixturevalue(which), []
    made = one("low tone", n=2, seed=3, on_preview=lambda *told: shown.append(told))
    assert [told[0] for told in shown] == list(range(1, len(shown) + 1)) and len(shown) > 2
    seconds = [told[2][0].seconds for told in shown]
    assert seconds == sorted(seconds) and seconds[0] < seconds[-1]
    again = one("low tone", n=2, seed=3)
    for last, whole, alone in zip(shown[-1][2], made, again, strict=True):
        np.testing.assert_array_equal(last.samples, whole.samples)
        np.testing.assert_array_equal(whole.samples, alone.samples)
        assert last.info == whole.info


def test_blends_walk_from_one_sound_to_another(latent_model):
    ends = tone(220, seconds=0.2), tone(880, seconds=0.3)
    made = latent_model.blend(*ends, steps=4)
    assert len(made) == 4
    lengths = [sound.seconds for sound in made]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]
    with pytest.raises(Error, match="1 steps were asked for"):
        latent_model.blend(*ends, steps=1)


def test_variations_have_the_sounds_length(latent_model):
    made = latent_model.vary(SOUND, n=3, seed=2)
    assert len(made) == 3 and len({sound.seconds for sound in made}) == 1
    for amount in (2.0, -1e-9, float("nan"), float("inf"), -1e308):
        with pytest.raises(Error, match="amount"):
            latent_model.vary(SOUND, amount=amount)


def test_what_codes_look_at(model, latent_model):
    maps = model.attention(SOUND, "low tone")
    codes, _ = model.codes_of(SOUND)
    assert len(maps) == 1 and maps[0].shape[0] == 2
    assert maps[0].shape[1] > codes.numel()
    np.testing.assert_allclose(maps[0].sum(-1), 1, atol=1e-5)
    assert np.triu(maps[0], 1).max() == 0
    with pytest.raises(ModelError, match="has a GPT-VAE"):
        latent_model.attention(SOUND)


def test_a_trained_vocoder_asks_for_no_gradient(tones, tmp_path):
    """As the starter's does, which speaks of the mel of 24 kHz."""
    keys = ("codec.mel=sound-24k", "codec.patch=[20,4]", "training.steps=30", "codec.training.steps=30")
    assert train(tiny_codes_recipe(tones, *keys), tmp_path / "run", say=quiet).finished
    whole = cymatic.load(tmp_path / "run")
    assert whole.vocoder.config.kind == "vocos"
    assert whole.revocode(SOUND).rate == 24_000
    assert whole("low tone").rate == 24_000
