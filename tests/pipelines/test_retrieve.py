"""How well encoders find each other, where a file has several captions."""

import pytest
import torch

from cymatic.data.folder import Item
from cymatic.encoders.align import RECALLS
from cymatic.encoders.picture import PictureConfig, PictureEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.media.picture import Picture, PictureSpec
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.retrieve import recalls


def test_a_file_of_several_captions_is_searched_once(tmp_path):
    torch.manual_seed(0)
    config = PictureConfig(picture=PictureSpec(size=8), halvings=2, width=16, depth=1, heads=2, dim=16)
    model = Embedder({"picture": PictureEncoder(config), "caption": TextEncoder(TextConfig(dim=16))})
    owner, items = [0, 0, 0, 1, 1, 2], []
    for i, number in enumerate(owner):
        path = tmp_path / f"{i}.png"
        Picture(torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(number)).numpy()).write(path)
        caption = ("red", "a dog", "rain", "blue", "red wine", "snow")[i]
        items.append(Item({"picture": path}, "picture", caption, "valid", contents={"picture": f"{number:064x}"}))
    every, unique = recalls(model, items), recalls(model, items, unique=True)
    assert [(one.given, one.found, one.first, one.share.n) for one in unique] == [
        (given, found, first, n)
        for given, found, n in (("picture", "caption", 3), ("caption", "picture", 6))
        for first in RECALLS
    ]
    assert {one.share.n for one in every} == {6}
    pictures = model.embed([Picture.read(items[i].path()) for i in (0, 3, 5)], "picture")
    scores = model.embed([item.caption for item in items], "caption") @ pictures.T
    own = torch.tensor(owner)[:, None] == torch.arange(3)
    right = (own & (scores == scores.amax(1, keepdim=True))).any(1).float().mean()
    assert unique[3].share.value == pytest.approx(right.item())
    back = (own & (scores == scores.amax(0))).any(0).float().mean()
    assert unique[0].share.value == pytest.approx(back.item())
    assert unique[3].chance == pytest.approx(1 / 3) and unique[4].share.value == 1
    assert unique[0].chance == pytest.approx((3 + 2 + 1) / 6 / 3)
