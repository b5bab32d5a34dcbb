"""Codes drawn one after another: what a step chooses from, and the loop, whatever network gives the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from cymatic.cond import guide
from cymatic.config import Config
from cymatic.errors import Error
from cymatic.priors.progress import OnStep


class CodeSampling(Config):
    """How codes are drawn. guidance: 1 is none (see `cond.guide`).

    greedy: always the likeliest; else drawn at `temperature` from the `top_k` likeliest (ties stay in, Fan et al.,
    2018, arXiv 1805.04833), of which as few as hold a mass of `top_p` (Holtzman et al., 2019, arXiv 1904.09751).
    """

    guidance: float = Field(default=2.0, ge=0, le=100)
    temperature: float = Field(default=1.0, gt=0, le=100)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    greedy: bool = False


def choose(
    logits: Float[Tensor, "batch n"], uniform: Float[Tensor, "batch 1"], how: CodeSampling
) -> Int[Tensor, " batch"]:
    """One index for each row, by the inverse of its distribution at `uniform`, a number drawn evenly from 0..1."""
    if how.greedy:
        return logits.argmax(-1)
    if how.temperature != 1:
        logits = logits / how.temperature
    if how.top_k is not None and how.top_k < logits.shape[-1]:
        least = logits.topk(how.top_k, sorted=False).values.amin(-1, keepdim=True)
        logits = logits.masked_fill(logits < least, -torch.inf)
    p = logits.softmax(-1)
    if how.top_p is not None and how.top_p < 1:
        best = p.sort(descending=True).values
        count = (best.cumsum(-1) < how.top_p).sum(-1, keepdim=True).clamp_max(p.shape[-1] - 1)
        p = p.masked_fill(p < best.gather(-1, count), 0)
    # Rows need not sum to 1 here, and those without mass are never met: below the sum there is always one with.
    mass = p.cumsum(-1)
    return torch.searchsorted(mass, uniform * mass[:, -1:], right=True).clamp_max(p.shape[-1] - 1).squeeze(-1)


class State(Protocol):
    """What a network keeps from step to step, such as its caches."""

    def narrow(self, kept: Bool[Tensor, " rows"]) -> Self:
        """The state of those rows alone that are True in `kept`."""
        ...


S = TypeVar("S", bound=State)
Prefill = Callable[[Int[Tensor, "rows begun"], int], tuple[Float[Tensor, "rows choices"], S]]
# Called whenever a line is whole: lines made here, lines to make at most, all lines as they stand, each item's count.
OnLine = Callable[[int, int, Int[Tensor, "batch n"], Int[Tensor, " batch"]], None]
Step = Callable[[Int[Tensor, " rows"], int, S], tuple[Float[Tensor, "rows choices"], S]]


def decode(
    prefill: Prefill[S],
    step: Step[S],
    start: Int[Tensor, "batch begun"],
    seeds: Sequence[int],
    *,
    sizes: Sequence[int],
    longest: int,
    end: bool,
    sampling: CodeSampling,
    guided: bool = False,
    lengths: Int[Tensor, " batch"] | None = None,
    on_step: OnStep | None = None,
    on_line: OnLine | None = None,
) -> tuple[Int[Tensor, "batch n"], Int[Tensor, " batch"]]:
    """Sequences that begin with `start`, and how many lines each has; beyond an item's own its codes are 0.

    A sequence is made of lines: a spectrogram's columns, a codec's frames, a picture's rows. sizes: how many codes each
    place of a line has to choose from; longest: lines at most. end: the last choice says that the item is over, which
    can only be where a line begins, after the first. lengths: lines wanted, and then nothing ends earlier.

    `prefill(start, room)` gives the logits of the first code after `start` and a state with room for `room` codes;
    `step(codes, at, state)` reads code number `at` and gives the logits of the next. States may be changed in place.
    Where the sampling is `guided`, both see every item twice: all rows with the condition, then all without.

    Item i draws from its own generator seeded with `seeds[i]`, one number a place, whatever else is in the batch. An
    item that has ended leaves the batch. Raises Error for lengths that can't be.
    """
    with torch.inference_mode():
        found = _decode(prefill, step, start, seeds, sizes, longest, end, sampling, guided, lengths, on_step, on_line)
    sequence, lines = found
    return sequence.clone(), lines.clone()  # tensors made in inference mode can't be trained on


def _decode(
    prefill: Prefill[S],
    step: Step[S],
    start: Tensor,
    seeds: Sequence[int],
    sizes: Sequence[int],
    longest: int,
    end: bool,
    sampling: CodeSampling,
    guided: bool,
    lengths: Tensor | None,
    on_step: OnStep | None,
    on_line: OnLine | None,
) -> tuple[Tensor, Tensor]:
    (batch, begun), device, line, ending = start.shape, start.device, len(sizes), max(sizes)
    wanted = _wanted(start, seeds, line, longest, lengths).to(device)
    times, room = 2 if guided else 1, line * int(wanted.max())
    uniform = torch.stack(
        [torch.rand(line * longest, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds], dim=1
    ).to(device)  # [places, batch, 1]
    logits, state = prefill(start.repeat(times, 1), room)
    sequence = torch.zeros(batch, room, dtype=torch.int64, device=device)
    sequence[:, :begun] = start
    alive, lines = torch.arange(batch, device=device), wanted.clone()
    for at in range(begun, room):
        if guided:
            conditional, unconditional = logits.chunk(2)
            logits = guide(conditional, unconditional, sampling.guidance)
        size = sizes[at % line]
        if at % line:
            drawn = choose(logits[:, :size], uniform[at], sampling)
        else:
            can_end = end and lengths is None and at > 0
            if can_end and size < ending:
                logits[:, size:ending] = -torch.inf
            drawn = choose(logits if can_end else logits[:, :size], uniform[at], sampling)
            done = (drawn == ending) | (wanted[alive] * line <= at)
            if done.any():
                lines[alive[done]] = at // line
                if done.all():
                    break
                stays = ~done
                alive, drawn, uniform = alive[stays], drawn[stays], uniform[:, stays]
                state = state.narrow(stays.repeat(times))
        sequence[alive, at] = drawn
        if at + 1 < room:
            logits, state = step(drawn.repeat(times), at, state)
        if on_step is not None:
            on_step(at + 1 - begun, room - begun)
        if on_line is not None and (at + 1) % line == 0:
            whole = (at + 1) // line
            made = sequence[:, : at + 1].clone()
            on_line(whole - begun // line, (room - begun) // line, made, lines.clamp_max(whole))
    return sequence[:, : line * int(lines.max())], lines


def _wanted(start: Tensor, seeds: Sequence[int], line: int, longest: int, lengths: Tensor | None) -> Tensor:
    """How many lines each item has at most. Raises Error."""
    batch, least = len(seeds), max(1, start.shape[1] // line)
    if len(start) != batch:
        raise Error(f"{len(start)} items to continue came for {batch} seeds; give one for each")
    wanted = torch.full((batch,), longest) if lengths is None else lengths
    if len(wanted) != batch or not bool(((wanted >= least) & (wanted <= longest)).all()):
        raise Error(
            f"lengths of {wanted.tolist()!s:.60} were asked for; give each of {batch} items {least} to {longest}"
        )
    return wanted
