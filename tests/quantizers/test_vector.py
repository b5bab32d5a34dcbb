"""The vector quantizer against a naive one, by hand, and with two processes."""

import pytest
import torch
from tests.helpers import draw, side_by_side
from torch.nn.functional import normalize

from cymatic.batch_shard import BatchShard
from cymatic.errors import Error, ModelError
from cymatic.evaluation.code_use import perplexity, unused
from cymatic.quantizers.learning import MOST_SCORES
from cymatic.quantizers.vector import VectorQuantizer, VectorQuantizerConfig


def build(size: int = 8, dim: int = 4, *, spread: float = 1.0, **settings) -> VectorQuantizer:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(VectorQuantizerConfig(size=size, dim=dim, **settings))
    torch.nn.init.normal_(quantizer.codebook, std=spread)
    if settings.get("learned") == "ema":
        quantizer.sums.copy_(quantizer.codebook)
    return quantizer.train()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_nearest_code_is_the_naive_one(metric):
    quantizer = build(50, 7, metric=metric).eval()
    z, book = draw(4, 7, 11, 3), quantizer.codebook.detach()
    flat = z.movedim(1, -1).reshape(-1, 7)
    if metric == "cosine":
        flat, book = normalize(flat, dim=-1), normalize(book, dim=-1)
    distances = torch.cdist(flat, book, compute_mode="donot_use_mm_for_euclid_dist")
    codes = quantizer(z).codes.flatten()
    assert torch.equal(codes, distances.argmin(1))
    torch.testing.assert_close(quantizer(z).z.movedim(1, -1).reshape(-1, 7), book[codes])


def test_many_places_are_looked_up_in_pieces():
    quantizer = build(2**14, 2).eval()
    z = draw(1, 2, 3 * MOST_SCORES // 2**14 + 5)
    one_by_one = torch.cat([quantizer.encode(part) for part in z.split(100, dim=2)], dim=1)
    assert torch.equal(quantizer.encode(z), one_by_one)


def test_losses_by_hand():
    quantizer = build(beta=0.25)
    z = draw(2, 4, 5)
    out = quantizer.eval()(z)
    error = (z - quantizer.lookup(out.codes)).square().mean()
    torch.testing.assert_close(out.losses, {"codebook": error, "commitment": 0.25 * error})
    swapped = build(beta=0.25, legacy=True).eval()(z).losses
    torch.testing.assert_close(swapped, {"codebook": 0.25 * error, "commitment": error})
    assert build(learned="ema").eval()(z).losses.keys() == {"commitment"}


def test_each_term_teaches_its_own_side_and_the_gradient_goes_straight_through():
    quantizer = build().eval()
    z = draw(2, 4, 5).requires_grad_()
    out = quantizer(z)
    (gradient,) = torch.autograd.grad(out.z, z, torch.ones_like(z), retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(z))
    grad = torch.autograd.grad(out.losses["codebook"], (z, quantizer.codebook), allow_unused=True, retain_graph=True)
    assert grad[0] is None and grad[1].abs().max() > 0
    grad = torch.autograd.grad(out.losses["commitment"], (z, quantizer.codebook), allow_unused=True)
    assert grad[0].abs().max() > 0 and grad[1] is None


def test_running_means_against_the_naive_ones():
    quantizer = build(5, 3, learned="ema", decay=0.9)
    counts, sums = torch.ones(5), quantizer.codebook.clone()
    for step in range(3):
        z = draw(2, 3, 6, seed=step)
        codes = quantizer(z).codes
        rows = z.movedim(1, -1)
        for k in range(5):
            counts[k] = 0.9 * counts[k] + 0.1 * (codes == k).sum()
            sums[k] = 0.9 * sums[k] + 0.1 * rows[codes == k].sum(0)
        smoothed = (counts + 1e-5) / (counts.sum() + 5e-5) * counts.sum()
        torch.testing.assert_close(quantizer.codebook, sums / smoothed[:, None])
    torch.testing.assert_close(quantizer.usage, counts)


def test_running_means_come_to_the_centres_of_clusters():
    quantizer = build(4, 2, learned="ema", decay=0.5)
    centres = torch.tensor([[0.0, 5.0], [5.0, 0.0], [-5.0, 0.0], [0.0, -5.0]])
    with torch.no_grad():
        quantizer.codebook.copy_(centres + 1)
        quantizer.sums.copy_(quantizer.codebook)
    for step in range(30):
        which = torch.randint(4, (1, 64), generator=torch.Generator().manual_seed(step))
        quantizer((centres[which] + 0.01 * draw(1, 64, 2, seed=step)).mT)
    torch.testing.assert_close(quantizer.codebook, centres, atol=0.05, rtol=0)


def test_noise_moves_codes_along_the_line_before_the_lookup():
    quantizer = build(32, 4, noise_sigma=3.0)
    z = draw(6, 4, 50)
    still = quantizer.encode(z)
    out = quantizer(z, torch.Generator().manual_seed(3))
    noise = torch.randn(6, 50, generator=torch.Generator().manual_seed(3))
    assert torch.equal(out.codes, (still + (3 * noise).trunc().long()).clamp(0, 31))
    moved = (out.codes - still).abs()
    assert moved.max() > 3 and (moved == 0).any()
    assert torch.equal(out.z, quantizer.lookup(out.codes)), "the losses and the decoder see the noisy code"
    assert torch.equal(quantizer.eval()(z).codes, still), "in training only"


def test_a_share_of_a_batch_is_shaken_as_in_the_whole():
    z = draw(5, 4, 7)
    whole = build(32, noise_sigma=3.0)(z, torch.Generator().manual_seed(3)).codes
    for r in range(2):
        shard = BatchShard.of([7] * 5, r, 2)
        part = build(32, noise_sigma=3.0)(z[r::2], torch.Generator().manual_seed(3), shard=shard)
        assert torch.equal(part.codes, whole[r::2])


def test_noise_makes_neighbours_alike():
    """The point of it: after training with noise, neighbours on the line lie nearer than codes at random."""

    def ratio(sigma: float) -> float:
        quantizer = build(16, 2, learned="ema", decay=0.8, noise_sigma=sigma, spread=0.5)
        generator = torch.Generator().manual_seed(0)
        for step in range(100):
            quantizer(2 * torch.rand(1, 2, 256, generator=torch.Generator().manual_seed(step)) - 1, generator)
        book = quantizer.codebook
        return float((book[1:] - book[:-1]).norm(dim=1).mean() / torch.pdist(book).mean())

    assert ratio(2.0) < 0.5 < ratio(0.0)


@pytest.mark.parametrize("restart", ["none", "encoder", "quantized"])
def test_codes_that_nobody_uses_come_back(restart):
    quantizer = build(16, 4, restart=restart, decay=0.9)
    with torch.no_grad():
        quantizer.codebook[4:] += 100  # far from everything
    before = quantizer.codebook.detach().clone()
    generator = torch.Generator().manual_seed(0)
    for step in range(40):
        z = draw(4, 4, 20, seed=step)
        out = quantizer(z, generator)
    far = quantizer.codebook.detach().norm(dim=1) > 50
    if restart == "none":
        assert int(far.sum()) == 12 and torch.equal(quantizer.codebook, before)
        return
    assert not far.any()
    assert torch.equal(quantizer.codebook[:4], before[:4]), "codes in use stay where they are"
    copies = [bool((before[:4] == code).all(1).any()) for code in quantizer.codebook[4:].detach()]
    used = len(out.codes.unique())
    if restart == "encoder":
        assert not any(copies) and used > 8
    else:
        assert all(copies) and used <= 4


def test_restarted_codes_are_vectors_of_valid_places():
    quantizer = build(16, 2, restart="encoder", decay=0.0)
    z, mask = draw(3, 2, 8), torch.arange(8) < torch.tensor([8, 0, 3])[:, None]
    z = torch.where(mask[:, None], z, 7.0)
    before = quantizer.codebook.detach().clone()
    quantizer(z, torch.Generator().manual_seed(0), mask)
    moved = (quantizer.codebook != before).any(1)
    rows = z.mT[mask]
    assert moved.any() and not moved.all()
    assert all((rows == code).all(1).any() for code in quantizer.codebook[moved].detach())


def test_a_batch_of_nothing_but_padding_teaches_nothing():
    quantizer = build(16, 2, restart="encoder", decay=0.0, learned="ema")
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    out = quantizer(draw(3, 2, 8), torch.Generator(), torch.zeros(3, 8, dtype=torch.bool))
    assert out.losses["commitment"] == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in quantizer.state_dict().items())


def test_a_small_batch_does_not_make_most_codes_stale():
    """Of 512 codes a batch of 16 places can't use more than 16; rare is not dead."""
    quantizer = build(512, 4, restart="encoder", decay=0.97)
    moved, generator = 0, torch.Generator().manual_seed(0)
    for step in range(120):
        before = quantizer.codebook.detach().clone()
        z = quantizer.lookup(torch.randint(512, (1, 16), generator=torch.Generator().manual_seed(step)))
        quantizer(z.detach(), generator)
        moved += int((quantizer.codebook != before).any(1).sum())
    assert moved < 512 * 120 / 1000


def test_what_must_be_drawn_needs_a_generator():
    with pytest.raises(Error, match="give it a generator"):
        build(noise_sigma=1.0)(draw(1, 4, 5))
    with pytest.raises(Error, match="give it a generator"):
        build(restart="encoder", decay=0.0)(draw(1, 4, 5))
    build(noise_sigma=1.0, restart="encoder").eval()(draw(1, 4, 5))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": 1}, "size"),
        ({"metric": "manhattan"}, "metric"),
        ({"legacy": True, "learned": "ema"}, "legacy swaps"),
        ({"noise_sigma": -1.0}, "noise_sigma"),
        ({"restart": "always"}, "restart"),
        ({"bta": 0.1}, 'did you mean "beta"'),
    ],
)
def test_wrong_settings_are_named(wrong, said):
    with pytest.raises(ModelError, match=said):
        VectorQuantizerConfig.parse({"size": 4, "dim": 2, **wrong}, "here")


SETTINGS = [
    ({"learned": "ema", "restart": "encoder", "decay": 0.3}, 4),
    ({"learned": "ema", "restart": "quantized", "decay": 0.0, "metric": "cosine"}, 1),  # copies are equally near then
    ({"restart": "encoder", "decay": 0.0, "lookup_dim": 3}, 4),
]


def steps(settings: dict, count: int, rank: int, ranks: int) -> dict[str, torch.Tensor]:
    """The state after `count` batches of five items, of which this process has every `ranks`-th."""
    quantizer = build(24, 4, **settings)
    for step in range(count):
        z, mask = draw(5, 4, 9, seed=step), torch.arange(9) < torch.tensor([9, 5, 0, 7, 2])[:, None]
        generator = torch.Generator().manual_seed(step + 10 * rank)  # the first process's draws count
        quantizer(z[rank::ranks], generator, mask[rank::ranks])
    return quantizer.state_dict()


def _process(rank: int) -> list:
    return [{name: tensor.numpy() for name, tensor in steps(*s, rank, 2).items()} for s in SETTINGS]


def test_two_processes_learn_what_one_does_with_the_whole_batch():
    states = side_by_side(_process)
    for i, (settings, count) in enumerate(SETTINGS):
        alone = steps(settings, count, 0, 1)
        start = build(24, 4, **settings).state_dict()
        assert not torch.equal(alone["codebook"], start["codebook"])
        for state in states:
            for name, tensor in alone.items():
                torch.testing.assert_close(torch.from_numpy(state[i][name]), tensor, atol=1e-6, rtol=1e-5)


def test_perplexity_and_unused_codes():
    assert perplexity(torch.tensor([5, 5, 5, 5])) == pytest.approx(4)
    assert perplexity(torch.tensor([7, 0, 0])) == pytest.approx(1)
    assert perplexity(torch.tensor([3, 1])) == pytest.approx(4 / 27**0.25)
    assert unused(torch.tensor([7, 0, 2, 0])) == 2
    with pytest.raises(Error, match="no codes were counted"):
        perplexity(torch.zeros(3, dtype=torch.int64))
