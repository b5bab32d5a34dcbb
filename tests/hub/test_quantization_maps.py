"""The codebooks of quantization-maps, step by step against their own."""

import numpy as np
import pytest
import torch

from cymatic.errors import Error
from cymatic.hub.quantization_maps import Clock, MapCodebook, grid, residual

CUT = 0.0
SCENARIOS = {
    "ema_hard": ("hard", 1, False),
    "ema_gaussian": ("gaussian", 1, False),
    "ema_gaussian_wide": ("gaussian", 3, False),
    "ema_none": None,
    "ema_hard_cos": ("hard", 1, False),
    "base_hard": ("hard", 1, False),
    "ema_hard_replace": ("hard", 1, False),
    "ema_gaussian_normalized": ("gaussian", 1, True),
}


@pytest.fixture(scope="module")
def arrays(fixtures_dir):
    folder = fixtures_dir / "seed_som_quantizer"
    loaded = [np.load(folder / f"{name}.npz") for name in ("state", "inputs", "expected")]
    return [{name: torch.from_numpy(file[name]) for name in file} for file in loaded]


def level(state: dict[str, torch.Tensor], name: str) -> MapCodebook:
    settings = SCENARIOS[name]
    clock = Clock(grid(24), settings[0], settings[1], normalized=settings[2]) if settings else None
    sums = state.get(f"{name}/ema_codebook")
    codebook = state[f"{name}/codebook"].clone()
    return MapCodebook(
        codebook if sums is not None else codebook.requires_grad_(),
        state[f"{name}/cluster_frequency"].clone(),
        None if sums is None else sums.clone(),
        clock,
        "cosine" if name.endswith("cos") else "euclidean",
        cut=CUT,
    )


def wanted(expected: dict[str, torch.Tensor], name: str, k: int) -> dict[str, torch.Tensor]:
    """What `name` has after step k."""
    end = f"_{k}"
    inside = {key.removeprefix(f"{name}/"): value for key, value in expected.items() if key.startswith(f"{name}/")}
    return {key.removesuffix(end): value for key, value in inside.items() if key.endswith(end)}


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_step_is_theirs(arrays, name):
    state, inputs, expected = arrays
    book = level(state, name)
    for k in range(3):
        drawn = torch.Generator().manual_seed(1201 + k)
        step = book.learn(inputs[f"x_{k}"], refresh=name == "ema_hard_replace" or k > 0, generator=drawn)
        found = {"indices": step.codes, "quantized": step.z, "loss": step.loss, "cluster_frequency": book.usage}
        if book.clock:
            found["kernel"] = book.clock.kernel
        if book.sums is None:
            found["codebook_grad"] = torch.autograd.grad(step.loss, book.codebook)[0]
        else:
            found |= {"codebook": book.codebook, "ema_codebook": book.sums}
        if name == "ema_hard_replace":
            found["stale"] = torch.tensor(book.stale)
        want = wanted(expected, name, k)
        assert found.keys() == want.keys()
        for key, value in want.items():
            torch.testing.assert_close(found[key].detach(), value, atol=3e-5, rtol=0, msg=f"{key} after step {k}")
    step = book(inputs["x_0"])
    assert torch.equal(step.codes, expected[f"eval/{name}/indices"])
    torch.testing.assert_close(step.loss.detach(), expected[f"eval/{name}/loss"], atol=1e-5, rtol=0)


def test_several_levels_are_theirs_with_their_gradients(arrays):
    state, inputs, expected = arrays
    levels = [MapCodebook(state[f"rq/codebook_{k}"], torch.ones(24)) for k in range(3)]
    x = inputs["x_rq"].clone().requires_grad_()
    for count, end in ((3, ""), (2, "_n2")):
        given, codes, loss = residual(levels[:count], x)
        torch.testing.assert_close(given.detach(), expected[f"rq/x_hat{end}"], atol=1e-5, rtol=0)
        assert torch.equal(codes, expected[f"rq/indices{end}"])
        if count == 3:
            torch.testing.assert_close(loss.detach(), expected["rq/loss"], atol=1e-5, rtol=0)
            torch.testing.assert_close(x.detach() - given.detach(), expected["rq/input_after_call"], atol=1e-5, rtol=0)
            (through,) = torch.autograd.grad((given * inputs["grad_w"]).sum(), x, retain_graph=True)
            torch.testing.assert_close(through, expected["grad/straight_through"], atol=1e-5, rtol=0)
            (inner,) = torch.autograd.grad(loss, x)
            torch.testing.assert_close(inner, expected["grad/inner_loss"], atol=1e-6, rtol=0)


def test_stale_codes_are_put_on_vectors_of_the_batch():
    rows = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    codebook = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    codebook[:, 8:] += 100
    book = MapCodebook(codebook.clone(), torch.zeros(16), cut=0.5)
    with pytest.raises(Error, match="give a generator"):
        book.learn(rows, refresh=True)
    book = MapCodebook(codebook.clone(), torch.zeros(16), cut=0.5)
    codes = book.learn(rows, refresh=True, generator=torch.Generator().manual_seed(2)).codes
    used = torch.zeros(16, dtype=torch.bool)
    used[codes.flatten()] = True
    assert book.stale == int((~used).sum()) and torch.equal(book.codebook[:, used], codebook[:, used])
    distances = torch.cdist(book.codebook.T[~used], rows.flatten(0, 1))
    assert (distances.amin(1) == 0).all() and (book.usage[~used] == 1).all()
