"""`cymatic.load(...)` and the generator that it gives, as a program uses it: over mels and over codes alike."""

import shutil

import numpy as np
import pytest
import torch
from tests.helpers import tone

import cymatic
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import Cancelled, Error, ModelError, PromptError
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.pipelines.asked import AT_ONCE, check_count
from cymatic.pipelines.generate import Generator
from cymatic.pipelines.load import choose_device, load
from cymatic.priors.flow import FlowConfig, FlowPrior
from cymatic.signal.mel import PRESETS
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder

SPEC = PRESETS["voice-8k"]
FILE = PipelineFile(parts={"encoder": "encoder", "prior": "prior", "vocoder": "vocoder"}, captions=("low tone",))


@pytest.fixture(scope="module")
def model(tiny_run):
    return cymatic.load(tiny_run)


@pytest.fixture(scope="module")
def over_codes(tiny_codes_run):
    return cymatic.load(tiny_codes_run)


@pytest.fixture(params=["over mels", "over codes"])
def each(request):
    """A model of each kind of prior: what is asked of it does not depend on it."""
    return request.getfixturevalue("model" if request.param == "over mels" else "over_codes")


def built(*, dim=16, cond_dim=16, mel=SPEC, vocoder_mel=SPEC, file=FILE, longest=40):
    """An untrained model of small parts."""
    torch.manual_seed(0)
    prior = FlowPrior(FlowConfig(mel=mel, cond_dim=cond_dim, width=32, depth=1, heads=2))
    prior.longest.fill_(longest)
    vocoder = GriffinLimVocoder(GriffinLimConfig(mel=vocoder_mel, rounds=2))
    return Generator(TextEncoder(TextConfig(dim=dim)), prior, vocoder=vocoder, file=file, name="built")


def test_one_is_a_sound_and_n_are_a_list(each):
    one = each("low tone", seed=3)
    assert isinstance(one, cymatic.Sound)
    (listed,) = each("low tone", seed=3, n=1)
    assert np.array_equal(one.samples, listed.samples)
    assert [sound.info["seed"] for sound in each("low tone", seed=3, n=3)] == [3, 4, 5]
    assert one.rate == each.rate == 8000


def test_info_says_where_a_sound_is_from(model):
    assert model("Low Tone", seed=5, guidance=3.0, steps=4).info == {
        "prompt": "Low Tone",
        "model": "tiny",
        "sha256": model.sha256,
        "guidance": 3.0,
        "guidance_interval": [0.0, 0.6],
        "steps": 4,
        "sampler": "euler",
        "seed": 5,
        "cymatic": cymatic.__version__,
    }
    assert len(model.sha256) == 64


def test_the_same_seed_gives_the_same_sound(each):
    first = each("high tone", seed=11).samples
    torch.rand(5)  # the global generator plays no part
    assert np.array_equal(first, each("high tone", seed=11).samples)
    assert not np.array_equal(first, each("high tone", seed=12).samples)


def test_a_model_loaded_again_makes_the_same(model, tiny_run):
    assert np.array_equal(model("high tone").samples, cymatic.load(tiny_run)("high tone").samples)


def test_numbers_of_numpy_are_numbers(each):
    (given,) = each("low tone", seed=np.int64(7), n=np.int32(1), guidance=np.float32(1.5), seconds=np.float64(0.2))
    wanted = each("low tone", seed=7, guidance=1.5, seconds=0.2)
    assert given.info == wanted.info and type(given.info["seed"]) is int
    assert np.array_equal(given.samples, wanted.samples)


def test_a_whole_number_of_numpy_is_a_setting(model, over_codes):
    assert model("low tone", steps=np.int64(3)).info["steps"] == 3
    assert over_codes("low tone", top_k=np.int64(3), seconds=0.1).info["top_k"] == 3


def test_progress_counts_the_steps_of_all_batches(model):
    heard = []
    model("low tone", n=AT_ONCE + 1, steps=3, seconds=0.1, on_step=lambda done, steps: heard.append((done, steps)))
    assert heard == [(done, 6) for done in range(1, 7)]


def test_progress_over_codes(over_codes):
    heard = []
    over_codes("low tone", seconds=0.1, on_step=lambda done, steps: heard.append((done, steps)))
    done, steps = zip(*heard, strict=True)
    assert done == tuple(range(1, len(heard) + 1)) and set(steps) == {len(heard)}


def test_a_callback_that_raises_ends_the_work_at_once(each):
    """What it raised arrives, no further step is made, and the next call is what it would have been."""
    wanted, heard = each("low tone", seed=4).samples, []

    def cancel(done, steps):
        heard.append(done)
        if done == 2:
            raise Cancelled("nobody waits for it")

    with pytest.raises(Cancelled, match="nobody waits"):
        each("low tone", seed=4, n=AT_ONCE + 1, on_step=cancel)
    assert heard == [1, 2]
    assert np.array_equal(each("low tone", seed=4).samples, wanted)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_many_equal_singles(model, guidance):
    """More than are sampled side by side, of several lengths."""
    count = AT_ONCE + 4
    many = model("low tone", seed=100, n=count, guidance=guidance, steps=3)
    assert len({len(sound) for sound in many}) > 3
    for i, sound in enumerate(many):
        single = model("low tone", seed=100 + i, guidance=guidance, steps=3)
        assert sound.info == single.info
        np.testing.assert_allclose(sound.samples, single.samples, atol=1e-5)


def test_many_equal_singles_over_codes(over_codes):
    several = over_codes("low tone", seed=5, n=3)
    for i, sound in enumerate(several):
        alone = over_codes("low tone", seed=5 + i)
        assert sound.info == alone.info
        np.testing.assert_allclose(sound.samples, alone.samples, atol=1e-5)
    assert not np.array_equal(several[0].samples[:, :800], several[1].samples[:, :800])


def test_guidance_one_is_the_condition_alone(model):
    """At 1, `u + w (c - u)` is c, and what was never conditioned is not computed."""
    calls = []
    original = model.prior._predict

    def counted(x, *rest):
        calls.append(len(x))
        return original(x, *rest)

    model.prior._predict = counted
    try:
        alone = model("low tone", guidance=1.0, steps=3)
        near = model("low tone", guidance=1.0 + 1e-7, steps=3)
    finally:
        del model.prior._predict
    assert calls == [1, 1, 1, 2, 2, 1], "two of Euler's three steps begin within the interval"
    np.testing.assert_allclose(alone.samples, near.samples, atol=1e-4)


def test_zero_guidance_ignores_the_prompt_but_for_its_length(model):
    low, high = (model(prompt, guidance=0.0, seconds=0.3).samples for prompt in ("low tone", "high tone"))
    np.testing.assert_allclose(low, high, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.05, 0.21234, 0.5])
def test_seconds_are_exact(each, seconds):
    for sound in each("low tone", n=2, seconds=min(seconds, each.longest)):
        assert len(sound) == round(min(seconds, each.longest) * 8000)


def test_lengths_are_the_models_own_unless_given(model):
    longest = model.longest / 2
    assert all(0 < sound.seconds <= longest for sound in model("low tone", n=30, steps=1))


def test_sounds_are_sounds(model):
    for sound in model("low tone", n=4):
        assert sound.samples.dtype == np.float32 and sound.channels == 1
        assert sound.true_peak() <= -1.0
        assert sound.samples[0, 0] == 0, "faded in"
        assert np.abs(sound.samples).max() > 1e-3


@pytest.mark.parametrize(
    ("prompt", "settings", "said"),
    [
        ("", {}, "empty"),
        ("a\0", {}, "control character"),
        ("word " * 99, {}, "too long"),
        ("low tone", {"n": 0}, "0 were asked for; give a number from 1 to 10000"),
        ("low tone", {"n": -3}, "-3 were asked for"),
        ("low tone", {"seed": -1}, "the seed is -1"),
        ("low tone", {"seed": 2**63 - 1, "n": 2}, "the seed is"),
        ("low tone", {"guidance": float("nan")}, '"guidance" is nan'),
        ("low tone", {"guidance": -1.0}, '"guidance" is -1.0; give one that is greater than or equal to 0'),
        ("low tone", {"seconds": float("inf")}, "inf seconds were asked for and this model makes 0.05 to"),
        ("low tone", {"seconds": -2.0}, "-2 seconds"),
        ("low tone", {"seconds": 9.0}, "9 seconds"),
        ("low tone", {"guidence": 2.0}, 'no setting "guidence"; did you mean "guidance"'),
    ],
)
def test_what_it_cannot_do_is_one_kind_of_error(each, prompt, settings, said):
    with pytest.raises(cymatic.Error, match=said) as error:
        each(prompt, **settings)
    assert isinstance(error.value, ValueError) and "\n" not in str(error.value)
    assert not isinstance(error.value, ModelError), "what was asked is wrong, and not the model"
    assert isinstance(error.value, PromptError) == (not settings)


@pytest.mark.parametrize(("seed", "n", "said"), [(0, 1.5, "the number 1.5"), ("7", 1, "the seed is '7'")])
def test_what_is_no_whole_number(seed, n, said):
    with pytest.raises(Error, match=f"{said}.*; give whole numbers"):
        check_count(seed, n)


@pytest.mark.parametrize(
    ("over", "settings", "said"),
    [
        ("mels", {"steps": 0}, '"steps" is 0'),
        ("mels", {"sampler": "eular"}, "\"sampler\" is 'eular'; give one that is 'euler'"),
        ("mels", {"temperature": 1.0}, 'no setting "temperature"; known: guidance'),
        ("codes", {"temperature": 0.0}, '"temperature" is 0.0'),
        ("codes", {"top_k": 0}, '"top_k" is 0'),
        ("codes", {"top_p": 1.5}, '"top_p" is 1.5'),
        ("codes", {"steps": 3}, 'no setting "steps"; known: greedy, guidance'),
    ],
)
def test_settings_of_each_prior(model, over_codes, over, settings, said):
    with pytest.raises(Error, match=said) as error:
        {"mels": model, "codes": over_codes}[over]("low tone", **settings)
    assert not isinstance(error.value, ModelError)


def test_something_else_than_words_is_refused(each):
    with pytest.raises(Error, match=r"is conditioned on words; give these instead of '2 x 5 numbers'"):
        each(torch.zeros(2, 5))


def test_a_far_prompt_is_a_note(each):
    (note,) = each("low eleven", seconds=0.1).info["notes"]
    assert note.startswith('"eleven" is unlike anything') and note.endswith("nearest captions: low tone, high tone")
    assert "notes" not in each("low tone", seconds=0.1).info


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(
        ModelError,
        match="built: its vocoder reads another mel than is made before it; take parts with the same MelSpec",
    ):
        built(vocoder_mel=SPEC.model_copy(update={"fmax": 3999.0}))
    with pytest.raises(ModelError, match="reads another mel"):
        built(vocoder_mel=PRESETS["sound-24k"])
    with pytest.raises(ModelError, match="gives tokens of 8 numbers and its prior reads 16"):
        built(dim=8)
    with pytest.raises(ModelError, match="claims a length of -1"):
        built(longest=-1)
    assert built().rate == 8000


def test_an_untrained_model_refuses_unless_told(tmp_path):
    model = built()
    with pytest.raises(ModelError, match="never trained"):
        model("low tone")
    sound = model("low tone", allow_untrained=True, seconds=0.2)
    assert len(sound) == 1600
    for name, part in (("encoder", model.encoder), ("prior", model.prior), ("vocoder", model.vocoder)):
        save_part(tmp_path / name, part)
    write_pipeline(tmp_path, FILE)
    loaded = cymatic.load(tmp_path)
    with pytest.raises(ModelError, match="never trained"):
        loaded("low tone")
    again = loaded("low tone", allow_untrained=True, seconds=0.2)
    assert np.array_equal(again.samples, sound.samples)
    assert (loaded.name, model.sha256) == (tmp_path.name, "")


def test_a_run_that_is_not_finished_names_what_it_lacks(tiny_codes_run, tmp_path):
    run = shutil.copytree(tiny_codes_run, tmp_path / "run", ignore=shutil.ignore_patterns("state", "logs"))
    shutil.rmtree(run / "prior")
    with pytest.raises(ModelError, match=r"run lacks its prior \(prior/config.json is missing\); .*train --resume"):
        cymatic.load(run)


def test_codes_that_the_codec_has_not_are_refused(over_codes):
    parts = over_codes.prior, over_codes.codec
    smaller = type(parts[0])(parts[0].config.model_copy(update={"codes": 16}))
    with pytest.raises(ModelError, match=r"in a column of up to 32, and its prior 4 of up to 16; take parts that were"):
        Generator(over_codes.encoder, smaller, codec=parts[1], file=FILE)


def test_a_model_that_has_seen_no_sound_makes_a_short_one():
    assert len(built(longest=0)("low tone", allow_untrained=True)) >= 1


@pytest.mark.parametrize(("seconds", "rate", "channels"), [(0.3, 8000, 1), (0.1234, 8000, 1), (0.5, 44_100, 2)])
def test_revocode_keeps_length(model, seconds, rate, channels):
    given = tone(440, seconds, rate)
    given = cymatic.Sound(np.repeat(given.samples, channels, axis=0), rate)
    made = model.revocode(given)
    assert (made.rate, made.channels) == (8000, 1)
    assert len(made) == len(given.resample(8000))
    spectrum = np.abs(np.fft.rfft(made.samples[0]))
    assert spectrum.argmax() / made.seconds == pytest.approx(440, rel=0.05)


def test_load_finds_folders_and_starters(tiny_run, monkeypatch, tmp_path):
    assert load(str(tiny_run)).name == "tiny"
    with pytest.raises(ModelError, match="there is no model"):
        load(tmp_path / "nope")
    monkeypatch.setattr("cymatic.pipelines.load.starters", lambda: {"starter-tiny": tiny_run})
    assert load("starter-tiny").name == "starter-tiny"
    with pytest.raises(ModelError, match='did you mean "starter-tiny"'):
        load("starter-tony")


def test_a_model_is_the_same_wherever_it_lies(tiny_run, tmp_path):
    moved = shutil.copytree(tiny_run, tmp_path / "a b 🎵", ignore=shutil.ignore_patterns("state", "logs"))
    a, b = cymatic.load(tiny_run), cymatic.load(moved)
    assert a.sha256 == b.sha256
    assert np.array_equal(a("low tone").samples, b("low tone").samples)


@pytest.mark.parametrize("there", [{"cuda"}, {"mps"}, {"cuda", "mps"}, set()])
def test_devices(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert choose_device("auto") == next((name for name in ("cuda", "mps") if name in there), "cpu")
    assert choose_device("cpu") == "cpu"
    for device, kind in (("cuda", "cuda"), ("cuda:1", "cuda"), ("mps", "mps"), ("mps:0", "mps")):
        if kind in there:
            assert choose_device(device) == device
        else:
            with pytest.raises(ModelError, match=f'no device "{device}"'):
                choose_device(device)
    for device in ("cuda:2", "cuda:x", "cuda:", "cuda:-1", "mps:1", "cpu:1", "tpu", "", "CPU", "cuda:١"):
        with pytest.raises(ModelError, match="give one of: auto, cpu"):
            choose_device(device)
