"""Codecs of pictures through the loop: the recipes, discriminators of patches, resuming, what is refused."""

import json

import numpy as np
import pytest
import torch
from tests.helpers import autoencoder_of, batch_of, quiet

import cymatic
from cymatic.errors import Error
from cymatic.media.picture import Picture, PictureSpec, prepare
from cymatic.training.muon import Muon, clip_each_side
from cymatic.training.recipe import make_recipe
from cymatic.training.train import train

TINY = [
    "codec.picture={size: 32}", "codec.width=8", "codec.patch=[2,2]", "codec.groups=4", "codec.latent=8",
    "codec.training.batch=4", "codec.training.warmup=2",
]  # fmt: skip
CODES = ["codec.quantizer={size: 16, dim: 8, lookup_dim: 4, metric: cosine, restart: encoder}"]
MET = ["codec.discriminators.width=4", "codec.discriminators.start=3", "codec.discriminators.warmup=2"]
COLOURS = {"red": (0.9, 0.1, 0.1), "blue": (0.1, 0.2, 0.9)}


def picture(name: str, take: int) -> Picture:
    """A disc of the colour, somewhere, on white."""
    chance = np.random.default_rng(take)
    y, x = np.mgrid[:32, :32]
    centre, radius = chance.uniform(10, 22, 2), chance.uniform(5, 10)
    inside = (((x - centre[0]) ** 2 + (y - centre[1]) ** 2) < radius**2)[..., None]
    return Picture(np.where(inside, np.array(COLOURS[name]), 1.0))


def targets(count: int = 4) -> torch.Tensor:
    pixels = [picture(name, take).pixels for take in range(count // 2) for name in COLOURS]
    return torch.from_numpy(np.stack(pixels)).movedim(-1, 1).float()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`red_1.png`, `blue_1.png`, ..."""
    root = tmp_path_factory.mktemp("discs")
    for name in COLOURS:
        for take in range(1, 7):
            picture(name, take).write(root / f"{name}_{take}.png")
    return root


def picture_codec(*settings: str):
    return make_recipe("picture-codec", [*TINY, *CODES, *MET, *settings])


@pytest.mark.parametrize("conditional", ["false", "true"])
def test_discriminators_see_three_channels_and_weigh_themselves(conditional):
    task = autoencoder_of(picture_codec(f"codec.discriminators.conditional={conditional}")).train()
    first = task.adversary.discriminators.discriminators[0].layers[0]
    assert first.in_channels == 3 and task.stage.discriminators.adaptive
    terms = [task(batch_of(targets(), "red"), step) for step in range(5)]
    assert set(terms[2]) == {"l1", "perceptual", "codebook", "commitment", "loss"}
    assert {"adversarial", "discriminators"} <= set(terms[4])
    terms[4]["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for p in task.adversary.parameters() if p.dim() > 1)
    assert all(p.grad is not None for name, p in task.part.named_parameters())


def test_the_perceptual_term_is_part_of_the_loss():
    with_it, without = (
        autoencoder_of(picture_codec(f"codec.objective={{l1: 1.0, perceptual: {weight}}}")).train()(
            batch_of(targets()), 0
        )
        for weight in (2.0, 0.0)
    )
    assert "perceptual" not in without
    assert (with_it["loss"] - without["loss"]).item() == pytest.approx(2 * with_it["perceptual"].item(), rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["codec.objective={mel: 1.0}"], "mel compare waveforms"),
        (["codec.objective={l1: 1.0, opening: 0.5}"], "change waveforms"),
        (["codec.augment={}"], "change waveforms"),
        (["codec.discriminators.kind=spectrograms"], "compare waveforms"),
    ],
)
def test_what_is_for_sounds_is_refused(settings, said):
    with pytest.raises(Error, match=said):
        autoencoder_of(picture_codec(*settings))


def test_the_perceptual_term_is_for_pictures():
    with pytest.raises(Error, match=r"objective\.perceptual compares pictures"):
        autoencoder_of(make_recipe("melspec-gpt-small", ["codec.objective={perceptual: 1.0}"]))


def test_a_codec_trains_resumes_and_gives_a_picture_back(folder, tmp_path):
    recipe = picture_codec(f"data.folder={folder}", "codec.training.steps=6", "codec.training.checkpoint_steps=3")
    reports = []
    train(recipe, tmp_path / "whole", say=quiet, on_report=reports.append)
    held = [report.valid for report in reports if report.valid]
    assert held and all(5 < one["psnr"] < 60 and 0 <= one["perplexity"] <= 1 for one in held)

    class Stop(Exception): ...

    def stop(at):
        if at.step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(recipe, tmp_path / "run", say=quiet, on_report=stop)
    train(recipe, tmp_path / "run", resume=True, say=quiet)
    weights = [(tmp_path / run / "codec" / "model.safetensors").read_bytes() for run in ("whole", "run")]
    assert weights[0] == weights[1]
    model = cymatic.load(tmp_path / "run")
    made = model.reconstruct(picture("red", 1))
    assert isinstance(made, Picture) and (made.height, made.width) == (32, 32)
    assert model.encode(picture("red", 1)).codes.shape == (1, 8, 8)
    assert model.codec.config.picture.size == 32


def test_latents_for_a_flow(folder, tmp_path):
    recipe = make_recipe(
        "picture-autoencoder", [*TINY, f"data.folder={folder}", "codec.training.steps=3"],
    )  # fmt: skip
    reports = []
    train(recipe, tmp_path / "run", say=quiet, on_report=reports.append)
    assert {"l1", "perceptual", "white"} <= set(reports[-1].losses)
    model = cymatic.load(tmp_path / "run")
    latent = model.encode(picture("blue", 2))
    assert latent.codes is None and latent.z.shape == (1, 8, 8, 8)
    assert isinstance(model.reconstruct(picture("blue", 2)), Picture)


def test_pixel_by_pixel(folder, tmp_path):
    recipe = make_recipe("igpt", [
        f"data.folder={folder}", "palette.part={kind: palette, picture: {size: 8}, colours: 16}",
        "palette.training.batch=4",
        "prior.part={kind: gpt, width: 32, depth: 1, heads: 2, order: row-major, end: false}", "prior.encoder.dim=16",
        "prior.training={steps: 25, batch: 4, warmup: 2, learning_rate: 0.01}",
    ])  # fmt: skip
    losses = []
    train(recipe, tmp_path / "run", say=quiet, on_report=lambda at: losses.append(at.losses["loss"]))
    assert losses[-1] < 0.8 * losses[1]  # the first is the palette's
    model = cymatic.load(tmp_path / "run")
    one, two = model("red", n=2, seed=3)
    assert (one.height, one.width) == (8, 8) and not np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(model("red", seed=4).pixels, two.pixels)
    palette = {tuple(colour) for colour in model.codec.colours.detach().clamp(0, 1).numpy().round(4).tolist()}
    assert {tuple(colour) for colour in one.pixels.reshape(-1, 3).round(4).tolist()} <= palette
    assert not np.array_equal(model("red", seed=3, guidance=1.0).pixels, model("red", seed=3, guidance=6.0).pixels)
    # The upper half of a picture is kept, and the prior goes on below it.
    codes = model.codes_of(picture("blue", 1))[0][None]
    with torch.inference_mode():
        whole, widths = model.prior.sample(model.condition("blue"), [1], start=codes[:, :4])
    assert torch.equal(whole[:, :4], codes[:, :4]) and whole.shape == (1, 8, 8) and widths.tolist() == [8]


def test_words_to_pictures_by_codes(folder, tmp_path):
    recipe = make_recipe("vqgan-gpt", [
        *TINY, *CODES, *MET, f"data.folder={folder}", "codec.training.steps=2", "prior.encoder.dim=16",
        "prior.part={kind: gpt, width: 32, depth: 1, heads: 2, order: row-major, end: false}",
        "prior.training={steps: 3, batch: 4, warmup: 2}",
    ])  # fmt: skip
    train(recipe, tmp_path / "run", say=quiet)
    made = cymatic.load(tmp_path / "run")("red", seed=1)
    assert (made.height, made.width) == (32, 32) and made.info["prompt"] == "red"


def test_variants_in_time_are_refused(folder, tmp_path):
    recipe = make_recipe("igpt", [
        f"data.folder={folder}", "palette.part={kind: palette, picture: {size: 8}, colours: 16}", "prior.variants=2",
        "prior.training.steps=2",
    ])  # fmt: skip
    with pytest.raises(Error, match="all have one length; set it to 1"):
        train(recipe, tmp_path / "run", say=quiet)


@pytest.mark.slow
def test_it_learns_eight_emoji(data_dir):
    """The recipe's codec at 32 px on real pictures: 18.7 dB after 100 steps, with 119 codes in 128 places."""
    rows = [json.loads(line) for line in (data_dir / "emoji/manifest.jsonl").read_text().splitlines()[:8]]
    spec = PictureSpec(size=32)
    eight = torch.stack([prepare(Picture.read(data_dir / "emoji" / row["picture"]), spec) for row in rows])
    task = autoencoder_of(make_recipe("picture-codec", [
        "codec.picture={size: 32}", "codec.width=24", "codec.discriminators=null",
        "codec.quantizer.decay=0.9",
    ])).train()  # fmt: skip
    settings = task.stage.training
    optimizer = Muon(task.parameter_groups(settings), betas=settings.betas)
    steps = 100
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1, (step + 1) / 10, 2 * (1 - step / steps))
        optimizer.zero_grad()
        task(batch_of(eight), step)["loss"].backward()
        clip_each_side(optimizer, settings.clip)
        optimizer.step()
    codec = task.part.eval()
    codec.steps_trained.fill_(steps)
    with torch.inference_mode():
        latent = codec.encode(eight)
        assert float(codec.readings(codec.decode(latent), eight)["psnr"]) > 17.5
        assert len(latent.codes.unique()) > 90  # of 128 places
