"""The cascaded branch against a naive loop, and what it promises of gradients, padding, bans and temperatures."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm, normalize

from cymatic.encoders.cascaded import CascadedBranch, CascadedConfig
from cymatic.errors import Error, ModelError

WIDTH, WORDS, TOKENS, DIM = 12, 10, 40, 6
IDS = torch.tensor([30, 4, 1, 2, 17, 0, 39, 8, 9, 21, 5, 33])
BANNED = (0, 2, 38)  # of which 38 is not among them


class Reader(nn.Module):
    """A text encoder that minds order."""

    def __init__(self, keywords):
        super().__init__()
        self.words = nn.Parameter(torch.randn(TOKENS, WORDS) * torch.rand(WORDS) + torch.randn(WORDS))
        self.out = nn.Linear(keywords * WORDS, DIM)
        self.requires_grad_(False)

    def of_words(self, words):
        return normalize(self.out(words.flatten(1).tanh()), dim=-1)


def made(seed=0, **settings):
    torch.manual_seed(seed)
    config = CascadedConfig(width=WIDTH, words=WORDS, size=len(IDS), **{"keywords": 3, "dropout": 0.0, **settings})
    branch, text = CascadedBranch(config), Reader(config.keywords)
    branch.start_from(text.words, IDS, BANNED)
    with torch.no_grad():
        if config.norm != "none":
            branch.norm.running_mean.normal_()
            branch.norm.running_var.uniform_(0.5, 2)
    return branch.eval(), text


def features(*lengths, seed=1):
    torch.manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths), WIDTH), mask


def naive(branch, text, frames):
    """Keywords' rows, the vector and the summary of one item `[frames, width]`, number by number."""
    config, state = branch.config, branch.state_dict()
    cls = state["cls"][0]
    source = torch.cat([cls, frames])
    parts = [w.chunk(3) for w in (state["attention.in_proj_weight"], state["attention.in_proj_bias"])]
    q, k, v = (x @ w.T + b for x, w, b in zip((cls, source, source), *parts, strict=True))
    heads = [slice(h * WIDTH // config.heads, (h + 1) * WIDTH // config.heads) for h in range(config.heads)]
    read = torch.cat([(q[:, h] @ k[:, h].T / math.sqrt(WIDTH / config.heads)).softmax(-1) @ v[:, h] for h in heads], 1)
    read = read @ state["attention.out_proj.weight"].T + state["attention.out_proj.bias"] + cls
    found = layer_norm(read, [WIDTH], state["attention_norm.weight"], state["attention_norm.bias"], config.eps)
    summary = None
    if config.summary:
        summary = normalize(found[0] @ state["summarise.weight"].T + state["summarise.bias"], dim=0)
        found = found[1:]
    rows, words = [], []
    for number, one in enumerate(found):
        word = one @ state["project.weight"].T + state["project.bias"]
        if config.norm != "none":
            own = slice(number * WORDS, (number + 1) * WORDS) if config.norm == "each" else slice(None)
            mean, var, weight, bias = (
                state[f"norm.{name}"][own] for name in ("running_mean", "running_var", "weight", "bias")
            )
            word = (word - mean) / (var + 1e-5).sqrt() * weight + bias
        cosines = [
            -2.0 if int(i) in BANNED else float(word @ text.words[i] / word.norm() / text.words[i].norm()) for i in IDS
        ]
        rows.append(max(range(len(IDS)), key=cosines.__getitem__))
        words.append(text.words[IDS[rows[-1]]])
    return rows, text.of_words(torch.stack(words)[None])[0], summary


@pytest.mark.parametrize(
    "settings", [{}, {"norm": "shared", "heads": 2}, {"norm": "none", "keywords": 5}, {"summary": 7, "heads": 3}]
)
@torch.inference_mode()
def test_it_is_the_naive_loop(settings):
    branch, text = made(**settings)
    x, mask = features(5, 9, 1, 7)
    found = branch(x, mask, text)
    for i, length in enumerate(mask.sum(1).tolist()):
        rows, vector, summary = naive(branch, text, x[i, :length])
        assert found.rows[i].tolist() == rows
        torch.testing.assert_close(found.vector[i], vector, atol=1e-5, rtol=0)
        if summary is not None:
            torch.testing.assert_close(found.summary[i], summary, atol=1e-5, rtol=0)
    assert torch.equal(found.words, text.words[branch.vocabulary.ids_of(found.rows)])
    torch.testing.assert_close(found.shares.sum(-1), torch.ones(found.rows.shape))


@torch.inference_mode()
def test_an_item_alone_equals_the_item_in_a_padded_batch():
    branch, text = made(summary=4)
    x, mask = features(3, 11, 6)
    together = branch(x.masked_fill(~mask[..., None], torch.nan), mask, text)
    for i, length in enumerate(mask.sum(1).tolist()):
        alone = branch(x[i : i + 1, :length], mask[i : i + 1, :length], text)
        for name in ("vector", "shares", "words", "unquantised", "summary"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[i], atol=1e-5, rtol=0)
        assert torch.equal(alone.rows[0], together.rows[i])


@pytest.mark.parametrize("settings", [{}, {"learned": True}])
def test_what_is_read_is_a_row_and_its_gradient_is_that_of_the_mean(settings):
    branch, text = made(**settings)
    branch.train()
    x, mask = features(5, 9, 4)
    found = branch(x, mask, text)
    table = text.words[IDS]
    assert torch.equal(found.words, table[found.rows])
    got = torch.autograd.grad((found.words * torch.arange(WORDS)).sum(), list(branch.project.parameters()))
    again = branch.normed(branch.project(branch.found(x, mask)))
    torch.testing.assert_close(again, found.unquantised)
    similar = normalize(again, dim=-1) @ normalize(table, dim=-1).T
    banned = torch.tensor([int(i) in BANNED for i in IDS])
    shares = (similar[..., ~banned] / 0.1).softmax(-1)
    mean = shares @ table[~banned]
    wanted = torch.autograd.grad((mean * torch.arange(WORDS)).sum(), list(branch.project.parameters()))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", [{"learned": True, "summary": 5}, {"gumbel": True}, {"norm": "shared"}])
def test_a_gradient_reaches_every_parameter_and_no_text_encoder(settings):
    branch, text = made(**settings)
    branch.train()
    found = branch(*features(5, 9, 4), text)
    loss = (found.vector * torch.randn(DIM)).sum()
    if found.summary is not None:
        loss = loss + (found.summary * torch.randn(5)).sum()
    loss.backward()
    for name, p in branch.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        if name != "project.bias":  # which a batch norm takes out
            assert p.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in text.parameters())


def test_a_banned_row_is_never_taken():
    branch, text = made(gumbel=True, temperature=5.0)
    branch.train()
    allowed = {n for n, i in enumerate(IDS.tolist()) if i not in BANNED}
    taken = set()
    for seed in range(30):
        found = branch(*features(5, 9, 4, 2, 8, seed=seed), text)
        taken |= set(found.rows.flatten().tolist())
        assert not found.shares[..., branch.vocabulary.banned].any()
    assert taken == allowed


def test_noise_is_of_training_alone():
    branch, text = made(gumbel=True)
    given = features(*range(2, 12))

    def rows(seed):
        torch.manual_seed(seed)
        return branch(*given, text).rows

    assert torch.equal(rows(0), rows(1))
    branch.train()
    assert torch.equal(rows(0), rows(0)) and not torch.equal(rows(0), rows(1))


@pytest.mark.parametrize("norm", ["each", "shared"])
def test_keywords_start_with_the_mean_and_spread_of_embeddings(norm):
    """In each of their dimensions: what the norm is filled with lies as what it norms."""
    branch, text = made(norm=norm)
    branch.train()
    keywords = torch.randn(5000, 3, WORDS) * 7 + torch.arange(3.0)[:, None] - 4
    found = branch.normed(keywords)
    found = found if norm == "each" else found.flatten(0, 1)[:, None]
    for one in found.unbind(1):
        torch.testing.assert_close(one.mean(0), text.words[IDS].mean(0), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(one.std(0), text.words[IDS].std(0), atol=1e-4, rtol=1e-3)


def test_the_temperature_decays_with_steps_of_training_to_the_least():
    branch, text = made(temperature=2.0, decay=0.5, least=0.3)
    given = features(4, 6)
    assert branch.temperature.item() == 2
    branch(*given, text)  # in eval mode
    found = []
    branch.train()
    for _ in range(5):
        branch(*given, text)
        with torch.no_grad():
            branch(*given, text)  # learns nothing, so it does not count
        found.append(branch.temperature.item())
    assert found == pytest.approx([1, 0.5, 0.3, 0.3, 0.3])
    again = CascadedBranch(branch.config)
    again.load_state_dict(branch.state_dict())
    assert again.temperature == branch.temperature
    assert made()[0].temperature.item() == pytest.approx(0.1)


def test_what_can_not_be_is_said():
    branch, text = made()
    x, mask = features(4, 6)
    with pytest.raises(Error, match="an item without a frame"):
        branch(x, mask & (torch.arange(2) > 0)[:, None], text)
    with pytest.raises(Error, match="a batch of one item was given in training"):
        branch.train()(x[:1], mask[:1], text)
    for settings, said in (
        ({"heads": 5}, "can't be split into 5 heads"),
        ({"learned": True, "decay": 0.9}, "leave out learned or decay"),
        ({"temperature": 0}, '"temperature" is 0'),
        ({"size": 1}, '"size" is 1'),
    ):
        with pytest.raises(ModelError, match=said):
            CascadedConfig.parse({"width": WIDTH, "words": WORDS, "size": 9, **settings}, "here")
