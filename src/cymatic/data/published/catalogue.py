"""Which packs can be had, under which licence, from where, and how large they are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from cymatic.errors import Error

DIGITS_COMMIT = "1306d2c6da002dfb2fd1f113d8596d801648a085"
SONIC_PI_COMMIT = "75a7400a45fc7f74b68101f58af7e6b97f4808de"
ESC_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
VAS_COMMIT = "5bc54f30eb89f82d129aa36ae3f1e90b60e73952"
VAS = "vas"
VAS_CLASSES = ("baby", "cough", "dog", "drum", "fireworks", "gun", "hammer", "sneeze")


@dataclass(frozen=True)
class Published:
    """One pack. `sounds` is their number, `megabytes` what they take on disk, roughly, `original` what is fetched.

    home: where it was published. address: what a browser would fetch to have all of it by hand. licence: in one
    sentence, with what it means for whoever passes on what was trained.
    """

    name: str
    title: str
    sounds: int
    megabytes: int
    original: str
    licence: str
    licence_address: str
    home: str
    address: str


PACKS = (
    Published(
        name="digits",
        title="English digits by six speakers, 8 kHz (Free Spoken Digit Dataset)",
        sounds=2700,
        megabytes=11,
        original="an archive of some 16 MB",
        licence="CC BY-SA 4.0: name the source, and pass on what you make of it under the same licence",
        licence_address="https://creativecommons.org/licenses/by-sa/4.0/",
        home="https://github.com/Jakobovski/free-spoken-digit-dataset",
        address=f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{DIGITS_COMMIT}.zip",
    ),
    Published(
        name="samples",
        title="drums, bass, loops and electronic one-shots, 24 kHz (Sonic Pi)",
        sounds=193,
        megabytes=4,
        original="193 files, some 30 MB",
        licence="CC0 1.0: public domain",
        licence_address="https://creativecommons.org/publicdomain/zero/1.0/",
        home="https://github.com/sonic-pi-net/sonic-pi",
        address=f"https://github.com/sonic-pi-net/sonic-pi/archive/{SONIC_PI_COMMIT}.zip",
    ),
    Published(
        name="instruments",
        title="single notes of 128 instruments and a drum kit, 24 kHz (rendered from the FluidR3 sound font)",
        sounds=1567,
        megabytes=18,
        original="the sound font FluidR3_GM.sf2, 148 MB",
        licence="MIT: keep the notice that lies beside the sounds",
        licence_address="https://opensource.org/license/mit",
        home="https://packages.debian.org/stable/fluid-soundfont-gm",
        address="https://packages.debian.org/stable/fluid-soundfont-gm",
    ),
    Published(
        name="esc10",
        title="ten everyday sounds, 24 kHz (the ESC-10 part of ESC-50)",
        sounds=397,
        megabytes=9,
        original="400 files, 176 MB",
        licence="CC BY 3.0: name the authors, who stand in each row",
        licence_address="https://creativecommons.org/licenses/by/3.0/",
        home="https://github.com/karolpiczak/ESC-50",
        address=f"https://github.com/karolpiczak/ESC-50/archive/{ESC_COMMIT}.zip",
    ),
    Published(
        name="esc50",
        title="fifty everyday sounds, 24 kHz (ESC-50)",
        sounds=2000,
        megabytes=45,
        original="an archive of 646 MB",
        licence="CC BY-NC 3.0: no commercial use, so nothing that a starter may be trained on",
        licence_address="https://creativecommons.org/licenses/by-nc/3.0/",
        home="https://github.com/karolpiczak/ESC-50",
        address=f"https://github.com/karolpiczak/ESC-50/archive/{ESC_COMMIT}.zip",
    ),
    Published(
        name=VAS,
        title="mels and video features of eight classes of everyday sounds, ten seconds each (VAS, by SpecVQGAN)",
        sounds=12_541,
        megabytes=24_000,
        original="a tar archive a class and kind; the mels alone have 3.4 GB (--features none)",
        licence="none is stated; they are made from videos of other people, so use them for research only",
        licence_address="https://github.com/PeihaoChen/regnet#download-datasets",
        home="https://github.com/v-iashin/SpecVQGAN",
        address="https://a3s.fi/swift/v1/AUTH_a235c0f452d648828f745589cde1219a/specvqgan_public/vas",
    ),
)

# What the starters heard besides, and why no command fetches it.
EFFECTS = (
    "effects has no single home, so no command fetches it: 1,083 everyday and game sounds chosen by hand, with the "
    "licence in each row, from the GitHub repositories karolpiczak/ESC-10, Fris0uman/CDDA-Soundpacks, "
    "lincity-ng/lincity-ng, luanti-org/minetest_game, OpenTTD/OpenSFX, cxong/cdogs-sdl, VoxeLibre/VoxeLibre, "
    "OpenDungeons/OpenDungeons, rafaelmardojai/blanket, OpenRCT2/OpenSoundEffects and KDE/oxygen-sounds; its 317 clips "
    "of ten classes are in esc10, under the same ids and splits"
)


def find(name: str) -> Published:
    """The pack of that name. Raises Error where there is none."""
    for pack in PACKS:
        if pack.name == name:
            return pack
    if name == "effects":
        raise Error(f"{EFFECTS}; say cymatic data get esc10")
    names = [pack.name for pack in PACKS]
    close = difflib.get_close_matches(name.lower(), names, n=1)
    raise Error(
        f'there is no pack "{name}"; {f"did you mean {close[0]}? There are" if close else "there are"} '
        f"{', '.join(names)}"
    )
