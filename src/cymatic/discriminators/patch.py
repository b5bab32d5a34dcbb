"""A discriminator of pictures that looks at patches: the grid's PatchGAN (Isola et al., 2017, arXiv 1611.07004).

The original normalises over the batch, so that what it says of a picture hangs on the others, and real and made ones
must go apart. Here the weights are normalised instead (Salimans and Kingma, 2016, arXiv 1602.07868). Group norm would
keep items apart, too, but it looks at the whole picture and takes away how loud it is, where a patch is all that this
discriminator is to see; spectral norm would bring buffers that change with every look.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import weight_norm

from cymatic.discriminators.output import DiscriminatorOutput
from cymatic.errors import Error


class PatchDiscriminator(nn.Module):
    """Convolutions of 4x4: `layers` of stride 2, one of stride 1, then one that gives a score for each patch.

    Three layers see patches of 70x70, at `width` 64, 128, 256, 512 channels. With `cond_dim` it knows what each picture
    should be of, by projection (Miyato and Koyama, 2018, arXiv 1802.05637): `score = f(h) + h . W c` at each patch,
    for the condition's vector c and the last features h.
    """

    def __init__(self, *, channels: int = 1, width: int = 64, layers: int = 3, cond_dim: int | None = None) -> None:
        super().__init__()
        widths = (channels, *(width * min(2**i, 8) for i in range(layers + 1)))
        convs = [
            nn.Conv2d(before, after, 4, stride=2 if i < layers else 1, padding=1)
            for i, (before, after) in enumerate(pairwise(widths))
        ]
        last = nn.Conv2d(widths[-1], 1, 4, padding=1)
        for conv in (*convs, last):
            nn.init.normal_(conv.weight, std=0.02)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.layers = nn.ModuleList(weight_norm(conv) for conv in convs)
        self.last = weight_norm(last)
        self.read_vector = None if cond_dim is None else nn.Linear(cond_dim, widths[-1], bias=False)
        if self.read_vector is not None:
            nn.init.normal_(self.read_vector.weight, std=0.02)

    def forward(
        self, picture: Float[Tensor, "batch channels h w"], vector: Float[Tensor, "batch dim"] | None = None
    ) -> DiscriminatorOutput:
        """Scores `[batch, 1, h', w']` and the features on the way. Raises Error where the condition is missing, or not
        asked for, and for a picture too small for one patch."""
        if (vector is None) != (self.read_vector is None):
            raise Error(
                "this discriminator knows no conditions, and was given some"
                if self.read_vector is None
                else "this discriminator compares pictures with their conditions, and was given none"
            )
        least = 3 * 2 ** (len(self.layers) - 1)
        if min(picture.shape[-2:]) < least:
            raise Error(
                f"a picture of {picture.shape[-2]} x {picture.shape[-1]} was given to a discriminator of patches; "
                f"it needs {least} x {least} at least"
            )
        x, features = picture, []
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.2)
            features.append(x)
        scores = self.last(x)
        if self.read_vector is not None:
            wanted = self.read_vector(vector)
            # Each score stands for 4x4 places, and one pooling gives each the mean of theirs.
            near = nn.functional.avg_pool2d(torch.einsum("bchw,bc->bhw", x, wanted)[:, None], 4, 1, padding=1)
            scores = scores + near
        return scores, features


def discriminate_together(
    discriminator: PatchDiscriminator,
    real: Float[Tensor, "batch channels h w"],
    made: Float[Tensor, "batch channels h w"],
    vector: Float[Tensor, "batch dim"] | None = None,
) -> tuple[DiscriminatorOutput, DiscriminatorOutput]:
    """What `discriminator` says of both in one pass, which is what it says of each."""
    both = None if vector is None else torch.cat([vector, vector])
    scores, features = discriminator(torch.cat([real, made]), both)
    halves = [x.chunk(2) for x in features]
    (of_real, of_made) = scores.chunk(2)
    return (of_real, [a for a, _ in halves]), (of_made, [b for _, b in halves])


class PatchSet(nn.Module):
    """One discriminator of patches as a set (see `sets.DiscriminatorSet`); a mel is a picture of one channel."""

    window = 0

    def __init__(self, width: int, channels: int, cond_dim: int | None) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList([PatchDiscriminator(channels=channels, width=width, cond_dim=cond_dim)])

    def forward(
        self, picture: Tensor, which: Sequence[int] | None = None, vector: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        return [self.discriminators[0](picture[:, None] if picture.dim() == 3 else picture, vector)]
