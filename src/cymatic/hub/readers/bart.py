"""BART (Lewis et al., 2019, arXiv 1910.13461) from a folder of the Hugging Face hub: text in, text out.

Its positions begin at 2 there, and the two rows before are dropped. Where the embeddings are scaled, their table is;
tables that are one there are several here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cymatic.errors import Error, ModelError
from cymatic.hub.checkpoints import state_dict, unwrapped
from cymatic.hub.parts import read_json, read_tensors
from cymatic.hub.readers.encoder_decoder import depth_of, names
from cymatic.hub.readers.named_tensors import fitting, size_of
from cymatic.nn.encoder_decoder import EncoderDecoder, EncoderDecoderShape, EncoderStates
from cymatic.nn.fast_decoder import DecoderState, FastDecoderStep, decoder_state

OFFSET = 2  # rows of the positions that no token has
SHARED, LOGITS_BIAS = "shared.weight", "final_logits_bias"
TABLES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.lm_head.weight")
WHAT = "BART"


class Bart(nn.Module):
    """Both halves, the table of the encoder's tokens, and the folder's own tokenizer.

    start, end, pad: numbers of tokens; forced: the tokens that must be first and last, None where any may be.
    length_penalty: of beams. What else a `generation_config.json` may ask for (n-grams, least lengths) isn't done.
    """

    def __init__(self, network: EncoderDecoder, words: nn.Embedding, tokenizer: Any, said: dict[str, Any]) -> None:
        super().__init__()
        self.network, self.words, self.tokenizer = network, words, tokenizer
        self.start = int(said.get("decoder_start_token_id", 2))
        self.end, self.pad = int(said.get("eos_token_id", 2)), int(said.get("pad_token_id", 1))
        self.forced = (said.get("forced_bos_token_id"), said.get("forced_eos_token_id"))
        self.length_penalty = float(said.get("length_penalty", 1.0))

    def ids(self, texts: Sequence[str]) -> tuple[Int[Tensor, "batch n"], Bool[Tensor, "batch n"]]:
        """Numbers of tokens, and which are valid. Raises ModelError for a folder without a tokenizer."""
        if self.tokenizer is None:
            raise ModelError("this BART came without its tokenizer.json; copy it from the same model")
        rows = [self.tokenizer.encode(text).ids for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.pad] * (longest - len(row)) for row in rows])
        return ids, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]

    def text(self, ids: Int[Tensor, " n"]) -> str:
        """What tokens say. Raises ModelError for a folder without a tokenizer."""
        if self.tokenizer is None:
            raise ModelError("this BART came without its tokenizer.json; copy it from the same model")
        said: str = self.tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        return said

    def encode(self, ids: Int[Tensor, "batch n"], valid: Bool[Tensor, "batch n"]) -> EncoderStates:
        """What the encoder gives. Raises Error for more tokens than it has places."""
        most = self.network.encoder_place.num_embeddings
        if ids.shape[1] > most:
            raise Error(f"{ids.shape[1]} tokens came and this BART reads {most} at most; shorten the text")
        return self.network.encode(self.words(ids), valid)

    def forward(
        self, ids: Int[Tensor, "batch n"], valid: Bool[Tensor, "batch n"], written: Int[Tensor, "batch m"]
    ) -> Float[Tensor, "batch m tokens"]:
        """Logits of the token after each of those `written`, the first of which is `start`."""
        encoded = self.encode(ids, valid)
        return self.network.head(self.network.decode(written, self.network.given(encoded), encoded.mask))

    @torch.inference_mode()
    def write(
        self, ids: Int[Tensor, "batch n"], valid: Bool[Tensor, "batch n"], most: int, beams: int = 1
    ) -> Int[Tensor, "batch m"]:
        """The start and at most `most` tokens after it, each the likeliest; with `beams` the likeliest sequence that
        a search of so many beams finds, by its log-likelihood over its length to the power of `length_penalty`.

        Items that end earlier are filled up with `pad`. Raises Error for a length that its places don't allow.
        """
        if not 1 <= most <= self.network.place.num_embeddings - 1:
            raise Error(f"{most} tokens were asked for; give 1 to {self.network.place.num_embeddings - 1}")
        encoded = self.encode(ids, valid)
        fast = FastDecoderStep(self.network, rows=max(beams, len(ids) if beams == 1 else 1))
        if beams == 1:
            return self._greedy(fast, encoded, most)
        found = [
            self._search(fast, EncoderStates(encoded.states[i : i + 1], encoded.valid[i : i + 1]), most, beams)
            for i in range(len(ids))
        ]
        longest = max(map(len, found))
        return torch.tensor([row + [self.pad] * (longest - len(row)) for row in found])

    def _begun(self, fast: FastDecoderStep, encoded: EncoderStates, most: int) -> tuple[Tensor, DecoderState]:
        tokens = torch.full((len(encoded.valid), 1), self.start)
        given = self.network.given(encoded)
        hidden, state = decoder_state(self.network, tokens, given, encoded.valid, most + 1)
        return fast.head(hidden), state

    def _forced(self, logits: Tensor, at: int, most: int) -> Tensor:
        """Logits of token number `at` of `most`, of which nothing but one may be possible."""
        first, last = self.forced
        only = last if at == most and last is not None else first if at == 1 else None
        if only is None:
            return logits
        return torch.full_like(logits, -torch.inf).index_fill_(1, torch.tensor([int(only)]), 0.0)

    def _greedy(self, fast: FastDecoderStep, encoded: EncoderStates, most: int) -> Tensor:
        logits, state = self._begun(fast, encoded, most)
        found = torch.full((len(encoded.valid), 1), self.start)
        ended = torch.zeros(len(found), dtype=torch.bool)
        for at in range(1, most + 1):
            token = self._forced(logits, at, most).argmax(-1).masked_fill(ended, self.pad)
            found = torch.cat([found, token[:, None]], dim=1)
            ended |= token == self.end
            if at == most or ended.all():
                break
            logits = fast(token, at, state)
        return found

    def _search(self, fast: FastDecoderStep, encoded: EncoderStates, most: int, beams: int) -> list[int]:
        """The best sequence for one item. A candidate that ends among the best `beams` of a step is finished; the
        search is over when nothing that still runs could be better than the worst of `beams` finished ones."""
        logits, state = self._begun(fast, encoded, most)
        running: list[tuple[float, list[int]]] = [(0.0, [self.start])]
        finished: list[tuple[float, list[int]]] = []
        for at in range(1, most + 1):
            likely = self._forced(logits.log_softmax(-1), at, most)
            scores = likely + torch.tensor([score for score, _ in running])[:, None]
            best = scores.flatten().topk(min(2 * beams, scores.numel()))
            beam, token = best.indices // scores.shape[1], best.indices % scores.shape[1]
            longer = [
                (score, [*running[int(b)][1], int(t)], int(b))
                for score, b, t in zip(best.values.tolist(), beam, token, strict=True)
            ]
            over = [one for one in longer[:beams] if at == most or one[1][-1] == self.end]
            finished += [(score / at**self.length_penalty, tokens) for score, tokens, _ in over]
            finished = sorted(finished, key=lambda one: -one[0])[:beams]
            kept = [one for one in longer if one[1][-1] != self.end][:beams]
            if at == most or not kept:
                break
            if len(finished) == beams and kept[0][0] / at**self.length_penalty <= finished[-1][0]:
                break
            running = [(score, tokens) for score, tokens, _ in kept]
            state = state.take(torch.tensor([b for *_, b in kept]))
            logits = fast(torch.tensor([tokens[-1] for _, tokens in running]), at, state)
        return finished[0][1]


def is_bart(folder: Path) -> bool:
    """Whether the folder's config.json says so. Raises ModelError for one that can't be read."""
    return (folder / "config.json").is_file() and read_json(folder / "config.json").get("model_type") == "bart"


def read_bart(folder: Path) -> Bart:
    """The model in a folder: `config.json`, `model.safetensors` or `pytorch_model.bin`, and `tokenizer.json` where
    texts are to be read. Names may be those of older files, with each table several times, or of the bare model.

    Raises ModelError naming every tensor that is missing, unexpected or of another shape, and for another activation
    than GELU.
    """
    said = read_json(folder / "config.json")
    if said.get("model_type") != "bart" or said.get("activation_function", "gelu") != "gelu":
        raise ModelError(
            f"{folder / 'config.json'} describes a {said.get('model_type')} with {said.get('activation_function')}; a "
            "bart with gelu can be read"
        )
    more = folder / "generation_config.json"
    said = {**said, **({k: v for k, v in read_json(more).items() if v is not None} if more.is_file() else {})}
    safe = folder / "model.safetensors"
    held = unwrapped(read_tensors(safe)) if safe.is_file() else state_dict(folder / "pytorch_model.bin")
    tensors = {
        ("decoder." if name.startswith("lm_head.") else "") + name.removeprefix("model."): tensor
        for name, tensor in held.items()
        if not name.endswith("coder.version")
    }
    shared = tensors.pop(SHARED, None)
    for name in TABLES:
        before = tensors.get(TABLES[1]) if name == TABLES[2] else shared
        if name not in tensors and before is not None:
            tensors[name] = before
    vocabulary, width = size_of(tensors, TABLES[0], 2, folder, WHAT)
    bias = tensors.pop(LOGITS_BIAS, torch.zeros(1, vocabulary))
    tensors["decoder.lm_head.bias"] = bias.flatten()
    places = []
    for half in ("encoder", "decoder"):
        name = f"{half}.embed_positions.weight"
        places.append(size_of(tensors, name, 2, folder, WHAT)[0] - OFFSET)
        tensors[name] = tensors[name][OFFSET:]
    shape = EncoderDecoderShape.parse(
        {
            "style": "bart", "width": width, "heads": said.get("decoder_attention_heads"),
            "encoder_heads": said.get("encoder_attention_heads"), "depth": depth_of(tensors, "decoder", folder, WHAT),
            "encoder_depth": depth_of(tensors, "encoder", folder, WHAT),
            "hidden": size_of(tensors, "decoder.layers.0.fc1.weight", 2, folder, WHAT)[0],
            "encoder_hidden": size_of(tensors, "encoder.layers.0.fc1.weight", 2, folder, WHAT)[0],
        },
        str(folder / "config.json"),
    )  # fmt: skip
    inputs, outputs = (size_of(tensors, name, 2, folder, WHAT)[0] for name in TABLES[1:])
    with torch.device("meta"):
        network = EncoderDecoder(
            shape, inputs=inputs, outputs=outputs, places=(places[0], places[1]), head_bias=True
        )  # fmt: skip
    own = {**network.state_dict(), "words": torch.empty(vocabulary, width, device="meta")}
    table = {**names(network), "words": (TABLES[0],)}
    state = fitting(tensors, own, table, f"{folder} does not fit a {WHAT} of its size")
    scale = math.sqrt(width) if said.get("scale_embedding") else 1.0
    words = nn.Embedding(vocabulary, width)
    words.weight.data = state.pop("words") * scale
    state["token.weight"] = state["token.weight"] * scale
    network.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    return Bart(network, words, _tokenizer(folder / "tokenizer.json"), said).eval()


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    if not path.is_file():
        return None
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # of its own kinds, which have no name
        raise ModelError(f"{path} is no tokenizer ({error}); copy it again") from None
