"""What every encoder promises. A new one is one more row in ROWS: an encoder and items of different lengths."""

import pytest
import torch

from cymatic.encoders import ENCODERS
from cymatic.encoders.classes import ClassConfig, ClassEncoder
from cymatic.encoders.features import FeatureConfig, FeatureEncoder
from cymatic.encoders.text import TextConfig, TextEncoder

torch.manual_seed(0)
ROWS = {
    "text": (TextEncoder(TextConfig(dim=24)).eval(), ["george says seven", "rain", "a dog barking at 7 cats 🐈 снег"]),
    "class": (ClassEncoder(ClassConfig(names=("dog", "cat", "rain"), dim=24)).eval(), ["rain", "dog", "cat"]),
    "1 frame": (
        FeatureEncoder(FeatureConfig(features=12, dim=24, frames=1, fewer="mean")).eval(),
        [torch.randn(n, 12) for n in (3, 9, 1)],
    ),
    "5 frames": (FeatureEncoder(FeatureConfig(features=12, dim=24)).eval(), [torch.randn(n, 12) for n in (3, 90, 5)]),
    "212 frames": (
        FeatureEncoder(FeatureConfig(features=12, dim=24, frames=212, fewer="cut")).eval(),
        [torch.randn(n, 12) for n in (30, 212, 300)],
    ),
}
PADDED = {TextEncoder}  # the others give each item as many tokens
every_encoder = pytest.mark.parametrize(("encoder", "items"), ROWS.values(), ids=ROWS)


def test_every_encoder_is_here():
    assert {type(encoder) for encoder, _ in ROWS.values()} == set(ENCODERS)


@every_encoder
@torch.inference_mode()
def test_an_item_alone_equals_the_item_in_a_padded_batch(encoder, items):
    batch = encoder(items)
    assert (len({int(n) for n in batch.mask.sum(1)}) > 1) == (type(encoder) in PADDED), "the items must need padding"
    for i, one in enumerate(items):
        alone = encoder([one])
        n = int(batch.mask[i].sum())
        torch.testing.assert_close(batch.tokens[i, :n], alone.tokens[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(batch.vector[i], alone.vector[0], atol=1e-5, rtol=0)
        assert not batch.tokens[i, n:].any()


@every_encoder
@torch.inference_mode()
def test_vectors_have_unit_norm_and_tell_items_apart(encoder, items):
    vectors = encoder(items).vector
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(items)))
    assert (vectors @ vectors.T - torch.eye(len(items))).max() < 0.999


@every_encoder
def test_a_gradient_reaches_what_is_trained_and_nothing_else(encoder, items):
    encoder.zero_grad()
    cond = encoder(items)
    (cond.tokens.square().sum() + cond.vector.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters())
    assert not any("table" in name for name in encoder.state_dict()), "the frozen table is not saved"
