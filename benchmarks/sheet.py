"""Recordings beside generated clips of the same captions, as mels in one picture.

python benchmarks/sheet.py DATA starter-sound docs/images/prompts.png

DATA holds the packs. A held-out recording is shown where there is one of that caption, else one that was trained on.
"""

import sys
from pathlib import Path

import cymatic
from cymatic.data.folder import read_folder
from cymatic.media.plot import contact_sheet
from cymatic.media.sound import Sound

PROMPTS = {
    "digits": ("george says seven", "lucas says zero", "theo says three", "yweweler says six"),
    "instruments": (
        "acoustic grand piano playing A3 softly", "violin playing F5 loudly", "trumpet playing D5 loudly",
        "open hi-hat hit hard",
    ),
    "samples": ("house bass drum", "a snare drum", "a deep bass drum", "a crisp hi-hat"),
    "effects": (
        "a dog barking", "rain falling", "a rooster crowing", "a clock ticking", "sea waves", "a baby crying",
        "a person sneezing", "glass shattering",
    ),
}  # fmt: skip


def main(data: Path, model: str, picture: Path) -> None:
    made_by = cymatic.load(model)
    items = []
    for pack, prompts in PROMPTS.items():
        recordings = sorted(read_folder(data / pack).items, key=lambda item: item.split != "valid")
        for prompt in prompts:
            real = next((item for item in recordings if item.caption == prompt), None)
            if real is None:
                print(f"no recording is called {prompt!r}")
                continue
            heard = Sound.read(real.path())
            longest = min(heard.seconds, made_by.longest)
            items.append((f"{real.split}: {prompt}", made_by.revocode(heard.cut(0, longest))))
            items.append((f"made: {prompt}", made_by(prompt, seed=0)))
    contact_sheet(picture, items, columns=4)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
