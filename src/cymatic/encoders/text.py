"""Words -> condition: wordllama's frozen token table and a learned projection."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from cymatic.cond import Cond
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.errors import ModelError, PromptError
from cymatic.nn.encoder_block import EncoderBlock, attentive_mean
from cymatic.nn.rotary import rotary_tables

MAX_TOKENS = 64
TABLE_SHA256 = "21ac5fc44ec359347ac30b81c799a32ff33e379ae732dedfe2f8f37b29a50061"


class TextConfig(Config):
    """`dim`: width of the tokens that the encoder gives. The table itself is not saved, only its SHA-256.

    depth, heads, dropout: of the transformer over the tokens; at a depth of 0 there is none, and words count whatever
    their order.
    """

    kind: Literal["text"] = "text"
    dim: int = Field(default=192, gt=0, le=8192)
    depth: int = Field(default=0, ge=0, le=64)
    heads: int = Field(default=4, gt=0, le=64)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    table_sha256: str = TABLE_SHA256

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.depth and self.dim % (2 * self.heads):
            raise ValueError(f"a dim of {self.dim} can't be split into {self.heads} heads of an even width")
        return self

    @property
    def reads(self) -> None:
        """No spec: it reads captions."""
        return None

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> TextConfig:
        """Itself: the data decide nothing."""
        return self


class TextEncoder(nn.Module):
    """Prompts -> `Cond(tokens [batch, n, dim], mask, vector [batch, dim])`.

    Each token is a row of wordllama's table (Miller, 2024: static embeddings distilled from large language models,
    32,000 x 256, inside its wheel) scaled to unit mean square, then projected. The vector is the tokens' mean, scaled
    to unit norm. A word never met in training still has a row near those of its kin. With a `depth` a transformer with
    rotary positions reads the projected tokens, and the mean weighs them (attentive pooling).
    """

    config_class: ClassVar[type[TextConfig]] = TextConfig

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        table = token_table()
        digest = hashlib.sha256(table.data).hexdigest()
        if digest != config.table_sha256:
            raise ModelError(
                f"this model was trained with another token table (SHA-256 {config.table_sha256[:12]}..., and that of "
                f"the installed wordllama is {digest[:12]}...); install the version of wordllama that it names"
            )
        self.table: Tensor
        self.register_buffer("table", torch.from_numpy(table), persistent=False)
        self.project = nn.Linear(table.shape[1], config.dim)
        self.blocks = nn.ModuleList(
            EncoderBlock(config.dim, config.heads, dropout=config.dropout) for _ in range(config.depth)
        )
        if config.depth:
            self.norm = nn.LayerNorm(config.dim)
            self.weigh = nn.Linear(config.dim, 1, bias=False)

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def forward(self, batch: Sequence[str]) -> Cond:
        """Raises PromptError for an empty prompt, control characters, or more than 64 tokens."""
        ids = [token_ids(prompt) for prompt in batch]
        longest = max(map(len, ids))
        device = self.table.device
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        mask = torch.arange(longest, device=device) < lengths[:, None]
        rows = self.table[padded].float()
        rows = rows * rows.square().mean(-1, keepdim=True).add(1e-6).rsqrt()
        tokens = self.project(rows) * mask[..., None]
        if not self.config.depth:
            return Cond(tokens, mask, normalize(tokens.sum(1) / lengths[:, None], dim=-1))
        rotary = rotary_tables(torch.arange(longest, device=device), self.config.dim // self.config.heads)
        for block in self.blocks:
            tokens = block(tokens, rotary, mask)
        tokens = self.norm(tokens)
        vector = normalize(attentive_mean(tokens, self.weigh(tokens)[..., 0], mask), dim=-1)
        return Cond(tokens * mask[..., None], mask, vector)


def normalise(prompt: str) -> str:
    """NFC, lower case, single spaces. Raises PromptError where nothing that shows or a control character is left."""
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt is text, not {type(prompt).__name__}; give a string")
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFC", prompt)).strip().lower()
    if text and text.isprintable():  # all of it shows
        return text
    if all(unicodedata.category(character) in ("Cf", "Zs") for character in text):  # such as zero-width spaces
        raise PromptError("the prompt is empty; say in a few words what to make")
    for character in text:
        if unicodedata.category(character) == "Cs":  # what the system's bytes become that are no UTF-8
            raise PromptError(f"{prompt!a:.80} is not UTF-8; give text in UTF-8")
        if unicodedata.category(character) == "Cc":
            raise PromptError(
                f"the prompt holds the control character U+{ord(character):04X}; give plain text without it"
            )
    return text


def token_ids(prompt: str) -> list[int]:
    """The prompt as rows of the table. Raises PromptError as `normalise` does, and for more than 64 tokens."""
    text = normalise(prompt)
    # Every token stands for at least one byte and for at most some 50 characters of repeats, so this bounds the work.
    ids = tokenizer().encode(text[: 100 * MAX_TOKENS], add_special_tokens=False).ids
    if len(ids) > MAX_TOKENS:
        count = "" if len(text) > 100 * MAX_TOKENS else f" ({len(ids)} tokens)"
        raise PromptError(
            f"the prompt is too long: {len(text)} characters{count}, at most {MAX_TOKENS} tokens (some 50 words) fit; "
            "shorten it"
        )
    return ids


def _wordllama(relative: str) -> Path:
    # Importing the package costs most of a second; its files are all that is needed.
    spec = find_spec("wordllama")
    for root in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(root) / relative).is_file():
            return path
    raise ModelError(f"wordllama's {relative} is not installed; run: pip install wordllama")


@lru_cache(maxsize=1)
def token_table() -> Float[np.ndarray, "tokens dim"]:
    """wordllama's embeddings, 32,000 x 256 float16. Raises ModelError where the package is missing."""
    from safetensors.numpy import load_file

    return load_file(_wordllama("weights/l2_supercat_256.safetensors"))["embedding.weight"]


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """wordllama's own tokenizer (byte fallback: any script reads)."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(_wordllama("tokenizers/l2_supercat_tokenizer_config.json")))
