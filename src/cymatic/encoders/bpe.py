"""Words -> condition by a vocabulary of one's own: byte-level BPE and a table of learned tokens, as DALL-E mini reads
its captions.

Sennrich et al. (2015, arXiv 1508.07909) over bytes (Radford et al., 2019), so every script has tokens, where DALL-E
mini's own code drops what is not ASCII.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.cond import Cond
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.encoders.text import normalise
from cymatic.errors import Error, ModelError, PromptError

BEGIN, END, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"


class BPEConfig(Config):
    """vocabulary: the text of each token, in the order of their numbers; merges: pairs of texts that become one, the
    most frequent first. rows: of the table, which may have more than there are tokens. dim: width of a token; most: of
    a prompt, begin and end included.
    """

    kind: Literal["bpe"] = "bpe"
    vocabulary: tuple[str, ...] = Field(default=(), max_length=65_536)
    merges: tuple[str, ...] = Field(default=(), max_length=65_536)
    rows: int = Field(default=0, ge=0, le=2**20)
    dim: int = Field(default=192, gt=0, le=16384)
    most: int = Field(default=64, ge=3, le=65536)

    @model_validator(mode="after")
    def _a_row_for_each_token(self) -> Self:
        if self.rows < len(self.vocabulary):
            raise ValueError(f"{self.rows} rows are too few for a vocabulary of {len(self.vocabulary)} tokens")
        if self.rows * self.dim > 2**31:
            raise ValueError("these sizes make more than 2,147,483,648 weights")
        return self

    @property
    def reads(self) -> None:
        """No spec: it reads captions."""
        return None

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> BPEConfig:
        """Itself. Raises Error without a vocabulary, which no data decide."""
        if not self.vocabulary:
            raise Error("an encoder of kind bpe has the vocabulary of an imported model; give kind text, or a model")
        return self


class BPEEncoder(nn.Module):
    """Prompts -> `Cond(tokens [batch, n, dim], mask, vector [batch, dim])`.

    Prompts are NFC-normalised and lower-cased, and their tokens stand between begin and end. The vector is the tokens'
    mean at unit norm.
    """

    config_class: ClassVar[type[BPEConfig]] = BPEConfig

    def __init__(self, config: BPEConfig) -> None:
        super().__init__()
        if config.rows < 1:
            raise Error("an encoder of kind bpe needs its vocabulary; it comes with a model that is imported")
        self.config = config
        self.token = nn.Embedding(config.rows, config.dim)
        self.tokenizer: Any = tokenizer_of(config) if config.vocabulary else None

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def ids(self, prompt: str) -> list[int]:
        """The prompt as rows of the table. Raises PromptError for one that is empty or too long."""
        if self.tokenizer is None:
            raise ModelError(
                "this encoder was imported without its vocabulary; import it with vocab.json and merges.txt"
            )
        text, most = normalise(prompt), self.config.most
        # Every token stands for at least one byte and, repeats aside, for at most some 100 characters.
        found: list[int] = self.tokenizer.encode(text[: 100 * most]).ids
        if len(found) > most:
            raise PromptError(
                f"the prompt is too long: {len(text)} characters, {len(found) - 2} tokens at least, and {most - 2} "
                "fit; shorten it"
            )
        return found

    def embedded(self, ids: Int[Tensor, "batch n"]) -> Float[Tensor, "batch n dim"]:
        """Rows of the table."""
        return self.token(ids)

    def forward(self, batch: Sequence[str]) -> Cond:
        """Raises PromptError as `ids` does."""
        ids = [self.ids(prompt) for prompt in batch]
        longest, device = max(map(len, ids)), self.token.weight.device
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=device)
        lengths = torch.tensor([len(row) for row in ids], device=device)
        mask = torch.arange(longest, device=device) < lengths[:, None]
        tokens = self.token(padded) * mask[..., None]
        return Cond(tokens, mask, nn.functional.normalize(tokens.sum(1) / lengths[:, None], dim=-1))


def tokenizer_of(config: BPEConfig) -> Any:
    """The tokenizer, which puts begin and end around. Raises ModelError where vocabulary and merges don't fit."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {text: number for number, text in enumerate(config.vocabulary)}
    lacking = [name for name in (BEGIN, END, UNKNOWN) if name not in vocabulary]
    if lacking or len(vocabulary) < len(config.vocabulary):
        said = f"lacks {', '.join(lacking)}" if lacking else "has a token twice"
        raise ModelError(f"this vocabulary {said}; give the vocab.json of the same model")
    pairs = [(first, second) for first, _, second in (pair.partition(" ") for pair in config.merges)]
    try:
        made = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, unk_token=UNKNOWN))
    except Exception as error:  # of its own kinds, which have no name
        raise ModelError(f"these merges don't fit the vocabulary ({error}); give both of the same model") from None
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (BEGIN, vocabulary[BEGIN]), trim_offsets=False, add_prefix_space=True
    )
    return made
