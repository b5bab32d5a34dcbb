"""SpeechCLIP's checkpoints against what SpeechCLIP says of them: the fixture, and files of other sizes and settings."""

import math
import os
import re

import pytest
import torch
from tests.conftest import installed
from tests.helpers import draw
from torch import nn
from torch.nn.functional import layer_norm, normalize

from cymatic.cond import padded
from cymatic.encoders.align import InfoNCE
from cymatic.errors import ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.speechclip import SpeechClipEncoder, read_speechclip


@pytest.fixture(scope="module")
def fixture(reference):
    installed("transformers", "hub")
    return reference("speechclip_parallel")


def of_tower(fixture):
    """What SpeechCLIP's file does not say of its speech tower."""
    tower = fixture.config["hubert"]
    return {
        "heads": tower["encoder_attention_heads"],
        "pre_norm": tower["layer_norm_first"],
        "normalise": fixture.config["normalize_wave"],
    }


@pytest.fixture(scope="module")
def read(fixture):
    return read_speechclip(fixture.folder / "speechclip.ckpt", **of_tower(fixture))


def waves_of(fixture):
    return [wave[:length] for wave, length in zip(fixture.inputs["waves"], fixture.inputs["wave_len"], strict=True)]


def batched(waves):
    return padded([wave[None] for wave in waves])


def as_speechclip_batches(encoder, waves, lengths):
    """States, their sum, numbers of frames and embeddings of a padded batch as SpeechCLIP has them.

    The padding goes through the first norm of the speech tower, which looks at each frame that has a sample of the
    sound, and the branch at as many as the length in frames says, rounded.
    """
    tower, samples = encoder.speech, waves.shape[1]
    features = tower.features(tower.normalised(waves, lengths), torch.full_like(lengths, samples))
    count = features.shape[1]
    padding = torch.arange(samples) >= lengths[:, None]
    padding = padding[:, : samples - samples % count].reshape(len(waves), count, -1).all(-1)
    states = tower.states(features, ~padding)
    frames = torch.tensor([min(round(length / 320), count) for length in lengths.tolist()])
    weighted = encoder.weighted(states)
    return states, weighted, frames, encoder.embed(weighted, torch.arange(count) < frames[:, None])


def contrast(scale, a, b, ids=None, **options):
    loss = InfoNCE(1 / scale, learned=False, **options)
    return loss(a, b, None if ids is None else ids[:, None] == ids)


@torch.inference_mode()
def test_speech_becomes_what_speechclip_makes_of_it(read, fixture):
    for number, wave in enumerate(waves_of(fixture)):
        fixture.agrees(f"embedding_single_{number}", read.speech(batched([wave])).vector)


@torch.inference_mode()
def test_a_batch_and_its_loss_as_speechclip_has_them(read, fixture):
    given = fixture.inputs
    states, weighted, frames, vectors = as_speechclip_batches(read.speech, given["waves"], given["wave_len"])
    for number, state in enumerate(states):
        fixture.agrees(f"hidden_{number}", state)
    fixture.agrees("weighted", weighted)
    fixture.agrees("feat_len", frames)
    fixture.agrees("embedding", vectors)
    fixture.agrees("loss", contrast(read.scale, vectors, fixture.expected["image_feat"], given["ids"]))


@torch.inference_mode()
def test_the_loss_alone(fixture):
    """The fixture's learned temperature and its margin are not written down: 0.1 and 0.3 are those that give its
    numbers."""
    a, b, ids = (fixture.inputs[name] for name in ("feat_a", "feat_b", "feat_ids"))
    fixture.agrees("loss_default", contrast(1 / 0.07, a, b))
    fixture.agrees("loss_ids", contrast(1 / 0.07, a, b, ids))
    fixture.agrees("loss_trainable_temp", contrast(1 / 0.1, a, b, ids))
    fixture.agrees("loss_margin", contrast(1 / 0.07, a, b, ids, margin=0.3))
    fixture.agrees("loss_dcl", contrast(1 / 0.07, a, b, ids, decoupled=True))


def is_the_same_alone(encoder, waves):
    together = encoder(batched(waves)).vector
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(waves)))
    for vector, wave in zip(together, waves, strict=True):
        torch.testing.assert_close(vector, encoder(batched([wave])).vector[0], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_an_item_alone_equals_the_item_in_a_padded_batch(read, fixture):
    first, *rest = waves_of(fixture)
    is_the_same_alone(read.speech, [first, *rest, first.flip(0), first[:500]])


def test_the_tower_is_frozen_and_the_rest_trains(fixture):
    encoder = read_speechclip(fixture.folder / "speechclip.ckpt", **of_tower(fixture)).speech.train()
    assert encoder.training and encoder.branch.training and not any(one.training for one in encoder.speech.modules())
    vectors = encoder(batched(waves_of(fixture))).vector
    InfoNCE()(vectors, fixture.expected["image_feat"]).backward()
    for name, p in encoder.named_parameters():
        assert (p.grad is None or not p.grad.any()) == name.startswith("speech."), name


class OrderedNamespace:
    """As released checkpoints hold their settings: an object of a class that is not here when they are read."""

    def __init__(self, **values):
        self.__dict__.update(values)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


FAIRSEQ = (
    (r"conv_layers\.(\d+)\.conv\.", r"conv_layers.\1.0."),
    (r"conv_layers\.(\d+)\.layer_norm\.", r"conv_layers.\1.2.1."),
    (r"\blayers\.(\d+)\.layer_norm\.", r"layers.\1.self_attn_layer_norm."),
    (r"feature_projection\.layer_norm", "layer_norm"),
    (r"feature_projection\.projection", "post_extract_proj"),
    (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0", "pos_conv.0.weight_g"),
    (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1", "pos_conv.0.weight_v"),
    (r"pos_conv_embed\.conv", "pos_conv.0"),
    (r"\.attention\.", ".self_attn."),
    (r"feed_forward\.intermediate_dense", "fc1"),
    (r"feed_forward\.output_dense", "fc2"),
    (r"masked_spec_embed", "mask_emb"),
)


def in_fairseq(name):
    for ours, theirs in FAIRSEQ:
        name = re.sub(ours, theirs, name)
    return name


@torch.inference_mode()
def test_a_file_of_other_sizes_like_the_released_large_ones(tmp_path):
    """Random weights in networks of transformers and torch: two layers of a branch, a learned temperature, norms over
    channels in the tower, settings pickled as an object, buffers of another batch size, and code that would run."""
    installed("transformers", "hub")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    width, dim = 64, 12
    config = transformers.HubertConfig(
        hidden_size=width, num_hidden_layers=2, num_attention_heads=1, intermediate_size=48, conv_dim=[8] * 7,
        feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, num_conv_pos_embeddings=6,
        num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    tower = transformers.HubertModel(config).eval()
    layer = nn.TransformerEncoderLayer(width, 8, 40, 0.1, "gelu", batch_first=True)
    branch = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False).eval()
    for p in [*tower.parameters(), *branch.parameters()]:
        p.mul_(3) if p.dim() == 2 else p.add_(0.1 * torch.randn_like(p))
    weights, cls, project = torch.randn(3), torch.randn(1, 1, width), nn.Linear(width, dim)
    tensors = {f"audio_encoder.encoder.{in_fairseq(name)}": t for name, t in tower.state_dict().items()}
    tensors |= {f"parallel_branch.self_att.model.{name}": t for name, t in branch.state_dict().items()}
    tensors |= {f"parallel_branch.linear_proj.{name}": t for name, t in project.state_dict().items()}
    tensors |= {
        "audio_encoder.weightedsum_layer.weights": weights, "parallel_branch.cls": cls,
        "criterion.temperature": torch.tensor(math.log(20.0)), "criterion.eye_mat": torch.eye(32, dtype=torch.bool),
        "audio_encoder.encoder.label_embs_concat": torch.zeros(5, 8), "clip.model.logit_scale": torch.tensor(1.0),
    }  # fmt: skip
    held = {"config": OrderedNamespace(audio_encoder=OrderedNamespace(name="hubert_large_ll60k"))}
    path = tmp_path / "large.ckpt"
    torch.save({"state_dict": tensors, "hyper_parameters": held, "more": Hostile(str(tmp_path / "ran"))}, path)
    read = read_speechclip(path)
    assert not (tmp_path / "ran").exists()
    assert math.isclose(read.scale, 20, rel_tol=1e-5)
    assert (read.speech.config.depth, read.speech.config.dim, read.speech.config.state_norm) == (2, dim, True)
    waves = [0.3 * draw(length, seed=length) for length in (2300, 1500, 400)]
    for wave in waves:
        states = torch.stack(tower(layer_norm(wave, wave.shape)[None], output_hidden_states=True).hidden_states)
        frames = (weights.softmax(0)[:, None, None, None] * layer_norm(states, [width])).sum(0)
        wanted = normalize(project(branch(torch.cat([cls, frames], 1))[:, 0]), dim=-1)
        torch.testing.assert_close(read.speech(batched([wave])).vector, wanted, atol=1e-5, rtol=0)
    is_the_same_alone(read.speech, waves)
    save_part(tmp_path / "part", read.speech)
    again = load_part(tmp_path / "part", (SpeechClipEncoder,))
    assert again.config == read.speech.config
    assert torch.equal(again(batched(waves)).vector, read.speech(batched(waves)).vector)


def test_what_can_not_be_read_is_said(fixture, tmp_path):
    source, path = fixture.folder / "speechclip.ckpt", tmp_path / "changed.ckpt"

    def refused(said, **tower):
        with pytest.raises(ModelError, match=said) as raised:
            read_speechclip(path, **(tower or of_tower(fixture)))
        assert "\n" not in str(raised.value)

    refused("is missing or not a file")
    whole = source.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        path.write_bytes(damaged)
        refused(r"can't be read as a PyTorch checkpoint|is no archive of PyTorch")

    def changed(tensors=(), drop=(), settings=()):
        held = torch.load(source, weights_only=True)
        held["state_dict"] = {n: t for n, t in held["state_dict"].items() if n not in drop} | dict(tensors)
        for *keys, last, value in settings:
            inner = held["hyper_parameters"]["config"]
            for key in keys:
                inner = inner[key]
            inner[last] = value
        torch.save(held, path)

    torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)
    refused("is no SpeechCLIP that is known here: .* it is missing")
    first = "audio_encoder.encoder.encoder.layers.0.fc1.bias"
    changed({"audio_encoder.more": torch.zeros(1), "parallel_branch.cls": torch.zeros(1, 1, 3)}, [first])
    refused(rf"{first} is missing; audio_encoder.more is unexpected; parallel_branch.cls is \[1, 1, 3\] instead")
    changed(drop=["parallel_branch.linear_proj.weight"])
    refused("no SpeechCLIP with a parallel branch .*linear_proj.weight should tell a size, and it is missing")
    changed(settings=[("audio_encoder", "normalize_type", "method1")])
    refused("asks for normalize_type 'method1'; s3prl alone")
    changed(settings=[("model_settings", "parallel_branch", "transformer_args", "nhead", 7)])
    refused("can't be split into 7 heads")
    changed(settings=[("cl_loss", "args", "temperature", 0)])
    refused("has no temperature that is a number above 0")
    changed(drop=["criterion.eye_mat"])  # or of any other size: no matter
    assert read_speechclip(path, **of_tower(fixture)).scale == pytest.approx(1 / 0.07)
    if fixture.config["hubert"]["encoder_embed_dim"] % 64:
        refused("say how many there are", pre_norm=False)
