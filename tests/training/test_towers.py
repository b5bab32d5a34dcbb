"""An encoder over the tower of another project: what the tower says is made once, and not a bit of it moves."""

from __future__ import annotations

import shutil

import pytest
import torch
from tests.conftest import installed
from tests.helpers import interrupted_after, quiet
from tests.training.test_into_a_space import NAMES, folder, recipe, space  # noqa: F401

import cymatic
from cymatic.cond import Padded
from cymatic.data.examples import Example
from cymatic.errors import ModelError
from cymatic.hub.importing import import_model
from cymatic.hub.parts import WEIGHTS
from cymatic.hub.readers.hubert import HubertEncoder
from cymatic.hub.readers.speechclip import SpeechClipConfig, SpeechClipEncoder
from cymatic.signal.mel import PRESETS
from cymatic.training.coding import as_states
from cymatic.training.recipe import Recipe
from cymatic.training.train import read_run, train

BRANCH = {"kind": "speechclip", "heads": 2, "mlp": 32, "dim": 16}
TRAINING = {"steps": 60, "batch": 8, "warmup": 2, "checkpoint_steps": 20, "learning_rate": 1e-2, "ema": 0.5}


@pytest.fixture(scope="module")
def tower(reference, tmp_path_factory):
    """HuBERT's fixture as a model."""
    installed("transformers", "hub")
    place = tmp_path_factory.mktemp("models") / "hubert"
    import_model(place, mel=PRESETS["sound-24k"], source=reference("hf_hubert").folder, say=quiet)
    return place


def asked(folder, space, tower, **more):  # noqa: F811
    stage = {"parts": {"audio": BRANCH}, "space": str(space), "towers": {"audio": str(tower)}, "training": TRAINING}
    return recipe(folder, {"voice": stage | more})


@pytest.fixture(scope="module")
def run(folder, space, tower, tmp_path_factory):  # noqa: F811
    place, said = tmp_path_factory.mktemp("runs") / "voice", []
    assert train(asked(folder, space, tower), place, say=said.append).finished
    assert any(line.startswith("reading with the tower of") for line in said)
    return place


def tensors(model):
    return {name: tensor.clone() for name, tensor in model.encoders["audio"].state_dict().items()}


def test_sounds_find_pictures_by_a_tower_that_stays_as_it_is(folder, tower, run):  # noqa: F811
    model, theirs = cymatic.load(run), cymatic.load(tower)
    sounds = model.embed([folder / f"{name}.wav" for name in NAMES])
    assert (sounds @ model.embed(NAMES).T).argmax(1).tolist() == list(range(8))
    own = model.encoders["audio"].speech.state_dict()
    for name, tensor in theirs.encoders["audio"].state_dict().items():
        assert torch.equal(own[name], tensor), f"{name} has moved"


def test_states_that_are_kept_say_what_the_sound_says(run):
    encoder = cymatic.load(run).encoders["audio"]
    wave = torch.randn(2, 1, 6000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6000, 4100])
    with torch.inference_mode():
        whole = encoder(Padded(wave, lengths)).vector
        examples = [Example(one[:, :n], name=str(n)) for one, n in zip(wave, lengths.tolist(), strict=True)]
        kept = as_states(examples, encoder, None)
        assert kept[0].target.dtype == torch.float16 and kept[0].target.shape[0] == len(encoder.weights) * 24
        longest = max(one.target.shape[1] for one in kept)
        values = torch.stack([torch.nn.functional.pad(k.target, (0, longest - k.target.shape[1])) for k in kept])
        states = Padded(values, torch.tensor([one.target.shape[1] for one in kept]))
        torch.testing.assert_close(encoder.of_states(states).vector, whole, atol=2e-3, rtol=0)  # of 16 bits


def test_a_resumed_run_equals_an_uninterrupted_one(folder, space, tower, run, tmp_path):  # noqa: F811
    """The tower is in the run, so that the model may be gone when it is resumed."""
    own = tmp_path / "hubert"
    shutil.copytree(tower, own)
    cut = tmp_path / "cut"
    assert not train(asked(folder, space, own), cut, say=quiet, on_report=interrupted_after(27)).finished
    shutil.rmtree(own)
    assert train(read_run(cut), cut, resume=True, say=quiet).finished
    assert (cut / "audio" / WEIGHTS).read_bytes() == (run / "audio" / WEIGHTS).read_bytes()


def test_what_is_unfrozen_learns_and_nothing_else(folder, space, tower, tmp_path):  # noqa: F811
    few = TRAINING | {"steps": 3}
    more = asked(folder, space, tower, unfreeze={"audio": ["encoder.layers.1"]}, training=few)
    assert train(more, tmp_path / "run", say=quiet).finished
    own = cymatic.load(tmp_path / "run").encoders["audio"].speech.state_dict()
    moved = {
        name for name, t in cymatic.load(tower).encoders["audio"].state_dict().items() if not torch.equal(own[name], t)
    }
    assert moved and all(name.startswith("encoder.layers.1.") for name in moved)


def test_a_tower_stays_in_eval_mode(tower):
    heard = cymatic.load(tower).encoders["audio"]
    encoder = SpeechClipEncoder(SpeechClipConfig(heads=2, mlp=32, dim=16).over(heard.config)).over(heard)
    encoder.train()
    assert encoder.training and not any(one.training for one in encoder.speech.modules())
    assert isinstance(encoder.speech, HubertEncoder)


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [
        ({"parts": {"audio": BRANCH}}, "audio is learned over a tower, and towers names none"),
        ({"parts": {"audio": {"kind": "sound"}}, "towers": {"audio": "x"}}, "which is no part over a tower"),
        ({"parts": {"audio": BRANCH}, "towers": {"audio": "x"}, "unfreeze": {"picture": ["a"]}}, "unfreeze names"),
    ],
)
def test_what_no_recipe_may_say(folder, space, stage, wanted):  # noqa: F811
    with pytest.raises(ModelError, match=wanted):
        Recipe.parse(
            {"data": {"folder": str(folder)}, "stages": {"a": {"task": "alignment", "space": str(space), **stage}}}, "t"
        )


def test_what_does_not_fit_is_said(folder, space, tower, tmp_path):  # noqa: F811
    with pytest.raises(ModelError, match="is learned over one of the kind hubert"):
        train(asked(folder, space, space_of_sounds(folder, tmp_path)), tmp_path / "a", say=quiet)
    wide = {"audio": BRANCH | {"heads": 7}}
    with pytest.raises(ModelError, match="can't be split into 7 heads"):
        train(asked(folder, space, tower, parts=wide), tmp_path / "b", say=quiet)
    with pytest.raises(ModelError, match=r'no part "encoder\.layers\.99" to unfreeze'):
        train(asked(folder, space, tower, unfreeze={"audio": ["encoder.layers.99"]}), tmp_path / "c", say=quiet)
    with pytest.raises(ModelError, match="given no tower"):
        SpeechClipEncoder(SpeechClipConfig(dim=16))


def space_of_sounds(folder, tmp_path):  # noqa: F811
    """A model whose encoder of sounds is one of ours."""
    sound = {"kind": "sound", "mel": "voice-8k", "width": 32, "depth": 1, "heads": 2, "dim": 16}
    stages = {"own": {"parts": {"audio": sound, "caption": {"kind": "text", "dim": 16, "depth": 1, "heads": 2}},
                      "training": TRAINING | {"steps": 2}}}  # fmt: skip
    assert train(recipe(folder, stages), tmp_path / "own", say=quiet).finished
    return tmp_path / "own"
