"""Recipes: what to train and how, in one YAML file with at most three levels of nesting."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from cymatic.codecs.fast import FastShape
from cymatic.codecs.soundstream import SoundStreamShape
from cymatic.codecs.spectrogram import SpectrogramShape
from cymatic.codecs.waveform import WaveformCodecConfig
from cymatic.config import Config, nearest
from cymatic.data.augment_waves import WaveAugmentation
from cymatic.data.settings import CaptionedSettings, DataSettings
from cymatic.errors import ModelError
from cymatic.nn.energy_transformer import EnergyTransformerConfig
from cymatic.priors.flow import FlowShape
from cymatic.priors.samplers import Interval, SamplerName
from cymatic.quantizers import LevelsQuantizerConfig
from cymatic.quantizers.residual import ResidualQuantizerConfig
from cymatic.quantizers.vector import VectorQuantizerConfig
from cymatic.signal.mel import PRESETS, MelSpec
from cymatic.training.codec_settings import ObjectiveSettings, WaveJudgeSettings
from cymatic.training.earlier import todays_recipe
from cymatic.vocoders.melgan import MelGANShape
from cymatic.vocoders.vocos import VocosShape

MelName = Literal["auto", "sound-24k", "voice-8k", "specvqgan-22k"]


class TextSettings(Config):
    """The text encoder's share of a recipe."""

    dim: int = Field(default=192, gt=0, le=8192)


class VocoderSettings(Config):
    """`auto` takes over the vocoder of the model named, where it speaks of the recipe's mel, and else Griffin-Lim."""

    kind: Literal["auto", "griffin-lim", "vocos", "melgan"] = "auto"
    model: str = "starter-sound"
    rounds: int = Field(default=60, ge=1, le=1000)  # of Griffin-Lim


class JudgeSettings(Config):
    """How a vocoder meets its judges (see `adversarial`).

    `spectrograms` are joined by combs, and what they teach is relative to what they see. `scales` are MelGAN's three,
    with its losses and its betas.
    """

    kind: Literal["spectrograms", "scales"] = "spectrograms"
    piece: float = Field(default=0.512, gt=0, le=10)  # seconds
    alone: int = Field(default=3000, ge=0)  # steps before the judges come
    judges_warmup: int = Field(default=500, ge=1)  # steps over which their push grows
    judged: int = Field(default=4, ge=1)  # pieces of a batch that the judges see
    judge_width: int = Field(default=16, ge=1, le=512)
    judge_rate: float = Field(default=4.0, gt=0)  # of their steps, in the vocoder's
    mel_weight: float = Field(default=8.0, ge=0)
    feature_weight: float = Field(default=2.0, ge=0)

    @model_validator(mode="after")
    def _in_groups(self) -> Self:
        if self.kind == "scales" and self.judge_width & (self.judge_width - 1):
            raise ValueError(f"judge_width is {self.judge_width}; for scales give a power of two")
        return self


class TrainingSettings(Config):
    """How long and how. Either `steps` or `minutes`; minutes become steps once the speed has been measured."""

    steps: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0, le=1e7)
    most_steps: int | None = Field(default=None, ge=1)  # that minutes may become
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)  # of AdamW's steps
    matrix_rate: float = Field(default=0.02, gt=0)  # of Muon's steps
    warmup: int = Field(default=50, ge=1)  # steps
    decay: float = Field(default=0.4, gt=0, le=1)  # share of the steps over which the rates fall to 0
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)  # largest norm of the gradient
    ema: float = Field(default=0.999, ge=0, lt=1)
    condition_dropout: float = Field(default=0.1, ge=0, lt=1)
    checkpoint_steps: int | None = Field(default=None, ge=1)  # otherwise so many that two minutes pass at most
    patience: int | None = Field(default=None, ge=1)  # checkpoints in a row that are clearly worse, see `loop.sooner`
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("steps and minutes are both given; give one of them, and null for the other")
        return self


class SamplingSettings(Config):
    """What `cymatic sound` does with the model where the user says nothing. Guidance acts within its interval of t."""

    guidance: float = Field(default=2.0, ge=0, le=100)
    guidance_interval: Interval = (0.0, 0.6)
    steps: int = Field(default=6, ge=1, le=1000)
    sampler: SamplerName = "euler"


class Recipe(Config):
    """Text to sound by a flow over mels. `mel` is a preset's name, a whole MelSpec, or `auto` (`sound-24k`)."""

    kind: Literal["text-to-sound"] = "text-to-sound"
    mel: MelSpec | MelName = "auto"
    data: CaptionedSettings = CaptionedSettings()
    text: TextSettings = TextSettings()
    prior: FlowShape = FlowShape()
    vocoder: VocoderSettings = VocoderSettings()
    start: str | None = None  # a starter or a run whose text encoder and prior it goes on from
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()

    def mel_spec(self) -> MelSpec:
        return _mel_spec(self.mel)


class VocoderRecipe(Config):
    """A vocoder from sounds alone; captions don't matter. `start`: a model whose vocoder it goes on from."""

    kind: Literal["vocoder"]
    mel: MelSpec | MelName = "auto"
    data: DataSettings = DataSettings(longest=15.0, long="cut")
    vocoder: Annotated[VocosShape | MelGANShape, Field(discriminator="kind")] = VocosShape()
    judges: JudgeSettings = JudgeSettings()
    start: str | None = None
    training: TrainingSettings = TrainingSettings(batch=16, learning_rate=6e-4, clip=100.0)

    @field_validator("vocoder", mode="before")
    @classmethod
    def _vocos_unless_said(cls, given: Any) -> Any:
        return {"kind": "vocos", **given} if isinstance(given, dict) else given

    def mel_spec(self) -> MelSpec:
        return _mel_spec(self.mel)


class CodecRecipe(Config):
    """A waveform codec from sounds alone; captions don't matter. `start`: a codec that it goes on from.

    Pieces are heard at the level that they were recorded with, give or take what `RandomCrops` draws.
    """

    kind: Literal["waveform-codec"]
    rate: int = Field(default=24_000, gt=0, le=768_000)  # Hz
    channels: int = Field(default=1, ge=1, le=64)
    data: DataSettings = DataSettings(longest=15.0, long="cut")
    network: Annotated[FastShape | SoundStreamShape, Field(discriminator="kind")] = FastShape()
    quantizer: LevelsQuantizerConfig = ResidualQuantizerConfig(levels=12, dim=32, dropout=0.5)
    tile: int = Field(default=64, ge=1, le=4096)  # frames
    energy: EnergyTransformerConfig | None = None
    piece: float = Field(default=0.96, gt=0, le=10)  # seconds
    augment: WaveAugmentation = WaveAugmentation()
    objective: ObjectiveSettings = ObjectiveSettings()
    judges: WaveJudgeSettings = WaveJudgeSettings()
    start: str | None = None
    training: TrainingSettings = TrainingSettings(batch=8, learning_rate=1e-3, decay=0.6, ema=0.99)

    @field_validator("network", mode="before")
    @classmethod
    def _fast_unless_said(cls, values: Any) -> Any:
        return {"kind": "fast", **values} if isinstance(values, dict) else values

    @field_validator("quantizer", mode="before")
    @classmethod
    def _residual_unless_said(cls, values: Any) -> Any:
        return {"kind": "residual", **values} if isinstance(values, dict) else values

    def config(self) -> WaveformCodecConfig:
        """What the codec is. Raises ModelError where its parts don't fit each other."""
        values = {
            "rate": self.rate,
            "channels": self.channels,
            "network": self.network,
            "energy": self.energy,
            "quantizer": self.quantizer,
            "block": self.tile,
        }
        return WaveformCodecConfig.parse(values, "this recipe's codec")


class PatchSettings(Config):
    """How a codec meets the judge of its patches (see `discriminators.patch` and `discriminators.weight`)."""

    start: int = Field(default=500, ge=0)  # steps of the codec before the judge comes
    warmup: int = Field(default=500, ge=1)  # steps over which its push grows
    weight: float = Field(default=0.8, ge=0)
    least: float = Field(default=0.0, ge=0)  # of the adaptive weight
    most: float = Field(default=1.0, ge=0)
    width: int = Field(default=32, ge=1, le=512)
    conditional: bool = False
    features: float = Field(default=1.0, ge=0)  # weight of feature matching
    rate: float = Field(default=1.0, gt=0)  # of its steps, in the codec's


class TextCondition(TextSettings):
    """Captions as text, which knows words that are alike."""

    kind: Literal["text"] = "text"


class ClassCondition(Config):
    """Captions as classes, one token each; a word that was not trained on is refused."""

    kind: Literal["class"]
    dim: int = Field(default=192, gt=0, le=8192)


class FeatureCondition(Config):
    """What video features show, in `frames` tokens; `of`: the kind in a folder of the VAS or VGGSound layout."""

    kind: Literal["features"]
    of: str = "feature_resnet50_dim2048_21.5fps"
    frames: Literal[1, 5, 212] = 212
    dim: int = Field(default=192, gt=0, le=8192)


class GPTSettings(Config):
    """The size of a GPT; `pkeep`: share of the codes that it reads as they are in training, the rest are any codes."""

    kind: Literal["gpt"] = "gpt"
    width: int = Field(default=256, gt=0, le=16384)
    depth: int = Field(default=6, gt=0, le=256)
    heads: int = Field(default=4, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    pkeep: float = Field(default=1.0, gt=0, le=1)


class GPTVAESettings(GPTSettings):
    """A GPT that reads one latent, and the encoder that gives it. `beta`: weight of the KL, which begins at `kl_start`
    of it and is whole after `warmup` steps; 0 is a plain autoencoder. `free_bits`, `target`: see `priors.variational`.
    `start`: a run whose encoder it takes over, such as one with a beta of 0.
    """

    kind: Literal["gpt-vae"]  # type: ignore[assignment]
    encoder_depth: int | None = Field(default=None, gt=0, le=256)
    latent: int | None = Field(default=None, gt=0, le=16384)
    beta: float = Field(default=1.0, ge=0)
    kl_start: float = Field(default=0.0, ge=0, le=1)
    warmup: int = Field(default=500, ge=1)
    free_bits: Literal[0, 1, 2, 3] = 2
    target: float = Field(default=8.0, ge=0)
    start: str | None = None


class CodesSettings(Config):
    """The sounds as a prior over codes meets them."""

    piece: int = Field(default=8, ge=1, le=1000)  # columns that the codec sees at once in training
    variants: int = Field(default=4, ge=1, le=64)  # each sound is encoded so often, moved by less than a column
    codec_share: float = Field(default=0.5, gt=0, lt=1)  # of the minutes given


class CodesSampling(Config):
    """What a model over codes does where the user says nothing; `top_k` and `top_p` of the likeliest are drawn."""

    guidance: float = Field(default=2.0, ge=0, le=100)
    temperature: float = Field(default=1.0, gt=0, le=100)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)


class MelGPTRecipe(Config):
    """Words, classes or pictures to sound by codes: a spectrogram codec, a prior over its codes, and a vocoder that is
    there already.

    `start`: a model whose codec it takes over, so that the first stage is left out. Where only `training` says how
    long, `codes.codec_share` of those minutes, or as many steps, go to the codec.
    """

    kind: Literal["mel-gpt"]
    mel: MelSpec | MelName = "auto"
    data: CaptionedSettings = CaptionedSettings()
    condition: Annotated[TextCondition | ClassCondition | FeatureCondition, Field(discriminator="kind")] = (
        TextCondition()
    )
    codec: SpectrogramShape = SpectrogramShape()
    quantizer: VectorQuantizerConfig = VectorQuantizerConfig(size=1024, dim=64)
    judge: PatchSettings = PatchSettings()
    codes: CodesSettings = CodesSettings()
    prior: Annotated[GPTSettings | GPTVAESettings, Field(discriminator="kind")] = GPTSettings()
    vocoder: VocoderSettings = VocoderSettings()
    start: str | None = None
    codec_training: TrainingSettings = TrainingSettings(learning_rate=5e-4, decay=0.3)
    training: TrainingSettings = TrainingSettings()
    sampling: CodesSampling = CodesSampling()

    @field_validator("condition", mode="before")
    @classmethod
    def _text_unless_said(cls, values: Any) -> Any:
        return {"kind": "text", **values} if isinstance(values, dict) else values

    @field_validator("prior", mode="before")
    @classmethod
    def _gpt_unless_said(cls, values: Any) -> Any:
        return {"kind": "gpt", **values} if isinstance(values, dict) else values

    def mel_spec(self) -> MelSpec:
        return _mel_spec(self.mel)


class CodecGPTRecipe(Config):
    """Words to sound by a GPT over the codes of a waveform codec, which is there already: the model `start`.

    `data` is a folder of sounds, or shards of codes (`cymatic encode --engine`). levels: how many of a frame's codes,
    which follow each other in the sequence; None: as many as the codec spends by default, or the shards have.
    """

    kind: Literal["codec-gpt"]
    data: DataSettings = DataSettings()
    start: str | None = "starter-codec"
    levels: int | None = Field(default=None, ge=1, le=64)
    condition: TextCondition = TextCondition()
    prior: GPTSettings = GPTSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: CodesSampling = CodesSampling()


AnyRecipe = Recipe | MelGPTRecipe | VocoderRecipe | CodecRecipe | CodecGPTRecipe
KINDS: dict[str, type[AnyRecipe]] = {
    "text-to-sound": Recipe,
    "mel-gpt": MelGPTRecipe,
    "codec-gpt": CodecGPTRecipe,
    "vocoder": VocoderRecipe,
    "waveform-codec": CodecRecipe,
}


def _mel_spec(mel: MelSpec | str) -> MelSpec:
    return mel if isinstance(mel, MelSpec) else PRESETS["sound-24k" if mel == "auto" else mel]


def parse_recipe(values: dict[str, Any], where: str) -> AnyRecipe:
    """The validated recipe, of this version or an earlier one. Raises ModelError naming `where` for an unknown
    kind, key or value."""
    kind = values.get("kind", "text-to-sound")
    if kind not in KINDS:
        raise ModelError(f'{where} is of the kind "{kind}"; {nearest(str(kind), KINDS)}')
    return KINDS[kind].parse(todays_recipe(values, kind, where), where)


def shipped() -> dict[str, Path]:
    """The recipes inside the package, by name."""
    return {path.stem: path for path in sorted(Path(str(files("cymatic") / "recipes")).glob("*.yaml"))}


def read_recipe(name: str | Path) -> dict[str, Any]:
    """The settings in a shipped recipe (by name) or a YAML file (by path), not yet validated.

    Raises ModelError where there is no such recipe or it is not a YAML mapping.
    """
    path = shipped().get(str(name), Path(name))
    if not path.is_file():
        raise ModelError(
            f'there is no recipe "{name}"; {nearest(str(name), shipped())} (or give the path of a YAML file)'
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds a {type(values).__name__} instead of settings such as `prior: {{width: 192}}`")
    if strange := [key for key in values if not isinstance(key, str)]:
        raise ModelError(f"{path} has the key {strange[0]!r}; keys should be names such as `prior`")
    return values


def with_settings(values: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """`values` with `a.b=c` settings laid over them; each value is read as YAML."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for setting in settings:
        key, equals, text = setting.partition("=")
        *path, last = key.strip().split(".")
        if not equals or not last or not all(path):
            raise ModelError(f'--set "{setting}" is not of the form a.b=c, such as prior.width=256')
        place = result
        for step in path:
            below = place.get(step)
            place[step] = dict(below) if isinstance(below, dict) else {}
            place = place[step]
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ModelError(f'--set "{setting}": {text!r} is not a YAML value') from None
    return result


def make_recipe(name: str | Path | None, settings: list[str]) -> AnyRecipe:
    """The validated recipe; unknown keys are refused with the nearest valid name (ModelError)."""
    values = read_recipe(name) if name is not None else {}
    return parse_recipe(with_settings(values, settings), f"recipe {name}" if name is not None else "the settings")


def write_recipe(recipe: AnyRecipe) -> str:
    """The recipe as YAML, every value spelled out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
