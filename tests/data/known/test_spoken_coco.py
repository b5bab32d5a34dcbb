"""SpokenCOCO: recordings and pictures wherever they were unpacked, the published splits and Karpathy's."""

import json
from pathlib import Path

import pytest
from tests.helpers import disc, tone

from cymatic.data.folder import read_folder
from cymatic.data.layouts import read_layout
from cymatic.errors import Error

ENTRIES = {
    "train": ["train2014/COCO_train2014_000000000009", "train2014/COCO_train2014_000000000025"],
    "val": ["val2014/COCO_val2014_000000000042"],
}


def entry(picture: str, split: str) -> dict[str, object]:
    number = picture.rpartition("_")[2]
    captions = [
        {
            "text": f"A PICTURE {number} BY {who.upper()}",
            "speaker": who,
            "uttid": f"{who}-X_{number}_{n}",
            "wav": f"wavs/{split}/{n}/{who}-X_{number}_{n}.wav",
            "parse_tree": "( a )",
        }
        for n, who in enumerate(("ma", "mb"))
    ]
    return {"image": f"{picture}.jpg", "captions": captions}


def spoken_coco(root: Path, lists: str = "SpokenCOCO", pictures: str = ".") -> Path:
    for split, names in ENTRIES.items():
        entries = [entry(name, split) for name in names]
        (root / lists).mkdir(parents=True, exist_ok=True)
        (root / lists / f"SpokenCOCO_{split}.json").write_text(json.dumps({"data": entries}))
        for one in entries:
            place = root / pictures / one["image"]
            place.parent.mkdir(parents=True, exist_ok=True)
            disc(0.5, size=8).write(place.with_suffix(".png")).rename(place)
            for caption in one["captions"]:
                wav = root / lists / caption["wav"]
                wav.parent.mkdir(parents=True, exist_ok=True)
                tone(300, 0.1).write(wav)
    return root


@pytest.mark.parametrize("place", [("SpokenCOCO", "."), ("SpokenCOCO", "mscoco_img"), (".", ".")])
def test_wherever_it_is_unpacked(tmp_path, place):
    root = spoken_coco(tmp_path, *place)
    folder = read_folder(root, role="audio", given=["picture"])
    assert folder.layout.startswith("SpokenCOCO (") and not folder.skipped
    assert [item.split for item in folder.items] == ["train"] * 4 + ["valid"] * 2
    one = folder.items[1]
    assert one.caption == "A PICTURE 000000000009 BY MB"
    assert (one.group, one.fields["speaker"]) == ("COCO_train2014_000000000009", "mb")
    assert one.path("picture") == root / place[1] / f"{ENTRIES['train'][0]}.jpg"
    assert one.path().is_file() and one.files["picture"] == folder.items[0].files["picture"]


def test_karpathys_splits_come_first_and_entries_may_have_one_caption(tmp_path):
    root = spoken_coco(tmp_path)
    both = [entry(name, split) for split, names in ENTRIES.items() for name in names]
    for split, some in (("train", both[:1]), ("val", both[1:2]), ("test", both[2:])):
        one = [{"image": given["image"], "caption": given["captions"][0]} for given in some]
        (root / "SpokenCOCO" / f"SpokenCOCO_{split}_unrolled_karpathy.json").write_text(json.dumps({"data": one}))
    folder = read_folder(root)
    assert sorted(item.split for item in folder.items) == ["test", "train", "valid"]
    assert len(folder.skipped) == 3 and "is in no row of SpokenCOCO" in folder.skipped[0].why


def test_what_is_missing_or_broken_is_named(tmp_path):
    root = spoken_coco(tmp_path)
    val = root / "SpokenCOCO" / "SpokenCOCO_val.json"
    held = json.loads(val.read_text())
    (root / "SpokenCOCO" / held["data"][0]["captions"][0]["wav"]).unlink()
    held["data"] += [{"captions": []}, {"image": "a.jpg", "captions": [{"wav": "a.wav"}]}, 7]
    val.write_text(json.dumps(held))
    layout = read_layout(root)
    assert len(layout.rows) == 5
    assert [one.name for one in layout.skipped] == [f"SpokenCOCO_val.json entry {n}" for n in (1, 2, 3, 4)]
    assert ["is not here" in one.why for one in layout.skipped] == [True, False, False, False]
    val.write_text("{")
    with pytest.raises(Error, match=r"is no JSON .*fetch it again"):
        read_layout(root)
    val.write_text("[]")
    with pytest.raises(Error, match='has no list "data"'):
        read_layout(root)
