"""The field's words are used: names that were dropped stay dropped, and a name of a class means one thing."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "cymatic"

# Words that no identifier and no key of a recipe contains, and what is said instead. Where a word has another, usual
# meaning as well, it is dropped in the rooms named.
DROPPED = {
    "judge": "discriminator, or classifier",
    "judges": "discriminators, or classifiers",
    "judged": "segments that discriminators see",
    "fool": "adversarial loss",
    "fooled": "adversarial loss",
    "push": "ramp, or feed",
    "alone": "reconstruction-only steps",
    "heed": "caption sensitivity",
    "piece": "segment, or chunk",
    "pieces": "segments, or chunks",
    "maker": "generator",
    "makers": "generators",
    "steer": "modulation",
    "steered": "AdaLNBlock",
    "steering": "modulation",
    "inwards": "in_proj",
    "outwards": "out_proj",
    "shaken": "jitter",
    "shelf": "data-set writer",
    "doubt": "out-of-vocabulary note",
    "doubts": "problems",
    "survey": "shard statistics",
}
DROPPED_IN = {
    "turns": (("nn", "priors", "codecs"), "rotary tables"),
    "see": (("priors",), "denoise"),
    "seen": (("priors",), "prediction"),
    "past": (("nn", "codecs", "priors"), "streaming state, or cache"),
    "tiles": (("nn", "codecs"), "fixed-size blocks"),
    "tile": (("nn", "codecs"), "fixed-size block"),
    "said": (("nn", "codecs", "quantizers", "priors"), "side information"),
    "beside": (("nn", "codecs", "quantizers", "priors"), "side codes"),
}
# Classes and functions by their whole names.
DROPPED_NAMES = {
    *("Crops", "Share", "Seen", "Past", "Tiles", "Half", "SteeredBlock", "Found", "Wanted", "Survey", "Raw", "Job"),
    *("TextToSound", "CodesToSound", "WaveCodesToSound"),
}
# What an accumulated gradient is summed over is a micro-batch.
MICRO_BATCHES = {"training/accumulation.py", "training/tasks/prior.py", "data/batches.py"}
# They read what earlier versions and other projects wrote, under its names; the last two keep old names of commands.
EXEMPT = ("hub/earlier.py", "training/earlier.py", "hub/readers/", "apps/classifier_command.py", "apps/cli.py")


def words(name: str) -> list[str]:
    """The words of an identifier: `MelCrops` and `mel_crops` are mel, crops."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each identifier of a module but for those it imports; comments and strings are prose."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NAME and not token.line.startswith(("from ", "import ")):
            yield token.start[0], token.string


def keys(values: object) -> Iterator[str]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield str(key)
            yield from keys(value)
    elif isinstance(values, list):
        for value in values:
            yield from keys(value)


def complaint(name: str, where: str) -> str | None:
    room = where.partition("/")[0]
    if name in DROPPED_NAMES or (name == "parts" and where in MICRO_BATCHES):
        return f"{name} is a name that was dropped"
    for word in words(name):
        rooms, instead = ((), DROPPED[word]) if word in DROPPED else DROPPED_IN.get(word, ((), ""))
        if instead and (not rooms or room in rooms):
            return f"{name} says {word}; say {instead}"
    return None


def dropped(package: Path) -> list[str]:
    found = []
    for path in sorted((*package.rglob("*.py"), *package.rglob("*.yaml"))):
        where = path.relative_to(package).as_posix()
        if where.startswith(EXEMPT):
            continue
        if path.suffix == ".py":
            named = list(identifiers(path))
        else:
            named = [(0, key) for key in keys(yaml.safe_load(path.read_text(encoding="utf-8")))]
        found += [f"{where}:{line}: {why}" for line, name in named if (why := complaint(name, where)) is not None]
    return found


def test_dropped_names_stay_dropped() -> None:
    assert dropped(PACKAGE) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("training/loop.py", "from_judge = 1"),
        ("training/loop.py", "class JudgeSettings: ..."),
        ("priors/flow.py", "def f(steering): ..."),
        ("nn/rotary.py", "turns = 1"),
        ("data/batches.py", "batch.parts"),
        ("data/shards.py", "class Survey: ..."),
        ("recipes/own.yaml", "stages: {codec: {judges: {width: 3}}}"),
        ("recipes/own.yaml", "stages:\n- piece: 3"),
    ],
)
def test_a_planted_name_is_found(tmp_path: Path, path: str, text: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir()
    planted.write_text(text, encoding="utf-8")
    assert len(dropped(tmp_path)) == 1


def test_prose_is_free(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('"""No judge, no piece."""\nx = 1  # fool\n', encoding="utf-8")
    (tmp_path / "two.yaml").write_text("x: judge  # piece\n", encoding="utf-8")
    assert dropped(tmp_path) == []


def classes(package: Path) -> dict[str, list[str]]:
    """The modules that define each public class at their top; other projects' layers have names of their own."""
    found = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package).as_posix()
        if where.startswith("hub/readers/"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(where)
    return found


def test_one_name_is_one_thing(tmp_path: Path) -> None:
    assert {name: where for name, where in classes(PACKAGE).items() if len(where) > 1} == {}
    for room in ("a", "b"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "x.py").write_text("class Facts: ...\nclass _Private: ...\n", encoding="utf-8")
    assert classes(tmp_path) == {"Facts": ["a/x.py", "b/x.py"]}
