"""AudioToken's embedder (Yariv et al., 2023, arXiv 2305.13050) from its own files, which hold a bare state_dict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cymatic.encoders.audiotoken import AudioTokenConfig, AudioTokenEmbedder
from cymatic.hub.bounded import Bounded
from cymatic.hub.checkpoints import numbers_of, state_dict
from cymatic.hub.parts import fill
from cymatic.hub.readers.named_tensors import size_of

# Our name of a layer: its name in a file.
NAMES = {
    "fc1": "fc1",
    "fc2": "fc2",
    "unary": "fga.un_models.0.embed",
    "score": "fga.un_models.0.feature_reduce",
    "first": "fga.pp_models.0.embed_X",
    "second": "fga.pp_models.0.embed_Y",
    "mix": "fga.reduce_potentials.0",
}


def read_audiotoken(path: Path, *, layers: Sequence[int] = (3, 7, 11)) -> AudioTokenEmbedder:
    """The embedder in `embedder_learned_embeds.bin`, in eval mode. Its sizes are those of its tensors. layers: those of
    BEATs, from 0 on, that it was trained on; a file doesn't say.

    Raises ModelError for a file that is damaged or holds no such embedder, and names every tensor that is missing,
    unexpected, of another shape or not finite.
    """
    tensors = state_dict(path)
    numbers = numbers_of(tensors, path)
    dim, inside = size_of(tensors, "fc2.weight", 2, path, "embedder of AudioToken")
    config = AudioTokenConfig.parse({"inside": inside, "dim": dim, "layers": tuple(layers)}, str(path))
    with Bounded(numbers, str(path)):
        embedder = AudioTokenEmbedder(config)
    fill(embedder, tensors, f"{path} is no whole embedder of AudioToken of its size", _theirs)
    return embedder.eval()


def _theirs(name: str) -> str:
    layer, _, last = name.partition(".")
    return f"{NAMES[layer]}.{last}"
