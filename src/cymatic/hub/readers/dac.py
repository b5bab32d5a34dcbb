"""DAC (Kumar et al., 2023, arXiv 2306.06546): from its Hugging Face folders and from its own checkpoints."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from cymatic.errors import ModelError
from cymatic.hub.checkpoints import read_checkpoint, tensors_in
from cymatic.hub.parts import fill
from cymatic.hub.readers.peers import PeerCodec, PeerConfig, plain, transformers

# Our name of a setting: transformers' name, and the name in the metadata of DAC's own files.
NAMES = {
    "rate": ("sampling_rate", "sample_rate"),
    "width": ("encoder_hidden_size", "encoder_dim"),
    "ratios": ("downsampling_ratios", "encoder_rates"),
    "decoder_width": ("decoder_hidden_size", "decoder_dim"),
    "decoder_ratios": ("upsampling_ratios", "decoder_rates"),
    "dim": ("hidden_size", "latent_dim"),
    "levels": ("n_codebooks", "n_codebooks"),
    "size": ("codebook_size", "codebook_size"),
    "lookup_dim": ("codebook_dim", "codebook_dim"),
}


class DacCodecConfig(PeerConfig):
    """The size of DAC's network; mono. `ratios` are the encoder's strides, `decoder_ratios` the decoder's."""

    kind: Literal["dac"] = "dac"
    rate: int = Field(ge=1000, le=384_000)
    channels: Literal[1] = 1
    width: int = Field(default=64, ge=1, le=1024)
    ratios: tuple[int, ...] = Field(default=(2, 4, 8, 8), min_length=1, max_length=8)
    decoder_width: int = Field(default=1536, ge=2, le=2**14)
    decoder_ratios: tuple[int, ...] = Field(default=(8, 8, 4, 2), min_length=1, max_length=8)
    dim: int = Field(default=1024, ge=1, le=2**14)
    levels: int = Field(default=9, ge=1, le=128)
    size: int = Field(default=1024, ge=2, le=2**16)
    lookup_dim: int | tuple[int, ...] = 8  # of all levels, or of each

    @model_validator(mode="after")
    def _fits(self) -> DacCodecConfig:
        if not all(1 <= ratio <= 64 for ratio in self.ratios + self.decoder_ratios):
            raise ValueError(f"ratios of {self.ratios} and {self.decoder_ratios}; each is 1 to 64")
        if math.prod(self.ratios) != math.prod(self.decoder_ratios):
            raise ValueError(f"ratios of {self.ratios} up and {self.decoder_ratios} down change a sound's length")
        if self.decoder_width >> len(self.decoder_ratios) < 1:
            raise ValueError(f"a decoder {self.decoder_width} wide can't be halved {len(self.decoder_ratios)} times")
        if not all(1 <= dim <= 1024 for dim in self.lookup_dims) or len(self.lookup_dims) != self.levels:
            raise ValueError(f"codes of {self.lookup_dim} dimensions; each is 1 to 1024, for {self.levels} levels")
        return self

    @property
    def lookup_dims(self) -> tuple[int, ...]:
        """Dimensions of the codes of each level."""
        return (self.lookup_dim,) * self.levels if isinstance(self.lookup_dim, int) else self.lookup_dim


class DacCodec(PeerCodec):
    """DAC. A sound is filled up with zeros to whole frames, as its own code does it."""

    config_class: ClassVar[type[DacCodecConfig]] = DacCodecConfig
    config: DacCodecConfig
    channels = 1

    def __init__(self, config: DacCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.rate, self.dim, self.hop = config.rate, config.dim, math.prod(config.ratios)
        self.sizes = (config.size,) * config.levels
        package = transformers()
        settings = {theirs: getattr(config, ours) for ours, (theirs, _) in NAMES.items()}
        # transformers has codebooks of powers of 2 alone, and one dimension for all; DAC's own code has neither limit.
        narrow = {"codebook_dim": config.lookup_dims[0], "codebook_size": 1 << (config.size - 1).bit_length()}
        network = package.DacModel(package.DacConfig(**{**settings, **narrow}))
        self.encoder, self.decoder, self.quantizer = network.encoder, network.decoder, network.quantizer
        for quantizer, dim in zip(self.quantizer.quantizers, config.lookup_dims, strict=True):
            if dim != config.lookup_dims[0]:
                quantizer.in_proj = nn.Conv1d(config.dim, dim, 1)
                quantizer.out_proj = nn.Conv1d(dim, config.dim, 1)
            if (config.size, dim) != quantizer.codebook.weight.shape:
                quantizer.codebook = nn.Embedding(config.size, dim)

    def _codes(self, wave: Tensor, levels: int) -> Tensor:
        rest, found = self.encoder(pad(wave, (0, -wave.shape[-1] % self.hop))), list[Tensor]()
        for quantizer in self.quantizer.quantizers[:levels]:
            made, _, _, codes, _ = quantizer(rest)
            rest = rest - made
            found.append(codes)
        return torch.stack(found, dim=1)

    def _vectors(self, codes: Tensor) -> Tensor:
        return self.quantizer.from_codes(codes)[0]

    def _waves(self, z: Tensor) -> Tensor:
        return self.decoder(z)


def dac_of_folder(values: dict[str, Any], tensors: dict[str, Tensor], where: Path) -> DacCodec:
    """DAC as `config.json` (`values`) and `model.safetensors` (`tensors`) of a Hugging Face folder hold it.

    Raises ModelError for settings that it does not have, and names every difference between its tensors and those.
    """
    codec = DacCodec(_config({ours: values.get(theirs) for ours, (theirs, _) in NAMES.items()}, where))
    fill(codec, plain(tensors), f"{where} does not hold the DAC that its config.json tells of")
    return codec.eval()


def read_dac(checkpoint: Path, *, rate: int | None = None) -> DacCodec:
    """DAC's own checkpoint (`weights.pth`), or its bare state_dict.

    Its sizes are those that its metadata tell, and otherwise those of its tensors. `rate` is in Hz; without it the one
    of the metadata holds, or 44.1 kHz where there are none.

    Raises ModelError for a file that is none, and names every tensor that is missing, unexpected or of another shape.
    """
    held = read_checkpoint(checkpoint)
    tensors = plain(tensors_in(held, checkpoint))
    if not is_dac(tensors):
        raise ModelError(
            f"{checkpoint} is no DAC: it lacks encoder.block, decoder.model or quantizer.quantizers; give a "
            "weights*.pth of DAC"
        )
    metadata = held.get("metadata")
    kwargs = metadata.get("kwargs") if isinstance(metadata, dict) else None
    told = {ours: kwargs.get(theirs) for ours, (_, theirs) in NAMES.items()} if isinstance(kwargs, dict) else {}
    sizes = {**_sizes(tensors), **{name: value for name, value in told.items() if value is not None}}
    if rate is not None:
        sizes["rate"] = rate
    codec = DacCodec(_config(sizes, checkpoint))
    depths = {"encoder": len(codec.config.ratios), "decoder": len(codec.config.decoder_ratios)}
    fill(codec, tensors, f"{checkpoint} is no whole DAC of its size", lambda n: _published(n, depths))
    return codec.eval()


def is_dac(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these tensors have the names of DAC's own files."""
    parts = ("encoder.block.", "decoder.model.", "quantizer.quantizers.0.codebook.weight")
    return all(any(name.startswith(part) for name in tensors) for part in parts)


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings that tensors tell. Those that are missing stay unsaid."""

    def shapes(pattern: str) -> list[torch.Size]:
        found = [(int(m[1]), t.shape) for name, t in tensors.items() if (m := re.fullmatch(pattern, name))]
        return [shape for _, shape in sorted(found)]

    first = shapes(r"encoder\.block\.(0)\.weight")
    last = shapes(r"decoder\.model\.(0)\.weight")
    down = shapes(r"encoder\.block\.(\d+)\.block\.4\.weight")
    up = shapes(r"decoder\.model\.(\d+)\.block\.1\.weight")
    books = shapes(r"quantizer\.quantizers\.(\d+)\.codebook\.weight")
    sizes: dict[str, Any] = {"rate": 44_100, "levels": len(books), "size": books[0][0] if books else None}
    if all(len(shape) == 2 for shape in books):
        dims = tuple(shape[1] for shape in books)
        sizes["lookup_dim"] = dims[0] if len(set(dims)) == 1 else dims
    if first and last and all(len(shape) == 3 for shape in (*first, *last, *down, *up)):
        sizes |= {"width": first[0][0], "decoder_width": last[0][0], "dim": last[0][1]}
        sizes |= {"ratios": [shape[2] // 2 for shape in down], "decoder_ratios": [shape[2] // 2 for shape in up]}
    return sizes


def _config(held: dict[str, Any], where: Path) -> DacCodecConfig:
    """What was left unsaid follows from the rest, as in both projects."""
    held = {name: value for name, value in held.items() if value is not None}
    ratios = held.get("ratios")
    if isinstance(ratios, list | tuple) and len(ratios) <= 8:
        held.setdefault("decoder_ratios", list(reversed(ratios)))
        if isinstance(held.get("width"), int):
            held.setdefault("dim", held["width"] << len(ratios))
    return DacCodecConfig.parse(held, str(where))


INNER = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}  # of a residual unit
ENCODER_BLOCK = {"res_unit1": 0, "res_unit2": 1, "res_unit3": 2, "snake1": 3, "conv1": 4}
DECODER_BLOCK = {"snake1": 0, "conv_t1": 1, "res_unit1": 2, "res_unit2": 3, "res_unit3": 4}


def _published(name: str, depths: dict[str, int]) -> str:
    """DAC's own name of a tensor: it counts layers where transformers names them."""
    half, _, rest = name.partition(".")
    if half not in depths:
        return name
    root = f"{half}.{'block' if half == 'encoder' else 'model'}"
    block = re.fullmatch(r"block\.(\d+)\.(\w+)\.(?:(\w+)\.)?(\w+)", rest)
    if block is None:
        layer, _, last = rest.partition(".")
        return f"{root}.{ {'conv1': 0, 'snake1': depths[half] + 1, 'conv2': depths[half] + 2}[layer] }.{last}"
    number, layer, inner, last = block.groups()
    place = (ENCODER_BLOCK if half == "encoder" else DECODER_BLOCK)[layer]
    within = "" if inner is None else f".block.{INNER[inner]}"
    return f"{root}.{int(number) + 1}.block.{place}{within}.{last}"
