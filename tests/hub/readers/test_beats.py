"""BEATs' checkpoints against what its own code says of them: the fixture, and other sizes against a naive forward."""

import math
import os

import pytest
import torch
from torch.nn.functional import conv1d, gelu, layer_norm, linear, relu, silu

from cymatic.cond import Cond, Padded, padded
from cymatic.encoders.beats import BeatsConfig, BeatsEncoder, relative_buckets
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.beats import read_beats
from cymatic.signal.kaldi import kaldi_fbank, kaldi_frames

FILE = "beats.pt"
SHORT = 2800  # samples of one patch of 16 frames
CFG = {
    "encoder_layers": 2, "encoder_embed_dim": 12, "encoder_ffn_embed_dim": 20, "encoder_attention_heads": 3,
    "embed_dim": 8, "input_patch_size": 16, "conv_bias": False, "activation_fn": "gelu", "layer_norm_first": False,
    "deep_norm": True, "conv_pos": 6, "conv_pos_groups": 2, "relative_position_embedding": True, "num_buckets": 16,
    "max_distance": 20, "gru_rel_pos": True, "finetuned_model": True, "predictor_class": 5,
}  # fmt: skip
VARIANTS = {
    "as published": {},
    "pre-trained": {"finetuned_model": False},
    "norms first": {"layer_norm_first": True, "deep_norm": False},
    "plain norms behind": {"deep_norm": False, "activation_fn": "gelu_fast"},
    "no gates": {"gru_rel_pos": False, "activation_fn": "relu"},
    "no bias of distances": {"relative_position_embedding": False, "activation_fn": "tanh"},
    "a gated linear unit": {"activation_fn": "glu"},
    "an odd convolution": {"conv_pos": 7, "conv_pos_groups": 4, "activation_fn": "linear"},
    "no projection": {"embed_dim": 12, "conv_bias": True},
    "other patches": {"input_patch_size": 20, "encoder_layers": 1, "num_buckets": 5, "max_distance": 9},
}
ACTIVATIONS = {
    "gelu": gelu, "relu": relu, "tanh": torch.tanh, "linear": lambda x: x,
    "gelu_fast": lambda x: x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}  # fmt: skip


@pytest.fixture(scope="module")
def fixture(reference):
    return reference("beats")


@pytest.fixture(scope="module")
def read(fixture):
    return read_beats(fixture.folder / FILE)


def whole(waves):
    return Padded(waves, torch.full((len(waves),), waves.shape[1]))


def their_mask(padding, n, frames):
    """True at patches that their own code looks at, of samples that are padding: a place is padding where all samples
    are that fall on it when samples, then frames, are dealt out evenly, as if patches were times."""
    for places in (frames, n):
        padding = padding[:, : padding.shape[1] // places * places].unflatten(1, (places, -1)).all(-1)
    return ~padding


@torch.inference_mode()
def test_energies_are_those_of_kaldi(fixture, read):
    waves = fixture.inputs["wave"]
    fixture.agrees("fbank", kaldi_fbank(waves * 2**15, 16_000, 128))
    fixture.agrees("fbank_norm", read.features(waves))
    fixture.agrees("fbank_kaldi_native", kaldi_fbank(waves * 2**15), atol=1e-3)
    assert fixture.expected["fbank"].shape[1] == kaldi_frames(waves.shape[1])
    assert kaldi_fbank(torch.zeros(3, 399)).shape == (3, 0, 128)
    torch.testing.assert_close(kaldi_fbank(torch.zeros(400)), torch.full((1, 128), math.log(2**-23)))


@torch.inference_mode()
def test_whole_sounds_become_what_their_code_makes_of_them(fixture, read):
    batch, depth = whole(fixture.inputs["wave"]), fixture.config["cfg"]["encoder_layers"]
    cond = read(batch)
    fixture.agrees("features", cond.tokens)
    assert cond.mask.all()
    torch.testing.assert_close(cond.vector.norm(dim=1), torch.ones(len(cond)))
    if "layers_cat" in fixture.expected:
        tokens, mask = read.layers(batch, [layer for layer in (3, 7, 11) if layer < depth])
        fixture.agrees("layers_cat", tokens)
        assert torch.equal(mask, cond.mask)
    if "probs" in fixture.expected:
        fixture.agrees("probs", read.probabilities(cond))
    assert len(read.hidden_states(batch)[0]) == depth


@torch.inference_mode()
def test_with_their_mask_padded_sounds_become_what_their_code_makes_of_them(fixture, read):
    features = read.features(fixture.inputs["wave_masked"])
    patches = read.patches(features)
    mask = their_mask(fixture.inputs["padding_mask"], patches.shape[1], features.shape[1])
    fixture.agrees("feature_mask", ~mask)
    cond = read.condition(read.states(patches, mask)[-1], mask)
    fixture.agrees("features_masked", cond.tokens)
    if "probs_masked" in fixture.expected:
        fixture.agrees("probs_masked", read.probabilities(cond))


def agree_alone_and_together(encoder, waves):
    together = encoder(padded(waves, value=7.0))
    tokens, _ = encoder.layers(padded(waves, value=-3.0), [0])
    for i, wave in enumerate(waves):
        cond, (first, _) = encoder(padded([wave])), encoder.layers(padded([wave]), [0])
        n = cond.tokens.shape[1]
        assert together.mask[i].sum() == n and together.mask[i, :n].all() and cond.mask.all()
        torch.testing.assert_close(together.tokens[i, :n], cond.tokens[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.vector[i], cond.vector[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(tokens[i, :n], first[0], atol=1e-5, rtol=0)
        assert not together.tokens[i, n:].any() and not tokens[i, n:].any()
        if encoder.head is not None:
            alone = encoder.probabilities(cond)[0]
            torch.testing.assert_close(encoder.probabilities(together)[i], alone, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_an_item_alone_equals_the_item_in_a_padded_batch(fixture, read):
    wave, fewest = fixture.inputs["wave"], read.config.shortest
    agree_alone_and_together(read, [wave[0], wave[1, : 2 * fewest + 77], wave[1, :fewest], wave[0, -fewest - 2559 :]])
    channels = read(Padded(wave[:, None], torch.full((2,), wave.shape[1])))
    assert torch.equal(channels.tokens, read(whole(wave)).tokens)


def published(changes, seed=0):
    """A checkpoint of other sizes: cfg and random tensors under the names and in the shapes that their code has."""
    cfg = {**CFG, **changes}
    generator = torch.Generator().manual_seed(seed)
    width, mlp, heads = (cfg[f"encoder_{name}"] for name in ("embed_dim", "ffn_embed_dim", "attention_heads"))
    embed, patch, taps, head = cfg["embed_dim"], cfg["input_patch_size"], cfg["conv_pos"], width // heads
    shapes = {"patch_embedding.weight": (embed, 1, patch, patch), "layer_norm.weight": (embed,)}
    shapes |= {"layer_norm.bias": (embed,)} | ({"patch_embedding.bias": (embed,)} if cfg["conv_bias"] else {})
    if embed != width:
        shapes |= {"post_extract_proj.weight": (width, embed), "post_extract_proj.bias": (width,)}
    position = "encoder.pos_conv.0."
    shapes |= {f"{position}bias": (width,), f"{position}weight_g": (1, 1, taps)}
    shapes |= {f"{position}weight_v": (width, width // cfg["conv_pos_groups"], taps)}
    shapes |= {"encoder.layer_norm.weight": (width,), "encoder.layer_norm.bias": (width,)}
    for i in range(cfg["encoder_layers"]):
        layer = f"encoder.layers.{i}."
        inner = {"fc1.linear": (2 * mlp, width)} if cfg["activation_fn"] == "glu" else {"fc1": (mlp, width)}
        inner |= {"fc2": (width, mlp)} | {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
        inner |= {"self_attn_layer_norm": (width,), "final_layer_norm": (width,)}
        if cfg["gru_rel_pos"]:
            inner |= {"self_attn.grep_linear": (8, head)}
            shapes |= {f"{layer}self_attn.grep_a": (1, heads, 1, 1)}
        for name, shape in inner.items():
            shapes |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
    if cfg["finetuned_model"]:
        shapes |= {"predictor.weight": (cfg["predictor_class"], width), "predictor.bias": (cfg["predictor_class"],)}
    tensors = {
        name: torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]) or 1)
        for name, shape in shapes.items()
    }
    if cfg["relative_position_embedding"]:
        shared = torch.randn(cfg["num_buckets"], heads, generator=generator)
        for i in range(cfg["encoder_layers"]):
            tensors[f"encoder.layers.{i}.self_attn.relative_attention_bias.weight"] = shared
    return {"cfg": cfg, "model": tensors}


def naive_bucket(distance, buckets, most):
    half, size = buckets // 2, abs(distance)
    exact = half // 2
    if size >= exact:
        size = min(half - 1, exact + int(math.log(size / exact) / math.log(most / exact) * (half - exact)))
    return size + (half if distance > 0 else 0)


def naive(checkpoint, features):
    """What each layer gives of one item's energies `[frames, 128]`, and what follows them, written out."""
    cfg, w = checkpoint["cfg"], checkpoint["model"]

    def normed(name, x):
        return layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def layer(name, x):
        return linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    side, heads = cfg["input_patch_size"], cfg["encoder_attention_heads"]
    times, bands = features.shape[0] // side, 128 // side
    squares = [
        features[side * t : side * (t + 1), side * m : side * (m + 1)] for t in range(times) for m in range(bands)
    ]
    kernels = w["patch_embedding.weight"].flatten(1)
    x = torch.stack([kernels @ square.flatten() for square in squares]) + w.get("patch_embedding.bias", 0)
    x = normed("layer_norm", x)
    if "post_extract_proj.weight" in w:
        x = layer("post_extract_proj", x)
    g, v, taps = w["encoder.pos_conv.0.weight_g"], w["encoder.pos_conv.0.weight_v"], cfg["conv_pos"]
    taps_of = torch.stack([g[0, 0, i] * v[..., i] / v[..., i].square().sum().sqrt() for i in range(taps)], -1)
    around = torch.nn.functional.pad(x.T, (taps // 2, (taps - 1) // 2))
    x = x + gelu(conv1d(around, taps_of, w["encoder.pos_conv.0.bias"], groups=cfg["conv_pos_groups"])).T
    first, n, found = cfg["layer_norm_first"], len(x), []
    x = x if first else normed("encoder.layer_norm", x)
    kept = (2 * cfg["encoder_layers"]) ** 0.25 if cfg["deep_norm"] else 1

    def attended(root, x):
        q, k, v = (layer(f"{root}.{name}_proj", x).chunk(heads, -1) for name in ("q", "k", "v"))
        out = []
        for h in range(heads):
            scores = q[h] @ k[h].T / math.sqrt(q[h].shape[1])
            if cfg["relative_position_embedding"]:
                table = w[f"{root}.relative_attention_bias.weight"][:, h]
                for i in range(n):
                    gate = 1.0
                    if cfg["gru_rel_pos"]:
                        sums = layer(f"{root}.grep_linear", q[h][i])
                        a, c = sums[:4].sum().sigmoid(), sums[4:].sum().sigmoid()
                        gate = a * (c * w[f"{root}.grep_a"][0, h, 0, 0] - 1) + 2
                    for j in range(n):
                        scores[i, j] += gate * table[naive_bucket(j - i, cfg["num_buckets"], cfg["max_distance"])]
            out.append(scores.softmax(-1) @ v[h])
        return layer(f"{root}.out_proj", torch.cat(out, -1))

    def middle(root, x):
        if cfg["activation_fn"] == "glu":
            value, gate = layer(f"{root}.fc1.linear", x).chunk(2, -1)
            return layer(f"{root}.fc2", value * silu(gate))
        return layer(f"{root}.fc2", ACTIVATIONS[cfg["activation_fn"]](layer(f"{root}.fc1", x)))

    for i in range(cfg["encoder_layers"]):
        root = f"encoder.layers.{i}"
        if first:
            x = x + attended(f"{root}.self_attn", normed(f"{root}.self_attn_layer_norm", x))
            x = x + middle(root, normed(f"{root}.final_layer_norm", x))
        else:
            x = normed(f"{root}.self_attn_layer_norm", kept * x + attended(f"{root}.self_attn", x))
            x = normed(f"{root}.final_layer_norm", kept * x + middle(root, x))
        found.append(x)
    last = normed("encoder.layer_norm", x) if first else x
    return found, last, layer("predictor", last).mean(0).sigmoid() if cfg["finetuned_model"] else None


def saved(checkpoint, folder, name="one.pt"):
    torch.save(checkpoint, folder / name)
    return folder / name


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@torch.inference_mode()
def test_other_sizes_and_settings_are_what_a_naive_forward_says(changes, tmp_path):
    checkpoint = published(changes)
    read = read_beats(saved(checkpoint, tmp_path))
    generator = torch.Generator().manual_seed(1)
    waves = [torch.randn(n, generator=generator) / 10 for n in (read.config.shortest, 2 * SHORT + 999, 3 * SHORT)]
    cond, (tokens, _) = read(padded(waves)), read.layers(padded(waves), range(read.config.depth))
    for i, wave in enumerate(waves):
        states, last, probabilities = naive(checkpoint, read.features(wave[None])[0])
        assert cond.mask[i].sum() == len(last)
        torch.testing.assert_close(cond.tokens[i, : len(last)], last, atol=2e-4, rtol=0)
        torch.testing.assert_close(tokens[i, : len(last)], torch.cat(states, -1), atol=2e-4, rtol=0)
        if probabilities is None:
            with pytest.raises(Error, match="has no classes"):
                read.probabilities(cond)
        else:
            torch.testing.assert_close(read.probabilities(cond)[i], probabilities, atol=2e-5, rtol=0)
    agree_alone_and_together(read, waves)
    save_part(tmp_path / "part", read)
    again = load_part(tmp_path / "part", (BeatsEncoder,))
    assert again.config == read.config and torch.equal(again(padded(waves)).tokens, cond.tokens)


def test_each_distance_has_its_bucket():
    for buckets, most in ((320, 1280), (32, 80), (16, 20), (4, 2), (5, 300)):
        found = relative_buckets(90, buckets, most)
        wanted = [[naive_bucket(j - i, buckets, most) for j in range(90)] for i in range(90)]
        assert (found - torch.tensor(wanted)).abs().max() <= 1 and found.max() < buckets  # a rounding at an end
        assert (found != torch.tensor(wanted)).float().mean() < 0.05


def test_names_of_weight_norm_before_and_since_and_16_bits_give_the_same(tmp_path):
    checkpoint = published({})
    first = read_beats(saved(checkpoint, tmp_path))
    root, model = "encoder.pos_conv.0.", dict(checkpoint["model"])
    model[f"{root}parametrizations.weight.original0"] = model.pop(f"{root}weight_g")
    model[f"{root}parametrizations.weight.original1"] = model.pop(f"{root}weight_v")
    again = read_beats(saved({"cfg": checkpoint["cfg"], "model": model}, tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    half = {name: tensor.half() for name, tensor in checkpoint["model"].items()}
    wide = {name: tensor.float() for name, tensor in half.items()}
    one, two = (read_beats(saved({**checkpoint, "model": model}, tmp_path)) for model in (half, wide))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_last_copy_of_the_bias_counts_and_dropouts_are_for_training(tmp_path):
    checkpoint = published({"dropout": 0.3, "predictor_dropout": 0.2, "encoder_layerdrop": 0.4})
    name = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    checkpoint["model"][name.format(0)] = torch.zeros(16, 3)
    checkpoint["label_dict"] = {number: f"sound {number}" for number in range(5)}
    read = read_beats(saved(checkpoint, tmp_path))
    assert torch.equal(read.relative_bias.weight, checkpoint["model"][name.format(1)])
    assert read.config.labels[4] == "sound 4"
    wave = padded([torch.randn(4000)])
    assert torch.equal(read(wave).tokens, read(wave).tokens)
    read.train()
    assert not torch.equal(read(wave).tokens, read(wave).tokens)
    assert (read.config.dropout, read.config.head_dropout, read.config.layer_drop) == (0.3, 0.2, 0.4)


class Hostile:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_what_can_not_be_read_is_said_in_a_sentence(tmp_path):
    def refused(checkpoint, words):
        with pytest.raises(ModelError, match=words) as caught:
            read_beats(checkpoint if hasattr(checkpoint, "name") else saved(checkpoint, tmp_path))
        assert "\n" not in str(caught.value)

    def cfg(**changes):
        made = published({})
        return {**made, "cfg": {**made["cfg"], **changes}}

    def model(change):
        made = published({})
        change(made["model"])
        return made

    root = "encoder.layers.1."
    bias = "encoder.layers.0.self_attn.relative_attention_bias.weight"
    for checkpoint, words in (
        (cfg(encoder_embed_dim=18), "is no whole BEATs.*instead of"),
        (cfg(encoder_embed_dim=8192, encoder_layers=96, encoder_attention_heads=4), "describes a far larger network"),
        (cfg(encoder_layers=3), "encoder.layers.2.fc1.bias is missing"),
        (cfg(encoder_attention_heads=5), "can't be split into 5 heads"),
        (cfg(activation_fn="swish"), "\"activation\" is 'swish'"),
        (cfg(layer_norm_first=True), "deep_norm and norm_first are both set"),
        (cfg(max_distance=4), "a max_distance of 4 lies within"),
        (cfg(gru_rel_pos=False), "grep_a is unexpected"),
        (cfg(finetuned_model=False), "predictor.bias is unexpected"),
        (cfg(finetuned_model=torch.ones(2)), "finetuned_model is a Tensor"),
        (cfg(dropout=None), "dropout is a NoneType"),
        (cfg(conv_pos=10**30), "a number beyond"),
        ({**published({}), "label_dict": {1: "a", 2: "b"}}, "doesn't number its labels"),
        ({**published({}), "label_dict": ["a"] * 5}, "doesn't number its labels"),
        ({**published({}), "label_dict": {0: "a"}}, "1 labels for 5 classes"),
        (model(lambda w: w.pop(f"{root}fc1.weight")), "layers.1.fc1.weight is missing"),
        (model(lambda w: w.pop(bias)), "layers.0.self_attn.relative_attention_bias.weight is missing"),
        (model(lambda w: w.update(extra=torch.zeros(1))), "extra is unexpected"),
        (model(lambda w: w[f"{root}fc2.bias"].fill_(math.nan)), "layers.1.fc2.bias holds NaN"),
        (model(lambda w: w.update({f"{root}fc2.bias": torch.zeros(12, dtype=torch.long)})), "holds int64"),
        (model(lambda w: w.update({bias: torch.zeros(16, 3).to_sparse()})), "another form than plain numbers"),
        (model(lambda w: w.update({"a": torch.zeros(1).expand(2**40)})), "claims more numbers for a"),
        (published({})["model"], "is no checkpoint of BEATs"),
        ({"cfg": CFG, "model": {}}, "has no state_dict"),
        ({"cfg": Hostile(str(tmp_path / "run")), "model": published({})["model"]}, "is no checkpoint of BEATs"),
        (tmp_path / "absent.pt", "is missing or not a file"),
    ):
        refused(checkpoint, words)
    assert not (tmp_path / "run").exists()
    data = saved(published({}), tmp_path).read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    (tmp_path / "words.pt").write_bytes(b"no checkpoint" * 99)
    refused(tmp_path / "cut.pt", "can't be read as a PyTorch checkpoint|no archive of PyTorch")
    refused(tmp_path / "words.pt", "can't be read as a PyTorch checkpoint|no archive of PyTorch")


def test_sounds_that_it_can_not_encode_are_said(tmp_path):
    read = read_beats(saved(published({}), tmp_path))
    for batch, words in (
        (padded([torch.zeros(SHORT - 1)]), "2800 .0.175 s. or more"),
        (Padded(torch.zeros(1, SHORT), torch.tensor([SHORT + 1])), "in a batch of 2800"),
        (Padded(torch.zeros(1, 2, SHORT), torch.tensor([SHORT])), r"of the shape \[1, 2, 2800\]"),
        (padded([torch.full((SHORT,), math.inf)]), "NaN or infinity"),
    ):
        with pytest.raises(Error, match=words):
            read(batch)
    with pytest.raises(Error, match="has layers 0 to 1"):
        read.layers(padded([torch.zeros(SHORT)]), [0, 2])
    with pytest.raises(Error, match="without tokens"):
        read.probabilities(Cond(vector=torch.ones(1, 12)))
    assert read.config.reads.rate == 16_000 and read.config.dim == 12 and read.knows("rain")
    assert read.config.fitted([]) == read.config == BeatsConfig.parse(read.config.model_dump(), "itself")
