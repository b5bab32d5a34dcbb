"""Which settings of a waveform codec are tried against which: each row of the table, in the order of their runs."""

from __future__ import annotations

from dataclasses import dataclass

# The small codec that all others differ from: 50 frames a second of 6 codes of 8 bits, 2.4 kbit/s at 8 kHz.
BASE = (
    "kind=waveform-codec", "rate=8000", "network.hop=160", "network.width=96", "quantizer.levels=6",
    "quantizer.size=256", "quantizer.dim=32", "quantizer.dropout=0.5", "judges.width=2", "training.batch=4",
    "training.warmup=20", "piece=0.64",
)  # fmt: skip
NARROW = "network={kind: soundstream, strides: [2, 4, 4, 5], widths: [8, 16, 32, 64, 96]}"
SIGNS = "quantizer={kind: %s, levels: 3, %s, dim: 32, dropout: 0.5}"  # as many bits as the base
FINITE = SIGNS % ("finite", f"steps: {[2] * 16}")
ENERGY = "energy={dim: 32, heads: 4, memories: 128, steps: 4}"
ALONE, HEARD = "without judges", ("judges.start=0", "judges.warmup=50", "judges.judged=2", "judges.width=8")


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
    return Variant(name, group, tuple(f"quantizer.{one}" for one in settings), against)


def _stream(name: str, *settings: str, seed: int = 0) -> Variant:
    return Variant(name, "network", (NARROW, *settings), "soundstream", seed)


def _heard(name: str, *settings: str, seed: int = 0) -> Variant:
    heard = () if name == ALONE else HEARD
    return Variant(name, "judges", (*heard, *settings), ALONE, seed, goes_on="start")


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
    Variant("start", "judges", against="start", minutes=2.0),
    _heard(ALONE),
    _heard("spectrograms"),
    Variant("no white", "objective", ("objective.white=0",)),
    Variant("no loud", "objective", ("objective.loud=0",)),
    Variant("no phase", "objective", ("objective.phase=0",)),
    _stream("snake", "network.activation=snake"),
    _heard("difficulty", "judges.choice=difficulty", "judges.every=10"),
    Variant(
        "all six", "augment", ("augment={gain: 6, polarity: 0.5, filter: 6, noise: 0.5, overtones: 0.5, mix: 0.5}",)
    ),
    _stream("wavelets", "network.wavelets=[1]"),
    _stream("multires", "network.multires=[2]"),
    _heard("balanced", "judges.balanced=true"),
    Variant("finite, energy", "energy", (FINITE, ENERGY), "finite"),
    Variant("opening", "objective", ("objective.opening=0.5", "training.steps=<steps>")),
    _heard("squares", "judges.rule=squares"),
    _stream("stages", "objective.stages=1"),
    _heard("repulsion", "judges.repulsion=0.1"),
    _map("line", "hard"),
    Variant("noise", "augment", ("augment.noise=0.5",)),
    Variant("filter", "augment", ("augment.filter=6",)),
    Variant("mix", "augment", ("augment.mix=0.5",)),
    Variant("gaussian", "quantizer", ("quantizer={kind: gaussian, dim: 32, latent: 32}",)),
    _heard("alone", "judges.alone=true"),
    Variant("gain", "augment", ("augment.gain=6",)),
    Variant("overtones", "augment", ("augment.overtones=0.5",)),
    Variant("polarity", "augment", ("augment.polarity=0.5",)),
    _heard("lumen", "judges.judges=lumen"),
    _stream("wavelets, moving sum", "network.wavelets=[1]", "network.wavelet=moving-sum"),
    _map("grid", "hard"),
    _map("line", "gaussian"),
    _quantizer("no restart", "restart=false"),
    Variant("base", "base", seed=3),
    _heard(ALONE, seed=1),
    _stream("soundstream", seed=1),
    _heard("spectrograms", seed=1),
    _heard(ALONE, seed=2),
    _stream("soundstream", seed=2),
)  # fmt: skip
