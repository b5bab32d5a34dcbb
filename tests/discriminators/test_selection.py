"""Which discriminator is drawn: by difficulty, the same again after a rest, and all where all are asked for."""

import pytest
import torch

from cymatic.discriminators.selection import DiscriminatorSelection, SelectionConfig
from cymatic.errors import Error


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(choice, count, start=0):
    return [choice.which(step, chance(step)) for step in range(start, start + count)]


def test_all_judges_are_asked_unless_one_at_a_time():
    assert DiscriminatorSelection(SelectionConfig(), 3).which(7, chance()) == (0, 1, 2)
    alone = DiscriminatorSelection(SelectionConfig(kind="difficulty"), 3)
    assert len(alone.which(7, chance())) == 1


def test_one_stays_for_as_many_steps_as_it_should():
    choice = DiscriminatorSelection(SelectionConfig(kind="difficulty", every=10), 50)
    seen = drawn(choice, 60)
    assert all(len(set(seen[i : i + 10])) == 1 for i in range(0, 60, 10)) and len(set(seen)) > 2


def test_the_harder_one_comes_as_often_as_the_softmax_says():
    choice = DiscriminatorSelection(SelectionConfig(kind="difficulty", every=1), 2)
    choice.learn([0, 1], [torch.tensor(2.0), torch.tensor(1.0)])
    expected = torch.tensor([2.0, 1.0]).softmax(0)
    torch.testing.assert_close(choice.chances, expected)
    share = sum(which == (0,) for which in drawn(choice, 2000)) / 2000
    assert share == pytest.approx(expected[0].item(), abs=0.04)


def test_the_losses_are_remembered_and_an_untried_judge_is_as_hard_as_the_hardest():
    choice = DiscriminatorSelection(SelectionConfig(kind="difficulty", memory=0.5), 3)
    torch.testing.assert_close(choice.chances, torch.full((3,), 1 / 3))
    for loss in (3.0, 1.0):
        choice.learn([1], [torch.tensor(loss)])
    choice.learn([0], [torch.tensor(float("nan"))])
    assert choice.energies.tolist() == [0, 2, 0] and choice.tried.tolist() == [False, True, False]
    torch.testing.assert_close(choice.chances, torch.full((3,), 1 / 3))


def test_saved_in_the_middle_it_goes_on_as_it_would_have():
    config = SelectionConfig(kind="difficulty", every=4)
    whole, first, second = (DiscriminatorSelection(config, 8) for _ in range(3))
    for choice in (whole, first):
        choice.learn(range(8), list(torch.rand(8, generator=chance())))
    expected, before = drawn(whole, 21), drawn(first, 10)
    second.load_state_dict(first.state_dict())
    assert before + drawn(second, 11, start=10) == expected


def test_as_many_losses_as_judges():
    with pytest.raises(Error, match="1 losses were given for 2 discriminators"):
        DiscriminatorSelection(SelectionConfig(), 2).learn([0, 1], [torch.tensor(1.0)])
