"""What DALL-E mini and BART of Hugging Face call the tensors of an encoder and a decoder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from cymatic.errors import ModelError
from cymatic.hub.readers.named_tensors import Table
from cymatic.nn.encoder_decoder import EncoderDecoder

# Our names in a block and theirs; each has weights, and norms and BART's layers have a bias, too.
BLOCK = {
    "normformer": {
        "attention.before": ("pre_self_attn_layer_norm",),
        "attention.f.q": ("self_attn.q_proj",),
        "attention.f.kv": ("self_attn.k_proj", "self_attn.v_proj"),
        "attention.f.out": ("self_attn.out_proj",),
        "attention.after": ("self_attn_layer_norm",),
        "cross.before": ("pre_encoder_attn_layer_norm",),
        "cross.f.q": ("encoder_attn.q_proj",),
        "cross.f.kv": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
        "cross.f.out": ("encoder_attn.out_proj",),
        "cross.after": ("encoder_attn_layer_norm",),
        "feed.before": ("glu.ln0",),
        "feed.f.widen": ("glu.fc0", "glu.fc1"),
        "feed.f.norm": ("glu.ln1",),
        "feed.f.narrow": ("glu.fc2",),
    },
    "bart": {
        "attention.f.q": ("self_attn.q_proj",),
        "attention.f.kv": ("self_attn.k_proj", "self_attn.v_proj"),
        "attention.f.out": ("self_attn.out_proj",),
        "attention.after": ("self_attn_layer_norm",),
        "cross.f.q": ("encoder_attn.q_proj",),
        "cross.f.kv": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
        "cross.f.out": ("encoder_attn.out_proj",),
        "cross.after": ("encoder_attn_layer_norm",),
        "feed.f.widen": ("fc1",),
        "feed.f.narrow": ("fc2",),
        "feed.after": ("final_layer_norm",),
    },
}
AROUND = {
    "encoder_place": "encoder.embed_positions",
    "encoder_begin": "encoder.layernorm_embedding",
    "encoder_norm": "encoder.final_ln",
    "token": "decoder.embed_tokens",
    "place": "decoder.embed_positions",
    "begin": "decoder.layernorm_embedding",
    "norm": "decoder.final_ln",
    "head": "decoder.lm_head",
}


def names(network: EncoderDecoder) -> Table:
    """Our name of each tensor -> theirs, in DALL-E mini or in BART, whose blocks have other layers."""
    block = BLOCK[network.shape.style]
    table: Table = {}
    for ours in network.state_dict():
        layer, _, kind = ours.rpartition(".")
        half, _, rest = layer.partition(".")
        if half in ("encoder", "decoder"):
            number, _, inner = rest.partition(".")
            table[ours] = tuple(f"{half}.layers.{number}.{theirs}.{kind}" for theirs in block[inner])
        else:
            table[ours] = (f"{AROUND[layer]}.{kind}",)
    return table


def depth_of(tensors: Iterable[str], half: str, where: Path, what: str) -> int:
    """How many blocks a half has. Raises ModelError where there are none."""
    found = [int(m[1]) for name in tensors if (m := re.match(rf"{half}\.layers\.(\d+)\.", name))]
    if not found:
        raise ModelError(f"{where} is no {what} that is known here: its {half} has no layers")
    return max(found) + 1
