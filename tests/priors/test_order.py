"""Orders of codes: permutations that can be undone, and that are what their names say."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.errors import Error
from cymatic.priors.order import ORDERS, column_major, flatten, halton, row_major, unflatten

side = st.integers(1, 12)


@given(st.sampled_from(sorted(ORDERS)), st.integers(1, 3), side, side)
def test_every_order_covers_each_place_once_and_can_be_undone(order, batch, height, width):
    places = ORDERS[order](height, width)
    assert torch.equal(places.sort().values, torch.arange(height * width))
    codes = torch.arange(batch * height * width).reshape(batch, height, width)
    sequence = flatten(codes, order)
    assert torch.equal(sequence, codes.flatten(1)[:, places])
    assert torch.equal(unflatten(sequence, order, height=height), codes)


def test_columns_and_rows_follow_each_other():
    assert column_major(2, 3).tolist() == [0, 3, 1, 4, 2, 5]
    assert row_major(2, 3).tolist() == [0, 1, 2, 3, 4, 5]
    codes = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
    assert flatten(codes, "column-major").tolist() == [[1, 4, 2, 5, 3, 6]], "frame by frame, all levels of each"
    assert flatten(codes, "row-major").tolist() == [[1, 2, 3, 4, 5, 6]]


def by_formula(index: int, base: int) -> float:
    """Van der Corput's sequence."""
    value, share = 0.0, 1.0
    while index:
        share /= base
        value += share * (index % base)
        index //= base
    return value


@pytest.mark.parametrize(("height", "width"), [(4, 4), (7, 5), (1, 9), (16, 16)])
def test_halton_meets_cells_in_the_order_of_its_sequence(height, width):
    met: dict[int, None] = {}
    index = 0
    while len(met) < height * width:
        met[int(by_formula(index, 2) * height + 1e-9) * width + int(by_formula(index, 3) * width + 1e-9)] = None
        index += 1
    assert halton(height, width).tolist() == list(met)


def test_the_first_places_of_halton_are_spread_over_the_grid():
    rows, columns = halton(16, 16)[:16] // 16, halton(16, 16)[:16] % 16
    quarters = (rows // 8 * 2 + columns // 8).bincount(minlength=4)
    assert quarters.min() >= 3


def test_a_column_that_is_not_full_is_named():
    with pytest.raises(Error, match="7 codes fill no whole columns of 3"):
        unflatten(torch.zeros(1, 7, dtype=torch.int64), "column-major", height=3)
