"""Stable Diffusion (Rombach et al., 2022, arXiv 2112.10752): words -> pictures. `readers.stable_diffusion` reads it.

Its networks and schedulers are those of the packages transformers and diffusers. How they are put together is said
here, so that a word of a prompt may be a vector, and so that no picture depends on what it is drawn beside.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self, SupportsIndex

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cymatic.batch_shard import BatchShard
from cymatic.cond import guide
from cymatic.encoders.text import normalise
from cymatic.errors import Error, PromptError
from cymatic.hub.readers.clip import END, START, ClipTextConfig, byte_pairs
from cymatic.priors.progress import OnStep
from cymatic.scalars import Number, number, whole

PLACEHOLDER = "<*>"  # stands in a prompt for a word that is given as a vector
MOST_PIXELS = 4096  # of a side
MOST_GUIDANCE = 1000.0
# Where the placeholder stands in the prompts that this thread reads, and the vectors that stand there instead.
_WORDS: ContextVar[tuple[Tensor, Tensor] | None] = ContextVar("words", default=None)


def _with_words(network: nn.Module, given: Any, embedded: Tensor) -> Tensor:
    """What token embeddings become on their way out: those of placeholders are the vectors that were given."""
    words = _WORDS.get()
    return embedded if words is None else torch.where(words[0][..., None], words[1][:, None], embedded)


@contextmanager
def _words(places: Bool[Tensor, "batch n"], words: Float[Tensor, "batch dim"]) -> Iterator[None]:
    token = _WORDS.set((places, words))
    try:
        yield
    finally:
        _WORDS.reset(token)


@dataclass(frozen=True)
class Noising:
    """The noise of training and of drawing. make: a new scheduler of the folder's own class, since it remembers the
    steps that it has made; training: one that only adds noise; target: what the UNet predicts."""

    make: Callable[[], Any]
    training: Any
    target: str

    @property
    def times(self) -> int:
        """Noise levels that there are in training."""
        return int(self.training.config.num_train_timesteps)


class StableDiffusion(nn.Module):
    """Prompts -> text states `[batch, positions, width]` -> pictures `[batch, 3, height, width]` in 0..1.

    All of it is frozen and stays in eval mode, after `train()` too. Gradients pass through to the states, and from
    there to words that are given as vectors. size: of a picture in pixels, (height, width), as it was trained on.
    """

    text_encoder: Any  # CLIPTextModel, UNet2DConditionModel and AutoencoderKL, of packages that may be absent
    unet: Any
    vae: Any

    def __init__(
        self, text_encoder: Any, text: ClipTextConfig, unet: Any, vae: Any, noising: Noising, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.text_encoder, self.unet, self.vae = text_encoder, unet, vae
        self.text, self.noising, self.size = text, noising, size
        self.tokenizer = byte_pairs(text)
        self.channels = int(unet.config.in_channels)
        self.scale = float(vae.config.scaling_factor)
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self._table().register_forward_hook(_with_words)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Eval mode, whatever is asked for: nothing in here is trained."""
        return super().train(False)

    @property
    def width(self) -> int:
        """Numbers of a word's embedding, and of a text state."""
        return self.text.width

    @property
    def positions(self) -> int:
        """Tokens of a prompt, with start, end and padding."""
        return self.text.positions

    def _table(self) -> nn.Embedding:
        table: nn.Embedding = self.text_encoder.get_input_embeddings()
        return table

    @property
    def _like(self) -> Tensor:
        """A tensor with the type and on the device of all that is computed here."""
        return self._table().weight

    # --- words

    def ids(self, prompts: Sequence[str], *, pseudo: bool = False) -> Int[Tensor, "batch positions"]:
        """The numbers of the prompts' tokens, from start to end and padded to all positions. "" has none of its own.

        pseudo: each prompt has the placeholder, whose number is -1. Raises PromptError for prompts without it, for
        blank ones other than "", for control characters, and for more tokens than there are positions.
        """
        number_of = self.tokenizer.token_to_id
        rows = []
        for prompt in prompts:
            inner = self._inner(prompt, pseudo)
            room = self.positions - 2
            if len(inner) > room:
                raise PromptError(
                    f"the prompt is too long: {len(inner)} tokens or more, and this model reads {room}; shorten it"
                )
            padding = [number_of(self.text.pad)] * (room - len(inner))
            rows.append([number_of(START), *inner, number_of(END), *padding])
        return torch.tensor(rows, dtype=torch.long).reshape(len(rows), self.positions)

    def _inner(self, prompt: str, pseudo: bool) -> list[int]:
        """The tokens between start and end."""
        if prompt == "" and not pseudo:
            return []
        normalise(prompt)  # what it refuses
        parts = prompt[: 100 * self.positions].split(PLACEHOLDER) if pseudo else [prompt[: 100 * self.positions]]
        if pseudo and len(parts) == 1:
            raise PromptError(f"{prompt!r:.80} has no {PLACEHOLDER}; put it where the word belongs")
        first, *rest = (self.tokenizer.encode(part, add_special_tokens=False).ids for part in parts)
        return [*first, *(one for part in rest for one in (-1, *part))]

    def text_states(
        self, prompts: Sequence[str], words: Float[Tensor, "batch dim"] | None = None
    ) -> Float[Tensor, "batch positions dim"]:
        """What the UNet reads of prompts: the last states of CLIP's text tower, padding included.

        words: for each prompt the embedding that takes the place of `<*>`, before positions are added. Raises
        PromptError as `ids`, Error for words of another number or width.
        """
        ids = self.ids(prompts, pseudo=words is not None).to(self._like.device)
        if words is None:
            return self._states(ids)
        if words.shape != (len(ids), self.width):
            raise Error(
                f"words of the shape {list(words.shape)} were given for {len(ids)} prompts; give [{len(ids)}, "
                f"{self.width}]"
            )
        with _words(ids < 0, words.to(self._like)):
            return self._states(ids.clamp_min(0))

    def _states(self, ids: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch positions dim"]:
        states: Tensor = self.text_encoder(input_ids=ids).last_hidden_state
        return states

    def embedding(self, text: str) -> Float[Tensor, "tokens dim"]:
        """The embeddings of the tokens of a text, without start, end and positions. Raises PromptError as `ids`."""
        inner = self._inner(text, False)
        if not inner:
            raise PromptError("the text has no tokens; give at least one word")
        return self._table().weight[torch.tensor(inner, device=self._like.device)]

    # --- pictures

    def latents(
        self,
        pictures: Float[Tensor, "batch 3 height width"],
        noise: Float[Tensor, "batch channels rows columns"] | None,
    ) -> Float[Tensor, "batch channels rows columns"]:
        """Pictures in 0..1 as the UNet meets them: `s (mean + std noise)` of the autoencoder's posterior, or s mean
        without noise; s is the scale that gives them about unit variance.

        Raises Error for pictures whose sides are not whole numbers of latents.
        """
        self._check_size(*pictures.shape[-2:])
        posterior = self.vae.encode(pictures.to(self._like) * 2 - 1).latent_dist
        found: Tensor = posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(self._like)
        return found * self.scale

    def decode(self, latents: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        """Pictures in 0..1, one after the other, since a large one takes much memory."""
        made = [self.vae.decode(one / self.scale).sample for one in latents.split(1)]
        return (torch.cat(made) / 2 + 0.5).clamp(0, 1)

    def sample(
        self,
        noise: Float[Tensor, "batch channels rows columns"],
        states: Float[Tensor, "batch positions dim"],
        unconditional: Float[Tensor, "any positions dim"],
        generators: Sequence[torch.Generator],
        *,
        steps: int = 50,
        guidance: float = 7.5,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The latents that noise of unit variance becomes, with the guidance `u + w (c - u)` between states and the
        unconditional ones, `[batch or 1, ...]`.

        generators: one an item, for schedulers that add noise on the way. on_step: as in `priors.progress`; some
        schedulers make more steps than were asked for. Raises Error for steps that the scheduler can't make.
        """
        scheduler = self.noising.make()
        try:
            scheduler.set_timesteps(steps, device=self._like.device)
        except (ValueError, ArithmeticError, IndexError) as error:
            said = " ".join(str(error).split())[:200]
            raise Error(f"{steps} steps were asked for, which this scheduler can't make ({said}); give more") from None
        drawn = {"generator": list(generators)} if "generator" in inspect.signature(scheduler.step).parameters else {}
        both = states if guidance == 1 else torch.cat([unconditional.expand_as(states), states])
        times, x = scheduler.timesteps, noise.to(self._like) * scheduler.init_noise_sigma
        for done, t in enumerate(times, 1):
            read = scheduler.scale_model_input(x, t).to(self._like)
            predicted = self.unet(read if guidance == 1 else torch.cat([read] * 2), t, both.to(read)).sample
            if guidance != 1:
                without, within = predicted.chunk(2)
                predicted = guide(within, without, guidance)
            x = scheduler.step(predicted, t, x, return_dict=False, **drawn)[0]
            if on_step is not None:
                on_step(done, len(times))
        return x.to(self._like)

    @torch.no_grad()
    def draw(
        self,
        states: Float[Tensor, "batch positions dim"],
        unconditional: Float[Tensor, "any positions dim"],
        seeds: Sequence[int],
        *,
        steps: SupportsIndex = 50,
        guidance: Number = 7.5,
        size: int | tuple[int, int] | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Pictures in 0..1, one for each state and seed: an item's noise comes from its own seed, so it is the same
        picture alone and in a batch.

        unconditional: what guidance leads away from, the states of "" or of what is not wanted, `[batch or 1, ...]`.
        size: in pixels, of both sides or (height, width); None: as trained. Raises Error for steps, guidance or a size
        out of range and for seeds of another number, and whatever `on_step` raises.
        """
        how: dict[str, Any] = {"steps": self.check_steps(steps), "guidance": self.check_guidance(guidance)}
        if len(seeds) != len(states):
            raise Error(f"{len(seeds)} seeds were given for {len(states)} prompts; give one for each")
        height, width = self.sides(size)
        shape = self.channels, height // self.factor, width // self.factor
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        return self.decode(self.sample(noise, states, unconditional, generators, on_step=on_step, **how))

    def check_steps(self, steps: Any) -> int:
        """The number of steps as an int. Raises Error for one out of range."""
        steps = whole(steps, "the number of steps")
        if not 1 <= steps <= self.noising.times:
            raise Error(f"{steps} steps were asked for; give 1 to {self.noising.times}")
        return steps

    def check_guidance(self, guidance: Any) -> float:
        """The guidance as a float. Raises Error for one out of range."""
        weight = number(guidance, "guidance")
        if not (math.isfinite(weight) and 0 <= weight <= MOST_GUIDANCE):
            raise Error(f"guidance is {weight:g}; give a number from 0 to {MOST_GUIDANCE:g}")
        return weight

    def sides(self, size: Any) -> tuple[int, int]:
        """Height and width in pixels of what is asked for. Raises Error for what can't be drawn."""
        if size is None:
            return self.size
        try:
            height, width = size if isinstance(size, Sequence) else (size, size)
        except ValueError:
            raise Error(f"the size is {size!r:.60}; give one number of pixels or (height, width)") from None
        height, width = whole(height, "the height"), whole(width, "the width")
        self._check_size(height, width)
        return height, width

    def _check_size(self, height: int, width: int) -> None:
        if not all(0 < side <= MOST_PIXELS and side % self.factor == 0 for side in (height, width)):
            raise Error(
                f"pictures of {height} x {width} pixels can't be drawn; give multiples of {self.factor} up to "
                f"{MOST_PIXELS}"
            )

    # --- training of what gives the states

    def errors(
        self,
        states: Float[Tensor, "batch positions dim"],
        pictures: Float[Tensor, "batch 3 height width"],
        generator: torch.Generator,
        shard: BatchShard | None = None,
    ) -> Float[Tensor, " batch"]:
        """How badly the UNet denoises pictures under their states: for each the mean square of what it predicts (noise,
        velocity, or the picture, as it was trained) less what that is, at a time and with noise from `generator`.

        A `shard` draws for the whole batch and takes its own items. Raises Error as `latents`.
        """
        count = len(pictures) if shard is None else shard.items
        height, width = (side // self.factor for side in pictures.shape[-2:])
        shape = count, self.channels, height, width
        drawn = [torch.randn(shape, generator=generator) for _ in range(2)]
        drawn.append(torch.randint(self.noising.times, (count,), generator=generator))
        within, noise, t = (one if shard is None else shard.take(one) for one in drawn)
        with torch.no_grad():
            clean = self.latents(pictures, within)
        noise, t = noise.to(clean), t.to(clean.device)
        training = self.noising.training
        target = {
            "epsilon": lambda: noise,
            "v_prediction": lambda: training.get_velocity(clean, noise, t),
            "sample": lambda: clean,
        }[self.noising.target]()
        said = self.unet(training.add_noise(clean, noise, t), t, states.to(clean)).sample
        return (said - target).square().flatten(1).mean(1)
