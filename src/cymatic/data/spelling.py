"""Names of files compared in one Unicode form (NFC).

A Mac writes é as e and an accent, which is another name elsewhere. What Windows separates by backslashes is found, too.
"""

from __future__ import annotations

import ntpath
import os
import unicodedata
from pathlib import Path


def nfc(name: str | Path) -> str:
    """A name or path in the form in which it is compared."""
    return unicodedata.normalize("NFC", str(name))


def on_windows_disk(name: str) -> bool:
    """Whether it can only be found on a Windows machine: from a drive letter or a server on."""
    return os.name != "nt" and bool(ntpath.splitdrive(name)[0]) and not name.startswith("//")


class Spelling:
    """Finds files under other spellings of their names; keeps what it has read of folders, so ask within one pass."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, str]] = {}  # by folder: names as the disk has them, by their NFC

    def of(self, folder: str | Path, name: str) -> str:
        """The path of `name` in `folder`, each part of it as the disk spells it; unchanged where there is none such."""
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            return path
        for spelt in dict.fromkeys((name, name.replace("\\", "/"))):
            if (found := self._find(str(folder), spelt)) is not None:
                return found
        return path

    def _find(self, folder: str, name: str) -> str | None:
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            return path
        if name.isascii():
            return None
        found = os.sep if os.path.isabs(name) else folder
        for part in Path(name).parts[1 if os.path.isabs(name) else 0 :]:
            inner = os.path.join(found, part)
            if not os.path.lexists(inner):
                spelt = self._inside(found).get(nfc(part))
                if spelt is None:
                    return None
                inner = os.path.join(found, spelt)
            found = inner
        return found

    def _inside(self, folder: str) -> dict[str, str]:
        if folder not in self._names:
            try:
                self._names[folder] = {nfc(name): name for name in sorted(os.listdir(folder))}
            except OSError:
                self._names[folder] = {}
        return self._names[folder]
