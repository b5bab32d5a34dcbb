"""A ViT's folder against what transformers says of it, with names of both times."""

import json

import pytest
import torch
from tests.conftest import installed
from tests.helpers import draw

from cymatic.cond import padded
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.vit import LAYER, VitEncoder, is_vit, read_vit


@pytest.fixture(scope="module")
def package():
    installed("transformers", "hub")
    import transformers

    return transformers


def saved(package, folder, *, processor=None, **settings):
    torch.manual_seed(len(settings))
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
             "image_size": 16, "patch_size": 4}  # fmt: skip
    model = package.ViTModel(package.ViTConfig(**sizes | settings), add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


PROCESSOR = {"size": {"height": 16, "width": 16}, "resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2] * 3}


@pytest.mark.parametrize(
    ("settings", "processor"),
    [
        ({}, PROCESSOR),
        ({"qkv_bias": False, "hidden_act": "relu", "patch_size": 8}, {}),
        ({"image_size": 24, "patch_size": 6, "layer_norm_eps": 1e-3}, {"size": 24}),
    ],
)
@torch.inference_mode()
def test_states_are_those_of_transformers(package, tmp_path, settings, processor):
    model = saved(package, tmp_path, processor=processor, **settings)
    assert is_vit(tmp_path)
    encoder = read_vit(tmp_path)
    size = encoder.config.size
    pictures = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor(processor.get("image_mean", [0.5] * 3))[:, None, None]
    std = torch.tensor(processor.get("image_std", [0.5] * 3))[:, None, None]
    wanted = model(pixel_values=(pictures - mean) / std).last_hidden_state
    cond = encoder(padded(list(pictures)))
    torch.testing.assert_close(cond.tokens, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(cond.vector, torch.nn.functional.normalize(wanted[:, 0], dim=-1), atol=1e-5, rtol=0)
    alone = encoder(padded([pictures[1]]))
    torch.testing.assert_close(alone.vector[0], cond.vector[1], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_files_of_earlier_versions_and_of_tasks_are_read(package, tmp_path):
    from safetensors.torch import load_file, save_file

    saved(package, tmp_path, processor=PROCESSOR)
    pictures = padded(list(draw(2, 3, 16, 16).sigmoid()))
    wanted = read_vit(tmp_path)(pictures)
    old = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        if name.startswith("layers."):
            _, number, inside = name.split(".", 2)
            layer, _, last = inside.rpartition(".")
            name = f"encoder.layer.{number}.{LAYER.get(layer, layer)}.{last}"
        old[f"vit.{name}"] = tensor
    old |= {"classifier.weight": torch.zeros(5, 24), "classifier.bias": torch.zeros(5)}
    save_file(old, tmp_path / "model.safetensors")
    assert torch.equal(read_vit(tmp_path)(pictures).vector, wanted.vector)
    (tmp_path / "model.safetensors").unlink()
    torch.save(old, tmp_path / "pytorch_model.bin")
    assert torch.equal(read_vit(tmp_path)(pictures).vector, wanted.vector)


@torch.inference_mode()
def test_it_is_saved_as_a_part(package, tmp_path):
    saved(package, tmp_path / "theirs", processor=PROCESSOR)
    encoder = read_vit(tmp_path / "theirs")
    save_part(tmp_path / "ours", encoder)
    pictures = padded(list(draw(2, 3, 16, 16).sigmoid()))
    assert torch.equal(load_part(tmp_path / "ours", (VitEncoder,))(pictures).vector, encoder(pictures).vector)


def test_what_can_not_be_read_is_said(package, tmp_path):
    def changed(file, change):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        saved(package, folder, processor=PROCESSOR)
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(change(values)))
        return folder

    for file, change, said in (
        ("config.json", lambda v: {**v, "num_channels": 1}, "reads 1 channels"),
        ("config.json", lambda v: {**v, "hidden_size": 25}, "can't be split into 3 heads"),
        ("config.json", lambda v: {**v, "num_hidden_layers": 3}, "does not fit its config.json"),
        ("config.json", lambda v: {**v, "hidden_size": 7200}, "config.json"),
        ("preprocessor_config.json", lambda v: {**v, "do_rescale": False}, "asks for other steps"),
    ):
        with pytest.raises(ModelError, match=said):
            read_vit(changed(file, change))
    with pytest.raises(Error, match=r"reads \[batch, 3, 16, 16\]"):
        read_vit(changed("config.json", dict))(padded([torch.zeros(3, 8, 8)]))
    assert not is_vit(tmp_path)
