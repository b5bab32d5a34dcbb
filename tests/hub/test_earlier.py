"""Parts of earlier versions: what is read, what is refused, and that what is renamed lies where it is looked for."""

import json

import pytest
import torch
from tests.helpers import draw, tiny_codec

from cymatic.codecs.waveform import WaveformCodec
from cymatic.errors import ModelError
from cymatic.hub.earlier import Gone, Renamed, changed, todays_config
from cymatic.hub.parts import load_part, save_part


@pytest.mark.parametrize("wrote", [{"temperature": None, "decorrelation": 0.0}, {"temperature": 0.3}])
def test_a_codec_of_before_gives_the_same_codes(tmp_path, wrote):
    """Both keys changed how it was trained only, so it is read whatever they were."""
    codec = tiny_codec()
    save_part(tmp_path, codec)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantizer"].update(wrote)
    (tmp_path / "config.json").write_text(before := json.dumps(config))
    again, wave = load_part(tmp_path, (WaveformCodec,)), 0.3 * draw(1, 1, 1200)
    assert again.config == codec.config
    assert torch.equal(again.encode(wave).codes, codec.encode(wave).codes)
    assert (tmp_path / "config.json").read_text() == before, "its hash names it"


def test_a_block_was_a_tile(tmp_path):
    codec = tiny_codec()
    save_part(tmp_path, codec)
    config = json.loads((tmp_path / "config.json").read_text())
    config["tile"] = config.pop("block")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_part(tmp_path, (WaveformCodec,)).config == codec.config


def test_what_is_asked_of_a_training_to_come_is_refused():
    values = {"kind": "waveform", "quantizer": {"kind": "residual", "temperature": 0.3}}
    assert todays_config(values, "here") == {"kind": "waveform", "quantizer": {"kind": "residual"}}
    with pytest.raises(ModelError, match=r'^here: "quantizer.temperature" is 0.3, and this version no longer has'):
        todays_config(values, "here", to_train=True)
    assert values["quantizer"]["temperature"] == 0.3, "it is left as it was"


def test_only_the_kind_that_had_a_key_loses_it():
    values = {"quantizer": {"kind": "lookup-free", "temperature": 0.3}, "kind": ["not", "a", "kind"]}
    assert todays_config(values, "here") == values


def test_an_endless_config_ends():
    values: dict = {"kind": "waveform"}
    values["quantizer"] = values
    assert todays_config(values, "here")["kind"] == "waveform"


CHANGES = (Gone("a.b", neutral=(0, None)), Renamed("judges.alone", to="discriminators.start"), Renamed("wide", "width"))


@pytest.mark.parametrize(
    ("values", "today"),
    [
        ({}, {}),
        ({"a": {"b": 0.0, "c": 1}}, {"a": {"c": 1}}),
        ({"a": {"b": None}}, {"a": {}}),
        ({"a": 3, "judges": None}, {"a": 3, "judges": None}),
        ({"judges": {"alone": 5, "rate": 2}}, {"judges": {"rate": 2}, "discriminators": {"start": 5}}),
        ({"wide": 1, "discriminators": {"x": 1}}, {"width": 1, "discriminators": {"x": 1}}),
        ({"width": 2}, {"width": 2}),
    ],
)
def test_keys_go_and_move(values, today):
    before = json.dumps(values)
    assert changed(values, CHANGES, "here") == today
    assert json.dumps(values) == before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"a": {"b": 2}}, 'here: "x.a.b" is 2, and this version no longer has that option; leave it out'),
        ({"wide": 1, "width": 2}, 'here: "x.wide" is called "x.width" by now, and that is there, too'),
        ({"judges": {"alone": 1}, "discriminators": {"start": 2}}, 'called "x.discriminators.start" by now'),
        ({"judges": {"alone": 1}, "discriminators": 7}, 'called "x.discriminators.start" by now'),
    ],
)
def test_what_can_not_be_carried_over_is_said(values, said):
    with pytest.raises(ModelError, match=said):
        changed(values, CHANGES, "here", path=("x",))
