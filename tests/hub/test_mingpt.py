"""GPTs of SpecVQGAN, as their reference implementation wrote and ran them."""

import json

import numpy as np
import pytest
import torch
import yaml

from cymatic.errors import ModelError
from cymatic.hub.mingpt import ImportedGPT, read_gpt
from cymatic.hub.parts import load_part, save_part
from cymatic.priors.decoding import CodeSampling, choose
from cymatic.priors.gpt import GPTPrior
from cymatic.priors.order import flatten, unflatten
from cymatic.priors.trunk import Prefix

KINDS = ("class", "feats", "feats_class")
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def folder(fixtures_dir):
    return fixtures_dir / "specvqgan_transformer"


@pytest.fixture(scope="module")
def tensors(folder):
    return {
        name: {key: torch.from_numpy(value) for key, value in np.load(folder / f"{name}.npz").items()}
        for name in ("inputs", "expected")
    }


@pytest.fixture(scope="module")
def tolerance(folder):
    return json.loads((folder / "fixture.json").read_text())["suggested_atol"]


def read(folder, kind: str) -> ImportedGPT:
    return read_gpt(folder / f"{kind}.ckpt", folder / f"config_{kind}.yaml", frames=8)


def condition(imported: ImportedGPT, kind: str, inputs):
    features = list(inputs["feature"].mT) if "feats" in kind else None
    names = [str(int(target)) for target in inputs["target"]] if "class" in kind else None
    return imported.condition(features, names)


@every_kind
@torch.no_grad()
def test_logits_loss_and_greedy_codes_are_those_of_the_reference(folder, tensors, tolerance, kind):
    imported, inputs, expected = read(folder, kind), tensors["inputs"], tensors["expected"]
    prior, cond = imported.prior, condition(imported, kind, inputs)
    codes = expected["z_indices"] if kind == "feats" else inputs["codes"]

    def near(found, name):
        assert (found - expected[f"{name}_{kind}"]).abs().max() <= tolerance[f"{name}_{kind}"], name

    near(prior(codes[:, :-1], cond), "logits")
    prefix = prior.trunk.prefix(cond, 2)
    near(prior.head(prior.trunk(prefix, codes[:, :-1])), "logits_full")
    near(
        prior.loss(unflatten(codes, "column-major", height=5), torch.tensor([6, 6]), cond, torch.Generator())["loss"],
        "loss",
    )
    greedy, _ = prior.sample(cond, [0, 1], guidance=1.0, greedy=True)
    assert torch.equal(flatten(greedy, "column-major")[:, :12], expected[f"greedy_{kind}"])
    assert not any(name.startswith("transformer.") and not name.endswith("attn.mask") for name in imported.left_out)


@torch.no_grad()
def test_attention_is_that_of_the_reference(folder, tensors, tolerance):
    imported = read(folder, "feats")
    cond, codes = condition(imported, "feats", tensors["inputs"]), tensors["expected"]["z_indices"]
    last = imported.prior.attention_maps(unflatten(codes, "column-major", height=5), cond)[-1][..., :37, :37]
    assert (last - tensors["expected"]["attention_feats"]).abs().max() <= tolerance["attention_feats"]


@every_kind
@torch.no_grad()
def test_the_three_likeliest_are_those_of_the_reference(folder, tensors, tolerance, kind):
    expected = tensors["expected"][f"topk3_last_logits_{kind}"]
    imported, inputs = read(folder, kind), tensors["inputs"]
    codes = tensors["expected"]["z_indices"] if kind == "feats" else inputs["codes"]
    last = imported.prior(codes[:, :-1], condition(imported, kind, inputs))[:, -1]
    likeliest = expected > expected.min(1, keepdim=True).values
    assert (last[likeliest] - expected[likeliest]).abs().max() <= tolerance[f"topk3_last_logits_{kind}"]
    drawn = [
        choose(last, torch.full((2, 1), even), CodeSampling(top_k=3)) for even in torch.linspace(0, 0.999, 50).tolist()
    ]
    for i in range(2):
        assert {int(d[i]) for d in drawn} == set(likeliest[i].nonzero().squeeze(1).tolist())


def test_a_first_stage_is_left_out_by_name(folder):
    left = read(folder, "feats").left_out
    assert any(name.startswith("first_stage_model.") for name in left)
    assert {name.split(".")[0] for name in left} == {"first_stage_model", "first_stage_permuter", "transformer"}


def test_what_was_read_is_saved_and_loaded(folder, tensors, tmp_path):
    imported = read(folder, "class")
    cond = condition(imported, "class", tensors["inputs"])
    save_part(tmp_path / "prior", imported.prior)
    again = load_part(tmp_path / "prior", (GPTPrior,))
    assert again.steps_trained == 77
    assert torch.equal(again.sample(cond, [1, 2], top_k=5)[0], imported.prior.sample(cond, [1, 2], top_k=5)[0])


def test_without_a_config_the_grid_is_told(folder, tensors):
    imported = read_gpt(folder / "class.ckpt", heads=2, rows=5, longest=6, names=list("abcdefg"))
    numbers = [int(target) for target in tensors["inputs"]["target"]]
    cond = imported.condition(names=["abcdefg"[n] for n in numbers])
    greedy, _ = imported.prior.sample(cond, [0, 1], guidance=1.0, greedy=True)
    assert torch.equal(flatten(greedy, "column-major")[:, :12], tensors["expected"]["greedy_class"])
    with pytest.raises(ModelError, match="3 names came for the 7 classes"):
        read_gpt(folder / "class.ckpt", rows=5, longest=6, names=["a", "b", "c"])
    with pytest.raises(ModelError, match="prefix"):
        read_gpt(folder / "class.ckpt")


def test_conditions_that_a_gpt_was_not_trained_with_are_named(folder):
    imported = read(folder, "class")
    with pytest.raises(ModelError, match="without features"):
        imported.condition([torch.zeros(8, 12)], ["0"])
    with pytest.raises(ModelError, match="with class names"):
        imported.condition()


def changed(folder, tmp_path, change):
    held = torch.load(folder / "feats_class.ckpt", weights_only=True)
    state = dict(held["state_dict"])
    change(state)
    torch.save({"state_dict": state}, tmp_path / "changed.ckpt")
    return tmp_path / "changed.ckpt"


def less(state):
    del state["transformer.blocks.1.mlp.2.bias"], state["transformer.feat_embedder.bias"]


def more(state):
    state["transformer.blocks.1.adapter.weight"] = torch.zeros(2)


def other(state):
    state["transformer.head.weight"] = torch.zeros(21, 16)
    state["transformer.blocks.0.attn.key.weight"] = torch.zeros(16, 8)


def nan(state):
    state["transformer.ln_f.bias"][3] = torch.nan


def both_ways(state):
    state["transformer.blocks.0.attn.mask"] = torch.ones(1, 1, 40, 40)


def none(state):
    for name in list(state):
        del state[name]
    state["weight"] = torch.zeros(2)


def unplaced(state):
    del state["transformer.pos_emb"]


def unconditioned(state):
    for name in ("feat_embedder.weight", "feat_embedder.bias", "cls_embedder.weight"):
        del state[f"transformer.{name}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (less, "blocks.1.mlp.2.bias is missing; feat_embedder.bias is missing"),
        (more, "blocks.1.adapter.weight is unexpected"),
        (other, r"key.weight is \[16, 8\] instead of \[16, 16\]; head.weight is \[21, 16\] instead of \[20, 16\]"),
        (nan, "ln_f.bias holds NaN"),
        (both_ways, "looks both ways"),
        (none, "no GPTs"),
        (unplaced, "pos_emb"),
        (unconditioned, "embedder.weight is missing"),
    ],
)
def test_every_difference_is_named(folder, tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        read_gpt(changed(folder, tmp_path, change), folder / "config_feats_class.yaml", frames=8)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda gpt: gpt.update(n_embd=32, n_layer=3), "width 16 instead of 32, depth 2 instead of 3"),
        (lambda gpt: gpt.pop("n_head"), "does not describe a SpecVQGAN GPT"),
    ],
)
def test_a_config_that_does_not_fit_is_named(folder, tmp_path, edit, message):
    values = yaml.safe_load((folder / "config_class.yaml").read_text())
    edit(values["model"]["params"]["transformer_config"]["params"]["GPT_config"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError, match=message):
        read_gpt(folder / "class.ckpt", tmp_path / "config.yaml")
    with pytest.raises(ModelError, match="can't be read"):
        read_gpt(folder / "class.ckpt", tmp_path / "none.yaml")


def test_a_prefix_is_what_the_prior_takes_too(folder, tensors):
    imported = read(folder, "class")
    cond = condition(imported, "class", tensors["inputs"])
    prefix = imported.prior.trunk.prefix(cond, 2)
    assert isinstance(prefix, Prefix)
    torch.testing.assert_close(prefix.tokens, cond.tokens, atol=0, rtol=0)
