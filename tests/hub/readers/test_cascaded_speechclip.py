"""SpeechCLIP's cascaded branch from its checkpoints against a naive reading of their tensors, and a new one."""

import copy

import pytest
import torch
from tests.conftest import installed
from torch.nn.functional import batch_norm, interpolate, layer_norm, linear, multi_head_attention_forward, normalize

from cymatic.cond import padded
from cymatic.encoders.align import InfoNCE, recall
from cymatic.encoders.cascaded import CascadedBranch, CascadedConfig
from cymatic.encoders.keywords import hit_rate, nearest_rows
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.cascaded_speechclip import (
    CascadedSpeechClipEncoder,
    between,
    read_cascaded_speechclip,
    token_ids,
)
from cymatic.hub.readers.clip import read_clip
from cymatic.hub.readers.speechclip import read_speechclip

COUNT, START, END = 5, 552, 553  # keywords; ids of the fixture's CLIP
CHOSEN = (0, 17, START, END, 301, 5, 44, 230, 9, 77, 78, 120, 400, 511, 33, 260)  # by falling frequency, so to say
EPS = 1e-5


@pytest.fixture(scope="module")
def fixture(reference):
    installed("transformers", "hub")
    return reference("speechclip_parallel")


@pytest.fixture(scope="module")
def clip(reference, fixture):
    return read_clip(reference("hf_clip").folder)


def of_tower(fixture):
    tower = fixture.config["hubert"]
    return {
        "heads": tower["encoder_attention_heads"], "pre_norm": tower["layer_norm_first"],
        "normalise": fixture.config["normalize_wave"],
    }  # fmt: skip


def in_openais_names(text):
    """CLIP's text tower as OpenAI's package has it."""
    own, found = text.state_dict(), {}
    found["positional_embedding"] = own["text_model.embeddings.position_embedding.weight"]
    found["text_projection"] = own["text_projection.weight"].T.contiguous()
    for kind in ("weight", "bias"):
        found[f"ln_final.{kind}"] = own[f"text_model.final_layer_norm.{kind}"]
        for n in range(text.config.depth):
            theirs, ours = f"transformer.resblocks.{n}.", f"text_model.encoder.layers.{n}."
            parts = [own[f"{ours}self_attn.{one}_proj.{kind}"] for one in "qkv"]
            found[f"{theirs}attn.in_proj_{kind}"] = torch.cat(parts)
            for a, b in (
                ("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
            ):  # fmt: skip
                found[f"{theirs}{a}.{kind}"] = own[f"{ours}{b}.{kind}"]
    return found


LAYOUTS = ("parallel", "each", "same", "none")


def checkpoint(fixture, text, *, norms="parallel", learnable=False, integrated=False, hybrid=False, temp="fixed=0.1"):
    """A file's contents: the speech tower of the fixture, a random branch, and CLIP with a part of its table."""
    held = torch.load(fixture.folder / "speechclip.ckpt", weights_only=True)
    of_clip = in_openais_names(text)
    tensors = {n: t for n, t in held["state_dict"].items() if not n.startswith("clip.")}
    if not hybrid:
        tensors = {n: t for n, t in tensors.items() if not n.startswith("parallel_branch.")}
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    width, words = fixture.config["hubert"]["encoder_embed_dim"], text.config.width
    branch = {
        "cls": random(1, COUNT + integrated, width),
        "self_att.multihead_attn_layer.in_proj_weight": random(3 * width, width) / 3,
        "self_att.multihead_attn_layer.in_proj_bias": random(3 * width),
        "self_att.multihead_attn_layer.out_proj.weight": random(width, width) / 3,
        "self_att.multihead_attn_layer.out_proj.bias": random(width),
        "self_att.attentionBlock_Norm.weight": 1 + random(width) / 3,
        "self_att.attentionBlock_Norm.bias": random(width),
        "linear_proj.weight": random(words, width) / 3,
        "linear_proj.bias": random(words),
    }

    def norm(size):
        return {
            "weight": random(size), "bias": random(size), "running_mean": random(size),
            "running_var": random(size).exp(), "num_batches_tracked": torch.tensor(70),
        }  # fmt: skip

    if norms == "parallel":
        branch |= {f"bn_layer.bn_layer.{n}": t for n, t in norm(words * COUNT).items()}
    elif norms == "same":
        branch |= {f"bn_layer.bn_layer.{n}": t for n, t in norm(words).items()}
    elif norms == "each":
        branch |= {f"bn_layer.bn_layers.{i}.{n}": t for i in range(COUNT) for n, t in norm(words).items()}
    if learnable:
        branch["vector_quantizer.curr_temp"] = torch.tensor([0.2])
    if integrated:
        branch |= {"parallel_proj.weight": random(7, width), "parallel_proj.bias": random(7)}
    table = text.words.detach()
    clip = {**of_clip, "token_embedding.weight": table[list(CHOSEN)]}
    tensors |= {f"cascaded_branch.{n}": t for n, t in branch.items()}
    tensors |= {f"{before}clip.model.{n}": t for n, t in clip.items() for before in ("", "cascaded_branch.")}
    tensors |= {f"{before}clip.original_text_emb_weight": table for before in ("", "cascaded_branch.")}
    tensors["c_branch_proj_net.0.weight"] = random(3, 3)
    told = held["hyper_parameters"]["config"]["model_settings"]
    told["cascaded_branch"] = {
        "type": "KW_CascadedBranch_Integrated" if integrated else "KW_CascadedBranch",
        "transformer_type": "MultiheadAttentionAndNorm",
        "transformer_args": {"n_layers": 1, "d_model": width, "nhead": 1, "dropout": 0.1, "layer_norm_eps": EPS},
        "keyword": {"number": COUNT},
        "vq": {
            "type": "SimpleVectorQuantizer",
            "args": {"temp": temp, "time_first": True, "use_gumbel": False, "hard": True},
        },
    }
    return {**held, "state_dict": tensors, "global_step": 700}


def naive(tensors, frames, heads):
    """What SpeechCLIP makes of one item's frames `[frames, width]`: rows of its table, the vector, the other one."""
    of = {n.removeprefix("cascaded_branch."): t for n, t in tensors.items() if n.startswith("cascaded_branch.")}
    clip = {n.removeprefix("clip.model."): t for n, t in tensors.items() if n.startswith("clip.model.")}

    def attend(of, x, before, heads, mask=None):  # x [places, width]
        return multi_head_attention_forward(
            x[:, None], x[:, None], x[:, None], x.shape[1], heads, of[f"{before}in_proj_weight"],
            of[f"{before}in_proj_bias"], None, None, False, 0.0, of[f"{before}out_proj.weight"],
            of[f"{before}out_proj.bias"], training=False, attn_mask=mask,
        )[0][:, 0]  # fmt: skip

    x = torch.cat([of["cls"][0], frames])
    before = "self_att.attentionBlock_Norm."
    x = attend(of, x, "self_att.multihead_attn_layer.", 1) + x
    x = layer_norm(x, x.shape[1:], of[f"{before}weight"], of[f"{before}bias"], EPS)
    other = None
    if "parallel_proj.weight" in of:
        other, x = normalize(linear(x[0], of["parallel_proj.weight"], of["parallel_proj.bias"]), dim=0), x[1:]
    words = linear(x[:COUNT], of["linear_proj.weight"], of["linear_proj.bias"])

    def normed(x, before):  # x [items, size]
        names = ("running_mean", "running_var", "weight", "bias")
        return batch_norm(x, *(of[f"{before}{name}"] for name in names), eps=EPS)

    if "bn_layer.bn_layers.0.weight" in of:
        words = torch.cat([normed(words[i : i + 1], f"bn_layer.bn_layers.{i}.") for i in range(COUNT)])
    elif "bn_layer.bn_layer.weight" in of and len(of["bn_layer.bn_layer.weight"]) == words.numel():
        words = normed(words.T.reshape(1, -1), "bn_layer.bn_layer.").reshape(words.shape[1], COUNT).T
    elif "bn_layer.bn_layer.weight" in of:
        words = normed(words, "bn_layer.bn_layer.")
    table = clip["token_embedding.weight"]
    scores = torch.cosine_similarity(words[:, None], table, dim=-1)
    scores[:, [0, 2, 3]] = -torch.inf
    best = scores.topk(2).values
    assert (best[:, 0] - best[:, 1]).min() > 1e-4  # so that rounding decides nothing
    rows = scores.argmax(1)
    places = len(clip["positional_embedding"])
    x = table[[CHOSEN.index(START), *rows.tolist(), CHOSEN.index(END), *[0] * (places - COUNT - 2)]]
    x = x + clip["positional_embedding"]
    later = torch.full((places, places), -torch.inf).triu(1)
    n = 0
    while f"transformer.resblocks.{n}.ln_1.weight" in clip:
        b = f"transformer.resblocks.{n}."
        y = layer_norm(x, x.shape[1:], clip[f"{b}ln_1.weight"], clip[f"{b}ln_1.bias"])
        x = x + attend(clip, y, f"{b}attn.", heads, later)
        y = layer_norm(x, x.shape[1:], clip[f"{b}ln_2.weight"], clip[f"{b}ln_2.bias"])
        y = linear(y, clip[f"{b}mlp.c_fc.weight"], clip[f"{b}mlp.c_fc.bias"])
        x = x + linear(y * (1.702 * y).sigmoid(), clip[f"{b}mlp.c_proj.weight"], clip[f"{b}mlp.c_proj.bias"])
        n += 1
    x = layer_norm(x, x.shape[1:], clip["ln_final.weight"], clip["ln_final.bias"])
    return rows, normalize(x[COUNT + 1] @ clip["text_projection"], dim=0), other


def waves_of(fixture):
    first, second = (
        wave[:length] for wave, length in zip(fixture.inputs["waves"], fixture.inputs["wave_len"], strict=True)
    )
    return [first, second, first.flip(0), first[:900]]


def batched(waves):
    return padded([wave[None] for wave in waves])


@pytest.mark.parametrize(
    "settings",
    [
        *({"norms": norms} for norms in LAYOUTS),
        {"learnable": True, "hybrid": True},
        {"integrated": True, "norms": "each"},
    ],
    ids=lambda settings: "-".join(f"{name}={value}" for name, value in settings.items()),
)
@torch.inference_mode()
def test_a_checkpoint_is_the_naive_reading_of_its_tensors(fixture, clip, tmp_path, settings):
    held, path = checkpoint(fixture, clip.text, **settings), tmp_path / "cascaded.ckpt"
    torch.save(held, path)
    read = read_cascaded_speechclip(path, clip.text, **of_tower(fixture))
    encoder, branch = read.speech, read.speech.branch
    assert not encoder.training and read.scale == pytest.approx(1 / 0.07)
    assert branch.vocabulary.ids.tolist() == list(CHOSEN)
    assert branch.temperature.item() == pytest.approx(0.2 if settings.get("learnable") else 0.1)
    # The tower and the sum of its states are those of the parallel branch, which is compared with SpeechCLIP itself.
    tower = read_speechclip(fixture.folder / "speechclip.ckpt", **of_tower(fixture)).speech
    waves = waves_of(fixture)
    together = encoder.keywords(batched(waves))
    for i, wave in enumerate(waves):
        states, _ = tower.speech.hidden_states(batched([wave]))
        rows, vector, other = naive(held["state_dict"], tower.weighted(states)[0], clip.text.config.heads)
        alone = encoder.keywords(batched([wave]))
        for found, place in ((together, i), (alone, 0)):
            assert torch.equal(found.rows[place], rows)
            torch.testing.assert_close(found.vector[place], vector, atol=1e-5, rtol=0)
            if other is not None:
                torch.testing.assert_close(found.summary[place], other, atol=1e-5, rtol=0)
    assert torch.equal(encoder(batched(waves)).vector, together.vector)
    save_part(tmp_path / "part", encoder)
    again = load_part(tmp_path / "part", (CascadedSpeechClipEncoder,))
    assert again.config == encoder.config and torch.equal(again(batched(waves)).vector, together.vector)
    if settings.get("hybrid"):
        parallel = read_speechclip(path, **of_tower(fixture)).speech
        assert torch.equal(parallel(batched(waves)).vector, tower(batched(waves)).vector)


def test_a_temperature_that_decays_goes_on_from_its_step(fixture, clip, tmp_path):
    path = tmp_path / "cascaded.ckpt"
    torch.save(checkpoint(fixture, clip.text, temp="[2.0, 0.5, 0.999]"), path)
    branch = read_cascaded_speechclip(path, clip.text, **of_tower(fixture)).speech.branch
    assert branch.temperature.item() == pytest.approx(2.0 * 0.999**700, rel=1e-4)


def test_what_can_not_be_read_is_said(fixture, clip, tmp_path):
    path, whole = tmp_path / "changed.ckpt", checkpoint(fixture, clip.text)

    def refused(said, tensors=(), drop=(), settings=(), text=clip.text):
        held = copy.deepcopy(whole)
        held["state_dict"] = {n: t for n, t in held["state_dict"].items() if n not in drop} | dict(tensors)
        for *keys, last, value in settings:
            inner = held["hyper_parameters"]["config"]
            for key in keys:
                inner = inner[key]
            inner[last] = value
        torch.save(held, path)
        with pytest.raises(ModelError, match=said) as raised:
            read_cascaded_speechclip(path, text, **of_tower(fixture))
        assert "\n" not in str(raised.value)

    branch, told = "cascaded_branch.", ("model_settings", "cascaded_branch")
    refused("no SpeechCLIP with a cascaded branch .*cascaded_branch.cls should tell", drop=[f"{branch}cls"])
    refused(
        rf"{branch}self_att.attentionBlock_Norm.bias is missing", drop=[f"{branch}self_att.attentionBlock_Norm.bias"]
    )
    refused(f"{branch}more is unexpected", {f"{branch}more": torch.zeros(1)})
    refused("img_enc_proj_net.0.weight is unexpected", {"img_enc_proj_net.0.weight": torch.zeros(1)})
    refused(r"bn_layer.bn_layer.bias is \[3\] instead of", {f"{branch}bn_layer.bn_layer.bias": torch.zeros(3)})
    refused("has no temperature of its keywords above 0", {f"{branch}vector_quantizer.curr_temp": torch.tensor([-0.1])})
    refused("asks for a temperature 'warm'", settings=[(*told, "vq", "args", "temp", "warm")])
    refused("asks for vq.hard False", settings=[(*told, "vq", "args", "hard", False)])
    refused(
        "asks for a transformer_type 'TransformerEncoder'", settings=[(*told, "transformer_type", "TransformerEncoder")]
    )
    refused("asks for normalize_type 'method1'", settings=[("audio_encoder", "normalize_type", "method1")])
    refused("5 keywords|can't be split into 7 heads", settings=[(*told, "transformer_args", "nhead", 7)])
    table = whole["state_dict"]["clip.model.token_embedding.weight"]
    refused(r"was trained with another CLIP .*\(ViT-B/32\)", {"clip.model.token_embedding.weight": table + 1})
    refused("clip.model.token_embedding.weight should tell", drop=["clip.model.token_embedding.weight"])


@pytest.fixture(scope="module")
def speech(fixture):
    return read_speechclip(fixture.folder / "speechclip.ckpt", **of_tower(fixture)).speech.speech


CAPTIONS = ("a dog barks", "thunder in the rain")


def test_a_new_branch_stands_between_frozen_towers(fixture, clip, speech):
    """A gradient reaches all that is new, and nothing of the towers, which stay in eval mode."""
    encoder = between(speech, clip.text, captions=CAPTIONS, keywords=3, summary=4).train()
    ids = {one for caption in CAPTIONS for one in token_ids(clip.text, caption)}
    vocabulary = encoder.branch.vocabulary
    assert vocabulary.ids.tolist() == sorted({*ids, START, END})
    assert vocabulary.ids[vocabulary.banned].tolist() == [START, END]
    towers = [*encoder.speech.modules(), *encoder.text.modules()]
    assert encoder.branch.training and not any(one.training for one in towers)
    waves = waves_of(fixture)
    before = encoder.text(list(CAPTIONS)).vector
    found = encoder.keywords(batched(waves))
    (InfoNCE()(found.vector, normalize(torch.randn(4, clip.text.config.dim), dim=1)) + found.summary.sum()).backward()
    for name, p in encoder.named_parameters():
        assert (p.grad is not None and bool(p.grad.any())) == (not name.startswith(("speech.", "text."))), name
    torch.optim.SGD((p for p in encoder.parameters() if p.requires_grad), 0.1).step()
    assert torch.equal(encoder.text(list(CAPTIONS)).vector, before)
    assert torch.equal(before, clip.text(list(CAPTIONS)).vector)
    whole = between(speech, clip.text, keywords=3)
    assert whole.config.branch.size == len(clip.text.config.vocab)
    for settings, said in (
        ({"keywords": 23}, "23 keywords"),
        ({"words": 5}, "can't stand between"),
        ({"k": 1}, '"branch.k'),
    ):
        with pytest.raises(ModelError, match=said):
            between(speech, clip.text, **settings)


@torch.inference_mode()
def test_keywords_are_read_out_as_tokens(fixture, clip, speech):
    encoder = between(speech, clip.text, captions=CAPTIONS, keywords=3).eval()
    found = encoder.keywords(batched(waves_of(fixture)))
    said, names = encoder.said(found, 2), clip.text.config.vocab
    ids = encoder.branch.vocabulary.ids_of(found.rows)
    for i, item in enumerate(said):
        for k, tokens in enumerate(item):
            assert len(tokens) == 2 and tokens[0][0] == names[ids[i, k]]
            assert tokens[0][1] == pytest.approx(1, abs=1e-5) and tokens[1][1] <= tokens[0][1]
    captions = [token_ids(clip.text, caption) for caption in (*CAPTIONS, *CAPTIONS)]
    rows, _ = nearest_rows(found.words, encoder.text.words[encoder.branch.vocabulary.ids], 2)
    rate = hit_rate(encoder.branch.vocabulary.ids_of(rows), captions)
    hits = [[any(name in {names[i] for i in caption} for name, _ in item[k]) for k in range(3)]
            for item, caption in zip(said, captions, strict=True)]  # fmt: skip
    assert rate.tolist() == pytest.approx(torch.tensor(hits).float().mean(0).tolist())
    with pytest.raises(Error, match="give a number from 1 to"):
        encoder.said(found, 10_000)


def test_it_learns_eight_pairs(clip):
    """Features of speech of eight items find their eight pictures, and these find them, but for one at most.

    Random towers are not aligned, so not every picture can be reached by words, and most lie close together: the eight
    are those of many that lie furthest apart. By chance the loss is log 8 = 2.08 and recall 1/8.
    """
    torch.manual_seed(1)
    text = copy.deepcopy(clip.text).requires_grad_(False)
    with torch.no_grad():
        many = clip.picture(padded(list(interpolate(torch.rand(200, 3, 4, 4), size=32)))).vector
    chosen = [0]
    while len(chosen) < 8:
        chosen.append(int((many @ many[chosen].T).amax(1).argmin()))
    pictures = many[chosen]
    branch = CascadedBranch(CascadedConfig(width=16, words=text.config.width, size=len(text.words), dropout=0.0))
    branch.start_from(text.words, torch.arange(len(text.words)), text.ends)
    mask = torch.arange(12) < torch.tensor([5, 9, 12, 7, 6, 11, 8, 10])[:, None]
    features, loss, steps = torch.randn(8, 12, 16), InfoNCE(), 300
    optimizer = torch.optim.Adam([*branch.parameters(), *loss.parameters()], 2e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, steps)
    for _ in range(steps):
        found = loss(branch.train()(features, mask, text).vector, pictures)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        schedule.step()
    assert found < 0.2
    with torch.no_grad():
        similar = branch.eval()(features, mask, text).vector @ pictures.T
    own = torch.eye(8, dtype=torch.bool)
    assert min(recall(similar, own, 1), recall(similar.T, own, 1)) >= 7 / 8
