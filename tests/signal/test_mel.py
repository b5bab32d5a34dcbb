import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cymatic.signal.griffin_lim import griffin_lim, magnitude_from_mel
from cymatic.signal.mel import PRESETS, MelSpec, filterbank, hz_to_mel, log_mel, mel_to_hz

SPEC = PRESETS["voice-8k"]


@pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)
@given(samples=st.integers(1, 5000))
def test_frames_cover_every_sample(spec, samples):
    mel = log_mel(torch.zeros(1, 1, samples), spec)
    assert mel.shape == (1, spec.mels, spec.frames(samples))
    assert (spec.frames(samples) - 1) * spec.hop < samples <= spec.frames(samples) * spec.hop


def test_silence_is_the_floor():
    assert torch.equal(log_mel(torch.zeros(1, 1, 800), SPEC), torch.full((1, SPEC.mels, 8), SPEC.floor).log())


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


@pytest.mark.parametrize("name", ["clip", "synth"])
def test_filters_match_the_reference(fixtures_dir, name):
    """SpecVQGAN's mel: the same Slaney filters; its own padding, decibels and range are rebuilt here around them."""
    inputs, expected = (np.load(fixtures_dir / "specvqgan_mel" / f"{part}.npz") for part in ("inputs", "expected"))
    spec = MelSpec(rate=22_050, n_fft=1024, hop=256, mels=80, fmin=125, fmax=7600)
    np.testing.assert_allclose(filterbank(spec), expected["mel_basis"], atol=1e-7)
    wave = torch.from_numpy(inputs[f"wave_{name}"]).float()
    stft = torch.stft(wave, 1024, 256, window=torch.hann_window(1024), pad_mode="reflect", return_complex=True)
    decibels = 20 * np.log10(np.maximum(filterbank(spec) @ stft.abs().numpy(), 1e-5)) - 20
    np.testing.assert_allclose(np.clip((decibels + 100) / 100, 0, 1), expected[f"mel_{name}"], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"fmax": 5000}, "half the rate"), ({"fmin": 4000}, "not below"), ({"hop": 500}, "hop"), ({"mels": 0}, "mels")],
)
def test_impossible_specs_are_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        MelSpec(**{**SPEC.model_dump(), **change})


def test_griffin_lim_gets_nearer_with_rounds_and_with_momentum():
    wave = torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0)).cumsum(-1) * 0.02
    magnitude = magnitude_from_mel(log_mel(wave, SPEC), SPEC)

    def error(rounds: int, momentum: float) -> float:
        heard = griffin_lim(magnitude, SPEC, rounds=rounds, momentum=momentum)
        return (log_mel(heard, SPEC) - log_mel(wave, SPEC)).abs().mean().item()

    assert error(30, 0.99) < error(3, 0.99)
    assert error(30, 0.99) < error(30, 0.0)


def test_magnitudes_explain_the_mel():
    mel = log_mel(torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0)), SPEC)
    magnitude = magnitude_from_mel(mel, SPEC)
    assert (magnitude >= 0).all()
    torch.testing.assert_close((torch.from_numpy(filterbank(SPEC)) @ magnitude).log(), mel, atol=0.02, rtol=0)
