"""Maps of codes: their shapes and kernels by hand, and that neighbours come to mean alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.quantizers.test_residual import draw, generator, sounds

from cymatic.errors import Error, ModelError
from cymatic.evaluation.topography import shuffled, topographic_error
from cymatic.quantizers.maps import MapConfig, Neighbourhood, grid
from cymatic.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig

CPU = torch.device("cpu")


def test_grids_are_as_square_as_can_be():
    shapes = {512: (32, 16), 1024: (32, 32), 128: (16, 8), 24: (6, 4), 7: (7, 1), 36: (6, 6), 2: (2, 1)}
    assert {size: grid(size) for size in shapes} == shapes
    assert MapConfig().shape(512) == (32, 16) and MapConfig(topology="line").shape(512) == (512, 1)


def test_the_reach_narrows_and_stays():
    config = MapConfig(reach=0.25, least=0.5, batches=100)
    radii = [config.radius(1024, batch) for batch in (0, 50, 100, 10**6)]
    assert radii == pytest.approx([8, 2, 0.5, 0.5])
    assert MapConfig(reach=3).radius(1024, 0) == 3
    assert MapConfig(reach=0.25, least=2).radius(16, 0) == 2, "never below the least"


@settings(max_examples=25)
@given(
    st.sampled_from(["line", "grid"]), st.sampled_from(["hard", "gaussian"]), st.integers(2, 40), st.integers(0, 2000)
)
def test_spreading_is_the_naive_sum_over_neighbours(topology, kernel, size, batch):
    config = MapConfig(topology=topology, kernel=kernel, reach=2.5)
    x, radius = draw(size, 3), config.radius(size, batch)
    columns = config.shape(size)[1]
    expected = torch.zeros(size, 3)
    for i in range(size):
        for j in range(size):
            down, across = abs(i // columns - j // columns), abs(i % columns - j % columns)
            inside = float(max(down, across) <= radius)
            weight = inside if kernel == "hard" else torch.tensor(-(down**2 + across**2) / 2 / radius**2).exp()
            expected[i] += weight * x[j]
    around = Neighbourhood(config, size, batch, CPU)
    torch.testing.assert_close(around.spread(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(around.spread(x[:, 0]), expected[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", ["hard", "gaussian"])
def test_the_gradient_form_is_the_naive_mean_over_neighbours(kernel):
    around = Neighbourhood(MapConfig(kernel=kernel, reach=1.2), 12, 0, CPU)
    book, rows, codes = draw(12, 5, seed=2).requires_grad_(), draw(30, 5), torch.arange(30) % 12
    weights = around.spread(torch.eye(12))
    loss = around.squares(book, rows, codes)
    naive = 0
    for row, code in zip(rows, codes, strict=True):
        squares = (book - row).square().mean(-1)
        naive = naive + (weights[code] * squares).sum() / weights[code].sum()
    torch.testing.assert_close(loss, naive, rtol=1e-5, atol=1e-4)
    (found,), (expected,) = torch.autograd.grad(loss, book), torch.autograd.grad(naive, book)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_what_is_learned_is_learned_by_neighbours_too():
    around = MapConfig(reach=1.5, kernel="hard")
    config = ResidualQuantizerConfig(levels=1, size=9, dim=2, decay=0.0, restart=False, map=around)
    quantizer = ResidualQuantizer(config).train()
    quantizer.batches.fill_(1)
    quantizer.codebooks.copy_(10 * draw(1, 9, 2))
    one = quantizer.codebooks[0, 4].clone()  # the middle
    quantizer((one + 0.1).view(1, 2, 1).expand(1, 2, 3))
    torch.testing.assert_close(quantizer.usage[0], torch.full((9,), 3.0))
    torch.testing.assert_close(quantizer.codebooks[0], (one + 0.1).expand(9, 2), rtol=1e-3, atol=1e-3)


def train(batches: int = 200, size: int = 64, levels: int = 2, **settings) -> ResidualQuantizer:
    torch.manual_seed(0)
    config = {"levels": levels, "size": size, "dim": 16, "decay": 0.9, **settings}
    quantizer = ResidualQuantizer(ResidualQuantizerConfig(**config)).train()
    optimiser = torch.optim.Adam([*quantizer.parameters(), torch.nn.Parameter(torch.zeros(1))], lr=2e-2)
    for step in range(batches):
        out = quantizer(sounds(8, seed=3 * step), generator(step))
        if quantizer.config.learned == "gradient":
            optimiser.zero_grad()
            out.losses["codebook"].backward()
            optimiser.step()
    return quantizer.eval()


def errors(quantizer: ResidualQuantizer) -> list[float]:
    """The topographic error of each level, for the residuals of other sounds."""
    residual, found = sounds(40, seed=7001), []
    codes = quantizer.encode(residual)
    for level, book in enumerate(quantizer.codebooks.detach()):
        found.append(topographic_error(residual.mT.reshape(-1, 16), book, grid(len(book))))
        residual = residual - quantizer._part(codes[:, level], level).mT
    return found


@pytest.mark.parametrize("how", [{"learned": "ema"}, {"learned": "gradient"}, {"kernel": "hard"}])
def test_a_map_halves_the_topographic_error(how):
    how = dict(how)
    kernel = how.pop("kernel", "gaussian")
    with_map = train(map=MapConfig(kernel=kernel, batches=120, least=1.0 if kernel == "hard" else 0.5), **how)
    without = train(**how)
    for found, control in zip(errors(with_map), errors(without), strict=True):
        assert control > 0.7 and found < control / 2
    z = sounds(40, seed=7001)
    assert (with_map(z).z - z).square().mean() < 0.08 * z.var(), "and it still says what came in"


def test_topographic_error_by_hand():
    book = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(4.0), indexing="ij"), -1).view(24, 2)
    rows = 0.4 * draw(500, 2) + torch.rand(500, 2) * torch.tensor([5.0, 3.0])
    assert topographic_error(rows, book, (6, 4)) == 0, "a map that is the space itself"
    assert topographic_error(rows, shuffled(book, generator()), (6, 4)) > 0.5
    assert torch.equal(shuffled(book, generator()).unique(dim=0), book.unique(dim=0))
    swapped = book.clone()
    swapped[[0, 23]] = book[[23, 0]]
    assert topographic_error(torch.tensor([[0.0, 0.1], [3.0, 2.0]]), swapped, (6, 4)) == 0.5


@pytest.mark.parametrize(
    ("wrong", "said"), [({"topology": "torus"}, "topology"), ({"least": 0.0}, "least"), ({"batches": 0}, "batches")]
)
def test_wrong_settings_are_named(wrong, said):
    with pytest.raises(ModelError, match=said):
        MapConfig.parse(wrong, "here")


@pytest.mark.parametrize("how", [{}, {"lookup_dim": 4}, {"metric": "cosine"}, {"lookup_dim": 4, "metric": "cosine"}])
def test_the_nearest_of_what_is_compared_is_chosen(how):
    quantizer = train(batches=5, levels=3, **how)
    z = sounds(4, seed=77)
    codes = quantizer.encode(z)
    for level in range(3):
        rows, book = quantizer.compared(z, level)
        assert torch.equal(torch.cdist(rows, book).argmin(-1), codes[:, level].flatten())
    with pytest.raises(Error, match="level 4 was asked for; this quantizer has 1 to 3"):
        quantizer.compared(z, 3)
