"""The codebooks of quantization-maps, step by step against their own."""

import json

import pytest
import torch

from cymatic.errors import Error
from tests.oracles.quantization_maps import Clock, MapCodebook, grid, residual
from tests.reference import numbers


@pytest.fixture(scope="module")
def som(reference):
    return reference("seed_som_quantizer")


@pytest.fixture(scope="module")
def state(som):
    return numbers(som.folder, "state")


def level(som, state: dict[str, torch.Tensor], name: str) -> MapCodebook:
    """The codebook of a scenario, whose name says how it learns, by which kernel and metric."""
    size, kernel = state[f"{name}/codebook"].shape[1], som.expected.get(f"{name}/kernel_0")
    clock = None
    if kernel is not None:
        kind = "gaussian" if "gaussian" in name else "hard"
        clock = Clock(grid(size), kind, len(kernel) // 2, normalized=name.endswith("normalized"))
    sums = state.get(f"{name}/ema_codebook")
    codebook = state[f"{name}/codebook"].clone()
    return MapCodebook(
        codebook if sums is not None else codebook.requires_grad_(),
        state[f"{name}/cluster_frequency"].clone(),
        None if sums is None else sums.clone(),
        clock,
        "cosine" if name.endswith("cos") else "euclidean",
        cut=0.0,
        decay=som.config["alpha"],
        smoothing=som.config["smoothing_alpha"],
    )


SCENARIOS = (
    "ema_hard", "ema_gaussian", "ema_gaussian_wide", "ema_none", "ema_hard_cos", "base_hard", "ema_hard_replace",
    "ema_gaussian_normalized",
)  # fmt: skip


def test_every_scenario_is_tried(som):
    assert set(som.config["scenarios"]) == set(SCENARIOS)
    said = json.loads((som.folder / "fixture.json").read_text())["build_info"]
    assert list(grid(som.config["K"])) == said["grid"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_step_is_theirs(som, state, name):
    book = level(som, state, name)
    for k in range(som.config["steps"]):
        drawn = torch.Generator().manual_seed(som.config["seed"] + k)
        step = book.learn(som.inputs[f"x_{k}"], refresh=name.endswith("replace") or k > 0, generator=drawn)
        found = {"indices": step.codes, "quantized": step.z, "loss": step.loss, "cluster_frequency": book.usage}
        if book.clock:
            found["kernel"] = book.clock.kernel
        if book.sums is None:
            found["codebook_grad"] = torch.autograd.grad(step.loss, book.codebook)[0]
        else:
            found |= {"codebook": book.codebook, "ema_codebook": book.sums}
        if name.endswith("replace"):
            found["stale"] = torch.tensor(book.stale)
        wanted = {key for key in som.expected if key.startswith(f"{name}/") and key.endswith(f"_{k}")}
        assert {f"{name}/{key}_{k}" for key in found} == wanted
        for key, value in found.items():
            som.agrees(f"{name}/{key}_{k}", value)
    step = book(som.inputs["x_0"])
    som.agrees(f"eval/{name}/indices", step.codes)
    som.agrees(f"eval/{name}/loss", step.loss)


def test_several_levels_are_theirs_with_their_gradients(som, state):
    count = som.config["rq_levels"]
    levels = [MapCodebook(state[f"rq/codebook_{k}"], torch.ones(som.config["K"])) for k in range(count)]
    x = som.inputs["x_rq"].clone().requires_grad_()
    for end in {key.removeprefix("rq/x_hat") for key in som.expected if key.startswith("rq/x_hat")}:
        given, codes, loss = residual(levels[: int(end.removeprefix("_n") or count)], x)
        som.agrees(f"rq/x_hat{end}", given)
        som.agrees(f"rq/indices{end}", codes)
        if not end:
            som.agrees("rq/loss", loss)
            som.agrees("rq/input_after_call", x - given)
            (through,) = torch.autograd.grad((given * som.inputs["grad_w"]).sum(), x, retain_graph=True)
            som.agrees("grad/straight_through", through)
            (inner,) = torch.autograd.grad(loss, x)
            som.agrees("grad/inner_loss", inner)


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
