"""Features of a video's frames -> condition: one projected token for each frame that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.errors import Error
from cymatic.media.features import FeatureSpec
from cymatic.nn.linear import Linear


class FeatureConfig(Config):
    """features: numbers of a frame, None until the data are known; dim: width of a token; frames: how many are kept
    (SpecVQGAN keeps 1, 5 or 212); name: what the features are called in the data.

    fewer: how frames are chosen where there are more. `spread`: evenly, one frame being the middle one; `cut`: the
    first ones, for features at one rate that go along with the sound; `mean`: the mean of all, for one frame. Where
    there are fewer they are repeated from the start.
    """

    kind: Literal["features"] = "features"
    features: int | None = Field(default=None, gt=0, le=65536)
    dim: int = Field(default=192, gt=0, le=16384)
    frames: int = Field(default=5, gt=0, le=4096)
    fewer: Literal["spread", "cut", "mean"] = "spread"
    name: str = Field(default="features", min_length=1)

    @property
    def reads(self) -> FeatureSpec:
        """What it encodes."""
        return FeatureSpec(name=self.name, dim=self.features)

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> FeatureConfig:
        """With the width that the features have in the examples, where there is none yet.

        Raises Error where there are no such features, and where they differ in width.
        """
        if self.features is not None:
            return self
        widths = {one.given[role].shape[0] for one in examples if role in one.given}
        if len(widths) != 1:
            found = f"of {len(widths)} widths" if widths else "missing"
            raise Error(f'"{role}" are {found} in these data; give a folder that has them, all of one width')
        return FeatureConfig(**{**dict(self), "features": widths.pop()})


class FeatureEncoder(nn.Module):
    """Features `[frames, features]` of each video -> `Cond(tokens [batch, config.frames, dim], mask, vector)`.

    The vector is the tokens' mean at unit norm. Iashin and Rahtu (2021, arXiv 2110.08791) put such tokens before a
    sound's codes: 1, 5 or all 212 frames of 10 s, each projected by one layer.
    """

    config_class: ClassVar[type[FeatureConfig]] = FeatureConfig

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        if config.features is None:
            raise Error("a feature encoder needs the width of its features; set features, or fit the config to data")
        self.config = config
        self.project = Linear(config.features, config.dim)

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def forward(self, batch: Sequence[Float[Tensor, "_ _"]] | Float[Tensor, "batch frames features"] | Padded) -> Cond:
        """Videos may differ in length; a `Padded` batch is `[batch, features, longest]`.

        Raises Error for features of another width, none at all, and no numbers.
        """
        items = [item.mT for item in batch.items()] if isinstance(batch, Padded) else batch
        kept = torch.stack([self._kept(features) for features in items]).to(self.project.weight.device)
        tokens = self.project(kept)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Cond(tokens, mask, nn.functional.normalize(tokens.mean(1), dim=-1))

    def _kept(self, features: Float[Tensor, "_ _"]) -> Float[Tensor, "frames features"]:
        width, count = self.config.features, self.config.frames
        if features.shape[1] != width:
            turned = "; they lie the other way round, so transpose them" if features.shape[0] == width else ""
            raise Error(f"features of {features.shape[1]} numbers a frame came where {width} are expected{turned}")
        if not len(features):
            raise Error("a video's features hold no frame; extract them again")
        if not features.isfinite().all():
            raise Error("a video's features hold NaN or infinity; extract them again")
        if self.config.fewer == "mean":
            return features.mean(0, keepdim=True).expand(count, -1)
        return features[places(len(features), count, self.config.fewer)]


def places(have: int, keep: int, fewer: str) -> Int[Tensor, " keep"]:
    """Which of `have` frames to keep, in order: the first, or evenly spread; again from the start where too few."""
    if have < keep or fewer == "cut":
        return torch.arange(keep) % have
    return torch.arange(keep) * have // keep + have // (keep + 1)  # as SpecVQGAN does, for its weights
