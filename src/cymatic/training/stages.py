"""The stages of a recipe: each names the part that it trains, its roles, its objective and what it starts from.

A role is the name under which a row of data holds a file ("audio", "picture", "features"); `caption` is the role of its
words. Where a stage names no role for its target, it is the medium that its part reads.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cymatic.codecs import CODECS
from cymatic.config import Config
from cymatic.data.augment_waves import WaveAugmentation
from cymatic.encoders import ENCODERS
from cymatic.encoders.text import TextConfig
from cymatic.evaluation.classifiers import ConvTrunk, RecurrentTrunk
from cymatic.hub.readers.speechclip import SpeechClipConfig, SpeechClipEncoder
from cymatic.priors import PRIORS
from cymatic.training.settings import DiscriminatorSettings, ObjectiveSettings, TrainingSettings
from cymatic.vocoders import TRAINED_VOCODERS

CAPTION = "caption"
SPACE = "space"  # the folder of a run into which a space is copied
NAMES_A_STAGE = ("start", "codec", "space")  # keys that may name an earlier stage, or a model

# Encoders that learn over a tower of another project, whose states they read.
OVER_A_TOWER: dict[type[Config], type[SpeechClipEncoder]] = {SpeechClipConfig: SpeechClipEncoder}

if TYPE_CHECKING:  # the unions are those of the families, whatever they hold
    AutoencoderPart = Any
    PriorPart = Any
    EncoderPart = Any
    AlignedPart = Any
else:
    AutoencoderPart = Annotated[
        reduce(or_, (part.config_class for part in (*CODECS, *TRAINED_VOCODERS))), Field(discriminator="kind")
    ]
    PriorPart = Annotated[reduce(or_, (part.config_class for part in PRIORS)), Field(discriminator="kind")]
    EncoderPart = Annotated[reduce(or_, (part.config_class for part in ENCODERS)), Field(discriminator="kind")]
    AlignedPart = Annotated[
        reduce(or_, (*(part.config_class for part in ENCODERS), *OVER_A_TOWER)), Field(discriminator="kind")
    ]


class Stage(Config):
    """What all stages have. `start`: a model whose part of this stage it goes on from. `share`: of the recipe's
    minutes, where several stages have none of their own."""

    role: str | None = Field(default=None, min_length=1)
    training: TrainingSettings = TrainingSettings()
    start: str | None = None
    share: float = Field(default=1.0, gt=0)

    @property
    def unused_gradients(self) -> bool:
        """Whether a step may leave some weights without a gradient."""
        return False

    def instead_of(self, earlier: str, model: str) -> Self:
        """The stage with a model in the place of the earlier stage of that name, wherever it uses it."""
        return self.model_copy(update={key: model for key, value in self if key in NAMES_A_STAGE and value == earlier})

    def going_on_from(self, model: str | None) -> Self:
        """The stage as it goes on from a model; None: from scratch."""
        return self.model_copy(update={"start": model})


class AutoencoderStage(Stage):
    """A codec of any medium, or a vocoder, which is an autoencoder whose encoder is the mel.

    segment: seconds that are cut from an item for each batch; None takes whole items, similar lengths together.
    level: the range in dB of the gain drawn for each sound in a segment; then short sounds follow one another.
    objective: None is `l1` alone.
    """

    task: Literal["autoencoder"]
    part: AutoencoderPart
    segment: float | None = Field(default=None, gt=0, le=600)
    level: tuple[float, float] | None = None
    augment: WaveAugmentation | None = None
    objective: ObjectiveSettings = ObjectiveSettings(l1=1.0)
    discriminators: DiscriminatorSettings | None = None
    training: TrainingSettings = TrainingSettings(batch=16, decay=0.6)

    @model_validator(mode="after")
    def _something_teaches(self) -> Self:
        settings = self.discriminators
        if self.objective.weights():
            return self
        if settings is None or not settings.weight + settings.features:
            raise ValueError(
                "neither objective nor discriminators have a weight, so nothing would be learned; give one, such as "
                "objective: {l1: 1.0}"
            )
        if settings.adaptive:
            raise ValueError("adaptive weighs discriminators against distances, and objective has none; give one")
        return self

    @property
    def unused_gradients(self) -> bool:
        """Discriminators learn nothing in the reconstruction-only steps."""
        return self.discriminators is not None


class PriorStage(Stage):
    """A prior with the encoder of its condition, over what the medium is prepared as, or a codec's codes or latents.

    codec: an earlier stage of the recipe, or a model that holds a codec; None: no codec. given: the role that the
    encoder reads. space: an earlier stage that aligns encoders, or a model with such: the condition has their vector
    beside the tokens of `encoder`, of the caption or of the target itself, as a coin says. Of codes alone: levels: how
    many of a frame's; None: as many as the codec spends by default; variants: each item is encoded so often, moved by
    less than a column. sampling: what the model does where the user says nothing.
    """

    task: Literal["prior"]
    part: PriorPart
    codec: str | None = None
    space: str | None = None
    encoder: EncoderPart = TextConfig()
    given: str = CAPTION
    levels: int | None = Field(default=None, ge=1, le=64)
    variants: int = Field(default=1, ge=1, le=64)
    sampling: dict[str, Any] = Field(default_factory=dict)

    def going_on_from(self, model: str | None) -> Self:
        """A prior with a codec takes over the model's codec, one without its encoder and prior. From scratch a prior
        with a codec keeps it."""
        if self.codec is not None:
            return self if model is None else self.model_copy(update={"codec": model})
        return self.model_copy(update={"start": model})

    @property
    def unused_gradients(self) -> bool:
        """Beside a space, what makes the encoder's own vector alone is not learned."""
        return self.space is not None

    @model_validator(mode="after")
    def _a_space_is_of_words(self) -> Self:
        if self.space is None:
            return self
        if self.encoder.reads is not None:
            raise ValueError("a space goes with an encoder of words, and this one reads none; leave one of the two out")
        if not dict(self.part).get("vector", True):
            raise ValueError(
                "a space gives a vector, and this prior reads none; leave space out, or set vector to true"
            )
        return self

    @model_validator(mode="after")
    def _codes_come_from_a_codec(self) -> Self:
        over = self.part.over
        if self.part.reads is None and self.codec is None:
            raise ValueError(
                f"this prior is over {over}, and no codec gives any; set codec to an earlier stage or a model"
            )
        if self.part.reads is not None and self.codec is not None:
            raise ValueError("this prior is over no codes; leave codec out, or give a prior over codes")
        if over != "codes" and (self.levels is not None or self.variants > 1):
            raise ValueError(f"levels and variants are of codes, and this prior is over {over}; leave them out")
        return self

    @model_validator(mode="after")
    def _sampling_of_the_prior(self) -> Self:
        prior = next(one for one in PRIORS if one.config_class is type(self.part))
        prior.sampling.parse(self.sampling, "sampling")
        return self


class AlignmentStage(Stage):
    """Two or more encoders, one for each role, whose vectors of one item come to lie together.

    space: an earlier stage that aligned encoders, or a model with such, of other roles: they stay as they are, and the
    one or more of `parts` come to lie among them.
    towers: of an encoder that learns over another one (`kind: speechclip`), the model that has it, by role, as `cymatic
    import` makes them. A tower learns nothing, and what it says of each item is made once; but what `unfreeze` names by
    role, layers of the tower by their names, learns as well, and then nothing can be made before.
    start: a model whose encoders it goes on from, or an earlier stage, which may have read smaller pictures.
    loss: InfoNCE (arXiv 1807.03748, 2103.00020) or SigLIP (arXiv 2303.15343); of InfoNCE alone: temperature: fixed,
    None: learned; margin, decoupled: see `encoders.align.InfoNCE`. at_once: items of a batch that are encoded side
    by side, where all of them would take too much memory; the loss is that of the whole batch.
    """

    task: Literal["alignment"]
    parts: dict[str, AlignedPart] = Field(min_length=1)
    space: str | None = None
    towers: dict[str, str] = Field(default_factory=dict)
    unfreeze: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    loss: Literal["infonce", "siglip"] = "infonce"
    temperature: float | None = Field(default=None, gt=0, le=100)
    margin: float = Field(default=0.0, ge=0, le=100)
    decoupled: bool = False
    at_once: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _something_to_lie_beside(self) -> Self:
        if len(self.parts) < 2 and self.space is None:
            raise ValueError("parts has one encoder, which has nothing to lie beside; give a second one, or a space")
        if self.space is not None and all(part.reads is None for part in self.parts.values()):
            raise ValueError("a space is gone into from files, and parts reads words alone; give one for sounds, say")
        return self

    @property
    def loss_options(self) -> dict[str, Any]:
        """What the loss is built with."""
        fixed = {} if self.temperature is None else {"temperature": self.temperature, "learned": False}
        return fixed | {name: value for name in ("margin", "decoupled") if (value := dict(self)[name])}

    @model_validator(mode="after")
    def _options_are_of_infonce(self) -> Self:
        if self.loss != "infonce" and (given := self.loss_options):
            raise ValueError(f"{min(given.keys() - {'learned'})} is of InfoNCE, and loss is {self.loss}; leave it out")
        return self

    @model_validator(mode="after")
    def _towers_stand_below_what_reads_them(self) -> Self:
        over = {role for role, part in self.parts.items() if type(part) in OVER_A_TOWER}
        if lacking := over - self.towers.keys():
            raise ValueError(f"{min(lacking)} is learned over a tower, and towers names none for it; give a model")
        if odd := self.towers.keys() - over:
            raise ValueError(f"towers names a model for {min(odd)}, which is no part over a tower; leave it out")
        if odd := self.unfreeze.keys() - over:
            raise ValueError(f"unfreeze names {min(odd)}, which is no part over a tower; leave it out")
        return self

    @property
    def unused_gradients(self) -> bool:
        """What makes tokens alone is not learned here, since only vectors meet."""
        return True


class ClassificationStage(Stage):
    """A classifier of captions that evaluation listens with. longest, mix: see
    `evaluation.classifier_training.Disturbance`."""

    task: Literal["classification"]
    part: Annotated[ConvTrunk | RecurrentTrunk, Field(discriminator="kind")] = ConvTrunk()
    longest: float | None = Field(default=None, gt=0, le=600)
    mix: float = Field(default=0.0, ge=0, le=1)


class TokenStage(Stage):
    """An embedder that makes one word of a sound, which a Stable Diffusion draws: AudioToken (Yariv et al., 2023, arXiv
    2305.13050). What hears and what draws learn nothing, and what is heard is made once.

    encoder: a model with an encoder of sounds, such as a BEATs that `cymatic import` read; layers: of BEATs, from 0 on,
    whose states are read; None: those of the published embedders. generator: the folder of a Stable Diffusion. role: of
    the pictures; given: of the sounds. template: the prompt, with `<*>` for the word. l1, l2, caption: weights of the
    word's size and of how far it lies from the words of its caption.
    """

    task: Literal["token"]
    encoder: str
    generator: str
    given: str = "audio"
    layers: tuple[int, ...] | None = Field(default=None, min_length=1, max_length=96)
    template: str = Field(default="a photo of <*>", min_length=1, max_length=400)
    l1: float = Field(default=0.01, ge=0)
    l2: float = Field(default=0.0, ge=0)
    caption: float = Field(default=0.0, ge=0)
    training: TrainingSettings = TrainingSettings(batch=4, learning_rate=1e-4, weight_decay=0.01)


AnyStage = Annotated[
    AutoencoderStage | PriorStage | AlignmentStage | ClassificationStage | TokenStage, Field(discriminator="task")
]
STAGES: tuple[type[Stage], ...] = (AutoencoderStage, PriorStage, AlignmentStage, ClassificationStage, TokenStage)
