"""One house rule for all tests: no network, one thread, checked shapes, and one place where data and fixtures live.

`CYMATIC_SHARED` names the folder that holds `data/` and `fixtures/` (by default `shared` beside the repository), and
`CYMATIC_FIXTURES` other fixtures than those in it. Tests that need them skip with a reason when they are absent, and
fail when `CYMATIC_REQUIRE_FIXTURES=1`.
"""

import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pytest
from beartype import BeartypeConf, FrozenDict, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from tests.reference import Reference

# Before torch is imported, here or in a child process: results at one thread are the same bit for bit.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# The user's own cache is none of a test's business; this one goes with the process.
CACHE = tempfile.TemporaryDirectory(prefix="cymatic-cache-")
os.environ["CYMATIC_CACHE"] = CACHE.name

# Before cymatic is imported: each annotated shape and type is checked on each call. The hook takes its checker by name
# and hands it bare functions; beartype knows `Self` in whole classes only, so what is annotated so goes unchecked. An
# int may stand for a float, as type checkers have it.
checked = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: object}), is_pep484_tower=True))
install_import_hook("cymatic", f"{__name__}.checked")

# The first example of a property may be the one that imports torch, so examples have no deadline.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CYMATIC_SHARED") or REPOSITORY.parent / "shared")
FIXTURES = Path(os.environ.get("CYMATIC_FIXTURES") or SHARED / "fixtures")
REQUIRED = os.environ.get("CYMATIC_REQUIRE_FIXTURES") == "1"
SLOW = os.environ.get("CYMATIC_SLOW") == "1"


def _refuse(host: object) -> NoReturn:
    # Not an OSError: libraries catch those and try again, or fall back in silence.
    raise RuntimeError(f"a test reached for the network ({host!r}); tests use local files and loopback only")


def _is_loopback(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _block_network() -> None:
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def is_local(sock: socket.socket, address: Any) -> bool:
        return sock.family not in (socket.AF_INET, socket.AF_INET6) or _is_loopback(address[0])

    def guarded_connect(self: socket.socket, address: Any) -> None:
        return connect(self, address) if is_local(self, address) else _refuse(address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        return connect_ex(self, address) if is_local(self, address) else _refuse(address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return getaddrinfo(host, *args, **kwargs) if _is_loopback(host) else _refuse(host)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign]
    socket.getaddrinfo = guarded_getaddrinfo


_block_network()


def pytest_report_header() -> list[str]:
    return [
        f"data and fixtures: {SHARED} ({'there' if SHARED.is_dir() else 'absent'}, CYMATIC_SHARED)"
        f"{', required' if REQUIRED else ''}",
        *([f"other fixtures: {FIXTURES} (CYMATIC_FIXTURES)"] if FIXTURES != SHARED / "fixtures" else []),
        f"slow tests: {'on' if SLOW else 'off unless -m names what to run'} (CYMATIC_SLOW=1 turns them on)",
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if SLOW or config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def absent(reason: str) -> NoReturn:
    """Skips, and fails where fixtures are required."""
    if REQUIRED:
        pytest.fail(f"{reason} (required by CYMATIC_REQUIRE_FIXTURES=1)", pytrace=False)
    pytest.skip(reason)


def installed(package: str, extra: str) -> None:
    """Skips where a package is missing, and fails where fixtures are required, so that CI never passes it over."""
    if find_spec(package) is None:
        absent(f"{package} is not installed: pip install 'cymatic[{extra}]'")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        absent(f"{path} is not there; CYMATIC_SHARED names the folder that holds data/ and fixtures/")
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds `data/` and `fixtures/`."""
    return _folder(SHARED)


@pytest.fixture(scope="session")
def data_dir(shared: Path) -> Path:
    """Packs of recordings and pictures, each with its manifest."""
    return _folder(shared / "data")


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Inputs and expected outputs of the reference implementations."""
    return _folder(FIXTURES)


@pytest.fixture(scope="session")
def reference(fixtures_dir: Path) -> "Callable[[str], Reference]":
    """`reference(name)`: what is expected in the folder of fixtures of that name."""
    from tests.reference import Reference

    return cache(lambda name: Reference.of(_folder(fixtures_dir / name)))


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight short tones, captions "low tone" and "high tone"; read only."""
    from tests.helpers import tone_folder

    return tone_folder(tmp_path_factory.mktemp("tones") / "tones")


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder of eleven tones of 0.3 to 0.4 s, of which no two have the same name, length or height."""
    from tests.helpers import numbered_tones

    return numbered_tones(tmp_path / "sounds", 11)


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec of 2 kHz that offers 0.2, 0.4 and 0.6 kbps, 0.4 by default; read only."""
    from tests.helpers import save_codec, tiny_codec

    return save_codec(tmp_path_factory.mktemp("models") / "tiny-codec", tiny_codec(), kbps=0.4)


@pytest.fixture(scope="session")
def tiny_run(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 45 steps on `tones` with checkpoints every 15, so a small model that works; read only."""
    from cymatic.training.train import train
    from tests.helpers import tiny_recipe

    run = tmp_path_factory.mktemp("runs") / "tiny"
    settings = tiny_recipe(tones, "training.steps=45", "training.checkpoint_steps=15")
    outcome = train(settings, run, say=lambda line: None)
    assert outcome.finished and outcome.progress.step == 45
    return run


@pytest.fixture(scope="session")
def tiny_codes_run(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over codes on `tones`: 40 steps of a codec, 45 of a GPT, checkpoints every 15; read only."""
    from cymatic.training.train import train
    from tests.helpers import TINY_CODES_STEPS, tiny_codes_recipe

    run = tmp_path_factory.mktemp("runs") / "tiny-codes"
    outcome = train(tiny_codes_recipe(tones, *TINY_CODES_STEPS), run, say=lambda line: None)
    assert outcome.finished and outcome.progress.step == 45
    return run


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 pictures of nine captions; read only."""
    from tests.helpers import shape_folder

    return shape_folder(tmp_path_factory.mktemp("pictures") / "shapes")


@pytest.fixture(scope="session")
def tiny_pictures_run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `shapes`: a codec, and a GPT over its codes, with its verdict; read only."""
    import yaml

    from cymatic.training.recipe import parse_recipe
    from cymatic.training.train import train
    from tests.helpers import TINY_PICTURES

    run = tmp_path_factory.mktemp("runs") / "tiny-pictures"
    recipe = parse_recipe({"data": {"folder": str(shapes)}, **yaml.safe_load(TINY_PICTURES)}, "tiny pictures")
    outcome = train(recipe, run, verdict=True, say=lambda line: None)
    assert outcome.finished
    return run


@pytest.fixture(scope="session")
def digits_dir(data_dir: Path) -> Path:
    """Six voices, ten digits: FLAC files with `manifest.jsonl`."""
    return _folder(data_dir / "digits")
