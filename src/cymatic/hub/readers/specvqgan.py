"""Spectrogram codecs of SpecVQGAN (Iashin and Rahtu, 2021, arXiv 2110.08791) and MelSpec_GPT_VQVAE as codecs of ours.

Both have the same network under other names. SpecVQGAN says its sizes in a `config.yaml`, which is checked where it is
given; MelSpec_GPT_VQVAE doesn't say them at all. So they are read from the tensors, which know them best.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig
from cymatic.errors import ModelError
from cymatic.files import reason
from cymatic.hub.checkpoints import read_checkpoint, tensors_in
from cymatic.signal.mel import MelSpec

LEFT_OUT = ("loss.", "discriminator.")  # what trained the codec, and is no part of it
QKV = ("q", "k", "v")
# The same three parts in the two projects; the rest of the names is alike.
SPECVQGAN = ("encoder.", "decoder.", "quantize.embedding.")
FIRST_STAGE = "first_stage_model."
MELSPEC = ("_encoder.", "_decoder.", "_vq_vae._embedding.")


@dataclass(frozen=True)
class Imported:
    """A codec in eval mode, and the names of the tensors of its file that trained it and were left out."""

    codec: SpectrogramCodec
    left_out: list[str]


def read_codec(checkpoint: Path, mel: MelSpec, config: Path | None = None, *, legacy: bool | None = None) -> Imported:
    """A SpecVQGAN codec (`codebook.ckpt`) or a MelSpec_GPT_VQVAE one, as Lightning checkpoint or bare state_dict.

    `mel` is on a scale from 0 to 1, and the network sees `2 m - 1`. `config` is SpecVQGAN's YAML, whose sizes must be
    those of the tensors; the codec inside the checkpoint of a GPT is read, too. `legacy` says which term of the
    quantizer's loss beta weighs (see `VectorQuantizerConfig`); SpecVQGAN's order is the legacy one and
    MelSpec_GPT_VQVAE's is not, and without `legacy` the file decides.

    Raises ModelError naming every tensor that is missing, unexpected or of another shape, and for a mel on another
    scale.
    """
    if mel.normalisation != "decibel-unit":
        raise ModelError(
            f'{checkpoint} reads mels from 0 to 1 ("decibel-unit") and was given "{mel.normalisation}"; '
            "give the mel specvqgan-22k"
        )
    held = read_checkpoint(checkpoint)
    tensors = tensors_in(held, checkpoint)
    left_out = sorted(name for name in tensors if name.startswith(LEFT_OUT))
    if any(name.startswith(FIRST_STAGE) for name in tensors):  # a GPT that was saved with its codec
        left_out = sorted(name for name in tensors if not name.startswith(FIRST_STAGE))
        tensors = {n.removeprefix(FIRST_STAGE): t for n, t in tensors.items() if n.startswith(FIRST_STAGE)}
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(LEFT_OUT)}
    published = not any(name.startswith(MELSPEC) for name in kept)
    named = {name if published else _translated(name, MELSPEC, SPECVQGAN): tensor for name, tensor in kept.items()}

    def say(name: str) -> str:
        return name if published else _translated(name, SPECVQGAN, MELSPEC)

    sizes = _sizes(named, checkpoint, say)
    if config is not None:
        _compare(sizes, _read_sizes(config), checkpoint, config)
    codec = SpectrogramCodec(
        SpectrogramCodecConfig.parse(
            {
                "mel": mel,
                **{name: sizes[name] for name in ("width", "multiples", "blocks", "attention", "latent")},
                "quantizer": {
                    "size": sizes["codes"],
                    "dim": sizes["dim"],
                    "legacy": published if legacy is None else legacy,
                },
            },
            str(checkpoint),
        )
    )
    codec.load_state_dict({**codec.state_dict(), **_fitting(named, codec, checkpoint, say)})
    codec.mean.fill_(0.5)
    codec.std.fill_(0.5)
    steps = held.get("global_step")  # a bare state_dict counts none and was trained all the same
    codec.steps_trained.fill_(max(1, steps) if isinstance(steps, int) else 1)
    return Imported(codec.eval(), left_out)


def _translated(name: str, before: tuple[str, ...], after: tuple[str, ...]) -> str:
    for old, new in zip(before, after, strict=True):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _sizes(tensors: dict[str, Tensor], where: Path, say: Callable[[str], str]) -> dict[str, Any]:
    """What the shapes and names say about the network."""

    def shape(name: str, dims: int) -> torch.Size:
        if name not in tensors or tensors[name].dim() != dims:
            found = f"it is {list(tensors[name].shape)}" if name in tensors else "it is missing"
            raise ModelError(f"{where} is no codec that is known here: {say(name)} should tell a size, and {found}")
        return tensors[name].shape

    width, channels = shape("encoder.conv_in.weight", 4)[:2]
    if channels != 1:
        raise ModelError(f"{where} reads pictures of {channels} channels, and a spectrogram has one")
    levels = _count(tensors, r"encoder\.down\.(\d+)\.block\.0\.")
    blocks = _count(tensors, r"encoder\.down\.0\.block\.(\d+)\.")
    outs = [shape(f"encoder.down.{i}.block.0.conv1.weight", 4)[0] for i in range(levels)]
    if not outs or any(out % width for out in outs):
        raise ModelError(f"{where} has levels of {outs} channels, which are no multiples of its width {width}")
    codes, dim = shape("quantize.embedding.weight", 2)
    return {
        "width": width,
        "multiples": tuple(out // width for out in outs),
        "blocks": blocks,
        "attention": tuple(i for i in range(levels) if f"encoder.down.{i}.attn.0.norm.weight" in tensors),
        "latent": shape("encoder.conv_out.weight", 4)[0],
        "codes": codes,
        "dim": dim,
    }


def _count(tensors: dict[str, Tensor], pattern: str) -> int:
    found = [int(match[1]) for name in tensors if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def _read_sizes(path: Path) -> dict[str, Any]:
    """The same from SpecVQGAN's YAML. Raises ModelError for a file that says something else, or nothing."""
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
        multiples = tuple(int(multiple) for multiple in network["ch_mult"])
        # SpecVQGAN asks whether the configured resolution, halved at each level, is in the list.
        at = [int(network["resolution"]) // 2**i for i in range(len(multiples))]
        return {
            "width": int(network["ch"]),
            "multiples": multiples,
            "blocks": int(network["num_res_blocks"]),
            "attention": tuple(i for i, side in enumerate(at) if side in network["attn_resolutions"]),
            "latent": int(network["z_channels"]),
            "codes": int(params["n_embed"]),
            "dim": int(params["embed_dim"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} does not describe a SpecVQGAN codec (model.params with n_embed, embed_dim and ddconfig): "
            f"{type(error).__name__} {error}"
        ) from None


def _compare(found: dict[str, Any], said: dict[str, Any], checkpoint: Path, config: Path) -> None:
    differing = [f"{name} is {found[name]} and should be {said[name]}" for name in said if found[name] != said[name]]
    if differing:
        raise ModelError(f"{checkpoint} does not fit {config}: {'; '.join(differing)}")


def _fitting(
    tensors: dict[str, Tensor], codec: SpectrogramCodec, where: Path, say: Callable[[str], str]
) -> dict[str, Tensor]:
    """The tensors under our names. Raises ModelError naming every difference."""
    own, table = codec.state_dict(), names(codec)
    expected = {name for group in table.values() for name in group}
    problems = [f"{say(name)} is unexpected" for name in tensors if name not in expected]
    fitting: dict[str, list[Tensor]] = {}
    for ours, theirs in table.items():
        missing = [name for name in theirs if name not in tensors]
        problems += [f"{say(name)} is missing" for name in missing]
        if missing:
            continue
        wanted = own[ours].shape
        part = (wanted[0] // len(theirs), *wanted[1:])
        for name in theirs:
            # What is a linear layer here is a convolution of 1x1 there.
            got = tensors[name].flatten(1) if ".attn" in name and tensors[name].dim() == 4 else tensors[name]
            if tuple(got.shape) != part:
                problems.append(f"{say(name)} is {list(tensors[name].shape)} and should be {list(part)}")
            elif not got.is_floating_point() or not bool(got.isfinite().all()):
                problems.append(f"{say(name)} holds NaN, infinity or no fractions")
            else:
                fitting.setdefault(ours, []).append(got.float())
    if problems:
        raise ModelError(f"{where} does not fit a codec of its size: {'; '.join(sorted(problems))}")
    return {ours: torch.cat(parts) for ours, parts in fitting.items()}


def names(codec: SpectrogramCodec) -> dict[str, tuple[str, ...]]:
    """Our name of each tensor -> SpecVQGAN's, or three of them where queries, keys and values are one layer here."""
    table: dict[str, tuple[str, ...]] = {}

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
    for half, side, change in (("encoder", "down", "halvings"), ("decoder", "up", "doublings")):
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
    add("to_codes", "quant_conv")
    add("from_codes", "post_quant_conv")
    table["quantizer.codebook"] = ("quantize.embedding.weight",)
    return table
