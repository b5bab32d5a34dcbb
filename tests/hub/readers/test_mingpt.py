"""GPTs of SpecVQGAN, as their reference implementation wrote and ran them."""

import pytest
import torch
import yaml

from cymatic.errors import ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.mingpt import ImportedGPT, read_gpt
from cymatic.priors.decoding import CodeSampling, choose
from cymatic.priors.gpt import GPTPrior
from cymatic.priors.order import flatten, unflatten
from cymatic.priors.trunk import Prefix

KINDS = ("class", "feats", "feats_class")
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def gpt(reference):
    return reference("specvqgan_transformer")


@pytest.fixture(scope="module")
def folder(gpt):
    return gpt.folder


def read(gpt, kind: str) -> ImportedGPT:
    folder = gpt.folder
    return read_gpt(folder / f"{kind}.ckpt", folder / f"config_{kind}.yaml", frames=gpt.config["feat_len"])


def condition(imported: ImportedGPT, kind: str, inputs):
    features = list(inputs["feature"].mT) if "feats" in kind else None
    names = [str(int(target)) for target in inputs["target"]] if "class" in kind else None
    return imported.condition(features, names)


def coded(gpt, kind):
    """The codes that the reference was asked about."""
    return gpt.expected["z_indices"] if kind == "feats" else gpt.inputs["codes"]


@every_kind
@torch.no_grad()
def test_logits_loss_and_greedy_codes_are_those_of_the_reference(gpt, kind):
    imported = read(gpt, kind)
    prior, cond = imported.prior, condition(imported, kind, gpt.inputs)
    codes, rows = coded(gpt, kind), gpt.config["H"]
    gpt.agrees(f"logits_{kind}", prior(codes[:, :-1], cond))
    prefix = prior.trunk.prefix(cond, len(codes))
    gpt.agrees(f"logits_full_{kind}", prior.head(prior.trunk(prefix, codes[:, :-1])))
    columns = torch.full((len(codes),), gpt.config["W"])
    gpt.agrees(
        f"loss_{kind}",
        prior.loss(unflatten(codes, "column-major", height=rows), columns, cond, torch.Generator())["loss"],
    )
    greedy, _ = prior.sample(cond, list(range(len(codes))), guidance=1.0, greedy=True)
    gpt.agrees(f"greedy_{kind}", flatten(greedy, "column-major")[:, : gpt.config["greedy_steps"]])
    assert not any(name.startswith("transformer.") and not name.endswith("attn.mask") for name in imported.left_out)


@torch.no_grad()
def test_attention_is_that_of_the_reference(gpt):
    imported = read(gpt, "feats")
    cond, codes = condition(imported, "feats", gpt.inputs), coded(gpt, "feats")
    last = imported.prior.attention_maps(unflatten(codes, "column-major", height=gpt.config["H"]), cond)[-1]
    seen = gpt.expected["attention_feats"].shape[-1]
    gpt.agrees("attention_feats", last[..., :seen, :seen])


@every_kind
@torch.no_grad()
def test_the_three_likeliest_are_those_of_the_reference(gpt, kind):
    expected = gpt.expected[f"topk3_last_logits_{kind}"]
    imported = read(gpt, kind)
    last = imported.prior(coded(gpt, kind)[:, :-1], condition(imported, kind, gpt.inputs))[:, -1]
    likeliest = expected > expected.min(1, keepdim=True).values
    gpt.agrees(f"topk3_last_logits_{kind}", torch.where(likeliest, last, expected))
    drawn = [
        choose(last, torch.full((2, 1), even), CodeSampling(top_k=3)) for even in torch.linspace(0, 0.999, 50).tolist()
    ]
    for i in range(len(last)):
        assert {int(d[i]) for d in drawn} == set(likeliest[i].nonzero().squeeze(1).tolist())


def test_a_first_stage_is_left_out_by_name(gpt):
    left = read(gpt, "feats").left_out
    assert any(name.startswith("first_stage_model.") for name in left)
    assert {name.split(".")[0] for name in left} == {"first_stage_model", "first_stage_permuter", "transformer"}


def test_what_was_read_is_saved_and_loaded(gpt, tmp_path):
    imported = read(gpt, "class")
    cond = condition(imported, "class", gpt.inputs)
    save_part(tmp_path / "prior", imported.prior)
    again = load_part(tmp_path / "prior", (GPTPrior,))
    assert again.steps_trained == torch.load(gpt.folder / "class.ckpt", weights_only=True)["global_step"] > 1
    assert torch.equal(again.sample(cond, [1, 2], top_k=5)[0], imported.prior.sample(cond, [1, 2], top_k=5)[0])


def test_without_a_config_the_grid_is_told(gpt):
    folder, grid = gpt.folder, {"rows": gpt.config["H"], "longest": gpt.config["W"]}
    count, heads = gpt.config["classes"], gpt.config["gpt"]["n_head"]
    imported = read_gpt(folder / "class.ckpt", heads=heads, **grid, names=[f"class {i}" for i in range(count)])
    cond = imported.condition(names=[f"class {int(target)}" for target in gpt.inputs["target"]])
    greedy, _ = imported.prior.sample(cond, list(range(len(gpt.inputs["target"]))), guidance=1.0, greedy=True)
    gpt.agrees("greedy_class", flatten(greedy, "column-major")[:, : gpt.config["greedy_steps"]])
    with pytest.raises(ModelError, match=rf"1 names came for the {count} classes"):
        read_gpt(folder / "class.ckpt", **grid, names=["a"])
    with pytest.raises(ModelError, match="prefix"):
        read_gpt(folder / "class.ckpt")


def test_the_first_stage_in_the_file_tells_the_grid(gpt, tmp_path):
    heads = gpt.config["gpt"]["n_head"]
    shape = read_gpt(gpt.folder / "feats.ckpt", heads=heads).prior.config
    assert (shape.rows, shape.longest) == (gpt.config["H"], gpt.config["W"])
    held = torch.load(gpt.folder / "feats.ckpt", weights_only=True)
    held["state_dict"]["first_stage_permuter.forward_shuffle_idx"] = torch.arange(shape.rows * shape.longest).flip(0)
    torch.save(held, tmp_path / "feats.ckpt")
    with pytest.raises(ModelError, match="does not read its codes column by column"):
        read_gpt(tmp_path / "feats.ckpt", heads=heads)


def test_conditions_that_a_gpt_was_not_trained_with_are_named(gpt):
    imported = read(gpt, "class")
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
    del state["transformer.blocks.0.mlp.2.bias"], state["transformer.feat_embedder.bias"]


def more(state):
    state["transformer.blocks.0.adapter.weight"] = torch.zeros(2)


def other(state):
    state["transformer.head.weight"] = torch.zeros(999, 16)
    state["transformer.blocks.0.attn.key.weight"] = torch.zeros(16, 999)


def nan(state):
    state["transformer.ln_f.bias"][3] = torch.nan


def both_ways(state):
    state["transformer.blocks.0.attn.mask"] = torch.ones_like(state["transformer.blocks.0.attn.mask"])


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
        (less, "blocks.0.mlp.2.bias is missing; feat_embedder.bias is missing"),
        (more, "blocks.0.adapter.weight is unexpected"),
        (
            other,
            r"key.weight is \[16, 999\] instead of \[\d+, \d+\]; head.weight is \[999, 16\] instead of \[\d+, \d+\]",
        ),
        (nan, "ln_f.bias holds NaN"),
        (both_ways, "looks both ways"),
        (none, "no GPTs"),
        (unplaced, "pos_emb"),
        (unconditioned, "embedder.weight is missing"),
    ],
)
def test_every_difference_is_named(folder, tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        read_gpt(changed(folder, tmp_path, change), folder / "config_feats_class.yaml")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda gpt: gpt.update(n_embd=999, n_layer=99), r"width \d+ instead of 999, depth \d+ instead of 99"),
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


def test_a_prefix_is_what_the_prior_takes_too(gpt):
    imported = read(gpt, "class")
    cond = condition(imported, "class", gpt.inputs)
    prefix = imported.prior.trunk.prefix(cond, len(gpt.inputs["target"]))
    assert isinstance(prefix, Prefix)
    torch.testing.assert_close(prefix.tokens, cond.tokens, atol=0, rtol=0)
