"""What else a generator is good for: to go on from something, to vary it, to draw a part anew, to blend, to measure.

`model` is a `pipelines.generate.Generator`, whose methods these are.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.errors import Error, ModelError
from cymatic.pipelines import grids
from cymatic.pipelines.asked import Prompt, check_count
from cymatic.priors import PRIORS
from cymatic.priors.progress import OnStep
from cymatic.scalars import Number, number, whole

IMPORTANCE = 32  # draws of a latent for a likelihood


def codes_of(model: Any, value: Any) -> tuple[Int[Tensor, "rows columns"], int]:
    """The codes of a recording, as many rows as the prior reads, and its length before it was coded.

    Raises ModelError for a model without a codec.
    """
    if model.codec is None:
        raise ModelError(f"{model.name} has no codes, for its prior makes {model.medium.nouns} directly; use another")
    if model.rows is None:
        raise ModelError(f"{model.name} has no codes, for its prior makes latents; use another")
    target = model.medium.prepare(value, model.spec)
    with torch.inference_mode():
        latent = model.codec.encode(target[None].float().to(next(model.codec.parameters()).device))
    if latent.codes is None:
        raise ModelError(f"the codec of {model.name} gives no codes")
    return latent.codes[0, : model.prior.config.rows], target.shape[-1]


def as_target(model: Any, value: Any) -> Tensor:
    """A value as the prior of a model knows it: as its codes, its latent, or what it is prepared as."""
    if model.rows is not None:
        return codes_of(model, value)[0]
    target: Tensor = model.medium.prepare(value, model.spec).float().to(model.prior.steps_trained.device)
    if model.codec is None:
        return target
    with torch.inference_mode():
        z: Tensor = model.codec.latent(target[None])[0]
    return z


def revocode(model: Any, value: Any) -> Any:
    """A recording through a model's codec and vocoder, as long as it was: what a perfect prior would give."""
    if model.codec is None:
        target = model.medium.prepare(value, model.spec)
    elif model.rows is None:
        z = as_target(model, value)
        (target,) = model.decoded(z[None], torch.tensor([z.shape[-1]]))
    else:
        codes, length = codes_of(model, value)
        with torch.inference_mode():
            target = model.codec.decode_codes(codes[None], torch.tensor([length]))[0]
    return revoiced(model, value, target)


def revoiced(model: Any, value: Any, target: Tensor) -> Any:
    """`target`, which stands for `value`, in the medium again, as long as `value`; nothing is faded or limited."""
    size = model.medium.prepare(value, model.gives).shape[-1]
    return model.restored([target], [model.stamp], size)[0]


def extend(
    model: Any,
    value: Any,
    *,
    prompt: Prompt | None = None,
    keep: Number | None = None,
    seconds: Number | None = None,
    seed: SupportsIndex = 0,
    n: SupportsIndex = 1,
    on_step: OnStep | None = None,
    **settings: Any,
) -> list[Any]:
    """`n` values that begin as `value` does and go on as the prior would.

    keep: how many seconds of it are kept, or of a picture which share of its height from above (otherwise half).
    seconds: the whole length (otherwise the model ends when it likes). prompt: what is wanted; without one, guidance is
    off. on_step: see `priors.progress`. What is kept of a sound comes back as its codec has it; of a picture, cut and
    resized as the model reads pictures, exactly. Raises Error where nothing would be left to keep or to add.
    """
    if model.spec.seconds(1) is None:
        return grids.extend(
            model, value, as_target(model, value), prompt=prompt, keep=keep, seconds=seconds, seed=seed, n=n,
            on_step=on_step, **settings,
        )  # fmt: skip
    n, seed = check_count(seed, n)
    keep = None if keep is None else number(keep, "what is kept")
    seconds = None if seconds is None else number(seconds, "the length in seconds")
    how = model.sampling(settings if prompt is not None else {**settings, "guidance": 1.0})
    codes, _ = codes_of(model, value)
    whole, longest = codes.shape[-1], int(model.prior.longest)
    column = model.spec.seconds(model.codec.length(2) - model.codec.length(1))
    assert column is not None
    most = min(whole, longest - 1)
    wanted = max(1, whole // 2) if keep is None else keep / column
    kept = round(wanted) if 0 <= wanted <= whole + 1 else 0  # neither NaN nor infinity can be rounded
    if not 1 <= kept <= most:
        raise Error(
            f"{wanted * column:.4g} s are to be kept; this model goes on from {column:.2f} to {most * column:.2f} s of "
            "that sound; give --keep in that range"
        )
    columns, size = (None, None) if seconds is None else model.asked(seconds)
    if columns is not None and columns <= kept:
        raise Error(f"{seconds:g} s were asked for, no more than is kept; give more seconds, or keep less")
    with torch.inference_mode():
        cond = None if prompt is None else model.condition(prompt).repeat(n)
        found, lengths = model.prior.sample(
            cond,
            range(seed, seed + n),
            lengths=None if columns is None else torch.full((n,), columns),
            start=codes[:, :kept].expand(n, -1, -1),
            on_step=on_step,
            **how.model_dump(),
        )
    info = {**model.info(prompt, how), "extends": f"{kept * column:.2f} s"}
    return model.finished(model.decoded(found, lengths), seed, info, size)


def blend(
    model: Any,
    first: Any,
    second: Any,
    *,
    steps: SupportsIndex = 5,
    prompt: Prompt | None = None,
    on_step: OnStep | None = None,
) -> list[Any]:
    """`steps` values from one to the other, evenly spaced in the latent of a GPT-VAE. on_step: see `priors.progress`.

    Raises ModelError where the prior has no latent, Error for fewer than 2 steps.
    """
    _check_latent(model, "blend")
    steps = whole(steps, "the number of steps")
    if not 2 <= steps <= 1000:
        raise Error(f"{steps} steps were asked for; give a number from 2 to 1000")
    how = model.sampling({} if prompt is not None else {"guidance": 1.0})
    with torch.inference_mode():
        a, b = (codes_of(model, value)[0] for value in (first, second))
        cond = None if prompt is None else model.condition(prompt)
        found, lengths = model.prior.blend(a, b, steps, cond=cond, on_step=on_step, **how.model_dump())
    info = {"blend": steps, **model.info(prompt, how)}
    return model.finished(model.decoded(found, lengths), 0, info)


def vary(
    model: Any,
    value: Any,
    *,
    n: SupportsIndex = 4,
    amount: Number = 0.5,
    seed: SupportsIndex = 0,
    prompt: Prompt | None = None,
    on_step: OnStep | None = None,
) -> list[Any]:
    """`n` values near `value`: in the latent of a GPT-VAE, or on a flow's path; `amount`: 0 stays there, 1 forgets it.

    prompt: what is wanted; without one, guidance is off. on_step: see `priors.progress`. Raises ModelError where the
    prior can't, Error for another amount.
    """
    check_verb(model, "vary")
    n, seed = check_count(seed, n)
    amount = number(amount, "the amount")
    if not 0 <= amount <= 1:
        raise Error(f"the amount is {amount:g}; give a number from 0 (stay there) to 1 (forget it)")
    how = model.sampling({} if prompt is not None else {"guidance": 1.0})
    with torch.inference_mode():
        cond = None if prompt is None else model.condition(prompt)
        found, lengths = model.prior.vary(
            as_target(model, value), n, amount, cond=cond, seed=seed, on_step=on_step, **how.model_dump()
        )
    info = {"varies": amount, **model.info(prompt, how)}
    return model.finished(model.decoded(found, lengths), seed, info)


def inpaint(
    model: Any,
    value: Any,
    mask: Any,
    *,
    n: SupportsIndex = 1,
    seed: SupportsIndex = 0,
    prompt: Prompt | None = None,
    on_step: OnStep | None = None,
    **settings: Any,
) -> list[Any]:
    """`n` pictures that are `value` where `mask` is black, exactly, and drawn anew where it is white.

    Both are cut and resized as the model reads pictures (on its background, and exactly as they are where they have its
    size already); where the mask is grey, the two are mixed by as much. A model over latents draws whole places anew
    and mixes pixels. prompt: what is wanted; without one, guidance is off. on_step: see `priors.progress`. Raises
    ModelError where the prior can't, Error for a mask of another size than `value`, and one with nothing white.
    """
    check_verb(model, "inpaint")
    return grids.inpaint(
        model, value, mask, as_target(model, value), n=n, seed=seed, prompt=prompt, on_step=on_step, **settings
    )


def nll(model: Any, value: Any, prompt: Prompt) -> tuple[float, int] | None:
    """The negative log-likelihood of a recording's codes under the prompt, in nats, and how many codes it has.

    Its end counts, too; of a GPT-VAE it is the bound that IMPORTANCE draws of the latent give. None of a model without
    codes, and for a recording longer than any that the prior was trained on.
    """
    if model.rows is None:
        return None
    codes, _ = codes_of(model, value)
    if codes.shape[-1] > int(model.prior.longest):
        return None
    columns = torch.tensor([codes.shape[-1]], device=codes.device)
    with torch.inference_mode():
        found = model.prior.nll(codes[None], columns, model.condition(prompt), torch.Generator().manual_seed(0))
    return float(found), codes.numel()


def posterior(model: Any, value: Any, prompt: Prompt) -> tuple[Tensor, Tensor] | None:
    """Mean and log variance `[1, latent]` of what a prior with a latent reads in a recording. None of one without, and
    for a recording longer than any that it was trained on."""
    if model.codec is None or not model.prior.has_latent:
        return None
    codes, _ = codes_of(model, value)
    if codes.shape[-1] > int(model.prior.longest):
        return None
    with torch.inference_mode():
        columns = torch.tensor([codes.shape[-1]], device=codes.device)
        found: tuple[Tensor, Tensor] = model.prior.encode(codes[None], columns, model.condition(prompt))
    return found


def attention(model: Any, value: Any, prompt: Prompt | None = None) -> list[Float[np.ndarray, "heads n n"]]:
    """How much each code of a recording attends to each before it, and to the condition, which comes first: a map for
    each head of each block (`media.plot.attention_sheet` draws them). Raises ModelError for a prior without such
    maps."""
    codes = codes_of(model, value)[0][:, : int(model.prior.longest)]
    if model.prior.has_latent:
        raise ModelError(f"{model.name} has a GPT-VAE; maps of attention are drawn of a GPT")
    with torch.inference_mode():
        maps = model.prior.attention_maps(codes[None], None if prompt is None else model.condition(prompt))
    return [one[0].cpu().numpy() for one in maps]


def check_verb(model: Any, verb: str) -> None:
    """Raises ModelError where the prior of a model can't do that (see `cymatic.priors`)."""
    if verb not in model.prior.verbs:
        kinds = [one.config_class.model_fields["kind"].default for one in PRIORS if verb in one.verbs]
        raise ModelError(
            f"{model.name} can't {verb}, for its prior ({model.prior.config.kind}) has no way to; use a model whose "
            f"prior is of the kind {' or '.join(kinds)}"
        )


def _check_latent(model: Any, verb: str) -> None:
    if model.codec is None or not model.prior.has_latent:
        raise ModelError(
            f"{model.name} can't {verb}, for its prior ({model.prior.config.kind}) has no latent; train one with "
            "--set prior.kind=gpt-vae"
        )
