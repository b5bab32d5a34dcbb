"""EnCodec (Défossez et al., 2022, arXiv 2210.13438): from its Hugging Face folders and from its own checkpoints."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict, Unpack

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.errors import Error, ModelError
from cymatic.hub.checkpoints import state_dict
from cymatic.hub.parts import fill
from cymatic.hub.readers.peers import PeerCodec, PeerConfig, groups, plain, transformers, without_weight_norm
from cymatic.latent import Latent

# Our name of a setting: transformers' name. Those that are not here have one name, or none of ours.
NAMES = {
    "rate": "sampling_rate", "channels": "audio_channels", "width": "num_filters", "dim": "hidden_size",
    "ratios": "upsampling_ratios", "blocks": "num_residual_layers", "kernel": "kernel_size",
    "last_kernel": "last_kernel_size", "block_kernel": "residual_kernel_size", "growth": "dilation_growth_rate",
    "compress": "compress", "lstm": "num_lstm_layers", "norm": "norm_type", "causal": "use_causal_conv",
    "padding": "pad_mode", "trim": "trim_right_ratio", "shortcut": "use_conv_shortcut", "size": "codebook_size",
    "normalise": "normalize", "segment": "chunk_length_s", "overlap": "overlap",
}  # fmt: skip

# In EnCodec's own files: the convolutions between residual units, and the first one in each of these.
CONV = r"encoder\.model\.(\d+)\.conv\.conv\.weight"
UNIT = r"encoder\.model\.\d+\.block\.1\.conv\.conv\.weight"


class EncodecCodecConfig(PeerConfig):
    """The size of EnCodec's network, in samples, channels and codes; 24 kHz by default."""

    kind: Literal["encodec"] = "encodec"
    rate: int = Field(default=24_000, ge=1000, le=384_000)
    channels: int = Field(default=1, ge=1, le=2)
    width: int = Field(default=32, ge=1, le=512)
    dim: int = Field(default=128, ge=1, le=4096)
    ratios: tuple[int, ...] = Field(default=(8, 5, 4, 2), min_length=1, max_length=8)
    blocks: int = Field(default=1, ge=0, le=8)
    kernel: int = Field(default=7, ge=1, le=99)
    last_kernel: int = Field(default=7, ge=1, le=99)
    block_kernel: int = Field(default=3, ge=1, le=99)
    growth: int = Field(default=2, ge=1, le=16)
    compress: int = Field(default=2, ge=1, le=64)
    lstm: int = Field(default=2, ge=0, le=8)
    norm: Literal["weight_norm", "time_group_norm"] = "weight_norm"
    causal: bool = True
    padding: Literal["reflect", "constant", "replicate"] = "reflect"
    trim: float = Field(default=1.0, ge=0, le=1)
    shortcut: bool = True
    size: int = Field(default=1024, ge=2, le=2**16)
    levels: int = Field(default=32, ge=1, le=128)
    normalise: bool = False  # each segment is coded at one loudness, and its own is kept beside the codes
    segment: float | None = Field(default=None, gt=0, le=3600)  # seconds
    overlap: float | None = Field(default=None, ge=0, lt=1)  # share of a segment

    @model_validator(mode="after")
    def _fits(self) -> EncodecCodecConfig:
        if not all(1 <= ratio <= 64 for ratio in self.ratios):
            raise ValueError(f"ratios of {self.ratios}; each is 1 to 64")
        if self.size & (self.size - 1):
            raise ValueError(f"a codebook of {self.size} codes; EnCodec's are powers of 2")
        if self.segment is not None and self.segment * self.rate * (1 - (self.overlap or 0.0)) < 1:
            raise ValueError(f"segments of {self.segment} s are less than one sample apart")
        return self


@dataclass(frozen=True)
class SegmentedLatent(Latent):
    """The codes of a sound that was coded in segments, one after the other: `z`, `codes` and `lengths` hold them all.

    scales: float `[batch, segments]`, the loudness (root mean square) that each segment was divided by; 0 beyond an
    item's own. Where segments begin follows from `lengths`.
    """

    scales: Float[Tensor, "batch segments"]


class EncodecCodec(PeerCodec):
    """EnCodec. Where its config names `segment` or `normalise`, as at 48 kHz, a latent is a `SegmentedLatent`.

    Segments overlap, are coded one by one, and are faded into one another; a segment's loudness is the root mean square
    of the mean of its channels. A prior over its codes chooses loudnesses of its own.
    """

    config_class: ClassVar[type[EncodecCodecConfig]] = EncodecCodecConfig
    config: EncodecCodecConfig

    def __init__(self, config: EncodecCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.rate, self.channels, self.dim = config.rate, config.channels, config.dim
        self.hop = math.prod(config.ratios)
        self.sizes = (config.size,) * config.levels
        settings = {theirs: getattr(config, ours) for ours, theirs in NAMES.items()}
        # transformers counts levels by bits a second, rounding down: half a bit more, and it rounds to ours. It can't
        # leave out the LSTM, as EnCodec's own code can, so that is taken out of what it makes.
        bits = config.levels * math.ceil(self.rate / self.hop) * int(math.log2(config.size)) + 0.5
        more = {"num_lstm_layers": max(1, config.lstm), "target_bandwidths": [bits / 1000]}
        package = transformers()
        network = package.EncodecModel(package.EncodecConfig(**{**settings, **more}))
        for half in (network.encoder, network.decoder):
            if not config.lstm:
                half.layers = nn.ModuleList(layer for layer in half.layers if not hasattr(layer, "lstm"))
        self.encoder, self.decoder = (without_weight_norm(half) for half in (network.encoder, network.decoder))
        self.quantizer = network.quantizer

    @property
    def segmented(self) -> bool:
        """Whether its latents are `SegmentedLatent`s."""
        return self.config.normalise or self.config.segment is not None

    def _codes(self, wave: Tensor, levels: int) -> Tensor:
        rest, found = self.encoder(wave), []
        for layer in self.quantizer.layers[:levels]:
            found.append(layer.encode(rest))
            rest = rest - layer.decode(found[-1])
        return torch.stack(found, dim=1)

    def _vectors(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes.transpose(0, 1))

    def _waves(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def columns(self, length: int) -> int:
        """Frames of codes of a sound of `length` samples, of all its segments."""
        return sum(super(EncodecCodec, self).columns(size) for _, size in self._segments(length))

    def _segments(self, samples: int) -> list[tuple[int, int]]:
        """Where each segment of a sound begins, and how many samples it has."""
        if self.config.segment is None:
            return [(0, samples)]
        longest = int(self.config.segment * self.rate)
        stride = max(1, int((1 - (self.config.overlap or 0.0)) * longest))
        return [(start, min(longest, samples - start)) for start in range(0, samples, stride)]

    def _latent(self, wave: Tensor, lengths: Tensor, levels: int) -> Latent:
        if not self.segmented:
            return super()._latent(wave, lengths, levels)
        rows: list[Tensor] = [wave] * len(wave)
        scales = wave.new_zeros(len(wave), len(self._segments(int(lengths.max()))))
        for length, items in groups(lengths):
            pieces = []
            for i, (start, size) in enumerate(self._segments(length)):
                piece = wave[items, :, start : start + size]
                scale = torch.ones_like(piece[:, :1, :1])
                if self.config.normalise:
                    scale = piece.mean(1, keepdim=True).square().mean(-1, keepdim=True).sqrt() + 1e-8
                scales[items, i] = scale[:, 0, 0]
                pieces.append(self._codes(piece / scale, levels))
            for item, codes in zip(items, torch.cat(pieces, dim=-1), strict=True):
                rows[item] = codes
        joined = self._joined(rows, lengths)
        return SegmentedLatent(joined.z, joined.codes, joined.lengths, "levels", scales)

    def decode(self, latent: Latent) -> Float[Tensor, "batch channels samples"]:
        """As of every codec. Raises Error for a latent without its scales where the codec needs them, too."""
        if not self.segmented:
            return super().decode(latent)
        if not isinstance(latent, SegmentedLatent):
            raise Error("this codec keeps a loudness beside its codes; give a SegmentedLatent, with its scales")
        lengths = latent.lengths.cpu()
        if lengths.min() < 1 or latent.z.shape[1] != self.dim:
            raise Error(
                f"{lengths.tolist()} samples were asked for of {list(latent.z.shape)}; this codec reads {self.dim} "
                "dimensions, and gives 1 sample or more"
            )
        wave = latent.z.new_zeros(len(latent.z), self.channels, int(lengths.max()))
        for length, items in groups(lengths):
            made = self._faded(latent.z[items], latent.scales[items], length)
            wave[items, :, : made.shape[-1]] = made
        return wave

    def _faded(self, z: Tensor, scales: Tensor, samples: int) -> Tensor:
        """Segments faded into one another: each has a triangle for its weight, and weights sum to 1 everywhere."""
        segments = self._segments(samples)
        frames = [-(-size // self.hop) for _, size in segments]
        if sum(frames) > z.shape[-1] or len(segments) > scales.shape[1]:
            raise Error(
                f"{z.shape[-1]} frames and {scales.shape[1]} scales were given; {samples} samples have {sum(frames)} "
                f"and {len(segments)}"
            )
        made = [
            self.decoder(piece.contiguous()) * scale[:, None, None]
            for piece, scale in zip(z[..., : sum(frames)].split(frames, dim=-1), scales.T, strict=False)
        ]
        places = torch.linspace(0, 1, made[0].shape[-1] + 2, device=z.device)[1:-1]
        triangle = 0.5 - (places - 0.5).abs()
        end = max(start + piece.shape[-1] for (start, _), piece in zip(segments, made, strict=True))
        sum_, weights = z.new_zeros(len(z), self.channels, end), z.new_zeros(end)
        for (start, _), piece in zip(segments, made, strict=True):
            size = piece.shape[-1]
            weights[start : start + size] += triangle[:size]
            sum_[..., start : start + size] += triangle[:size] * piece
        return (sum_ / weights)[..., :samples]


def encodec_of_folder(values: dict[str, Any], tensors: dict[str, Tensor], where: Path) -> EncodecCodec:
    """EnCodec as `config.json` (`values`) and `model.safetensors` (`tensors`) of a Hugging Face folder hold it.

    Raises ModelError for settings that it does not have, and names every difference between its tensors and those.
    """
    if values.get("codebook_dim", values.get("hidden_size")) != values.get("hidden_size"):
        raise ModelError(f"{where} has codes of another dimension than its network, which no EnCodec has")
    held = {ours: values[theirs] for ours, theirs in NAMES.items() if theirs in values}
    levels = len({name.split(".")[2] for name in tensors if name.startswith("quantizer.layers.")})
    codec = EncodecCodec(EncodecCodecConfig.parse({**held, "levels": levels}, str(where)))
    fill(codec, plain(tensors), f"{where} does not hold the EnCodec that its config.json tells of")
    return codec.eval()


class Unsaid(TypedDict, total=False):
    """What the tensors of EnCodec's own files can't say; see `EncodecCodecConfig`."""

    rate: int
    causal: bool
    normalise: bool
    segment: float | None
    overlap: float | None
    growth: int
    padding: Literal["reflect", "constant", "replicate"]
    trim: float


def read_encodec(checkpoint: Path, **unsaid: Unpack[Unsaid]) -> EncodecCodec:
    """EnCodec's own checkpoint: `encodec_24khz-*.th` or `encodec_48khz-*.th`, or another of these two styles.

    Its sizes are read from its tensors. `unsaid` is what they can't say; what is not given is as in the published file
    of its style: with weight normalisation causal and at 24 kHz; with group normalisation neither, but at 48 kHz, in
    segments of 1 s with 1 % overlap, each coded at one loudness.

    Raises ModelError for a file that is none, and names every tensor that is missing, unexpected or of another shape.
    """
    tensors = plain(state_dict(checkpoint))
    sizes = {**_sizes(tensors, checkpoint), **unsaid}
    codec = EncodecCodec(EncodecCodecConfig.parse(sizes, str(checkpoint)))
    raised = {name for name, layer in codec.named_modules() if _is_transposed(layer)}
    fill(codec, tensors, f"{checkpoint} is no EnCodec", lambda name: _published(name, raised))
    return codec.eval()


def _is_transposed(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "conv", None), nn.ConvTranspose1d)


def _published(name: str, raised: set[str]) -> str:
    """EnCodec's own name of a tensor; `raised` are the layers that make a signal longer, which have names of theirs."""
    family, _, rest = name.partition(".layers.")
    if family == "quantizer":
        return f"quantizer.vq.layers.{rest.replace('.codebook.', '._codebook.')}"
    layer, _, last = name.rpartition(".")
    layer, _, what = layer.rpartition(".")
    if what == "lstm":
        return f"{family}.model.{rest}"
    inner = "convtr" if layer in raised else "conv"
    named = layer.replace(".layers.", ".model.")
    return f"{named}.{inner}.{inner if what == 'conv' else what}.{last}"


def _sizes(tensors: dict[str, Tensor], checkpoint: Path) -> dict[str, Any]:
    """The settings of a checkpoint, as far as its tensors tell, and what is usual with its normalisation."""
    layers = {int(m[1]): tensors[m[0]] for name in tensors if (m := re.fullmatch(CONV, name))}
    books = [name for name in tensors if name.startswith("quantizer.vq.layers.") and name.endswith("._codebook.embed")]
    order = sorted(layers)
    shapes = [layers[at].shape for at in order]
    if len(order) < 3 or not books or tensors[books[0]].dim() != 2 or any(len(shape) != 3 for shape in shapes):
        raise ModelError(
            f"{checkpoint} is no EnCodec: it lacks encoder.model.N.conv.conv.weight or quantizer.vq.layers; give "
            "the .th file that the project encodec published"
        )
    first, *strides, last = shapes
    units = [tensors[name] for name in tensors if re.fullmatch(UNIT, name)]
    found = {
        "width": first[0], "channels": first[1], "kernel": first[2], "dim": last[0], "last_kernel": last[2],
        "ratios": tuple(shape[2] // 2 for shape in reversed(strides)), "blocks": len(units) // len(strides),
        "lstm": sum(name.startswith(f"encoder.model.{order[-1] - 2}.lstm.weight_ih") for name in tensors),
        "shortcut": any(name.startswith("encoder.") and ".shortcut." in name for name in tensors),
        "size": len(tensors[books[0]]), "levels": len(books),
    }  # fmt: skip
    if units and all(unit.dim() == 3 for unit in units):
        # Each unit has a whole part of its channels, rounded down, inside.
        parts = (n for n in range(1, 65) if all(unit.shape[1] // n == len(unit) for unit in units))
        found |= {"compress": next(parts, 2), "block_kernel": units[0].shape[2]}
    else:
        found["shortcut"] = True  # of no unit
    if "encoder.model.0.conv.norm.weight" not in tensors:
        return {**found, "rate": 24_000}
    return {
        **found, "rate": 48_000, "norm": "time_group_norm", "causal": False, "normalise": True, "segment": 1.0,
        "overlap": 0.01,
    }  # fmt: skip
