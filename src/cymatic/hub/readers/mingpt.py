"""GPTs of SpecVQGAN (Iashin and Rahtu, 2021, arXiv 2110.08791) and MelSpec_GPT as priors and encoders of ours.

Both are minGPT with a condition in front: a class's embedding, projected video features, or these and then that. The
sizes are read from the tensors and compared with SpecVQGAN's YAML, which alone knows the heads and the grid of codes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from cymatic.cond import Cond, joined
from cymatic.encoders.classes import ClassConfig, ClassEncoder
from cymatic.encoders.features import FeatureConfig, FeatureEncoder
from cymatic.errors import ModelError
from cymatic.files import reason
from cymatic.hub.checkpoints import read_checkpoint, tensors_in
from cymatic.priors.gpt import GPTConfig, GPTPrior

# Our names in a block and minGPT's; the three of attention are one with us.
BLOCK = {"norm1": ("ln1",), "qkv": ("attn.query", "attn.key", "attn.value"), "out": ("attn.proj",), "norm2": ("ln2",),
         "widen": ("mlp.0",), "narrow": ("mlp.2",)}  # fmt: skip
CLASS, FEATURES = ("embedder", "cls_embedder"), ("embedder", "feat_embedder")
GRID = (5, 53)  # rows and columns of codes of the published models
SHUFFLE = "first_stage_permuter.forward_shuffle_idx"  # the order of codes, which holds the grid
SPREAD_UP_TO = 5  # SpecVQGAN spreads 1 or 5 frames over a video, and takes 212 as they come


@dataclass(frozen=True)
class ImportedGPT:
    """A prior, the encoders of its condition, all in eval mode, and the names of the tensors that were left out."""

    prior: GPTPrior
    classes: ClassEncoder | None
    features: FeatureEncoder | None
    left_out: list[str]

    def condition(
        self, features: Sequence[Float[Tensor, "_ _"]] | None = None, names: Sequence[str] | None = None
    ) -> Cond:
        """What the prior reads: features `[frames, features]` and class names of each item, as far as it was trained
        with them. Raises ModelError where one of them is missing or too much."""
        conds = []
        for encoder, given, what in ((self.features, features, "features"), (self.classes, names, "class names")):
            if (encoder is None) != (given is None):
                raise ModelError(f"this GPT was trained {'with' if encoder else 'without'} {what}")
            if encoder is not None:
                conds.append(encoder(given))
        return conds[0] if len(conds) == 1 else joined(*conds)


def read_gpt(
    checkpoint: Path,
    config: Path | None = None,
    *,
    heads: int | None = None,
    rows: int | None = None,
    longest: int | None = None,
    frames: int | None = None,
    names: Sequence[str] | None = None,
) -> ImportedGPT:
    """A GPT of SpecVQGAN or MelSpec_GPT, as Lightning checkpoint or bare state_dict; a first stage in it is left out.

    SpecVQGAN's YAML says how many heads there are and what grid codes lie in. Without it `heads` is a 64th of the
    width, and the grid `rows` x `longest` is that of the first stage in the file, or else of the published models, 5 x
    53. frames: how many of a video stand in front, else all that there is room for; names: of the classes, else their
    numbers.

    Raises ModelError naming every tensor that is missing, unexpected or of another shape.
    """
    held = read_checkpoint(checkpoint)
    tensors = tensors_in(held, checkpoint)
    roots = [name.removesuffix("tok_emb.weight") for name in tensors if name.endswith("tok_emb.weight")]
    if len(roots) != 1:
        raise ModelError(f"{checkpoint} holds {len(roots) or 'no'} GPTs (tok_emb.weight) where one is expected")
    own = {name.removeprefix(roots[0]): tensor for name, tensor in tensors.items() if name.startswith(roots[0])}
    sizes = _sizes(own, checkpoint)
    high, wide = _grid(tensors, checkpoint)
    rows, longest = rows or high, longest or wide
    if config is not None:
        said = _read_sizes(config)
        heads, rows, longest = heads or said.pop("heads"), said.pop("rows"), said.pop("columns")
        if different := [f"{name} {sizes[name]} instead of {n}" for name, n in said.items() if sizes[name] != n]:
            raise ModelError(f"{checkpoint} does not fit {config}: {', '.join(different)}")
    heads = heads or max(1, sizes["width"] // 64)
    shape = GPTConfig.parse(
        {
            **{name: sizes[name] for name in ("codes", "width", "depth")}, "heads": heads, "rows": rows,
            "longest": longest, "cond_dim": sizes["width"], "vector": False, "positions": "learned",
            "prefix": sizes["places"] - rows * longest, "end": False,
        },
        str(checkpoint),
    )  # fmt: skip
    left_out = sorted(name for name in tensors if not name.startswith(roots[0]))
    left_out += [roots[0] + name for name in _buffers(own, shape, checkpoint)]
    classes, features = _encoders(own, shape, frames, names)
    _compare(own, shape, classes, features, checkpoint)
    prior = _prior(own, shape)
    steps = held.get("global_step")  # a bare state_dict counts none and was trained all the same
    prior.steps_trained.fill_(max(1, steps) if isinstance(steps, int) else 1)
    return ImportedGPT(prior, classes, features, left_out)


def _sizes(own: dict[str, Tensor], where: Path) -> dict[str, int]:
    codes, width = own["tok_emb.weight"].shape
    if "pos_emb" not in own or own["pos_emb"].dim() != 3:
        raise ModelError(f"{where} is no GPT that is known here: pos_emb should tell its places, and there is none")
    depth = 1 + max((int(m[1]) for name in own if (m := re.match(r"blocks\.(\d+)\.", name))), default=-1)
    return {"codes": codes, "width": width, "depth": depth, "places": own["pos_emb"].shape[1]}


def _grid(tensors: dict[str, Tensor], where: Path) -> tuple[int, int]:
    """Rows and columns of codes. Raises ModelError where they are read in another order than column by column."""
    order = tensors.get(SHUFFLE)
    if order is None:
        return GRID
    found = (order == 1).nonzero().flatten()  # the second column begins where the first one ends
    rows = max(1, int(found[0])) if len(found) else 1
    columns = order.numel() // rows
    in_rows = torch.arange(rows * columns).unflatten(0, (rows, columns))
    if not torch.equal(order.long(), in_rows.T.flatten()):
        raise ModelError(f"{where} does not read its codes column by column ({SHUFFLE}), and no other order is known")
    return rows, columns


def _read_sizes(path: Path) -> dict[str, int]:
    """The same from SpecVQGAN's YAML, with heads and grid. Raises ModelError where it says something else."""
    try:
        params: Any = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["params"]
        gpt = params["transformer_config"]["params"]["GPT_config"]
        grid = params["first_stage_permuter_config"]["params"]
        names = {
            "codes": "vocab_size",
            "width": "n_embd",
            "depth": "n_layer",
            "places": "block_size",
            "heads": "n_head",
        }
        sizes = {ours: int(gpt[theirs]) for ours, theirs in names.items()}
        return {**sizes, "rows": int(grid["H"]), "columns": int(grid["W"])}
    except OSError as error:
        raise ModelError(f"{path} can't be read: {reason(error)}; give the GPT's own config") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path} does not describe a SpecVQGAN GPT (model.params with transformer_config and "
            f"first_stage_permuter_config; {said}); give the GPT's own config"
        ) from None


def _buffers(own: dict[str, Tensor], shape: GPTConfig, where: Path) -> list[str]:
    """Takes the masks out of `own`, which say that it is causal. Raises ModelError where they say otherwise."""
    names = [name for name in own if re.fullmatch(r"blocks\.\d+\.attn\.mask", name)]
    for name in names:
        mask = own.pop(name)
        if not torch.equal(mask.squeeze() != 0, torch.ones(mask.shape[-2:], dtype=torch.bool).tril()):
            raise ModelError(f"{where} looks both ways ({name}), so it is an encoder and no GPT")
    return names


def _encoders(
    own: dict[str, Tensor], shape: GPTConfig, frames: int | None, names: Sequence[str] | None
) -> tuple[ClassEncoder | None, FeatureEncoder | None]:
    found = {name: own[f"{name}.weight"] for name in {*CLASS, *FEATURES} if f"{name}.weight" in own}
    token = next((found[name] for name in CLASS if name in found and found[name].dim() == 2), None)
    project = next((found[name] for name in FEATURES if name in found and found[name].dim() == 3), None)
    classes = features = None
    if token is not None:
        names = tuple(str(i) for i in range(len(token))) if names is None else tuple(names)
        if len(names) != len(token):
            raise ModelError(f"{len(names)} names came for the {len(token)} classes of this GPT; give one for each")
        classes = ClassEncoder(ClassConfig(names=names, dim=shape.width)).eval()
        if token.shape[1] == shape.width:
            classes.load_state_dict({"token.weight": token})
    if project is not None:
        count = frames or max(1, shape.prefix - (token is not None))
        features = FeatureEncoder(
            FeatureConfig(
                features=project.shape[1], dim=shape.width, frames=count,
                fewer="spread" if count <= SPREAD_UP_TO else "cut",
            )
        ).eval()  # fmt: skip
        bias = own.get(next(f"{name}.bias" for name in FEATURES if found.get(name) is project), torch.empty(0))
        if project.shape[0] == shape.width and project.shape[2] == 1 and bias.shape == (shape.width,):
            features.load_state_dict({"project.weight": project[..., 0], "project.bias": bias})
    return classes, features


def _compare(
    own: dict[str, Tensor],
    shape: GPTConfig,
    classes: ClassEncoder | None,
    features: FeatureEncoder | None,
    where: Path,
) -> None:
    """Raises ModelError for every name and shape that is not what a GPT of this shape has."""
    width = shape.width
    want: dict[str, tuple[int, ...]] = {
        "pos_emb": (1, shape.places, width),
        "tok_emb.weight": (shape.codes, width),
        "head.weight": (shape.codes, width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    for i in range(shape.depth):
        for theirs in (name for names in BLOCK.values() for name in names):
            outside, inside = {"mlp.0": (4 * width, width), "mlp.2": (width, 4 * width)}.get(theirs, (width, width))
            want[f"blocks.{i}.{theirs}.weight"] = (width,) if theirs.startswith("ln") else (outside, inside)
            want[f"blocks.{i}.{theirs}.bias"] = (outside,)
    if classes is not None:
        want[f"{CLASS[features is not None]}.weight"] = (len(classes.config.names), width)
    if features is not None:
        name = FEATURES[classes is not None]
        want |= {f"{name}.weight": (width, features.project.in_features, 1), f"{name}.bias": (width,)}
    if classes is None and features is None:
        want["embedder.weight"] = ()  # named as missing: a GPT without a condition is none of these projects'
    problems = [f"{name} is missing" for name in want if name not in own]
    problems += [f"{name} is unexpected" for name in own if name not in want]
    for name in want.keys() & own.keys():
        if tuple(own[name].shape) != want[name]:
            problems.append(f"{name} is {list(own[name].shape)} instead of {list(want[name])}")
        elif not own[name].isfinite().all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ModelError(f"{where} is no GPT of this shape: {'; '.join(sorted(problems)[:8])}{more}")


def _prior(own: dict[str, Tensor], shape: GPTConfig) -> GPTPrior:
    """The prior with these weights. What it has beyond them stays neutral: the encoders' tokens go in as they are, and
    the null, which none of these GPTs knows, is 0."""
    with torch.device("meta"):
        prior = GPTPrior(shape)
    state = {
        "steps_trained": torch.zeros((), dtype=torch.int64),
        "trunk.null": torch.zeros(shape.width),
        "trunk.read_token.weight": torch.eye(shape.width),
        "trunk.read_token.bias": torch.zeros(shape.width),
        "trunk.code.weight": own["tok_emb.weight"],
        "trunk.place.weight": own["pos_emb"][0],
        "trunk.norm.weight": own["ln_f.weight"],
        "trunk.norm.bias": own["ln_f.bias"],
        "head.weight": own["head.weight"],
    }
    for i in range(shape.depth):
        for ours, theirs in BLOCK.items():
            for kind in ("weight", "bias"):
                parts = [own[f"blocks.{i}.{name}.{kind}"] for name in theirs]
                state[f"trunk.blocks.{i}.{ours}.{kind}"] = torch.cat(parts)
    prior.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    return prior.float().eval()
