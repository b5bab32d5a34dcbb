"""What every encoder promises. A new one is one more row in ROWS: an encoder and items of different lengths."""

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel

from cymatic.cond import padded
from cymatic.encoders import ENCODERS
from cymatic.encoders.bpe import BPEConfig, BPEEncoder
from cymatic.encoders.classes import ClassConfig, ClassEncoder
from cymatic.encoders.features import FeatureConfig, FeatureEncoder
from cymatic.encoders.picture import PictureConfig, PictureEncoder
from cymatic.encoders.sound import SoundConfig, SoundEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.hub.parts import load_part, save_part
from cymatic.media.picture import PictureSpec
from cymatic.signal.mel import MelSpec

SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=12, fmax=4000)
torch.manual_seed(0)
BYTES = sorted(ByteLevel.alphabet())
ROWS = {
    "text": (TextEncoder(TextConfig(dim=24)).eval(), ["george says seven", "rain", "a dog barking at 7 cats 🐈 снег"]),
    "bpe": (
        BPEEncoder(
            BPEConfig(vocabulary=("<s>", "<pad>", "</s>", "<unk>", *BYTES, "do"), merges=("d o",), rows=270, dim=24)
        ).eval(),
        ["dog", "rain", "a дождь 🐈"],
    ),
    "text of depth 2": (
        TextEncoder(TextConfig(dim=24, depth=2, heads=2)).eval(),
        ["george says seven", "rain", "a dog barking at 7 cats 🐈 снег"],
    ),
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
    "sound": (
        SoundEncoder(SoundConfig(mel=SPEC, width=32, depth=2, heads=2, dim=24)).eval(),
        [torch.randn(12, n) * 2 - 5 for n in (37, 6, 50)],
    ),
    "picture": (
        PictureEncoder(PictureConfig(picture=PictureSpec(size=32), width=32, depth=2, heads=2, dim=24)).eval(),
        [torch.rand(3, 32, 32) for _ in range(3)],
    ),
}
CAPTIONS = ("rain", "dog", "cat")  # known to all of them
VARYING = {TextEncoder, BPEEncoder, SoundEncoder}  # the others give each item as many tokens
every_encoder = pytest.mark.parametrize(("encoder", "items"), ROWS.values(), ids=ROWS)


def test_every_encoder_is_here():
    assert {type(encoder) for encoder, _ in ROWS.values()} == set(ENCODERS)


@every_encoder
def test_it_says_which_captions_it_can_be_asked_about(encoder, items):
    assert encoder.knows("rain")


def read(encoder, items):
    """What an encoder is given: texts as they are, tensors padded to one length."""
    if encoder.config.reads is None:
        return encoder(items)
    last = [item.mT if isinstance(encoder, FeatureEncoder) else item for item in items]
    return encoder(padded(last, value=7.0))


@every_encoder
@torch.inference_mode()
def test_an_item_alone_equals_the_item_in_a_padded_batch(encoder, items):
    batch = read(encoder, items)
    assert (len({int(n) for n in batch.mask.sum(1)}) > 1) == (type(encoder) in VARYING), "the items must need padding"
    for i, one in enumerate(items):
        alone = read(encoder, [one])
        n = int(batch.mask[i].sum())
        torch.testing.assert_close(batch.tokens[i, :n], alone.tokens[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(batch.vector[i], alone.vector[0], atol=1e-5, rtol=0)
        assert not batch.tokens[i, n:].any()


@every_encoder
@torch.inference_mode()
def test_vectors_have_unit_norm_and_tell_items_apart(encoder, items):
    vectors = read(encoder, items).vector
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(items)))
    assert (vectors @ vectors.T - torch.eye(len(items))).max() < 0.999


@every_encoder
def test_a_gradient_reaches_what_is_trained_and_nothing_else(encoder, items):
    encoder.zero_grad()
    cond = read(encoder, items)
    (cond.tokens.square().sum() + cond.vector.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters())
    assert not any("table" in name for name in encoder.state_dict()), "the frozen table is not saved"


@every_encoder
def test_it_says_what_it_reads_and_keeps_what_it_knows(encoder, items):
    config = encoder.config
    assert config.reads is None or config.reads.medium in ("audio", "features", "picture")
    assert config.fitted([]) == config, "it is built already, so there is nothing left to ask"
    assert config.dim == 24
    assert type(config) is encoder.config_class
    assert all(encoder.knows(caption) for caption in CAPTIONS)


@every_encoder
@torch.inference_mode()
def test_saved_and_loaded_it_is_the_same(encoder, items, tmp_path):
    save_part(tmp_path, encoder)
    again = load_part(tmp_path, ENCODERS)
    assert again.config == encoder.config
    assert torch.equal(read(again, items).vector, read(encoder, items).vector)
