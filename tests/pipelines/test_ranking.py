"""Of several that were made the best are kept, by encoders that were aligned."""

import shutil

import numpy as np
import pytest
import torch

import cymatic
from cymatic.encoders.picture import PictureConfig, PictureEncoder
from cymatic.encoders.sound import SoundConfig, SoundEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import PipelineFile, read_pipeline, write_pipeline
from cymatic.media.audio import AUDIO
from cymatic.media.picture import PICTURE, Picture, PictureSpec
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.ranking import Ranking
from cymatic.signal.mel import PRESETS

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


def patches(*colours):
    return [Picture(np.full((16, 16, 3), COLOURS[colour]), {"seed": i}) for i, colour in enumerate(colours)]


@pytest.fixture(scope="module")
def colours():
    """Encoders that were taught three colours, in some 40 steps."""
    torch.manual_seed(0)
    size = PictureSpec(size=8)
    picture = PictureEncoder(PictureConfig(picture=size, halvings=2, width=16, depth=1, heads=2, dim=16))
    words = TextEncoder(TextConfig(dim=16))
    seen = torch.stack([PICTURE.prepare(one, size) for one in patches(*COLOURS)])
    from cymatic.cond import padded
    from cymatic.encoders.align import InfoNCE

    loss = InfoNCE()
    optimizer = torch.optim.AdamW([*picture.parameters(), *words.parameters()], lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss(picture(padded(list(seen))).vector, words(list(COLOURS)).vector).backward()
        optimizer.step()
    return Embedder({"picture": picture, "caption": words}, name="colours")


@pytest.fixture(scope="module")
def hearing():
    """Encoders of words and sounds whose weights are drawn at random."""
    torch.manual_seed(0)
    sound = SoundEncoder(SoundConfig(mel=PRESETS["voice-8k"], width=32, depth=1, heads=2, dim=16))
    return Embedder({"audio": sound, "caption": TextEncoder(TextConfig(dim=16))}, name="hearing")


@pytest.fixture(scope="module")
def model(tiny_run):
    return cymatic.load(tiny_run)


@pytest.mark.parametrize("prompt", COLOURS)
def test_what_was_asked_for_is_kept(colours, prompt):
    """Two of the right colour among seven, in the order in which they were made, with their scores."""
    others = [colour for colour in COLOURS if colour != prompt]
    made = patches(others[0], prompt, others[1], others[1], prompt, others[0], others[0])
    kept = Ranking.of(2, 7, colours, prompt, None, PICTURE).best(made, prompt)
    assert [one.info["seed"] for one in kept] == [1, 4]
    scores = [one.info["score"] for one in made]
    assert scores[1] == scores[4] == max(scores) > 0.2 + sorted(scores)[-3]
    one = Ranking.of(3, 7, colours, patches(prompt)[0], "picture", PICTURE)
    assert [kept.info["seed"] for kept in one.best(made, patches(prompt)[0])][:2] == [1, 4], "a picture asks as well"


def test_a_model_keeps_the_best_of_what_it_makes(model, hearing):
    """Exactly what it would make without a ranker, sorted by what the ranker says of each, with the seed of each."""
    every = model("low tone", n=6, seed=3, seconds=0.2)
    kept = model("low tone", n=6, seed=3, seconds=0.2, keep=2, ranker=hearing)
    similar = (hearing.embed(every, "audio") @ hearing.embed(["low tone"], "caption")[0]).tolist()
    order = sorted(range(6), key=lambda i: -similar[i])[:2]
    assert [one.info["seed"] for one in kept] == [3 + i for i in order]
    for one, i in zip(kept, order, strict=True):
        assert one.info["score"] == pytest.approx(similar[i], abs=1e-5)
        assert {**one.info, "score": None} == {**every[i].info, "score": None}
        assert np.array_equal(one.samples, every[i].samples)
    again = model("low tone", n=6, seed=3, seconds=0.2, keep=6, ranker=hearing)
    scores = [one.info["score"] for one in again]
    assert len(again) == 6 and scores == sorted(scores, reverse=True)
    assert "score" not in every[0].info


def test_a_model_may_hold_its_ranker(tiny_run, hearing, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_run, folder)
    for role, encoder in hearing.encoders.items():
        save_part(folder / "ranker" / role, encoder)
    write_pipeline(folder / "ranker", PipelineFile(parts={"audio": "audio", "caption": "caption"}))
    file = read_pipeline(folder)
    write_pipeline(folder, file.model_copy(update={"ranker": "ranker"}))
    own, given = cymatic.load(folder), cymatic.load(tiny_run)
    assert own.sha256 == given.sha256, "what is made with one seed does not depend on it"
    kept = own("low tone", n=3, keep=1, seconds=0.1)
    wanted = given("low tone", n=3, keep=1, seconds=0.1, ranker=hearing)
    assert [one.info["score"] for one in kept] == [one.info["score"] for one in wanted]
    write_pipeline(folder, file.model_copy(update={"ranker": "../elsewhere"}))
    with pytest.raises(ModelError, match='"ranker" points outside the model'):
        cymatic.load(folder)
    write_pipeline(folder, file.model_copy(update={"ranker": "."}))
    with pytest.raises(ModelError, match=r'of kind "flow" where one of .* is needed'):
        cymatic.load(folder)("low tone", n=3, keep=1)


def test_what_can_not_be_ranked_is_said(model, colours, hearing):
    with pytest.raises(ModelError, match="has no ranker of its own; give one: ranker="):
        model("low tone", n=3, keep=1)
    with pytest.raises(Error, match="colours has no encoder that reads sounds; its encoders are picture, caption"):
        model("low tone", n=3, keep=1, ranker=colours)
    for n, keep, said in ((3, 4, "3 are made"), (3, 0, "3 are made"), (None, 1, "only one is made")):
        with pytest.raises(Error, match=f"{said}; give n, and a keep from 1 to n"):
            model("low tone", n=n, keep=keep, ranker=hearing)
    with pytest.raises(Error, match="keep is 'two'; give a whole number"):
        Ranking.of("two", 3, hearing, "low tone", None, AUDIO)
    with pytest.raises(Error, match="can't be read by a ranker"):
        Ranking.of(1, 2, hearing, torch.zeros(3, 4), "audio", AUDIO)
