"""A condition -> something made: encoder, prior, and what turns the prior's target into what people hear and see."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cymatic.cond import Cond, padded
from cymatic.config import nearest
from cymatic.encoders import ENCODERS
from cymatic.encoders.familiarity import Familiarity
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import fingerprint, load_part
from cymatic.hub.pipeline_file import PipelineFile, read_pipeline
from cymatic.hub.wave_codecs import ANY_CODEC
from cymatic.latent import Latent
from cymatic.media import MEDIA
from cymatic.media.medium import Medium
from cymatic.pipelines import editing
from cymatic.pipelines.asked import AT_ONCE, OnPreview, Prompt, check_count, check_seconds, described, medium_asked
from cymatic.pipelines.conditioning import By, check_space, condition_of, only
from cymatic.pipelines.embed import Embedder, Ranked
from cymatic.pipelines.fit import check_fit
from cymatic.pipelines.previews import shown
from cymatic.pipelines.ranking import Ranking, load_ranker
from cymatic.priors import PRIORS
from cymatic.priors.progress import OnStep
from cymatic.scalars import Number
from cymatic.version import __version__
from cymatic.vocoders import VOCODERS


def _alike(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have the same tensors under the same names."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def _within(on_step: OnStep | None, batch: int, batches: int) -> OnStep | None:
    """`on_step` of one of several batches, which counts the steps of all."""
    if on_step is None or batches == 1:
        return on_step
    return lambda done, steps: on_step(batch * steps + done, batches * steps)


class Generator:
    """A model of an encoder, a prior, and a decoder: a codec, a vocoder, both, or neither.

    Built from parts, or from a folder by `cymatic.load`. What it makes is a value of its medium (`Sound`, `Picture`),
    whose `info` says how it was made; what is worth knowing beside it stands there as `notes`. Raises ModelError for
    parts that don't fit each other.
    """

    def __init__(
        self,
        encoder: Any,
        prior: Any,
        *,
        codec: Any = None,
        vocoder: Any = None,
        file: PipelineFile,
        name: str = "unnamed",
        sha256: str = "",
        ranker: Path | None = None,
        space: Embedder | None = None,
    ) -> None:
        self.encoder, self.prior = encoder.eval(), prior.eval()
        self.codec: Any = None if codec is None else codec.eval()
        self.vocoder: Any = None if vocoder is None else vocoder.eval()
        self.name, self.sha256, self.captions = name, sha256, file.captions
        self.stamp = file.stamp(name, sha256)  # in the info of what it makes
        self.space = space
        self.defaults = prior.sampling.parse(file.sampling, f"{name}: sampling")
        check_fit(self)
        self.spec = prior.config.reads if codec is None else codec.config.gives
        self.gives = self.spec if vocoder is None else vocoder.config.gives
        self.medium: Medium[Any] = MEDIA[self.gives.medium]
        self.familiarity = Familiarity(file.captions)
        self._ranker = ranker
        if space is not None:
            check_space(space, encoder.config, self.medium, name)

    @classmethod
    def from_folder(
        cls, folder: Path, file: PipelineFile, *, device: str = "cpu", name: str | None = None
    ) -> Generator:
        """Raises ModelError where a part is missing, damaged or of the wrong kind."""
        places = file.places(folder)
        kinds: dict[str, tuple[Any, ...]] = {
            "encoder": ENCODERS, "prior": PRIORS, "codec": ANY_CODEC, "vocoder": VOCODERS,
        }  # fmt: skip
        for part in ("encoder", "prior"):
            if part not in places:
                raise ModelError(f"{folder} names no {part}, which something that is made needs; train the model again")
        parts = {part: load_part(places[part], kinds[part]).to(device) for part in kinds if part in places}
        space, whole = file.space_of(folder), list(places.values())
        aligned = None
        if space is not None:  # it decides what is made as much as a part does
            named = read_pipeline(space)
            whole += named.places(space).values()
            aligned = Embedder.from_folder(space, named, device=device, name=f"{folder.name}/{file.space}")
        return cls(
            parts["encoder"], parts["prior"], codec=parts.get("codec"), vocoder=parts.get("vocoder"), file=file,
            name=name or folder.name, sha256=fingerprint(whole), ranker=file.ranker_of(folder),
            space=aligned,
        )  # fmt: skip

    def reading(self, space: Embedder, file: PipelineFile) -> Generator:
        """The same generator as a model called as `space`, which it draws from: its own space with further encoders.
        file: of the new model. Raises ModelError where it has no space, or `space` has other encoders for its roles."""
        if self.space is None:
            raise ModelError(f"{self.name} has no space of aligned encoders")
        for role, encoder in self.space.encoders.items():
            other = space.encoders.get(role)
            if other is None or not _alike(encoder, other):
                raise ModelError(f"its encoder of {role} is another one than that of {space.name}")
        made = copy(self)
        made.space, made.name = space, space.name
        made.sha256 = hashlib.sha256(f"{self.sha256} {space.sha256}".encode()).hexdigest()
        made.stamp = file.stamp(made.name, made.sha256)
        return made

    @property
    def has_ranker(self) -> bool:
        """Whether it holds aligned encoders of its own."""
        return self._ranker is not None or self.space is not None

    @cached_property
    def ranker(self) -> Embedder:
        """The aligned encoders inside the model, read when they are first needed, or those of its space. Raises
        ModelError where there are none."""
        if self._ranker is None and self.space is not None:
            return self.space
        if self._ranker is None:
            raise ModelError(f"{self.name} has no ranker of its own; give one: ranker=cymatic.load(MODEL)")
        return load_ranker(self._ranker)

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of its settings of sampling."""
        return tuple(type(self.defaults).model_fields)

    @property
    def rate(self) -> int:
        """Samples a second of what is made, where it is a sound. Raises ModelError for another medium."""
        if not self.gives.waveform:
            raise ModelError(f"{self.name} makes {self.medium.nouns}, which have no rate")
        return int(self.gives.rate)

    @property
    def longest(self) -> float:
        """The greatest length that may be asked for, in seconds; infinity where length is no time."""
        length = self._length(int(self.prior.longest)) if self.codec is not None else 2 * int(self.prior.longest)
        seconds = self.spec.seconds(length)
        return float("inf") if seconds is None else seconds

    @overload
    def __call__(self, prompt: Prompt, *, n: None = ..., **how: Any) -> Any: ...

    @overload
    def __call__(self, prompt: Prompt, *, n: SupportsIndex, **how: Any) -> list[Any]: ...

    def __call__(
        self,
        prompt: Prompt,
        *,
        seed: SupportsIndex = 0,
        n: SupportsIndex | None = None,
        keep: SupportsIndex | None = None,
        ranker: Embedder | None = None,
        seconds: Number | None = None,
        by: By | None = None,
        allow_untrained: bool = False,
        on_step: OnStep | None = None,
        on_preview: OnPreview | None = None,
        **settings: Any,
    ) -> Any:
        """What `prompt` says; with `n`, a list of n with seeds seed, seed + 1, ...

        keep: of the n the best so many, best first, by aligned encoders that were loaded (`ranker`), else by the
        model's own; each has its `score` in its info.
        seconds: the length, where it has one; otherwise the model chooses. by: `tokens` or `vector`, which the prior
        then reads of the prompt without the other. on_step: called between steps with how many
        are done and how many there are; what it raises ends the work. on_preview: called likewise, with the values that
        are being made as they stand. settings: of `settings`, such as guidance (how strongly the prompt is followed; 1
        as learned); what is not given is the model's own. Raises PromptError for a prompt that can't be read, Error for
        a setting out of range, ModelError for a model that is untrained, makes no finite numbers or has no previews.
        """
        count, seed = check_count(seed, 1 if n is None else n)
        ranking = None
        if keep is not None:
            spec = self.encoder.config.reads
            given = None if spec is None else spec.medium
            if self.space is not None and (medium := medium_asked(prompt)) is not None:
                given = medium.name
            some = None if n is None else count
            chosen = ranker or self.ranker
            vector = self.vector(prompt) if chosen is self.space else None
            ranking = Ranking.of(keep, some, chosen, prompt, given, self.medium, vector=vector)
        how = self.sampling(settings)
        lengths, size = (None, None) if seconds is None else self.asked(seconds)
        if on_preview is not None:
            editing.check_verb(self, "preview")
        made: list[Any] = []
        with torch.inference_mode():
            cond, info = self.condition(prompt, by=by), self.info(prompt, how)
            info |= {} if by is None else {"by": by}
            for begin in range(0, count, AT_ONCE):
                seeds = range(seed + begin, seed + min(count, begin + AT_ONCE))
                found, columns = self.prior.sample(
                    cond.repeat(len(seeds)),
                    seeds,
                    lengths=None if lengths is None else torch.full((len(seeds),), lengths),
                    on_step=_within(on_step, begin // AT_ONCE, math.ceil(count / AT_ONCE)),
                    allow_untrained=allow_untrained,
                    **({} if on_preview is None else {"on_estimate": shown(self, on_preview, info, seeds[0])}),
                    **how.model_dump(),
                )
                made += self.finished(self.decoded(found, columns), seeds[0], info, size)
        if ranking is not None:
            return ranking.best(made, prompt)
        return made[0] if n is None else made

    def sampling(self, settings: Mapping[str, Any]) -> Any:
        """The model's settings of sampling with those given (None: the model's own). Raises Error for one it has not,
        or one out of range."""
        given = {name: value for name, value in settings.items() if value is not None}
        for name in given:
            if name not in self.settings:
                raise Error(f'{self.name} has no setting "{name}"; {nearest(name, self.settings)}')
        try:
            return type(self.defaults).parse({**self.defaults.model_dump(), **given}, "the sampling")
        except ModelError as error:
            said = str(error).removeprefix("the sampling: ")
            raise Error(said.replace(": input should be ", "; give one that is ")) from None

    def info(self, prompt: Prompt | None, how: Any) -> dict[str, Any]:
        """How something is made, for the info of the result."""
        values = {name: value for name, value in how.model_dump(mode="json").items() if value is not None}
        notes = [note] if isinstance(prompt, str) and (note := self.familiarity.note(prompt)) else []
        return {
            "prompt": described(prompt), **self.stamp, **values,
            **({"notes": notes} if notes else {}),
        }  # fmt: skip

    def condition(self, prompt: Prompt, *, by: By | None = None) -> Cond:
        """The condition of a prompt; by: its tokens or its vector alone. Raises Error for one of another kind than the
        model was trained with."""
        return only(self.name, self._conditions([prompt]), by)

    def vector(self, prompt: Prompt) -> Float[Tensor, " dim"]:
        """Where words, a value, a file or a vector lie in the model's space, of unit norm. Raises as `embed`."""
        return self.embed([prompt])[0]

    def embed(self, values: Sequence[Any], role: str | None = None) -> Float[Tensor, "values dim"]:
        """As `Embedder.embed`, in the model's space. Raises ModelError for a model without one."""
        return self._space().embed(values, role)

    def rank(self, query: Any, candidates: Sequence[Any]) -> list[Ranked]:
        """As `Embedder.rank`, in the model's space. Raises ModelError for a model without one."""
        return self._space().rank(query, candidates)

    def _space(self) -> Embedder:
        if self.space is None:
            raise ModelError(f"{self.name} has no space of aligned encoders; train one whose prior has a space")
        return self.space

    @torch.inference_mode()
    def decoded(self, found: Tensor, columns: Tensor) -> list[Tensor]:
        """What the prior made, one by one, in the domain before the vocoder: beside longer items, a codec would see
        what fills up the shorter ones."""
        items = [one[..., :n] for one, n in zip(found, columns.tolist(), strict=True)]
        if self.codec is None:
            return items
        return [self._from_latent(one) if self.rows is None else self._from_codes(one) for one in items]

    def _from_latent(self, z: Tensor) -> Tensor:
        length = torch.tensor([self._length(z.shape[-1])], device=z.device)
        decoded: Tensor = self.codec.decode(Latent(z[None], None, length, self.codec.layout))[0]
        return decoded

    def _from_codes(self, codes: Tensor) -> Tensor:
        fewest = self.codec.columns(1)
        if codes.shape[-1] < fewest:  # fewer columns than the decoder is late hold nothing
            codes = torch.cat([codes, codes[..., -1:].expand(*codes.shape[:-1], fewest - codes.shape[-1])], dim=-1)
        length = torch.tensor([self._length(codes.shape[-1])])
        decoded: Tensor = self.codec.decode_codes(codes[None], length)[0]
        return decoded

    def finished(
        self, targets: Sequence[Tensor], seed: int, info: Mapping[str, Any], size: int | None = None
    ) -> list[Any]:
        """Values of the medium as they are handed out, the first with `seed`. size: steps that are kept. Raises as
        `restored`."""
        made = self.restored(targets, [{**info, "seed": seed + i} for i in range(len(targets))], size)
        return [self.medium.finish(value) for value in made]

    def restored(
        self, targets: Sequence[Tensor], infos: Sequence[Mapping[str, Any]], size: int | None = None
    ) -> list[Any]:
        """Values of the medium as decoder and vocoder give them. Raises ModelError where one is not finite."""
        made = []
        for target, info in zip(targets, infos, strict=True):
            with torch.inference_mode():
                value = target if self.vocoder is None else self.vocoder(target[None])[0]
            value = value[..., :size].cpu()
            if not value.isfinite().all():
                raise ModelError(
                    f"{self.name} made NaN or infinity instead of {self.medium.nouns}; lower the guidance or mend the "
                    "model"
                )
            made.append(self.medium.restore(value, self.gives, {**info, "cymatic": __version__}))
        return made

    # --- what an evaluation asks, see `evaluation.evaluable`

    @property
    def guidance(self) -> float:
        """As the model samples by default."""
        return float(self.defaults.guidance)

    @property
    def rows(self) -> int | None:
        """How many of its codec's rows of codes the prior makes; None where it makes no codes."""
        return int(self.prior.config.rows) if self.prior.config.over == "codes" else None

    def target(self, value: Any) -> Tensor:
        """What its codec, or its prior, reads of a value, without a batch."""
        return self.medium.prepare(value, self.spec).float()

    def draw(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], guidance: Number | None = None,
        on_step: OnStep | None = None, by: By | None = None, allow_untrained: bool = False,
    ) -> list[Tensor]:  # fmt: skip
        """A target for each prompt and seed, in the domain of `spec`, before any vocoder. by: as `condition` has it."""
        how = self.sampling({"guidance": guidance})
        with torch.inference_mode():
            cond = only(self.name, self._conditions(prompts), by)
            found, lengths = self.prior.sample(
                cond, seeds, on_step=on_step, allow_untrained=allow_untrained, **how.model_dump()
            )
            return [one.cpu() for one in self.decoded(found, lengths)]

    @torch.inference_mode()
    def loss(self, targets: Sequence[Tensor], captions: Sequence[Prompt], seed: int) -> float:
        """How badly the prior predicts targets under captions: the term by which it is measured."""
        batch = padded(targets)
        target, lengths = batch.values, batch.lengths
        if self.codec is not None:
            rows = self.rows  # of codes
            target = self.codec.latent(target) if rows is None else self.codec.encode(target, lengths).codes[:, :rows]
            lengths = torch.tensor([self.codec.columns(int(n)) for n in lengths])
        terms = self.prior.loss(target, lengths, self._conditions(captions), torch.Generator().manual_seed(seed))
        return float(terms[self.prior.measured])

    def reconstructions(self, value: Any) -> dict[str, Any]:
        """A value after each way through the model: its vocoder alone, and its codec and vocoder."""
        ways: dict[str, Any] = {}
        if self.vocoder is not None:
            ways["vocoder"] = editing.revoiced(self, value, self.target(value))
        if self.codec is not None:
            ways["codec" if self.vocoder is None else "codec and vocoder"] = self.revocode(value)
        return ways

    def _conditions(self, prompts: Sequence[Prompt]) -> Cond:
        return condition_of(self.name, self.encoder, self.space, prompts)

    def _length(self, columns: int) -> int:
        return int(self.codec.length(columns))

    def asked(self, seconds: Number) -> tuple[int, int]:
        """The length of the prior's target for so many seconds, and the steps of the result."""
        seconds = check_seconds(seconds, self.longest)
        of_target, of_result = self.spec.seconds(1), self.gives.seconds(1)
        if of_target is None or of_result is None:
            raise Error(f"{self.name} makes {self.medium.nouns}, which have no length in time; leave seconds out")
        size = round(seconds / of_result)
        steps = math.ceil(size * of_result / of_target - 1e-6)
        return steps if self.codec is None else self.codec.columns(steps), size

    # --- what else a generator is good for, see `pipelines.editing`

    def codes_of(self, value: Any) -> tuple[Tensor, int]:
        """See `editing.codes_of`."""
        return editing.codes_of(self, value)

    def revocode(self, value: Any) -> Any:
        """See `editing.revocode`."""
        return editing.revocode(self, value)

    def extend(self, value: Any, **how: Any) -> list[Any]:
        """See `editing.extend`."""
        return editing.extend(self, value, **how)

    def vary(self, value: Any, **how: Any) -> list[Any]:
        """See `editing.vary`."""
        return editing.vary(self, value, **how)

    def inpaint(self, value: Any, mask: Any, **how: Any) -> list[Any]:
        """See `editing.inpaint`."""
        return editing.inpaint(self, value, mask, **how)

    def blend(self, first: Any, second: Any, **how: Any) -> list[Any]:
        """See `editing.blend`."""
        return editing.blend(self, first, second, **how)

    def nll(self, value: Any, prompt: Prompt) -> tuple[float, int] | None:
        """See `editing.nll`."""
        return editing.nll(self, value, prompt)

    def posterior(self, value: Any, prompt: Prompt) -> tuple[Tensor, Tensor] | None:
        """See `editing.posterior`."""
        return editing.posterior(self, value, prompt)

    def attention(self, value: Any, prompt: Prompt | None = None) -> list[np.ndarray]:
        """See `editing.attention`."""
        return editing.attention(self, value, prompt)
