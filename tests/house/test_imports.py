"""The house keeps its shape: imports point one way, modules stay small, nothing is unpickled, no machine is named."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "cymatic"

# A room may import from any layer before its own.
LAYERS = (
    ("errors", "starters", "recipes", "version"),
    ("files", "folder_lock", "scalars", "config", "seeds", "batch_shard", "quiet"),
    ("signal", "nn", "cond"),
    ("media",),
    ("quantizers", "latent"),
    ("codecs", "encoders", "priors", "vocoders", "discriminators"),
    ("data", "evaluation", "hub"),
    ("pipelines",),
    ("training",),
    ("apps",),
)
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
# Families meet in pipelines only; other rooms of one layer may import one another, but not both ways.
FAMILIES = {"quantizers", "codecs", "encoders", "priors", "vocoders", "discriminators"}
# The door fetches names from everywhere, lazily.
DOORS = {"__init__", "__main__"}

MAX_LINES = 450


class Import(NamedTuple):
    where: str
    source: str
    target: str


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imported_names(tree: ast.AST, package_of: list[str]) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of each import, at the top or inside a function, `import_module` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package_of[: len(package_of) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            argument = node.args[0]
            if called in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield node.lineno, str(argument.value)


def imports(package: Path) -> Iterator[Import]:
    for path in modules(package):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] in DOORS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, name in imported_names(tree, ["cymatic", *parts[:-1]]):
            root, _, rest = name.partition(".")
            if root == "cymatic":
                yield Import(f"{path.relative_to(package)}:{line}", parts[0], rest.split(".")[0])


def violations(package: Path) -> list[str]:
    found = []
    peers: dict[tuple[str, str], str] = {}
    for where, source, target in imports(package):
        if source not in RANK:
            found.append(f"{where}: room {source!r} has no place in the order")
        elif target not in RANK:
            found.append(f"{where}: imports cymatic.{target}, which is no room; import from the room that defines it")
        elif source == target:
            continue
        elif RANK[target] > RANK[source]:
            found.append(f"{where}: {source} must not import {target}")
        elif RANK[target] == RANK[source] and {source, target} <= FAMILIES:
            found.append(f"{where}: families never import each other, and {source} imports {target}")
        elif RANK[target] == RANK[source]:
            peers[source, target] = where
    found += [f"{where}: {a} and {b} import each other" for (a, b), where in peers.items() if (b, a) in peers]
    return found


def test_imports_point_one_way() -> None:
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("path", "line", "complaint"),
    [
        ("signal/mel.py", "from cymatic.pipelines.load import load", "signal must not import pipelines"),
        ("priors/flow.py", "def f():\n    import cymatic.training.loop", "priors must not import training"),
        ("pipelines/load.py", "from ..training import loop", "pipelines must not import training"),
        ("hub/folder.py", "from cymatic import training", "hub must not import training"),
        ("vocoders/head.py", "from cymatic.priors.flow import Flow", "families never import each other"),
        ("encoders/text.py", "import importlib\nimportlib.import_module('cymatic.apps.cli')", "must not import apps"),
        ("priors/flow.py", "from cymatic import load", "which is no room"),
        ("attic/old.py", "from cymatic.errors import Error", "has no place in the order"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, path: str, line: str, complaint: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(line + "\n", encoding="utf-8")
    (found,) = violations(tmp_path)
    assert complaint in found


def test_peers_may_import_one_way_only(tmp_path: Path) -> None:
    for room, line in (("data", "from cymatic.errors import Error"), ("evaluation", "from cymatic.data import folder")):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text(line, encoding="utf-8")
    assert violations(tmp_path) == []
    (tmp_path / "data" / "b.py").write_text("from cymatic.evaluation import probe", encoding="utf-8")
    assert len(violations(tmp_path)) == 2


def guards(tree: ast.AST) -> set[int]:
    """The lines below `if TYPE_CHECKING`, which never run."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            found.update(line for below in node.body for line in range(below.lineno, (below.end_lineno or 0) + 1))
    return found


def graph(package: Path) -> dict[str, set[str]]:
    """Which modules each module imports, at the top or inside a function; the package's lazy door is left out."""
    names = {}
    for path in modules(package):
        parts = path.relative_to(package).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    names.pop("", None)
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        if name in DOORS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        unseen = guards(tree)
        inside = path.relative_to(package).parts[:-1]
        found[name] = set()
        for line, imported in imported_names(tree, ["cymatic", *inside]):
            root, _, rest = imported.partition(".")
            if root != "cymatic" or line in unseen:
                continue
            target = rest if rest in names else rest.rpartition(".")[0]  # a module, or a name inside one
            if target in names and target != name:
                found[name].add(target)
    return found


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Each circle once, as the modules that reach one another (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[str] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in sorted(edges.get(name, ())):
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            circle = [stack.pop()]
            while circle[-1] != name:
                circle.append(stack.pop())
            if len(circle) > 1:
                found.append(" <-> ".join(sorted(circle)))

    for name in sorted(edges):
        if name not in order:
            visit(name)
    return sorted(found)


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(graph(PACKAGE)) == []


@pytest.mark.parametrize("late", ["from cymatic.a.one import x", "def f():\n    from cymatic.a import one"])
def test_a_planted_circle_is_found(tmp_path: Path, late: str) -> None:
    (tmp_path / "a").mkdir()
    for name, line in (("one", "import cymatic.a.two"), ("two", "from ..b import three"), ("four", "import cymatic.a")):
        (tmp_path / "a" / f"{name}.py").write_text(line, encoding="utf-8")
    (tmp_path / "b").mkdir()
    three = tmp_path / "b" / "three.py"
    three.write_text(late, encoding="utf-8")
    assert circles(graph(tmp_path)) == ["a.one <-> a.two <-> b.three"]
    three.write_text(f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {late.splitlines()[-1].strip()}")
    assert circles(graph(tmp_path)) == []


def fresh_python(code: str) -> set[str]:
    """Run `code` in a new interpreter and give the names of the modules that it loaded."""
    report = "\nimport sys\nprint('loaded:', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("loaded:", 1)[1].split())


HEAVY = {"torch", "scipy", "matplotlib", "transformers", "wordllama"}


def test_import_cymatic_is_light() -> None:
    loaded = fresh_python("import cymatic\nassert 'load' in dir(cymatic)")
    assert not loaded & (HEAVY | {"typer", "pydantic", "numpy", "soundfile"})
    assert {name for name in loaded if name.startswith("cymatic")} == {"cymatic", "cymatic.version"}


def test_an_unknown_name_says_what_there_is() -> None:
    import cymatic

    with pytest.raises(AttributeError, match="'nonsense'; it offers"):
        _ = cymatic.nonsense


def test_public_names_exist() -> None:
    import cymatic

    assert all(getattr(cymatic, name) is not None for name in cymatic.__all__)


def test_help_is_light() -> None:
    loaded = fresh_python(
        "import runpy, sys\n"
        "sys.argv = ['cymatic', '--help']\n"
        "try:\n"
        "    runpy.run_module('cymatic', run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert not done.code, done.code\n"
    )
    assert "cymatic.apps.cli" in loaded
    assert not loaded & HEAVY


def test_modules_stay_small() -> None:
    lengths = {str(p.relative_to(PACKAGE)): len(p.read_text(encoding="utf-8").splitlines()) for p in modules(PACKAGE)}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def keyword(call: ast.Call, name: str) -> object:
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def unsafe(source: str, in_hub: bool = False) -> list[str]:
    """What in `source` could run code that a file brought along. The allow-list reader in hub/ may name pickle."""
    tree = ast.parse(source)
    found = []
    if not in_hub:
        found += [
            f"line {line}: {name}" for line, name in imported_names(tree, []) if name.partition(".")[0] in PICKLES
        ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("eval", "exec"):
            found.append(f"line {node.lineno}: {called}()")
        if called == "torch.load" and keyword(node, "weights_only") is not True:
            found.append(f"line {node.lineno}: torch.load without weights_only=True")
        if called in ("np.load", "numpy.load") and keyword(node, "allow_pickle") not in (None, False):
            found.append(f"line {node.lineno}: numpy.load with allow_pickle")
        if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found.append(f"line {node.lineno}: {called}, where yaml.safe_load is meant")
    return found


def test_nothing_is_unpickled_or_evaluated() -> None:
    found = {
        str(path.relative_to(PACKAGE)): unsafe(path.read_text(encoding="utf-8"), path.parent == PACKAGE / "hub")
        for path in modules(PACKAGE)
    }
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "eval('1')", "torch.load(f)", "torch.load(f, weights_only=False)"],
)
def test_planted_unsafe_code_is_found(source: str) -> None:
    assert len(unsafe(source)) == 1


def test_safe_code_is_left_alone() -> None:
    assert unsafe("model.eval()\ntorch.load(f, weights_only=True)\nyaml.safe_load(f)\nnp.load(f)") == []


# Written so that the patterns don't match their own text.
MACHINE = re.compile(
    r"(?<![\w.~])/(?:work|root|opt|mnt|home/\w+|Users/\w+)/|p[y]pi\.org/simple|python[h]osted\.org"
    r"|download\.pytorch\.[o]rg|--(?:extra-)?index[-]url|--find[-]links"
)


def tracked_files() -> list[Path]:
    """What git holds or would hold."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout, so nothing says which files belong to the repository")
    return [REPOSITORY / name for name in listed.split("\0") if name]


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked_files():
        if not path.is_file() or b"\0" in path.read_bytes()[:8192]:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if match := MACHINE.search(line):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {match.group()}")
    assert found == []


@pytest.mark.parametrize("parts", [("/wo", "rk/main"), ("/ho", "me/ann/x"), ("https://py", "pi.org/simple/torch")])
def test_a_planted_machine_path_is_found(parts: tuple[str, str]) -> None:
    assert MACHINE.search("see " + "".join(parts))
