"""Waveforms in memory and the pieces cut from them."""

import numpy as np
import torch

from cymatic.data.waves import RandomCrops


def test_a_step_gives_the_same_batch_whenever_it_is_asked_for():
    waves = [np.full(50, 0.1, np.float16), np.linspace(-0.5, 0.5, 900, dtype=np.float16)]
    crops = RandomCrops(waves, [1, 3], samples=100, batch=6, seed=0)
    again = RandomCrops(waves, [1, 3], samples=100, batch=6, seed=0)
    assert torch.equal(crops[5], again[5])
    assert not torch.equal(crops[5], crops[6])
    assert crops[0].shape == (6, 1, 100) and crops[0].abs().max() <= 1


def test_waveforms_are_drawn_by_their_weights_and_follow_each_other():
    short, long = np.full(40, 0.1, np.float16), np.full(400, -0.1, np.float16)
    crops = RandomCrops([short, long], [1, 3], samples=100, batch=50, seed=0)
    pieces = torch.cat([crops[i] for i in range(20)])[:, 0]
    is_short = pieces[:, 0] > 0
    assert 0.2 < is_short.float().mean() < 0.3
    assert (pieces[is_short, :40] > 0).all() and (pieces[~is_short] < 0).all()
    gaps = [int((piece[40:] != 0).nonzero()[0]) for piece in pieces[is_short]]
    assert min(gaps) == 0 and 5 <= max(gaps) <= 10  # a short silence, and then another sound
    assert all((piece[40 + gap :] != 0).any() for piece, gap in zip(pieces[is_short], gaps, strict=True))


def test_no_gain_makes_a_sound_clip():
    loud = (0.9 * np.sin(np.arange(2000))).astype(np.float16)
    pieces = torch.cat([RandomCrops([loud], [1], samples=100, batch=50, seed=0)[i] for i in range(4)])[:, 0]
    peaks = pieces.abs().amax(1, keepdim=True)
    assert 0.99 < peaks.max() <= 1 and peaks.min() < 0.2
    assert (
        pieces.abs() > 0.999 * peaks
    ).float().mean() < 0.05  # of a sine 3 % are so near its peak, of a clipped one half
