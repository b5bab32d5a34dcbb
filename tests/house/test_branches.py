"""Training and pipelines ask no part, stage or recipe what kind it is: what sets one apart is an attribute of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "cymatic"
ROOMS = ("training", "pipelines")

# Told apart by type where it is plain data, an error, or a layer: none of them is a part, a stage or a recipe.
PLAIN = {
    "str",
    "bytes",
    "int",
    "float",
    "bool",
    "dict",
    "list",
    "tuple",
    "set",
    "Mapping",
    "Sequence",
    "Path",
    "Tensor",
}
ALLOWED_TYPES = PLAIN | {
    "Note",  # a category of warnings
    "Config",  # `given` walks through any of them alike
    "REPEATED",  # layers that are compiled once and used many times
    "torch.distributed.DistError",
}
# A module of the standard library that differs between systems, and whatever a caller asks with.
ALLOWED_OBJECTS = {"signal", "prompt"}
# The one table of stages is training/build.py; a model's file says before anything is loaded what its parts make.
TABLES = {"training/build.py"}
ALLOWED_LINES = {"pipelines/load.py": {"read_pipeline(find_model(model)).kind"}}


def is_plain(type_of: ast.expr) -> bool:
    if isinstance(type_of, ast.Tuple):
        return all(map(is_plain, type_of.elts))
    if isinstance(type_of, ast.BinOp) and isinstance(type_of.op, ast.BitOr):
        return is_plain(type_of.left) and is_plain(type_of.right)
    name = ast.unparse(type_of)
    return name in ALLOWED_TYPES or name.endswith(("Error", "Exception"))


def asks(node: ast.AST, allowed: set[str]) -> Iterator[str]:
    """What in a node tells kinds of things apart."""
    if isinstance(node, ast.Match):
        yield f"match {ast.unparse(node.subject)}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
        name, first = node.func.id, ast.unparse(node.args[0])
        if name in ("isinstance", "issubclass") and not is_plain(node.args[1]):
            yield ast.unparse(node)
        if name in ("hasattr", "getattr") and first not in ALLOWED_OBJECTS:
            yield ast.unparse(node)
    if isinstance(node, ast.Compare):
        for side in (node.left, *node.comparators):
            inner = side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]
            for one in inner:
                if isinstance(one, ast.Attribute) and one.attr == "kind" and ast.unparse(one) not in allowed:
                    yield ast.unparse(node)


def found(package: Path) -> list[str]:
    complaints = []
    for room in ROOMS:
        for path in sorted((package / room).rglob("*.py")):
            name = path.relative_to(package).as_posix()
            if name in TABLES:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                lines = asks(node, ALLOWED_LINES.get(name, set()))
                complaints += [f"{name}:{node.lineno}: {what}" for what in lines]  # type: ignore[attr-defined]
    return complaints


def test_nothing_is_told_apart_by_its_kind() -> None:
    assert found(PACKAGE) == []


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(stage, PriorStage)",
        "isinstance(part, (str, WaveformCodec))",
        "issubclass(type(part), Codec | Vocoder)",
        "hasattr(part, 'codebook')",
        "getattr(part, 'codebook', None)",
        "x = 1 if part.config.kind == 'gpt' else 2",
        "x = 'gpt' != settings.kind",
        "x = settings.kind in ('gpt', 'flow')",
        "x = settings.kind not in KINDS",
        "match part:\n    case _:\n        pass",
    ],
)
def test_a_planted_question_is_found(tmp_path: Path, line: str) -> None:
    for room in ROOMS:
        (tmp_path / room / "tasks").mkdir(parents=True)
    (tmp_path / "training" / "tasks" / "prior.py").write_text(line, encoding="utf-8")
    (tmp_path / "training" / "build.py").write_text(line, encoding="utf-8")
    (complaint,) = found(tmp_path)
    assert complaint.startswith("training/tasks/prior.py:1: ")


@pytest.mark.parametrize(
    "line",
    ["isinstance(x, dict)", "isinstance(x, str | list)", "isinstance(x, (OSError, MemoryError))", "f(part.kind)"],
)
def test_plain_values_may_be_told_apart(tmp_path: Path, line: str) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "loop.py").write_text(line, encoding="utf-8")
    assert found(tmp_path) == []
