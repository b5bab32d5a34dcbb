"""Mimi, the codec of Moshi (Défossez et al., 2024, arXiv 2410.00037), from its Hugging Face folders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from cymatic.errors import ModelError
from cymatic.hub.parts import fill
from cymatic.hub.readers.peers import PeerCodec, PeerConfig, plain, transformers

# Our name of a setting: transformers' name.
NAMES = {
    "rate": "sampling_rate", "channels": "audio_channels", "width": "num_filters", "hidden": "hidden_size",
    "ratios": "upsampling_ratios", "blocks": "num_residual_layers", "kernel": "kernel_size",
    "last_kernel": "last_kernel_size", "block_kernel": "residual_kernel_size", "growth": "dilation_growth_rate",
    "compress": "compress", "causal": "use_causal_conv", "padding": "pad_mode", "trim": "trim_right_ratio",
    "shortcut": "use_conv_shortcut", "size": "codebook_size", "lookup_dim": "codebook_dim", "levels": "num_quantizers",
    "semantic": "num_semantic_quantizers", "groups": "upsample_groups", "depth": "num_hidden_layers",
    "mlp": "intermediate_size", "heads": "num_attention_heads", "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim", "activation": "hidden_act", "eps": "norm_eps", "window": "sliding_window",
    "bias": "attention_bias",
}  # fmt: skip
MORE = 2  # frames of the network that become one frame of codes


class MimiCodecConfig(PeerConfig):
    """The size of Mimi's network: EnCodec's, a transformer on either side of the codes, and half the frames."""

    kind: Literal["mimi"] = "mimi"
    rate: int = Field(default=24_000, ge=1000, le=384_000)
    channels: int = Field(default=1, ge=1, le=2)
    width: int = Field(default=64, ge=1, le=512)
    hidden: int = Field(default=512, ge=1, le=4096)
    ratios: tuple[int, ...] = Field(default=(8, 6, 5, 4), min_length=1, max_length=8)
    blocks: int = Field(default=1, ge=0, le=8)
    kernel: int = Field(default=7, ge=1, le=99)
    last_kernel: int = Field(default=3, ge=1, le=99)
    block_kernel: int = Field(default=3, ge=1, le=99)
    growth: int = Field(default=2, ge=1, le=16)
    compress: int = Field(default=2, ge=1, le=64)
    causal: bool = True
    padding: Literal["constant", "reflect", "replicate"] = "constant"
    trim: float = Field(default=1.0, ge=0, le=1)
    shortcut: bool = False
    size: int = Field(default=2048, ge=2, le=2**16)
    lookup_dim: int = Field(default=256, ge=1, le=4096)
    levels: int = Field(default=32, ge=2, le=128)
    semantic: int = Field(default=1, ge=1, le=127)
    groups: int = Field(default=512, ge=1, le=4096)
    depth: int = Field(default=8, ge=1, le=64)
    mlp: int = Field(default=2048, ge=1, le=2**15)
    heads: int = Field(default=8, ge=1, le=128)
    kv_heads: int = Field(default=8, ge=1, le=128)
    head_dim: int | None = Field(default=None, ge=2, le=1024)
    activation: Literal["gelu"] = "gelu"
    eps: float = Field(default=1e-5, gt=0, le=1)
    window: int = Field(default=250, ge=1, le=2**20)
    theta: float = Field(default=10_000.0, gt=0)
    bias: bool = False

    @model_validator(mode="after")
    def _fits(self) -> MimiCodecConfig:
        if not all(1 <= ratio <= 64 for ratio in self.ratios):
            raise ValueError(f"ratios of {self.ratios}; each is 1 to 64")
        if self.size & (self.size - 1):
            raise ValueError(f"a codebook of {self.size} codes; Mimi's are powers of 2")
        if self.semantic >= self.levels:
            raise ValueError(f"{self.semantic} semantic levels of {self.levels}; give fewer than all")
        if self.hidden % self.groups or self.heads % self.kv_heads:
            raise ValueError(f"groups of {self.groups} for {self.hidden}, {self.kv_heads} of {self.heads} heads")
        return self


class MimiCodec(PeerCodec):
    """Mimi. Its first levels (`config.semantic`) and the rest are quantised side by side, and it keeps the former."""

    config_class: ClassVar[type[MimiCodecConfig]] = MimiCodecConfig
    config: MimiCodecConfig

    def __init__(self, config: MimiCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.rate, self.channels, self.dim = config.rate, config.channels, config.hidden
        self.hop = MORE * math.prod(config.ratios)
        self.sizes, self.min_levels = (config.size,) * config.levels, config.semantic
        package = transformers()
        settings = {theirs: getattr(config, ours) for ours, theirs in NAMES.items()}
        network = package.MimiModel(
            package.MimiConfig(
                **{**settings, "upsampling_ratios": list(config.ratios)},
                vector_quantization_hidden_dimension=config.lookup_dim,
                frame_rate=config.rate / self.hop,
                rope_parameters={"rope_type": "default", "rope_theta": config.theta},
            )
        )
        # Under the names of published files, which newer versions of transformers have sorted into two halves.
        self.encoder, self.decoder = network.encoder.encoder_seanet, network.decoder.decoder_seanet
        self.encoder_transformer = network.encoder.encoder_transformer
        self.decoder_transformer = network.decoder.decoder_transformer
        self.downsample, self.upsample = network.encoder.downsample, network.decoder.upsample
        self.quantizer = network.quantizer

    def _codes(self, wave: Tensor, levels: int) -> Tensor:
        x = self.encoder(wave).transpose(1, 2)
        z = self.downsample(self.encoder_transformer(x).last_hidden_state.transpose(1, 2))
        return self.quantizer.encode(z, levels).transpose(0, 1)

    def _vectors(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)

    def _waves(self, z: Tensor) -> Tensor:
        x = self.decoder_transformer(self.upsample(z).transpose(1, 2)).last_hidden_state
        return self.decoder(x.transpose(1, 2))


def mimi_of_folder(values: dict[str, Any], tensors: dict[str, Tensor], where: Path) -> MimiCodec:
    """Mimi as `config.json` (`values`) and `model.safetensors` (`tensors`) of a Hugging Face folder hold it.

    Raises ModelError for settings that it does not have, and names every difference between its tensors and those.
    """
    held = {ours: values[theirs] for ours, theirs in NAMES.items() if theirs in values}
    rope = values.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise ModelError(f"{where} turns its attention by {rope!r:.80}; the published Mimi has the plain kind")
    held["theta"] = rope.get("rope_theta", values.get("rope_theta", 10_000.0))
    if values.get("vector_quantization_hidden_dimension", 256) != values.get("codebook_dim", 256):
        raise ModelError(f"{where} has codes of another dimension than it looks up, which no Mimi has")
    config = MimiCodecConfig.parse(held, str(where))
    frames = values.get("frame_rate")
    if frames not in (None, wanted := config.rate / MORE / math.prod(config.ratios)):
        raise ModelError(f"{where} tells of {frames} frames a second; its ratios make {wanted}")
    codec = MimiCodec(config)
    fill(codec, plain(tensors), f"{where} does not hold the Mimi that its config.json tells of")
    return codec.eval()
