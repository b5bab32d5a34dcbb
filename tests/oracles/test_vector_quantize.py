"""ResidualVQ of vector-quantize-pytorch, read and compared with its own outputs."""

import pytest
import torch

from cymatic.errors import ModelError
from tests.oracles.vector_quantize import read_residual_vq

SCENARIOS = ("euclid", "cosine", "projected", "shared")


@pytest.fixture(scope="module")
def rvq(reference):
    return reference("vector_quantize_rvq")


@pytest.fixture(scope="module")
def weights(rvq):
    return torch.load(rvq.folder / "rvq.pt", weights_only=True)


def read(rvq, weights, name: str):
    cosine = rvq.config["scenarios"][name].get("use_cosine_sim", False)
    return read_residual_vq(weights[name], metric="cosine" if cosine else "euclidean")


@pytest.mark.parametrize("name", SCENARIOS)
def test_codes_and_vectors_are_theirs(rvq, weights, name):
    quantizer, said = read(rvq, weights, name), rvq.config["scenarios"][name]
    inside = quantizer.quantizer
    assert (inside.levels, inside.config.size) == (said["num_quantizers"], said["codebook_size"])
    codes = quantizer.encode(rvq.inputs["x"].mT)
    rvq.agrees(f"{name}/indices", codes.movedim(1, -1))
    given = quantizer.lookup(codes).detach().mT
    rvq.agrees(f"{name}/quantized", given)
    rvq.agrees(f"{name}/from_indices", given)
    every = [inside.codebooks[level][codes[:, level]] for level in range(inside.levels)]
    rvq.agrees(f"{name}/all_codes", torch.stack(every))


def test_masked_places_are_theirs(rvq, weights):
    quantizer, mask = read(rvq, weights, "euclid"), rvq.inputs["mask"]
    out = quantizer.quantizer(rvq.inputs["x"].mT, mask=mask)
    rvq.agrees("euclid/masked_indices", torch.where(mask[..., None], out.codes.movedim(1, -1), -1))
    wanted = rvq.expected["euclid/masked_quantized"]
    rvq.agrees("euclid/masked_quantized", torch.where(mask[..., None], out.z.mT, wanted))


def test_a_step_of_training_is_theirs(rvq, weights):
    quantizer = read(rvq, weights, "euclid").quantizer.train()
    out = quantizer(rvq.inputs["x"].mT)
    rvq.agrees("train_euclid/indices", out.codes.movedim(1, -1))
    rvq.agrees("train_euclid/quantized", out.z.mT)
    losses, atol = rvq.expected["train_euclid/commit_loss"], rvq.atol["train_euclid/commit_loss"]
    torch.testing.assert_close(out.losses["commitment"], losses.mean(), atol=float(atol), rtol=0)
    for level in range(quantizer.levels):
        for ours, theirs in (("codebooks", "embed"), ("usage", "cluster_size"), ("sums", "embed_avg")):
            rvq.agrees(f"train_euclid/{theirs}_{level}", getattr(quantizer, ours)[level][None])


@pytest.mark.parametrize(("dim", "inside", "levels", "size"), [(6, 6, 1, 9), (8, 3, 5, 17)])
def test_other_sizes_are_read_from_their_weights(dim, inside, levels, size):
    """What the codes stand for, by hand: the nearest row of each level, and what it leaves over."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    books = [draw(1, size, inside) for _ in range(levels)]
    tensors = {}
    for level, book in enumerate(books):
        tensors |= {f"layers.{level}._codebook.{name}": book for name in ("embed", "embed_avg")}
        tensors[f"layers.{level}._codebook.cluster_size"] = torch.ones(1, size)
    if dim != inside:
        tensors |= {"project_in.weight": draw(inside, dim), "project_in.bias": draw(inside)}
        tensors |= {"project_out.weight": draw(dim, inside), "project_out.bias": draw(dim)}
    x = draw(2, 10, dim)
    rest = x if dim == inside else x @ tensors["project_in.weight"].T + tensors["project_in.bias"]
    given = torch.zeros(())
    read = read_residual_vq(tensors)
    codes = read.encode(x.mT)
    for level, book in enumerate(books):
        assert torch.equal(torch.cdist(rest, book).argmin(-1), codes[:, level])
        given, rest = given + book[0][codes[:, level]], rest - book[0][codes[:, level]]
    if dim != inside:
        given = given @ tensors["project_out.weight"].T + tensors["project_out.bias"]
    torch.testing.assert_close(read.lookup(codes).mT, given)


def test_what_is_no_plain_residual_vq_is_refused(weights):
    whole = weights["projected"]
    with pytest.raises(ModelError, match=r"give those with layers\.0"):
        read_residual_vq({"codebook": torch.zeros(3, 2)})
    with pytest.raises(ModelError, match=r"hold layers\.0\.rotation"):
        read_residual_vq({**whole, "layers.0.rotation": torch.zeros(2)})
    with pytest.raises(ModelError, match="no plain ResidualVQ"):
        read_residual_vq({name: value for name, value in whole.items() if name != "project_out.bias"})
    with pytest.raises(ModelError, match="one embed_avg each"):
        read_residual_vq({name: value for name, value in whole.items() if name != "layers.1._codebook.embed_avg"})
    with pytest.raises(ModelError, match="one embed each"):
        read_residual_vq({**whole, "layers.2._codebook.embed": torch.zeros(2, 20, 5)})
