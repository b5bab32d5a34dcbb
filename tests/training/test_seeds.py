"""The seed decides the first weights of every stage, whatever was drawn before in the same process."""

from pathlib import Path

import torch
from tests.helpers import quiet, tiny_codes_recipe

from cymatic.training.train import train


def test_the_first_weights_come_from_the_seed(tones: Path, tmp_path: Path) -> None:
    weights = []
    for before in (1, 2):
        torch.manual_seed(before)
        recipe = tiny_codes_recipe(tones, "codec.training.steps=1", "training.steps=1")
        run = tmp_path / str(before)
        assert train(recipe, run, say=quiet).finished
        weights.append([(run / part / "model.safetensors").read_bytes() for part in ("codec", "encoder", "prior")])
    assert weights[0] == weights[1]
