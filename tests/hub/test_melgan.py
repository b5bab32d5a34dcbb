"""MelGAN's published files: the reference's numbers, old and new names, and each difference in words."""

import shutil

import numpy as np
import pytest
import torch

from cymatic.errors import ModelError
from cymatic.hub.melgan import import_melgan, layer_names, read_args
from cymatic.hub.parts import load_part, save_part
from cymatic.signal.mel import PRESETS
from cymatic.vocoders import VOCODERS
from cymatic.vocoders.melgan import melgan

ATOL = {"mel": ("wave", 5e-5), "mel_short": ("wave_short", 4e-5)}


@pytest.fixture(scope="module")
def published(fixtures_dir):
    return fixtures_dir / "specvqgan_melgan"


@pytest.fixture
def folder(published, tmp_path):
    for name in ("best_netG.pt", "args.yml"):
        shutil.copyfile(published / name, tmp_path / name)
    return tmp_path


def agrees(vocoder, published) -> None:
    inputs, expected = (np.load(published / f"{part}.npz") for part in ("inputs", "expected"))
    for given, (wanted, atol) in ATOL.items():
        with torch.inference_mode():
            got = vocoder(torch.from_numpy(inputs[given]))
        np.testing.assert_allclose(got, expected[wanted], atol=atol, rtol=0)


def test_it_says_what_the_reference_says(published, tmp_path):
    vocoder = import_melgan(published / "best_netG.pt")
    assert (vocoder.config.width, vocoder.config.blocks) == (64, 2)
    assert vocoder.config.mel == PRESETS["specvqgan-22k"]
    agrees(vocoder, published)
    save_part(tmp_path / "vocoder", vocoder)
    agrees(load_part(tmp_path / "vocoder", VOCODERS), published)


def changed(folder, change) -> None:
    tensors = torch.load(folder / "best_netG.pt", weights_only=True)
    torch.save(change(tensors), folder / "best_netG.pt")


def test_new_names_of_weight_normalisation(folder, published):
    new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}

    def renamed(tensors):
        return {
            ".".join([*(parts := name.split("."))[:-1], new.get(parts[-1], parts[-1])]): value
            for name, value in tensors.items()
        }

    changed(folder, renamed)
    agrees(import_melgan(folder / "best_netG.pt"), published)


def test_the_published_layers_have_their_published_names():
    names = set(layer_names(melgan()).values())
    blocks = [f"model.{i}.{part}" for i in (4, 5, 6, 9, 10, 11, 14, 15, 16, 19, 20, 21)
              for part in ("block.2", "block.4", "shortcut")]  # fmt: skip
    assert names == {*(f"model.{i}" for i in (1, 3, 8, 13, 18, 24)), *blocks}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "model.3.bias"}, r"model\.3\.bias is missing"),
        (lambda t: {**t, "model.99.bias": torch.zeros(3)}, r"model\.99\.bias is unexpected"),
        (lambda t: {**t, "model.1.bias": torch.zeros(3)}, r"model\.1\.bias is \[3\] instead of \[64\]"),
        (lambda t: {**t, "model.1.bias": torch.full((64,), torch.nan)}, r"model\.1\.bias holds NaN"),
        (lambda t: {**t, "model.1.bias": torch.zeros(64).long()}, r"model\.1\.bias holds int64"),
        (lambda t: {"a": "text"}, "no state_dict"),
    ],
)
def test_differences_are_named(folder, change, said):
    changed(folder, change)
    with pytest.raises(ModelError, match=said):
        import_melgan(folder / "best_netG.pt")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("n_residual_layers: 2", "n_residual_layers: 3", r"model\.\d+\.block\.2\.[a-z0-9._]+ is missing.* more$"),
        ("ngf: 4\n", "ngf: 8\n", r"model\.1\.[a-z0-9._]+ is \[64.*\] instead of \[128"),
        ("ngf: 4\n", "ngf: four\n", "\"ngf\" is 'four'"),
        ("ngf: 4\n", "", '"ngf" is missing'),
        ("n_mel_channels: 80", "n_mel_channels: 100", "tells of 100 mels and this mel has 80"),
    ],
)
def test_arguments_of_another_size_are_named(folder, old, new, said):
    text = (folder / "args.yml").read_text()
    assert old in text
    (folder / "args.yml").write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=said):
        import_melgan(folder / "best_netG.pt")


def test_arguments_are_read_as_plain_data(published):
    args = read_args(published / "args.yml")
    assert args["data_path"] == ["data", "features", "melspec_10s_22050hz"]
    assert args["load_path"] is None and args["ngf"] == 4 and args["cond_disc"] is False


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {trace}']",
        "!!python/object/new:os.system ['touch {trace}']",
        "!!python/object/apply:builtins.exec [\"open('{trace}', 'w')\"]",
        "!!python/object/new:type\n  args: ['z', !!python/tuple [], {{'extend': !!python/name:exec }}]\n"
        "  listitems: \"open('{trace}', 'w')\"",
    ],
)
def test_what_arguments_name_is_not_run(folder, published, tag):
    trace = folder / "trace"
    with (folder / "args.yml").open("a") as file:
        file.write("more: " + tag.format(trace=trace) + "\n")
    assert "more" in read_args(folder / "args.yml")
    agrees(import_melgan(folder / "best_netG.pt"), published)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1\n- 2\n", "holds a list"),
        ("a: [", "not valid YAML"),
        ("", "holds a NoneType"),
        ("a: &a [*a]\n", "not valid YAML|is missing"),
        ("[" * 5000, "not valid YAML"),
        ("a: !ruby/object x", "not valid YAML"),
    ],
)
def test_other_arguments_are_refused(folder, text, said):
    (folder / "args.yml").write_text(text)
    with pytest.raises(ModelError, match=said):
        import_melgan(folder / "best_netG.pt")


def test_missing_arguments_are_named(folder):
    (folder / "args.yml").unlink()
    with pytest.raises(ModelError, match=r"args\.yml is missing; MelGAN's args\.yml"):
        import_melgan(folder / "best_netG.pt")
