"""MelGAN as its own repository and SpecVQGAN save it -> `MelGAN`: `best_netG.pt` beside `args.yml`.

The weights are a bare state_dict whose names count layers, `model.3.weight_g` say, activations and paddings among
them. `args.yml` is a pickled argparse.Namespace in YAML's clothes: its tags name Python classes, and here they stay
names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import Field
from torch import Tensor

from cymatic.config import Config
from cymatic.errors import ModelError
from cymatic.files import reason
from cymatic.hub.checkpoints import state_dict
from cymatic.signal.mel import PRESETS, MelSpec
from cymatic.vocoders.melgan import MelGAN, MelGANConfig

ARGS = "args.yml"
MOST_ARGS = 2**20  # bytes; more are no arguments
MAGNITUDE, DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"
# What weight normalisation is called: by torch today, and by torch before 2.0.
OURS = {"weight_g": MAGNITUDE, "weight_v": DIRECTION}


class _Plain(yaml.SafeLoader):
    """Reads what a `!!python/...` tag stands before as the plain mapping, list or text that is written there."""


def _plain(loader: _Plain, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_Plain.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


class _Args(Config):
    """What of `args.yml` the generator is built from."""

    n_mel_channels: int = Field(ge=1, le=512)
    ngf: int = Field(ge=1, le=512)
    n_residual_layers: int = Field(ge=1, le=5)


def read_args(path: Path) -> dict[str, Any]:
    """The arguments in an `args.yml`, as plain data; nothing that its tags name is imported or called.

    Raises ModelError where there is none, or it is no YAML mapping.
    """
    try:
        if not path.is_file():
            raise ModelError(f"{path} is missing; MelGAN's {ARGS}, which says how large it is, lies beside its weights")
        if path.stat().st_size > MOST_ARGS:
            raise ModelError(f"{path} is larger than {MOST_ARGS >> 20} MB, so it is no {ARGS} of MelGAN")
        loader = _Plain(path.read_text(encoding="utf-8"))
        try:
            values = loader.get_single_data()
        finally:
            loader.dispose()
    except OSError as error:
        raise ModelError(f"{path} can't be read: {reason(error)}; copy it again") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds a {type(values).__name__} instead of MelGAN's arguments")
    return values


def import_melgan(weights: Path, args: Path | None = None, *, mel: MelSpec = PRESETS["specvqgan-22k"]) -> MelGAN:
    """The generator in `weights` (`best_netG.pt`), in eval mode; `args`: its `args.yml`, by default the one beside it.

    `mel` is what it was trained on, which neither file says. Old and new names of weight normalisation are read. How
    many steps it was trained is not known, so `steps_trained` is 1.

    Raises ModelError for files that can't be read, and names every tensor that is missing, unexpected, of another shape
    or not finite.
    """
    args = weights.with_name(ARGS) if args is None else args
    held = {name: value for name, value in read_args(args).items() if name in _Args.model_fields}
    found = _Args.parse(held, str(args))
    if found.n_mel_channels != mel.mels:
        raise ModelError(
            f"{args} tells of {found.n_mel_channels} mels and this mel has {mel.mels}; give the MelSpec that it was "
            "trained on"
        )
    tensors = {_modern(name): tensor for name, tensor in state_dict(weights).items()}
    sizes = _sizes(tensors, weights)
    told = {"width": found.ngf << len(sizes["ratios"]), "blocks": found.n_residual_layers}
    if different := [f"{name} {sizes[name]} instead of {n}" for name, n in told.items() if sizes[name] != n]:
        raise ModelError(f"{weights} does not fit {args}: {', '.join(different)}; give those that belong together")
    part = MelGAN(MelGANConfig.parse({**sizes, "mel": mel}, str(weights)))
    names = layer_names(part.config)
    own = {name: tensor for name, tensor in part.state_dict().items() if name != "steps_trained"}
    theirs = {ours: f"{names[layer]}.{last}" for ours in own for layer, last in [_split(ours)]}
    problems = _differences({theirs[ours]: tensor for ours, tensor in own.items()}, tensors)
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ModelError(f"{weights} is not what {args} tells of: {'; '.join(sorted(problems)[:8])}{more}")
    part.load_state_dict({ours: tensors[name].float() for ours, name in theirs.items()}, strict=False)
    part.steps_trained.fill_(1)
    return part.eval()


def _sizes(tensors: dict[str, Tensor], where: Path) -> dict[str, Any]:
    """Width, residual blocks of a stage, and by how much each stage raises the rate: half the taps of its layer."""
    blocks = 0
    while f"model.{4 + blocks}.shortcut.{DIRECTION}" in tensors:
        blocks += 1
    ratios, at = list[int](), 3
    while (layer := tensors.get(f"model.{at}.{DIRECTION}")) is not None and layer.dim() == 3 and blocks:
        ratios.append(layer.shape[2] // 2)
        at += blocks + 2
    if not ratios:
        raise ModelError(
            f"{where} is no generator of MelGAN: it lacks model.3.weight_v or model.4.shortcut; give the file "
            "best_netG.pt"
        )
    return {"width": len(tensors[f"model.3.{DIRECTION}"]), "blocks": blocks, "ratios": tuple(ratios)}


def layer_names(config: MelGANConfig) -> dict[str, str]:
    """Their name of each layer of ours. Theirs count on through paddings and activations, which have no weights."""
    names = {"read": "model.1"}
    at = 3  # after the padding at 0, the layer at 1 and the activation at 2
    for i in range(len(config.ratios)):
        names[f"upsamplings.{i}.raised"] = f"model.{at}"
        for j in range(config.blocks):
            block = f"model.{at + 1 + j}"
            names[f"upsamplings.{i}.blocks.{j}.dilated"] = f"{block}.block.2"
            names[f"upsamplings.{i}.blocks.{j}.pointwise"] = f"{block}.block.4"
            names[f"upsamplings.{i}.blocks.{j}.shortcut"] = f"{block}.shortcut"
        at += config.blocks + 2
    names["write"] = f"model.{at + 1}"
    return names


def _modern(name: str) -> str:
    layer, _, last = name.rpartition(".")
    return f"{layer}.{OURS[last]}" if last in OURS else name


def _split(name: str) -> tuple[str, str]:
    """A layer, and which of its tensors."""
    for last in (MAGNITUDE, DIRECTION, "bias"):
        if name.endswith(f".{last}"):
            return name.removesuffix(f".{last}"), last
    raise AssertionError(name)


def _differences(wanted: dict[str, Tensor], tensors: dict[str, Tensor]) -> list[str]:
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [f"{name} is unexpected" for name in tensors if name not in wanted]
    for name in wanted.keys() & tensors.keys():
        got, want = tensors[name], wanted[name]
        if got.shape != want.shape:
            problems.append(f"{name} is {list(got.shape)} instead of {list(want.shape)}")
        elif not got.is_floating_point():
            problems.append(f"{name} holds {str(got.dtype).removeprefix('torch.')} instead of float32")
        elif not torch.isfinite(got).all():
            problems.append(f"{name} holds NaN or infinity")
    return problems
