"""The decoding loop with a network of one table, and what a step chooses."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from cymatic.errors import Cancelled, Error
from cymatic.priors.decoding import CodeSampling, choose, decode

CODES, LINE, LONGEST = 5, 2, 4
TABLE = torch.randn(CODES + 1, CODES + 1, generator=torch.Generator().manual_seed(0))  # the last choice is the end


class Trace(NamedTuple):
    """A state that knows which item each row is."""

    items: torch.Tensor

    def narrow(self, kept: torch.Tensor) -> Trace:
        return Trace(self.items[kept])


class Chain:
    """Logits by a code's number and its row's item alone, with a record of what the loop asked for."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, list[int]]] = []
        self.room = 0

    def prefill(self, codes: torch.Tensor, room: int) -> tuple[torch.Tensor, Trace]:
        self.room, items = room, torch.arange(len(codes))
        last = codes[:, -1] if codes.shape[1] else torch.full((len(codes),), CODES)
        return TABLE[last] + items[:, None] / 10, Trace(items)

    def step(self, codes: torch.Tensor, at: int, state: Trace) -> tuple[torch.Tensor, Trace]:
        self.steps.append((at, state.items.tolist()))
        return TABLE[codes] + state.items[:, None] / 10, state


def run(chain: Chain, count: int = 6, begun: int = 0, **changes):
    start = torch.arange(count)[:, None].expand(count, begun) % CODES
    settings = {"sizes": [CODES] * LINE, "longest": LONGEST, "end": True, "sampling": CodeSampling(guidance=1.0)}
    return decode(chain.prefill, chain.step, start, range(count), **{**settings, **changes})


def test_items_that_have_ended_leave_the_batch():
    chain = Chain()
    sequence, lines = run(chain)
    assert len(lines.unique()) > 1, "some must end early for this to show anything"
    assert sequence.shape == (6, LINE * int(lines.max()))
    for at, items in chain.steps:
        assert items == (lines * LINE > at // LINE * LINE).nonzero().squeeze(1).tolist()
    for one, n in zip(sequence, lines.tolist(), strict=True):
        assert not one[n * LINE :].any()


def test_what_is_begun_stays_and_is_not_stepped_through():
    chain = Chain()
    sequence, lines = run(chain, begun=3 * LINE, lengths=torch.tensor([3, 4, 4, 3, 4, 4]))
    assert lines.tolist() == [3, 4, 4, 3, 4, 4]
    assert torch.equal(sequence[:, : 3 * LINE], (torch.arange(6)[:, None] % CODES).expand(6, 3 * LINE))
    assert chain.room == 4 * LINE and chain.steps == [(6, [1, 2, 4, 5])], "the last code of all is not read"


def test_guidance_sees_each_item_twice():
    alone, twice = Chain(), Chain()
    greedy = {"greedy": True, "guidance": 0.0}
    sequence, _ = run(twice, count=2, end=False, guided=True, sampling=CodeSampling(**greedy))
    assert twice.steps[0] == (0, [0, 1, 2, 3])
    assert torch.equal(sequence, run(alone, count=2, end=False, sampling=CodeSampling(**greedy))[0])
    half = torch.tensor([1.0, 0.0])[:, None] * torch.tensor([[0.0, 2.0]])  # of two rows the first likes code 1

    def prefill(codes: torch.Tensor, room: int) -> tuple[torch.Tensor, Trace]:
        return half + torch.tensor([0.0, -1.0]), Trace(torch.arange(2))

    for guidance, code in ((0.0, 0), (1.0, 1)):
        how = CodeSampling(guidance=guidance, greedy=True)
        begun = torch.zeros(1, 0, dtype=torch.int64)
        made, _ = decode(prefill, twice.step, begun, [0], sizes=[2], longest=1, end=False, sampling=how, guided=True)
        assert made.tolist() == [[code]]


def test_steps_are_told_and_what_a_listener_raises_ends_them():
    told: list[tuple[int, int]] = []
    run(Chain(), end=False, begun=2, on_step=lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]
    chain = Chain()

    def cancel(done: int, total: int) -> None:
        if done == 3:
            raise Cancelled("nobody waits any more")

    with pytest.raises(Cancelled, match="nobody waits"):
        run(chain, end=False, on_step=cancel)
    assert len(chain.steps) == 3
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("lengths", [[0] * 6, [5] * 6])
def test_lengths_that_can_not_be_are_named(lengths):
    with pytest.raises(Error, match="give each of 6 items 1 to 4"):
        run(Chain(), lengths=torch.tensor(lengths))


def test_choices():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()[[2, 0, 3, 1]].repeat(10_000, 1)
    even = torch.rand(10_000, 1, generator=torch.Generator().manual_seed(0))

    def shares(**how):
        return (choose(logits, even, CodeSampling(**how)).bincount(minlength=4) / 10_000).tolist()

    assert shares() == pytest.approx([0.2, 0.4, 0.1, 0.3], abs=0.015)
    assert shares(top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.015)
    assert shares(top_k=4) == shares(top_k=100) == shares(top_p=1.0) == shares()
    assert shares(top_k=1) == shares(greedy=True) == shares(top_p=0.1) == [0, 1, 0, 0]
    assert shares(top_p=0.65) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.015)
    assert shares(temperature=1e-3) == [0, 1, 0, 0]
    assert shares(temperature=100) == pytest.approx([0.25] * 4, abs=0.015)
    assert choose(torch.zeros(1, 3), torch.tensor([[0.9]]), CodeSampling(top_k=1)) == 2, "ties stay in, as in SpecVQGAN"
    at_the_edge = torch.tensor([[0.0, 0.0, -torch.inf]]).repeat(2, 1)
    assert choose(at_the_edge, torch.tensor([[0.0], [1 - 2**-24]]), CodeSampling()).tolist() == [0, 1]
