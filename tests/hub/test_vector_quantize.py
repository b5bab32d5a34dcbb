"""ResidualVQ of vector-quantize-pytorch, read and compared with its own outputs."""

import numpy as np
import pytest
import torch

from cymatic.errors import ModelError
from cymatic.hub.vector_quantize import read_residual_vq

SCENARIOS = ("euclid", "cosine", "projected", "shared")


@pytest.fixture(scope="module")
def folder(fixtures_dir):
    return fixtures_dir / "vector_quantize_rvq"


@pytest.fixture(scope="module")
def weights(folder):
    return torch.load(folder / "rvq.pt", weights_only=True)


@pytest.fixture(scope="module")
def arrays(folder):
    return [{name: torch.from_numpy(file[name]) for name in file} for file in map(np.load, paths(folder))]


def paths(folder):
    return [folder / "inputs.npz", folder / "expected.npz"]


def read(weights, name: str):
    return read_residual_vq(weights[name], metric="cosine" if name == "cosine" else "euclidean")


@pytest.mark.parametrize("name", SCENARIOS)
def test_codes_and_vectors_are_theirs(weights, arrays, name):
    inputs, expected = arrays
    quantizer = read(weights, name)
    codes = quantizer.encode(inputs["x"].mT)
    assert torch.equal(codes.movedim(1, -1), expected[f"{name}/indices"])
    given = quantizer.lookup(codes).detach().mT
    torch.testing.assert_close(given, expected[f"{name}/quantized"], atol=3e-5, rtol=0)
    torch.testing.assert_close(given, expected[f"{name}/from_indices"], atol=3e-5, rtol=0)
    inside = quantizer.quantizer
    for level in range(inside.levels):
        torch.testing.assert_close(
            inside.codebooks[level][codes[:, level]], expected[f"{name}/all_codes"][level], atol=1e-5, rtol=0
        )


def test_masked_places_are_theirs(weights, arrays):
    inputs, expected = arrays
    quantizer, mask = read(weights, "euclid"), inputs["mask"]
    out = quantizer.quantizer(inputs["x"].mT, mask=mask)
    codes = torch.where(mask[..., None], out.codes.movedim(1, -1), -1)
    assert torch.equal(codes, expected["euclid/masked_indices"])
    valid = torch.where(mask[..., None], out.z.mT, expected["euclid/masked_quantized"])
    torch.testing.assert_close(valid, expected["euclid/masked_quantized"], atol=3e-5, rtol=0)


def test_a_step_of_training_is_theirs(weights, arrays):
    inputs, expected = arrays
    quantizer = read(weights, "euclid").quantizer.train()
    out = quantizer(inputs["x"].mT)
    assert torch.equal(out.codes.movedim(1, -1), expected["train_euclid/indices"])
    torch.testing.assert_close(out.z.mT, expected["train_euclid/quantized"], atol=3e-5, rtol=0)
    torch.testing.assert_close(out.losses["commitment"], expected["train_euclid/commit_loss"].mean(), atol=1e-5, rtol=0)
    for level in range(4):
        for ours, theirs in (("codebooks", "embed"), ("usage", "cluster_size"), ("sums", "embed_avg")):
            found, want = getattr(quantizer, ours)[level], expected[f"train_euclid/{theirs}_{level}"][0]
            torch.testing.assert_close(found, want, atol=4e-5, rtol=0)


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
