import json
import pickle
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import ModelError
from cymatic.hub.parts import fingerprint, load_part, save_part
from cymatic.hub.pipeline_file import PipelineFile, read_pipeline, write_pipeline
from cymatic.priors.flow import FlowConfig, FlowPrior
from cymatic.signal.mel import PRESETS
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder

SPEC = PRESETS["voice-8k"]

LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 93136\n"


def prior() -> FlowPrior:
    torch.manual_seed(0)
    return FlowPrior(FlowConfig(mel=SPEC, cond_dim=8, width=16, depth=1, heads=2))


PARTS = [prior(), TextEncoder(TextConfig(dim=8)), GriffinLimVocoder(GriffinLimConfig(mel=SPEC))]


@pytest.fixture
def folder(tmp_path):
    save_part(tmp_path / "prior", prior())
    return tmp_path / "prior"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.config.kind)
def test_what_is_saved_is_loaded(tmp_path, part):
    save_part(tmp_path / "part", part)
    again = load_part(tmp_path / "part", (type(part),))
    assert again.config == part.config
    assert not again.training
    for name, tensor in part.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == ["config.json", "model.safetensors"]


def test_half_rounds_and_keeps_whole_numbers(tmp_path):
    part = prior()
    part.steps_trained.fill_(123_456)
    save_part(tmp_path / "half", part, half=True)
    again = load_part(tmp_path / "half", (FlowPrior,))
    assert int(again.steps_trained) == 123_456
    assert again.read_token.weight.dtype == torch.float32
    torch.testing.assert_close(again.read_token.weight, part.read_token.weight, atol=1e-3, rtol=1e-3)
    assert (tmp_path / "half/model.safetensors").stat().st_size < 0.6 * 4 * sum(p.numel() for p in part.parameters())


def test_the_fingerprint_tells_models_apart(folder, tmp_path):
    first = fingerprint([folder])
    assert fingerprint([folder]) == first
    changed = prior()
    with torch.no_grad():
        changed.null[0] += 1
    save_part(tmp_path / "other", changed)
    assert fingerprint([tmp_path / "other"]) != first


def rewrite(folder, **changes):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **changes}))


class Evil:
    def __reduce__(self):
        return (open, ("was-run", "w"))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: rewrite(f, format=2), "format 2"),
        (lambda f: rewrite(f, format=None), "format None"),
        (lambda f: rewrite(f, widht=3), 'unknown key "widht"; did you mean "width"'),
        (lambda f: rewrite(f, width="wide"), "width"),
        (lambda f: rewrite(f, width=32), "is \\[.*instead of"),
        (lambda f: rewrite(f, depth=2), "is missing"),
        (lambda f: rewrite(f, kind="gpt"), 'kind "gpt"'),
        (lambda f: (f / "config.json").write_text("[1]"), "instead of a JSON object"),
        (lambda f: (f / "config.json").write_text("{"), "can't be read as JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "can't be read as JSON"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "can't be read as JSON|JSON object"),
        (lambda f: (f / "config.json").unlink(), "is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "is missing"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "not a sound safetensors"),
        (lambda f: (f / "model.safetensors").write_text(LFS_POINTER), "is a Git LFS pointer, .* `git lfs pull`"),
        (lambda f: (f / "config.json").write_text(LFS_POINTER), "is a Git LFS pointer, .* `git lfs pull`"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]), "not a sound"),
        (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}"), "not a sound safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Evil())), "pickles are never opened"),
        (lambda f: torch.save({"null": torch.zeros(8)}, f / "model.safetensors"), "pickles are never opened"),
    ],
    ids=range(20),
)  # fmt: skip
def test_damaged_and_hostile_parts_are_one_sentence(folder, harm, said, monkeypatch):
    monkeypatch.chdir(folder)
    harm(folder)
    with pytest.raises(ModelError, match=said) as error:
        load_part(folder, (FlowPrior,))
    assert "\n" not in str(error.value)
    assert not (folder / "was-run").exists(), "code from a file was run"


def test_tensors_that_are_not_numbers_or_not_wanted(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "null": torch.full((8,), torch.nan)}, path)
    with pytest.raises(ModelError, match="null holds NaN"):
        load_part(folder, (FlowPrior,))
    save_file({**tensors, "extra": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="extra is unexpected"):
        load_part(folder, (FlowPrior,))


def test_another_kind_of_part_is_refused(folder):
    with pytest.raises(ModelError, match=r'kind "flow" where one of \[.text.\]'):
        load_part(folder, (TextEncoder,))


def test_pipeline_files(tmp_path):
    file = PipelineFile(parts={"encoder": "text", "prior": "prior"}, captions=("a dog",), sampling={"guidance": 1.5})
    write_pipeline(tmp_path, file)
    assert read_pipeline(tmp_path) == file
    assert file.folder(tmp_path, "encoder") == tmp_path / "text"
    with pytest.raises(ModelError, match='names no "vocoder"'):
        file.folder(tmp_path, "vocoder")
    outside = PipelineFile(parts={"encoder": "../elsewhere"})
    with pytest.raises(ModelError, match="outside the model"):
        outside.folder(tmp_path, "encoder")
