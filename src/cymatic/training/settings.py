"""What every stage of a recipe may set: how long and how it trains, what it is compared by, and its discriminators."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from cymatic.config import Config
from cymatic.discriminators.kinds import DISCRIMINATORS

MOST_MINUTES = 60 * 24 * 30  # a month


class TrainingSettings(Config):
    """How long and how. Either `steps` or `minutes`; minutes become steps once the speed has been measured."""

    steps: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0, le=MOST_MINUTES)
    most_steps: int | None = Field(default=None, ge=1)  # that minutes may become
    batch: int = Field(default=64, ge=1)  # items; with `frames` at most
    frames: int | None = Field(default=None, ge=1)  # that a batch may hold, padding included; None: any
    learning_rate: float = Field(default=1e-3, gt=0)  # of AdamW's steps
    matrix_rate: float = Field(default=0.02, gt=0)  # of Muon's steps
    betas: tuple[float, float] = (0.9, 0.99)  # of AdamW
    warmup: int = Field(default=50, ge=1)  # steps
    decay: float = Field(default=0.4, gt=0, le=1)  # share of the steps over which the rates fall to 0
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)  # largest norm of the gradient
    ema: float = Field(default=0.999, ge=0, lt=1)
    condition_dropout: float = Field(default=0.1, ge=0, lt=1)
    vector_dropout: float | None = Field(default=None, ge=0, lt=1)  # of its vector alone; None: with its tokens
    checkpoint_steps: int | None = Field(default=None, ge=1)  # otherwise so many that two minutes pass at most
    patience: int | None = Field(default=None, ge=1)  # checkpoints in a row that are clearly worse, see `loop.sooner`
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("steps and minutes are both given; give one of them, and null for the other")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {list(self.betas)}; give two numbers from 0 to below 1")
        return self


class ObjectiveSettings(Config):
    """What a reconstruction is compared by, as weights; 0 leaves a term out (see `training.objective`).

    Any target: `l1`, `l2`, in the part's own units. Pictures: `perceptual`: local energies at several scales and
    orientations (see `signal.scattering`), which keeps textures. Waveforms: `mel`: log mels at several scales.
    `log_mel`: the log mel that a vocoder reads. `loud`: magnitudes by their roots. `phase`: complex spectra. `stages`:
    the mean channel of each of SoundStream's decoder stages against the sound. `white`: how far the latent is from a
    unit Gaussian. `opening`: the share of the steps in which a low-pass over what the codec reads opens; 0 shows all
    from the start.
    """

    l1: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0)
    mel: float = Field(default=0.0, ge=0)
    log_mel: float = Field(default=0.0, ge=0)
    loud: float = Field(default=0.0, ge=0)
    phase: float = Field(default=0.0, ge=0)
    stages: float = Field(default=0.0, ge=0)
    perceptual: float = Field(default=0.0, ge=0)
    white: float = Field(default=0.0, ge=0)
    opening: float = Field(default=0.0, ge=0, le=1)

    def weights(self) -> dict[str, float]:
        """The distances that have a weight, by name."""
        values = self.model_dump(exclude={"white", "opening"})
        return {name: weight for name, weight in values.items() if weight}


class DiscriminatorSettings(Config):
    """How an autoencoder or a vocoder meets its discriminators (see `cymatic.discriminators`).

    kind: `patch` for pictures and mels; of waveforms `spectrograms` joined by periods, MelGAN's three `scales`, or
    Lumen's set. start: reconstruction-only steps before they come. warmup: steps of the ramp over which their weight
    grows. weight, features: of the adversarial loss and of feature matching. adaptive: whether VQ-GAN's adaptive weight
    scales both, within `adaptive_range`. segments: items of a batch that they see. rate: of their steps, relative to
    the generator's. loss: `linear` is the hinge whose other side is -D, as VQ-GAN has it, `melgan` the same with
    MelGAN's sums. selection: all of them at each step, or one for `every` steps, more often one that is hard to fool.
    balanced: weights are shares of the gradient, by EnCodec's balancer. adversarial_only: once the ramp is over the
    objective's distances are left out.
    """

    kind: Literal["patch", "spectrograms", "scales", "lumen"]
    width: int = Field(default=16, ge=1, le=512)
    start: int = Field(default=3000, ge=0)
    warmup: int = Field(default=500, ge=1)
    weight: float = Field(default=1.0, ge=0)
    features: float = Field(default=2.0, ge=0)
    adaptive: bool = False
    adaptive_range: tuple[float, float] = (0.0, 1.0)
    conditional: bool = False  # patches: whether they know the caption
    segments: int | None = Field(default=None, ge=1)
    rate: float = Field(default=4.0, gt=0)
    loss: Literal["hinge", "linear", "squares", "melgan"] = "hinge"
    repulsion: float = Field(default=0.0, ge=0)
    selection: Literal["all", "difficulty"] = "all"
    every: int = Field(default=100, ge=1)
    balanced: bool = False
    adversarial_only: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = DISCRIMINATORS[self.kind]
        if known.doubling and self.width & (self.width - 1):
            raise ValueError(f"width is {self.width}; for {self.kind} give a power of two")
        if self.conditional and not known.conditional:
            raise ValueError(f"discriminators of the kind {self.kind} know no captions; set conditional to false")
        if self.balanced and self.adversarial_only:
            raise ValueError("balanced shares the gradient with distances that adversarial_only leaves out; give one")
        if self.adaptive and self.adversarial_only:
            raise ValueError("adaptive weighs against distances that adversarial_only leaves out; give one")
        if self.adversarial_only and not self.weight + self.features:
            raise ValueError("adversarial_only with neither weight nor features leaves nothing to learn from; give one")
        if self.balanced and self.adaptive:
            raise ValueError("balanced and adaptive both scale the adversarial loss; give one of them")
        if self.adaptive_range[0] > self.adaptive_range[1] or self.adaptive_range[0] < 0:
            raise ValueError(f"adaptive_range is {list(self.adaptive_range)}; give the lower bound first, from 0 up")
        return self


class VocoderSettings(Config):
    """`auto` takes over the vocoder of the model named, where it reads the recipe's mel, and else Griffin-Lim."""

    kind: Literal["auto", "griffin-lim", "vocos", "melgan"] = "auto"
    model: str = "starter-sound"
    rounds: int = Field(default=60, ge=1, le=1000)  # of Griffin-Lim
