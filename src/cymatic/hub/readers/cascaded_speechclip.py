"""SpeechCLIP's cascaded branch (Shih et al., 2022, arXiv 2210.00705): speech -> keywords -> CLIP's space, from its
checkpoints, or new between two frozen towers.

The branch itself is in `encoders.cascaded`. CLIP's text tower is that of a folder of CLIP's, which has the tokens'
names as well; a checkpoint tells which rows of its table the keywords are chosen from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Int
from pydantic import model_validator
from torch import Tensor, nn

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.cascaded import CascadedBranch, CascadedConfig, Keywords
from cymatic.encoders.examples import Conditioned
from cymatic.encoders.keywords import nearest_rows, used
from cymatic.errors import ModelError
from cymatic.hub.bounded import Bounded
from cymatic.hub.checkpoints import read_checkpoint, tensors_in
from cymatic.hub.parts import fill
from cymatic.hub.readers.clip import ClipTextConfig, ClipTextEncoder
from cymatic.hub.readers.hubert import HubertConfig, HubertEncoder, folded
from cymatic.hub.readers.named_tensors import size_of
from cymatic.hub.readers.speechclip import (
    POSITIONS,
    UNUSED,
    scale_of,
    settings_of,
    states_told,
    their_name,
    tower_settings,
    weighted_sum,
    within,
)
from cymatic.media.wave_spec import WaveSpec

BRANCH, CLIP = "cascaded_branch.", "clip.model."
LEFT_OUT = re.compile(rf"cascaded_branch\.clip\.|parallel_branch\.|p_branch_proj_net\.|clip\.|{UNUSED}")
NORM, NORMS = f"{BRANCH}bn_layer.bn_layer.", f"{BRANCH}bn_layer.bn_layers."
TEMPERATURE = f"{BRANCH}vector_quantizer.curr_temp"
BANNED = (0, 2, 3)  # rows of the vocabulary: in the released files the padding, the start and the end
WHAT = "SpeechCLIP with a cascaded branch"
# The beginning of our names and of theirs.
THEIRS = (
    ("branch.cls", f"{BRANCH}cls"),
    ("branch.attention.", f"{BRANCH}self_att.multihead_attn_layer."),
    ("branch.attention_norm.", f"{BRANCH}self_att.attentionBlock_Norm."),
    ("branch.project.", f"{BRANCH}linear_proj."),
    ("branch.norm.", NORM),
    ("branch.summarise.", f"{BRANCH}parallel_proj."),
    ("branch.log_temperature", TEMPERATURE),
    ("branch.", "branch."),  # the rest of it is made here
    ("text.", "text."),
)
ARGUMENTS = {"heads": "nhead", "eps": "layer_norm_eps", "dropout": "dropout"}


class CascadedSpeechClipConfig(Config):
    """speech, text: of the frozen towers; state_norm: whether the states of speech are normed before their weighted
    sum; branch: of what is between the towers."""

    kind: Literal["speechclip-cascaded"] = "speechclip-cascaded"
    speech: HubertConfig
    state_norm: bool = False
    text: ClipTextConfig
    branch: CascadedConfig

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.branch.width, self.branch.words) != (self.speech.width, self.text.width):
            raise ValueError(
                f"a branch from a width of {self.branch.width} to {self.branch.words} can't stand between towers of "
                f"{self.speech.width} and {self.text.width}"
            )
        if self.branch.keywords + 2 > self.text.positions:
            raise ValueError(f"{self.branch.keywords} keywords, and the text tower reads {self.text.positions - 2}")
        return self

    @property
    def reads(self) -> WaveSpec:
        """What it encodes."""
        return self.speech.reads

    @property
    def dim(self) -> int:
        """Of its vectors."""
        return self.text.dim

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> Self:
        """Itself: `between` fits it to towers and captions."""
        return self


class CascadedSpeechClipEncoder(nn.Module):
    """Waveforms `[batch, 1, samples]` -> `Cond(vector [batch, dim])`, of unit norm, to compare with CLIP's pictures.

    All states of the speech tower are summed by learned weights (`weighted_sum`), the branch makes keywords of the sum,
    and CLIP's text tower reads these. Both towers are frozen, and stay in eval mode when the rest trains. An item alone
    and in a padded batch gives the same within 1e-5, but in training.
    """

    config_class: ClassVar[type[CascadedSpeechClipConfig]] = CascadedSpeechClipConfig

    def __init__(self, config: CascadedSpeechClipConfig) -> None:
        super().__init__()
        self.config = config
        self.speech = HubertEncoder(config.speech).requires_grad_(False)
        self.weights = nn.Parameter(torch.zeros(config.speech.depth + 1))
        self.branch = CascadedBranch(config.branch)
        self.text = ClipTextEncoder(config.text).requires_grad_(False)

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def train(self, mode: bool = True) -> Self:
        """The towers stay in eval mode."""
        super().train(mode)
        self.speech.eval()
        self.text.eval()
        return self

    def keywords(self, batch: Padded) -> Keywords:
        """All that the branch says of sounds. Raises Error as `HubertEncoder.hidden_states`."""
        with torch.no_grad():
            states, mask = self.speech.hidden_states(batch)
        return self.branch(weighted_sum(states, self.weights, self.config.state_norm), mask, self.text)

    def forward(self, batch: Padded) -> Cond:
        """Raises Error as `keywords`."""
        return Cond(vector=self.keywords(batch).vector)

    def said(
        self, keywords: Keywords, count: int = 5, *, by: Literal["cosine", "pseudo_inverse"] = "cosine"
    ) -> list[list[list[tuple[str, float]]]]:
        """Of each item and each keyword the `count` tokens whose embeddings are nearest to the one that was read, with
        how near they are, the nearest first; see `nearest_rows`, which says what is raised."""
        vocabulary, names = self.branch.vocabulary, self.config.text.vocab
        rows, scores = nearest_rows(keywords.words, self.text.words[vocabulary.ids], count, by=by)
        return [
            [[(names[i], score) for i, score in zip(*pair, strict=True)] for pair in zip(*one, strict=True)]
            for one in zip(vocabulary.ids_of(rows).tolist(), scores.tolist(), strict=True)
        ]


def between(
    speech: HubertEncoder, text: ClipTextEncoder, *, captions: Sequence[str] | None = None, state_norm: bool = False,
    **settings: Any,
) -> CascadedSpeechClipEncoder:  # fmt: skip
    """An untrained branch between copies of two towers, with keywords from the tokens of the captions, or from all
    tokens without captions. The start, the end and the padding of prompts are no keywords.

    settings: of the branch, see `CascadedConfig`. Raises ModelError for settings that it has not, and Error as
    `ClipTextEncoder.ids` and `Vocabulary.take`.
    """
    special = {*text.ends, text.config.vocab.index(text.config.pad)}
    if captions is None:
        ids = torch.arange(len(text.config.vocab))
    else:
        ids = used((token_ids(text, caption) for caption in captions), special)
    branch = {"width": speech.config.width, "words": text.config.width, "size": len(ids), **settings}
    parts = {"speech": speech.config, "text": text.config, "branch": branch, "state_norm": state_norm}
    encoder = CascadedSpeechClipEncoder(CascadedSpeechClipConfig.parse(parts, "the cascaded branch"))
    encoder.speech.load_state_dict(speech.state_dict())
    encoder.text.load_state_dict(text.state_dict())
    encoder.branch.start_from(encoder.text.words, ids, special)
    return encoder.train()


def token_ids(text: ClipTextEncoder, caption: str) -> list[int]:
    """The caption's tokens between its start and its end. Raises PromptError as `ClipTextEncoder.ids`."""
    ids: list[int] = text.ids([caption])[0][0, 1:-1].tolist()
    return ids


@dataclass(frozen=True)
class CascadedSpeechClip:
    """The encoder of speech, and by what its similarities with pictures become logits."""

    speech: CascadedSpeechClipEncoder
    scale: float


def read_cascaded_speechclip(
    path: Path, text: ClipTextEncoder, *, heads: int | None = None, pre_norm: bool | None = None,
    normalise: bool | None = None,
) -> CascadedSpeechClip:  # fmt: skip
    """The cascaded branch and its speech tower from a Lightning checkpoint of SpeechCLIP's, which may have a parallel
    branch as well, with a copy of `text`, the text tower of the CLIP that it was trained with. Nothing in it can run
    code.

    Where one attention serves both branches, what it finds for the parallel one is the `summary` of the keywords. See
    `read_speechclip` for what no tensor tells. Upstream's batch norm lies with the dimension before the keyword; it is
    laid out anew.

    Raises ModelError for a file that is missing, damaged or no SpeechCLIP with a cascaded branch, a setting that is not
    known here, another CLIP, and tensors that are missing, unexpected, of another shape or not finite.
    """
    held = read_checkpoint(path)
    every = tensors_in(held, path)
    tensors = {name: tensor for name, tensor in every.items() if not LEFT_OUT.match(name)}
    settings = settings_of(held)
    speech = tower_settings(tensors, path, heads, pre_norm, normalise)
    branch = _branch(tensors, path, settings)
    ids = _chosen(every, text, path, within(settings, "clip").get("name"))
    values = {"state_norm": speech["conv_norm"] == "layer", "speech": speech} | states_told(settings, path)
    values |= {"text": text.config, "branch": branch | {"size": len(ids)}}
    config = CascadedSpeechClipConfig.parse(values, str(path))
    scale = scale_of(tensors, settings, path)
    _lay_out(tensors, config.branch)
    steps = held.get("global_step", 0)
    made = {"steps": torch.tensor(steps if isinstance(steps, int) else 0), "vocabulary.ids": ids}
    made["vocabulary.banned"] = torch.isin(torch.arange(len(ids)), torch.tensor(BANNED))
    tensors |= {f"branch.{name}": tensor for name, tensor in made.items()}
    tensors |= {f"text.{name}": tensor for name, tensor in text.state_dict().items()}
    with Bounded({name: tensor.shape for name, tensor in tensors.items()}, str(path)):
        encoder = CascadedSpeechClipEncoder(config)
    fill(
        encoder, folded(tensors, POSITIONS), f"{path} is no SpeechCLIP that is known here",
        lambda name: _theirs(name, config.speech),
    )  # fmt: skip
    return CascadedSpeechClip(encoder.eval(), scale)


def _theirs(name: str, config: HubertConfig) -> str:
    """SpeechCLIP's name of a tensor of ours."""
    for ours, theirs in THEIRS:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return their_name(name, config)


def _branch(tensors: dict[str, Tensor], path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of the branch but its size. Raises ModelError for what is not known here, and where its tensors
    don't tell its sizes."""
    _, rows, width = size_of(tensors, f"{BRANCH}cls", 3, path, WHAT)
    words = size_of(tensors, f"{BRANCH}linear_proj.weight", 2, path, WHAT)[0]
    summary = None
    if f"{BRANCH}parallel_proj.weight" in tensors:
        summary = size_of(tensors, f"{BRANCH}parallel_proj.weight", 2, path, WHAT)[0]
    count = rows - (summary is not None)
    norm = "each" if f"{NORMS}0.weight" in tensors else "none"
    if f"{NORM}weight" in tensors:
        norm = "each" if size_of(tensors, f"{NORM}weight", 1, path, WHAT)[0] == count * words else "shared"
    told = within(settings, "model_settings", "cascaded_branch")
    quantizer = within(told, "vq", "args")
    for name, known, found in (
        ("a transformer_type", "MultiheadAttentionAndNorm", told.get("transformer_type")),
        ("a vq.type", "SimpleVectorQuantizer", within(told, "vq").get("type")),
        ("vq.hard", True, quantizer.get("hard")), ("vq.time_first", True, quantizer.get("time_first")),
    ):  # fmt: skip
        if found is not None and found != known:
            raise ModelError(f"{path} asks for {name} {found!r:.40}; {known} alone is known here")
    arguments = within(told, "transformer_args")
    return {
        **{ours: arguments[theirs] for ours, theirs in ARGUMENTS.items() if theirs in arguments},
        **_temperature(tensors, quantizer.get("temp", "fixed=0.1"), path),
        "gumbel": quantizer.get("use_gumbel", False), "width": width, "words": words, "keywords": count, "norm": norm,
        "summary": summary,
    }  # fmt: skip


def _temperature(tensors: dict[str, Tensor], told: Any, path: Path) -> dict[str, Any]:
    """The settings of the temperature; a learned one becomes its logarithm. Raises ModelError where none is told."""
    learned = tensors.get(TEMPERATURE)
    if learned is not None:
        if learned.numel() != 1 or not learned.isfinite().all() or float(learned) <= 0:
            raise ModelError(f"{path} has no temperature of its keywords above 0; copy the checkpoint again")
        tensors[TEMPERATURE] = learned.float().log().reshape(())
        return {"learned": True}
    try:
        if str(told).startswith("fixed="):
            return {"temperature": float(str(told).removeprefix("fixed="))}
        most, least, decay = json.loads(str(told).replace("(", "[").replace(")", "]"))
        return {"temperature": float(most), "least": float(least), "decay": float(decay)}
    except (ValueError, TypeError):
        raise ModelError(
            f'{path} asks for a temperature {told!r:.60}; "fixed=0.1", "learnable=0.1" or [2.0, 0.5, 0.9999] is known '
            "here"
        ) from None


def _lay_out(tensors: dict[str, Tensor], config: CascadedConfig) -> None:
    """Batch norms of each keyword become one, with the keyword before the dimension, in place.

    Upstream has one a keyword, or one in which the dimension comes first.
    """
    count, size = config.keywords, config.keywords * config.words
    for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        apart = [f"{NORMS}{n}.{kind}" for n in range(count)]
        if all(name in tensors for name in apart):
            found = [tensors.pop(name) for name in apart]
            tensors[f"{NORM}{kind}"] = found[0] if found[0].dim() == 0 else torch.cat(found)
        elif config.norm == "each" and (one := tensors.get(f"{NORM}{kind}")) is not None and one.shape == (size,):
            tensors[f"{NORM}{kind}"] = one.reshape(config.words, count).T.flatten()


def _chosen(tensors: dict[str, Tensor], text: ClipTextEncoder, path: Path, name: Any) -> Int[Tensor, " size"]:
    """Which rows of the text tower's table the checkpoint's own table has, which is a part of it.

    Raises ModelError where the checkpoint has no table, or was trained with another CLIP. Numbers count as the same
    where they are the same in 16 bits, in which CLIP was published.
    """
    size_of(tensors, f"{CLIP}token_embedding.weight", 2, path, WHAT)
    numbers: dict[bytes, int] = {}
    for number, row in enumerate(text.words.detach().half().cpu().numpy()):
        numbers.setdefault(row.tobytes(), number)
    rows = tensors[f"{CLIP}token_embedding.weight"].half().cpu().numpy()
    found = [numbers.get(row.tobytes(), -1) for row in rows]
    model = text.text_model
    ours = {
        "positional_embedding": model.embeddings.position_embedding.weight,
        "ln_final.weight": model.final_layer_norm.weight,
        "text_projection": text.text_projection.weight.T,
    }
    same = all(
        (theirs := tensors.get(f"{CLIP}{one}")) is not None and torch.equal(theirs.half(), tensor.half())
        for one, tensor in ours.items()
    )
    if -1 in found or not same:
        called = f" ({name})" if isinstance(name, str) else ""
        raise ModelError(f"{path} was trained with another CLIP than was given; give the one that it names{called}")
    return torch.tensor(found)
