"""HuBERT's and wav2vec 2.0's folders against what transformers says of them: the fixture, and other sizes."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import installed
from tests.helpers import draw

from cymatic.cond import padded
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.hubert import HubertEncoder, is_hubert, read_hubert


@pytest.fixture(scope="module")
def transformers():
    installed("transformers", "hub")
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def fixture(reference, transformers):
    return reference("hf_hubert")


@pytest.fixture(scope="module")
def folders(fixture, tmp_path_factory):
    """The fixture's folder, and the same weights and config under published names, as safetensors and pickled."""
    root = tmp_path_factory.mktemp("hubert")
    held = {"as it is": fixture.folder, "published names": root / "published", "pickled": root / "pickled"}
    for folder in (held["published names"], held["pickled"]):
        shutil.copytree(fixture.folder, folder, ignore=shutil.ignore_patterns("*.npz", "published_names"))
        shutil.copytree(fixture.folder / "published_names", folder, dirs_exist_ok=True)
    weights = held["pickled"] / "model.safetensors"
    torch.save(load_file(weights), held["pickled"] / "pytorch_model.bin")
    weights.unlink()
    return held


@pytest.fixture(scope="module", params=["as it is", "published names", "pickled"])
def read(request, folders):
    return read_hubert(folders[request.param])


def waves_of(fixture):
    return [fixture.inputs[name] for name in sorted(fixture.inputs)]


def batched(waves):
    return padded([wave[None] for wave in waves])


@torch.inference_mode()
def test_speech_becomes_what_transformers_makes_of_it(read, fixture):
    (wave, *_) = waves = waves_of(fixture)
    lengths = torch.tensor([len(one) for one in waves])
    fixture.agrees("input_values", read.normalised(wave[None], lengths[:1]))
    fixture.agrees("frames", read.frames(lengths))
    states, mask = read.hidden_states(batched([wave]))
    assert mask.all() and len(states) == read.config.depth + 1
    for number, state in enumerate(states):
        fixture.agrees(f"hidden_{number}", state)
    fixture.agrees("last_hidden_state", read(batched([wave])).tokens)


@torch.inference_mode()
def test_the_same_layers_in_a_batch_as_transformers_pads_it(read, fixture):
    """Where the padding goes through the first norm as well, which it never does here unless it is asked for."""
    batch = batched(waves_of(fixture))
    waves, frames = read.normalised(batch.values[:, 0], batch.lengths), read.frames(batch.lengths)
    features = read.features(waves, torch.full_like(batch.lengths, waves.shape[1]))
    last = read.last(read.states(features, torch.arange(features.shape[1]) < frames[:, None]))
    for number, (item, count) in enumerate(zip(last, frames.tolist(), strict=True)):
        fixture.agrees(f"last_padded_{number}", item[:count])


def is_the_same_alone(read, waves):
    together, (states, mask) = read(batched(waves)), read.hidden_states(batched(waves))
    assert torch.equal(mask, together.mask)
    torch.testing.assert_close(together.vector.norm(dim=1), torch.ones(len(waves)))
    for i, wave in enumerate(waves):
        alone, count = read(batched([wave])), int(mask[i].sum())
        for state, own in zip(states, read.hidden_states(batched([wave]))[0], strict=True):
            torch.testing.assert_close(state[i, :count], own[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.tokens[i, :count], alone.tokens[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.vector[i], alone.vector[0], atol=1e-5, rtol=0)
        assert not together.tokens[i, count:].any()


@torch.inference_mode()
def test_an_item_alone_equals_the_item_in_a_padded_batch(read, fixture):
    first, *rest = waves_of(fixture)
    is_the_same_alone(read, [first, *rest, rest[0].flip(0), first[: read.least]])


@pytest.fixture(scope="module", params=["large", "wav2vec2"])
def other(request, transformers, tmp_path_factory):
    """A folder of other sizes by transformers' own saving, with a head on top, and the network in it: like HuBERT
    large, in 16 bits, and like wav2vec 2.0 base with old settings in its config."""
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40,
        "conv_dim": [12] * 7, "num_conv_pos_embeddings": 9, "num_conv_pos_embedding_groups": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    large = request.param == "large"
    if large:
        config = transformers.HubertConfig(
            **sizes, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, vocab_size=5
        )
        model = transformers.HubertForCTC(config)
    else:
        config = transformers.Wav2Vec2Config(**sizes, num_codevectors_per_group=4, codevector_dim=8)
        model = transformers.Wav2Vec2ForPreTraining(config)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3 if p.dim() == 2 else 1)
    folder = tmp_path_factory.mktemp("hubert") / request.param
    (model.half() if large else model).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=large, return_attention_mask=True)
    extractor.save_pretrained(folder)
    if not large:
        values = json.loads((folder / "config.json").read_text())
        values |= {"gradient_checkpointing": False, "tokenizer_class": "Wav2Vec2CTCTokenizer"}
        (folder / "config.json").write_text(json.dumps(values))
    model = model.float().eval()
    return folder, model.hubert if large else model.wav2vec2, extractor


@torch.inference_mode()
def test_a_folder_of_other_sizes_is_what_transformers_says(other, tmp_path):
    folder, model, extractor = other
    assert is_hubert(folder)
    read = read_hubert(folder)
    waves = [0.3 * draw(length, seed=length) for length in (2300, 1500, 2300, 400)]
    for wave in waves:
        made = extractor([wave.numpy()], sampling_rate=16_000, return_tensors="pt")
        out = model(made.input_values, output_hidden_states=True)
        states, _ = read.hidden_states(batched([wave]))
        for state, wanted in zip(states[:-1], out.hidden_states[:-1], strict=True):
            torch.testing.assert_close(state, wanted, atol=2e-5, rtol=0)
        torch.testing.assert_close(read(batched([wave])).tokens, out.last_hidden_state, atol=2e-5, rtol=0)
    if read.config.conv_norm == "layer":  # no padding goes through this one's norms, so a batch is transformers' own
        made = extractor([wave.numpy() for wave in waves], sampling_rate=16_000, return_tensors="pt", padding=True)
        wanted = model(made.input_values, attention_mask=made.attention_mask).last_hidden_state
        together = read(batched(waves))
        torch.testing.assert_close(together.tokens, wanted * together.mask[..., None], atol=2e-5, rtol=0)
    is_the_same_alone(read, waves)
    save_part(tmp_path / "part", read)
    again = load_part(tmp_path / "part", (HubertEncoder,))
    assert again.config == read.config
    assert torch.equal(again(batched(waves)).tokens, read(batched(waves)).tokens)


def test_what_can_not_be_read_is_said(folders, tmp_path):
    def copied():
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return shutil.copytree(folders["published names"], folder)

    assert is_hubert(folders["as it is"]) and not is_hubert(tmp_path)
    sound = "preprocessor_config.json"
    for file, change, said in (
        ("config.json", {"model_type": "bert"}, 'of type "bert" where one of'),
        ("config.json", {"conv_pos_batch_norm": True}, "asks for conv_pos_batch_norm"),
        ("config.json", {"conv_dim": [16]}, "is no config of hubert's"),
        ("config.json", {"num_attention_heads": 5}, "can't be split into 5 heads"),
        ("config.json", {"hidden_act": "tanhexp"}, '"activation"'),
        ("config.json", {"num_hidden_layers": 95}, "a far larger network"),
        ("config.json", {"intermediate_size": 33}, r"is \[32, 24\] instead of \[33, 24\]"),
        (sound, {"feature_size": 2}, "something else than waveforms of one channel"),
        (sound, {"sampling_rate": "fast"}, '"rate"'),
    ):
        folder = copied()
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | change))
        with pytest.raises(ModelError, match=said) as raised:
            read_hubert(folder)
        assert "\n" not in str(raised.value)
    for file in ("config.json", sound, "model.safetensors"):
        folder = copied()
        (folder / file).unlink()
        with pytest.raises(ModelError, match=f"{file} is missing"):
            read_hubert(folder)
    folder = copied()
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no tensors"):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"not a sound safetensors file .*copy or train the model again"):
            read_hubert(folder)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    lost = tensors.pop("encoder.layers.0.attention.k_proj.bias")
    save_file({**tensors, "encoder.more": lost}, weights)
    with pytest.raises(ModelError, match=r"k_proj.bias is missing; encoder.more is unexpected"):
        read_hubert(folder)


def test_sounds_that_can_not_be_encoded_are_said(folders):
    read = read_hubert(folders["as it is"])
    assert read.frames(torch.tensor([read.least - 1, read.least])).tolist() == [0, 1]
    with pytest.raises(Error, match=rf"a sound of {read.least - 1} samples .* needs {read.least} \("):
        read(batched([torch.zeros(4000), torch.zeros(read.least - 1)]))
    with pytest.raises(Error, match=r"reads \[batch, 1, samples\]"):
        read(padded([torch.zeros(2, 4000)]))
