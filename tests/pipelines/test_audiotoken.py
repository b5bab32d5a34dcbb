"""Sounds -> pictures: the whole chain over tiny parts, and over the fixtures of all three."""

import numpy as np
import pytest
import torch
from tests.conftest import installed
from tests.helpers import tone

from cymatic.cond import padded
from cymatic.encoders.audiotoken import AudioTokenConfig, AudioTokenEmbedder
from cymatic.encoders.beats import BeatsConfig, BeatsEncoder
from cymatic.encoders.sound import SoundEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import Cancelled, Error, ModelError, PromptError
from cymatic.hub.readers.audiotoken import read_audiotoken
from cymatic.hub.readers.beats import read_beats
from cymatic.hub.readers.stable_diffusion import read_stable_diffusion
from cymatic.media.picture import Picture
from cymatic.media.sound import Sound
from cymatic.pipelines.sound_word import SoundWord, features
from cymatic.pipelines.stable_diffusion import AT_ONCE, PictureDiffusion

SHORT = "a photo of <*>"  # there are few positions in a tiny model, and few words
SIZES = {
    "patch": 16, "patch_width": 8, "width": 12, "depth": 3, "heads": 2, "mlp": 16, "position_taps": 4,
    "position_groups": 2, "buckets": 8, "gated": True, "dropout": 0.2, "layer_drop": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(reference):
    installed("diffusers", "hub")
    installed("transformers", "hub")
    return reference("diffusers_stable_diffusion").folder


@pytest.fixture(scope="module")
def diffusion(folder):
    return read_stable_diffusion(folder)


def tiny_embedder(dim, inside=24, layers=(0, 2)):
    torch.manual_seed(1)
    return AudioTokenEmbedder(AudioTokenConfig(inside=inside, dim=dim, layers=layers))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return BeatsEncoder(BeatsConfig(**SIZES))


@pytest.fixture(scope="module")
def model(encoder, diffusion):
    word = SoundWord(encoder.train(), tiny_embedder(diffusion.width).train(), template=SHORT)
    return PictureDiffusion(diffusion, word)


def loud(seed, seconds=0.6, rate=16_000, channels=1):
    noise = np.random.default_rng(seed).normal(size=(channels, int(seconds * rate)))
    return Sound(0.2 * noise.astype(np.float32), rate)


def test_the_same_sound_and_seed_draw_the_same(model):
    first, again = (model(loud(0), seed=4, steps=3) for _ in range(2))
    assert isinstance(first, Picture) and (first.height, first.width) == model.diffusion.size
    assert np.array_equal(first.pixels, again.pixels)
    assert torch.equal(model.word.words([loud(0)]), model.word.words([loud(0)]))  # nothing is dropped
    assert not np.allclose(first.pixels, model(loud(0), seed=5, steps=3).pixels)
    assert not np.allclose(first.pixels, model(tone(300, 1.0), seed=4, steps=3).pixels)
    info = first.info
    assert info["template"] == SHORT and info["seed"] == 4 and info["steps"] == 3
    assert info["prompt"] == repr(loud(0)) and info["guidance"] == 7.5
    assert (info["model"], info["token"]) == ("stable-diffusion", "audiotoken")


def test_many_are_those_of_their_seeds(model):
    told = []
    count = AT_ONCE + 1
    made = model(loud(0), seed=2, n=count, steps=3, on_step=lambda *at: told.append(at))
    assert [one.info["seed"] for one in made] == list(range(2, 2 + count))
    for i in (0, count - 1):
        np.testing.assert_allclose(made[i].pixels, model(loud(0), seed=2 + i, steps=3).pixels, atol=2e-5)
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]


def test_a_word_is_the_same_alone_and_beside_a_longer_sound(model):
    short, long = loud(1, 0.4), loud(2, 1.1)
    words = model.word.words([short, long])
    assert words.shape == (2, model.diffusion.width)
    for i, sound in enumerate((short, long)):
        torch.testing.assert_close(words[i], model.word.words([sound])[0], atol=1e-5, rtol=1e-5)


def test_all_channels_are_heard_at_any_rate(model):
    stereo = loud(3, rate=44_100, channels=2)
    mixed = Sound(stereo.samples.mean(axis=0), 44_100).resample(16_000)
    torch.testing.assert_close(model.word.words([stereo]), model.word.words([mixed]), atol=1e-4, rtol=1e-4)
    first = Sound(stereo.samples[:1], 44_100)
    assert not torch.allclose(model.word.words([stereo]), model.word.words([first]), atol=1e-2)
    wrong = Sound(stereo.samples.mean(axis=0), 16_000)  # as if it were not resampled
    assert not torch.allclose(model.word.words([stereo]), model.word.words([wrong]), atol=1e-2)


def test_prompts_size_and_an_early_end(model):
    factor = model.diffusion.factor
    made = model(
        loud(0), steps=2, size=(factor * 3, factor * 5), template="<*> on a <*>", negative="a photo", guidance=2
    )
    assert (made.height, made.width) == (factor * 3, factor * 5)
    assert made.info["negative"] == "a photo" and made.info["template"] == "<*> on a <*>"
    assert not np.allclose(model(loud(0), steps=2, negative="in").pixels, model(loud(0), steps=2).pixels)

    def on_step(done, steps):
        raise Cancelled("nobody waits for it")

    with pytest.raises(Cancelled, match="nobody waits"):
        model(loud(0), steps=2, on_step=on_step)


def test_what_can_not_be_drawn_is_said(model):
    for given, settings, words in (
        ("in", {"template": "a <*>"}, "a template is for a sound"),
        (Picture(np.zeros((8, 8, 3))), {}, "drawn of sounds; give these instead of"),
        (loud(0, 0.1), {}, "or more"),
        (loud(0), {"steps": 10**6}, "1000000 steps"),
        (loud(0), {"n": 0}, "0 were asked for"),
        (loud(0), {"guidance": -1.0}, "guidance is -1"),
        (loud(0), {"size": 3}, "give multiples of"),
    ):
        with pytest.raises(Error, match=words):
            model(given, **settings)
    with pytest.raises(Error, match="no sound was given"):
        model.word.words([])
    with pytest.raises(PromptError, match="has no <"):
        model(loud(0), template="a photo")


def test_parts_that_do_not_fit_are_said(encoder, diffusion):
    dim = diffusion.width
    for heard, embedder, words in (
        (TextEncoder(TextConfig(dim=16)), tiny_embedder(dim), "reads no sounds"),
        (encoder, tiny_embedder(dim, layers=(0, 3)), r"layers \[0, 3\] of BEATs, and this one has layers 0 to 2"),
        (encoder, tiny_embedder(dim, layers=(0, 1, 2)), "gives 36 numbers and this embedder reads 24"),
        (encoder, tiny_embedder(dim + 1), f"words of {dim + 1} numbers .* reads {dim}"),
    ):
        with pytest.raises(ModelError, match=words):
            PictureDiffusion(diffusion, SoundWord(heard, embedder))


def test_any_encoder_of_sounds_will_do(diffusion):
    torch.manual_seed(0)
    heard = SoundEncoder(SoundEncoder.config_class(dim=16))
    model = PictureDiffusion(diffusion, SoundWord(heard, tiny_embedder(diffusion.width, inside=16, layers=())))
    assert np.array_equal(*(model(loud(0), steps=2, template=SHORT).pixels for _ in range(2)))
    with pytest.raises(ModelError, match="reads layers of BEATs"):
        SoundWord(heard, tiny_embedder(diffusion.width, inside=32))


def test_the_usual_prompt_is_their_own(encoder, diffusion):
    assert SoundWord(encoder, tiny_embedder(diffusion.width)).template == "a photo of <*>, 4k, high resolution"


def test_words_draw_as_well_and_alone(diffusion, model):
    alone = PictureDiffusion(diffusion)
    picture = alone("a photo", seed=3, steps=2)
    np.testing.assert_array_equal(picture.pixels, model("a photo", seed=3, steps=2).pixels)
    assert picture.info["prompt"] == "a photo" and "template" not in picture.info
    with pytest.raises(Error, match="reads words and no"):
        alone(loud(0))


def test_the_fixtures_of_all_three_make_a_picture(reference, diffusion):
    beats, embedder = reference("beats"), reference("audiotoken_embedder")
    path = embedder.folder / "embedder_learned_embeds.bin"
    if embedder.config["output_size"] != diffusion.width:
        pytest.skip("these fixtures are of other sizes")
    word = SoundWord(read_beats(beats.folder / "beats.pt"), read_audiotoken(path))
    model = PictureDiffusion(diffusion, word)
    wave = beats.inputs["wave"][0]
    tokens, mask = features(word.encoder, word.embedder.config, padded([wave]))
    assert mask.all()
    torch.testing.assert_close(tokens[0], beats.expected["layers_cat"][0], atol=2e-3, rtol=0)
    made = model(Sound(wave.numpy(), 16_000), steps=2, template="a <*>")
    assert np.isfinite(made.pixels).all() and made.pixels.std() > 0
