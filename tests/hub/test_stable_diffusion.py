"""Stable Diffusion's folders against what diffusers says of them: the fixture, and its own pipeline."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import installed
from tests.helpers import generator

from cymatic.errors import Cancelled, Error, ModelError, PromptError
from cymatic.hub.readers.stable_diffusion import is_stable_diffusion, read_stable_diffusion

# Of diffusers' own, with today's numpy.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning:diffusers")

NEGATIVE = ""
WEIGHTS = {
    "text_encoder": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}


@pytest.fixture(scope="module")
def packages():
    installed("diffusers", "hub")
    installed("transformers", "hub")


@pytest.fixture(scope="module")
def fixture(reference, packages):
    return reference("diffusers_stable_diffusion")


def copied(fixture, folder):
    shutil.copytree(fixture.folder, folder, ignore=shutil.ignore_patterns("*.npz", "published_names", "fixture.json"))
    return folder


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture(scope="module")
def folders(fixture, tmp_path_factory):
    """The fixture's folder; the same under published names, with the index and the tokenizer as they are on the hub;
    and that pickled."""
    root = tmp_path_factory.mktemp("stable-diffusion")
    held = {"as it is": fixture.folder, "published names": root / "published", "pickled": root / "pickled"}
    for folder in (held["published names"], held["pickled"]):
        copied(fixture, folder)
        shutil.copytree(fixture.folder / "published_names", folder, dirs_exist_ok=True)
        changed(
            folder / "model_index.json",
            safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
            feature_extractor=["transformers", "CLIPImageProcessor"],
        )
        (folder / "tokenizer" / "tokenizer.json").unlink()
    for part, name in WEIGHTS.items():
        weights = held["pickled"] / part / name
        ending = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
        torch.save(load_file(weights), held["pickled"] / part / ending)
        weights.unlink()
    return held


@pytest.fixture(scope="module", params=["as it is", "published names", "pickled"])
def read(request, folders):
    return read_stable_diffusion(folders[request.param])


@pytest.fixture(scope="module")
def model(folders):
    return read_stable_diffusion(folders["as it is"])


def states_of(model, fixture):
    """Those of the negative prompt and of the prompt, in the order of the fixture."""
    return model.text_states([NEGATIVE, fixture.config["prompt"]])


def run(model, fixture, states, unconditional):
    latents = fixture.inputs["latents"]
    how = {"steps": fixture.config["steps"], "guidance": fixture.config["guidance"]}
    return model.sample(latents, states, unconditional, [generator()] * len(latents), **how)


def upright(pictures):
    return pictures.permute(0, 2, 3, 1)


@torch.inference_mode()
def test_each_part_says_what_diffusers_says(read, fixture):
    fixture.agrees("input_ids", read.ids([NEGATIVE, fixture.config["prompt"]]))
    states = states_of(read, fixture)
    fixture.agrees("text_states", states)
    latents, picture = fixture.inputs["latents2"], fixture.inputs["image"]
    fixture.agrees("unet_out", read.unet(latents, fixture.config["t"], states).sample)
    posterior = read.vae.encode(picture).latent_dist
    fixture.agrees("vae_mean", posterior.mean)
    fixture.agrees("vae_logvar", posterior.logvar)
    fixture.agrees("vae_mean", read.latents(picture / 2 + 0.5, None) / read.scale)
    fixture.agrees("vae_decoded", read.vae.decode(latents / read.scale).sample)
    wanted = (fixture.expected["vae_decoded"] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(read.decode(latents), wanted, atol=fixture.atol["vae_decoded"], rtol=0)
    scheduler = read.noising.make()
    scheduler.set_timesteps(fixture.config["steps"])
    fixture.agrees("timesteps", scheduler.timesteps)


@torch.inference_mode()
def test_whole_runs_draw_what_diffusers_draws(read, fixture):
    without, within = states_of(read, fixture).split(1)
    made = run(read, fixture, within, without)
    fixture.agrees("latents_final", made)
    fixture.agrees("image", upright(read.decode(made)))
    word = fixture.inputs["token_embedding"][None]
    within = read.text_states([fixture.config["prompt"]], word)
    fixture.agrees("image_from_token", upright(read.decode(run(read, fixture, within, without))))


def test_the_placeholder_is_one_token(model, fixture):
    ids, wanted = model.ids([fixture.config["prompt"]], pseudo=True)[0], fixture.expected["input_ids_placeholder"][0]
    assert ids[: len(wanted)].tolist() == [-1 if one == model.text.rows else one for one in wanted.tolist()]
    assert (ids[len(wanted) :] == wanted[-1]).all()


def test_tokens_are_those_of_their_tokenizer(model, fixture):
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer.from_pretrained(str(fixture.folder / "tokenizer"), local_files_only=True)
    for text in ("", "A photo", "don't, é!", "12 x", "the\n on", "日本", "naïve"):
        wanted = theirs(text, padding="max_length", max_length=model.positions)["input_ids"]
        assert model.ids([text])[0].tolist() == wanted, text


@torch.inference_mode()
def test_the_embedding_of_a_word_in_place_of_the_word_gives_the_same(model):
    words = ["th", "!", "s"]  # one token each, in any vocabulary of byte pairs
    held = [model.embedding(word) for word in words]
    held, words = zip(*[(one[0], word) for one, word in zip(held, words, strict=True) if len(one) == 1], strict=True)
    assert len(words) > 1
    plain = model.text_states([f"a {word} o" for word in words])
    assert torch.equal(model.text_states(["a <*> o"] * len(words), torch.stack(held)), plain)
    both = model.text_states(["<*> a <*>"] * len(words), torch.stack(held))
    assert torch.equal(both, model.text_states([f"{word} a {word}" for word in words]))
    assert torch.equal(model.text_states([f"a {word} o" for word in words]), plain)  # nothing is left behind


def test_a_gradient_reaches_the_word_and_nothing_else(model):
    word = torch.randn(2, model.width, generator=generator(), requires_grad=True)
    states = model.text_states(["a <*>"] * 2, word)
    pictures = torch.rand(2, 3, *model.size, generator=generator())
    model.errors(states, pictures, generator()).sum().backward()
    assert (word.grad.abs().sum(1) > 0).all()
    assert all(p.grad is None for p in model.parameters())


def test_frozen_stays_frozen(folders):
    model = read_stable_diffusion(folders["as it is"])
    outer = torch.nn.ModuleDict({"model": model})
    outer.train()
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.train().modules())


SCHEDULERS = [
    ("PNDMScheduler", {}),
    ("PNDMScheduler", {"skip_prk_steps": False}),
    ("DDIMScheduler", {"prediction_type": "v_prediction"}),
    ("DDIMScheduler", {"clip_sample": True, "steps_offset": 0}),  # which their pipeline corrects
    ("DDPMScheduler", {}),
    ("LMSDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2DiscreteScheduler", {}),
    ("KDPM2AncestralDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverSinglestepScheduler", {}),
    ("DEISMultistepScheduler", {}),
    ("UniPCMultistepScheduler", {}),
]


@pytest.fixture(scope="module", params=SCHEDULERS, ids=lambda one: f"{one[0]}{'-'.join(('', *one[1]))}")
def scheduled(request, fixture, tmp_path_factory):
    """The fixture's folder with another scheduler."""
    name, more = request.param
    folder = copied(fixture, tmp_path_factory.mktemp("scheduled") / "model")
    changed(folder / "model_index.json", scheduler=["diffusers", name])
    changed(folder / "scheduler" / "scheduler_config.json", _class_name=name, **more)
    return folder


@torch.inference_mode()
def test_every_scheduler_draws_what_their_pipeline_draws(scheduled, fixture):
    from diffusers import StableDiffusionPipeline

    theirs = StableDiffusionPipeline.from_pretrained(str(scheduled), local_files_only=True)
    theirs.set_progress_bar_config(disable=True)
    ours = read_stable_diffusion(scheduled)
    latents, steps = fixture.inputs["latents"][:1], 5
    wanted = theirs(
        fixture.config["prompt"], negative_prompt=NEGATIVE, latents=latents, num_inference_steps=steps,
        guidance_scale=3.0, generator=generator(3), output_type="latent",
    ).images  # fmt: skip
    without, within = states_of(ours, fixture).split(1)
    told = []
    made = ours.sample(
        latents, within, without, [generator(3)], steps=steps, guidance=3.0, on_step=lambda *at: told.append(at)
    )
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-4)
    assert told[-1] == (len(told), len(told)) and len(told) >= steps


@pytest.fixture(scope="module")
def second(fixture, tmp_path_factory):
    """Of other sizes and settings by diffusers' own saving: like Stable Diffusion 2, and not square."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(fixture.folder / "tokenizer"), local_files_only=True, pad_token="!")
    torch.manual_seed(3)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=20, intermediate_size=28, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=20, hidden_act="gelu", eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=(4, 8), block_out_channels=(8, 12, 16), layers_per_block=1, cross_attention_dim=20,
        attention_head_dim=[2, 3, 4], norm_num_groups=4, use_linear_projection=True, upcast_attention=True,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        in_channels=3, out_channels=3,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        latent_channels=3, block_out_channels=(4, 8, 8), norm_num_groups=4, layers_per_block=1, scaling_factor=0.3,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", prediction_type="v_prediction", steps_offset=1,
        clip_sample=False,
    )  # fmt: skip
    whole = diffusers.StableDiffusionPipeline(
        vae, CLIPTextModel(text), tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )
    tokenizer.model_max_length = 20
    folder = tmp_path_factory.mktemp("second") / "model"
    whole.save_pretrained(str(folder))
    whole.set_progress_bar_config(disable=True)
    return whole, folder


@torch.inference_mode()
def test_other_sizes_are_what_their_pipeline_says(second):
    theirs, folder = second
    ours = read_stable_diffusion(folder)
    assert ours.size == (16, 32) and ours.width == 20 and ours.positions == 20 and ours.scale == 0.3
    noise = torch.randn(1, 3, 4, 8, generator=generator(1))
    without, within = ours.text_states(["on", "a photo in the"]).split(1)
    wanted = theirs(
        "a photo in the", negative_prompt="on", latents=noise, num_inference_steps=4, guidance_scale=4.0,
        output_type="pt",
    ).images  # fmt: skip
    made = ours.sample(noise, within, without, [generator()], steps=4, guidance=4.0)
    torch.testing.assert_close(ours.decode(made), wanted, atol=1e-4, rtol=0)
    assert ours.draw(within, without, [0], steps=2).shape == (1, 3, 16, 32)


def test_a_seed_draws_the_same_alone_and_in_a_batch(scheduled):
    model = read_stable_diffusion(scheduled)
    states, without = model.text_states(["a photo", "on"]), model.text_states([NEGATIVE])
    together = model.draw(states, without, [5, 3], steps=4)
    assert together.shape == (2, 3, *model.size) and together.min() >= 0 and together.max() <= 1
    for i, seed in enumerate([5, 3]):
        alone = model.draw(states[i : i + 1], without, [seed], steps=4)
        torch.testing.assert_close(together[i], alone[0], atol=2e-5, rtol=0)


def test_a_seed_decides(model):
    states, without = model.text_states(["a photo"]), model.text_states([NEGATIVE])
    one, again, other = (model.draw(states, without, [seed], steps=3) for seed in (5, 5, 6))
    assert torch.equal(one, again) and not torch.allclose(one, other)


@torch.inference_mode()
def test_guidance_and_size(model):
    states, without = model.text_states(["a photo"]), model.text_states([NEGATIVE])
    other = model.text_states(["on"])
    assert torch.equal(
        model.draw(states, without, [1], steps=3, guidance=1), model.draw(states, other, [1], steps=3, guidance=1)
    )
    assert torch.equal(
        model.draw(states, without, [1], steps=3, guidance=0), model.draw(other, without, [1], steps=3, guidance=0)
    )
    height, width = model.factor * 5, model.factor * 3
    assert model.draw(states, without, [1], steps=2, size=(height, width)).shape == (1, 3, height, width)
    assert model.draw(states, without, [1], steps=2, size=height).shape == (1, 3, height, height)


def test_drawing_can_be_followed_and_ended(model):
    states, without = model.text_states(["a photo"]), model.text_states([NEGATIVE])
    told = []

    def on_step(done, steps):
        told.append((done, steps))
        if done == 3:
            raise Cancelled("nobody waits for it")

    with pytest.raises(Cancelled, match="nobody waits"):
        model.draw(states, without, [1], steps=6, on_step=on_step)
    steps = told[0][1]
    assert told == [(1, steps), (2, steps), (3, steps)] and steps >= 6


def test_what_can_not_be_drawn_is_said(model):
    states, without = model.text_states(["a photo"]), model.text_states([NEGATIVE])
    for settings, words in (
        ({"steps": 0}, "0 steps were asked for; give 1 to"),
        ({"guidance": math.nan}, "guidance is nan"),
        ({"guidance": -1}, "guidance is -1"),
        ({"size": model.factor * 4 + 1}, f"give multiples of {model.factor}"),
        ({"size": 0}, "give multiples of"),
        ({"size": (model.factor, 8192)}, "up to 4096"),
    ):
        with pytest.raises(Error, match=words):
            model.draw(states, without, [1], **settings)
    for check, value, words in (
        (model.check_steps, 2.5, "the number of steps is 2.5"),
        (model.check_guidance, "much", "guidance is 'much'"),
        (model.sides, (8, 8, 8), "give one number of pixels or .height, width."),
        (model.sides, 8.5, "the height is 8.5"),
    ):
        with pytest.raises(Error, match=words):
            check(value)
    with pytest.raises(Error, match="2 seeds were given for 1 prompts"):
        model.draw(states, without, [1, 2])
    for call, words in (
        (lambda: model.text_states(["a " * model.positions]), "is too long: .* this model reads"),
        (lambda: model.text_states(["a \x07"]), "control character"),
        (lambda: model.text_states(["  "]), "is empty"),
        (lambda: model.text_states(["a photo"], torch.zeros(1, model.width)), r"has no <\*>"),
        (lambda: model.embedding(""), "no tokens"),
    ):
        with pytest.raises(PromptError, match=words):
            call()
    for shape in ((2, model.width), (1, model.width + 1)):
        with pytest.raises(Error, match="words of the shape"):
            model.text_states(["<*>"], torch.zeros(shape))


@pytest.mark.parametrize("target", ["epsilon", "v_prediction", "sample"])
def test_errors_are_what_the_formula_says(fixture, tmp_path, target):
    folder = copied(fixture, tmp_path / "model")
    changed(folder / "scheduler" / "scheduler_config.json", prediction_type=target)
    model, count = read_stable_diffusion(folder), 3
    pictures = torch.rand(count, 3, *model.size, generator=generator(1))
    states = model.text_states(["a photo", "on", "in it"])
    made = model.errors(states, pictures, generator(7))
    again, shape = generator(7), (count, model.channels, *(side // model.factor for side in model.size))
    within, noise = (torch.randn(shape, generator=again) for _ in range(2))
    t = torch.randint(model.noising.times, (count,), generator=again)
    config = model.noising.training.config
    power = 0.5 if config.beta_schedule == "scaled_linear" else 1.0
    betas = torch.linspace(config.beta_start**power, config.beta_end**power, model.noising.times) ** (1 / power)
    kept = (1 - betas).cumprod(0)[t].reshape(-1, 1, 1, 1)
    posterior = model.vae.encode(pictures * 2 - 1).latent_dist
    clean = (posterior.mean + (posterior.logvar / 2).exp() * within) * model.scale
    wanted = {
        "epsilon": noise, "sample": clean, "v_prediction": kept.sqrt() * noise - (1 - kept).sqrt() * clean,
    }[target]  # fmt: skip
    said = model.unet(kept.sqrt() * clean + (1 - kept).sqrt() * noise, t, states).sample
    torch.testing.assert_close(made, (said - wanted).square().mean((1, 2, 3)), atol=1e-4, rtol=1e-4)
    # An item's numbers do not depend on how many processes share the batch.
    from cymatic.batch_shard import BatchShard

    own = BatchShard.of([1] * count, 1, 2)
    torch.testing.assert_close(model.errors(states[1::2], pictures[1::2], generator(7), own), made[1::2])


def test_old_settings_are_read_as_their_pipeline_reads_them(fixture, tmp_path):
    folder = copied(fixture, tmp_path / "model")
    changed(folder / "unet" / "config.json", _diffusers_version="0.6.0", sample_size=32)
    changed(folder / "tokenizer" / "tokenizer_config.json", pad_token=None)
    (folder / "tokenizer" / "special_tokens_map.json").write_text('{"pad_token": {"content": "!"}}')
    settings = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "skip_prk_steps": True}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    model = read_stable_diffusion(folder)
    assert model.size == (64 * model.factor,) * 2 and model.noising.target == "epsilon"
    assert model.noising.make().config["steps_offset"] == 1
    assert model.ids(["a"])[0, -1] == model.tokenizer.token_to_id("!")
    changed(folder / "unet" / "config.json", _diffusers_version="0.20.0", sample_size=[6, 10])
    assert read_stable_diffusion(folder).size == (6 * model.factor, 10 * model.factor)


def test_settings_of_other_classes_are_passed_over_in_silence(fixture, tmp_path, caplog, capfd):
    folder = copied(fixture, tmp_path / "model")
    changed(folder / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    changed(folder / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler", of_another_class=True)
    model = read_stable_diffusion(folder)
    states = model.text_states(["a photo", NEGATIVE])
    model.draw(states[:1], states[1:], [0], steps=2)
    assert not caplog.records and not "".join(capfd.readouterr())
    assert model.noising.make() is not model.noising.make()


def test_16_bits_are_widened(fixture, tmp_path):
    folder = copied(fixture, tmp_path / "model")
    path = folder / "unet" / WEIGHTS["unet"]
    half = {name: tensor.half() for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(half, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    held = read_stable_diffusion(folder).unet.state_dict()
    assert all(torch.equal(held[name], tensor.float()) for name, tensor in half.items())


def test_what_can_not_be_read_is_said_in_a_sentence(fixture, tmp_path):
    number = iter(range(1000))

    def refused(words, change):
        folder = copied(fixture, tmp_path / str(next(number)))
        change(folder)
        with pytest.raises(ModelError, match=words) as caught:
            read_stable_diffusion(folder)
        assert "\n" not in str(caught.value)

    def weights(part, change):
        def changing(folder):
            held = load_file(folder / part / WEIGHTS[part])
            change(held)
            save_file(held, folder / part / WEIGHTS[part])

        return changing

    def config(part, **values):
        name = {"scheduler": "scheduler_config.json", "model_index.json": ""}.get(part, "config.json")
        return lambda folder: changed(folder / part / name if name else folder / part, **values)

    def broken(path):
        return lambda folder: (folder / path).write_bytes(b"damaged")

    text, unet, vae = (WEIGHTS[part] for part in ("text_encoder", "unet", "vae"))
    for words, change in (
        ("is no folder", shutil.rmtree),
        ("model_index.json is missing", lambda folder: (folder / "model_index.json").unlink()),
        ("model_index.json can't be read as JSON", broken("model_index.json")),
        ("is of a 'KandinskyPipeline'", config("model_index.json", _class_name="KandinskyPipeline")),
        (
            "names 'T5EncoderModel' as its text_encoder",
            config("model_index.json", text_encoder=["a", "T5EncoderModel"]),
        ),
        ("names None as its unet", config("model_index.json", unet=None)),
        ("names 'os.system' as its scheduler", config("model_index.json", scheduler=["os", "os.system"])),
        ("vae is missing", lambda folder: shutil.rmtree(folder / "vae")),
        ("is missing; the model is incomplete", lambda folder: (folder / "unet" / unet).unlink()),
        ("is not a sound safetensors file", broken(f"unet/{unet}")),
        ("can't be read as JSON", broken("vae/config.json")),
        ("can't be read as JSON", broken("tokenizer/vocab.json")),
        ("scheduler_config.json is missing", lambda folder: (folder / "scheduler/scheduler_config.json").unlink()),
        ("merges.txt can't be read", lambda folder: (folder / "tokenizer" / "merges.txt").unlink()),
        ("instead of", config("text_encoder", intermediate_size=fixture.config["text"]["intermediate_size"] + 4)),
        ("\"activation\" is 'sin'", config("text_encoder", hidden_act="sin")),
        ("far larger network", config("text_encoder", num_hidden_layers=96, hidden_size=8192, num_attention_heads=8)),
        ("far larger network|can't be built", config("unet", block_out_channels=[4096, 8192])),
        ("can't be built", config("unet", norm_num_groups=7)),
        ("can't be built", config("vae", down_block_types=["Nothing", "Nothing"])),
        ("a number beyond", config("unet", layers_per_block=10**30)),
        ("is of a 'UNet3D'", config("unet", _class_name="UNet3D")),
        ("class_embed_type is set", config("unet", class_embed_type="identity")),
        ("gives states of .* its UNet reads", lambda folder: narrow(folder)),
        ("sample_size is 'large'", config("unet", sample_size="large")),
        ("scaling_factor is -1", config("vae", scaling_factor=-1)),
        ("is of a 'EDMEulerScheduler'", config("scheduler", _class_name="EDMEulerScheduler")),
        ("num_train_timesteps is 1000000", config("scheduler", num_train_timesteps=10**6)),
        ("prediction_type is 'flow'", config("scheduler", prediction_type="flow")),
        ("can't be built", config("scheduler", beta_schedule="steep")),
        ("no shares of noise", config("scheduler", beta_start=1.5, beta_end=2.0)),
        ("text_encoder does not fit.*missing", weights("text_encoder", lambda held: held.pop(min(held)))),
        ("unet does not fit.*extra is unexpected", weights("unet", lambda held: held.update(extra=torch.zeros(1)))),
        ("vae does not fit.*NaN or infinity", weights("vae", lambda held: held[min(held)].fill_(math.nan))),
    ):
        refused(words, change)
    assert text != unet == vae


def narrow(folder):
    """A UNet of its own making, for text states of another width."""
    from diffusers import UNet2DConditionModel

    values = json.loads((folder / "unet" / "config.json").read_text())
    values["cross_attention_dim"] += 8
    UNet2DConditionModel.from_config(values).save_pretrained(folder / "unet")


def test_a_pickle_is_not_run(fixture, tmp_path):
    folder = copied(fixture, tmp_path / "model")
    (folder / "unet" / WEIGHTS["unet"]).unlink()

    class Hostile:
        def __reduce__(self):
            return (folder / "run").mkdir, ()

    torch.save({"conv_in.weight": Hostile()}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError):
        read_stable_diffusion(folder)
    assert not (folder / "run").exists()


def test_a_pipeline_s_folder_is_told_from_others(fixture, tmp_path):
    assert is_stable_diffusion(fixture.folder) and not is_stable_diffusion(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "UnCLIPPipeline"}')
    assert not is_stable_diffusion(tmp_path)


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_a_missing_package_is_said(fixture, monkeypatch, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ModelError, match=rf"the package {package} .*pip install 'cymatic\[hub\]'"):
        read_stable_diffusion(fixture.folder)
