"""DALL-E mini's weights as min-dalle keeps them: the fixture is reproduced, and what does not fit is named."""

import json

import pytest
import torch

from cymatic.cond import Cond, guide
from cymatic.encoders import ENCODERS
from cymatic.errors import ModelError, PromptError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.dalle_mini import read_dalle_mini, read_folder
from cymatic.nn.fast_decoder import FastDecoderStep, decoder_state
from cymatic.priors import PRIORS

PAD = 1


@pytest.fixture(scope="module")
def held(reference):
    return reference("min_dalle_bart")


@pytest.fixture(scope="module")
def imported(held):
    return read(held)


def read(held, **more):
    heads = held.config["attention_head_count"]
    return read_dalle_mini(held.folder / "encoder.pt", held.folder / "decoder.pt", heads=heads, **more)


def condition(held, imported) -> Cond:
    ids = held.inputs["text_tokens"]
    return Cond(imported.encoder.embedded(ids), ids != PAD)


def test_sizes_are_those_of_the_reference(held, imported):
    said, config = held.config, imported.prior.config
    assert (config.codes, config.width, config.depth) == (
        said["image_vocab_count"], said["embed_count"], said["layer_count"]
    )  # fmt: skip
    assert (config.prefix, config.decoder_hidden) == (said["text_token_count"], said["glu_embed_count"])
    assert (config.rows, config.longest) == (16, 16)
    assert imported.encoder.config.rows == said["text_vocab_count"]
    assert read_dalle_mini(held.folder / "encoder.pt", held.folder / "decoder.pt").prior.config.heads == max(
        1, config.width // 64
    )


@torch.inference_mode()
def test_the_reference_is_reproduced_at_once(held, imported):
    prior = imported.prior
    encoded = prior.encode(condition(held, imported), 2)
    held.agrees("encoder_state", encoded.states)
    tokens = held.inputs["prev_tokens"].expand(2, -1)
    hidden = prior.network.decode(tokens, prior.network.given(encoded), encoded.mask)
    held.agrees("logits_parallel", prior.network.head(hidden))


@torch.inference_mode()
def test_the_reference_is_reproduced_step_by_step(held, imported):
    prior, tokens = imported.prior, held.inputs["prev_tokens"].expand(2, -1)
    encoded, steps = prior.encode(condition(held, imported), 2), tokens.shape[1]
    fast, given = FastDecoderStep(prior.network, rows=2), prior.network.given(encoded)
    hidden, state = decoder_state(prior.network, tokens[:, :1], given, encoded.valid, steps)
    logits = fast.head(hidden)
    for at in range(steps):
        if at:
            logits = fast(tokens[:, at], at, state)
        held.agrees(f"logits_step_{at}", logits)
        held.agrees(f"super_{at}", guide(logits[1:], logits[:1], held.config["super"]))
    caches = torch.stack([cache.held for cache in state.caches])  # [layers, rows, 2, heads, places, dim]
    norms = caches.transpose(3, 4).flatten(4).norm(dim=-1)
    held.agrees("attention_state_final_norms", norms.transpose(1, 2).flatten(1, 2))


@torch.inference_mode()
def test_no_condition_is_the_empty_caption(held, imported):
    cond = condition(held, imported)
    empty = held.inputs["text_tokens"][:1]
    assert empty[0, :3].tolist() == [0, 2, PAD], "the first row of the fixture is unconditional"
    codes = torch.zeros(2, 0, dtype=torch.int64)
    found = imported.prior(codes, cond.null())
    torch.testing.assert_close(found[:1], imported.prior(codes, cond)[:1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found, imported.prior(codes, None), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_first_code_follows_the_token_that_is_no_code(held, imported):
    prior, cond = imported.prior, condition(held, imported)
    codes = held.inputs["prev_tokens"].expand(2, -1)
    encoded = prior.encode(cond, 2)
    begun = torch.cat([torch.full((2, 1), held.config["image_vocab_count"]), codes], dim=1)
    wanted = prior.network.head(prior.network.decode(begun, prior.network.given(encoded), encoded.mask))
    assert torch.equal(prior(codes, cond), wanted[..., :-1])
    made, _ = prior.sample(cond, [1, 2], start=torch.zeros(2, 15, 16, dtype=torch.int64), guidance=10.0, top_k=8)
    assert made.shape == (2, 16, 16) and int(made.max()) < held.config["image_vocab_count"]


def vocabulary(folder, count: int):
    """A vocabulary of that many tokens, of all bytes as far as they fit, and two merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    texts = ["<s>", "<pad>", "</s>", "<unk>", "re", "red", *sorted(ByteLevel.alphabet())][:count]
    for one in "red Ġ".replace(" ", ""):
        if one not in texts:
            texts[-1 - "red Ġ".index(one)] = one
    numbered = {text: i for i, text in enumerate(texts)}
    (folder / "vocab.json").write_text(json.dumps(numbered), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d\n", encoding="utf-8")
    return folder / "vocab.json", folder / "merges.txt"


@torch.inference_mode()
def test_words_are_read_by_its_own_vocabulary_and_both_parts_are_saved(held, tmp_path):
    vocab, merges = vocabulary(tmp_path, held.config["text_vocab_count"])
    imported = read(held, vocabulary=vocab, merges=merges)
    numbers = json.loads(vocab.read_text(encoding="utf-8"))
    wanted = [numbers[one] for one in ("<s>", "Ġ", "red", "Ġ", "red", "</s>")]
    assert imported.encoder.ids("Red  RED") == wanted
    cond = imported.encoder(["red red", "red"])
    torch.testing.assert_close(cond.tokens[:1], imported.encoder.embedded(torch.tensor([wanted])))
    save_part(tmp_path / "encoder", imported.encoder)
    save_part(tmp_path / "prior", imported.prior)
    encoder, prior = load_part(tmp_path / "encoder", ENCODERS), load_part(tmp_path / "prior", PRIORS)
    assert torch.equal(encoder(["red red", "red"]).tokens, cond.tokens)
    codes = torch.zeros(2, 3, dtype=torch.int64)
    assert torch.equal(prior(codes, cond), imported.prior(codes, cond))


def test_a_folder_as_min_dalle_downloads_it(held, tmp_path):
    for name in ("encoder.pt", "decoder.pt"):
        (tmp_path / name).write_bytes((held.folder / name).read_bytes())
    with pytest.raises(ModelError, match=r"vocab\.json is missing, by which captions are read"):
        read_folder(tmp_path)
    vocabulary(tmp_path, held.config["text_vocab_count"])
    found = read_folder(tmp_path, heads=held.config["attention_head_count"])
    assert found.prior.config.heads == held.config["attention_head_count"] and found.encoder.ids("red")


def test_what_does_not_fit_is_named(held, tmp_path):
    encoder, decoder = (torch.load(held.folder / f"{half}.pt", weights_only=True) for half in ("encoder", "decoder"))

    def refused(match: str, **more):
        torch.save(encoder, tmp_path / "encoder.pt")
        torch.save(decoder, tmp_path / "decoder.pt")
        with pytest.raises(ModelError, match=match):
            read_dalle_mini(tmp_path / "encoder.pt", tmp_path / "decoder.pt", **more)

    refused("is not a multiple of the heads", heads=5)
    lost = decoder.pop("layers.0.glu.ln1.bias")
    refused(r"decoder\.layers\.0\.glu\.ln1\.bias is missing")
    decoder["layers.0.glu.ln1.bias"] = lost[:-1]
    refused(rf"decoder\.layers\.0\.glu\.ln1\.bias is \[{len(lost) - 1}\] and should be \[{len(lost)}\]")
    decoder["layers.0.glu.ln1.bias"], decoder["extra"] = lost, lost
    refused(r"decoder\.extra is unexpected")
    del decoder["extra"]
    decoder["lm_head.weight"][0, 0] = torch.nan
    refused(r"decoder\.lm_head\.weight holds NaN")
    decoder["embed_positions.weight"] = decoder["embed_positions.weight"][:255]
    refused("255 codes, which are no square")
    del decoder["embed_tokens.weight"]
    refused(r"embed_tokens\.weight should tell a size, and it is missing")


def test_words_that_can_not_be_read_are_named(held, imported, tmp_path):
    with pytest.raises(ModelError, match="imported without its vocabulary"):
        imported.encoder(["red"])
    vocab, merges = vocabulary(tmp_path, held.config["text_vocab_count"])
    found = read(held, vocabulary=vocab, merges=merges)
    with pytest.raises(PromptError, match="the prompt is too long"):
        found.encoder(["d " * 80])
    with pytest.raises(PromptError, match="the prompt is empty"):
        found.encoder([" "])
    merges.write_text("r e\nzz y\n", encoding="utf-8")
    with pytest.raises(ModelError, match="these merges don't fit the vocabulary"):
        read(held, vocabulary=vocab, merges=merges)
    vocab.write_text('{"<s>": 1}', encoding="utf-8")
    with pytest.raises(ModelError, match="otherwise than 0, 1, 2"):
        read(held, vocabulary=vocab, merges=merges)
