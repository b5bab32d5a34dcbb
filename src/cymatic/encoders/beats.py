"""Sounds at 16 kHz -> condition: BEATs, a transformer over patches of a spectrogram (Chen et al., 2022, arXiv
2212.09058), whose weights others trained (`hub/readers/beats.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, relu, scaled_dot_product_attention, silu

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.errors import Error
from cymatic.media.wave_spec import WaveSpec
from cymatic.nn.linear import Linear
from cymatic.signal.kaldi import kaldi_fbank, kaldi_frames, kaldi_sizes

RATE, MELS = 16_000, 128
FULL = 2**15  # of a 16-bit sample, which the energies count in
MEAN, SPREAD = 15.41663, 2 * 6.55582  # of the energies of the sounds that it was trained on
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_accurate": lambda x: gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


class BeatsConfig(Config):
    """patch: frames and mels of a patch's side; patch_width: numbers that a patch becomes at first, patch_bias: with a
    bias. width, depth, heads, mlp: of the transformer. `glu`: the layer in the middle is `value * silu(gate)`.

    norm_first: each sublayer is `x + f(norm(x))`, else `norm(a x + f(x))`, a being 1, or `(2 depth)^(1/4)` with
    deep_norm. position_taps, position_groups: of the convolution that tells places. buckets, max_distance: of the
    distances whose bias is learned; buckets of None: there is no bias. gated: each query scales it.

    classes: of the head of a fine-tuned model, None without one; labels: their names, where the file has them.
    The dropouts and layer_drop, the chance that a layer is left out, matter in training mode only.
    """

    kind: Literal["beats"] = "beats"
    patch: int = Field(gt=0, le=MELS)
    patch_width: int = Field(gt=0, le=8192)
    patch_bias: bool = False
    width: int = Field(gt=0, le=8192)
    depth: int = Field(ge=1, le=96)
    heads: int = Field(gt=0, le=128)
    mlp: int = Field(gt=0, le=2**16)
    activation: Literal["relu", "gelu", "gelu_accurate", "tanh", "linear", "glu"] = "gelu"
    norm_first: bool = False
    deep_norm: bool = False
    position_taps: int = Field(gt=0, le=4096)
    position_groups: int = Field(gt=0, le=8192)
    buckets: int | None = Field(default=None, ge=4, le=2**16)
    max_distance: int = Field(default=1280, gt=0, le=2**24)
    gated: bool = False
    classes: int | None = Field(default=None, gt=0, le=2**16)
    labels: tuple[str, ...] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    activation_dropout: float = Field(default=0.0, ge=0, lt=1)
    input_dropout: float = Field(default=0.0, ge=0, lt=1)
    head_dropout: float = Field(default=0.0, ge=0, lt=1)
    layer_drop: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, parts in (("heads", self.heads), ("groups", self.position_groups)):
            if self.width % parts:
                raise ValueError(f"a width of {self.width} can't be split into {parts} {name}")
        if self.deep_norm and self.norm_first:
            raise ValueError("deep_norm and norm_first are both set; deep_norm is for norms behind each sublayer")
        if self.buckets is not None and self.max_distance <= self.buckets // 4:
            raise ValueError(
                f"a max_distance of {self.max_distance} lies within the {self.buckets // 4} distances that have a "
                "bucket each"
            )
        if self.labels and len(self.labels) != self.classes:
            raise ValueError(f"{len(self.labels)} labels for {self.classes or 0} classes")
        return self

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def reads(self) -> WaveSpec:
        """What it encodes."""
        return WaveSpec(rate=RATE)

    @property
    def shortest(self) -> int:
        """Samples that one patch takes."""
        window, hop = kaldi_sizes(RATE)
        return window + (self.patch - 1) * hop

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> Self:
        """Itself: it is trained already."""
        return self


def relative_buckets(n: int, buckets: int, max_distance: int) -> Int[Tensor, "n n"]:
    """The bucket of the distance from each place (rows) to each other (columns), as T5 has it (Raffel et al., 2019,
    arXiv 1910.10683): half of them for each direction, of which half hold one distance each. The others grow as the
    logarithm does, and the last holds all that is beyond `max_distance`.

    Computed in float32, step by step as where it was trained, since a rounding decides at a bucket's end.
    """
    distance = torch.arange(n) - torch.arange(n)[:, None]
    half, size = buckets // 2, distance.abs()
    exact = half // 2
    growth = torch.log(size.clamp_min(1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + growth.long()).clamp_max(half - 1)
    return (distance > 0) * half + torch.where(size < exact, size, far)


class BeatsAttention(nn.Module):
    """Self-attention `softmax(q k / sqrt(d) + g b) v`. b is a learned number for each head and bucket of distances, and
    each query scales it by a gate of its own, as in XLM-E and WavLM (Chi et al., 2021, arXiv 2106.16138):
    `g = a (c s - 1) + 2`, a and c being sigmoids of sums of four linear maps of q, and s learned for each head."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width, self.heads, self.dropout = config.width, config.heads, config.attention_dropout
        self.q, self.k, self.v, self.out = (Linear(width, width) for _ in range(4))
        self.gated = config.gated
        if config.gated:
            self.gate = Linear(width // config.heads, 8)
            self.gate_scale = nn.Parameter(torch.ones(1, config.heads, 1, 1))

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        bias: Float[Tensor, "heads n n"] | None,
        mask: Bool[Tensor, "batch n"],
    ) -> Float[Tensor, "batch n width"]:
        """`mask` is True where a key may be looked at."""
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        added = valid = mask[:, None, None]  # True is nothing that is added
        if bias is not None:
            scaled = self._gates(q) * bias if self.gated else bias.expand(len(x), -1, -1, -1)
            added = scaled.masked_fill(~valid, -math.inf)
        dropout = self.dropout if self.training else 0.0
        return self.out(scaled_dot_product_attention(q, k, v, added, dropout).transpose(1, 2).flatten(2))

    def _gates(self, q: Float[Tensor, "batch heads n dim"]) -> Float[Tensor, "batch heads n 1"]:
        a, c = self.gate(q).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        return a * (c * self.gate_scale - 1) + 2


class BeatsBlock(nn.Module):
    """Attention and a layer in the middle. With deep_norm what came in counts more the deeper the network is (DeepNet,
    Wang et al., 2022, arXiv 2203.00555)."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.kept = (2 * config.depth) ** 0.25 if config.deep_norm else 1.0
        self.activation = ACTIVATIONS.get(config.activation)  # None: a gated linear unit
        self.attention = BeatsAttention(config)
        self.attention_norm = nn.LayerNorm(config.width)
        self.widen = Linear(config.width, config.mlp * (1 if self.activation else 2))
        self.narrow = Linear(config.mlp, config.width)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.dropout, self.inner_dropout = nn.Dropout(config.dropout), nn.Dropout(config.activation_dropout)

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        bias: Float[Tensor, "heads n n"] | None,
        mask: Bool[Tensor, "batch n"],
    ) -> Float[Tensor, "batch n width"]:
        """`mask` is True where a place may be looked at."""
        if self.norm_first:
            x = x + self.dropout(self.attention(self.attention_norm(x), bias, mask))
            return x + self._middle(self.mlp_norm(x))
        x = self.attention_norm(self.kept * x + self.dropout(self.attention(x, bias, mask)))
        return self.mlp_norm(self.kept * x + self._middle(x))

    def _middle(self, x: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n width"]:
        inner = self.widen(x)
        if self.activation is None:
            value, gate = inner.chunk(2, dim=-1)
            inner = value * silu(gate)
        else:
            inner = self.activation(inner)
        return self.dropout(self.narrow(self.inner_dropout(inner)))


class BeatsEncoder(nn.Module):
    """Waveforms `[batch, samples]` or `[batch, 1, samples]` at 16 kHz in -1..1 -> `Cond(tokens [batch, n, width], mask,
    vector [batch, width])`, a token for each patch, in order of time and then of pitch.

    Kaldi's log mel energies, at a known mean and spread, are cut into squares of `patch` frames by `patch` mels. Frames
    that fill no patch are left out. The vector is the tokens' mean at unit norm.

    What lies beyond an item's own samples changes nothing. Their own code makes its mask from samples as if patches
    followed one another in time, so that an item's last patches may look at silence, and which ones depends on the
    batch; `states` and `condition` take such a mask, too.
    """

    config_class: ClassVar[type[BeatsConfig]] = BeatsConfig

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        width, patch, taps = config.width, config.patch, config.position_taps
        self.patch_embedding = nn.Conv2d(1, config.patch_width, patch, stride=patch, bias=config.patch_bias)
        self.patch_norm = nn.LayerNorm(config.patch_width)
        self.project = nn.Identity() if config.patch_width == width else Linear(config.patch_width, width)
        self.positions = nn.Conv1d(width, width, taps, padding=taps // 2, groups=config.position_groups)
        self.norm = nn.LayerNorm(width)  # before all blocks, or with norm_first behind them
        self.relative_bias = None if config.buckets is None else nn.Embedding(config.buckets, config.heads)
        self.blocks = nn.ModuleList(BeatsBlock(config) for _ in range(config.depth))
        self.head = None if config.classes is None else Linear(width, config.classes)
        self.input_dropout, self.dropout = nn.Dropout(config.input_dropout), nn.Dropout(config.dropout)
        self.head_dropout = nn.Dropout(config.head_dropout)

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def features(self, waves: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames mels"]:
        """Log mel energies, with the mean and the spread of what it was trained on taken out."""
        return (kaldi_fbank(waves * FULL, RATE, MELS) - MEAN) / SPREAD

    def patches(self, features: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch n width"]:
        """What the transformer reads, one for each patch: those of the lowest mels first, all pitches of one time."""
        made = self.patch_embedding(features[:, None]).flatten(2).mT
        return self.input_dropout(self.project(self.patch_norm(made)))

    def states(
        self, patches: Float[Tensor, "batch n width"], mask: Bool[Tensor, "batch n"]
    ) -> list[Float[Tensor, "batch n width"]]:
        """What each block gives, the first first; beyond the mask it means nothing."""
        x = patches.masked_fill(~mask[..., None], 0)
        x = x + gelu(self.positions(x.mT)[..., : x.shape[1]]).mT  # an even number of taps gives one place more
        x = self.dropout(x if self.config.norm_first else self.norm(x))
        bias, found = self._bias(x.shape[1]), []
        for block in self.blocks:
            if not self.training or float(torch.rand(())) >= self.config.layer_drop:
                x = block(x, bias, mask)
            found.append(x)
        return found

    def _bias(self, n: int) -> Float[Tensor, "heads n n"] | None:
        if self.relative_bias is None or self.config.buckets is None:
            return None
        places = relative_buckets(n, self.config.buckets, self.config.max_distance)
        return self.relative_bias(places.to(self.relative_bias.weight.device)).permute(2, 0, 1)

    def hidden_states(self, batch: Padded) -> tuple[list[Float[Tensor, "batch n width"]], Bool[Tensor, "batch n"]]:
        """What each block gives, the first first and 0 beyond an item's own patches, and which patches those are.

        Raises Error as `forward`.
        """
        waves, lengths = self._checked(batch)
        patches = self.patches(self.features(waves))
        frames = torch.tensor([kaldi_frames(length, RATE) for length in lengths.tolist()], device=patches.device)
        own = frames // self.config.patch * (MELS // self.config.patch)
        mask = torch.arange(patches.shape[1], device=patches.device) < own[:, None]
        return [state * mask[..., None] for state in self.states(patches, mask)], mask

    def layers(
        self, batch: Padded, layers: Sequence[int]
    ) -> tuple[Float[Tensor, "batch n dim"], Bool[Tensor, "batch n"]]:
        """What some of the blocks give, by their numbers from 0 on, side by side: `[batch, n, len(layers) * width]`,
        and the mask.

        Raises Error for blocks that it does not have, and as `forward`.
        """
        if not layers or not all(0 <= layer < self.config.depth for layer in layers):
            raise Error(f"layers {list(layers)} were asked for; this BEATs has layers 0 to {self.config.depth - 1}")
        states, mask = self.hidden_states(batch)
        return torch.cat([states[layer] for layer in layers], dim=-1), mask

    def condition(self, state: Float[Tensor, "batch n width"], mask: Bool[Tensor, "batch n"]) -> Cond:
        """What the last block gives, as a condition."""
        tokens = (self.norm(state) if self.config.norm_first else state) * mask[..., None]
        return Cond(tokens, mask, normalize(masked_mean(tokens, mask), dim=-1))

    def forward(self, batch: Padded) -> Cond:
        """Raises Error for sounds of another shape, for lengths that they don't have, for items too short for a patch
        (0.175 s where it is 16 frames long), and for samples that are no numbers."""
        states, mask = self.hidden_states(batch)
        return self.condition(states[-1], mask)

    def probabilities(self, cond: Cond) -> Float[Tensor, "batch classes"]:
        """How likely each class is to be heard, 0..1 each: `sigmoid(mean of the tokens' logits)`, of what `forward`
        gave.

        Raises Error where the model was not fine-tuned.
        """
        if self.head is None:
            raise Error("this BEATs has no classes; give a fine-tuned one")
        if cond.tokens is None or cond.mask is None:
            raise Error("a condition without tokens was given; give what this encoder's forward gave")
        # The mean of logits is the logits of the mean.
        return self.head(masked_mean(self.head_dropout(cond.tokens), cond.mask)).sigmoid()

    def _checked(self, batch: Padded) -> tuple[Float[Tensor, "batch samples"], Int[Tensor, " batch"]]:
        """The waves, silent beyond each length and as long as the longest, and the lengths."""
        device = self.patch_embedding.weight.device
        waves, lengths = batch.values.to(device), batch.lengths.to(device)
        if waves.dim() == 3 and waves.shape[1] == 1:
            waves = waves[:, 0]
        if waves.dim() != 2 or not waves.is_floating_point():
            raise Error(
                f"sounds of the shape {list(batch.values.shape)} were given; this encoder reads [batch, samples]"
            )
        shortest, longest = int(lengths.min()), int(lengths.max())
        if shortest < self.config.shortest or longest > waves.shape[1]:
            raise Error(
                f"sounds of {shortest} to {longest} samples were given, in a batch of {waves.shape[1]}; this encoder "
                f"reads {self.config.shortest} ({self.config.shortest / RATE:g} s) or more"
            )
        waves = waves[:, :longest].float()
        waves = waves.masked_fill(torch.arange(longest, device=device) >= lengths[:, None], 0)
        if not waves.isfinite().all():
            raise Error("the sound holds NaN or infinity; give finite samples")
        return waves, lengths


def masked_mean(tokens: Float[Tensor, "batch n dim"], mask: Bool[Tensor, "batch n"]) -> Float[Tensor, "batch dim"]:
    """The mean of the valid tokens."""
    return (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
