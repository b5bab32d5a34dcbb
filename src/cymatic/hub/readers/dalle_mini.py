"""DALL-E mini and mega (Dayma et al., 2021) as min-dalle keeps them: `encoder.pt`, `decoder.pt`, `vocab.json`,
`merges.txt`.

Sizes are read from the tensors; how many heads there are, no tensor says, and the published models have one for 64
numbers of their width. The token before the first code is the last of the decoder's table, as DALL-E mini was trained
(min-dalle begins with a code instead). The condition that is not there is the empty caption.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from cymatic.encoders.bpe import BEGIN, END, BPEConfig, BPEEncoder
from cymatic.errors import ModelError
from cymatic.files import reason
from cymatic.hub.checkpoints import state_dict
from cymatic.hub.readers.encoder_decoder import depth_of, names
from cymatic.hub.readers.named_tensors import fitting, size_of
from cymatic.priors.seq2seq import Seq2SeqConfig, Seq2SeqPrior

ENCODER, DECODER, VOCABULARY, MERGES = "encoder.pt", "decoder.pt", "vocab.json", "merges.txt"
WHAT = "DALL-E mini"
EMPTY = {BEGIN: 0, END: 2}  # the numbers of the empty caption's tokens in the published vocabularies


@dataclass(frozen=True)
class ImportedDalleMini:
    """The prior over a picture's codes and the encoder of its captions, both in eval mode."""

    prior: Seq2SeqPrior
    encoder: BPEEncoder


def is_dalle_mini(folder: Path) -> bool:
    """Whether a folder holds both halves."""
    return all((folder / name).is_file() for name in (ENCODER, DECODER))


def read_folder(folder: Path, *, heads: int | None = None) -> ImportedDalleMini:
    """The folder of a model as min-dalle downloads it. Raises ModelError as `read_dalle_mini` does, and where one of
    its four files is missing."""
    for name in (VOCABULARY, MERGES):
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing, by which captions are read; copy it from the same model")
    return read_dalle_mini(
        folder / ENCODER, folder / DECODER, heads=heads, vocabulary=folder / VOCABULARY, merges=folder / MERGES
    )


def read_dalle_mini(
    encoder: Path,
    decoder: Path,
    *,
    heads: int | None = None,
    vocabulary: Path | None = None,
    merges: Path | None = None,
) -> ImportedDalleMini:
    """Both halves of DALL-E mini or mega, of any size. heads: of all attention, else a 64th of the width.

    vocabulary, merges: without them the encoder can embed numbers of tokens, but read no words. Raises ModelError
    naming every tensor that is missing, unexpected or of another shape.
    """
    held = {"encoder": state_dict(encoder), "decoder": state_dict(decoder)}
    tensors = {f"{half}.{name}": tensor for half, own in held.items() for name, tensor in own.items()}
    where = f"{encoder} and {decoder.name}"

    def size(name: str, file: Path) -> torch.Size:
        return size_of(tensors, name, 2, file, WHAT)

    tokens, width = size("decoder.embed_tokens.weight", decoder)
    rows, places = size("encoder.embed_tokens.weight", encoder)[0], size("decoder.embed_positions.weight", decoder)[0]
    side = math.isqrt(places)
    if side**2 != places:
        raise ModelError(f"{decoder} writes {places} codes, which are no square; a picture of DALL-E mini is one")
    texts, pairs = _vocabulary(vocabulary, merges)
    config = Seq2SeqConfig.parse(
        {
            "codes": tokens - 1, "rows": side, "longest": side, "cond_dim": width, "vector": False, "nulls": len(EMPTY),
            "prefix": size("encoder.embed_positions.weight", encoder)[0], "width": width,
            "heads": heads or max(1, width // 64), "depth": depth_of(tensors, "decoder", decoder, WHAT),
            "encoder_depth": depth_of(tensors, "encoder", encoder, WHAT),
            "hidden": size("decoder.layers.0.glu.fc0.weight", decoder)[0],
            "encoder_hidden": size("encoder.layers.0.glu.fc0.weight", encoder)[0],
        },
        where,
    )  # fmt: skip
    words = BPEConfig.parse(
        {"vocabulary": texts, "merges": pairs, "rows": rows, "dim": width, "most": max(3, config.prefix)}, where
    )
    with torch.device("meta"):
        prior = Seq2SeqPrior(config)
    own = {name: tensor for name, tensor in prior.state_dict().items() if name.startswith("network.")}
    table = {f"network.{ours}": theirs for ours, theirs in names(prior.network).items()}
    table["words"] = ("encoder.embed_tokens.weight",)
    state = fitting(tensors, {**own, "words": torch.empty(rows, width, device="meta")}, table, f"{where} do not fit")
    embedded = state.pop("words")
    numbers = [texts.index(name) if name in texts else EMPTY[name] for name in EMPTY]
    if max(numbers) >= rows:
        raise ModelError(
            f"{encoder} has {rows} tokens, too few for an empty caption; give DALL-E mini's own encoder.pt"
        )
    made = BPEEncoder(words)
    made.token.weight.data = embedded.clone()
    state |= {
        "steps_trained": torch.ones((), dtype=torch.int64),
        "null": embedded[numbers],
        "read_token.weight": torch.eye(width),  # the encoder's tokens go in as they are
        "read_token.bias": torch.zeros(width),
    }
    prior.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    return ImportedDalleMini(prior.eval(), made.eval())


def _vocabulary(vocabulary: Path | None, merges: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts of tokens in the order of their numbers, and the pairs that become one."""
    if vocabulary is None or merges is None:
        return (), ()
    try:
        numbered = json.loads(vocabulary.read_text(encoding="utf-8"))
        lines = merges.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ModelError(f"{error.filename} can't be read: {reason(error)}; copy it again") from None
    except ValueError as error:
        raise ModelError(f"{vocabulary} or {merges.name} is no vocabulary ({error}); copy both again") from None
    numbers = sorted(numbered.values()) if isinstance(numbered, dict) else []
    if not numbers or numbers != list(range(len(numbers))):
        raise ModelError(
            f"{vocabulary} numbers its tokens otherwise than 0, 1, 2, ...; give the model's own vocab.json"
        )
    texts = tuple(sorted(numbered, key=numbered.__getitem__))
    return texts, tuple(line for line in lines if len(line.split(" ")) == 2 and not line.startswith("#version"))
