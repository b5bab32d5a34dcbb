"""The loss of AudioToken's embedder: what it is, and that it teaches the embedder and nothing else."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import installed
from tests.helpers import disc, generator

from cymatic.cond import padded
from cymatic.data.batches import Batch
from cymatic.data.examples import Example
from cymatic.encoders.audiotoken import AudioTokenConfig, AudioTokenEmbedder
from cymatic.encoders.beats import BeatsConfig, BeatsEncoder
from cymatic.errors import Error, ModelError, PromptError
from cymatic.hub.readers.stable_diffusion import read_stable_diffusion
from cymatic.training.settings import TrainingSettings
from cymatic.training.tasks.audiotoken import AudioTokenLoss, AudioTokenTask
from cymatic.training.tasks.task import Task

SIZES = {
    "patch": 16, "patch_width": 8, "width": 12, "depth": 2, "heads": 2, "mlp": 16, "position_taps": 4,
    "position_groups": 2, "dropout": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def diffusion(reference):
    installed("diffusers", "hub")
    installed("transformers", "hub")
    model = read_stable_diffusion(reference("diffusers_stable_diffusion").folder)
    # The fixture's UNet is random: there is more for a word to mend where it predicts pictures rather than noise, and
    # where words matter more to it.
    model.noising = replace(model.noising, target="sample")
    with torch.no_grad():
        for name, p in model.unet.named_parameters():
            p.mul_(5 if name.endswith("attn2.to_out.0.weight") else 1)
    return model


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return BeatsEncoder(BeatsConfig(**SIZES))


def fresh_embedder(diffusion):
    return AudioTokenEmbedder(AudioTokenConfig(inside=24, dim=diffusion.width, layers=(0, 1)))


def loss_of(encoder, diffusion, **weights):
    torch.manual_seed(1)
    return AudioTokenLoss(encoder, fresh_embedder(diffusion), diffusion, **weights)


@pytest.fixture(scope="module")
def pairs(diffusion):
    """Eight sounds, each higher, shorter and quieter than the one before, and a picture for each."""
    time = torch.arange(4000) / 16_000
    waves = [0.5 * 0.4**i * torch.sin(2 * torch.pi * 150 * (i + 1) * time) for i in range(8)]
    sounds = padded([wave[: 4000 - 100 * i] for i, wave in enumerate(waves)])
    side = diffusion.size[0]
    colours = [(i % 2, i // 2 % 2, i // 4) for i in range(8)]
    pixels = np.stack([disc(0.3 + 0.08 * i, colour, side).pixels for i, colour in enumerate(colours)])
    return sounds, torch.from_numpy(pixels).permute(0, 3, 1, 2).float()


def digest(*modules):
    held = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            held.update(name.encode() + tensor.numpy().tobytes())
    return held.hexdigest()


def test_eight_pairs_are_learned_and_what_is_frozen_stays(encoder, diffusion, pairs):
    loss = loss_of(encoder, diffusion, l1=0.0)
    loss.train()
    before = digest(encoder, diffusion)
    assert {name.partition(".")[0] for name in loss.state_dict()} == {"embedder"}
    assert not any(module.training for part in loss.frozen for module in part.modules())

    sounds, pictures = pairs

    def measured():
        loss.eval()
        with torch.no_grad():
            found = [loss(sounds, pictures, generator(seed))["loss"].item() for seed in range(100, 104)]
        loss.train()
        return sum(found) / len(found)

    first = measured()
    optimizer = torch.optim.AdamW([p for p in loss.parameters() if p.requires_grad], lr=1e-2)
    for step in range(30):
        torch.manual_seed(step)  # of dropout
        optimizer.zero_grad()
        loss(sounds, pictures, generator(100 + step % 4))["loss"].backward()
        optimizer.step()
    last = measured()
    assert last < 0.75 * first, (first, last)
    assert digest(encoder, diffusion) == before
    assert all(p.grad is None for part in loss.frozen for p in part.parameters())


def test_a_gradient_reaches_all_of_the_embedder(encoder, diffusion, pairs):
    loss = loss_of(encoder, diffusion, l2=0.1, caption=0.1)
    loss(*pairs, generator(), captions=["a photo"] * 8)["loss"].backward()
    for name, p in loss.named_parameters():
        # The bias of a score moves all scores, which a softmax does not see.
        assert p.grad is not None and (name == "embedder.score.bias" or p.grad.abs().max() > 0), name


def test_terms_are_what_the_formula_says(encoder, diffusion, pairs):
    loss = loss_of(encoder, diffusion, l1=0.5, l2=0.25, caption=2.0).eval()
    captions = ["a photo", "on the", "in", "that", "a", "th", "on", "a photo"]
    sounds, pictures = pairs
    with torch.no_grad():
        terms = loss(sounds, pictures, generator(5), captions=captions)
        words = loss.embedder(*encoder.layers(sounds, (0, 1)))
        states = diffusion.text_states(["a photo of <*>"] * 8, words)
        wanted = diffusion.errors(states, pictures, generator(5)).mean()
        cosine = torch.stack(
            [
                torch.cosine_similarity(word, diffusion.embedding(caption).mean(0), dim=0)
                for word, caption in zip(words, captions, strict=True)
            ]
        )
    torch.testing.assert_close(terms["denoising"], wanted)
    torch.testing.assert_close(terms["l1"], words.abs().mean())
    torch.testing.assert_close(terms["l2"], words.norm(dim=1).square().mean())
    torch.testing.assert_close(terms["caption"], (1 - cosine.mean()).square())
    whole = terms["denoising"] + 0.5 * terms["l1"] + 0.25 * terms["l2"] + 2 * terms["caption"]
    torch.testing.assert_close(terms["loss"], whole)
    assert set(loss_of(encoder, diffusion, l1=0.0)(sounds, pictures, generator())) == {"loss", "denoising"}


def test_what_can_not_be_learned_from_is_said(encoder, diffusion, pairs):
    sounds, pictures = pairs
    loss = loss_of(encoder, diffusion, caption=0.1)
    with pytest.raises(Error, match="8 sounds and 7 pictures"):
        loss(sounds, pictures[:7], generator())
    with pytest.raises(Error, match="give a caption for each sound"):
        loss(sounds, pictures, generator())
    with pytest.raises(Error, match="give multiples of"):
        loss(sounds, pictures[..., :-1], generator(), captions=["a"] * 8)
    with pytest.raises(PromptError, match="has no <"):
        loss_of(encoder, diffusion, template="a photo")
    config = AudioTokenConfig(inside=5, dim=diffusion.width, layers=(0,))
    with pytest.raises(ModelError, match="gives 12 numbers and this embedder reads 5"):
        AudioTokenLoss(encoder, AudioTokenEmbedder(config), diffusion)


def test_the_task_is_a_function_of_its_seed_and_keeps_the_embedder(encoder, diffusion, pairs, tmp_path):
    sounds, pictures = pairs
    task = AudioTokenTask("embedder", loss_of(encoder, diffusion)).train()
    assert isinstance(task, Task)
    lengths = torch.full((8,), pictures.shape[-1])
    batch = Batch(pictures, lengths, ["a photo"] * 8, {"audio": sounds})
    first, again, other = (task(batch, seed)["loss"] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other) and task.steps == 3
    examples = [Example(one, {"audio": wave}, "a photo") for one, wave in zip(pictures, sounds.items(), strict=True)]
    task.eval()
    measured = task.measure(examples, 3)
    assert measured == task.measure(examples, 3) and measured["loss"] == measured["denoising"] > 0
    groups = task.parameter_groups(TrainingSettings())
    assert sum(len(group["params"]) for group in groups) == len(list(task.loss.embedder.parameters()))
    task.save_parts(tmp_path, 3)
    fresh = AudioTokenTask("embedder", AudioTokenLoss(encoder, fresh_embedder(diffusion), diffusion))
    fresh.load_parts(tmp_path)
    assert fresh.eval().measure(examples, 3) == measured
    assert not any("unet" in name for name in task.state_dict())
    with pytest.raises(Error, match='conditioned on "speech"'):
        AudioTokenTask("embedder", task.loss, given="speech")(batch, 0)
