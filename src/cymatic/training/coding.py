"""Items as the codes or the latents of a codec, and as vectors in a space, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cymatic.cond import Padded, padded
from cymatic.data.examples import Example, Reading
from cymatic.errors import Error
from cymatic.pipelines.embed import Embedder
from cymatic.training.stages import SPACE

AT_ONCE = 64  # items encoded side by side


def coded(examples: Sequence[Example], codec: Any, variants: int, levels: int | None = None) -> list[Example]:
    """Each example with its codes as the target, in `variants` that begin up to a column later, after silence.

    levels: how many of a frame's codes; None: all of them. Raises Error for several variants of what has one length.
    """
    spec, stride = codec.config.reads, codec.cell
    if variants > 1 and spec.shape[-1] != -1:
        raise Error(f"variants are items moved in time, and these ({spec.describe()}) all have one length; set it to 1")
    shifts = [i * stride // variants for i in range(min(variants, stride))]
    found = _encoded(examples, codec, shifts, lambda targets: codec.encode(targets).codes[:, :levels])
    return [
        replace(example, target=found[i, shifts[0]], variants=tuple(found[i, shift] for shift in shifts[1:]))
        for i, example in enumerate(examples)
    ]


def as_latents(examples: Sequence[Example], codec: Any) -> list[Example]:
    """Each example with its latent as the target."""
    found = _encoded(examples, codec, [0], codec.latent)
    return [replace(example, target=found[i, 0]) for i, example in enumerate(examples)]


def with_vectors(examples: Sequence[Example], space: Embedder, target: Reading) -> list[Example]:
    """Each example with the vector of its target in the space as `given[SPACE]`.

    What the encoder reads is the target where it was read by the same spec, else it was read beside it, as its given.
    """
    role = space.role_of(target.spec.medium)
    same = space.encoders[role].config.reads == target.spec
    vectors = _vectors(examples, space, role, lambda one: one.target if same else one.given[target.role])

    def held(one: Example) -> Example:
        rest = {name: value for name, value in one.given.items() if same or name != target.role}
        return replace(one, given={**rest, SPACE: vectors[id(one)]})

    return _each(examples, held)


def as_vectors(examples: Sequence[Example], space: Embedder, role: str) -> list[Example]:
    """Each example with the vector in the space of what is given for a role in its place; one vector where two are
    given the same."""
    vectors = _vectors(examples, space, role, lambda one: one.given[role])
    return _each(examples, lambda one: replace(one, given={**one.given, role: vectors[id(one)]}))


@torch.no_grad()
def as_states(examples: Sequence[Example], encoder: Any, role: str | None) -> list[Example]:
    """Each example with what an encoder's tower says of it, `[states * width, frames]` in 16 bits, in the place of what
    is given for a role; None: of the target. Raises Error for an item that is too short for the tower."""
    found: dict[int, Tensor] = {}
    different = {id(one): one for one in examples}
    for one in different.values():  # each alone: towers are large, and lengths differ
        value = (one.target if role is None else one.given[role]).float()
        try:
            states = encoder.states(Padded(value[None], torch.tensor([value.shape[-1]])))
        except Error as error:
            raise Error(f"{one.name}: {error}; leave it out") from None
        found[id(one)] = states.values[0].half().cpu()

    def held(one: Example) -> Example:
        if role is None:
            return replace(one, target=found[id(one)])
        return replace(one, given={**one.given, role: found[id(one)]})

    return _each(examples, held)


def _each(examples: Sequence[Example], change: Callable[[Example], Example]) -> list[Example]:
    """The examples after a change; an epoch may meet one several times, and meets one and the same then, too."""
    found: dict[int, Example] = {}
    for one in examples:
        if id(one) not in found:
            found[id(one)] = change(one)
    return [found[id(one)] for one in examples]


@torch.no_grad()
def _vectors(
    examples: Sequence[Example], space: Embedder, role: str, read: Callable[[Example], Tensor]
) -> dict[int, Tensor]:
    """The vector of what is read of each example, by its id."""
    contents = {id(one): hashlib.sha256(read(one).contiguous().numpy().tobytes()).digest() for one in examples}
    different = list({contents[id(one)]: one for one in examples}.values())
    found: dict[bytes, Tensor] = {}
    for begin in range(0, len(different), AT_ONCE):
        some = different[begin : begin + AT_ONCE]
        inputs = padded([read(one).float() for one in some])
        for one, vector in zip(some, space.vectors(role, inputs).float().cpu(), strict=True):
            found[contents[id(one)]] = vector
    return {one: found[content] for one, content in contents.items()}


@torch.no_grad()
def _encoded(
    examples: Sequence[Example], codec: Any, shifts: Sequence[int], encode: Callable[[Tensor], Tensor]
) -> dict[tuple[int, int], Tensor]:
    """What `encode` makes of each example after so much silence, by its place and that."""
    spec = codec.config.reads
    # The codec fills an item up to whole columns; done here, items of about one length go in together.
    by_columns: dict[int, list[tuple[int, int]]] = {}
    for i, example in enumerate(examples):
        for shift in shifts:
            by_columns.setdefault(codec.columns(shift + example.target.shape[-1]), []).append((i, shift))
    found: dict[tuple[int, int], Tensor] = {}
    for columns, places in by_columns.items():
        for begin in range(0, len(places), AT_ONCE):
            some = places[begin : begin + AT_ONCE]
            first = examples[some[0][0]].target
            targets = torch.full((len(some), *first.shape[:-1], codec.length(columns)), spec.silence)
            for row, (i, shift) in zip(targets, some, strict=True):
                row[..., shift : shift + examples[i].target.shape[-1]] = examples[i].target
            found.update(zip(some, encode(targets.to(codec.steps_trained.device)).cpu(), strict=True))
    return found
