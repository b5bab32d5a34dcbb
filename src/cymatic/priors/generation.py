"""Codes drawn one after another: what a step chooses from, and the loop with its cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import layer_norm

from cymatic.cond import guide
from cymatic.errors import Error
from cymatic.nn.causal import GPTBlock, new_cache, pack, step
from cymatic.nn.linear import PackedLinear
from cymatic.priors.grid import flatten, unflatten
from cymatic.priors.trunk import Prefix

if TYPE_CHECKING:
    from cymatic.priors.gpt import GPTPrior


@dataclass(frozen=True)
class Choice:
    """How a code is chosen from its logits.

    greedy: always the likeliest; else drawn at `temperature` from the `top_k` likeliest (ties stay in, Fan et al.,
    2018, arXiv 1805.04833), of which as few as hold a mass of `top_p` (Holtzman et al., 2019, arXiv 1904.09751).
    Raises Error for values that make no sense.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    greedy: bool = False

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise Error(f"a temperature of {self.temperature} makes no sense; give one above 0, or ask for greedy")
        if self.top_k is not None and self.top_k < 1:
            raise Error(f"top_k of {self.top_k} leaves nothing to choose from; give 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise Error(f"top_p of {self.top_p} is no share of the mass; give one above 0 and up to 1")

    def __call__(self, logits: Float[Tensor, "batch n"], even: Float[Tensor, "batch 1"]) -> Int[Tensor, " batch"]:
        """One index for each row, by the inverse of its distribution at `even`, a number drawn evenly from 0..1."""
        if self.greedy:
            return logits.argmax(-1)
        if self.temperature != 1:
            logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, sorted=False).values.amin(-1, keepdim=True)
            logits = logits.masked_fill(logits < least, -torch.inf)
        p = logits.softmax(-1)
        if self.top_p is not None and self.top_p < 1:
            best = p.sort(descending=True).values
            count = (best.cumsum(-1) < self.top_p).sum(-1, keepdim=True).clamp_max(p.shape[-1] - 1)
            p = p.masked_fill(p < best.gather(-1, count), 0)
        # Rows need not sum to 1 here, and those without mass are never met: below the sum there is always one with.
        mass = p.cumsum(-1)
        return torch.searchsorted(mass, even * mass[:, -1:], right=True).clamp_max(p.shape[-1] - 1).squeeze(-1)


@torch.no_grad()
def generate(
    prior: GPTPrior,
    prefixes: Sequence[Prefix],
    seeds: Sequence[int],
    *,
    choice: Choice,
    columns: Int[Tensor, " batch"] | None = None,
    start: Int[Tensor, "batch rows begun"] | None = None,
    guidance: float = 1.0,
) -> tuple[Int[Tensor, "batch rows columns"], Int[Tensor, " batch"]]:
    """Codes after `prefixes` (one for each item, or with and without the condition) and how many columns each item has.

    Item i draws from its own generator seeded with `seeds[i]`, one number for each place, whatever else is in the
    batch. An item that has ended leaves the batch. Beyond an item's end codes are 0.
    """
    with torch.inference_mode():
        codes, lengths = _generate(prior, prefixes, seeds, choice, columns, start, guidance)
    return codes.clone(), lengths.clone()  # tensors made in inference mode can't be trained on


def _generate(
    prior: GPTPrior,
    prefixes: Sequence[Prefix],
    seeds: Sequence[int],
    choice: Choice,
    columns: Tensor | None,
    start: Tensor | None,
    guidance: float,
) -> tuple[Tensor, Tensor]:
    config, trunk, batch, device = prior.config, prior.trunk, len(seeds), prior.trunk.null.device
    begun, wanted = _checked(prior, batch, columns, start)
    limit, times = int(wanted.max()), len(prefixes)
    tokens, valid = (torch.cat(parts) for parts in zip(*prefixes, strict=True))
    m, capacity = tokens.shape[1], tokens.shape[1] + config.rows * limit
    if config.positions == "learned" and capacity - 1 > config.places:
        raise Error(f"the condition has {m} tokens and this prior was made for at most {config.prefix}; give it fewer")
    total = config.rows * config.longest
    even = torch.stack([torch.rand(total, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds], dim=1)
    even = even.to(device)  # [places, batch, 1]
    blocks = [block for block in trunk.blocks if isinstance(block, GPTBlock)]
    caches = [new_cache(block, batch * times, capacity) for block in blocks]
    packed = pack(blocks, batch * times, capacity)
    head = PackedLinear(prior.head.weight, rows=batch * times)
    padding, width = (~valid).sum(1), (config.width,)
    bias = None
    if padding.any():
        seen = torch.cat([valid, torch.ones(len(valid), capacity - m, dtype=torch.bool, device=device)], dim=1)
        bias = torch.zeros(seen.shape, device=device).masked_fill(~seen, -torch.inf)[:, None, None]
    hidden = trunk(Prefix(tokens, valid), begun.repeat(times, 1), caches=caches)[:, -1]
    grid = torch.zeros(batch, config.rows * limit, dtype=torch.int64, device=device)
    grid[:, : begun.shape[1]] = begun
    alive, lengths = torch.arange(batch, device=device), wanted.clone()
    for at in range(begun.shape[1], config.rows * limit):
        logits = head(hidden)
        if times == 2:
            conditional, unconditional = logits.chunk(2)
            logits = guide(conditional, unconditional, guidance)
        size = config.size(at % config.rows)
        if at % config.rows:
            drawn = choice(logits[:, :size], even[at])
        else:
            ends = config.end and columns is None and at > 0
            if ends and size < config.codes:
                logits[:, size : config.codes] = -torch.inf
            drawn = choice(logits if ends else logits[:, :size], even[at])
            done = (drawn == config.codes) | (wanted[alive] * config.rows <= at)
            if done.any():
                lengths[alive[done]] = at // config.rows
                stays, kept = ~done, (~done).repeat(times)
                if done.all():
                    break
                alive, drawn, even = alive[stays], drawn[stays], even[:, stays]
                caches = [cache[kept] for cache in caches]
                padding, bias = padding[kept], None if bias is None else bias[kept]
        grid[alive, at] = drawn
        if at + 1 < config.rows * limit:
            x = trunk.embed(drawn.repeat(times), at, m, padding)
            hidden = layer_norm(step(x, packed, caches, m + at, bias), width, trunk.norm.weight, trunk.norm.bias)
    return unflatten(grid, config.rows)[..., : int(lengths.max())], lengths


def _checked(prior: GPTPrior, batch: int, columns: Tensor | None, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """The codes to begin with as sequences, and how many columns each item has at most. Raises Error."""
    config, device = prior.config, prior.trunk.null.device
    begun = torch.zeros(batch, 0, dtype=torch.int64, device=device)
    if start is not None:
        if len(start) != batch:
            raise Error(f"{len(start)} items to continue came for {batch} seeds; give one for each")
        prior.check(start)
        begun = flatten(start.to(device))
    wanted = torch.full((batch,), config.longest) if columns is None else columns
    least, most = begun.shape[1] // config.rows, config.longest
    if len(wanted) != batch or not bool(((wanted >= max(least, 1)) & (wanted <= most)).all()):
        raise Error(f"columns of {wanted.tolist()!s:.60} were asked for; give each of {batch} items {least} to {most}")
    return begun, wanted.to(device)
