"""Filters: what they keep and what they take away, and when the low-pass opens; and what stages of a decoder make."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.signal.channel_average import channel_average_distance, coarse_first
from cymatic.signal.filters import low_pass, opening, pre_emphasis

RATE = 24_000


def tone(hz, samples=4800):
    # Faded at both ends: a tone that starts at once is not one tone.
    return torch.sin(2 * torch.pi * hz * torch.arange(samples) / RATE)[None, None] * torch.hann_window(samples)


def test_pre_emphasis_is_lumens(reference):
    losses = reference("seed_losses")
    losses.agrees("preemphasis", pre_emphasis(losses.inputs["wave"]))


@pytest.mark.parametrize("hz", [0, 100, 3000, 5900])
def test_the_low_pass_keeps_what_lies_below(hz):
    sound = tone(hz) if hz else torch.hann_window(4800)[None, None]
    torch.testing.assert_close(low_pass(sound, 6000.0, RATE), sound, atol=2e-3, rtol=0)


@pytest.mark.parametrize("hz", [6700, 9000, 12_000])
def test_the_low_pass_takes_away_what_lies_above(hz):
    assert low_pass(tone(hz), 6000.0, RATE).abs().max() < 2e-3


def test_each_item_has_its_cut_off_and_an_open_one_changes_nothing():
    noise = torch.randn(3, 2, 999, generator=torch.Generator().manual_seed(0))
    found = low_pass(noise, torch.tensor([2000.0, 6000.0, 12_000.0]), RATE)
    torch.testing.assert_close(found[:1], low_pass(noise[:1], 2000.0, RATE))
    torch.testing.assert_close(found[2], noise[2], atol=1e-5, rtol=0)
    assert low_pass(noise, 12_000.0, RATE) is noise
    assert found[0].square().mean() < found[1].square().mean() < found[2].square().mean()


def test_a_gradient_passes_the_low_pass_below_and_not_above():
    for hz, passes in ((1000, True), (9000, False)):
        sound = torch.zeros(1, 1, 4800, requires_grad=True)
        (low_pass(sound, 5000.0, RATE) * tone(hz)).sum().backward()
        assert (sound.grad.abs().max() > 0.5) == passes and sound.grad.isfinite().all()


def test_the_low_pass_is_lumens_first_and_open_after_half_the_steps():
    assert opening(0, 1000, 10, RATE) == 10_000 and opening(0, 1000, 2, RATE) == 6000
    assert opening(500, 1000, 2, RATE) == 12_000 == opening(10**6, 1000, 2, RATE) and opening(0, 0, 1, 8000) <= 4000
    assert opening(250, 1000, 2, RATE) == pytest.approx((6000 * 12_000) ** 0.5)


@given(step=st.integers(0, 1000), levels=st.integers(1, 20), rate=st.sampled_from([8000, 24_000, 48_000]))
def test_the_low_pass_only_opens(step, levels, rate):
    here = opening(step, 1000, levels, rate)
    assert 0 < here <= rate / 2
    assert here <= opening(step + 1, 1000, levels, rate) and here <= opening(step, 1000, levels + 1, rate)


def test_stages_whose_mean_channel_is_the_sound_are_right():
    sound = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0))
    right = [
        torch.nn.functional.interpolate(sound, size=n, mode="linear") + torch.tensor([1.0, -1.0])[:, None]
        for n in (16, 32, 64)
    ]
    assert channel_average_distance(right, sound, (1, 1, 1)).item() == pytest.approx(0, abs=1e-12)
    wrong = [right[0], right[1] + 2, right[2] + 1]
    assert channel_average_distance(wrong, sound, (5, 0.5, 3)).item() == pytest.approx(0.5 * 4 + 3 * 1, rel=1e-5)


def test_stages_join_from_the_coarsest_on():
    assert coarse_first((2, 4, 6), 0) == (2, 0, 0)
    assert coarse_first((2, 4, 6), 0.5) == (2, 2, 0)
    assert coarse_first((2, 4, 6), 1) == (2, 4, 6)
