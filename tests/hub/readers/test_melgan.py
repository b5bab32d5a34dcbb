"""MelGAN's published files: the reference's numbers, old and new names, and each difference in words."""

import re
import shutil

import pytest
import torch

from cymatic.errors import ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.melgan import import_melgan, layer_names, read_args
from cymatic.signal.mel import PRESETS, MelSpec
from cymatic.vocoders import VOCODERS
from cymatic.vocoders.melgan import MelGAN, MelGANConfig, melgan


@pytest.fixture(scope="module")
def published(reference):
    return reference("specvqgan_melgan")


@pytest.fixture
def folder(published, tmp_path):
    for name in ("best_netG.pt", "args.yml"):
        shutil.copyfile(published.folder / name, tmp_path / name)
    return tmp_path


def mel_of(published) -> MelSpec:
    return PRESETS["specvqgan-22k"].model_copy(update={"mels": published.config["n_mel_channels"]})


def imported(folder, published) -> MelGAN:
    return import_melgan(folder / "best_netG.pt", mel=mel_of(published))


def agrees(vocoder, published) -> None:
    for given, wanted in (("mel", "wave"), ("mel_short", "wave_short")):
        if given in published.inputs:
            with torch.inference_mode():
                published.agrees(wanted, vocoder(published.inputs[given]))


def test_it_says_what_the_reference_says(published, tmp_path):
    vocoder = imported(published.folder, published)
    said = published.config
    assert (vocoder.config.width, vocoder.config.blocks) == (16 * said["ngf"], said["n_residual_layers"])
    assert vocoder.config.mel == mel_of(published)
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
    agrees(imported(folder, published), published)


def test_other_sizes_are_read_from_their_weights(tmp_path):
    """The ratios are written into their code and stand in no file, but a layer has twice as many taps."""
    torch.manual_seed(0)
    mel = MelSpec(**{**PRESETS["specvqgan-22k"].model_dump(), "hop": 60, "mels": 12})
    vocoder = MelGAN(MelGANConfig(width=24, blocks=1, ratios=(5, 4, 3), mel=mel)).eval()
    vocoder.steps_trained.fill_(1)
    names, tensors = layer_names(vocoder.config), {}
    for ours, tensor in vocoder.state_dict().items():
        for layer in names:
            if ours.startswith(f"{layer}."):
                tensors[ours.replace(layer, names[layer])] = tensor
    torch.save(tensors, tmp_path / "best_netG.pt")
    (tmp_path / "args.yml").write_text("n_mel_channels: 12\nngf: 3\nn_residual_layers: 1\n")
    read = import_melgan(tmp_path / "best_netG.pt", mel=mel)
    assert read.config == vocoder.config
    with torch.inference_mode():
        heard = torch.rand(1, 12, 9)
        assert torch.equal(read(heard), vocoder(heard))


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
        (lambda t: {**t, "model.1.bias": torch.zeros(999)}, r"model\.1\.bias is \[999\] instead of \[\d+\]"),
        (lambda t: {**t, "model.1.bias": t["model.1.bias"] * torch.nan}, r"model\.1\.bias holds NaN"),
        (lambda t: {**t, "model.1.bias": t["model.1.bias"].long()}, r"model\.1\.bias holds int64"),
        (lambda t: {"a.weight": torch.zeros(3)}, r"is no generator of MelGAN: it lacks model\.3\.weight_v"),
        (lambda t: {"a": "text"}, "no state_dict"),
    ],
)
def test_differences_are_named(folder, published, change, said):
    changed(folder, change)
    with pytest.raises(ModelError, match=said):
        imported(folder, published)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("n_residual_layers", "5", r"best_netG\.pt does not fit .*args\.yml: blocks \d instead of 5; give those that"),
        ("ngf", "99", r"width \d+ instead of 1584"),
        ("ngf", "four", "\"ngf\" is 'four'"),
        ("ngf", None, '"ngf" is missing'),
        ("n_mel_channels", "199", r"tells of 199 mels and this mel has \d+"),
    ],
)
def test_arguments_of_another_size_are_named(folder, published, name, value, said):
    text = (folder / "args.yml").read_text()
    new = "" if value is None else f"{name}: {value}\n"
    (folder / "args.yml").write_text(re.sub(rf"^{name}: .*\n", new, text, flags=re.M))
    with pytest.raises(ModelError, match=said):
        imported(folder, published)


def test_arguments_are_read_as_plain_data(published):
    args = read_args(published.folder / "args.yml")
    assert all(isinstance(part, str) for part in args["data_path"]) and len(args["data_path"]) > 1
    assert args["load_path"] is None and args["ngf"] == published.config["ngf"] and args["cond_disc"] is False


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
    agrees(imported(folder, published), published)
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
