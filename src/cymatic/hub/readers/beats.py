"""BEATs (Chen et al., 2022, arXiv 2212.09058) from its own checkpoints: `cfg`, `model` and, in fine-tuned ones,
`label_dict`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cymatic.encoders.beats import BeatsConfig, BeatsEncoder
from cymatic.errors import ModelError
from cymatic.hub.bounded import Bounded, check_plain
from cymatic.hub.checkpoints import numbers_of, read_checkpoint, tensors_in
from cymatic.hub.parts import fill

# Our name of a setting: its name in cfg, and what it is where cfg leaves it out. What else cfg holds is about training.
SETTINGS: dict[str, tuple[str, Any]] = {
    "patch": ("input_patch_size", -1),
    "patch_width": ("embed_dim", 512),
    "patch_bias": ("conv_bias", False),
    "width": ("encoder_embed_dim", 768),
    "depth": ("encoder_layers", 12),
    "heads": ("encoder_attention_heads", 12),
    "mlp": ("encoder_ffn_embed_dim", 3072),
    "activation": ("activation_fn", "gelu"),
    "norm_first": ("layer_norm_first", False),
    "deep_norm": ("deep_norm", False),
    "position_taps": ("conv_pos", 128),
    "position_groups": ("conv_pos_groups", 16),
    "gated": ("gru_rel_pos", False),
    "dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "activation_dropout": ("activation_dropout", 0.0),
    "input_dropout": ("dropout_input", 0.0),
    "layer_drop": ("encoder_layerdrop", 0.0),
}
WITH_BIAS: dict[str, tuple[str, Any]] = {"buckets": ("num_buckets", 320), "max_distance": ("max_distance", 1280)}
WITH_HEAD: dict[str, tuple[str, Any]] = {
    "classes": ("predictor_class", 527),
    "head_dropout": ("predictor_dropout", 0.1),
}
RENAMED = {"gelu_fast": "gelu_accurate"}  # what activations were called before

# Our name of a layer: its name in a file.
OUTSIDE = {
    "patch_embedding": "patch_embedding", "patch_norm": "layer_norm", "project": "post_extract_proj",
    "positions": "encoder.pos_conv.0", "norm": "encoder.layer_norm", "head": "predictor",
}  # fmt: skip
OF_BLOCK = {
    "attention.q": "self_attn.q_proj", "attention.k": "self_attn.k_proj", "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj", "attention.gate": "self_attn.grep_linear",
    "attention_norm": "self_attn_layer_norm", "widen": "fc1", "narrow": "fc2", "mlp_norm": "final_layer_norm",
}  # fmt: skip
BIAS = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
POSITIONS = "encoder.pos_conv.0."
# Magnitude and direction of the convolution's weight, as torch called them before 2.0 and calls them since.
WEIGHT_NORM = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def is_beats(held: Mapping[Any, Any]) -> bool:
    """Whether a checkpoint is one of BEATs."""
    return isinstance(held.get("cfg"), dict) and isinstance(held.get("model"), dict)


def read_beats(path: Path) -> BeatsEncoder:
    """A BEATs, pre-trained or fine-tuned, in eval mode. Its sizes are those that cfg tells, and its tensors must agree.

    The bias of distances, which all layers share, lies in the file once for each; the last one counts, as in the
    project's own code. Dropouts are kept for training mode. The decay of gradients by layer is left to whoever trains.

    Raises ModelError for a file that is damaged or none of BEATs, for settings that it can't have, and for tensors that
    are missing, unexpected, of another shape or not finite, each by its name.
    """
    held = read_checkpoint(path)
    if not is_beats(held):
        found = ", ".join(str(key)[:80] for key in list(held)[:8]) or "nothing"
        raise ModelError(f"{path} is no checkpoint of BEATs, which holds cfg and model (it holds {found})")
    tensors = tensors_in({"state_dict": held["model"]}, path)
    numbers = numbers_of(tensors, path)
    config = _config(held["cfg"], held.get("label_dict"), f"{path}, its cfg")
    with Bounded(numbers, f"{path}, its cfg,"):
        encoder = BeatsEncoder(config)
        copies = config.depth - 1 if config.buckets is not None else 0
        shared = nn.ModuleList(nn.Embedding(config.buckets or 0, config.heads) for _ in range(copies))
    both = nn.ModuleDict({"encoder": encoder, "shared": shared})
    fill(both, _folded(tensors), f"{path} is no whole BEATs of the sizes in its cfg", lambda n: _theirs(n, config))
    return encoder.eval()


def _config(settings: Mapping[Any, Any], labels: Any, where: str) -> BeatsConfig:
    """What cfg says, by our names and with the defaults of the project's own code. Raises ModelError."""

    def plain(name: str, default: Any) -> Any:
        value = settings.get(name, default)
        if type(value) not in (bool, int, float, str):
            raise ModelError(f"{where}: {name} is a {type(value).__name__}, and no number or word; copy it again")
        return value

    names = dict(SETTINGS)
    for switch, more in (("relative_position_embedding", WITH_BIAS), ("finetuned_model", WITH_HEAD)):
        names |= more if plain(switch, False) else {}
    values = {ours: plain(theirs, default) for ours, (theirs, default) in names.items()}
    values["activation"] = RENAMED.get(values["activation"], values["activation"])
    if "classes" in values and labels is not None:
        if not isinstance(labels, dict) or set(labels) != set(range(len(labels))):
            raise ModelError(f"{where}: the label_dict beside it doesn't number its labels from 0 on; copy it again")
        values["labels"] = [labels[number] for number in range(len(labels))]
    check_plain(values, where)
    return BeatsConfig.parse(values, where)


def _folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weight of the convolution in one piece: `w = g v / |v|` for each tap, over all channels (Salimans and Kingma,
    2016, arXiv 1602.07868)."""
    folded = dict(tensors)
    for names in WEIGHT_NORM:
        g, v = (tensors.get(POSITIONS + name) for name in names)
        if g is None or v is None or not g.is_floating_point() or not v.is_floating_point():
            continue
        if v.dim() == 3 and g.shape == (1, 1, v.shape[2]) and POSITIONS + "weight" not in folded:
            for name in names:
                del folded[POSITIONS + name]
            g, v = g.float(), v.float()  # before they are divided, where 16 bits were stored
            folded[POSITIONS + "weight"] = v * (g / v.norm(dim=(0, 1), keepdim=True))
    return folded


def _theirs(name: str, config: BeatsConfig) -> str:
    """The name in a file of a tensor of ours: of the encoder, or of the copies of the bias beside it."""
    root, _, name = name.partition(".")
    if root == "shared":
        return BIAS.format(name.partition(".")[0])
    if name == "relative_bias.weight":
        return BIAS.format(config.depth - 1)
    if block := re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", name):
        number, layer, last = block.groups()
        inner = ".linear" if layer == "widen" and config.activation == "glu" else ""
        return f"encoder.layers.{number}.{OF_BLOCK[layer]}{inner}.{last}"
    if gate := re.fullmatch(r"blocks\.(\d+)\.attention\.gate_scale", name):
        return f"encoder.layers.{gate[1]}.self_attn.grep_a"
    layer, _, last = name.partition(".")
    return f"{OUTSIDE[layer]}.{last}"
