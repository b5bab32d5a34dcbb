"""VAS as published, from a server on this machine: archives that are checked, unpacked safely, and never half there."""

import hashlib
import http.server
import io
import pickle
import socket
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cymatic.apps.cli import run
from cymatic.data.published import download, vas
from cymatic.data.published.catalogue import VAS_CLASSES
from cymatic.data.published.download import Checksum
from cymatic.data.published.get import Watch
from cymatic.data.published.vas import KINDS, LISTS, MELS, archives, checksums, get_vas
from cymatic.data.vas import read_vas
from cymatic.errors import Error

RGB, FLOW = KINDS["rgb"], KINDS["flow"]


def tar(members: dict[str, bytes]) -> bytes:
    """An archive as `tar cf` makes it, folders included."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def clip(kind: str, seed: int) -> bytes:
    chance, buffer = np.random.default_rng(seed), io.BytesIO()
    if kind == MELS:
        np.save(buffer, chance.uniform(size=(80, 860)).astype(np.float32))
        return buffer.getvalue()
    return pickle.dumps(chance.normal(size=(5, 1024)).astype(np.float32), 2)


def archive_of(label: str, kind: str) -> bytes:
    end = "_mel.npy" if kind == MELS else ".pkl"
    inside = f"features/{label}/{kind}/"
    return tar({inside: b"", **{f"{inside}video_{i:05}{end}": clip(kind, i) for i in range(3)}})


@dataclass
class Home:
    """What the public home serves, and what it was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)  # bytes after which a file breaks off


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    told = Home()
    for label in ("dog", "gun"):
        for kind in (MELS, *KINDS.values()):
            told.files[f"/vas/{label}_{kind}.tar"] = archive_of(label, kind)
    names = [f"{label}/video_{i:05}" for label in ("dog", "gun") for i in range(3)]
    told.files["/lists/vas_train.txt"] = "\n".join(name for name in names if not name.endswith("2")).encode()
    told.files["/lists/vas_valid.txt"] = "\n".join(name for name in names if name.endswith("2")).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(f"{self.path} {self.headers['Range'] or ''}".strip())
            body = told.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            start = int((self.headers["Range"] or "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            self.wfile.write(body[start : told.cut.get(self.path)])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        told.address = f"http://127.0.0.1:{serving.server_port}"
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(vas, "ARCHIVES", f"{told.address}/vas")
        monkeypatch.setattr(vas, "LISTS_AT", f"{told.address}/lists")
        sums = {
            path.removeprefix("/vas/"): Checksum("md5", hashlib.md5(data).hexdigest())
            for path, data in told.files.items()
            if path.endswith(".tar")
        }
        monkeypatch.setattr(vas, "checksums", lambda: sums)
        monkeypatch.setattr(vas, "VAS_CLASSES", ("dog", "gun"))
        yield told
        serving.shutdown()
        thread.join()


WATCH = Watch(fetch=partial(download.fetch, sleep=lambda seconds: None))


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_it_comes_in_the_layout_that_is_read(home: Home, tmp_path: Path) -> None:
    target = get_vas(tmp_path / "data", watch=WATCH)
    assert target == tmp_path / "data" / "vas" and [path.name for path in target.parent.iterdir()] == ["vas"]
    given = read_vas(target, features=f"{RGB}+{FLOW}", strict=True)
    assert given.labels == ("dog", "gun") and given.dim == 2048 and not given.skipped and not given.notes
    assert {split: len(clips) for split, clips in given.splits.items()} == {"train": 4, "valid": 2}
    (one,) = [one for one in given.splits["train"] if one.name == "gun/video_00001"]
    assert np.array_equal(one.target.numpy(), np.load(io.BytesIO(clip(MELS, 1))))
    assert not any("resnet50" in name for name in home.asked)


def test_features_and_classes_are_chosen_and_added_later(home: Home, tmp_path: Path) -> None:
    get_vas(tmp_path, watch=WATCH, features=["none"], classes=["gun"])
    assert home.asked == ["/lists/vas_train.txt", "/lists/vas_valid.txt", f"/vas/gun_{MELS}.tar"]
    home.asked.clear()
    get_vas(tmp_path, watch=WATCH, features=["resnet50"], classes=["gun"])
    assert home.asked == [f"/vas/gun_{KINDS['resnet50']}.tar"], "the mels are there already"
    home.asked.clear()
    get_vas(tmp_path, watch=WATCH, features=["resnet50"], classes=["gun"])
    assert home.asked == []


def test_what_was_broken_off_goes_on_where_it_stopped(home: Home, tmp_path: Path) -> None:
    path = f"/vas/gun_{MELS}.tar"
    home.cut[path] = 300_000
    with pytest.raises(Error, match=r"broke off 5 times.* 300000 bytes are kept, so run again"):
        get_vas(tmp_path, watch=WATCH, features=["none"], classes=["gun"])
    assert below(tmp_path / "vas") == list(LISTS)
    home.cut.clear()
    home.asked.clear()
    get_vas(tmp_path, watch=WATCH, features=["none"], classes=["gun"])
    assert home.asked == [f"{path} bytes=300000-"]
    assert len(below(tmp_path / "vas")) == 5


def test_another_checksum_is_refused(home: Home, tmp_path: Path) -> None:
    home.files[f"/vas/gun_{MELS}.tar"] = archive_of("dog", RGB)
    with pytest.raises(Error, match=r"is not what was published: its MD5 is .* was expected"):
        get_vas(tmp_path, watch=WATCH, features=["none"], classes=["gun"])
    assert below(tmp_path / "vas") == list(LISTS)


MEL = clip(MELS, 0)
HOSTILE = {
    "paths that lead out": {"../../../../out_mel.npy": MEL, "/tmp/abs_mel.npy": MEL, "..\\..\\win_mel.npy": MEL},
    "other files": {"a_mel.npy": MEL, "run.sh": b"rm", "._a_mel.npy": b"x", "sub/_mel.npy/": b""},
}


@pytest.mark.parametrize("how", HOSTILE)
def test_nothing_is_written_beside_its_folder(how: str, tmp_path: Path, home: Home, monkeypatch) -> None:
    given = offered(tmp_path / "given", home, tar(HOSTILE[how]), monkeypatch)
    get_vas(tmp_path / "deep" / "data", given, features=["none"], classes=["gun"])
    wanted = {"paths that lead out": ["abs_mel.npy", "out_mel.npy", "win_mel.npy"], "other files": ["a_mel.npy"]}[how]
    assert below(tmp_path / "deep") == [
        *(f"data/vas/features/gun/{MELS}/{name}" for name in wanted), *(f"data/vas/{name}" for name in LISTS),
    ]  # fmt: skip


def offered(given: Path, home: Home, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of what was fetched elsewhere, with this archive of the mels of gun, and no network."""
    given.mkdir()
    for name in LISTS:
        (given / name).write_bytes(home.files[f"/lists/{name}"])
    (given / f"gun_{MELS}.tar").write_bytes(archive)
    monkeypatch.setattr(vas, "checksums", dict)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    return given


def no_network(*_: object, **__: object) -> None:
    raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))


WHOLE = archive_of("gun", MELS)
DAMAGED = {
    "cut short": (WHOLE[: len(WHOLE) // 2], "is cut short; get it again"),
    "no archive": (b"<html>404</html>" * 99, "is no tar archive"),
    "empty": (tar({}), r"holds no \*_mel.npy; fetch it again"),
    "another kind": (archive_of("gun", RGB), r"holds no \*_mel.npy; fetch it again"),
    "a huge file": (tar({"a_mel.npy": bytes(17 << 20)}), "a_mel.npy of 17825792 bytes, which the published one does"),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_archive_leaves_nothing_half_written(how: str, tmp_path: Path, home: Home, monkeypatch) -> None:
    archive, complaint = DAMAGED[how]
    given = offered(tmp_path / "given", home, archive, monkeypatch)
    with pytest.raises(Error, match=complaint):
        get_vas(tmp_path / "data", given, features=["none"], classes=["gun"])
    assert not (tmp_path / "data" / "vas" / "features").exists()
    (given / f"gun_{MELS}.tar").write_bytes(WHOLE)
    get_vas(tmp_path / "data", given, features=["none"], classes=["gun"])
    assert len(below(tmp_path / "data")) == 5 and (given / f"gun_{MELS}.tar").exists(), "what was given stays"


def test_a_page_instead_of_a_list_is_refused(home: Home, tmp_path: Path) -> None:
    home.files["/lists/vas_train.txt"] = b"<html>please log in</html>\n"
    with pytest.raises(Error, match="is no list of clips"):
        get_vas(tmp_path, watch=WATCH)
    assert not (tmp_path / "vas").exists()


def test_own_files_are_left_alone(home: Home, tmp_path: Path) -> None:
    mine = tmp_path / "vas" / "features" / "dog" / MELS / "mine_mel.npy"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (tmp_path / "vas" / "vas_valid.txt").write_text("dog/mine\n")
    get_vas(tmp_path, watch=WATCH, features=["none"])
    assert [path.name for path in mine.parent.iterdir()] == ["mine_mel.npy"] and mine.read_bytes() == b"mine"
    assert (tmp_path / "vas" / "vas_valid.txt").read_text() == "dog/mine\n"
    assert len(below(tmp_path / "vas" / "features" / "gun")) == 3


def test_without_a_network_it_says_what_to_put_where(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.chdir(tmp_path)
    assert run(["data", "get", "vas", "--features", "none", "--classes", "gun"]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "vas_train.txt can't be reached (the name is unknown here); without a network, put https://a3s.fi/" in line
    assert f"/CLASS_KIND.tar (CLASS: gun; KIND: {MELS}) and https://raw.githubusercontent.com/" in line
    assert line.endswith("cymatic data get vas -o data --from data/downloads/vas --features none --classes gun")
    assert "licence: none is stated" in said.out and below(tmp_path) == []


def test_the_command_says_what_it_brought(home: Home, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["data", "get", "vas", "--classes", "gun", "--features", "flow"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[2:] == [
        f"gun_{MELS}.tar (1 of 2)",
        f"gun_{FLOW}.tar (2 of 2)",
        f"data/vas  gun: {FLOW}, {MELS}; 4 in vas_train.txt, 2 in vas_valid.txt",
        "use it: cymatic train data/vas --recipe melspec-gpt",
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["vas", "--features", "rgbb"], 'VAS has no features "rgbb"; did you mean "rgb"'),
        (["vas", "--classes", "cat"], 'VAS has no class "cat"; '),
        (["vas", "--features", "none", "--features", "rgb"], "--features none was given beside others"),
        (["digits", "--features", "rgb"], "leave them out for digits"),
        (["vas", "--from", "nowhere"], "nowhere does not exist; give --from a folder"),
        (["vas", "--from", "."], "lacks 26 of the 26 files that are needed (vas_train.txt, vas_valid.txt, baby_"),
    ],
)
def test_what_goes_wrong_is_one_line(arguments: list[str], complaint: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.chdir(tmp_path)
    assert run(["data", "get", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line and below(tmp_path) == []


def test_every_archive_has_a_published_checksum() -> None:
    known = checksums()
    wanted = [one.file_name for one in archives(list(KINDS))]
    assert sorted(known) == sorted(wanted) and len(wanted) == 4 * len(VAS_CLASSES) == 32
    assert all(one.algorithm == "md5" and len(one.digits) == 32 for one in known.values())
