"""Waveforms in memory and the pieces cut from them."""

import numpy as np
import torch
from tests.helpers import tone, tone_folder

from cymatic.data.cache import Cache
from cymatic.data.folder import read_folder
from cymatic.data.waves import Crops, load_waves


def test_a_step_gives_the_same_batch_whenever_it_is_asked_for():
    waves = [np.full(50, 0.1, np.float16), np.linspace(-0.5, 0.5, 900, dtype=np.float16)]
    crops = Crops(waves, [1, 3], samples=100, batch=6, seed=0)
    again = Crops(waves, [1, 3], samples=100, batch=6, seed=0)
    assert torch.equal(crops[5], again[5])
    assert not torch.equal(crops[5], crops[6])
    assert crops[0].shape == (6, 1, 100) and crops[0].abs().max() <= 1


def test_waveforms_are_drawn_by_their_weights_and_short_ones_end_in_silence():
    short, long = np.full(40, 0.1, np.float16), np.full(400, -0.1, np.float16)
    crops = Crops([short, long], [1, 3], samples=100, batch=50, seed=0)
    pieces = torch.cat([crops[i] for i in range(20)])[:, 0]
    is_short = pieces[:, 0] > 0
    assert 0.2 < is_short.float().mean() < 0.3
    assert (pieces[is_short, 40:] == 0).all() and (pieces[~is_short] < 0).all()


def test_recordings_come_at_one_rate_and_long_ones_in_windows(tmp_path):
    folder = tone_folder(tmp_path / "tones")
    tone(300, 5.0).write(folder / "long.wav")
    (folder / "broken.wav").write_bytes(b"RIFF")
    items = read_folder(folder).items
    waves, whose, skipped = load_waves(items, 24_000, longest=1.0, cache=Cache())
    assert len(waves) == len(whose) == 8 + 4
    assert {wave.dtype for wave in waves} == {np.dtype(np.float16)}
    assert [len(wave) for wave, item in zip(waves, whose, strict=True) if item.caption == "long"] == [24_000] * 4
    assert [one.name.endswith("broken.wav") for one in skipped] == [True]
