"""Ten held-out recordings beside ten generated clips of the same captions, as mels in one picture.

python benchmarks/sheet.py DIGITS starter-sound docs/images/ten-prompts.png
"""

import sys
from pathlib import Path

import cymatic
from cymatic.data.folder import read_folder
from cymatic.signal.plot import contact_sheet
from cymatic.signal.sound import Sound

VOICES = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def main(digits: Path, model: str, picture: Path) -> None:
    made_by, held_out = cymatic.load(model), read_folder(digits).of("valid")
    items = []
    for i, digit in enumerate(DIGITS):
        caption = f"{VOICES[i % len(VOICES)]} says {digit}"
        real = next(item for item in held_out if item.caption == caption)
        items.append((f"real: {caption}", made_by.revocode(Sound.read(real.audio))))
        items.append((f"made: {caption}", made_by(caption, seed=0)))
    contact_sheet(picture, items, columns=4)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
