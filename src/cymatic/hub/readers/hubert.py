"""HuBERT (Hsu et al., 2021, arXiv 2106.07447) and wav2vec 2.0 (Baevski et al., 2020, arXiv 2006.11477) from Hugging
Face folders: speech -> frames of 20 ms.

The layers are those of the package transformers. How they are put together is said here, so that no sound's frames
depend on what it is batched with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.errors import Error, ModelError
from cymatic.hub.bounded import Bounded, check_plain
from cymatic.hub.checkpoints import state_dict
from cymatic.hub.parts import CONFIG, WEIGHTS, fill, read_json, read_tensors
from cymatic.hub.readers.peers import MAGNITUDES, groups, transformers, without_weight_norm
from cymatic.media.wave_spec import WaveSpec

Activation = Literal["gelu", "gelu_new", "relu", "selu"]
FAMILIES = ("hubert", "wav2vec2")
# Our name of a setting: transformers' name.
NAMES = {
    "channels": "conv_dim", "kernels": "conv_kernel", "strides": "conv_stride", "conv_bias": "conv_bias",
    "conv_norm": "feat_extract_norm", "conv_activation": "feat_extract_activation",
    "positions": "num_conv_pos_embeddings", "groups": "num_conv_pos_embedding_groups", "width": "hidden_size",
    "depth": "num_hidden_layers", "heads": "num_attention_heads", "mlp": "intermediate_size",
    "activation": "hidden_act", "eps": "layer_norm_eps", "pre_norm": "do_stable_layer_norm",
}  # fmt: skip
INPUT_NORM = "feat_proj_layer_norm"  # a choice of HuBERT's; wav2vec 2.0 always has it
# Nothing is left out at random, in training neither: the same sound has the same frames.
STEADY = {
    "hidden_dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0,
    "layerdrop": 0.0, "mask_time_prob": 0.0, "mask_feature_prob": 0.0,
}  # fmt: skip
UNKNOWN = ("conv_pos_batch_norm", "add_adapter", "adapter_attn_dim")  # settings of layers that are not known here
# What stands on the network in models for a task; and what takes the place of a masked frame in pretraining.
HEADS = ("lm_head.", "quantizer.", "project_hid.", "project_q.", "projector.", "classifier.", "layer_weights")
MASKED = "masked_spec_embed"
POSITIONS = "encoder.pos_conv_embed.conv."
PICKLED, SOUND, PROCESSOR = "pytorch_model.bin", "preprocessor_config.json", "processor_config.json"
EPS = 1e-7  # of the variance of a waveform, in transformers

Size = Annotated[int, Field(gt=0, le=8192)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1, max_length=32)]


class HubertConfig(Config):
    """family: whose layers; rate: of the sounds, in Hz; normalise: what is added to the variance where each sound is
    brought to mean 0 and variance 1, None where it is taken as it is.

    channels, kernels, strides: of the convolutions over the waveform, in samples of what each reads; conv_norm: "group"
    for a norm over time after the first, "layer" for one over channels after each; input_norm: whether what they make
    is normed once more. positions, groups: kernel (in frames) and groups of the convolution that tells positions.
    width, depth, heads, mlp, activation, eps: of the transformer; pre_norm: whether its norms come before the layers.
    """

    kind: Literal["hubert"] = "hubert"
    family: Literal["hubert", "wav2vec2"] = "hubert"
    rate: int = Field(default=16_000, gt=0, le=768_000)
    normalise: float | None = Field(default=None, gt=0, le=1)
    channels: Sizes
    kernels: Sizes
    strides: Sizes
    conv_bias: bool = False
    conv_norm: Literal["group", "layer"] = "group"
    conv_activation: Activation = "gelu"
    input_norm: bool = True
    positions: int = Field(gt=0, le=8192)
    groups: int = Field(gt=0, le=8192)
    width: int = Field(gt=0, le=8192)
    depth: int = Field(ge=1, le=96)
    heads: int = Field(gt=0, le=128)
    mlp: int = Field(gt=0, le=2**16)
    activation: Activation = "gelu"
    eps: float = Field(default=1e-5, gt=0, le=1)
    pre_norm: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        counts = len(self.channels), len(self.kernels), len(self.strides)
        if len(set(counts)) > 1:
            raise ValueError(f"channels, kernels and strides of {counts[0]}, {counts[1]} and {counts[2]} convolutions")
        if self.width % self.heads or self.width % self.groups:
            raise ValueError(
                f"a width of {self.width} can't be split into {self.heads} heads, or not into {self.groups} groups"
            )
        if self.family == "wav2vec2" and not self.input_norm:
            raise ValueError("wav2vec 2.0 always norms what its convolutions make")
        return self

    @property
    def dim(self) -> int:
        """Width of a token and of the vector."""
        return self.width

    @property
    def reads(self) -> WaveSpec:
        """What it encodes."""
        return WaveSpec(rate=self.rate)

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> Self:
        """Itself: it is trained already."""
        return self


class HubertEncoder(nn.Module):
    """Waveforms `[batch, 1, samples]` -> `Cond(tokens [batch, frames, width], mask, vector [batch, width])`.

    The tokens are the last states, the vector their mean at unit norm. An item alone and in a padded batch gives the
    same within 1e-5, and what transformers gives for it alone. In a padded batch transformers differs where the first
    convolution is normed over time (the base models): there the padding reaches all frames of the shorter items. So
    here items of different lengths never share that convolution; and the transformer always has a mask of frames, with
    which transformers (though not its advice for base models) agrees. Nothing is dropped or masked in training.
    """

    config_class: ClassVar[type[HubertConfig]] = HubertConfig

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.config = config
        package = transformers()
        settings = {theirs: getattr(config, ours) for ours, theirs in NAMES.items()} | STEADY
        if config.family == "hubert":
            network = package.HubertModel(package.HubertConfig(**settings, **{INPUT_NORM: config.input_norm}))
        else:
            network = package.Wav2Vec2Model(package.Wav2Vec2Config(**settings))
        without_weight_norm(network)
        self.feature_extractor, self.feature_projection = network.feature_extractor, network.feature_projection
        self.encoder = network.encoder

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    @property
    def least(self) -> int:
        """Samples of the shortest sound that has a frame."""
        samples = 1
        for kernel, stride in zip(reversed(self.config.kernels), reversed(self.config.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def frames(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """How many frames sounds of `lengths` samples have."""
        for kernel, stride in zip(self.config.kernels, self.config.strides, strict=True):
            lengths = (lengths - kernel).div(stride, rounding_mode="floor") + 1
        return lengths.clamp(min=0)

    def normalised(
        self, waves: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch samples"]:
        """Each sound at mean 0 and variance 1 over its own samples, where the model was trained so; 0 beyond them."""
        inside = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]
        waves = waves * inside
        if self.config.normalise is None:
            return waves
        centred = (waves - waves.sum(1, keepdim=True) / lengths[:, None]) * inside
        variance = centred.square().sum(1, keepdim=True) / lengths[:, None]
        return centred / (variance + self.config.normalise).sqrt()

    def features(
        self, waves: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames channels"]:
        """What the convolutions make of the first `lengths` samples of each sound.

        A norm over time takes in all samples that it is given, so items of different lengths are taken one length at a
        time; a norm over channels does not, so what lies beyond an item's own frames is left to the mask.
        """
        if self.config.conv_norm == "layer":
            lengths = torch.full_like(lengths, waves.shape[1])
        rows: list[Tensor] = [waves] * len(waves)
        for length, items in groups(lengths):
            x = waves[items, None, :length]
            for layer in self.feature_extractor.conv_layers:
                x = layer(x)
            for item, row in zip(items, x.mT, strict=True):
                rows[item] = row
        return pad_sequence(rows, batch_first=True)

    def states(
        self, features: Float[Tensor, "batch frames channels"], mask: Bool[Tensor, "batch frames"]
    ) -> list[Float[Tensor, "batch frames width"]]:
        """What the first layer of the transformer reads, and what each layer makes of it. `mask` is True at frames
        that may be looked at."""
        x = self.feature_projection(features)
        x = x[0] if isinstance(x, tuple) else x  # wav2vec 2.0 gives the features, normed, as well
        x = x * mask[..., None]
        x = x + self.encoder.pos_conv_embed(x)
        if not self.config.pre_norm:
            x = self.encoder.layer_norm(x)
        # As a sum, which every kind of attention in transformers takes.
        unseen = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, torch.finfo(x.dtype).min)[:, None, None]
        states = [x]
        for layer in self.encoder.layers:
            x = layer(x, attention_mask=unseen)
            states.append(x)
        return states

    def hidden_states(
        self, batch: Padded
    ) -> tuple[list[Float[Tensor, "batch frames width"]], Bool[Tensor, "batch frames"]]:
        """All `depth + 1` states, from what the first layer reads to what the last one makes, and which of the frames
        are an item's own. With pre_norm the last state is taken before the network's final norm.

        Raises Error for waveforms of another shape, lengths that they do not have, and sounds without a frame.
        """
        device = self.feature_projection.projection.weight.device
        waves, lengths = batch.values.to(device), batch.lengths.to(device)
        if waves.dim() != 3 or waves.shape[1] != 1:
            raise Error(
                f"waveforms of the shape {list(waves.shape)} were given; this encoder reads [batch, 1, samples]"
            )
        if int(lengths.max()) > waves.shape[2]:
            raise Error(f"lengths of {lengths.tolist()} samples were given for waveforms of {waves.shape[2]}")
        if int(lengths.min()) < self.least:
            raise Error(
                f"a sound of {int(lengths.min())} samples was given; this encoder needs {self.least} "
                f"({self.least / self.config.rate:.3g} s) for a frame"
            )
        waves = self.normalised(waves[:, 0, : int(lengths.max())], lengths)
        frames = self.frames(lengths)
        mask = torch.arange(int(frames.max()), device=device) < frames[:, None]
        return self.states(self.features(waves, lengths), mask), mask

    def last(self, states: Sequence[Float[Tensor, "batch frames width"]]) -> Float[Tensor, "batch frames width"]:
        """What the network gives: the last state, with its final norm where there is one."""
        return self.encoder.layer_norm(states[-1]) if self.config.pre_norm else states[-1]

    def forward(self, batch: Padded) -> Cond:
        """Raises Error as `hidden_states`."""
        states, mask = self.hidden_states(batch)
        tokens = self.last(states) * mask[..., None]
        return Cond(tokens, mask, normalize(tokens.sum(1), dim=-1))


def is_hubert(folder: Path) -> bool:
    """Whether `folder` is one of HuBERT's or wav2vec 2.0's. Raises ModelError for a damaged `config.json`."""
    return (folder / CONFIG).is_file() and read_json(folder / CONFIG).get("model_type") in FAMILIES


def read_hubert(folder: Path) -> HubertEncoder:
    """HuBERT or wav2vec 2.0 from a folder as the Hugging Face hub has it: `config.json`, `model.safetensors` or
    `pytorch_model.bin`, and `preprocessor_config.json` or `processor_config.json`. What stands on the network in a
    model for a task is left out. No file is fetched, and none can run code.

    Raises ModelError for a file that is missing or damaged, a setting that is not known here, a config of a far larger
    network than the weights are of, and tensors that are missing, unexpected, of another shape or not finite.
    """
    where = str(folder / CONFIG)
    values = read_json(folder / CONFIG)
    family = values.get("model_type")
    if family not in FAMILIES:
        raise ModelError(f'{where} describes a model of type "{family}" where one of {list(FAMILIES)} is needed')
    check_plain(values, where)
    package = transformers()
    try:
        whole = (package.HubertConfig if family == "hubert" else package.Wav2Vec2Config)(**values)
    except Exception as error:  # whatever its checks raise
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{where} is no config of {family}'s ({said}); copy the model again") from None
    for name in UNKNOWN:
        if getattr(whole, name, None):
            raise ModelError(f"{where} asks for {name}, which is not known here; give a model without it")
    settings = {ours: getattr(whole, theirs) for ours, theirs in NAMES.items()}
    settings |= {"family": family, "input_norm": getattr(whole, INPUT_NORM, True), **_sound(folder)}
    config = HubertConfig.parse(settings, where)
    pickled = not (folder / WEIGHTS).is_file() and (folder / PICKLED).is_file()
    tensors = state_dict(folder / PICKLED) if pickled else read_tensors(folder / WEIGHTS)
    with Bounded({name: tensor.shape for name, tensor in tensors.items()}, where):
        encoder = HubertEncoder(config)
    tensors = {name.removeprefix(f"{family}."): tensor for name, tensor in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith((*HEADS, MASKED))}
    fill(encoder, folded(tensors, POSITIONS), f"{folder} does not fit its {CONFIG}")
    return encoder.eval()


def folded(tensors: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    """The tensors in float32, with the weight of the convolution `layer` in one piece, `w = g v / |v|` for each place
    in the kernel, whichever names magnitude and direction have (Salimans and Kingma, 2016, arXiv 1602.07868).

    Numbers of 16 bits are widened first, so that the product is not rounded to them.
    """
    wide = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for magnitude, direction in MAGNITUDES.items():
        g, v = wide.get(layer + magnitude), wide.get(layer + direction)
        if g is not None and v is not None and v.dim() == 3 and g.shape == (1, 1, v.shape[2]):
            del wide[layer + magnitude], wide[layer + direction]
            wide[f"{layer}weight"] = torch._weight_norm(v, g, 2)
    return wide


def _sound(folder: Path) -> dict[str, Any]:
    """How waveforms are prepared. Raises ModelError for steps that are not done here."""
    path = folder / SOUND
    if path.is_file() or not (folder / PROCESSOR).is_file():
        values: Any = read_json(path)
    else:
        path = folder / PROCESSOR
        values = read_json(path).get("feature_extractor")
    values = values if isinstance(values, dict) else {}
    normalise = values.get("do_normalize", True)
    if values.get("feature_size", 1) != 1 or not isinstance(normalise, bool):
        raise ModelError(f"{path} asks for something else than waveforms of one channel; prepare its sounds elsewhere")
    return {"rate": values.get("sampling_rate", 16_000), "normalise": EPS if normalise else None}
