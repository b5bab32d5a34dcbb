"""ViT (Dosovitskiy et al., 2020, arXiv 2010.11929) from Hugging Face folders: pictures -> patches and their summary.

The network is that of the package transformers; pixels are made here, as its processor makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.functional import normalize

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.errors import ModelError
from cymatic.hub.bounded import Bounded, check_plain
from cymatic.hub.checkpoints import state_dict
from cymatic.hub.parts import CONFIG, WEIGHTS, fill, read_json, read_tensors
from cymatic.hub.readers.clip import PICKLED, normalised, pixels_of
from cymatic.hub.readers.peers import transformers
from cymatic.media.picture import EightBitSpec, Filter

# Our name of a setting: transformers' name.
NAMES = {
    "size": "image_size", "patch": "patch_size", "width": "hidden_size", "mlp": "intermediate_size",
    "depth": "num_hidden_layers", "heads": "num_attention_heads", "activation": "hidden_act", "eps": "layer_norm_eps",
    "bias": "qkv_bias",
}  # fmt: skip
PREFIX = "vit."  # in models for a task
HEADS = ("pooler.", "classifier.", "decoder.", "embeddings.mask_token")  # what stands on the network there
# Names inside a layer: of transformers 5, and as the hub's files were written before.
LAYER = {
    "attention.q_proj": "attention.attention.query", "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
}  # fmt: skip


class VitConfig(Config):
    """size, patch: of the pictures and of what becomes a token, in pixels. width, depth, heads, mlp, activation, eps:
    of the transformer; bias: whether queries, keys and values have one. edge, filter, mean, std: as CLIP's."""

    kind: Literal["vit"] = "vit"
    size: int = Field(gt=0, le=4096)
    patch: int = Field(gt=0, le=1024)
    width: int = Field(gt=0, le=8192)
    depth: int = Field(ge=1, le=96)
    heads: int = Field(gt=0, le=128)
    mlp: int = Field(gt=0, le=2**16)
    activation: Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"] = "gelu"
    eps: float = Field(default=1e-12, gt=0, le=1)
    bias: bool = True
    edge: int | None = Field(default=None, gt=0, le=4096)
    filter: Filter = "bilinear"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} can't be split into {self.heads} heads")
        if self.patch > self.size or min(self.std) <= 0:
            raise ValueError(f"patches of {self.patch} pixels of {self.size}, divided by {min(self.std):g}")
        return self

    @property
    def dim(self) -> int:
        """Width of a token and of the vector."""
        return self.width

    @property
    def reads(self) -> EightBitSpec:
        """What it encodes."""
        return EightBitSpec(size=self.size, edge=self.edge, filter=self.filter)

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> Self:
        """Itself: it is trained already."""
        return self


class VitEncoder(nn.Module):
    """Pictures `[batch, 3, size, size]` in 0..1 -> `Cond(tokens [batch, 1 + patches, width], mask, vector [batch,
    width])`. The first token is the class token; the vector is that token at unit norm."""

    config_class: ClassVar[type[VitConfig]] = VitConfig

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        package = transformers()
        settings = {theirs: getattr(config, ours) for ours, theirs in NAMES.items()}
        dropouts = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.network = package.ViTModel(package.ViTConfig(**settings, **dropouts), add_pooling_layer=False)

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def forward(self, batch: Padded) -> Cond:
        """Raises Error for pictures of another shape."""
        device = next(self.parameters()).device
        tokens = self.network(pixel_values=normalised(batch.values.to(device), self.config)).last_hidden_state
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=device)
        return Cond(tokens, mask, normalize(tokens[:, 0], dim=-1))


def is_vit(folder: Path) -> bool:
    """Whether `folder` is one of a ViT. Raises ModelError for a damaged `config.json`."""
    return (folder / CONFIG).is_file() and read_json(folder / CONFIG).get("model_type") == "vit"


def read_vit(folder: Path) -> VitEncoder:
    """A ViT from a folder as the Hugging Face hub has it: `config.json`, `model.safetensors` or `pytorch_model.bin`,
    and `preprocessor_config.json`. What stands on the network in a model for a task is left out. No file is fetched.

    Raises ModelError for a file that is missing or damaged, a setting that is not known here, a config of a far larger
    network than the weights are of, and tensors that are missing, unexpected, of another shape or not finite.
    """
    where = str(folder / CONFIG)
    values = read_json(folder / CONFIG)
    check_plain(values, where)
    package = transformers()
    try:
        whole = package.ViTConfig(**values)
    except Exception as error:  # whatever its checks raise
        raise ModelError(f"{where} is no ViT's ({' '.join(str(error).split())[:200]}); copy the model again") from None
    if whole.num_channels != 3:
        raise ModelError(f"{where} is of a ViT that reads {whole.num_channels} channels; give one of 3")
    settings = {ours: getattr(whole, theirs) for ours, theirs in NAMES.items()}
    settings |= pixels_of(folder, whole.image_size, crops=False, filter="bilinear")
    settings["mean"] = settings["mean"] or (0.5, 0.5, 0.5)
    settings["std"] = settings["std"] or (0.5, 0.5, 0.5)
    config = VitConfig.parse(settings, where)
    pickled = not (folder / WEIGHTS).is_file() and (folder / PICKLED).is_file()
    tensors = state_dict(folder / PICKLED) if pickled else read_tensors(folder / WEIGHTS)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(HEADS)}
    with Bounded({name: tensor.shape for name, tensor in tensors.items()}, where):
        encoder = VitEncoder(config)
    old = any(name.startswith("encoder.layer.") for name in tensors)
    fill(encoder, tensors, f"{folder} does not fit its {CONFIG}", lambda name: _theirs(name, old=old))
    return encoder.eval()


def _theirs(name: str, *, old: bool) -> str:
    """The name of a tensor of ours in the file. old: whether it was written before transformers 5."""
    name = name.removeprefix("network.")
    if not old or not name.startswith("layers."):
        return name
    _, number, inside = name.split(".", 2)
    layer, _, last = inside.rpartition(".")
    return f"encoder.layer.{number}.{LAYER.get(layer, layer)}.{last}"
