"""SpeechCLIP's cascaded branch (Shih et al., 2022, arXiv 2210.00705): speech -> a few keywords -> a text encoder."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from cymatic.config import Config
from cymatic.encoders.keywords import Vocabulary
from cymatic.errors import Error


@runtime_checkable
class WordReader(Protocol):
    """A text encoder that reads embeddings in the place of tokens, such as CLIP's.

    words: the embedding of each token, `[rows, width]`. of_words: embeddings `[batch, n, width]`, between a start and
    an end -> vectors `[batch, dim]` of unit norm.
    """

    @property
    def words(self) -> Tensor: ...

    def of_words(self, words: Tensor) -> Tensor: ...


class CascadedConfig(Config):
    """width: of the features that it reads; words: width of the text encoder's embeddings; size: tokens among which
    keywords are chosen; keywords: how many an item has.

    heads, dropout, eps: of the attention and its norm. norm: a batch norm for each keyword, one for all, or none.
    temperature: of the choice in training; learned: by a gradient, else after n steps in training mode it is
    `max(temperature * decay^n, least)`. gumbel: whether rows are drawn in training, and not the likeliest taken.
    summary: dim of a further vector, made by the same attention and read by no text encoder; None without one.
    """

    kind: Literal["cascaded"] = "cascaded"
    width: int = Field(gt=0, le=8192)
    words: int = Field(gt=0, le=8192)
    size: int = Field(ge=2, le=2**20)
    keywords: int = Field(default=8, gt=0, le=1024)
    heads: int = Field(default=1, gt=0, le=128)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    eps: float = Field(default=1e-5, gt=0, le=1)
    norm: Literal["each", "shared", "none"] = "each"
    temperature: float = Field(default=0.1, gt=0, le=100)
    learned: bool = False
    decay: float = Field(default=1.0, gt=0, le=1)
    least: float = Field(default=0.01, gt=0, le=100)
    gumbel: bool = False
    summary: int | None = Field(default=None, gt=0, le=8192)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} can't be split into {self.heads} heads")
        if self.learned and self.decay < 1:
            raise ValueError("a temperature is learned or decays; leave out learned or decay")
        return self


@dataclass(frozen=True)
class Keywords:
    """Of a batch of items.

    vector: what the text encoder says of the keywords, of unit norm; rows: of the vocabulary, that were taken; shares:
    with which probability each would be; words: the embeddings that the text encoder read; unquantised: what they were
    before rows were taken; summary: of unit norm, where there is one.
    """

    vector: Float[Tensor, "batch dim"]
    rows: Int[Tensor, "batch keywords"]
    shares: Float[Tensor, "batch keywords size"]
    words: Float[Tensor, "batch keywords width"]
    unquantised: Float[Tensor, "batch keywords width"]
    summary: Float[Tensor, "batch other"] | None = None


class CascadedBranch(nn.Module):
    """Features `[batch, frames, width]` of speech, and a frozen text encoder -> `Keywords`.

    Learned vectors, one a keyword, look at each other and at the frames by one layer of attention. What each finds is
    projected to the width of an embedding and brought to the mean and the spread that embeddings have, by a batch norm.
    The keyword is then the row of the vocabulary with the highest cosine. In training that row is what is read, and the
    gradient goes to `p = softmax(cosine / temperature)` as if `p`'s mean of the rows had been (Bengio et al., 2013,
    arXiv 1308.3432); with `gumbel`, noise is added to the cosines (Jang et al., 2017, arXiv 1611.01144).

    An item gives the same alone and in a padded batch within 1e-5 in eval mode; in training the batch norm takes its
    mean and spread from the batch. `start_from` comes before training.
    """

    config_class: ClassVar[type[CascadedConfig]] = CascadedConfig
    steps: Tensor

    def __init__(self, config: CascadedConfig) -> None:
        super().__init__()
        self.config = config
        width, count = config.width, config.keywords
        self.cls = nn.Parameter(torch.randn(1, count + (config.summary is not None), width))
        self.attention = nn.MultiheadAttention(width, config.heads, config.dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width, eps=config.eps)
        self.project = nn.Linear(width, config.words)
        if config.norm != "none":
            self.norm = nn.BatchNorm1d(config.words * (count if config.norm == "each" else 1))
        if config.summary is not None:
            self.summarise = nn.Linear(width, config.summary)
        if config.learned:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.vocabulary = Vocabulary(config.size)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def start_from(
        self, table: Float[Tensor, "rows width"], ids: Int[Tensor, " size"], banned: Iterable[int] = ()
    ) -> None:
        """Chooses among the rows `ids` of the text encoder's table but the `banned`, and brings keywords to the mean
        and the spread of these rows in each dimension. Raises Error as `Vocabulary.take`."""
        self.vocabulary.take(ids, banned)
        if self.config.norm != "none":
            rows = table[ids]
            times = len(self.norm.weight) // rows.shape[1]
            self.norm.weight.copy_(rows.std(0).repeat(times))  # in the order in which `normed` lays keywords out
            self.norm.bias.copy_(rows.mean(0).repeat(times))

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """Of the choice, as it stands."""
        if self.config.learned:
            return self.log_temperature.exp()
        least = min(self.config.least, self.config.temperature)
        return (self.config.temperature * self.config.decay**self.steps).clamp(min=least)

    def found(
        self, features: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch found width"]:
        """What each learned vector finds, that of the summary first. `mask` is True at an item's own frames; whatever
        lies elsewhere changes nothing. Raises Error for an item without a frame."""
        if not mask.any(1).all():
            raise Error("an item without a frame was given; give each at least one")
        cls = self.cls.expand(len(features), -1, -1)
        source = torch.cat([cls, features.masked_fill(~mask[..., None], 0)], 1)
        padding = torch.cat([mask.new_zeros(cls.shape[:2]), ~mask], 1)
        read, _ = self.attention(cls, source, source, key_padding_mask=padding, need_weights=False)
        return self.attention_norm(read + cls)

    def normed(self, keywords: Float[Tensor, "batch keywords width"]) -> Float[Tensor, "batch keywords width"]:
        """Keywords after their batch norm. Raises Error for a single item in training."""
        if self.config.norm == "none":
            return keywords
        flat = keywords.flatten(1) if self.config.norm == "each" else keywords.flatten(0, 1)
        if self.training and len(flat) < 2:
            raise Error("a batch of one item was given in training, and a batch norm needs two; give larger batches")
        return self.norm(flat).view_as(keywords)

    def forward(
        self, features: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "batch frames"], text: WordReader
    ) -> Keywords:
        """text: the encoder whose `words` this branch chooses from. Raises Error as `found` and `normed`."""
        found = self.found(features, mask)
        summary = None
        if self.config.summary is not None:
            summary = normalize(self.summarise(found[:, 0]), dim=-1)
            found = found[:, 1:]
        unquantised = self.normed(self.project(found))
        table = text.words[self.vocabulary.ids]
        similar = normalize(unquantised, dim=-1) @ normalize(table, dim=-1).T
        if self.training and self.config.gumbel:
            similar = similar - torch.empty_like(similar).exponential_().log()
        banned = self.vocabulary.banned
        rows = similar.detach().masked_fill(banned, -torch.inf).argmax(-1)
        # Banned after the division, through which infinity would reach the temperature's gradient.
        shares = (similar / self.temperature).masked_fill(banned, -torch.inf).softmax(-1)
        words = table[rows]
        if self.training:
            mean = shares @ table
            words = words + (mean - mean.detach())  # adds nothing but its gradient
            if torch.is_grad_enabled():
                self.steps += 1
        return Keywords(text.of_words(words), rows, shares, words, unquantised, summary)
