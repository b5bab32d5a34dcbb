import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cymatic.signal.griffin_lim import griffin_lim, magnitude_from_mel
from cymatic.signal.mel import (
    PRESETS,
    MelSpec,
    filterbank,
    framed,
    from_log,
    from_magnitude,
    hz_to_mel,
    log_mel,
    mel_to_hz,
    to_log,
    to_magnitude,
)

SPEC = PRESETS["voice-8k"]
CENTRED = PRESETS["specvqgan-22k"]
every_preset = pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)


@every_preset
@given(samples=st.integers(1, 5000))
def test_frames_cover_every_sample(spec, samples):
    mel = log_mel(torch.zeros(1, 1, samples), spec)
    assert mel.shape == (1, spec.mels, spec.frames(samples))
    assert (spec.frames(samples) - 1) * spec.hop < samples <= spec.frames(samples) * spec.hop


@every_preset
def test_silence_is_what_the_spec_says(spec):
    mel = log_mel(torch.zeros(1, 1, 800), spec)
    assert torch.equal(mel, torch.full_like(mel, spec.silence))
    assert PRESETS["specvqgan-22k"].silence == 0


@pytest.mark.parametrize("samples", [1, 2, 512, 513, 700, 1024, 1025, 4000])
def test_centred_frames_by_hand(samples):
    """Frame i of a reflected sound, written naively; a sound that can't be reflected has silence after it."""
    wave = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    frames = framed(wave, CENTRED).unfold(0, 1024, 256).numpy()
    longer = np.pad(wave.numpy(), (0, max(0, 513 - samples)))
    reflected = np.pad(longer, 512, mode="reflect")
    assert len(frames) == CENTRED.frames(samples)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, reflected[256 * i : 256 * i + 1024])


@every_preset
def test_magnitudes_and_back(spec):
    magnitude = torch.logspace(-3.5, 0.9, 40)[None]
    mel = from_magnitude(magnitude, spec)
    torch.testing.assert_close(to_magnitude(mel, spec), magnitude, rtol=1e-4, atol=0)
    torch.testing.assert_close(from_log(to_log(mel, spec), spec), mel)
    assert (from_magnitude(torch.zeros(3), spec) == spec.silence).all()
    assert (from_log(torch.full((3,), -99.0), spec) == spec.silence).all()


def test_decibel_unit_by_hand():
    """-80 dB is 0, 0 dB is 0.8, +20 dB and all above it is 1."""
    mel = from_magnitude(torch.tensor([1e-6, 1e-4, 1e-2, 1.0, 10.0, 20.0]), CENTRED)
    torch.testing.assert_close(mel, torch.tensor([0.0, 0.0, 0.4, 0.8, 1.0, 1.0]), atol=1e-6, rtol=0)


def test_a_config_of_before_means_what_it_meant():
    """Neither key stood in the configs of the first starters."""
    values = {k: v for k, v in PRESETS["sound-24k"].model_dump().items() if k != "framing"}
    assert MelSpec.parse(values, "config.json") == PRESETS["sound-24k"]


def test_slaneys_scale():
    np.testing.assert_allclose(hz_to_mel(np.array([0, 200, 1000, 6400])), [0, 3, 15, 42])
    hz = np.linspace(0, 12_000, 200)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-9)


def test_filters_have_equal_area_and_leave_no_gap():
    spec = PRESETS["sound-24k"].model_copy(update={"n_fft": 8192, "hop": 2048})  # fine enough to integrate
    filters = filterbank(spec)
    np.testing.assert_allclose(filters.sum(1) * spec.rate / spec.n_fft, 1, rtol=0.05)
    assert (filterbank(SPEC).sum(1) > 0).all(), "a filter between two bins would be deaf"


def test_a_frame_is_the_filtered_magnitude_of_its_windowed_samples():
    """The definition, written naively, for one frame in the middle."""
    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    mel = log_mel(wave[None, None], SPEC)[0]
    i = 20
    start = i * SPEC.hop + SPEC.hop // 2 - SPEC.n_fft // 2
    window = np.hanning(SPEC.n_fft + 1)[:-1]
    magnitude = np.abs(np.fft.rfft(wave[start : start + SPEC.n_fft].numpy() * window))
    np.testing.assert_allclose(mel[:, i], np.log(np.maximum(filterbank(SPEC) @ magnitude, SPEC.floor)), atol=1e-4)


def test_later_silence_does_not_change_earlier_frames():
    wave = torch.randn(1, 1, 1200, generator=torch.Generator().manual_seed(0))
    longer = torch.nn.functional.pad(wave, (0, 900))
    torch.testing.assert_close(log_mel(longer, SPEC)[..., :12], log_mel(wave, SPEC))


def test_filters_match_the_reference(reference):
    reference("specvqgan_mel").agrees("mel_basis", torch.from_numpy(filterbank(CENTRED)), atol=1e-7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fmax": 5000}, "half the rate"),
        ({"fmin": 4000}, "not below"),
        ({"hop": 500}, "hop"),
        ({"mels": 0}, "mels"),
        ({"hop": 201, "framing": "centred"}, "half the window"),
    ],
)
def test_impossible_specs_are_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        MelSpec(**{**SPEC.model_dump(), **change})


@every_preset
def test_griffin_lim_gets_nearer_with_rounds_and_with_momentum(spec):
    wave = torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0)).cumsum(-1) * 0.02
    mel = log_mel(wave, spec)
    magnitude = magnitude_from_mel(mel, spec)

    def error(rounds: int, momentum: float) -> float:
        heard = griffin_lim(magnitude, spec, rounds=rounds, momentum=momentum)
        return (log_mel(heard, spec) - mel).abs().mean().item()

    assert error(30, 0.99) < error(3, 0.99)
    assert error(30, 0.99) < error(30, 0.0)


def test_magnitudes_explain_the_mel():
    mel = log_mel(torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0)), SPEC)
    magnitude = magnitude_from_mel(mel, SPEC)
    assert (magnitude >= 0).all()
    torch.testing.assert_close((torch.from_numpy(filterbank(SPEC)) @ magnitude).log(), mel, atol=0.02, rtol=0)
