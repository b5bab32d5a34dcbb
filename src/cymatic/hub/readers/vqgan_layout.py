"""What VQ-GAN's own code (Esser et al., 2021, "taming transformers") calls the tensors of its autoencoder, and how it
says their sizes; SpecVQGAN and DALL-E mini's decoder of pictures keep both."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from cymatic.codecs.grid import GridCodec
from cymatic.errors import ModelError
from cymatic.files import reason
from cymatic.hub.readers.named_tensors import Table, fitting, size_of

QKV = ("q", "k", "v")
SIDES = {"encoder": ("down", "halvings"), "decoder": ("up", "doublings")}
CODEBOOK = "quantize.embedding.weight"
SHAPE = ("width", "multiples", "blocks", "attention", "latent")  # of `sizes_of`: what a PyramidShape has


def sizes_of(
    tensors: Mapping[str, Tensor],
    where: Path,
    *,
    channels: int,
    say: Callable[[str], str] = lambda name: name,
    half: str = "encoder",
) -> dict[str, Any]:
    """What shapes and names say about the network, by its encoder or, where there is none, its decoder.

    Raises ModelError for a file without them, and for another number of channels.
    """

    def shape(name: str, dims: int) -> Any:
        return size_of({say(n): t for n, t in tensors.items() if n == name}, say(name), dims, where, "codec")

    side = SIDES[half][0]
    levels = _count(tensors, rf"{half}\.{side}\.(\d+)\.block\.0\.")
    blocks = _count(tensors, rf"{half}\.{side}\.0\.block\.(\d+)\.")
    if half == "encoder":
        width, found = shape("encoder.conv_in.weight", 4)[:2]
        latent = shape("encoder.conv_out.weight", 4)[0]
    else:
        found, latent = shape("decoder.conv_out.weight", 4)[0], shape("decoder.conv_in.weight", 4)[1]
        width, blocks = None, blocks - 1
    if found != channels:
        what = "a spectrogram has one" if channels == 1 else f"a picture has {channels}"
        raise ModelError(f"{where} reads pictures of {found} channels, and {what}")
    outs = [shape(f"{half}.{side}.{i}.block.0.conv1.weight", 4)[0] for i in range(levels)]
    width = width or math.gcd(*outs) if outs else 0  # a decoder alone doesn't say of what its widths are multiples
    if not outs or any(out % width for out in outs):
        raise ModelError(f"{where} has levels of {outs} channels, which are no multiples of its width {width}")
    codes, dim = shape(CODEBOOK, 2)
    return {
        "width": width,
        "multiples": tuple(out // width for out in outs),
        "blocks": blocks,
        "attention": tuple(i for i in range(levels) if f"{half}.{side}.{i}.attn.0.norm.weight" in tensors),
        "latent": latent,
        "codes": codes,
        "dim": dim,
    }


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    found = [int(match[1]) for name in tensors if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def sizes_in(path: Path, whose: str) -> tuple[dict[str, Any], int]:
    """The same from the project's YAML, and the side of its pictures. whose: codec it should be of, for the sentence.

    Raises ModelError for a file that says something else, or nothing.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} can't be read: {reason(error)}; give the codec's own config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} can't be read as plain YAML ({said}); give the codec's own config") from None
    try:
        params = values["model"]["params"]
        network = params["ddconfig"]
        multiples, side = tuple(int(multiple) for multiple in network["ch_mult"]), int(network["resolution"])
        # It is asked whether the configured resolution, halved at each level, is in the list.
        at = [side // 2**i for i in range(len(multiples))]
        sizes = {
            "width": int(network["ch"]),
            "multiples": multiples,
            "blocks": int(network["num_res_blocks"]),
            "attention": tuple(i for i, one in enumerate(at) if one in network["attn_resolutions"]),
            "latent": int(network["z_channels"]),
            "codes": int(params["n_embed"]),
            "dim": int(params["embed_dim"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} does not describe a {whose} codec (model.params with n_embed, embed_dim and ddconfig): "
            f"{type(error).__name__} {error}"
        ) from None
    return sizes, side


def compare(found: dict[str, Any], said: dict[str, Any], checkpoint: Path, config: Path) -> None:
    """Raises ModelError where the sizes of the tensors are not those of the YAML."""
    differing = [f"{name} is {found[name]} and should be {said[name]}" for name in said if found[name] != said[name]]
    if differing:
        raise ModelError(f"{checkpoint} does not fit {config}: {'; '.join(differing)}")


def fitting_codec(
    tensors: Mapping[str, Tensor],
    codec: GridCodec,
    where: Path,
    *,
    say: Callable[[str], str] = lambda name: name,
    halves: tuple[str, ...] = ("encoder", "decoder"),
) -> dict[str, Tensor]:
    """The tensors under our names. Raises ModelError naming every difference."""

    def reshaped(name: str, tensor: Tensor) -> Tensor:  # what is a linear layer here is a convolution of 1x1 there
        return tensor.flatten(1) if ".attn" in name and tensor.dim() == 4 else tensor

    table, otherwise = names(codec, halves), f"{where} does not fit a codec of its size"
    return fitting(tensors, codec.state_dict(), table, otherwise, say=say, reshaped=reshaped)


def names(codec: GridCodec, halves: tuple[str, ...] = ("encoder", "decoder")) -> Table:
    """Our name of each tensor -> theirs, or three of them where queries, keys and values are one layer here."""
    table: Table = {}

    def add(ours: str, *theirs: str) -> None:
        for kind in ("weight", "bias"):
            table[f"{ours}.{kind}"] = tuple(f"{name}.{kind}" for name in theirs)

    def block(ours: str, theirs: str) -> None:
        for half, number in (("first", 1), ("second", 2)):
            add(f"{ours}.{half}.norm", f"{theirs}.norm{number}")
            add(f"{ours}.{half}.conv", f"{theirs}.conv{number}")
        if f"{ours}.shortcut.weight" in held:
            add(f"{ours}.shortcut", f"{theirs}.nin_shortcut")

    def attention(ours: str, theirs: str) -> None:
        add(f"{ours}.norm", f"{theirs}.norm")
        add(f"{ours}.qkv", *(f"{theirs}.{part}" for part in QKV))
        add(f"{ours}.out", f"{theirs}.proj_out")

    held = codec.state_dict().keys()
    for half in halves:
        side, change = SIDES[half]
        add(f"{half}.read", f"{half}.conv_in")
        for i, level in enumerate(getattr(codec, half).levels):
            for j in range(len(level.blocks)):
                block(f"{half}.levels.{i}.blocks.{j}", f"{half}.{side}.{i}.block.{j}")
            for j in range(len(level.attention)):
                attention(f"{half}.levels.{i}.attention.{j}", f"{half}.{side}.{i}.attn.{j}")
        for i in range(len(codec.config.multiples) - 1):
            # On the way down level i is halved at its end, on the way up level i + 1 is doubled at its own.
            at, name = (i, "downsample") if side == "down" else (i + 1, "upsample")
            add(f"{half}.{change}.{i}.conv", f"{half}.{side}.{at}.{name}.conv")
        block(f"{half}.middle.0", f"{half}.mid.block_1")
        attention(f"{half}.middle.1", f"{half}.mid.attn_1")
        block(f"{half}.middle.2", f"{half}.mid.block_2")
        add(f"{half}.write.norm", f"{half}.norm_out")
        add(f"{half}.write.conv", f"{half}.conv_out")
    if "encoder" in halves:
        add("to_codes", "quant_conv")
    add("from_codes", "post_quant_conv")
    table["quantizer.codebook"] = (CODEBOOK,)
    return table
