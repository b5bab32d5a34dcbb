"""Which settings of a waveform codec are tried against which: each row of the table, in the order of their runs."""

from __future__ import annotations

from dataclasses import dataclass

# The small codec that all others differ from: 50 frames a second of 6 codes of 8 bits, 2.4 kbit/s at 8 kHz.
RECIPE = "starter-codec"  # of which the list below leaves nothing
BASE = (
    "data.packs=[]", "codec.rate=8000",
    "codec.network={kind: fast, hop: 160, width: 96}",
    "codec.quantizer={kind: residual, levels: 6, size: 256, dim: 32, dropout: 0.5}",
    "codec.segment=0.64", "codec.objective={mel: 1.0, loud: 1.0, phase: 0.5, white: 0.03}",
    "codec.discriminators={kind: spectrograms, start: 6000, segments: 4, width: 2}",
    "training={batch: 4, warmup: 20, learning_rate: 0.001, betas: [0.8, 0.99], decay: 0.6, ema: 0.99}",
)  # fmt: skip
NARROW = "codec.network={kind: soundstream, strides: [2, 4, 4, 5], widths: [8, 16, 32, 64, 96]}"
SIGNS = "codec.quantizer={kind: %s, levels: 3, %s, dim: 32, dropout: 0.5}"  # as many bits as the base
FINITE = SIGNS % ("finite", f"steps: {[2] * 16}")
ENERGY = "codec.energy={dim: 32, heads: 4, memories: 128, steps: 4}"
ALL_SIX = "codec.augment={gain: 6, polarity: 0.5, filter: 6, noise: 0.5, overtones: 0.5, mix: 0.5}"
D = "codec.discriminators"
ALONE = "without judges"  # as the rows that are there are called
MET = (f"{D}.start=0", f"{D}.warmup=50", f"{D}.segments=2", f"{D}.width=8")


@dataclass(frozen=True)
class Variant:
    """One row: the settings laid over `BASE`, and the row that it is compared to.

    minutes: in those of the others. goes_on: from the weights of the variant of that name. In a setting `<steps>`
    and `<two thirds>` stand for the steps that there is time for.
    """

    name: str
    group: str
    settings: tuple[str, ...] = ()
    against: str = "base"
    seed: int = 0
    minutes: float = 1.0
    goes_on: str | None = None

    @property
    def key(self) -> str:
        return f"{self.name}, seed {self.seed}" if self.seed else self.name


def _quantizer(name: str, *settings: str, against: str = "base", group: str = "quantizer") -> Variant:
    return Variant(name, group, tuple(f"codec.quantizer.{one}" for one in settings), against)


def _stream(name: str, *settings: str, seed: int = 0) -> Variant:
    return Variant(name, "network", (NARROW, *settings), "soundstream", seed)


def _met(name: str, *settings: str, seed: int = 0) -> Variant:
    met = () if name == ALONE else MET
    return Variant(name, "discriminators", (*met, *settings), ALONE, seed, goes_on="start")


def _map(topology: str, kernel: str) -> Variant:
    settings = (f"map={{topology: {topology}, kernel: {kernel}, batches: <two thirds>}}",)
    return _quantizer(f"map, {topology}, {kernel}", *settings, group="map")


VARIANTS = (
    Variant("base", "base"),
    Variant("base", "base", seed=1),
    Variant("base", "base", seed=2),
    _quantizer("gradient", "learned=gradient"),
    _quantizer("cosine", "metric=cosine"),
    _quantizer("lookup_dim 8", "lookup_dim=8"),
    _quantizer("as DAC", "lookup_dim=8", "metric=cosine", "learned=gradient"),
    Variant("finite", "quantizer", (FINITE,)),
    Variant("lookup-free", "quantizer", (SIGNS % ("lookup-free", "bits: 16"),)),
    _map("grid", "gaussian"),
    _quantizer("no dropout", "dropout=0"),
    Variant("energy", "energy", (ENERGY,)),
    _stream("soundstream"),
    Variant("start", "discriminators", against="start", minutes=2.0),
    _met(ALONE),
    _met("spectrograms"),
    Variant("no white", "objective", ("codec.objective.white=0",)),
    Variant("no loud", "objective", ("codec.objective.loud=0",)),
    Variant("no phase", "objective", ("codec.objective.phase=0",)),
    _stream("snake", "codec.network.activation=snake"),
    _met("difficulty", f"{D}.selection=difficulty", f"{D}.every=10"),
    Variant("all six", "augment", (ALL_SIX,)),
    _stream("wavelets", "codec.network.wavelets=[1]"),
    _stream("multires", "codec.network.multires=[2]"),
    _met("balanced", f"{D}.balanced=true"),
    Variant("finite, energy", "energy", (FINITE, ENERGY), "finite"),
    Variant("opening", "objective", ("codec.objective.opening=0.5", "training.steps=<steps>")),
    _met("squares", f"{D}.loss=squares"),
    _stream("stages", "codec.objective.stages=1"),
    _met("repulsion", f"{D}.repulsion=0.1"),
    _map("line", "hard"),
    Variant("noise", "augment", ("codec.augment.noise=0.5",)),
    Variant("filter", "augment", ("codec.augment.filter=6",)),
    Variant("mix", "augment", ("codec.augment.mix=0.5",)),
    Variant("gaussian", "quantizer", ("codec.quantizer={kind: gaussian, dim: 32, latent: 32}",)),
    _met("alone", f"{D}.adversarial_only=true"),
    Variant("gain", "augment", ("codec.augment.gain=6",)),
    Variant("overtones", "augment", ("codec.augment.overtones=0.5",)),
    Variant("polarity", "augment", ("codec.augment.polarity=0.5",)),
    _met("lumen", f"{D}.kind=lumen"),
    _stream("wavelets, moving sum", "codec.network.wavelets=[1]", "codec.network.wavelet=moving-sum"),
    _map("grid", "hard"),
    _map("line", "gaussian"),
    _quantizer("no restart", "restart=false"),
    Variant("base", "base", seed=3),
    _met(ALONE, seed=1),
    _stream("soundstream", seed=1),
    _met("spectrograms", seed=1),
    _met(ALONE, seed=2),
    _stream("soundstream", seed=2),
)  # fmt: skip
