import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.encoders.familiarity import Familiarity, telling
from cymatic.encoders.text import MAX_TOKENS, TextConfig, TextEncoder, normalise, token_ids, token_table
from cymatic.errors import Error, ModelError, PromptError

CAPTIONS = [f"{voice} says {digit}" for voice in ("george", "theo") for digit in ("six", "seven", "eight")]


def test_the_table_is_the_one_the_config_names():
    table = token_table()
    assert table.shape == (32_000, 256)
    with pytest.raises(ModelError, match="another token table"):
        TextEncoder(TextConfig(table_sha256="0" * 64))


def test_spelling_that_does_not_matter():
    same = ["george says seven", "  George\tSAYS \n seven "]
    assert token_ids(same[0]) == token_ids(same[1])
    composed, decomposed = "café", unicodedata.normalize("NFD", "café")
    assert composed != decomposed
    assert token_ids(composed) == token_ids(decomposed)


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", "a\x00b", "\x1b[31mred", "\ud800", "x" * 10_000, "seven " * 65])
def test_bad_prompts_are_one_sentence(prompt):
    with pytest.raises(PromptError) as error:
        token_ids(prompt)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("prompt", [None, 7, b"seven", ["seven"]])
def test_what_is_not_text(prompt):
    # Past the checks of shapes and types that tests add, a caller without them gets the sentence.
    with pytest.raises(PromptError, match="a prompt is text"):
        getattr(normalise, "__wrapped__", normalise)(prompt)


@pytest.mark.parametrize("prompt", ["семь", "七", "سبعة", "🐶 barks", "7", "!?", "ﬀ", "a" * 64, "seven " * 64])
def test_any_script_reads(prompt):
    assert 0 < len(token_ids(prompt)) <= MAX_TOKENS


@given(st.text(max_size=400))
def test_any_text_gives_tokens_or_a_sentence(prompt):
    try:
        ids = token_ids(prompt)
    except Error as error:
        assert "\n" not in str(error)
    else:
        assert 0 < len(ids) <= MAX_TOKENS
        assert token_ids(normalise(prompt)) == ids


def test_kin_lie_near():
    vector = TextEncoder(TextConfig(dim=256))
    with torch.no_grad():  # the identity, so that distances are the table's own
        vector.project.weight.copy_(torch.eye(256))
        vector.project.bias.zero_()
        dog, puppy, rain = vector(["dog", "puppy", "rain"]).vector
    assert dog @ puppy > 0.4 > dog @ rain


def test_familiar_prompts_raise_no_doubt():
    familiarity = Familiarity(CAPTIONS)
    for prompt in (*CAPTIONS, "Theo says SEVEN!", "theo says 7", "george said the six"):
        assert familiarity.note(prompt) is None, prompt


def test_far_prompts_are_named_with_their_nearest_captions():
    familiarity = Familiarity(CAPTIONS)
    assert familiarity.unknown_words("george says eleven") == ["eleven"]
    assert familiarity.unknown_words("heavy rain") == ["heavy", "rain"]
    note = familiarity.note("theo says eleven")
    assert '"eleven" is unlike' in note
    assert "theo says" in note.split("nearest captions:")[1]
    assert Familiarity([]).note("anything") is None


def test_captions_that_no_prompt_can_be_are_passed_over():
    long = "abcdefgh " * MAX_TOKENS
    assert Familiarity(["a\x00b", " "]).note("anything") is None
    assert "nearest" not in Familiarity([long]).note("anything")
    familiarity = Familiarity([*CAPTIONS, long, "x" * 10_000, "a\x00b"])
    assert familiarity.note("george says seven") is None
    assert familiarity.nearest("george says eleven", 9) == familiarity.nearest("george says eleven", len(CAPTIONS))
    assert familiarity.unknown_words("george says eleven") == ["eleven"]


def test_of_too_many_captions_those_tell_that_have_new_words():
    captions = ["a dog", "a cat", "Dog a", "cat and dog", "a dog"]
    assert telling(captions, 5) == captions
    assert telling(captions, 4) == ["a dog", "a cat", "cat and dog", "Dog a"]
    assert telling(captions, 2) == ["a dog", "a cat"]
