"""What every quantizer promises. A new one is one more row in ROWS."""

from typing import get_args

import pytest
import torch
from torch import nn

from cymatic.errors import Error
from cymatic.hub.parts import load_weights
from cymatic.quantizers import QUANTIZERS, GridQuantizerConfig, LevelsQuantizerConfig, build_quantizer
from cymatic.quantizers.finite import (
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    LookupFreeQuantizer,
    LookupFreeQuantizerConfig,
)
from cymatic.quantizers.gaussian import GaussianBottleneck, GaussianBottleneckConfig
from cymatic.quantizers.maps import MapConfig
from cymatic.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig
from cymatic.quantizers.vector import VectorQuantizer, VectorQuantizerConfig

DIM, SIZE = 6, 11
PLACES = {"sequence": (9,), "grid": (4, 3)}


def vector(**settings) -> VectorQuantizer:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(VectorQuantizerConfig(size=SIZE, dim=DIM, **settings))
    nn.init.normal_(quantizer.codebook)  # all near zero, as it starts, only few codes would be taken
    return quantizer.eval()


def residual(**settings) -> ResidualQuantizer:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(ResidualQuantizerConfig(levels=3, size=SIZE, dim=DIM, **settings))
    quantizer.train()(given((4, 3)), torch.Generator().manual_seed(0))
    return quantizer.eval()


def finite(**settings) -> FiniteScalarQuantizer:
    torch.manual_seed(0)
    return FiniteScalarQuantizer(FiniteScalarQuantizerConfig(dim=DIM, steps=(4, 3), **settings)).eval()


def lookup_free(**settings) -> LookupFreeQuantizer:
    torch.manual_seed(0)
    return LookupFreeQuantizer(LookupFreeQuantizerConfig(dim=DIM, bits=4, **settings)).eval()


def gaussian(**settings) -> GaussianBottleneck:
    torch.manual_seed(0)
    bottleneck = GaussianBottleneck(GaussianBottleneckConfig(dim=DIM, latent=4, **settings))
    bottleneck.train()(given((9,)), torch.Generator().manual_seed(0))  # its scale is that of what it has met
    return bottleneck.eval()


def given(places: tuple[int, ...], batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, DIM, *places, generator=torch.Generator().manual_seed(1))


def size(quantizer: nn.Module) -> int:
    return SIZE if isinstance(quantizer, VectorQuantizer) else quantizer.sizes[0]


def levels(quantizer: nn.Module) -> tuple[int, ...]:
    return () if isinstance(quantizer, VectorQuantizer) else (quantizer.levels,)


ROWS = {
    "vector": vector(),
    "vector, legacy": vector(legacy=True),
    "vector, cosine": vector(metric="cosine"),
    "vector, narrow": vector(lookup_dim=3),
    "vector, narrow cosine": vector(lookup_dim=4, metric="cosine"),
    "vector, running means": vector(learned="ema"),
    "vector, running means of directions": vector(learned="ema", metric="cosine", lookup_dim=3),
    "vector, noise": vector(noise_sigma=2.0),
    "vector, restarts": vector(restart="encoder"),
    "residual": residual(),
    "residual, gradient": residual(learned="gradient"),
    "residual, directions": residual(metric="cosine"),
    "residual, narrow": residual(lookup_dim=3, learned="gradient", metric="cosine"),
    "residual, narrow running means": residual(lookup_dim=3),
    "residual, dropout": residual(dropout=0.5),
    "residual, on a map": residual(map=MapConfig(topology="line")),
    "residual, on a map by gradient": residual(map=MapConfig(kernel="hard", reach=1.5), learned="gradient"),
    "finite": finite(),
    "finite, levels": finite(levels=3, dropout=0.5),
    "lookup-free": lookup_free(),
    "lookup-free, levels": lookup_free(levels=3, dropout=0.5),
}
GAUSSIAN = {"gaussian": gaussian(), "gaussian, no pull": gaussian(kl=0.0)}  # whose latents are no codes
every_quantizer = pytest.mark.parametrize("quantizer", ROWS.values(), ids=ROWS)
every_bottleneck = pytest.mark.parametrize("quantizer", [*ROWS.values(), *GAUSSIAN.values()], ids=[*ROWS, *GAUSSIAN])
every_layout = pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)


def test_every_quantizer_is_here():
    assert {type(quantizer) for quantizer in [*ROWS.values(), *GAUSSIAN.values()]} == set(QUANTIZERS)
    nested = {kind for union in (GridQuantizerConfig, LevelsQuantizerConfig) for kind in get_args(get_args(union)[0])}
    assert nested == {quantizer.config_class for quantizer in QUANTIZERS}


@every_bottleneck
def test_a_config_builds_its_quantizer(quantizer):
    assert type(build_quantizer(quantizer.config)) is type(quantizer)
    assert quantizer.has_levels != isinstance(quantizer, VectorQuantizer)
    assert len(quantizer.sizes) == quantizer.levels


@every_layout
@pytest.mark.parametrize("quantizer", GAUSSIAN.values(), ids=GAUSSIAN)
def test_latents_without_codes_stand_for_what_is_given(quantizer, places):
    z = given(places)
    out = quantizer(z)
    assert out.z.shape == z.shape and out.codes.shape == (3, 0, *places)
    latent = quantizer.to_latent(z)
    assert latent.shape == (3, 4, *places)
    torch.testing.assert_close(quantizer.from_latent(latent), out.z, atol=1e-5, rtol=1e-5)
    with pytest.raises(Error, match="a latent of 3 numbers was given; this codec's have 4"):
        quantizer.from_latent(latent[:, 1:])


@every_bottleneck
def test_the_gradient_goes_straight_through(quantizer):
    """As if nothing were quantised: with projections it is that of what lies between them, without any it is itself."""
    z = given((9,)).requires_grad_()
    out = quantizer(z)
    pull = torch.randn(out.z.shape, generator=torch.Generator().manual_seed(2))
    (found,) = torch.autograd.grad((out.z * pull).sum(), z)
    assert found.isfinite().all() and (found.abs().amax(1) > 0).all(), "each place hears of it"
    plain = getattr(quantizer.config, "lookup_dim", None) is None and not hasattr(quantizer.config, "latent")
    plain = plain and isinstance(quantizer, VectorQuantizer | ResidualQuantizer)
    if plain and not (isinstance(quantizer, VectorQuantizer) and quantizer.config.metric == "cosine"):
        torch.testing.assert_close(found, pull)


@every_quantizer
@every_layout
def test_codes_are_in_range_and_stand_for_what_is_given(quantizer, places):
    z = given(places)
    out = quantizer(z)
    assert out.z.shape == z.shape
    assert out.codes.shape == (3, *levels(quantizer), *places) and out.codes.dtype == torch.int64
    assert out.codes.min() >= 0 and out.codes.max() < size(quantizer)
    assert len(out.codes.unique()) > 3
    assert torch.equal(quantizer.lookup(out.codes), out.z)
    assert torch.equal(quantizer.encode(z), out.codes)
    assert bool(out.losses) == (not isinstance(quantizer, FiniteScalarQuantizer))
    assert all(loss.shape == () and loss.isfinite() for loss in out.losses.values())


@every_quantizer
def test_the_same_input_gives_the_same_codes_alone_and_in_a_batch(quantizer):
    z = given((4, 3))
    whole = quantizer(z)
    for i in range(len(z)):
        alone = quantizer(z[i : i + 1])
        assert torch.equal(alone.codes, whole.codes[i : i + 1])
        torch.testing.assert_close(alone.z, whole.z[i : i + 1], atol=1e-6, rtol=0)


@every_quantizer
def test_a_gradient_reaches_the_input_and_every_parameter(quantizer):
    z = given((4, 30)).requires_grad_()
    out = quantizer(z)
    quantizer.zero_grad()
    (out.z.square().sum() + sum(out.losses.values())).backward()
    assert z.grad.abs().min() > 0
    without = [name for name, p in quantizer.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without
    quantizer.zero_grad(set_to_none=True)


@every_quantizer
def test_padding_reaches_no_loss(quantizer):
    z = given((9,))
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    other = torch.where(mask[:, None], z, 100.0)
    first, second = quantizer(z, mask=mask), quantizer(other, mask=mask)
    assert first.losses.keys() == second.losses.keys()
    for name, loss in first.losses.items():
        torch.testing.assert_close(loss, second.losses[name])
    if first.losses:
        assert (sum(quantizer(other).losses.values()) - sum(first.losses.values())).abs() > 1e-3


@every_quantizer
def test_padding_reaches_no_statistic(quantizer):
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    states = []
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    for padding in (0.0, 100.0):
        quantizer.train()
        z = torch.where(mask[:, None], given((9,)), padding)
        quantizer(z, torch.Generator().manual_seed(0), mask)
        states.append({name: tensor.clone() for name, tensor in quantizer.state_dict().items()})
        quantizer.eval().load_state_dict(before)
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


@every_quantizer
def test_the_same_generator_gives_the_same_step(quantizer):
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    found = []
    for seed in (0, 0):
        quantizer.train()
        for _ in range(3):
            out = quantizer(given((9,)), torch.Generator().manual_seed(seed))
        found.append((out.codes, quantizer.lookup(out.codes)))
        quantizer.eval().load_state_dict(before)
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


@every_quantizer
def test_saved_and_loaded_it_is_the_same(quantizer, tmp_path):
    from safetensors.torch import save_file

    save_file(quantizer.state_dict(), tmp_path / "weights.safetensors")
    again = type(quantizer)(type(quantizer.config).parse(quantizer.config.model_dump(), "here")).eval()
    load_weights(again, tmp_path / "weights.safetensors")
    out, expected = again(given((4, 3))), quantizer(given((4, 3)))
    assert torch.equal(out.codes, expected.codes) and torch.equal(out.z, expected.z)


@every_quantizer
@pytest.mark.parametrize("above", [False, True])
def test_codes_beyond_the_codebook_are_refused(quantizer, above):
    code = size(quantizer) if above else -1
    with pytest.raises(Error, match=f"a code {code} and the codebook holds 0 to {size(quantizer) - 1}"):
        quantizer.lookup(torch.tensor([0, code, 3]).expand(1, *levels(quantizer), 3))
