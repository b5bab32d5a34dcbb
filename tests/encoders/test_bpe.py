"""Captions by a vocabulary of their own: every script has tokens, and what can't be read is named."""

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel

from cymatic.encoders.bpe import BPEConfig, BPEEncoder
from cymatic.errors import Error, ModelError, PromptError
from cymatic.training.stages import PriorStage

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
BYTES = tuple(sorted(ByteLevel.alphabet()))
CONFIG = BPEConfig(vocabulary=(*SPECIAL, *BYTES, "Ġr", "ed", "Ġred"), merges=("Ġ r", "e d", "Ġr ed"), rows=300, dim=8)


def test_pairs_become_one_and_begin_and_end_stand_around():
    encoder = BPEEncoder(CONFIG)
    red = CONFIG.vocabulary.index("Ġred")
    assert encoder.ids("  RED\n red") == [0, red, red, 2]
    assert encoder.ids("r") == [0, CONFIG.vocabulary.index("Ġr"), 2]


@pytest.mark.parametrize("prompt", ["снег", "雪が降る", "ثلج", "हिम", "🐈", "ß"])
def test_other_scripts_are_kept(prompt):
    ids = BPEEncoder(CONFIG).ids(prompt)
    assert CONFIG.vocabulary.index("<unk>") not in ids
    assert len(ids) == 3 + len(prompt.encode()), "a token a byte, the space before, begin and end"


def test_a_table_may_have_more_rows_than_tokens():
    assert BPEEncoder(CONFIG)(["red"]).tokens.shape == (1, 3, 8)
    with pytest.raises(ValueError, match="3 rows are too few for a vocabulary of 263 tokens"):
        BPEConfig(**{**dict(CONFIG), "rows": 3})


def test_what_can_not_be_read_is_named():
    with pytest.raises(PromptError, match="the prompt is empty"):
        BPEEncoder(CONFIG)([" "])
    with pytest.raises(PromptError, match="the prompt is too long: 100 characters"):
        BPEEncoder(CONFIG)(["r" * 100])
    with pytest.raises(ModelError, match="without its vocabulary"):
        BPEEncoder(BPEConfig(rows=5))(["red"])
    with pytest.raises(ModelError, match="lacks </s>, <unk>"):
        BPEEncoder(BPEConfig(vocabulary=("<s>", "<pad>"), rows=5))
    with pytest.raises(ModelError, match="has a token twice"):
        BPEEncoder(BPEConfig(vocabulary=(*SPECIAL, "a", "a"), rows=9))
    with pytest.raises(ModelError, match="these merges don't fit"):
        BPEEncoder(BPEConfig(vocabulary=SPECIAL, merges=("q z",), rows=9))


def test_a_recipe_can_not_make_a_vocabulary():
    stage = PriorStage(task="prior", part={"kind": "seq2seq"}, codec="codec", encoder={"kind": "bpe"})
    with pytest.raises(Error, match="has the vocabulary of an imported model; give kind text"):
        stage.encoder.fitted([])
    with pytest.raises(Error, match="needs its vocabulary"):
        BPEEncoder(BPEConfig())
    assert torch.is_tensor(BPEEncoder(CONFIG).token.weight)
