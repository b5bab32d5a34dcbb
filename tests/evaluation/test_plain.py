import json
import math

from cymatic.evaluation.plain import as_json, plain


def test_json_knows_no_nan_and_six_digits_are_enough():
    assert plain({"a": (math.nan, 1 / 3), 2: None}) == {"a": [None, 0.333333], "2": None}
    assert json.loads(as_json([math.inf, frozenset({"b", "a"})])) == [None, ["a", "b"]]
