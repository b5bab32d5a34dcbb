"""Names of classes -> condition: one learned token each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from cymatic.cond import Cond
from cymatic.config import Config, nearest
from cymatic.encoders.examples import Conditioned
from cymatic.errors import Error, PromptError


class ClassConfig(Config):
    """names: the classes, in the order of their tokens; none until the data are known. dim: width of a token."""

    kind: Literal["class"] = "class"
    names: tuple[str, ...] = Field(default=(), max_length=65536)
    dim: int = Field(default=192, gt=0, le=16384)

    @field_validator("names")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ValueError(f'the class "{twice[0]}" is there twice')
        return names

    @property
    def reads(self) -> None:
        """No spec: it reads captions."""
        return None

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> ClassConfig:
        """With the captions of the examples as names, where there are none yet. Raises Error without a caption."""
        if self.names:
            return self
        called = {text for one in examples for group in one.captions for text in group}
        names = sorted(called.union(one.caption for one in examples if one.caption))
        if not names:
            raise Error("a class encoder learns the captions of its data, and these have none; give data with captions")
        return ClassConfig(**{**dict(self), "names": tuple(names)})


class ClassEncoder(nn.Module):
    """Names -> `Cond(tokens [batch, 1, dim], mask, vector [batch, dim])`; the vector is the token at unit norm."""

    config_class: ClassVar[type[ClassConfig]] = ClassConfig

    def __init__(self, config: ClassConfig) -> None:
        super().__init__()
        if not config.names:
            raise Error("a class encoder needs the names of its classes; set names, or fit the config to data")
        self.config = config
        self.number = {name: i for i, name in enumerate(config.names)}
        self.token = nn.Embedding(len(config.names), config.dim)

    def knows(self, caption: str) -> bool:
        """Whether a caption is one of its classes."""
        return caption in self.number

    def forward(self, batch: Sequence[str]) -> Cond:
        """Raises PromptError for a name that is none of the classes."""
        for name in batch:
            if name not in self.number:
                raise PromptError(f'there is no class "{name}"; {nearest(str(name), self.number)}')
        numbers = torch.tensor([self.number[name] for name in batch], device=self.token.weight.device)
        tokens = self.token(numbers)[:, None]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Cond(tokens, mask, nn.functional.normalize(tokens[:, 0], dim=-1))
