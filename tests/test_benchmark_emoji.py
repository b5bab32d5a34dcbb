"""The emoji pack's hold-out, and how what is drawn is judged."""

import json

import numpy as np
import pytest
import torch
from benchmarks import emoji

from cymatic.data.captions import caption_key
from cymatic.media.picture import Picture

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 bases with their tones and 40 pictures without; one of them is the same as another."""
    place = tmp_path_factory.mktemp("pack")
    (place / "pictures").mkdir()
    rows = []
    for i in range(100):
        tones = (None, *TONES) if i < 60 else (None,)
        shape = np.random.default_rng(40 if i == 99 else i).random((8, 8, 1))
        for number, tone in enumerate(tones):
            pixels = np.concatenate([np.repeat(shape * (number + 3) / 8, 3, axis=2), shape > 0.3], axis=2)
            name = f"thing {i}" if tone is None else f"thing {i}: {tone} skin tone"
            row = {
                "id": f"{i}-{number}",
                "picture": f"pictures/{i}-{number}.png",
                "name": name,
                "names": {"de": f"Ding {i}"},
                "aliases": [f"alias {i}", "Thing"],
                "keywords": [f"key {i}"],
                "split": "valid" if i % 20 == 1 else "train",
            }
            if tone is not None:
                row |= {"base": f"{i}-0", "skin_tone": [tone]}
            Picture(np.kron(pixels, np.ones((8, 8, 1)))).write(place / row["picture"])
            rows.append(row)
    (place / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def test_what_is_held_out_is_not_in_the_folder(folder, tmp_path):
    emoji.split(folder, tmp_path / "kept")
    pack = emoji.Pack(folder)
    lines = [json.loads(line) for line in (tmp_path / "kept" / "manifest.jsonl").open()]
    assert len(pack.held_out) == emoji.PAIRS and pack.unseen >= pack.held_out
    assert not {line["id"] for line in lines} & pack.unseen
    assert {line["id"] for line in lines if line["split"] == "valid"} == pack.choosing
    said = {caption_key(word) for line in lines for key in ("aliases", "keywords") for word in line[key]}
    assert pack.words and not said & set(pack.words) and len(said) > 3 * len(pack.words)
    assert {path.name for path in (tmp_path / "kept" / "pictures").iterdir()} == {
        line["picture"].split("/")[1] for line in lines
    }


def test_the_halves_share_no_base(folder, tmp_path):
    halves = []
    for half in (0, 1):
        emoji.split(folder, tmp_path / str(half), half)
        lines = [json.loads(line) for line in (tmp_path / str(half) / "manifest.jsonl").open()]
        halves.append({line["id"].split("-")[0] for line in lines})
    emoji.split(folder, tmp_path / "kept")
    kept = {json.loads(line)["id"].split("-")[0] for line in (tmp_path / "kept" / "manifest.jsonl").open()}
    assert not halves[0] & halves[1] and halves[0] | halves[1] == kept
    assert min(map(len, halves)) > len(kept) / 4


def test_the_same_is_held_out_whatever_the_order(folder, tmp_path):
    (tmp_path / "pictures").symlink_to(folder / "pictures")
    lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "manifest.jsonl").write_text("".join(reversed(lines)))
    first, second = emoji.Pack(folder), emoji.Pack(tmp_path)
    assert (first.held_out, first.choosing, first.words) == (second.held_out, second.choosing, second.words)


def test_a_picture_is_its_own_nearest_and_two_pixels_do_not_matter(folder):
    pack = emoji.Pack(folder)
    assert len(pack.on_grey) < len(pack.rows)  # the two that are the same count as one
    rows = [0, 7, 200, len(pack.rows) - 1]
    shown = [pack.picture(pack.rows[row]).on(emoji.GREY) for row in rows]
    moved = [Picture(np.roll(one.pixels, (2, -2), axis=(0, 1))) for one in shown]
    for pictures in (shown, moved):
        assert [int(i) for i in pack.nearest(pictures)[:, 0]] == [pack.number[row] for row in rows]
    assert pack.distances(shown).min(1) == pytest.approx(0, abs=1e-3)


def test_each_kind_is_asked_and_scored(folder):
    pack = emoji.Pack(folder)
    asked = {one.name: one for one in emoji.kinds(pack)[:4]}
    kind = asked["held-out pairs"]
    by_name = {row["name"]: row for row in pack.rows}
    right = [pack.picture(by_name[prompt]) for prompt in kind.prompts]
    assert kind.score(pack, right)[0].value == 1
    base, tone = emoji.parts_right(pack, right, [by_name[prompt] for prompt in kind.prompts])
    assert (base.value, tone.value) == (1, 1)
    wrong = right[1:] + right[:1]
    assert kind.score(pack, wrong)[0].value < 0.1
    words = asked["held-out words, first 5"]
    assert words.first == 5 and all(words.right)


class Knowing:
    """Encoders to which a picture of the pack and its own name are the same, and all else unlike."""

    def __init__(self, pack):
        self.place = {row["name"]: i for i, row in enumerate(pack.rows)}

    def role_of(self, medium):
        return medium or "words"

    def embed(self, values, role):
        return torch.eye(len(self.place))[values if role == "picture" else [self.place[value] for value in values]]


def test_an_encoder_reads_what_was_drawn(folder):
    pack = emoji.Pack(folder)
    reader = emoji.Reader(pack, Knowing(pack))
    asked = emoji.kinds(pack)[1]
    right = [reader.embedder.place[prompt] for prompt in asked.prompts]
    assert reader.score(asked, right, 1).value == 1
    assert reader.score(asked, right[1:] + right[:1], 1).value < 0.1
