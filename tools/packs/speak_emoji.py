#!/usr/bin/env python3
"""Makes a pack of the names of emoji, spoken by eSpeak NG: sounds and pictures with a manifest, a README and a licence.

    python tools/packs/speak_emoji.py shared/data/emoji --like shared/data/spoken-emoji -o spoken-emoji-it-pt-ru

EMOJI is the emoji pack, whose manifest has names in several languages; its splits are taken over, so an emoji that is
held out there is not spoken in `train` here. `--like` is a pack of spoken names whose emoji are taken; without it, all
are but flags and skin tones. It needs `espeak-ng` on the PATH (apt install espeak-ng) and cymatic's own environment.

Voices, speeds and pitches are drawn by the emoji, the language and the number of the clip alone, so the same command
makes the same pack. It may be stopped at any time and goes on where it stopped: a sound appears whole or not at all,
and the manifest is written last. A name that is missing, or that can't be spoken, is named and counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cymatic.media.sound import Sound
from cymatic.seeds import mixed

PROGRAM = "espeak-ng"
RATE = 16_000  # Hz, as the other pack has it
VOICES = {"it": ("it",), "pt": ("pt", "pt-br"), "ru": ("ru",), "de": ("de",), "es": ("es",), "fr": ("fr-fr",)}
VARIANTS = ("", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")  # that every eSpeak NG has
SPEEDS, PITCHES = (130, 186), (35, 66)  # words a minute, and eSpeak's own pitch; the second ends are not included
QUIET, MARGIN, SHORTEST = 0.003, 0.02, 0.1  # of the loudest sample is silence; seconds that stay around; of a clip
LICENCE = "CC0-1.0"
LICENCE_TEXT = """The sounds in this folder were synthesised by eSpeak NG, whose licence (GPL-3.0-or-later) does
not cover what it says. No rights of third parties in them are known; treat them as CC0-1.0
(https://creativecommons.org/publicdomain/zero/1.0/). The names that are spoken are Unicode CLDR's
(https://www.unicode.org/license.txt). The pictures are Noto emoji under the Apache License 2.0
(https://www.apache.org/licenses/LICENSE-2.0), as the emoji pack says.
"""


@dataclass(frozen=True)
class Utterance:
    """One clip to make."""

    emoji: dict[str, Any]
    language: str
    take: int
    voice: str
    speed: int
    pitch: int
    suffix: str

    @property
    def path(self) -> str:
        return f"audio/{self.language}/{self.emoji['id']}_{self.language}_{self.take}{self.suffix}"

    @property
    def text(self) -> str:
        return " ".join(self.emoji["names"][self.language].split())


def utterances(
    emoji: list[dict[str, Any]], languages: list[str], takes: int, seed: int, suffix: str
) -> list[Utterance]:
    """All clips of the emoji that have names, in the order of the manifest; no voice twice for one name."""
    found = []
    for one in emoji:
        for language in languages:
            if not one.get("names", {}).get(language, "").strip():
                continue
            code = int.from_bytes(f"{one['id']} {language}".encode())
            draws = np.random.Generator(np.random.PCG64(mixed(seed, code)))
            voices = [f"{base}+{more}" if more else base for base in VOICES[language] for more in VARIANTS]
            chosen = draws.permutation(len(voices))
            for take in range(takes):
                voice = voices[int(chosen[take % len(voices)])]
                speed, pitch = int(draws.integers(*SPEEDS)), int(draws.integers(*PITCHES))
                found.append(Utterance(one, language, take, voice, speed, pitch, suffix))
    return found


def speak(one: Utterance, root: Path) -> str | None:
    """Makes the sound of an utterance unless it is there; what went wrong, or None."""
    path = root / one.path
    if path.is_file():
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.wav"
        command = [PROGRAM, "-v", one.voice, "-s", str(one.speed), "-p", str(one.pitch), "-w", str(made), "--stdin"]
        done = subprocess.run(command, input=one.text.encode(), capture_output=True, check=False)
        if done.returncode or not made.is_file():
            why = done.stderr.decode(errors="replace").strip() or "it wrote no sound"
            return f"{PROGRAM} -v {one.voice} ended with {done.returncode}: {why}"
        try:
            sound = trimmed(Sound.read(made).mono().resample(RATE))
        except ValueError as error:
            return f"{PROGRAM} -v {one.voice} made no sound ({error})"
        if sound.samples.shape[1] < SHORTEST * RATE:
            return f'"{one.text}" came out shorter than {SHORTEST:g} s'
        part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        sound.write(part)
        part.replace(path)
    return None


def trimmed(sound: Sound) -> Sound:
    """Without the silence at both ends, but for a little."""
    level = np.abs(sound.samples).max(0)
    loud = np.flatnonzero(level > QUIET * max(float(level.max(initial=0)), 1e-9))
    if not loud.size or not level.any():
        return Sound(sound.samples[:, :1], sound.rate)
    margin = round(MARGIN * sound.rate)
    return Sound(sound.samples[:, max(0, loud[0] - margin) : loud[-1] + 1 + margin], sound.rate)


def row(one: Utterance, root: Path, picture: str | None) -> dict[str, Any]:
    """A line of the manifest: `audio` and `picture` are roles, `text` the caption."""
    samples = Sound.read(root / one.path).samples.shape[1]
    return {
        "id": f"{one.emoji['id']}:{one.language}:{one.take}",
        "emoji": one.emoji["id"],
        "audio": one.path,
        **({"picture": picture} if picture else {}),
        "text": one.text,
        "name": one.emoji["name"],
        "language": one.language,
        "voice": one.voice,
        "engine": PROGRAM,
        "speed": one.speed,
        "pitch": one.pitch,
        "seconds": round(samples / RATE, 4),
        "licence": LICENCE,
        "group": one.emoji["id"],
        "split": one.emoji["split"],
    }


def readme(rows: list[dict[str, Any]], version: str, command: str) -> str:
    counts = Counter((one["language"], one["split"]) for one in rows)
    hours = sum(one["seconds"] for one in rows) / 3600
    lines = [
        f"# {len(rows)} names of emoji, spoken",
        "",
        f"{hours:.2f} h of synthetic speech: the names of {len({one['emoji'] for one in rows})} emoji by {version}, in "
        f"{len({one['voice'] for one in rows})} voices; {RATE} Hz, mono, silence cut. Licence: see LICENSE.",
        "",
        f"Made by `{command}`.",
        "",
        "manifest.jsonl: `audio` and, where pictures were copied, `picture` are files; `text` is the name in "
        "`language`, `name` the English one, `emoji` and `group` the id in the emoji pack, whose splits these are; "
        "`voice`, `engine`, "
        "`speed` (words a minute), `pitch` (eSpeak's, 0 to 99), `seconds`, `licence`.",
        "",
        "| language | split | clips |",
        "|---|---|---|",
        *(f"| {language} | {split} | {count} |" for (language, split), count in sorted(counts.items())),
    ]
    return "\n".join(lines) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        sys.exit(f"{path} is not there; give the folder of a pack that has a manifest.jsonl")


def write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("emoji", type=Path, help="the emoji pack")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to make, or to go on with")
    parser.add_argument("--like", type=Path, help="a pack of spoken emoji, whose emoji are taken")
    parser.add_argument("--languages", nargs="+", choices=sorted(VOICES), default=["it", "pt", "ru"])
    parser.add_argument("--takes", type=int, default=2, help="clips of each name and language (2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--suffix", choices=[".flac", ".wav", ".opus"], default=".flac", help="of the sounds (.flac)")
    parser.add_argument("--limit", type=int, help="of the first so many emoji alone")
    parser.add_argument("--no-pictures", action="store_true", help="leave the pictures in the emoji pack")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    if shutil.which(PROGRAM) is None:
        sys.exit(f"{PROGRAM} is not on the PATH; install it: apt install espeak-ng")
    emoji = read_rows(given.emoji / "manifest.jsonl")
    if given.like is not None:
        wanted = {one["emoji"] for one in read_rows(given.like / "manifest.jsonl")}
        emoji = [one for one in emoji if one["id"] in wanted]
    else:
        emoji = [one for one in emoji if not one.get("base") and one.get("group") != "Flags"]
    emoji = emoji[: given.limit]
    root = given.output
    root.mkdir(parents=True, exist_ok=True)
    for language in given.languages:
        if nameless := [one["name"] for one in emoji if not one.get("names", {}).get(language, "").strip()]:
            print(f"skipped {len(nameless)} emoji without a name in {language}, such as {nameless[0]}", file=sys.stderr)
    wanted_clips = utterances(emoji, given.languages, given.takes, given.seed, given.suffix)
    rows, failed = [], 0
    with ThreadPoolExecutor(given.jobs) as pool:
        for one, why in zip(wanted_clips, pool.map(lambda one: speak(one, root), wanted_clips), strict=True):
            if why is not None:
                failed += 1
                print(f"skipped {one.path}: {why}", file=sys.stderr)
                continue
            picture = None if given.no_pictures else one.emoji["picture"]
            if picture is not None and not (root / picture).is_file():
                (root / picture).parent.mkdir(parents=True, exist_ok=True)
                part = (root / picture).with_name(f".{Path(picture).name}.part")
                shutil.copyfile(given.emoji / picture, part)
                part.replace(root / picture)
            rows.append(row(one, root, picture))
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, check=False).stdout.decode(errors="replace")
    version = told.partition("Data at")[0].strip() or PROGRAM
    command = f"tools/packs/speak_emoji.py EMOJI --languages {' '.join(given.languages)} --takes {given.takes} --seed "
    command += f"{given.seed} --suffix {given.suffix}"
    write(root / "LICENSE", LICENCE_TEXT)
    write(root / "README.md", readme(rows, version, command))
    write(root / "manifest.jsonl", "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows))
    print(f"{root}: {len(rows)} clips, {sum(one['seconds'] for one in rows) / 3600:.2f} h; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
