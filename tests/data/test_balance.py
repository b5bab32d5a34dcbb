"""Epochs in which each value of a field counts the same, and how folders say what the values are."""

import json
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.data.balance import drawn, rounds_of, values_of
from cymatic.data.batches import Bucketed, RandomCrops
from cymatic.data.examples import Reading, load_examples
from cymatic.data.reading import Example
from cymatic.data.settings import DataSettings
from cymatic.errors import Error, ModelError
from cymatic.media.picture import Picture, PictureSpec


def of_sizes(*sizes: int) -> list[Example]:
    """Values a, b, ... of so many examples each, whose captions are a0, a1, ..."""
    return [
        Example(torch.zeros(1, 4), caption=f"{name}{i}", balanced_by=name)
        for name, size in zip("abcdefgh", sizes, strict=False)
        for i in range(size)
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 3))
def test_each_value_is_drawn_equally_often_and_each_item_of_a_value_too(sizes, seed):
    groups, place = [], 0
    for size in sizes:
        groups.append(list(range(place, place + size)))
        place += size
    rounds = rounds_of(groups)
    assert abs(rounds * len(groups) - place) <= len(groups)
    met: Counter[int] = Counter()
    for epoch in range(7):
        places = drawn(groups, seed, epoch)
        assert places == drawn(groups, seed, epoch)
        counts = Counter(places)
        assert all(sum(counts[i] for i in group) == rounds for group in groups)
        met += counts
    for group in groups:
        times = [met[i] for i in group]
        assert max(times) - min(times) <= 1


def test_batches_meet_a_rare_value_as_often_as_a_common_one():
    examples = of_sizes(1, 1, 10)
    batches = Bucketed(examples, 4, seed=1)
    assert batches.per_epoch == 3
    counts = Counter(caption[0] for step in range(2 * batches.per_epoch) for caption in batches[step].captions)
    assert counts == {"a": 8, "b": 8, "c": 8}
    again = Bucketed(examples, 4, seed=1)
    assert [again[step].captions for step in (5, 0, 3)] == [batches[step].captions for step in (5, 0, 3)]
    met = {caption for step in range(9) for caption in batches[step].captions}
    assert len(met) == 12, "and every item of the common one in time"


def test_processes_share_what_is_balanced():
    whole = Bucketed(of_sizes(1, 5), 4, seed=1)[0]
    for rank in range(2):
        part = Bucketed(of_sizes(1, 5), 4, seed=1, rank=rank, ranks=2)[0]
        assert part.captions == whole.captions[rank::2]


def test_a_budget_of_frames_can_not_be_balanced():
    with pytest.raises(Error, match="leave one of them out"):
        Bucketed(of_sizes(1, 5), 4, seed=1, frames=100)


@pytest.fixture
def folder(tmp_path):
    rows = [("hand", None), ("hand, light", "hand"), ("hand, dark", "hand"), ("star", None)]
    lines = []
    for i, (caption, base) in enumerate(rows):
        Picture(torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(i)).numpy()).write(tmp_path / f"{i}.png")
        more = {} if base is None else {"base": base}
        lines.append(json.dumps({"picture": f"{i}.png", "caption": caption, "split": "train", **more}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    return tmp_path


def load(folder, balance, say=lambda line: None, power=0.0):
    settings = DataSettings(folder=str(folder), balance=balance, balance_power=power)
    return load_examples(settings, Reading("picture", PictureSpec(size=8)), captions=True, say=say)


def test_a_field_of_a_manifest_is_balanced_and_items_without_it_count_for_themselves(folder):
    told = []
    data = load(folder, "base", told.append)
    assert "each of 3 values of base is met equally often" in told
    assert data.weights == pytest.approx([1, 0.5, 0.5, 1])
    counts = Counter(Bucketed(data.epoch, 3, 0)[step].captions[i] for step in range(4) for i in range(3))
    assert counts == {"hand": 4, "hand, light": 2, "hand, dark": 2, "star": 4}
    crops = RandomCrops(data.train, 4, 300, 0, weights=data.weights)[0].captions
    toned = sum(caption.startswith("hand,") for caption in crops)
    assert 70 < toned < 130


@pytest.mark.parametrize(("power", "often"), [(0.0, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_a_power_lies_between_every_value_and_every_item_equally_often(power, often):
    values = ["hand"] * 4 + ["star"]
    examples = [
        Example(torch.zeros(1, 4), caption=f"{value}{i}", balanced_by=group)
        for i, (value, group) in enumerate(zip(values, values_of(values, power), strict=True))
    ]
    batches = Bucketed(examples, 1 + often, 0)
    counts = Counter(batches[step].captions[i] for step in range(4 * batches.per_epoch) for i in range(1 + often))
    assert sum(n for caption, n in counts.items() if caption.startswith("hand")) == often * counts["star4"]
    assert len(counts) == 5


def test_a_power_is_said_and_goes_with_a_field(folder):
    told = []
    assert load(folder, "base", told.append, power=1.0).train[1].balanced_by == "hand 1/2"
    assert "values of base are met by the number of their items ^ 1" in told
    with pytest.raises(ModelError, match=r"balance_power is for data\.balance, and there is none"):
        DataSettings.parse({"balance_power": 0.5}, "here")


def test_captions_can_be_balanced_and_unknown_fields_are_named(folder):
    assert load(folder, None).train[0].balanced_by is None
    assert [one.balanced_by for one in load(folder, "caption").train] == ["hand", "hand, light", "hand, dark", "star"]
    with pytest.raises(Error, match=r'no item has the field "bass" that data.balance names; .*"base"'):
        load(folder, "bass")
