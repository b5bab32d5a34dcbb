"""BART of Hugging Face: the fixture is reproduced under both of its names, and what does not fit is named."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from cymatic.errors import Error, ModelError
from cymatic.hub.readers.bart import is_bart, read_bart

FILES = ("model.safetensors", "config.json")


@pytest.fixture(scope="module")
def held(reference):
    return reference("hf_bart")


@pytest.fixture(scope="module", params=["today's names", "published names"])
def folder(request, held, tmp_path_factory):
    """The fixture's folder, or one with the names of older files."""
    if request.param == "today's names":
        return held.folder
    copy = tmp_path_factory.mktemp("bart") / "published"
    shutil.copytree(held.folder, copy)
    for name in FILES:
        shutil.copy(held.folder / "published_names" / name, copy / name)
    return copy


@torch.inference_mode()
def test_the_reference_is_reproduced(held, folder):
    bart = read_bart(folder)
    ids, valid = bart.ids(held.config["texts"])
    held.agrees("input_ids", ids)
    held.agrees("attention_mask", valid.long())
    held.agrees("encoder_last_hidden_state", bart.encode(ids, valid).states)
    held.agrees("logits", bart(ids, valid, held.inputs["decoder_input_ids"]))
    held.agrees("greedy", bart.write(ids, valid, held.config["new"]))
    held.agrees("beam", bart.write(ids, valid, held.config["new"], beams=3))


@torch.inference_mode()
def test_an_item_alone_writes_the_same(held):
    bart = read_bart(held.folder)
    ids, valid = bart.ids(held.config["texts"])
    for beams in (1, 2):
        both = bart.write(ids, valid, 7, beams)
        for i, text in enumerate(held.config["texts"]):
            alone = bart.write(*bart.ids([text]), 7, beams)[0]
            assert torch.equal(both[i, : len(alone)], alone) and bool((both[i, len(alone) :] == bart.pad).all())
    assert isinstance(bart.text(both[0]), str)


@torch.inference_mode()
def test_scaled_embeddings_and_its_own_head(held, tmp_path):
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install 'cymatic[hub]'"
    )
    for scaled, tied in ((True, True), (False, False)):
        torch.manual_seed(0)
        said = transformers.BartConfig(
            vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=4, encoder_ffn_dim=20, decoder_ffn_dim=24, max_position_embeddings=12,
            scale_embedding=scaled, tie_word_embeddings=tied, init_std=0.3, forced_bos_token_id=0,
        )  # fmt: skip
        theirs = transformers.BartForConditionalGeneration(said).eval()
        theirs.final_logits_bias.normal_()
        theirs.save_pretrained(tmp_path / str(scaled))
        ours = read_bart(tmp_path / str(scaled))
        ids = torch.tensor([[0, 7, 8, 9, 2], [0, 11, 2, 1, 1]])
        written = torch.tensor([[2, 0, 5, 6], [2, 0, 9, 4]])
        wanted = theirs(input_ids=ids, attention_mask=(ids != 1).long(), decoder_input_ids=written).logits
        torch.testing.assert_close(ours(ids, ids != 1, written), wanted, atol=1e-4, rtol=0)
        for beams in (1, 4):
            said = dict(attention_mask=(ids != 1).long(), max_new_tokens=8, num_beams=beams, do_sample=False)
            assert torch.equal(ours.write(ids, ids != 1, 8, beams), theirs.generate(ids, **said)), (scaled, beams)


def test_what_does_not_fit_is_named(held, tmp_path):
    shutil.copytree(held.folder, tmp_path / "bart")
    folder, path = tmp_path / "bart", tmp_path / "bart/model.safetensors"
    assert is_bart(folder) and not is_bart(tmp_path)
    with pytest.raises(Error, match="1000 tokens were asked for; give 1 to"):
        read_bart(folder).write(*read_bart(folder).ids(["a"]), 1000)
    with pytest.raises(Error, match=r"tokens came and this BART reads \d+ at most"):
        bart = read_bart(folder)
        bart.write(*bart.ids(["a dog barks " * 30]), 3)
    tensors = load_file(path)
    name = "model.decoder.layers.0.fc1.bias"
    save_file({n: t for n, t in tensors.items() if n != name}, path)
    with pytest.raises(ModelError, match=r"decoder\.layers\.0\.fc1\.bias is missing"):
        read_bart(folder)
    save_file({**tensors, "extra": tensors[name].clone()}, path)
    with pytest.raises(ModelError, match="extra is unexpected"):
        read_bart(folder)
    save_file(tensors, path)
    said = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"activation_function": "relu"}, "a bart with relu; a bart with gelu"),
        ({"model_type": "t5"}, "describes a t5"),
        ({"decoder_attention_heads": 5}, "not a multiple of the heads"),
    ):
        (folder / "config.json").write_text(json.dumps({**said, **change}))
        with pytest.raises(ModelError, match=message):
            read_bart(folder)
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"without its tokenizer\.json"):
        read_bart(folder).ids(["a dog"])
