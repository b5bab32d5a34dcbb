"""Stable Diffusion from a folder as diffusers writes it and the Hugging Face hub has it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cymatic.errors import Error, ModelError
from cymatic.hub.bounded import Bounded, check_plain
from cymatic.hub.checkpoints import numbers_of, state_dict
from cymatic.hub.parts import CONFIG, MOST_CONFIG, WEIGHTS, fill, read_json, read_tensors
from cymatic.hub.readers.clip import START, TEXT, ClipTextConfig, read_tokens
from cymatic.hub.readers.peers import transformers
from cymatic.hub.stable_diffusion import MOST_PIXELS, Noising, StableDiffusion
from cymatic.quiet import quiet

INDEX, SCHEDULER = "model_index.json", "scheduler_config.json"
PIPELINE = "StableDiffusionPipeline"
# What each part of a pipeline may be. What else an index names (safety checker, feature extractor) is not read.
PARTS = {
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "scheduler": (
        "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
        "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler",
        "PNDMScheduler", "UniPCMultistepScheduler",
    ),
}  # fmt: skip
TARGETS = ("epsilon", "v_prediction", "sample")  # that a UNet may predict
MOST_TIMES = 10_000  # noise levels of training
# Files of weights, of which the first that is there is read; .bin is read with weights_only.
OF_TEXT = (WEIGHTS, "model.fp16.safetensors", "pytorch_model.bin")
OF_REST = tuple(
    f"diffusion_pytorch_model.{ending}" for ending in ("safetensors", "fp16.safetensors", "bin")
)  # fmt: skip
# Names of an autoencoder's attention before diffusers 0.17, and since.
SINCE = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
OLD = re.compile(rf"(?<=\.)({'|'.join(SINCE)})(?=\.(?:weight|bias)$)")
# Settings of a UNet that reads more than a time and text states.
MORE = (
    "class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim", "encoder_hid_dim_type",
    "time_cond_proj_dim",
)  # fmt: skip


def diffusers() -> Any:
    """The package diffusers, imported when it is first needed. Raises ModelError where it is not installed."""
    try:
        with quiet():
            import diffusers as package
    except ImportError as error:
        raise ModelError(
            f"Stable Diffusion needs the package diffusers ({error}); install it with: pip install 'cymatic[hub]'"
        ) from None
    return package


def read_stable_diffusion(folder: Path) -> StableDiffusion:
    """A Stable Diffusion from a folder with `model_index.json` and the folders of its parts, frozen and in float32.

    Sizes are those that the parts' configs tell. Names are those that today's packages write or those of files on the
    hub; weights lie in safetensors, or in `.bin` files that hold tensors alone. Nothing is fetched, and the safety
    checker is not read.

    Raises ModelError for a folder, part or file that is missing, damaged or of another kind, for parts that don't fit
    each other, and for tensors that are missing, unexpected, of another shape or not finite.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder; give the folder of a Stable Diffusion, with its {INDEX}")
    check_index(folder)
    text_encoder, text = _text(folder)
    unet = _network(folder, "unet")
    vae = _network(folder, "vae", _todays)
    _check_fit(folder, text, unet, vae)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    size = _size(unet, factor, f"{folder / 'unet' / CONFIG}")
    return StableDiffusion(text_encoder, text, unet, vae, _noising(folder), size)


def is_stable_diffusion(folder: Path) -> bool:
    """Whether a folder is a pipeline of diffusers. Raises ModelError for a damaged index."""
    return (folder / INDEX).is_file() and read_json(folder / INDEX, MOST_CONFIG).get("_class_name") == PIPELINE


def check_index(folder: Path) -> None:
    """Raises ModelError for an index that is missing or damaged or names other parts than are read here."""
    index = read_json(folder / INDEX, MOST_CONFIG)
    if index.get("_class_name") != PIPELINE:
        raise ModelError(f"{folder / INDEX} is of a {index.get('_class_name')!r:.60}; give a {PIPELINE}'s folder")
    for part, known in PARTS.items():
        named = index.get(part)
        found = named[-1] if isinstance(named, list) and named else named
        if found not in known:
            raise ModelError(
                f"{folder / INDEX} names {found!r:.60} as its {part}; what is read is one of: {', '.join(known)}"
            )
        if not (folder / part).is_dir():
            raise ModelError(f"{folder / part} is missing; the model is incomplete, copy it again")


def _text(folder: Path) -> tuple[nn.Module, ClipTextConfig]:
    """The text tower, and its sizes and tokens."""
    where, values = _config(folder / "text_encoder" / CONFIG)
    package = transformers()
    read = _built(where, lambda: package.CLIPTextConfig(**values))
    settings = {ours: getattr(read, theirs) for ours, theirs in TEXT.items()} | read_tokens(folder / "tokenizer")
    config = ClipTextConfig.parse(settings, where)
    tensors, numbers = _weights(folder / "text_encoder", OF_TEXT)
    known = {theirs: getattr(config, ours) for ours, theirs in TEXT.items()}
    known |= {"bos_token_id": config.vocab.index(START), "pad_token_id": config.vocab.index(config.pad)}
    with Bounded(numbers, where):
        network = _built(where, lambda: package.CLIPTextModel(package.CLIPTextConfig(**known)))
    plain = {
        name.removeprefix("text_model."): tensor
        for name, tensor in tensors.items()
        if not name.endswith(".position_ids")  # of old versions
    }
    fill(
        network, plain, f"{folder / 'text_encoder'} does not fit its {CONFIG}", lambda n: n.removeprefix("text_model.")
    )
    return network, config


def _network(folder: Path, part: str, todays: Callable[[str], str] = lambda name: name) -> Any:
    """The UNet or the autoencoder; todays: what a tensor is called today."""
    where, values = _config(folder / part / CONFIG)
    (name,) = PARTS[part]
    if values.get("_class_name", name) != name:
        raise ModelError(f"{where} is of a {values['_class_name']!r:.60}; give a {name}'s")
    tensors, numbers = _weights(folder / part, OF_REST)
    package = diffusers()
    classes = {"unet": package.UNet2DConditionModel, "vae": package.AutoencoderKL}
    with Bounded(numbers, where):
        network = _built(where, lambda: classes[part].from_config(values))
    named = {todays(name): tensor for name, tensor in tensors.items()}
    fill(network, named, f"{folder / part} does not fit its {CONFIG}")
    return network


def _todays(name: str) -> str:
    return OLD.sub(lambda match: SINCE[match[1]], name)


def _config(path: Path) -> tuple[str, dict[str, Any]]:
    """Where a config lies, and what it holds."""
    values = read_json(path, MOST_CONFIG)
    check_plain(values, str(path))
    return str(path), values


def _weights(folder: Path, names: tuple[str, ...]) -> tuple[dict[str, Tensor], Mapping[str, tuple[int, ...]]]:
    """The tensors of a part, and how many numbers its file holds for each."""
    path = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    if path.suffix == ".bin":
        tensors = state_dict(path)
        return tensors, numbers_of(tensors, path)
    tensors = read_tensors(path)
    return tensors, {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _built(where: str, build: Callable[[], Any]) -> Any:
    """What `build` builds of a config. Raises ModelError for whatever its own checks raise."""
    try:
        with quiet(), _hushed():
            return build()
    except Error:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{where} describes a part that can't be built ({said}); copy the model again") from None


@contextmanager
def _hushed() -> Iterator[None]:
    """diffusers does not log settings that it passes over, those of other versions and classes."""
    log = logging.getLogger("diffusers")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _noising(folder: Path) -> Noising:
    """The scheduler, with the two settings that diffusers' own pipeline corrects in old folders."""
    where, values = _config(folder / "scheduler" / SCHEDULER)
    index = read_json(folder / INDEX, MOST_CONFIG)["scheduler"][-1]
    name = values.get("_class_name", index)
    if name not in PARTS["scheduler"]:
        raise ModelError(f"{where} is of a {name!r:.60}; what is read is one of: {', '.join(PARTS['scheduler'])}")
    times, target = values.get("num_train_timesteps", 1000), values.get("prediction_type", "epsilon")
    if type(times) is not int or not 1 <= times <= MOST_TIMES:
        raise ModelError(f"{where}: num_train_timesteps is {times!r:.40}; it should be 1 to {MOST_TIMES}")
    if target not in TARGETS:
        raise ModelError(f"{where}: prediction_type is {target!r:.40}; it should be one of: {', '.join(TARGETS)}")
    package = diffusers()
    known = {one: getattr(package, one) for one in PARTS["scheduler"]}

    def made(scheduler: Any) -> Any:
        built = _built(where, lambda: scheduler.from_config(values))
        corrected = {"steps_offset": 1, "clip_sample": False}
        changed = {name: value for name, value in corrected.items() if built.config.get(name, value) != value}
        return _built(where, lambda: scheduler.from_config(values | changed)) if changed else built

    with Bounded({}, where):
        training, drawing = made(package.DDPMScheduler), made(known[name])
    kept = training.alphas_cumprod
    if not (kept.isfinite().all() and (kept >= 0).all() and (kept <= 1).all()):
        raise ModelError(f"{where} has betas that are no shares of noise; copy the model again")
    return Noising(lambda: deepcopy(drawing), training, target)


def _size(unet: Any, factor: int, where: str) -> tuple[int, int]:
    """Height and width in pixels of the pictures that a UNet was trained on; factor: pixels of a latent's side."""
    size = unet.config.sample_size
    size = 64 if size is None else size
    old = re.match(r"0\.[0-8]\.", str(unet.config.get("_diffusers_version", "")))
    if old and type(size) is int and size < 64:  # as diffusers' own pipeline has it
        size = 64
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2 or not all(type(side) is int and 0 < side * factor <= MOST_PIXELS for side in sides):
        raise ModelError(
            f"{where}: sample_size is {size!r:.40}; it should be a number from 1 to {MOST_PIXELS // factor}"
        )
    return sides[0] * factor, sides[1] * factor


def _check_fit(folder: Path, text: ClipTextConfig, unet: Any, vae: Any) -> None:
    """Raises ModelError for parts that were not made for each other, and for what is never drawn with here."""
    reads, latents = unet.config.cross_attention_dim, vae.config.latent_channels
    if more := [name for name in MORE if unet.config.get(name) is not None]:
        raise ModelError(
            f"{folder / 'unet' / CONFIG}: {more[0]} is set, so it reads more than words; give a plain UNet"
        )
    if reads != text.width:
        raise ModelError(
            f"{folder}: its text encoder gives states of {text.width} numbers and its UNet reads {reads}; take parts "
            "that were trained together"
        )
    if (unet.config.in_channels, unet.config.out_channels) != (latents, latents):
        raise ModelError(
            f"{folder}: its UNet reads {unet.config.in_channels} channels and gives {unet.config.out_channels}, and "
            f"its autoencoder has {latents}; give a UNet that draws (not one that fills in)"
        )
    if (vae.config.in_channels, vae.config.out_channels) != (3, 3):
        raise ModelError(f"{folder / 'vae' / CONFIG} is no autoencoder of pictures of 3 channels; copy the model again")
    scale: Any = vae.config.scaling_factor
    if not isinstance(scale, float | int) or not math.isfinite(scale) or scale <= 0:
        raise ModelError(f"{folder / 'vae' / CONFIG}: scaling_factor is {scale!r:.40}; it should be above 0")
