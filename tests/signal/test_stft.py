"""The STFT of a MelSpec and back: exact inverse, and the fast overlap-add against the slow."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.signal.mel import PRESETS, MelSpec, framed
from cymatic.signal.stft import istft, overlap_add, stft

SPECS = [
    PRESETS["voice-8k"],
    PRESETS["sound-24k"],
    PRESETS["specvqgan-22k"],
    MelSpec(rate=8000, n_fft=200, hop=60, mels=10, fmax=4000),
]


@pytest.mark.parametrize("spec", SPECS, ids=["400/100", "1024/256", "centred", "200/60"])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_the_inverse_gives_back_the_waveform(spec, frames):
    wave = torch.randn(2, 1, frames * spec.hop, generator=torch.Generator().manual_seed(0))
    spectrum = stft(wave, spec)
    assert spectrum.shape == (2, spec.n_fft // 2 + 1, frames)
    torch.testing.assert_close(istft(spectrum, spec), wave, atol=1e-4, rtol=0)


@pytest.mark.parametrize("spec", SPECS, ids=["400/100", "1024/256", "centred", "200/60"])
def test_is_the_stft_of_torch(spec):
    wave = torch.randn(2, 1, 7 * spec.hop + 3, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(spec.n_fft)
    theirs = torch.stft(
        framed(wave[:, 0], spec), spec.n_fft, spec.hop, window=window, center=False, return_complex=True
    )
    torch.testing.assert_close(stft(wave, spec), theirs, atol=1e-4, rtol=0)


@given(frames=st.integers(1, 9), hops=st.integers(1, 5), hop=st.integers(1, 7), extra=st.integers(0, 3))
def test_overlap_add_is_the_sum_of_shifted_pieces(frames, hops, hop, extra):
    length = hops * hop + extra
    pieces = torch.randn(2, frames, length, generator=torch.Generator().manual_seed(frames))
    total = torch.zeros(2, length + (frames - 1) * hop)
    for i in range(frames):
        total[:, i * hop : i * hop + length] += pieces[:, i]
    torch.testing.assert_close(overlap_add(pieces, hop), total)
