"""Pitch and loudness as three codes a frame, and the pulses that they stand for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.codecs.fast import FastShape
from cymatic.codecs.pitch import Pitch, PitchShape
from cymatic.codecs.waveform import WaveformCodec, WaveformCodecConfig
from cymatic.errors import Error
from cymatic.evaluation.pitch import note_pitch
from cymatic.media.sound import Sound
from cymatic.quantizers.gaussian import GaussianBottleneckConfig
from cymatic.quantizers.residual import ResidualQuantizerConfig

RATE, HOP = 24_000, 480
PITCH = Pitch(PitchShape(), RATE, HOP)
STEP = 12 * math.log2(1600 / 50) / 254  # semitones from pitch to pitch


def harmonics(hz: float, seconds: float = 0.4, slope: float = 1.0, count: int = 6, shift: float = 0.0) -> torch.Tensor:
    """`[1, 1, samples]`: the fundamental begins at `shift` cycles, the others anywhere."""
    at = torch.arange(round(seconds * RATE)) / RATE
    wave = torch.zeros(len(at))
    for k in range(1, count + 1):
        if k * hz < 0.45 * RATE:
            wave += k**-slope * torch.cos(2 * torch.pi * (k * hz * at + (shift if k == 1 else 0.37 * k)))
    return 0.1 * wave[None, None]


@settings(max_examples=30, deadline=None)
@given(hz=st.floats(55, 1500), slope=st.floats(0.5, 2), shift=st.floats(0, 1))
def test_a_note_is_tracked_to_half_a_step_and_its_phase_to_a_sixteenth(hz: float, slope: float, shift: float) -> None:
    wave = harmonics(hz, slope=slope, shift=shift)
    side = PITCH.track(wave)[0, :, 5:]
    assert bool((side[0] == 1).all())
    heard = 12 * (side[1] - math.log2(hz / 50))
    assert float(heard.abs().max()) < STEP / 2 + 0.1
    ends = (torch.arange(5, 5 + side.shape[1]) + 1) * HOP - 1
    off = side[3] - (hz * ends / RATE + shift)
    assert float((off - off.round()).abs().max()) < 1 / 16


def test_noise_and_silence_have_no_pitch() -> None:
    noise = 0.1 * torch.randn(1, 1, RATE, generator=torch.Generator().manual_seed(0))
    assert float(PITCH.track(noise)[0, 0].mean()) < 0.1
    for level in (0.0, 0.5):
        assert not PITCH.track(torch.full((1, 1, 4800), level))[0, [0, 1, 3], 4:].any()


@pytest.mark.parametrize("level", [-90, -81, -60.3, -20, -3, 0])
def test_loudness_is_said_to_half_a_step(level: float) -> None:
    noise = torch.randn(1, 1, RATE, generator=torch.Generator().manual_seed(0))
    side = PITCH.track(noise / noise.square().mean().sqrt() * 10 ** (level / 20))[..., 5:-1]
    heard = 20 * (PITCH.gain(side) * 0.1).log10()
    assert float(heard.median()) == pytest.approx(min(-3, max(-81, level)), abs=78 / 63 / 2 + 0.1)
    out_of_phase = torch.cat([noise, -noise], 1)
    assert torch.equal(PITCH.track(out_of_phase)[:, 2], PITCH.track(noise)[:, 2])


def test_codes_are_what_is_said() -> None:
    codes = torch.stack([torch.randint(0, size, (2, 50)) for size in PITCH.sizes], 1)
    codes[:, 1] *= codes[:, 0] > 0
    assert torch.equal(PITCH.encode(PITCH.decode(codes)), codes)
    assert PITCH.sizes == (256, 64, 64)


def test_pulses_hold_the_note_and_meet_the_phase() -> None:
    hz = 220.0
    wave = harmonics(hz, seconds=0.6, count=1, shift=0.3)
    made = PITCH.pulses(PITCH.track(wave))[0, 10 * HOP : 25 * HOP]
    turned = torch.fft.rfft(made)
    bin_of_hz = round(hz * len(made) / RATE)
    reference = torch.fft.rfft(wave[0, 0, 10 * HOP : 25 * HOP])
    assert int(turned.abs()[: bin_of_hz + 5].argmax()) == bin_of_hz  # nothing below, and no octave off
    assert abs(float((turned[bin_of_hz] / reference[bin_of_hz]).angle())) < 0.1
    assert float(made.square().mean()) == pytest.approx(1, rel=0.1)
    # All harmonics are there, up to the Nyquist frequency, and equally loud.
    peaks = turned.abs()[bin_of_hz * torch.arange(1, 50)]
    assert float(peaks.min() / peaks.max()) > 0.5


def test_pulses_are_as_the_sum_of_cosines() -> None:
    side = torch.tensor([[[1.0, 1, 1], [1, 1, 1], [1, 1, 1], [0.25, 0.25, 0.25]]])
    made = PITCH.pulses(side)[0, HOP : 2 * HOP].double()
    # 100 Hz, whose phase is a quarter at the end of each frame, which two periods fill exactly.
    turn = 100 * torch.arange(1, HOP + 1, dtype=torch.float64) / RATE + 0.25
    count = int(0.98 * RATE / 2 / 100)
    slow = sum(2 * torch.cos(2 * torch.pi * k * turn) for k in range(1, count + 1)) / (2 * count) ** 0.5
    torch.testing.assert_close(made, slow, atol=1e-4, rtol=0)


def test_silence_between_notes_and_no_glide_over_a_leap() -> None:
    side = torch.zeros(1, 4, 12)
    side[:, 0, :5] = side[:, 0, 7:] = 1
    side[:, 1, :3], side[:, 1, 3:5], side[:, 1, 7:] = 1.0, 2.5, 1.0
    made = PITCH.pulses(side)[0].unflatten(0, (12, HOP))
    assert not made[6].any()  # the frame after the note fades it out, the next is silent
    assert made[4].square().mean() > 0.5 and made[8].square().mean() > 0.5
    crossings = [int((made[frame, 1:] * made[frame, :-1] < 0).sum()) for frame in (2, 3, 4)]
    assert crossings[1] == pytest.approx(crossings[2], rel=0.2)  # at once the new note


def small(**changes: object) -> WaveformCodec:
    values = {
        "rate": RATE,
        "network": FastShape(width=16, pitch=PitchShape()),
        "quantizer": ResidualQuantizerConfig(levels=2, size=8, dim=4),
        "block": 8,
        **changes,
    }
    torch.manual_seed(0)
    return WaveformCodec(WaveformCodecConfig.model_validate(values))


def test_a_codec_says_the_pitch_first() -> None:
    codec = small()
    assert (codec.sizes, codec.levels, codec.min_levels, codec.side_codes) == ((256, 64, 64, 8, 8), 5, 4, 3)
    wave = harmonics(220, shift=0.2)
    made = codec(wave, torch.Generator().manual_seed(0))
    made.made.square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in codec.parameters())
    codec.eval().steps_trained.fill_(1)
    latent = codec.encode(wave)
    assert latent.codes is not None and latent.z.shape[1] == 4 + 4
    alone = PITCH.encode(PITCH.track(wave))
    assert torch.equal(latent.codes[:, :3, : alone.shape[-1]], alone)
    few = codec.encode(wave, levels=4)
    assert few.codes is not None and torch.equal(few.codes, latent.codes[:, :4])
    assert codec.decode(few).shape == wave.shape


@torch.no_grad()
def test_what_is_louder_comes_back_louder_by_as_much() -> None:
    codec, wave = small().eval(), harmonics(220)
    codec.steps_trained.fill_(1)
    step = 10 ** (78 / 63 / 20)  # from level to level
    soft, loud = (codec.decode_codes(codec.encode(wave * gain).codes)[0, 0, 4800:7200] for gain in (1, step**8))
    torch.testing.assert_close(loud, soft * step**8, rtol=1e-3, atol=1e-4)


def test_a_codec_that_has_learnt_nothing_holds_a_note_already() -> None:
    codec = small().eval()
    codec.steps_trained.fill_(1)
    wave = harmonics(330, seconds=0.8)
    with torch.no_grad():
        codec.network.decoder.write.bias[:481] = -20.0  # nothing but pulses
    made = codec.decode(codec.encode(wave))
    heard = note_pitch(Sound(made[0].numpy(), RATE))
    assert heard is not None and abs(heard - (69 + 12 * math.log2(330 / 440))) < 0.1


def test_what_can_not_be() -> None:
    codec = small().eval()
    codec.steps_trained.fill_(1)
    with pytest.raises(Error, match="3 levels were asked for; this codec has 4 to 5"):
        codec.encode(harmonics(220), levels=3)
    with pytest.raises(Error, match="3 codes a frame were given; this codec needs 4 or more"):
        codec.decode_codes(torch.zeros(1, 3, 5, dtype=torch.int64))
    codes = torch.zeros(1, 5, 5, dtype=torch.int64)
    codes[0, 1, 3] = 64
    with pytest.raises(Error, match="level 2 holds codes beyond its 64"):
        codec.decode_codes(codes)
    with pytest.raises(ValueError, match="a pitch is codes, and a gaussian bottleneck has none"):
        small(quantizer=GaussianBottleneckConfig(dim=4, latent=4))
    for wrong in ({"lowest": 500, "highest": 100}, {"softest": 0, "loudest": -20}):
        with pytest.raises(ValueError, match="swap them"):
            PitchShape.model_validate(wrong)
