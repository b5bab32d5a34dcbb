"""The palette codec: k-means by hand, few colours, the same palette for the same pictures."""

import pytest
import torch

from cymatic.codecs.palette import PaletteCodec, PaletteCodecConfig
from cymatic.errors import Error, ModelError
from cymatic.media.picture import PictureSpec


def pictures(count: int, size: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.interpolate(torch.rand(count, 3, 3, 3, generator=generator), size, mode="bilinear")


def fitted(targets: torch.Tensor, **values) -> PaletteCodec:
    codec = PaletteCodec(PaletteCodecConfig(picture=PictureSpec(size=targets.shape[-1]), **values))
    codec.fit_statistics(list(targets))
    codec.steps_trained.fill_(1)
    return codec.eval()


def by_hand(pixels: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """A round of k-means, one colour after the other."""
    chosen = ((pixels[:, None] - colours) ** 2).sum(-1).argmin(1)
    return torch.stack(
        [pixels[chosen == i].mean(0) if (chosen == i).any() else colour for i, colour in enumerate(colours)]
    )


def test_a_round_is_that_of_k_means():
    some = pictures(6)
    first, second = (fitted(some, colours=12, rounds=rounds).colours.detach() for rounds in (0, 3))
    pixels = some.movedim(1, -1).flatten(0, -2)
    assert all((pixels == colour).all(1).any() for colour in first)  # the first ones are pixels
    for _ in range(3):
        first = by_hand(pixels, first)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def test_more_rounds_and_more_colours_are_nearer():
    some = pictures(8)
    losses = [
        float((codec.decode(codec.encode(some)) - some).square().mean())
        for codec in (fitted(some, colours=c, rounds=r) for c, r in ((8, 0), (8, 20), (64, 20)))
    ]
    assert losses[0] > losses[1] > 4 * losses[2]


def test_each_pixel_takes_the_nearest_colour():
    some = pictures(2)
    codec = fitted(some, colours=16)
    latent = codec.encode(some)
    pixels = some.movedim(1, -1)
    nearest = ((pixels[..., None, :] - codec.colours) ** 2).sum(-1).argmin(-1)
    assert torch.equal(latent.codes, nearest)
    assert torch.equal(codec.decode(latent), codec.colours[nearest].movedim(-1, 1))


def test_three_colours_are_found_exactly_where_there_are_three():
    colours = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.5, 0.0], [1.0, 1.0, 1.0]])
    some = colours[torch.randint(3, (4, 8, 8), generator=torch.Generator().manual_seed(1))].movedim(-1, 1)
    for count in (3, 16):
        codec = fitted(some, colours=count)
        torch.testing.assert_close(codec.decode(codec.encode(some)), some, atol=1e-6, rtol=0)
        assert len(codec.encode(some).codes.unique()) == 3


def test_the_same_pictures_and_seed_give_the_same_palette():
    some = pictures(5)
    one, two, other = (fitted(some, colours=16, sample=300, seed=seed).colours for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)
    few = fitted(pictures(40), colours=4, sample=10).colours  # fewer pixels than pictures
    assert few.isfinite().all()


def test_a_step_of_training_moves_colours_towards_their_pixels():
    some = pictures(4)
    codec = fitted(some, colours=16, rounds=0).train()
    optimiser = torch.optim.SGD(codec.parameters(), 1.0)
    losses = []
    for _ in range(40):
        result = codec(some, torch.Generator().manual_seed(0))
        loss = sum(result.quantized.losses.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]


def test_what_does_not_fit_is_refused():
    codec = fitted(pictures(2), colours=4)
    with pytest.raises(Error, match=r"reads \[3, 12, 12\]"):
        codec.encode(pictures(1, 16))
    with pytest.raises(ModelError, match="colours"):
        PaletteCodecConfig.parse({"colours": 1}, "here")
