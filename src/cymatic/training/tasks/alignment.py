"""The task of aligning two or more encoders: vectors of one item come to lie together, those of others apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cymatic.cond import Padded
from cymatic.data.batches import Batch, in_order
from cymatic.data.examples import Example
from cymatic.encoders.align import LOSSES, RECALLS, Contents, chance, recall, same
from cymatic.hub.parts import CONFIG, WEIGHTS, load_weights, save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.pipelines.embed import Embedder
from cymatic.seeds import mixed
from cymatic.training.accumulation import cached
from cymatic.training.muon import groups_of
from cymatic.training.settings import TrainingSettings
from cymatic.training.stages import AlignmentStage

TELLING = 8  # of thousands of numbers that a tower says of each frame: sounds with the same ones are the same
MOST_MEASURED = 512  # items, among which each is looked for


class AlignmentTask(nn.Module):
    """Encoders by role, and the contrastive loss of each pair of roles, as one module with one loss.

    space: further encoders, which learn nothing: items bring their vectors along as what is given for their roles, and
    words are read once. folder: of the run in which the encoders lie, a model of their own; "" is the run itself.
    generator: a model that draws by vectors of the space. towers: by role, what stands below an encoder that is without
    its tower here: it learns nothing, and items bring along what it says of them.

    The first role is the target of the batches. Items with the same caption, or of which one role holds the same, count
    as one: neither is pushed away from the other. With `stage.at_once` the items of a batch are encoded so many at a
    time, with the loss and the gradient of the whole.
    """

    keeps_best = True
    full_from = 0
    rounds = 1
    steps: Tensor

    def __init__(
        self, stage: AlignmentStage, encoders: Mapping[str, nn.Module], *, space: Embedder | None = None,
        folder: str = "", generator: str | None = None, towers: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stage, self.space, self.folder, self.generator = stage, space, folder, generator
        self.roles = [*encoders, *(space.encoders if space is not None else ())]
        self.pairs = [pair for pair in combinations(self.roles, 2) if not encoders.keys().isdisjoint(pair)]
        self.towers = dict(towers or {})
        self._words: dict[str, Tensor] = {}  # vectors of the space
        self.total_steps: int | None = stage.training.steps
        self.encoders = nn.ModuleDict(encoders)
        self.losses = nn.ModuleDict({"-".join(pair): LOSSES[stage.loss](**stage.loss_options) for pair in self.pairs})
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}`: the mean over the pairs of roles."""
        seed = mixed(seed, batch.shard.rank) if batch.shard is not None else seed
        alike = same(self._contents(batch))
        count = -(-len(batch) // (self.stage.at_once or len(batch)))

        def encode(number: int) -> dict[str, Tensor]:
            torch.manual_seed(mixed(seed, number))  # for dropout
            return self._vectors(batch if count == 1 else batch.micro_batch(number, count))

        if count == 1:
            terms = self._terms(encode(0), alike)
        else:
            terms = cached(encode, count, lambda vectors: self._terms(vectors, alike), self)
        if self.training:
            self.steps += 1
        return terms

    def _inputs(self, batch: Batch) -> dict[str, list[str] | Padded]:
        first, *others = self.roles
        return {first: batch.targets(), **{role: batch.inputs(role) for role in others}}

    def _contents(self, batch: Batch) -> list[Contents]:
        """What is the same in items that count as one: the caption, and the numbers of each role."""
        contents: list[Sequence[str | bytes]] = [batch.captions]
        for role, inputs in self._inputs(batch).items():
            if not isinstance(inputs, list):
                some = slice(TELLING) if role in self.towers else slice(None)
                contents.append([one[some].contiguous().numpy().tobytes() for one in inputs.items()])
        return list(zip(*contents, strict=True))

    def _vectors(self, batch: Batch) -> dict[str, Tensor]:
        device, found = self.steps.device, dict[str, Tensor]()
        for role, inputs in self._inputs(batch).items():
            if role in self.towers:
                found[role] = self.encoders[role].of_states(inputs.to(device)).vector  # type: ignore[union-attr,operator]
            elif role in self.encoders:
                found[role] = self.encoders[role](inputs if isinstance(inputs, list) else inputs.to(device)).vector
            elif isinstance(inputs, list):
                found[role] = self._of_words(role, inputs).to(device)
            else:
                found[role] = inputs.values.to(device)
        return found

    @torch.no_grad()
    def _of_words(self, role: str, words: list[str]) -> Tensor:
        assert self.space is not None
        if new := [one for one in dict.fromkeys(words) if one not in self._words]:
            self._words.update(zip(new, self.space.vectors(role, new).float(), strict=True))
        return torch.stack([self._words[one] for one in words])

    def _terms(self, vectors: Mapping[str, Tensor], alike: Tensor) -> dict[str, Tensor]:
        terms = {
            pair: loss(*(vectors[role] for role in roles), alike.to(self.steps.device))
            for (pair, loss), roles in zip(self.losses.items(), self.pairs, strict=True)
        }
        return {**terms, "loss": torch.stack(list(terms.values())).mean()}

    @torch.no_grad()
    def measure(self, held_out: Sequence[Example], batch: int, frames: int | None = None) -> dict[str, float]:
        """The loss among items held out, and of each pair of roles the recall in the first 1, 5 and 10, both ways, with
        `chance@1` and so on: that of items in random order."""
        some = held_out[:: max(1, len(held_out) // MOST_MEASURED)][:MOST_MEASURED]
        vectors: dict[str, list[Tensor]] = {role: [] for role in self.roles}
        contents: list[Contents] = []
        for part in in_order(some, batch, frames):
            contents += self._contents(part)
            for role, found in self._vectors(part).items():
                vectors[role].append(found)
        whole = {role: torch.cat(found) for role, found in vectors.items()}
        alike = same(contents).to(self.steps.device)
        scores = {"loss": self._terms(whole, alike)["loss"].item()}
        for a, b in self.pairs:
            similarity = whole[a] @ whole[b].T
            for k in RECALLS:
                scores[f"{a}-{b}@{k}"] = recall(similarity, alike, k)
                scores[f"{b}-{a}@{k}"] = recall(similarity.T, alike, k)
        return {**scores, **{f"chance@{k}": chance(alike, k) for k in RECALLS}}

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, Any]]:
        """AdamW's steps for all."""
        return groups_of(self, settings, [])

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes each encoder as it stands into its folder of `run`, under its role, and what makes a model of them."""
        for role in self.encoders:
            save_part(run / self.folder / role, self._whole(role))
        for role, encoder in self.space.encoders.items() if self.space is not None else ():
            if not (run / self.folder / role / CONFIG).is_file():
                save_part(run / self.folder / role, encoder)
        self.complete(run)

    def complete(self, run: Path) -> None:
        """Names the encoders in their folder of `run`, and the scale of their similarities where they are two."""
        scales: list[Any] = [loss.scale for loss in self.losses.values()]
        parts = {role: role for role in self.roles}
        (run / self.folder).mkdir(parents=True, exist_ok=True)
        scale = scales[0].item() if len(scales) == 1 else None
        file = PipelineFile(parts=parts, scale=scale, generator=self.generator)
        write_pipeline(run / self.folder, file)

    def load_parts(self, run: Path) -> None:
        """Fills each encoder with what `save_parts` wrote into `run`. Raises ModelError where one does not fit."""
        for role in self.encoders:
            load_weights(self._whole(role), run / self.folder / role / WEIGHTS)

    def _whole(self, role: str) -> Any:
        """The encoder of a role with its tower."""
        encoder: Any = self.encoders[role]
        return encoder.over(self.towers[role]) if role in self.towers else encoder
