"""Small sounds and models that several tests need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cymatic.signal.sound import Sound

if TYPE_CHECKING:
    from cymatic.training.recipe import MelGPTRecipe, Recipe

# Small enough for a test, and the same parts as any model.
TINY = [
    "text.dim=16", "prior.width=32", "prior.depth=1", "prior.heads=2", "vocoder.rounds=2", "training.batch=8",
    "training.warmup=5", "mel=voice-8k",
]  # fmt: skip
PITCHES = {"low tone": 220, "high tone": 880}


def tone(hz: float, seconds: float = 0.3, rate: int = 8000, seed: int = 0) -> Sound:
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time)) * 0.005
    return Sound(0.3 * np.sin(2 * np.pi * hz * time) + noise, rate)


def tiny_recipe(folder: Path, *settings: str) -> Recipe:
    """A recipe of `TINY` for the sounds in `folder`, with more settings laid over."""
    from cymatic.training.recipe import make_recipe  # brings in torch

    return make_recipe(None, [*TINY, f"data.folder={folder}", *settings])


def tone_folder(root: Path, takes: int = 4) -> Path:
    """`low-tone_1.wav`, `high-tone_1.wav`, ...: captions "low tone" and "high tone"."""
    root.mkdir(parents=True, exist_ok=True)
    for caption, hz in PITCHES.items():
        for take in range(1, takes + 1):
            seconds = 0.2 + 0.05 * take
            tone(hz * (1 + 0.01 * take), seconds, seed=take).write(root / f"{caption.replace(' ', '-')}_{take}.wav")
    return root


# The same for a model over codes.
TINY_CODES = [
    "kind=mel-gpt", "mel=voice-8k", "condition.dim=16", "vocoder.rounds=2", "codec.width=16", "codec.multiples=[1,2]",
    "codec.blocks=1", "codec.attention=[]", "codec.latent=16", "codec.patch=[8,4]", "codec.groups=4",
    "quantizer.size=32", "quantizer.dim=16", "quantizer.lookup_dim=4", "quantizer.metric=cosine",
    "quantizer.restart=encoder", "codes.piece=3", "codes.variants=2", "judge.width=4", "judge.start=10",
    "judge.warmup=5", "prior.width=32", "prior.depth=1", "prior.heads=2", "codec_training.batch=8",
    "codec_training.warmup=5", "training.batch=8", "training.warmup=5",
]  # fmt: skip

TINY_CODES_STEPS = (
    "codec_training.steps=40", "codec_training.checkpoint_steps=15", "training.steps=45", "training.checkpoint_steps=15"
)  # fmt: skip


def tiny_codes_recipe(folder: Path, *settings: str) -> MelGPTRecipe:
    """A recipe of `TINY_CODES` for the sounds in `folder`, with more settings laid over."""
    from cymatic.training.recipe import MelGPTRecipe, make_recipe

    recipe = make_recipe(None, [*TINY_CODES, f"data.folder={folder}", *settings])
    assert isinstance(recipe, MelGPTRecipe)
    return recipe
