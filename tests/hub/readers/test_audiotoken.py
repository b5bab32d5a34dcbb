"""AudioToken's embedder against what its own code says: the fixture, and other sizes against a naive forward."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, linear, normalize

from cymatic.encoders.audiotoken import AudioTokenConfig, AudioTokenEmbedder
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.audiotoken import read_audiotoken
from cymatic.hub.readers.beats import read_beats

FILE = "embedder_learned_embeds.bin"


@pytest.fixture(scope="module")
def fixture(reference):
    return reference("audiotoken_embedder")


class Times(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, x):
        return x * self.mask


@torch.inference_mode()
def test_it_says_what_their_code_says(fixture):
    read, tokens = read_audiotoken(fixture.folder / FILE), fixture.inputs["features"]
    assert (read.config.inside, read.config.dim) == (fixture.config["input_size"], fixture.config["output_size"])
    fixture.agrees("token_no_dropout", read(tokens))
    everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool)
    fixture.agrees("attention", read.scores(read.words(tokens), everywhere).softmax(-1))
    assert torch.equal(read(tokens), read(tokens)) and torch.equal(read(tokens), read(tokens, everywhere))
    read.dropout = Times(fixture.inputs["dropout_mask"])
    fixture.agrees("token_with_mask", read(tokens))


def published(inside, dim, seed=0):
    """Random tensors under the names and in the shapes that their code has."""
    shapes = {"fc1": (inside, inside), "fc2": (dim, inside), "fga.un_models.0.embed": (dim, dim, 1)}
    shapes |= {"fga.un_models.0.feature_reduce": (1, dim, 1)}
    shapes |= {f"fga.pp_models.0.embed_{axis}": (dim, dim, 1) for axis in "XY"}
    generator = torch.Generator().manual_seed(seed)
    tensors = {"fga.reduce_potentials.0.weight": torch.tensor([[[1.5], [4.0]]])}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(shape[1])
        tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator) / 3
    return tensors


def naive(w, tokens):
    """The word of one item's tokens `[n, inside]`, written out."""

    def layer(name, x):
        return linear(x, w[f"{name}.weight"].flatten(1), w[f"{name}.bias"])

    x = layer("fc2", gelu(layer("fc1", tokens)))
    unary = layer("fga.un_models.0.feature_reduce", layer("fga.un_models.0.embed", x).relu())[:, 0]
    first, second = (normalize(layer(f"fga.pp_models.0.embed_{axis}", x), dim=1) for axis in "XY")
    a, b = w["fga.reduce_potentials.0.weight"].flatten()
    return (a * unary + b * (first @ second.T).mean(1)).softmax(0) @ x


@pytest.mark.parametrize(("inside", "dim"), [(20, 7), (5, 32), (1, 1)])
@torch.inference_mode()
def test_other_sizes_are_what_a_naive_forward_says_alone_and_in_a_padded_batch(inside, dim, tmp_path):
    tensors = published(inside, dim)
    torch.save(tensors, tmp_path / FILE)
    read = read_audiotoken(tmp_path / FILE, layers=(1, 2))
    assert read.config == AudioTokenConfig(inside=inside, dim=dim, layers=(1, 2))
    items = [torch.randn(n, inside) for n in (9, 1, 4)]
    together = nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=math.nan)
    made = read(together, torch.arange(9) < torch.tensor([[9], [1], [4]]))
    for i, item in enumerate(items):
        torch.testing.assert_close(made[i], naive(tensors, item), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made[i], read(item[None])[0], atol=1e-5, rtol=1e-5)
    save_part(tmp_path / "part", read)
    assert torch.equal(load_part(tmp_path / "part", (AudioTokenEmbedder,))(items[0][None]), read(items[0][None]))


def test_a_word_is_random_in_training_mode_only(tmp_path):
    torch.save(published(6, 30), tmp_path / FILE)
    read, tokens = read_audiotoken(tmp_path / FILE), torch.randn(2, 5, 6)
    assert torch.equal(read(tokens), read(tokens))
    read.train()
    assert not torch.equal(read(tokens), read(tokens))
    read(tokens).square().sum().backward()
    # The bias of a score moves all of them, which a softmax does not see.
    assert all(p.grad is not None and (p is read.score.bias or p.grad.abs().max() > 0) for p in read.parameters())


def test_what_can_not_be_read_is_said_in_a_sentence(reference, tmp_path):
    def changed(change):
        tensors = published(6, 4)
        change(tensors)
        torch.save(tensors, tmp_path / FILE)
        return tmp_path / FILE

    unary = "fga.un_models.0.embed.weight"
    for change, words in (
        (lambda w: w.pop("fc1.bias"), "no whole embedder of AudioToken of its size: fc1.bias is missing"),
        (lambda w: w.pop("fc2.weight"), "fc2.weight should tell a size, and it is missing"),
        (lambda w: w.update(more=torch.zeros(2)), "more is unexpected"),
        (lambda w: w.update({unary: torch.zeros(4, 4)}), r"embed.weight is \[4, 4\] instead of \[4, 4, 1\]"),
        (lambda w: w[unary].fill_(math.inf), "embed.weight holds NaN or infinity"),
        (lambda w: w.update({"fc2.weight": torch.zeros(2**15, 1)}), "describes a far larger network"),
        (lambda w: w.update({"fc2.weight": torch.zeros(1).expand(2**15, 2**17)}), "claims more numbers"),
        (lambda w: w.update({"fc2.weight": torch.zeros(2**15 + 1, 1)}), '"dim" is 32769'),
        (lambda w: w.clear(), "has no state_dict"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            read_audiotoken(changed(change))
        assert "\n" not in str(caught.value)
    data = changed(lambda w: None).read_bytes()
    (tmp_path / FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"can't be read as a PyTorch checkpoint|no archive of PyTorch"):
        read_audiotoken(tmp_path / FILE)
    embedder = AudioTokenEmbedder(AudioTokenConfig(inside=6, dim=4)).eval()
    with pytest.raises(Error, match="tokens of 5 numbers"):
        embedder(torch.zeros(1, 3, 5))
    with pytest.raises(Error, match="without a token"):
        embedder(torch.zeros(2, 3, 6), torch.tensor([[True] * 3, [False] * 3]))


def test_neither_reader_takes_the_other_s_file(reference):
    beats, embedder = reference("beats").folder / "beats.pt", reference("audiotoken_embedder").folder / FILE
    with pytest.raises(ModelError, match="is no checkpoint of BEATs"):
        read_beats(embedder)
    with pytest.raises(ModelError, match="has no state_dict"):
        read_audiotoken(beats)
