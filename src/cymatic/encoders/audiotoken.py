"""What a sound encoder says -> one word of a prompt: AudioToken (Yariv et al., 2023, arXiv 2305.13050)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, relu

from cymatic.config import Config
from cymatic.encoders.beats import masked_mean
from cymatic.errors import Error
from cymatic.nn.encoder_block import attentive_mean
from cymatic.nn.linear import Linear


class AudioTokenConfig(Config):
    """inside: numbers of a token that it reads; dim: of the word embedding that it makes. layers: of BEATs, from 0 on,
    whose states lie side by side in such a token; none: it is a token of any encoder's."""

    kind: Literal["audiotoken"] = "audiotoken"
    inside: int = Field(gt=0, le=2**17)
    dim: int = Field(gt=0, le=2**15)
    layers: tuple[int, ...] = Field(default=(3, 7, 11), max_length=96)


class AudioTokenEmbedder(nn.Module):
    """Tokens `[batch, n, inside]`, as `BeatsEncoder.layers(batch, config.layers)` gives them -> the embedding of a
    word, `[batch, dim]`, which a text encoder reads in place of a placeholder's, before positions are added.

    Two linear layers make of each token a vector x_i of the width of a word, and their mean by the weights
    softmax(a u_i + b s_i) is the word. u_i, from a small network, is what x_i says for itself, and s_i is the mean
    cosine of its projection to all others' second one: factor graph attention (Schwartz et al., 2019, arXiv
    1904.05880). Half of the numbers inside that network are dropped in training mode. The project's own code drops them
    always, so that there one sound gives another word each time.
    """

    config_class: ClassVar[type[AudioTokenConfig]] = AudioTokenConfig

    def __init__(self, config: AudioTokenConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.fc1 = Linear(config.inside, config.inside)
        self.fc2 = Linear(config.inside, dim)
        self.unary = nn.Conv1d(dim, dim, 1)
        self.score = nn.Conv1d(dim, 1, 1)
        self.first, self.second = nn.Conv1d(dim, dim, 1), nn.Conv1d(dim, dim, 1)
        self.mix = nn.Conv1d(2, 1, 1, bias=False)
        self.dropout = nn.Dropout(0.5)

    def words(self, tokens: Float[Tensor, "batch n inside"]) -> Float[Tensor, "batch n dim"]:
        """What is averaged."""
        return self.fc2(gelu(self.fc1(tokens)))

    def scores(self, words: Float[Tensor, "batch n dim"], mask: Bool[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """How much each counts, as logarithms; beyond the mask they mean nothing."""
        x = words.mT
        unary = self.score(self.dropout(relu(self.unary(x))))
        # The mean of cosines is one product with the mean of the directions.
        others = masked_mean(normalize(self.second(x), dim=1).mT, mask)
        own = (normalize(self.first(x), dim=1) * others[..., None]).sum(1, keepdim=True)
        return self.mix(torch.cat([unary, own], 1))[:, 0]

    def forward(
        self, tokens: Float[Tensor, "batch n inside"], mask: Bool[Tensor, "batch n"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """mask: True where there is a token; without it there is one everywhere. Whatever lies elsewhere changes
        nothing.

        Raises Error for tokens of another width, and for items without a token.
        """
        device = self.fc1.weight.device
        if tokens.shape[-1] != self.config.inside:
            raise Error(f"tokens of {tokens.shape[-1]} numbers were given; this embedder reads {self.config.inside}")
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask
        if not tokens.shape[1] or not mask.any(1).all():
            raise Error("an item without a token was given; give each at least one")
        tokens, mask = tokens.to(device), mask.to(device)
        words = self.words(tokens.masked_fill(~mask[..., None], 0))
        return attentive_mean(words, self.scores(words, mask), mask)
