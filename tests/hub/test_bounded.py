"""What a config may claim: whatever its numbers say, a part is loaded or refused, soon and in little memory."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cymatic.codecs.fast import FastShape
from cymatic.codecs.pitch import PitchShape
from cymatic.codecs.soundstream import SoundStreamShape
from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig
from cymatic.codecs.waveform import WaveformCodec, WaveformCodecConfig
from cymatic.encoders.classes import ClassConfig, ClassEncoder
from cymatic.encoders.features import FeatureConfig, FeatureEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import ModelError
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.dac import DacCodec, DacCodecConfig
from cymatic.hub.readers.encodec import EncodecCodec, EncodecCodecConfig
from cymatic.hub.readers.lumen import LumenCodec, LumenCodecConfig
from cymatic.nn.energy_transformer import EnergyTransformerConfig
from cymatic.priors.flow import FlowConfig, FlowPrior
from cymatic.priors.gpt import GPTConfig, GPTPrior
from cymatic.priors.gpt_vae import GPTVAE, GPTVAEConfig
from cymatic.quantizers.finite import FiniteScalarQuantizerConfig
from cymatic.quantizers.gaussian import GaussianBottleneckConfig
from cymatic.quantizers.residual import ResidualQuantizerConfig
from cymatic.quantizers.vector import VectorQuantizerConfig
from cymatic.signal.mel import MelSpec
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN, MelGANConfig
from cymatic.vocoders.vocos import Vocos, VocosConfig

resource = pytest.importorskip("resource")  # not on Windows
SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=10, fmax=4000)
FAST = FastShape(hop=40, split=2, width=16, encoder=(1, 1), decoder=(1, 1), pitch=PitchShape(highest=250))
STREAM = SoundStreamShape(strides=(2, 4, 5), widths=(4, 6, 8, 10), multires=(0,), wavelets=(1,), kernel=3)
RESIDUAL = ResidualQuantizerConfig(levels=3, size=16, dim=8)
SHAPE = dict(codes=20, rows=3, longest=8, width=32, depth=2, heads=2, cond_dim=16)
VECTOR = VectorQuantizerConfig(size=16, dim=4)
PARTS = {
    "flow": lambda: FlowPrior(FlowConfig(mel=SPEC, cond_dim=8, width=16, depth=1, heads=2)),
    "gpt": lambda: GPTPrior(GPTConfig(**SHAPE, positions="learned", prefix=8)),
    "gpt-vae": lambda: GPTVAE(GPTVAEConfig(decoder=GPTConfig(**SHAPE), latent=8)),
    "text": lambda: TextEncoder(TextConfig(dim=8)),
    "class": lambda: ClassEncoder(ClassConfig(names=("dog", "cat"), dim=8)),
    "features": lambda: FeatureEncoder(FeatureConfig(features=12, dim=8, frames=4)),
    "spectrogram": lambda: SpectrogramCodec(
        SpectrogramCodecConfig(mel=SPEC, quantizer=VECTOR, latent=6, blocks=1, width=8, multiples=(1, 2), groups=2)
    ),
    "fast": lambda: WaveformCodec(WaveformCodecConfig(rate=2000, network=FAST, quantizer=RESIDUAL, block=4)),
    "soundstream": lambda: WaveformCodec(WaveformCodecConfig(rate=2000, network=STREAM, quantizer=RESIDUAL, block=4)),
    "finite": lambda: WaveformCodec(
        WaveformCodecConfig(
            rate=2000, network=STREAM, quantizer=FiniteScalarQuantizerConfig(dim=8, steps=(5, 5)), block=4
        )
    ),
    "gaussian": lambda: WaveformCodec(
        WaveformCodecConfig(
            rate=2000, network=STREAM, quantizer=GaussianBottleneckConfig(dim=8, latent=5, kl=1e-4), block=4,
            energy=EnergyTransformerConfig(dim=8, heads=2, memories=16, steps=3, step=2.0),
        )
    ),
    "encodec": lambda: EncodecCodec(EncodecCodecConfig(width=2, dim=4, ratios=(2,), size=16, levels=2, lstm=1)),
    "dac": lambda: DacCodec(DacCodecConfig(rate=16_000, width=2, ratios=(2,), decoder_width=4, decoder_ratios=(2,),
                                           dim=4, levels=2, size=16, lookup_dim=2)),
    "lumen": lambda: LumenCodec(LumenCodecConfig(width=2, strides=(2,), rises=("repeat",), dim=4, sizes=(16, 16))),
    "judge": lambda: Classifier(ClassifierConfig(labels={"pitch": ("low", "high")}, trunk=ConvTrunk())),
    "griffin-lim": lambda: GriffinLimVocoder(GriffinLimConfig(mel=SPEC)),
    "vocos": lambda: Vocos(VocosConfig(mel=SPEC, width=16, depth=1, corrections=2)),
    "melgan": lambda: MelGAN(MelGANConfig(mel=SPEC, width=32, blocks=2, ratios=(5, 5, 2, 2))),
}  # fmt: skip
HUGE = (10**9, 65_536, 100, -1)


def variants(values: Any) -> Iterator[Any]:
    """`values` with one number or list after the other as nobody means it."""
    if isinstance(values, dict):
        for name, value in values.items():
            if name not in ("kind", "format"):
                yield from ({**values, name: other} for other in variants(value))
    elif isinstance(values, list):
        yield [*values[:-1], *(values[-1:] * 4000)]
        yield values * 50_000
        yield [10**9] * max(2, len(values))
        for i, value in enumerate(values):
            yield from ([*values[:i], other, *values[i + 1 :]] for other in variants(value))
    elif isinstance(values, int) and not isinstance(values, bool):
        yield from (other for other in HUGE if other != values)


def load(folder, kinds, seconds=2.0):
    """The part, or what was said; fails where that takes longer."""

    def late(*_):
        raise TimeoutError("this takes far too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 20)  # only so that a failure ends
    began = time.process_time()
    try:
        return load_part(folder, kinds)
    except ModelError as error:
        return str(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        assert time.process_time() - began < seconds


def peak() -> int:
    """Bytes of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("name", PARTS)
def test_no_number_of_a_config_takes_all_time_or_memory(tmp_path, name):
    part = PARTS[name]()
    save_part(tmp_path, part)
    path = tmp_path / "config.json"
    given = json.loads(path.read_text())
    assert not isinstance(load(tmp_path, (type(part),)), str)
    before, refused = peak(), 0
    for values in variants(given):
        path.write_text(json.dumps(values))
        found = load(tmp_path, (type(part),))
        if isinstance(found, str):
            refused += 1
            assert "\n" not in found and str(tmp_path) in found
    assert refused and peak() - before < 400e6


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fast", {"network": {"encoder": [10**9, 0]}}),
        ("fast", {"quantizer": {"levels": 64, "size": 65_536, "dim": 8192}}),
        ("fast", {"network": {"width": 4096, "encoder": [10**6, 10**6], "decoder": [10**6, 10**6]}}),
        ("spectrogram", {"quantizer": {"size": 2**20, "dim": 8192}}),
        ("spectrogram", {"width": 4096, "multiples": [64] * 8, "blocks": 16}),
        ("gpt", {"width": 1024, "depth": 150}),
        ("gpt-vae", {"decoder": {"width": 1024, "depth": 150}, "encoder_depth": 150}),
    ],
)
def test_a_far_larger_network_than_the_file_holds_is_named(tmp_path, name, changes):
    part = PARTS[name]()
    save_part(tmp_path, part)
    path = tmp_path / "config.json"

    def merged(values, changes):
        return {**values, **{k: merged(values[k], v) if isinstance(v, dict) else v for k, v in changes.items()}}

    path.write_text(json.dumps(merged(json.loads(path.read_text()), changes)))
    before = peak()
    assert "describes a far larger network than its file of weights holds" in load(tmp_path, (type(part),), 3.0)
    assert peak() - before < 100e6


def test_numbers_and_lists_that_no_part_has(tmp_path):
    save_part(tmp_path, PARTS["class"]())
    path = tmp_path / "config.json"
    given = json.loads(path.read_text())
    for changes, said in [
        ({"dim": 2**60}, "holds a number beyond 2^53"),
        ({"names": [1] * 5000}, "holds a list of 5,000 items"),
        ({"names": ["a"] * 70_000}, "holds a list of 70,000 items"),
        ({"names": [str(i) for i in range(65_536)]}, "token.weight is"),
        ({"dim": 16384, "names": [str(i) for i in range(65_536)]}, "far larger network"),
    ]:
        path.write_text(json.dumps({**given, **changes}))
        assert said in load(tmp_path, (ClassEncoder,), 1.0)
    path.write_text('{"dim": ' + "[" * 100_000)
    assert isinstance(load(tmp_path, (ClassEncoder,)), str)


def test_loading_draws_as_building_does(tmp_path):
    """Who seeds torch, loads a part and then builds another, gets what it got before parts were bounded."""
    torch.manual_seed(0)
    part = PARTS["flow"]()
    after = torch.rand(3)
    save_part(tmp_path, part)
    torch.manual_seed(0)
    again = load_part(tmp_path, (FlowPrior,))
    assert torch.equal(torch.rand(3), after)
    assert all(torch.equal(a, b) for a, b in zip(part.parameters(), again.parameters(), strict=True))
