"""`data.limit`: distinct captions first, the same rows everywhere, and what is held out untouched."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.helpers import tone

from cymatic.data.captions import caption_key
from cymatic.data.examples import Reading, load_examples
from cymatic.data.limit import limited
from cymatic.data.settings import DataSettings
from cymatic.signal.mel import PRESETS

ROWS = st.lists(
    st.tuples(st.sampled_from(["a dog", "A dog.", "rain", "wind", ""]), st.integers(0, 999).map(str)), unique=True
)


@given(ROWS, st.integers(1, 30), st.randoms())
def test_distinct_captions_first_and_the_order_does_not_matter(rows, most, chance):
    kept = [rows[place] for place in limited(rows, most)]
    assert kept == [row for row in rows if row in kept] and len(kept) == min(most, len(rows))
    counts, kinds = Counter(caption_key(row[0]) for row in kept), Counter(caption_key(row[0]) for row in rows)
    assert len(counts) == min(most, len(kinds))
    turns = max(counts.values(), default=0)
    assert all(counts[one] >= min(turns - 1, kinds[one]) for one in kinds), "a third row only where all have two"
    shuffled = chance.sample(rows, len(rows))
    assert {shuffled[place] for place in limited(shuffled, most)} == set(kept)
    assert set(limited(rows, most)) <= set(limited(rows, most + 1))


def test_of_a_folder(tmp_path):
    rows = []
    for n in range(12):
        tone(300 + 10 * n, 0.1, seed=n).write(tmp_path / f"{n}.wav")
        split = "valid" if n > 9 else "train"
        rows.append({"audio": f"{n}.wav", "caption": f"tone {'abcd'[n % 4]}", "split": split})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def load(limit):
        said = []
        settings = DataSettings(folder=str(tmp_path), limit=limit)
        return load_examples(settings, Reading("audio", PRESETS["voice-8k"]), captions=True, say=said.append), said

    data, said = load(5)
    assert len(data.train) == 5 and len({one.caption for one in data.train}) == 4 and len(data.valid) == 2
    assert "limit  5 of 10 rows to train on are used, of 4 captions, since data.limit is 5" in said
    assert {one.name for one in load(3)[0].train} < {one.name for one in data.train}
    everything, said = load(50)
    assert len(everything.train) == 10 and any(line.startswith("limit  all 10 rows") for line in said)
    assert everything.fingerprint != data.fingerprint == load(5)[0].fingerprint
    with pytest.raises(ValidationError):
        DataSettings(limit=0)
