"""What a recipe may say of a prior and its codec, before anything is read or trained."""

import pytest

from cymatic.errors import ModelError
from cymatic.training.stages import PriorStage

GPT, FLOW = {"kind": "gpt"}, {"kind": "flow"}


def stage(**values) -> PriorStage:
    return PriorStage.parse({"task": "prior", **values}, "the stage")


def test_codes_come_from_a_codec():
    with pytest.raises(ModelError, match="over codes, and no codec gives any; set codec to an earlier stage or a"):
        stage(part=GPT)
    with pytest.raises(ModelError, match="over no codes; leave codec out, or give a prior over codes"):
        stage(part=FLOW, codec="starter-codec")


def test_from_scratch_a_prior_over_codes_keeps_its_codec():
    over_codes = stage(part=GPT, codec="starter-codec")
    assert over_codes.going_on_from(None).codec == "starter-codec"
    assert over_codes.going_on_from("runs/mine").codec == "runs/mine"
    straight = stage(part=FLOW, start="starter-sound")
    assert straight.going_on_from(None).start is None
    assert straight.going_on_from("runs/mine").start == "runs/mine"
