"""CLIP's folders against what transformers says of them: the fixture, and folders of other sizes and settings."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.conftest import installed
from tests.helpers import quiet

import cymatic
from cymatic.cond import padded
from cymatic.errors import Error, ModelError, PromptError
from cymatic.hub.importing import import_model
from cymatic.hub.parts import load_part
from cymatic.hub.readers.clip import is_clip, normalised, read_clip
from cymatic.hub.readers.towers import ANY_ENCODER
from cymatic.media.picture import PICTURE, EightBitSpec, Picture
from cymatic.pipelines.ranking import Ranking
from cymatic.signal.mel import PRESETS

HARD = [
    "a dog's life", "two   spaces\tand a tab", "ÀÉÎ naïve café", "123 45,6%", "it'll we've I'm you'd", "日本語 снег 🐈",
    "<|endoftext|> inside", "under_score-dash", "x" * 9, "!?...", "don’t", "e\u0301 decomposed",
]  # fmt: skip


@pytest.fixture(scope="module")
def clip():
    installed("transformers", "hub")
    return pytest.importorskip("transformers").models.clip


@pytest.fixture(scope="module")
def fixture(reference, clip):
    return reference("hf_clip")


@pytest.fixture(scope="module")
def folders(fixture, tmp_path_factory):
    """The fixture's folder, and the same weights and config under published names, which lack a tokenizer."""
    published = tmp_path_factory.mktemp("clip") / "published"
    shutil.copytree(fixture.folder, published, ignore=shutil.ignore_patterns("*.npz", "published_names"))
    for name in ("processor_config.json", "tokenizer.json"):
        (published / name).unlink()
    shutil.copytree(fixture.folder / "published_names", published, dirs_exist_ok=True)
    return {"as it is": fixture.folder, "published names": published}


@pytest.fixture(scope="module", params=["as it is", "published names"])
def read(request, folders):
    return read_clip(folders[request.param])


def pictures_of(fixture):
    count = sum(name.startswith("image_") for name in fixture.inputs)
    return [Picture(fixture.inputs[f"image_{i}"].numpy() / 255) for i in range(count)]


def prepared(read, pictures):
    return padded([PICTURE.prepare(one, read.picture.config.reads) for one in pictures])


@torch.inference_mode()
def test_texts_become_what_transformers_makes_of_them(read, fixture):
    texts = fixture.config["texts"]
    ids, mask = read.text.ids(texts)
    fixture.agrees("input_ids", ids)
    fixture.agrees("attention_mask", mask.long())
    states, end = read.text.states(ids, mask)
    fixture.agrees("text_last_hidden_state", states)
    fixture.agrees("text_pooled", read.text.text_projection(end))
    fixture.agrees("text_embeds", read.text(texts).vector)


@torch.inference_mode()
def test_pictures_become_what_transformers_makes_of_them(read, fixture):
    batch = prepared(read, pictures_of(fixture))
    pixels = normalised(batch.values, read.picture.config)
    fixture.agrees("pixel_values", pixels)
    fixture.agrees("vision_last_hidden_state", read.picture.vision_model(pixel_values=pixels).last_hidden_state)
    fixture.agrees("image_embeds", read.picture(batch).vector)
    similar = read.picture(batch).vector @ read.text(fixture.config["texts"]).vector.T
    fixture.agrees("logits_per_image", read.scale * similar)


@torch.inference_mode()
def test_an_item_alone_equals_the_item_in_a_padded_batch(read, fixture):
    texts = ["rain", *fixture.config["texts"]]
    for cond, alone in (
        (read.text(texts), [read.text([one]) for one in texts]),
        (
            read.picture(prepared(read, pictures_of(fixture))),
            [read.picture(prepared(read, [one])) for one in pictures_of(fixture)],
        ),
    ):
        torch.testing.assert_close(cond.vector.norm(dim=1), torch.ones(len(alone)))
        for i, one in enumerate(alone):
            n = int(cond.mask[i].sum())
            torch.testing.assert_close(cond.tokens[i, :n], one.tokens[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(cond.vector[i], one.vector[0], atol=1e-5, rtol=0)
            assert not cond.tokens[i, n:].any() and cond.tokens.shape[-1] == cond.vector.shape[-1]


def test_embeddings_of_tokens_stand_for_the_tokens(read, fixture):
    """A gradient goes through them, and through nothing else that is frozen."""
    text = read.text.requires_grad_(False)
    for prompt in fixture.config["texts"]:
        ids, _ = text.ids([prompt])
        words = text.words[ids[:, 1:-1]].requires_grad_()
        found = text.of_words(words)
        torch.testing.assert_close(found, text([prompt]).vector, atol=1e-6, rtol=0)
        found.sum().backward()
        assert words.grad.isfinite().all() and words.grad.abs().sum() > 0
    with pytest.raises(Error, match="this model reads up to"):
        text.of_words(torch.zeros(1, text.config.positions - 1, text.config.width))


def test_hard_texts_have_the_same_tokens(folders, clip):
    """From vocab.json and merges.txt, and from tokenizer.json, as old and new folders have them."""
    theirs = clip.CLIPTokenizer.from_pretrained(str(folders["as it is"]))
    ours = read_clip(folders["as it is"]).text
    for text in HARD:
        wanted = theirs([text])["input_ids"][0]
        if len(wanted) <= ours.config.positions:
            assert ours.ids([text])[0][0].tolist() == wanted, text
        else:
            with pytest.raises(PromptError, match="is too long"):
                ours.ids([text])


def test_a_vocabulary_is_read_from_either_file(folders, tmp_path):
    whole, folder = read_clip(folders["as it is"]).text.config, tmp_path / "one"
    shutil.copytree(folders["as it is"], folder, ignore=shutil.ignore_patterns("vocab.json", "merges.txt"))
    assert read_clip(folder).text.config == whole


@pytest.mark.parametrize("filter", [("bicubic", 3), ("bilinear", 2), ("lanczos", 1)])
@pytest.mark.parametrize(("edge", "size"), [(32, 32), (40, 32), (None, 24)])
def test_pictures_of_any_size_are_resized_alike(clip, edge, size, filter):
    name, number = filter
    theirs = clip.image_processing_pil_clip.CLIPImageProcessorPil(
        size={"shortest_edge": edge} if edge else {"height": size, "width": size},
        crop_size={"height": size, "width": size}, resample=number, do_normalize=False,
    )  # fmt: skip
    spec = EightBitSpec(size=size, edge=edge, filter=name)
    for shape in ((50, 50), (33, 64), (97, 41), (200, 31), (8, 9), (1, 1), (32, 32), (31, 248)):
        pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        wanted = theirs(pixels, return_tensors="pt", input_data_format="channels_last")["pixel_values"][0]
        torch.testing.assert_close(PICTURE.prepare(Picture(pixels / 255), spec), wanted, atol=1e-6, rtol=0)


def test_a_ribbon_does_not_fill_the_memory():
    """Of 4 x 60,000 pixels what is resized is no more than eight squares long."""
    ribbon = Picture(np.random.default_rng(0).random((4, 60_000, 3), dtype=np.float32))
    assert PICTURE.prepare(ribbon, EightBitSpec(size=224, edge=256)).shape == (3, 224, 224)


@pytest.fixture(scope="module")
def others(clip, folders, tmp_path_factory):
    """A folder of other sizes, by transformers' own saving: exact GELU, the end by the old rule, 16 bits."""
    base = json.loads((folders["as it is"] / "config.json").read_text())
    text = {
        **base["text_config"], "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3,
        "hidden_act": "gelu", "eos_token_id": 2, "max_position_embeddings": 40,
    }  # fmt: skip
    vision = {
        **base["vision_config"], "hidden_size": 48, "num_attention_heads": 6, "image_size": 48, "patch_size": 16,
        "hidden_act": "gelu",
    }  # fmt: skip
    torch.manual_seed(0)
    config = clip.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    model = clip.CLIPModel(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.mul_(1 if name == "logit_scale" else 3)
    folder = tmp_path_factory.mktemp("clip") / "others"
    model.half().save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copyfile(folders["as it is"] / name, folder / name)
    settings = {"size": {"shortest_edge": 56}, "crop_size": 48, "resample": 2, "image_mean": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "image_std": [0.25] * 3}))
    return folder, model.float()


@torch.inference_mode()
def test_a_folder_of_other_sizes_is_what_transformers_says(others):
    folder, model = others
    read = read_clip(folder)
    assert (read.picture.config.size, read.picture.config.edge, read.picture.config.filter) == (48, 56, "bilinear")
    texts = ["a dog", "thunder in the rain", "on"]
    ids, mask = read.text.ids(texts)
    pixels = torch.rand(2, 3, 48, 48)
    out = model(input_ids=ids, attention_mask=mask.long(), pixel_values=(pixels - 0.5) / 0.25)
    torch.testing.assert_close(read.text(texts).vector, out.text_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(read.picture(padded(list(pixels))).vector, out.image_embeds, atol=1e-5, rtol=0)
    logits = read.scale * read.picture(padded(list(pixels))).vector @ read.text(texts).vector.T
    torch.testing.assert_close(logits, out.logits_per_image, atol=1e-4, rtol=0)


def test_pickled_weights_are_read_as_plain_tensors(folders, tmp_path):
    from safetensors.torch import load_file

    folder = tmp_path / "old"
    shutil.copytree(folders["published names"], folder, ignore=shutil.ignore_patterns("model.safetensors"))
    torch.save(load_file(folders["published names"] / "model.safetensors"), folder / "pytorch_model.bin")
    texts = ["a dog barks in the rain"]
    with torch.inference_mode():
        assert torch.equal(read_clip(folder).text(texts).vector, read_clip(folders["as it is"]).text(texts).vector)


def test_it_is_imported_and_ranks(folders, fixture, tmp_path):
    """`cymatic import` makes a model of it, which embeds, ranks and keeps CLIP's scale."""
    folder = tmp_path / "clip"
    import_model(folder, mel=PRESETS["specvqgan-22k"], source=folders["as it is"], say=quiet)
    model = cymatic.load(folder)
    assert set(model.encoders) == {"picture", "caption"}
    texts, pictures = fixture.config["texts"], pictures_of(fixture)
    similar = model.embed(pictures, "picture") @ model.embed(texts, "caption").T
    fixture.agrees("logits_per_image", model.scale * similar)
    made = [Picture(one.pixels, {"seed": i}) for i, one in enumerate(pictures)]
    for i, text in enumerate(texts):
        (kept,) = Ranking.of(1, len(made), model, text, None, PICTURE).best(made, text)
        assert kept.info["seed"] == int(similar[:, i].argmax())
    for role in ("picture", "caption"):
        assert load_part(folder / role, ANY_ENCODER).config == model.encoders[role].config
    with pytest.raises(Error, match="is a model of its own"):
        import_model(tmp_path / "no", mel=PRESETS["specvqgan-22k"], source=folders["as it is"], prior=folder, say=quiet)


def test_what_can_not_be_read_is_said(folders, tmp_path):
    def changed(file, change):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folders["published names"], folder)
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(change(values)))
        return folder

    assert is_clip(folders["as it is"]) and not is_clip(tmp_path)
    for file, change, said in (
        ("config.json", lambda v: {**v, "projection_dim": 23}, "does not fit its config.json"),
        ("config.json", lambda v: {**v, "text_config": {**v["text_config"], "hidden_act": "tanhexp"}}, '"activation"'),
        ("config.json", lambda v: {**v, "vision_config": {**v["vision_config"], "hidden_size": 41}}, "is no CLIP's"),
        ("preprocessor_config.json", lambda v: {**v, "do_normalize": False}, "asks for other steps"),
        ("preprocessor_config.json", lambda v: {**v, "crop_size": 30}, "asks for other steps"),
        ("preprocessor_config.json", lambda v: {**v, "size": 16}, "the shorter side becomes 16 pixels"),
        ("preprocessor_config.json", lambda v: {**v, "image_mean": None}, '"mean"'),
        ("vocab.json", lambda v: {**v, "more": 9999}, "numbered from 0 on"),
        ("vocab.json", lambda v: {("lost" if n == 513 else t): n for t, n in v.items()}, "has not what"),
    ):
        with pytest.raises(ModelError, match=said):
            read_clip(changed(file, change))
    folder = tmp_path / "cut"
    shutil.copytree(folders["published names"], folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(ModelError, match=r"merges.txt can't be read: .*copy the model again"):
        read_clip(folder)
    with pytest.raises(PromptError, match="the prompt is empty"):
        read_clip(folders["as it is"]).text([" "])
    with pytest.raises(Error, match="this encoder reads"):
        read_clip(folders["as it is"]).picture(padded([torch.zeros(3, 5, 5)]))
