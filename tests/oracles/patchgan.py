"""The judge of patches with batch norm that SpecVQGAN's and MelSpec_GPT_VQVAE's checkpoints hold; for looking only.

What cymatic trains has no batch statistics (`discriminators/patch.py`); this one says of a mel what the published
judges said of it.
"""

from __future__ import annotations

import re
from itertools import chain, pairwise

from jaxtyping import Float
from torch import Tensor, nn

from cymatic.errors import ModelError


class PublishedPatchGAN(nn.Module):
    """pix2pix's judge (Isola et al., 2017, arXiv 1611.07004), in eval mode for good.

    layers: convolutions of stride 2; each doubles the channels until they are 8 times as many as at first.
    """

    def __init__(self, channels: int, width: int, layers: int = 3) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int) -> list[nn.Module]:
            conv = nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]

        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        blocks = [block(*pair, stride=2 if i < layers else 1) for i, pair in enumerate(pairwise(widths), start=1)]
        self.main = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            *chain.from_iterable(blocks),
            nn.Conv2d(widths[-1], 1, 4, padding=1),
        )
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> PublishedPatchGAN:
        """Stays in eval mode, whatever is asked for."""
        return super().train(False)

    def forward(self, picture: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch 1 _ _"]:
        return self.main(picture)


def read_judge(tensors: dict[str, Tensor], where: str) -> PublishedPatchGAN:
    """The judge among the tensors of a checkpoint, under `discriminator.` or `loss.discriminator.`.

    Raises ModelError where there is none, or one of another size.
    """
    prefix = next((p for p in ("discriminator.", "loss.discriminator.") if f"{p}main.0.weight" in tensors), None)
    if prefix is None:
        raise ModelError(f"{where} holds no discriminator")
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    width, channels = own["main.0.weight"].shape[:2]
    last = max(int(match[1]) for name in own if (match := re.match(r"main\.(\d+)\.", name)))
    judge = PublishedPatchGAN(channels, width, layers=max(1, (last - 2) // 3))
    wanted = judge.state_dict()
    wrong = sorted(
        name
        for name in wanted.keys() | own.keys()
        if name not in own or name not in wanted or own[name].shape != wanted[name].shape
    )
    if wrong:
        raise ModelError(f"{where} holds a discriminator of another build; these differ: {', '.join(wrong[:8])}")
    judge.load_state_dict(own)
    return judge
