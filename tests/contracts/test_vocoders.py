"""What every vocoder promises. A new one is one more row in CONFIGS."""

from dataclasses import replace

import pytest
import torch

from cymatic.config import Config
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.mel import PRESETS, MelSpec, from_magnitude, log_mel, to_magnitude
from cymatic.vocoders import TRAINED_VOCODERS, VOCODERS
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN, MelGANConfig
from cymatic.vocoders.vocos import Vocos, VocosConfig

SPEC = PRESETS["voice-8k"]
CONFIGS = [
    GriffinLimConfig(mel=SPEC, rounds=8),
    VocosConfig(mel=SPEC, width=64, depth=2, corrections=6),
    MelGANConfig(mel=SPEC, width=32, blocks=2, ratios=(5, 5, 2, 2)),
]


def build(config: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    vocoder = next(v for v in VOCODERS if isinstance(config, v.config_class))(config)
    if isinstance(vocoder, Vocos):
        learn_tones(vocoder)
    if isinstance(vocoder, MelGAN):  # learns too slowly for a test of all; see tests/vocoders/test_melgan.py
        vocoder.steps_trained.fill_(1)
    return vocoder.eval()


def learn_tones(vocoder: Vocos, steps: int = 60) -> None:
    """Enough training for a vocoder of a few thousand weights to know what a tone and silence are."""
    optimizer = torch.optim.AdamW(vocoder.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        hz = 150 * 8 ** torch.rand(8, 1, 1, generator=generator)
        wave = 0.3 * torch.sin(2 * torch.pi * hz * torch.arange(3200) / 8000)
        wave = wave + 0.01 * torch.randn(wave.shape, generator=generator)
        wave[:2] = 0
        mel = log_mel(wave, SPEC)
        optimizer.zero_grad()
        (log_mel(vocoder(mel), SPEC) - mel).abs().mean().backward()
        optimizer.step()
    vocoder.steps_trained.fill_(steps)


BUILT = [build(config) for config in CONFIGS]
every_vocoder = pytest.mark.parametrize("vocoder", BUILT, ids=lambda v: v.config.kind)
# These two meet the mel by construction, as soon as they know a little. A network that only upsamples has to have
# learned each sound, and of a steady mel it can make no other than one that repeats with every frame.
each_that_inverts = pytest.mark.parametrize("vocoder", BUILT[:2], ids=lambda v: v.config.kind)


def test_every_vocoder_is_here():
    assert {type(vocoder) for vocoder in BUILT} == set(VOCODERS)
    assert set(TRAINED_VOCODERS) == {type(vocoder) for vocoder in BUILT if list(vocoder.parameters())}


@every_vocoder
def test_it_says_what_it_reads_and_gives_and_may_read_something_else(vocoder):
    config = vocoder.config
    assert config.reads == SPEC and config.gives == WaveSpec(rate=SPEC.rate)
    assert config.names_its_spec and not type(config)().names_its_spec
    assert config.reading(SPEC) == config
    fewer = SPEC.model_copy(update={"mels": 32})
    assert config.reading(fewer).reads == fewer
    assert type(config)(mel="sound-24k").reads == PRESETS["sound-24k"]
    with pytest.raises(ValueError, match='no mel "sound-25k"; did you mean "sound-24k"'):
        type(config)(mel="sound-25k")


@every_vocoder
def test_what_training_asks_of_a_vocoder(vocoder):
    parameters = {id(p) for p in vocoder.parameters()}
    assert type(vocoder.config) is vocoder.config_class and int(vocoder.steps_trained) >= 1
    assert all(id(p) in parameters and p.dim() > 1 for p in vocoder.matrices())
    assert vocoder.last is None or id(vocoder.last) in parameters
    assert vocoder.length(2) - vocoder.length(1) == vocoder.cell == SPEC.hop and vocoder.columns(1) == 1
    assert (vocoder.sizes, vocoder.rows, vocoder.layout, vocoder.min_levels) == ((), 0, "levels", 1)
    assert not (vocoder.is_model or vocoder.kept_in_shards or vocoder.use or vocoder.whitened)
    assert isinstance(vocoder.kept_half, bool) and len(vocoder.decoder_stages) == 0
    before = {name: tensor.clone() for name, tensor in vocoder.state_dict().items()}
    vocoder.fit_statistics([tones(0.3)[0][None]])
    assert all(torch.equal(tensor, before[name]) for name, tensor in vocoder.state_dict().items())


@every_vocoder
@torch.inference_mode()
def test_it_is_an_autoencoder_whose_first_half_is_the_mel(vocoder):
    lengths = torch.tensor([1850, 400, 3000])
    wave = torch.full((3, 1, 3000), 9.0)
    for row, tone, length in zip(wave, tones(0.3, 0.3, 0.4), lengths.tolist(), strict=True):
        row[:, :length] = tone[:length]
    latent = vocoder.encode(wave, lengths)
    assert latent.codes is None and vocoder.sizes == ()
    made = vocoder.decode(latent)
    assert made.shape == (3, 1, 3000)
    for i, length in enumerate(lengths.tolist()):
        alone = vocoder.encode(wave[i : i + 1, :, :length])
        assert torch.equal(alone.z, vocoder.analyse(wave[i : i + 1, :, :length]))
        assert alone.z.shape[-1] == vocoder.columns(length) and vocoder.length(alone.z.shape[-1]) >= length
        frames = alone.z.shape[-1]
        torch.testing.assert_close(latent.z[i, :, :frames], alone.z[0], atol=1e-5, rtol=0)
        assert (latent.z[i, :, frames:] == torch.tensor(SPEC.silence)).all()
        torch.testing.assert_close(made[i, :, :length], vocoder.decode(alone)[0], atol=1e-5, rtol=0)
        assert not made[i, :, length:].any()
    step = vocoder.reconstruct(wave[2:])
    assert step.quantized is None and torch.equal(step.wanted, wave[2:])
    torch.testing.assert_close(step.made, made[2:], atol=1e-5, rtol=0)
    assert vocoder.distance(step.wanted, step.wanted) == 0 < vocoder.distance(step.made, step.wanted)


@every_vocoder
def test_lengths_and_mels_that_do_not_fit_are_refused(vocoder):
    wave = torch.zeros(1, 1, 400)
    for wrong in (0, 401):
        with pytest.raises(Error, match="give 1 to all"):
            vocoder.encode(wave, torch.tensor([wrong]))
    latent = vocoder.encode(wave)
    with pytest.raises(Error, match=r"\[401\] samples were asked for, and 4 frames hold 1 to 400"):
        vocoder.decode(replace(latent, lengths=torch.tensor([401])))
    with pytest.raises(Error, match=r"this vocoder reads mels \[batch, 64, frames\]"):
        vocoder.decode(replace(latent, z=latent.z[:, 1:]))


def tones(*seconds: float) -> list[torch.Tensor]:
    return [
        torch.sin(2 * torch.pi * 300 * (i + 1) * torch.arange(int(s * 8000)) / 8000) * 0.3
        for i, s in enumerate(seconds)
    ]


def mel_of(wave: torch.Tensor, spec: MelSpec = SPEC) -> torch.Tensor:
    return log_mel(wave[None, None], spec)


@every_vocoder
@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 2, 7, 80])
def test_gives_exactly_frames_times_hop_samples(vocoder, frames):
    assert vocoder(torch.full((2, SPEC.mels, frames), -5.0)).shape == (2, 1, frames * SPEC.hop)


@every_vocoder
@torch.inference_mode()
def test_is_the_same_every_time_and_leaves_the_global_seed_alone(vocoder):
    mel = mel_of(tones(0.4)[0])
    torch.manual_seed(5)
    first = vocoder(mel)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(vocoder(mel), first)


@every_vocoder
@torch.inference_mode()
def test_a_batch_equals_its_items(vocoder):
    mels = torch.cat([mel_of(wave) for wave in tones(0.5, 0.5, 0.5)])
    together = vocoder(mels)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], vocoder(mels[i : i + 1]), atol=1e-5, rtol=0)


@each_that_inverts
@torch.inference_mode()
def test_a_tone_comes_back_as_that_tone(vocoder):
    wave = tones(0, 0.5)[1]  # 600 Hz
    wave = wave + 0.01 * torch.randn(len(wave), generator=torch.Generator().manual_seed(0))  # as in any recording
    heard = vocoder(mel_of(wave))[0, 0]
    assert int(torch.fft.rfft(heard).abs().argmax()) * 8000 / len(heard) == pytest.approx(600, abs=10)
    inner = slice(5, -5)
    assert (mel_of(heard)[..., inner] - mel_of(wave)[..., inner]).abs().mean() < 0.5


@each_that_inverts
@torch.inference_mode()
def test_silence_stays_silent(vocoder):
    assert vocoder(mel_of(torch.zeros(4000))).abs().max() < 1e-3


@pytest.mark.parametrize("config", CONFIGS[1:], ids=lambda c: c.kind)
def test_a_vocoder_that_was_never_trained_refuses(config):
    vocoder = next(v for v in VOCODERS if isinstance(config, v.config_class))(config).eval()
    with pytest.raises(ModelError, match="never trained"):
        vocoder(torch.zeros(1, SPEC.mels, 3))


@every_vocoder
@torch.inference_mode()
def test_saved_and_loaded_it_says_the_same(vocoder, tmp_path):
    save_part(tmp_path, vocoder)
    loaded = load_part(tmp_path, VOCODERS)
    assert loaded.config == vocoder.config
    mel = mel_of(tones(0.4)[0])
    assert torch.equal(loaded(mel), vocoder(mel))


@torch.inference_mode()
@pytest.mark.parametrize("spec", [PRESETS["specvqgan-22k"]], ids=["specvqgan-22k"])
@pytest.mark.parametrize("config_class", [GriffinLimConfig, VocosConfig, MelGANConfig], ids=lambda c: c.__name__)
def test_a_mel_on_another_scale_is_spoken_too(config_class, spec):
    config = config_class(mel=spec)
    vocoder = next(v for v in VOCODERS if isinstance(config, v.config_class))(config)
    for frames in (1, 3, 9):
        waveform = vocoder(torch.full((2, 80, frames), 0.5))
        assert waveform.shape == (2, 1, 256 * frames) and waveform.isfinite().all()


@torch.inference_mode()
def test_griffin_lim_makes_of_decibels_what_it_makes_of_logarithms():
    """The same magnitudes, said in two ways."""
    loud = PRESETS["specvqgan-22k"]
    plain = loud.model_copy(update={"normalisation": "natural-log"})
    magnitude = to_magnitude(
        log_mel(0.3 * torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0)), loud), loud
    )
    heard = [
        GriffinLimVocoder(GriffinLimConfig(mel=spec, rounds=4))(from_magnitude(magnitude, spec))
        for spec in (loud, plain)
    ]
    torch.testing.assert_close(*heard, atol=1e-3, rtol=0)


def test_corrections_bring_the_mel_nearer():
    vocoder = BUILT[1]
    mel = mel_of(tones(0, 0.5)[1] + 0.01 * torch.randn(4000, generator=torch.Generator().manual_seed(0)))
    strengths, errors = vocoder.strengths.detach().clone(), []
    with torch.inference_mode():
        for count in (0, 2, 6):
            vocoder.strengths = torch.nn.Parameter(strengths[:count])
            errors.append((mel_of(vocoder(mel)[0, 0]) - mel).abs().mean().item())
    vocoder.strengths = torch.nn.Parameter(strengths)
    assert errors[0] > errors[1] > errors[2]


def test_a_gradient_reaches_every_parameter_of_vocos():
    vocoder = Vocos(VocosConfig(mel=SPEC, width=16, depth=2, corrections=2))
    mel = mel_of(torch.randn(1600, generator=torch.Generator().manual_seed(0)) * 0.1)
    (log_mel(vocoder(mel), SPEC) - mel).abs().mean().backward()
    assert not [name for name, p in vocoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
