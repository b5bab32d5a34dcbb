"""The picture encoder: how many tokens, what it reads, that places count, and that it learns pictures by heart."""

import pytest
import torch
from torch.nn.functional import normalize

from cymatic.cond import padded
from cymatic.encoders.align import InfoNCE, recall
from cymatic.encoders.picture import PictureConfig, PictureEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import Error
from cymatic.media.picture import PictureSpec

SMALL = PictureConfig(picture=PictureSpec(size=16), halvings=2, width=16, depth=1, heads=2, dim=24)


@pytest.mark.parametrize(("size", "halvings", "tokens"), [(16, 2, 16), (16, 3, 4), (32, 3, 16), (24, 1, 144)])
@torch.no_grad()
def test_each_halving_leaves_a_quarter_of_the_places(size, halvings, tokens):
    config = SMALL.model_copy(update={"picture": PictureSpec(size=size), "halvings": halvings})
    cond = PictureEncoder(config)(padded([torch.rand(3, size, size)]))
    assert cond.tokens.shape == (1, tokens, 24) and cond.mask.all()
    assert cond.vector.shape == (1, 24)


def test_the_default_has_a_million_parameters_or_two():
    assert 1e6 < sum(p.numel() for p in PictureEncoder(PictureConfig()).parameters()) < 2e6


@torch.no_grad()
def test_where_something_is_counts_as_well_as_what():
    """Patches that see only themselves, so that without positions a picture and its patches in any order were one."""
    torch.manual_seed(0)
    encoder = PictureEncoder(SMALL.model_copy(update={"halvings": 1}))
    encoder.stem[0].weight[:, :, 0], encoder.stem[0].weight[..., 0] = 0, 0  # what reaches into the patch before
    tiles = torch.rand(3, 8, 1, 8, 1).expand(3, 8, 2, 8, 2).reshape(3, 16, 16)
    down, across = tiles.flip(1), tiles.flip(2)
    vectors = encoder(padded([tiles, down, across])).vector
    assert (vectors @ vectors.T - torch.eye(3)).max() < 0.9999


def test_what_can_not_be_is_said():
    encoder = PictureEncoder(SMALL)
    for wrong in (torch.zeros(3, 16, 15), torch.zeros(3, 32, 32), torch.zeros(4, 16, 16)):
        with pytest.raises(Error, match=r"this encoder reads \[batch, 3, 16, 16\]"):
            encoder(padded([wrong]))
    for wrong, said in (
        ({"width": 12, "heads": 2}, "heads of a width that 4 divides"),
        ({"width": 40, "heads": 2, "halvings": 5}, "can't be halved 4 times for the convolutions"),
        ({"picture": PictureSpec(size=20)}, "give a size that 8 divides"),
    ):
        with pytest.raises(ValueError, match=said):
            PictureConfig(**wrong)
    with pytest.raises(ValueError, match="heads of an even width"):
        TextConfig(dim=18, depth=1)
    assert TextConfig(dim=18).depth == 0, "without a transformer any width will do"


@torch.no_grad()
def test_the_order_of_words_counts_from_a_depth_of_one():
    torch.manual_seed(0)
    for depth, same in ((0, True), (1, False)):
        words = TextEncoder(TextConfig(dim=16, depth=depth, heads=2)).eval()
        vectors = words(["dog bites man", "man bites dog"]).vector
        assert torch.allclose(vectors[0], vectors[1], atol=1e-5) == same


def test_a_text_encoder_without_a_transformer_is_what_it_was():
    """The mean of the projected rows, and no weights beside the projection's."""
    encoder = TextEncoder(TextConfig(dim=16))
    assert set(encoder.state_dict()) == {"project.weight", "project.bias"}
    cond = encoder(["a red apple", "rain"])
    for i, count in enumerate(cond.mask.sum(1)):
        torch.testing.assert_close(cond.vector[i], normalize(cond.tokens[i, :count].mean(0), dim=0))


def test_eight_pictures_and_their_captions_find_each_other():
    """Noise has no shape that would help, so it is learned by heart: recall at 1 of 1 both ways."""
    torch.manual_seed(0)
    pictures = padded(list(torch.rand(8, 3, 16, 16)))
    captions = ["apple", "bear", "car", "dog", "egg", "fish", "goat", "house"]
    encoder, words, loss = PictureEncoder(SMALL), TextEncoder(TextConfig(dim=24, depth=1)), InfoNCE()
    every = [*encoder.parameters(), *words.parameters(), *loss.parameters()]
    optimizer = torch.optim.AdamW(every, lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(encoder(pictures).vector, words(captions).vector).backward()
        optimizer.step()
    with torch.no_grad():
        similarity = encoder(pictures).vector @ words(captions).vector.T
    same = torch.eye(8, dtype=torch.bool)
    assert recall(similarity, same, 1) == recall(similarity.T, same, 1) == 1
