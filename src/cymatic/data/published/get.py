"""Making a pack: its originals are found here or on the network; where neither works, it says what to do by hand."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cymatic.data.published import digits, esc, instruments, samples
from cymatic.data.published.catalogue import DIGITS_COMMIT, ESC_COMMIT, SONIC_PI_COMMIT, Published, find
from cymatic.data.published.dataset_writer import DatasetWriter, ManifestRow, read_manifest
from cymatic.data.published.download import Checksum, DownloadError, Fetch, fetch
from cymatic.data.published.originals import OnNetwork, Originals, local
from cymatic.errors import Error
from cymatic.folder_lock import only_writer

RAW = "https://raw.githubusercontent.com"
# Of the archive that GitHub makes of ESC-50 at the pinned commit. GitHub doesn't promise that it will stay so; were it
# to change, the clips' own checksums would still hold, and an archive fetched by hand is not compared with this.
ESC_ARCHIVE_BYTES = 645_832_161
ESC_ARCHIVE = Checksum("sha256", "661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f")


@dataclass(frozen=True)
class Made:
    """Where a pack lies, its rows, and whether it was there already."""

    folder: Path
    rows: list[ManifestRow]
    was_there: bool = False


@dataclass
class Watch:
    """Whom to tell what happens, and how to reach the network."""

    say: Callable[[str], None] = lambda line: None
    on_sound: Callable[[int, int], None] = lambda done, total: None
    on_bytes: Callable[[int, int | None], None] = lambda have, total: None
    on_unpacked: Callable[[int, int], None] = lambda have, total: None
    fetch: Fetch = fetch


def get(name: str, folder: Path, given: Path | None = None, watch: Watch | None = None) -> Made:
    """Makes the pack `name` in `folder`/`name` and returns it; one that is there and whole is left as it is.

    given: a folder or an archive of the originals (for the instruments, the sound font), so that no network is needed.

    Raises Error in one sentence. What was made and fetched so far is kept for the next call.
    """
    pack, watch = find(name), watch or Watch()
    watch.say(f"{pack.name}: {pack.title}")
    watch.say(f"licence: {pack.licence} ({pack.licence_address})")
    writer = DatasetWriter(pack, folder, on_sound=lambda done: watch.on_sound(done, pack.sounds))
    there = read_manifest(writer.target)
    if there is not None and _is_whole(pack, writer.target, there):
        return Made(writer.target, there, was_there=True)
    if given is not None and not given.exists():
        raise Error(f"{given} does not exist; give --from a folder or an archive that is there")
    writer.open()
    try:
        with only_writer(folder):  # of what is fetched, too, which lies beside the packs
            return _WRITERS[name](writer, given, watch)
    except DownloadError as error:
        raise Error(f"{error}; {by_hand(pack, folder)}") from error


def by_hand(pack: Published, folder: Path) -> str:
    """What to put where, for whom has no network here."""
    place = folder / "downloads" / f"{pack.name}.zip"
    again = f"cymatic data get {pack.name} -o {shlex.quote(str(folder))} --from {shlex.quote(str(place))}"
    return f"without a network, put {pack.address} (fetched elsewhere) at {place} and run: {again}"


def _is_whole(pack: Published, folder: Path, rows: list[ManifestRow]) -> bool:
    audio = [row.get("audio") for row in rows]
    return len(rows) == pack.sounds and all(isinstance(name, str) and (folder / name).is_file() for name in audio)


def _digits(writer: DatasetWriter, given: Path | None, watch: Watch) -> Made:
    originals = _archive(writer, given, watch, f"digits-{DIGITS_COMMIT[:12]}.zip")
    rows = digits.make(writer, originals)
    return Made(writer.close(rows, made=digits.MADE, licence_text=digits.LICENCE_TEXT), rows)


def _samples(writer: DatasetWriter, given: Path | None, watch: Watch) -> Made:
    folder = writer.downloads / f"samples-{SONIC_PI_COMMIT[:12]}"
    address = f"{RAW}/sonic-pi-net/sonic-pi/{SONIC_PI_COMMIT}/etc/samples"
    originals = local(given) if given else OnNetwork(address, folder, fetch=watch.fetch)
    rows = samples.make(writer, originals)
    return Made(writer.close(rows, made=samples.MADE, licence_text=samples.LICENCE_TEXT), rows)


def _instruments(writer: DatasetWriter, given: Path | None, watch: Watch) -> Made:
    rows = instruments.make(writer, given)
    return Made(writer.close(rows, made=instruments.MADE, licence_text=instruments.licence_text()), rows)


def _esc10(writer: DatasetWriter, given: Path | None, watch: Watch) -> Made:
    clips = [clip for clip in esc.table() if clip.target in esc.ESC10]
    originals = (
        local(given)
        if given
        else OnNetwork(
            f"{RAW}/karolpiczak/ESC-50/{ESC_COMMIT}",
            writer.downloads / f"esc10-{ESC_COMMIT[:12]}",
            places={clip.file: f"audio/{clip.file}" for clip in clips},
            checksums={clip.file: clip.checksum for clip in clips},
            fetch=watch.fetch,
        )
    )
    rows, text = esc.make(writer, originals, ten=True)
    return Made(writer.close(rows, made=esc.MADE, licence_text=text), rows)


def _esc50(writer: DatasetWriter, given: Path | None, watch: Watch) -> Made:
    watch.say("note: ESC-50 may not be used commercially, so nothing trained on it belongs into a starter")
    originals = _archive(writer, given, watch, f"esc50-{ESC_COMMIT[:12]}.zip", ESC_ARCHIVE, ESC_ARCHIVE_BYTES)
    rows, text = esc.make(writer, originals, ten=False)
    return Made(writer.close(rows, made=esc.MADE, licence_text=text), rows)


def _archive(
    writer: DatasetWriter,
    given: Path | None,
    watch: Watch,
    name: str,
    checksum: Checksum | None = None,
    size: int | None = None,
) -> Originals:
    if given is not None:
        return local(given)
    path = writer.downloads / name
    if not path.exists():
        watch.say(f"fetching {writer.pack.address} ({writer.pack.original})")
    archive = watch.fetch(writer.pack.address, path, checksum=checksum, size=size, on_bytes=watch.on_bytes)
    return local(archive)


_WRITERS: dict[str, Callable[[DatasetWriter, Path | None, Watch], Made]] = {
    "digits": _digits,
    "samples": _samples,
    "instruments": _instruments,
    "esc10": _esc10,
    "esc50": _esc50,
}
