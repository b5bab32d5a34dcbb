"""Pictures by priors over grids of codes: previews, and what is kept of a picture while the rest is drawn.

The codec is trained and the priors are not: what is looked at are pixels that must not change.
"""

from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import shape

import cymatic
from cymatic.errors import Error, ModelError
from cymatic.media.picture import Picture
from cymatic.priors.gpt import GPTConfig, GPTPrior
from cymatic.priors.gpt_vae import GPTVAE, GPTVAEConfig
from cymatic.priors.masked import MaskedConfig, MaskedPrior
from cymatic.priors.seq2seq import Seq2SeqConfig, Seq2SeqPrior

SHAPE = {"codes": 32, "rows": 4, "longest": 4, "width": 32, "depth": 1, "heads": 2, "cond_dim": 16}
ROWS = GPTConfig(**SHAPE, end=False, order="row-major")
PRIORS = {
    "gpt": lambda: GPTPrior(ROWS),
    "gpt by columns": lambda: GPTPrior(GPTConfig(**SHAPE, end=False)),
    "gpt-vae": lambda: GPTVAE(GPTVAEConfig(decoder=ROWS, latent=8)),
    "seq2seq": lambda: Seq2SeqPrior(Seq2SeqConfig(**SHAPE)),
    "masked": lambda: MaskedPrior(MaskedConfig(**SHAPE)),
}
VALUE = shape("blue circle", seed=3)


@pytest.fixture
def make(tiny_pictures_run):
    def with_prior(name: str) -> Any:
        model: Any = cymatic.load(tiny_pictures_run)
        torch.manual_seed(0)
        model.prior = PRIORS[name]().eval()
        for p in model.prior.parameters():  # or all codes would be about as likely
            if p.dim() > 1:
                torch.nn.init.normal_(p, std=0.3)
        model.prior.steps_trained.fill_(1)
        model.defaults = model.prior.sampling()
        return model

    return with_prior


def codes(value: Picture, model: Any) -> torch.Tensor:
    return model.codes_of(value)[0]


@pytest.mark.parametrize("name", PRIORS)
def test_a_preview_shows_what_is_made_on_the_background(make, name):
    model, shown = make(name), []
    made = model("red circle", n=2, seed=1, on_preview=lambda *told: shown.append(told))
    again = model("red circle", n=2, seed=1)
    for last, whole, alone in zip(shown[-1][2], made, again, strict=True):
        assert np.array_equal(last.pixels, whole.pixels) and np.array_equal(whole.pixels, alone.pixels)
        assert last.info == whole.info
    assert [told[0] for told in shown] == list(range(1, len(shown) + 1))
    if name == "masked":
        return
    assert [told[1] for told in shown] == [4] * 4
    for done, _, values in shown[:-1]:
        for value in values:
            pixels = value.pixels if name != "gpt by columns" else value.pixels.transpose(1, 0, 2)
            assert (pixels[4 * done :] == 1).all(), "four pixels a code"
            assert not (pixels[: 4 * done] == 1).all()


@pytest.mark.parametrize("name", ["gpt", "gpt-vae", "seq2seq", "masked"])
@pytest.mark.parametrize("prompt", [None, "red circle"])
def test_an_extension_keeps_the_upper_rows_exactly(make, name, prompt):
    model = make(name)
    made = model.extend(VALUE, keep=0.5, n=2, seed=4, prompt=prompt, top_k=20)
    assert [one.info["seed"] for one in made] == [4, 5]
    assert made[0].info["extends"] == "0.5 of the height" and made[0].info["top_k"] == 20
    assert made[0].info["guidance"] == (1.0 if prompt is None else model.defaults.guidance)
    for one in made:
        assert np.array_equal(one.pixels[:8], VALUE.pixels[:8])
        assert np.abs(one.pixels[8:] - VALUE.pixels[8:]).max() > 0.05
    assert not np.array_equal(made[0].pixels, made[1].pixels)
    (alone,) = model.extend(VALUE, keep=0.5, seed=5, prompt=prompt, top_k=20)
    np.testing.assert_allclose(alone.pixels, made[1].pixels, atol=1e-5)


def test_what_is_drawn_goes_on_from_the_codes_that_are_kept(make):
    model = make("gpt")
    (made,) = model.extend(VALUE, keep=0.5, seed=4)
    kept = codes(VALUE, model)[None, :2]
    drawn, columns = model.prior.sample(None, [4], start=kept, guidance=1.0)
    assert torch.equal(drawn[:, :2], kept)
    (whole,) = model.finished(model.decoded(drawn, columns), 4, {})
    assert np.array_equal(made.pixels[8:], whole.pixels[8:])


def test_a_picture_of_another_size_is_kept_as_the_model_reads_it(make):
    large = Picture(np.random.default_rng(0).random((40, 60, 4)))
    (made,) = make("seq2seq").extend(large, keep=0.75)
    wanted = large.on().square(16)
    assert np.array_equal(made.pixels[:12], wanted.pixels[:12])


@pytest.mark.parametrize("keep", [0.0, 1.0, 0.1, 0.9, -0.5, 2, float("nan"), float("inf")])
def test_nothing_to_keep_or_nothing_to_draw_is_named(make, keep):
    with pytest.raises(Error, match=r"in 4 rows and keeps 0\.25 to 0\.75 of it; give --keep in that range"):
        make("seq2seq").extend(VALUE, keep=keep)


def test_a_prior_that_goes_by_columns_says_so(make):
    with pytest.raises(ModelError, match="makes pictures column by column"):
        make("gpt by columns").extend(VALUE)
    with pytest.raises(Error, match="no length in time; leave seconds out"):
        make("gpt").extend(VALUE, seconds=2)


def test_what_a_mask_keeps_is_exact(make):
    model, mask = make("masked"), np.zeros((16, 16), dtype=np.float32)
    mask[5:12, 2:9] = 1
    (made,) = model.inpaint(VALUE, Picture(mask), seed=2)
    assert np.array_equal(made.pixels[mask == 0], VALUE.pixels[mask == 0])
    assert np.abs(made.pixels - VALUE.pixels)[mask == 1].max() > 0.05
    mask[:3] = 0.5
    (mixed,) = model.inpaint(VALUE, Picture(mask), seed=2)
    assert np.array_equal(mixed.pixels[mask == 0], VALUE.pixels[mask == 0])
    assert np.abs(mixed.pixels - VALUE.pixels)[:3].max() > 1e-3
