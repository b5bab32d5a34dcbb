"""SpeechCLIP's parallel branch (Shih et al., 2022, arXiv 2210.00705): what is said, in the space of CLIP's pictures.

A Lightning checkpoint holds the speech tower under fairseq's names, CLIP, the branch and buffers of the loss. Tower and
branch are read; CLIP is read elsewhere (`readers.clip`), and so is the other branch (`readers.cascaded_speechclip`). A
loss that stores nothing is in `encoders.align`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize

from cymatic.cond import Cond, Padded
from cymatic.config import Config, nearest
from cymatic.encoders.examples import Conditioned
from cymatic.errors import ModelError
from cymatic.hub.bounded import Bounded
from cymatic.hub.checkpoints import read_checkpoint, tensors_in
from cymatic.hub.parts import fill
from cymatic.hub.readers.hubert import HubertConfig, HubertEncoder, folded
from cymatic.hub.readers.named_tensors import size_of
from cymatic.media.wave_spec import WaveSpec

TOWER, BRANCH = "audio_encoder.encoder.", "parallel_branch."
POSITIONS = f"{TOWER}encoder.pos_conv.0."
STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of HuBERT's convolutions: no tensor tells them
HEAD = 64  # width of a head in HuBERT
RATE = 16_000  # Hz, of all published speech towers
EPS = 1e-5  # of fairseq's layer norms, that of a waveform among them
TEMPERATURE = "criterion.temperature"  # where it is learned: the logarithm of its inverse
# What belongs to HuBERT's own training, or to a loss of one batch size; and here to CLIP, or to the other branch, whose
# projection is never used.
UNUSED = (
    rf"criterion\.(eye_mat|neg_eye_mat|eye_mat_fl)$|c_branch_proj_net\."
    rf"|{re.escape(TOWER)}(mask_emb|label_embs_concat|final_proj\.(weight|bias))$"
)
LEFT_OUT = re.compile(rf"clip\.|cascaded_branch\.|{UNUSED}")
# The beginning of our names and of theirs.
THEIRS = (
    ("weights", "audio_encoder.weightedsum_layer.weights"),
    ("cls", f"{BRANCH}cls"),
    ("branch.", f"{BRANCH}self_att.model."),
    ("project.", f"{BRANCH}linear_proj."),
    ("speech.feature_extractor.", f"{TOWER}feature_extractor."),
    ("speech.feature_projection.layer_norm.", f"{TOWER}layer_norm."),
    ("speech.feature_projection.projection.", f"{TOWER}post_extract_proj."),
    ("speech.encoder.pos_conv_embed.conv.", POSITIONS),
    ("speech.encoder.", f"{TOWER}encoder."),
)
# The same inside a layer.
CONVOLUTION = {"conv": "0", "layer_norm": "2"}
LAYER = {
    "attention": "self_attn", "layer_norm": "self_attn_layer_norm", "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2", "final_layer_norm": "final_layer_norm",
}  # fmt: skip


class SpeechClipConfig(Config):
    """speech: of the frozen tower, None until it is known (see `over`); state_norm: whether its states are normed
    before their weighted sum. depth, heads, mlp, activation, eps, dropout: of the branch's transformer; pre_norm:
    whether its norms come before the layers. dim: of the space of the pictures."""

    kind: Literal["speechclip"] = "speechclip"
    speech: HubertConfig | None = None
    state_norm: bool = False
    depth: int = Field(default=1, ge=1, le=64)
    heads: int = Field(default=8, gt=0, le=128)
    mlp: int = Field(default=3072, gt=0, le=2**16)
    activation: Literal["gelu", "relu"] = "gelu"
    eps: float = Field(default=1e-5, gt=0, le=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    pre_norm: bool = False
    dim: int = Field(gt=0, le=8192)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.speech is not None and self.speech.width % self.heads:
            raise ValueError(f"a width of {self.speech.width} can't be split into {self.heads} heads")
        return self

    @property
    def reads(self) -> WaveSpec:
        """What it encodes."""
        return WaveSpec(rate=RATE) if self.speech is None else self.speech.reads

    def over(self, tower: HubertConfig) -> Self:
        """Itself over a tower of this config. Raises ModelError for a width that its heads can't share."""
        return type(self).parse({**self.model_dump(), "speech": tower.model_dump()}, "a branch of SpeechCLIP's")

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> Self:
        """Itself: it is trained already."""
        return self


def weighted_sum(
    states: Sequence[Float[Tensor, "batch frames width"]], weights: Float[Tensor, " states"], normed: bool
) -> Float[Tensor, "batch frames width"]:
    """`sum_l softmax(w)_l h_l` (Yang et al., 2021, arXiv 2105.01051). normed: whether each state is first brought to
    mean 0 and variance 1 over its channels."""
    stacked = torch.stack(list(states))
    if normed:
        stacked = layer_norm(stacked, [stacked.shape[-1]])
    return (weights.softmax(0)[:, None, None, None] * stacked).sum(0)


class SpeechClipEncoder(nn.Module):
    """Waveforms `[batch, 1, samples]` -> `Cond(vector [batch, dim])`, of unit norm, to compare with CLIP's pictures.

    All states of the speech tower are summed by learned weights (`weighted_sum`); a learned vector goes in front, and
    what a transformer without further positions makes of it is projected. The tower is frozen, and stays in eval mode
    when the rest trains.

    An item alone and in a padded batch gives the same within 1e-5: what SpeechCLIP gives for it alone. In a padded
    batch SpeechCLIP lets the padding through the tower's first norm, and counts `round(samples / 320)` frames, of which
    the last may hold no more than padding; neither is done here.
    """

    config_class: ClassVar[type[SpeechClipConfig]] = SpeechClipConfig
    tower_class: ClassVar[type[HubertEncoder]] = HubertEncoder
    speech: HubertEncoder | None

    def __init__(self, config: SpeechClipConfig) -> None:
        """Raises ModelError for a config that is over no tower."""
        super().__init__()
        self.config = config
        if config.speech is None:
            raise ModelError("a branch of SpeechCLIP's was given no tower of speech; name one for its role in towers")
        width = config.speech.width
        self.speech = HubertEncoder(config.speech).requires_grad_(False)
        self.weights = nn.Parameter(torch.zeros(config.speech.depth + 1))
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        layer = nn.TransformerEncoderLayer(
            width, config.heads, config.mlp, config.dropout, config.activation, config.eps, batch_first=True,
            norm_first=config.pre_norm,
        )  # fmt: skip
        self.branch = nn.TransformerEncoder(layer, config.depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.project = nn.Linear(width, config.dim)

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def train(self, mode: bool = True) -> Self:
        """The tower stays in eval mode."""
        super().train(mode)
        if self.speech is not None:
            self.speech.eval()
        return self

    def over(self, tower: HubertEncoder | None) -> Self:
        """The same branch, with the very same weights, over a tower of its config; None: without one, for states."""
        made = copy(self)
        made._modules = {**self._modules, "speech": tower}
        return made

    def unfreeze(self, names: Sequence[str]) -> None:
        """Lets the tower's parameters whose names begin so learn, which is in eval mode all the same. Raises ModelError
        for a name that none begins with."""
        assert self.speech is not None
        known = dict(self.speech.named_parameters())
        for name in names:
            chosen = [p for own, p in known.items() if own == name or own.startswith(f"{name.rstrip('.')}.")]
            if not chosen:
                modules = [own for own, _ in self.speech.named_modules() if own]
                raise ModelError(f'the tower has no part "{name}" to unfreeze; {nearest(name, modules)}')
            for p in chosen:
                p.requires_grad_(True)

    def states(self, batch: Padded) -> Padded:
        """All states of the tower as one, `[batch, states * width, frames]`: what `of_states` reads. Raises Error as
        `HubertEncoder.hidden_states`."""
        assert self.speech is not None
        states, mask = self.speech.hidden_states(batch)
        return Padded(torch.cat(list(states), -1).mT, mask.sum(1))

    def of_states(self, states: Padded) -> Cond:
        """What the branch makes of the tower's states, in 16 bits or 32."""
        values = states.values.to(self.weights).unflatten(1, (len(self.weights), -1))
        frames = self.weighted([one.mT for one in values.unbind(1)])
        return Cond(vector=self.embed(frames, states.mask.to(frames.device)))

    def weighted(self, states: Sequence[Float[Tensor, "batch frames width"]]) -> Float[Tensor, "batch frames width"]:
        """The states' sum by the learned weights."""
        return weighted_sum(states, self.weights, self.config.state_norm)

    def embed(
        self, frames: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch dim"]:
        """What the branch makes of the frames at which `mask` is True."""
        tokens = torch.cat([self.cls.expand(len(frames), -1, -1), frames], 1)
        hidden = torch.cat([mask.new_zeros(len(mask), 1), ~mask], 1)
        made = self.branch(tokens, src_key_padding_mask=hidden)
        return normalize(self.project(made[:, 0]), dim=-1)

    def forward(self, batch: Padded) -> Cond:
        """Raises Error as `HubertEncoder.hidden_states`."""
        assert self.speech is not None
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.speech.parameters())
        with torch.set_grad_enabled(learns):
            states, mask = self.speech.hidden_states(batch)
        return Cond(vector=self.embed(self.weighted(states), mask))


@dataclass(frozen=True)
class SpeechClip:
    """The encoder of speech, and by what its similarities with pictures become logits."""

    speech: SpeechClipEncoder
    scale: float


def read_speechclip(
    path: Path, *, heads: int | None = None, pre_norm: bool | None = None, normalise: bool | None = None
) -> SpeechClip:
    """The parallel branch and its speech tower from a Lightning checkpoint of SpeechCLIP's, which may have the cascaded
    one as well. Nothing in it can run code.

    What no tensor tells of the branch is taken from the checkpoint's own settings, or is as in the released models
    where these are pickled as objects of SpeechCLIP's. What no SpeechCLIP file says of the tower may be given; else
    `heads` is a 64th of its width, and it has its norms before its layers (`pre_norm`), brings each sound to mean 0 and
    variance 1 (`normalise`) and has its states normed if its convolutions are normed over channels, as in HuBERT large.

    Raises ModelError for a file that is missing, damaged or no SpeechCLIP with a parallel branch, a setting that is not
    known here, and tensors that are missing, unexpected, of another shape or not finite.
    """
    held = read_checkpoint(path)
    tensors = {name: tensor for name, tensor in tensors_in(held, path).items() if not LEFT_OUT.match(name)}
    settings = settings_of(held)
    speech = tower_settings(tensors, path, heads, pre_norm, normalise)
    values = {"state_norm": speech["conv_norm"] == "layer", "speech": speech} | states_told(settings, path)
    values |= _branch(tensors, path, settings)
    config = SpeechClipConfig.parse(values, str(path))
    scale = scale_of(tensors, settings, path)
    tower = HubertConfig.parse(speech, str(path))
    with Bounded({name: tensor.shape for name, tensor in tensors.items()}, str(path)):
        encoder = SpeechClipEncoder(config)
    tensors = folded(tensors, POSITIONS)
    fill(encoder, tensors, f"{path} is no SpeechCLIP that is known here", lambda name: their_name(name, tower))
    return SpeechClip(encoder.eval(), scale)


def has_parallel_branch(path: Path) -> bool:
    """Whether a checkpoint of SpeechCLIP's has this branch. Raises ModelError for one that is missing or damaged."""
    return any(name.startswith(BRANCH) for name in tensors_in(read_checkpoint(path), path))


def their_name(name: str, config: HubertConfig) -> str:
    """SpeechCLIP's name of a tensor of ours."""
    ours, theirs = next(pair for pair in THEIRS if name.startswith(pair[0]))
    rest = name.removeprefix(ours)
    table: Mapping[str, str] = {}
    if rest.startswith("conv_layers."):  # a norm over channels stands between two that swap the axes
        table = CONVOLUTION if config.conv_norm == "group" else CONVOLUTION | {"layer_norm": "2.1"}
    elif ours == "speech.encoder." and rest.startswith("layers."):
        table = LAYER
    for inside, other in table.items():
        found = re.fullmatch(rf"(\w+\.\d+)\.{re.escape(inside)}\.(.+)", rest)
        if found:
            return f"{theirs}{found[1]}.{other}.{found[2]}"
    return theirs + rest


def _count(tensors: Mapping[str, Tensor], name: str) -> int:
    """How many layers have a tensor of this name, in which `{}` stands for the layer's number."""
    count = 0
    while name.format(count) in tensors:
        count += 1
    return count


def tower_settings(
    tensors: Mapping[str, Tensor], path: Path, heads: int | None, pre_norm: bool | None, normalise: bool | None
) -> dict[str, Any]:
    """The settings of the speech tower. Raises ModelError where its tensors don't tell its sizes."""
    conv = f"{TOWER}feature_extractor.conv_layers."
    shapes = [
        size_of(tensors, f"{conv}{n}.0.weight", 3, path, "SpeechCLIP")
        for n in range(max(1, _count(tensors, f"{conv}{{}}.0.weight")))
    ]
    if len(shapes) != len(STRIDES):
        raise ModelError(f"{path} has {len(shapes)} convolutions over the waveform; HuBERT's {len(STRIDES)} are known")
    large = f"{conv}0.2.1.weight" in tensors
    width = size_of(tensors, f"{TOWER}post_extract_proj.weight", 2, path, "SpeechCLIP")[0]
    direction = next((name for name in tensors if re.fullmatch(rf"{re.escape(POSITIONS)}.*(_v|original1)", name)), "")
    place = size_of(tensors, direction or f"{POSITIONS}weight_v", 3, path, "SpeechCLIP")
    if heads is None and width % HEAD:
        raise ModelError(
            f"{path} has a speech tower of width {width}, and its heads are no {HEAD} wide; say how many there are"
        )
    return {
        "channels": [shape[0] for shape in shapes],
        "kernels": [shape[2] for shape in shapes],
        "strides": STRIDES,
        "conv_bias": f"{conv}0.0.bias" in tensors,
        "conv_norm": "layer" if large else "group",
        "positions": place[2],
        "groups": max(1, width // max(1, place[1])),
        "width": width,
        "depth": _count(tensors, f"{TOWER}encoder.layers.{{}}.fc1.weight"),
        "heads": width // HEAD if heads is None else heads,
        "mlp": size_of(tensors, f"{TOWER}encoder.layers.0.fc1.weight", 2, path, "SpeechCLIP")[0],
        "eps": EPS,
        "pre_norm": large if pre_norm is None else pre_norm,
        "normalise": EPS if (large if normalise is None else normalise) else None,
    }


def _branch(tensors: Mapping[str, Tensor], path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of the parallel branch. Raises ModelError for what is not known here, and where its tensors don't
    tell its sizes."""
    layer = f"{BRANCH}self_att.model.layers."
    sizes = {
        "depth": _count(tensors, f"{layer}{{}}.linear1.weight"),
        "mlp": size_of(tensors, f"{layer}0.linear1.weight", 2, path, "SpeechCLIP with a parallel branch")[0],
        "dim": size_of(tensors, f"{BRANCH}linear_proj.weight", 2, path, "SpeechCLIP with a parallel branch")[0],
    }
    found = within(settings, "model_settings", "parallel_branch", "transformer_args")
    names = {"heads": "nhead", "activation": "activation", "eps": "layer_norm_eps", "dropout": "dropout",
             "pre_norm": "norm_first"}  # fmt: skip
    told = {ours: found[theirs] for ours, theirs in names.items() if theirs in found}
    return told | sizes


def states_told(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Whether the tower's states are normed before their sum, where the settings say so. Raises ModelError where they
    are not summed, or normed in a way that is not known here."""
    tower = within(settings, "audio_encoder")
    for name, known in (("feat_select_idx", "weighted_sum"), ("normalize_type", "s3prl")):
        if tower.get(name, known) != known:
            raise ModelError(f"{path} asks for {name} {tower[name]!r:.40}; {known} alone is known here")
    told = tower.get("normalize_hiddenstates")
    return {} if told is None else {"state_norm": told}


def scale_of(tensors: dict[str, Tensor], settings: dict[str, Any], path: Path) -> float:
    """By what similarities become logits; its tensor is taken out. Raises ModelError where that is no number."""
    learned = tensors.pop(TEMPERATURE, None)
    temperature = within(settings, "cl_loss", "args").get("temperature", 0.07)
    if learned is not None:
        scale = float(learned.float().exp()) if learned.numel() == 1 else math.nan
    else:
        number = isinstance(temperature, int | float) and temperature > 0
        scale = 1 / temperature if number else math.nan
    if not math.isfinite(scale):
        raise ModelError(f"{path} has no temperature that is a number above 0; copy the checkpoint again")
    return scale


def settings_of(held: dict[str, Any]) -> dict[str, Any]:
    """The settings that the checkpoint was trained with, as far as they are plain values."""
    return within(held, "hyper_parameters", "config")


def within(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The mapping under these keys, one within the other; an empty one where there is none."""
    for key in keys:
        inner = values.get(key)
        values = inner if isinstance(inner, dict) else {}
    return values
