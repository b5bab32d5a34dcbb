"""The sound encoder: how many tokens, what it reads, and that it learns to tell sounds apart."""

import pytest
import torch

from cymatic.cond import Padded, padded
from cymatic.encoders.align import InfoNCE, recall
from cymatic.encoders.sound import SoundConfig, SoundEncoder
from cymatic.errors import Error
from cymatic.signal.mel import PRESETS, MelSpec, log_mel

SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=16, fmax=4000)
SMALL = SoundConfig(mel=SPEC, width=32, depth=2, heads=2, dim=24)


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (2, 1), (4, 1), (5, 2), (80, 20), (81, 21)])
@torch.no_grad()
def test_four_frames_are_a_token(frames, tokens):
    cond = SoundEncoder(SMALL)(padded([torch.full((16, frames), -5.0)]))
    assert cond.tokens.shape == (1, tokens, 24) and cond.mask.all()
    assert cond.vector.shape == (1, 24)


@torch.no_grad()
def test_what_fills_up_a_batch_changes_nothing():
    torch.manual_seed(0)
    encoder, mels = SoundEncoder(SMALL), [torch.randn(16, n) - 5 for n in (37, 6, 1, 50)]
    quiet, loud = (encoder(padded(mels, value)) for value in (-11.5, 4e4))
    assert torch.equal(quiet.tokens, loud.tokens) and torch.equal(quiet.vector, loud.vector)


def test_what_can_not_be_is_said():
    encoder = SoundEncoder(SMALL)
    with pytest.raises(Error, match=r"this encoder reads \[batch, 16, frames\]"):
        encoder(padded([torch.zeros(15, 4)]))
    for lengths in ([0, 4], [4, 5]):
        with pytest.raises(Error, match="give 1 to all"):
            encoder(Padded(torch.zeros(2, 16, 4), torch.tensor(lengths)))
    with pytest.raises(ValueError, match="heads of an even width"):
        SoundConfig(width=30, heads=4)
    assert SoundConfig(mel="voice-8k").reads == PRESETS["voice-8k"]


def test_two_recordings_of_a_tone_come_to_lie_together():
    """Eight tones, each twice in other noise: 40 steps, and each finds its own among eight."""
    torch.manual_seed(0)
    encoder, loss = SoundEncoder(SMALL), InfoNCE()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *loss.parameters()], lr=3e-3)
    hz = 200 * 2 ** (torch.arange(8) / 2)[:, None]

    def recordings(generator: torch.Generator) -> Padded:
        waves = 0.3 * torch.sin(2 * torch.pi * hz * torch.arange(2400) / 8000)
        waves = waves + 0.02 * torch.randn(waves.shape, generator=generator)
        return padded(list(log_mel(waves[:, None], SPEC)))

    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        optimizer.zero_grad()
        loss(encoder(recordings(generator)).vector, encoder(recordings(generator)).vector).backward()
        optimizer.step()
    with torch.no_grad():
        a, b = (encoder(recordings(generator)).vector for _ in range(2))
    assert recall(a @ b.T, torch.eye(8, dtype=torch.bool), 1) == 1
