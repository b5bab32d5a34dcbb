"""Other projects' checkpoints: their tensors arrive, and nothing that they bring along runs."""

import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from cymatic.errors import ModelError
from cymatic.hub.checkpoints import Foreign, read_checkpoint, state_dict

WEIGHTS = OrderedDict(
    a=torch.arange(6.0).reshape(2, 3).T,  # strides other than those of a fresh tensor
    b=torch.tensor(3),
    c=torch.randn(4).half(),
    d=torch.zeros(0, 5),
    e=torch.tensor([True, False]),
)


@pytest.fixture
def foreign_module(monkeypatch):
    """A module that exists while a file is written and is gone when it is read, as Lightning is here."""
    module = types.ModuleType("some_lightning")
    source = """
class ModelCheckpoint:
    def __init__(self): self.best = 1.0

class Namespace(dict):
    pass

class Strange:
    def __reduce__(self): return (rebuild, (1, 2), {"state": 3}, iter([4, 5]), iter([("k", 6)]))

def rebuild(*args):
    return []
"""
    code = compile(source, "some_lightning.py", "exec")
    types.FunctionType(code, module.__dict__)()
    monkeypatch.setitem(sys.modules, "some_lightning", module)
    return module


LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 93136\n"


def foreign_checkpoint(path: Path, module: types.ModuleType) -> Path:
    callbacks = {module.ModelCheckpoint: {"best_model_path": "epoch=3.ckpt", "best": module.ModelCheckpoint()}}
    shared = WEIGHTS["a"]
    torch.save(
        {
            "epoch": 3,
            "state_dict": OrderedDict(WEIGHTS, again=shared, p=torch.nn.Parameter(torch.ones(2))),
            "callbacks": callbacks,
            "hyper_parameters": module.Namespace(width=3, folder=Path("x")),
            "strange": module.Strange(),
        },
        path,
    )
    return path


def test_tensors_beside_foreign_objects_are_read(tmp_path, foreign_module, monkeypatch):
    path = foreign_checkpoint(tmp_path / "a.ckpt", foreign_module)
    monkeypatch.delitem(sys.modules, "some_lightning")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    tensors = state_dict(path)
    assert set(tensors) == {*WEIGHTS, "again", "p"}
    for name, tensor in WEIGHTS.items():
        assert torch.equal(tensors[name], tensor), name
        assert tensors[name].dtype == tensor.dtype
    assert torch.equal(tensors["again"], tensors["a"])
    held = read_checkpoint(path)
    assert held["epoch"] == 3
    ((key, values),) = held["callbacks"].items()
    assert key.origin == "some_lightning.ModelCheckpoint" and values["best_model_path"] == "epoch=3.ckpt"
    assert isinstance(values["best"], Foreign) and isinstance(held["hyper_parameters"], Foreign)
    assert "some_lightning" not in sys.modules


@pytest.mark.parametrize("nested", [False, True], ids=["bare", "under state_dict"])
@pytest.mark.parametrize("zipped", [False, True], ids=["old format", "archive"])
def test_plain_files_of_either_form(tmp_path, nested, zipped):
    path = tmp_path / "a.pt"
    torch.save({"state_dict": WEIGHTS, "epoch": 1} if nested else WEIGHTS, path, _use_new_zipfile_serialization=zipped)
    tensors = state_dict(path)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in WEIGHTS.items())


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_a_wrapper_around_the_module_are_taken_off(tmp_path, wrapper):
    torch.save({wrapper + name: tensor for name, tensor in WEIGHTS.items()}, tmp_path / "a.pt")
    assert list(state_dict(tmp_path / "a.pt")) == list(WEIGHTS)
    torch.save({"module.a": WEIGHTS["a"], "b": WEIGHTS["b"]}, tmp_path / "a.pt")
    assert list(state_dict(tmp_path / "a.pt")) == ["module.a", "b"], "a part of the module has that name"


class Evil:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def touch_by_shell(path: Path) -> Evil:
    return Evil(os.system, f"echo > {path}")


@pytest.mark.parametrize(
    "evil",
    [
        touch_by_shell,
        lambda path: Evil(exec, f"open({str(path)!r}, 'w')"),
        lambda path: Evil(open, str(path), "w"),
        lambda path: {touch_by_shell(path): 1},
    ],
    ids=["os.system", "exec", "open", "as a key"],
)
def test_a_hostile_pickle_does_not_run(tmp_path, evil):
    path, trace = tmp_path / "evil.ckpt", tmp_path / "was-run"
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": evil(trace)}, path)
    assert torch.equal(state_dict(path)["a"], torch.ones(2))
    assert not trace.exists()
    path.write_bytes(pickle.dumps({"a": evil(trace)}))  # no archive at all
    with pytest.raises(ModelError):
        read_checkpoint(path)
    assert not trace.exists()


def rewritten(source: Path, target: Path, change) -> Path:
    """A copy of an archive whose entries went through `change(name, content)`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry.filename)))
    return target


def test_a_tensor_may_not_reach_beyond_its_numbers(tmp_path, foreign_module):
    path = foreign_checkpoint(tmp_path / "a.ckpt", foreign_module)
    short = rewritten(path, tmp_path / "b.ckpt", lambda name, held: held[:4] if name.endswith("data/0") else held)
    with pytest.raises(ModelError, match="can't be read as a PyTorch checkpoint"):
        state_dict(short)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.mkdir(), "is missing or not a file"),
        (lambda path: path.write_bytes(b""), "can't be read as a PyTorch checkpoint"),
        (lambda path: path.write_text("weights"), "no archive|can't be read"),
        (lambda path: path.write_text(LFS_POINTER), "is a Git LFS pointer, which stands for the file"),
        (lambda path: torch.save([torch.ones(1)], path), "holds a list instead of a mapping"),
        (lambda path: torch.save({"epoch": 3}, path), "has no state_dict.*epoch"),
        (lambda path: torch.save({"a": torch.ones(1), "n": 4}, path), "something else than tensors.*n"),
        (lambda path: torch.save({"state_dict": [1]}, path), "has no state_dict.*list"),
    ],
)
def test_what_is_no_checkpoint_is_said_in_one_sentence(tmp_path, write, said):
    write(tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match=said) as error:
        state_dict(tmp_path / "a.ckpt")
    assert "\n" not in str(error.value)


def test_a_cut_off_archive_is_refused(tmp_path, foreign_module):
    path = foreign_checkpoint(tmp_path / "a.ckpt", foreign_module)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ModelError):
        read_checkpoint(path)
