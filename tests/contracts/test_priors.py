"""What every prior promises. A new one is one more row in ROWS, with targets of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch.nn.functional import normalize, pad

from cymatic.cond import Cond
from cymatic.errors import Cancelled, Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.latent import TargetFacts
from cymatic.media.picture import PictureSpec
from cymatic.media.wave_spec import WaveSpec
from cymatic.priors import PRIORS, Prior
from cymatic.priors.flow import FlowConfig, FlowPrior
from cymatic.priors.gpt import GPTConfig, GPTPrior
from cymatic.priors.gpt_vae import GPTVAE, GPTVAEConfig
from cymatic.priors.grid_flow import GridFlowConfig, GridFlowPrior
from cymatic.priors.masked import MaskedConfig, MaskedPrior
from cymatic.priors.order import flatten
from cymatic.priors.seq2seq import Seq2SeqConfig
from cymatic.signal.mel import MelSpec
from cymatic.training.stages import PriorPart

SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=10, fmax=4000)
SHAPE = dict(codes=20, rows=3, longest=8, width=32, depth=2, heads=2, cond_dim=16)
LEARNED = dict(positions="learned", prefix=8)
PICTURE = dict(order="row-major", end=False)
WHOLE = (8, 8, 8)  # columns of priors over grids of one size


@dataclass(frozen=True)
class Row:
    """A prior; lengths: of the batches here, in its own units; often: settings with which it is drawn many times;
    tolerance: how far a batch may be from its items, in the target's units."""

    prior: Prior
    lengths: tuple[int, int, int]
    often: dict[str, Any]
    tolerance: float = 0.0

    def target(self, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        if isinstance(self.prior, FlowPrior):
            return torch.randn(3, 10, max(self.lengths), generator=generator)
        if isinstance(self.prior, GridFlowPrior):
            return torch.randn(3, *self.prior.config.shape, generator=generator)
        return torch.randint(20, (3, 3, max(self.lengths)), generator=generator)

    def sample(self, *args: Any, **settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self.prior.sample(*args, **{**self.often, **settings})


def flow(patch: int) -> Row:
    torch.manual_seed(0)
    prior = FlowPrior(FlowConfig(mel=SPEC, cond_dim=16, width=32, depth=2, heads=2, patch=patch))
    for p in prior.parameters():  # zero-initialised layers would hide what flows through them
        torch.nn.init.normal_(p, std=0.1)
    prior.fit_statistics([torch.randn(10, 30) * 2 - 5])
    prior.steps_trained.fill_(1)
    return Row(prior.eval(), (7, 30, 12), {"steps": 2, "guidance_interval": (0.0, 1.0)}, 1e-5)


def grid_flow(**over: Any) -> Row:
    torch.manual_seed(0)
    prior = GridFlowPrior(GridFlowConfig(cond_dim=16, width=32, depth=2, heads=2, **over))
    for p in prior.parameters():
        torch.nn.init.normal_(p, std=0.1)
    shape = prior.config.shape
    prior.fit_statistics(list(torch.randn(3, *shape) * 2 - 5))
    prior.steps_trained.fill_(1)
    return Row(prior.eval(), (shape[2],) * 3, {"steps": 2, "guidance_interval": (0.0, 1.0)}, 1e-5)


def codes(config: Any, lengths: tuple[int, int, int] = (8, 1, 5)) -> Row:
    torch.manual_seed(0)
    prior = next(one for one in PRIORS if one.config_class is type(config))(config)
    for p in prior.parameters():  # at first all codes are about as likely, which would hide what tells them apart
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.25)
    prior.steps_trained.fill_(1)
    return Row(prior.eval(), lengths, {})


ROWS = {
    "flow, patch 1": flow(1),
    "flow, patch 2": flow(2),
    "flow, patch 3": flow(3),
    "grid flow over latents": grid_flow(grid=(5, 4, 4)),
    "grid flow over latents, patch 2": grid_flow(grid=(5, 6, 6), patch=2),
    "grid flow over pictures": grid_flow(picture=PictureSpec(size=8), patch=4),
    "gpt": codes(GPTConfig(**SHAPE)),
    "gpt, learned positions": codes(GPTConfig(**SHAPE, **LEARNED)),
    "gpt over pictures": codes(GPTConfig(**SHAPE, **PICTURE), (8, 8, 8)),
    "gpt over pictures, learned positions": codes(GPTConfig(**SHAPE, **PICTURE, **LEARNED), (8, 8, 8)),
    "gpt-vae": codes(GPTVAEConfig(decoder=GPTConfig(**SHAPE), latent=8)),
    "gpt-vae, learned positions": codes(
        GPTVAEConfig(decoder=GPTConfig(**SHAPE, **LEARNED), pool="mean", reduction="mean", encoder_depth=1)
    ),
    "gpt-vae over pictures": codes(GPTVAEConfig(decoder=GPTConfig(**SHAPE, **PICTURE), latent=8), (8, 8, 8)),
    "seq2seq": codes(Seq2SeqConfig(**SHAPE), WHOLE),
    "seq2seq, as bart": codes(Seq2SeqConfig(**SHAPE, style="bart", encoder_heads=4, encoder_hidden=24), WHOLE),
    "masked": codes(MaskedConfig(**SHAPE), WHOLE),
    "masked, by halton": replace(codes(MaskedConfig(**SHAPE), WHOLE), often={"order": "halton", "steps": 6}),
}
OVER_CODES = {name: row for name, row in ROWS.items() if row.prior.config.over == "codes"}
SEQUENTIAL = {name: row for name, row in OVER_CODES.items() if not isinstance(row.prior, MaskedPrior)}
OF_ANY_LENGTH = {name: row for name, row in ROWS.items() if row.lengths[0] != row.lengths[1]}
PREVIEWED = {name: row for name, row in ROWS.items() if "preview" in row.prior.verbs}
every_prior = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
every_code_prior = pytest.mark.parametrize("row", OVER_CODES.values(), ids=OVER_CODES)
every_sequential_prior = pytest.mark.parametrize("row", SEQUENTIAL.values(), ids=SEQUENTIAL)
every_preview = pytest.mark.parametrize("row", PREVIEWED.values(), ids=PREVIEWED)
every_prior_of_any_length = pytest.mark.parametrize("row", OF_ANY_LENGTH.values(), ids=OF_ANY_LENGTH)


def conds(lengths: list[int]) -> Cond:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(len(lengths), max(lengths), 16, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Cond(tokens, mask, normalize((tokens * mask[..., None]).sum(1), dim=-1))


def item(cond: Cond, i: int) -> Cond:
    assert cond.tokens is not None and cond.mask is not None and cond.vector is not None
    n = int(cond.mask[i].sum())
    return Cond(cond.tokens[i : i + 1, :n], cond.mask[i : i + 1, :n], cond.vector[i : i + 1])


def gpt(row: Row) -> Any:
    """What gives the logits of each code."""
    return row.prior.decoder if isinstance(row.prior, GPTVAE) else row.prior


def sequence_of(row: Row, target: torch.Tensor) -> torch.Tensor:
    """The codes in the order in which that reads them."""
    return flatten(target, gpt(row).config.order if isinstance(gpt(row), GPTPrior) else "row-major")


def beyond(row: Row, target: torch.Tensor) -> bool:
    """Whether all of it is what a prior fills an item up with."""
    silence = SPEC.silence if isinstance(row.prior, FlowPrior) else 0
    return bool((target == silence).all())


def test_every_prior_is_here():
    assert {type(row.prior) for row in ROWS.values()} == set(PRIORS)


@every_prior
def test_what_tells_it_apart_is_an_attribute(row):
    prior = row.prior
    assert prior.config.cond_dim == 16 and int(prior.steps_trained) == 1
    assert int(prior.longest) == max(row.lengths)
    assert prior.measured in prior.loss(row.target(), torch.tensor(row.lengths), conds([2, 5, 3]), torch.Generator())
    assert prior.sampling().guidance > 1
    inside = {id(p) for p in prior.parameters()}
    weights = prior.matrices()
    assert len(weights) >= 8 and all(p.dim() == 2 and id(p) in inside for p in weights)
    assert len({id(p) for p in weights}) == len(weights)
    again = TypeAdapter(PriorPart).validate_python(prior.config.model_dump(mode="json"))
    assert again == prior.config and type(again) is prior.config_class


@every_prior
def test_what_training_asks_of_a_prior(row):
    prior, longest = row.prior, int(row.prior.longest)
    assert prior.fits(longest) and prior.fits(longest + 1) == isinstance(prior, FlowPrior)
    more, fewer = torch.tensor([3, 5, 4]), torch.tensor([3, 5])
    assert prior.weight_of(more) > prior.weight_of(fewer) >= prior.weight_of(torch.tensor([3, 4])) > 0
    assert prior.measuring_rounds >= 1
    config = prior.config
    assert (config.reads is None) == (config.over in ("codes", "latents"))
    if config.over == "codes":
        facts = TargetFacts(WaveSpec(rate=8000), sizes=(30, 30), longest=9, cond_dim=24)
        fitted = config.fitted(facts)
        assert [fitted.size(i) for i in range(fitted.rows)] == [30, 30]
    elif config.over == "latents":
        facts = TargetFacts(WaveSpec(rate=8000), shape=(3, 12, 12), longest=12, cond_dim=24)
        fitted = config.fitted(facts)
        assert fitted.shape == (3, 12, 12) and not config.names_its_spec
    elif isinstance(config, GridFlowConfig):
        facts = TargetFacts(PictureSpec(size=16), longest=16, cond_dim=24)
        fitted = config.fitted(facts)
        assert fitted.reads == facts.spec and fitted.shape == (3, 16, 16)
        assert config.names_its_spec and config.reading(facts.spec).reads == facts.spec
    else:
        assert config.names_its_spec and config.reading(config.reads) == config
        assert not type(config)().names_its_spec
        facts = TargetFacts(SPEC.model_copy(update={"mels": 12}), longest=9, cond_dim=24)
        fitted = config.fitted(facts)
        assert fitted.reads == facts.spec and config.reading(facts.spec).reads == facts.spec
    assert fitted.cond_dim == 24 and config.cond_dim == 16


@every_prior
@torch.inference_mode()
def test_it_goes_on_from_another_of_its_kind(row):
    """From all of its weights, or a GPT-VAE from its encoder's, with which its second stage begins."""
    config, longest = row.prior.config, int(row.prior.longest)
    other = type(row.prior)(config).eval()
    other.take_over(row.prior, longest)
    taken = "encoder." if isinstance(row.prior, GPTVAE) else ""
    weights = {name: p for name, p in row.prior.named_parameters() if name.startswith(taken)}
    assert len(weights) > 10
    assert all(torch.equal(p, weights[name]) for name, p in other.named_parameters() if name.startswith(taken))
    shape = config.decoder if isinstance(config, GPTVAEConfig) else config
    wider = shape.model_copy(update={"width": 64})
    wider = config.model_copy(update={"decoder": wider}) if isinstance(config, GPTVAEConfig) else wider
    with pytest.raises(Error, match=r"to go on from|differ in size"):
        type(row.prior)(wider).take_over(row.prior, longest)


@every_prior
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@torch.inference_mode()
def test_a_batch_equals_its_items(row, guidance):
    cond, lengths, seeds = conds([2, 5, 3]), torch.tensor(row.lengths), [4, 5, 6]
    made, found = row.sample(cond, seeds, lengths=lengths, guidance=guidance)
    assert made.shape == row.target().shape
    assert torch.equal(found, lengths)
    for i, n in enumerate(row.lengths):
        alone, _ = row.sample(item(cond, i), [seeds[i]], lengths=lengths[i : i + 1], guidance=guidance)
        torch.testing.assert_close(made[i : i + 1, :, :n], alone, atol=row.tolerance, rtol=0)
        assert beyond(row, made[i, :, n:])


@every_prior
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@torch.inference_mode()
def test_a_batch_whose_lengths_are_drawn_equals_its_items(row, guidance):
    cond, seeds = conds([2, 5, 3, 1, 4]), [4, 5, 6, 7, 8]
    made, lengths = row.sample(cond, seeds, guidance=guidance)
    assert made.shape[2] == int(lengths.max()) <= int(row.prior.longest)
    for i, seed in enumerate(seeds):
        alone, length = row.sample(item(cond, i), [seed], guidance=guidance)
        assert length == lengths[i]
        torch.testing.assert_close(made[i : i + 1, :, : lengths[i]], alone, atol=row.tolerance, rtol=0)
        assert beyond(row, made[i, :, lengths[i] :])


@every_prior
@torch.inference_mode()
def test_same_seed_same_result_and_other_seed_another(row):
    cond, lengths = conds([4]), torch.tensor([max(row.lengths)])
    torch.manual_seed(1)
    first, _ = row.sample(cond, [7], lengths=lengths)
    torch.manual_seed(2)
    again, _ = row.sample(cond, [7], lengths=lengths)
    other, _ = row.sample(cond, [8], lengths=lengths)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_prior
@torch.inference_mode()
def test_guidance_one_is_no_guidance_and_zero_ignores_the_condition(row):
    a, b = item(conds([4, 2]), 0), item(conds([4, 2]), 1)
    lengths = torch.tensor([max(row.lengths)])

    def sample(cond: Cond, guidance: float) -> torch.Tensor:
        return row.sample(cond, [1], lengths=lengths, guidance=guidance)[0]

    torch.testing.assert_close(sample(a, 1.0), sample(a, 1.0 + 1e-6), atol=100 * row.tolerance, rtol=0)
    torch.testing.assert_close(sample(a, 0.0), sample(b, 0.0), atol=row.tolerance, rtol=0)
    torch.testing.assert_close(sample(a, 0.0), sample(a.null(), 1.0), atol=row.tolerance, rtol=0)
    heard = (sample(a, 1.0) - sample(b, 1.0)).abs().max()
    assert heard > 100 * row.tolerance, "the condition must reach the result"


@every_prior
@torch.inference_mode()
def test_steps_are_told_and_what_a_listener_raises_ends_them(row):
    told: list[tuple[int, int]] = []
    cond, lengths = conds([2, 5, 3]), torch.tensor(row.lengths)
    followed, _ = row.sample(cond, [1, 2, 3], lengths=lengths, on_step=lambda done, total: told.append((done, total)))
    total = told[0][1]
    assert told == [(done, total) for done in range(1, total + 1)]
    assert torch.equal(followed, row.sample(cond, [1, 2, 3], lengths=lengths)[0])

    def cancel(done: int, total: int) -> None:
        told.append((done, total))
        raise Cancelled("nobody waits any more")

    told.clear()
    with pytest.raises(Cancelled, match="nobody waits"):
        row.sample(cond, [1, 2, 3], lengths=lengths, on_step=cancel)
    assert told == [(1, total)]


@every_preview
@torch.inference_mode()
def test_estimates_end_in_the_result_and_change_nothing(row):
    told: list[Any] = []
    cond, seeds = conds([2, 5, 3]), [1, 2, 3]
    made, lengths = row.sample(cond, seeds, on_estimate=lambda *one: told.append(one))
    again, _ = row.sample(cond, seeds)
    assert torch.equal(made, again)
    total = told[0][1]
    assert [one[:2] for one in told] == [(done, total) for done in range(1, len(told) + 1)]
    assert len(told) == total or (lengths < total).all(), "an end may come sooner"
    for _, _, found, columns in told:
        assert len(found) == len(columns) == 3 and bool((columns <= lengths).all())
    if row.prior.config.over == "codes":
        assert torch.equal(told[-1][2], made) and torch.equal(told[-1][3], lengths)


@every_sequential_prior
@torch.inference_mode()
def test_an_estimate_of_codes_is_what_is_made_so_far(row):
    told: list[Any] = []
    cond, seeds, rows = conds([2, 5, 3]), [1, 2, 3], row.lengths == WHOLE
    made, lengths = row.sample(cond, seeds, on_estimate=lambda *one: told.append(one))
    for done, _, found, columns in told:
        assert torch.equal(found, made[:, :done] if rows else made[:, :, :done])
        assert torch.equal(columns, lengths if rows else lengths.clamp_max(done))
    told.clear()
    start = made[:, :1] if rows else made[:, :, :1]
    row.sample(cond, seeds, start=start, on_estimate=lambda *one: told.append(one))
    assert told[0][0] == 1 and told[0][2].shape[1 if rows else 2] == 2, "what is begun is counted on from"


@every_prior_of_any_length
@torch.inference_mode()
def test_lengths_are_drawn_within_what_was_trained_on(row):
    _, lengths = row.sample(conds([4]).repeat(50), range(50))
    assert lengths.min() >= 1
    assert lengths.max() <= int(row.prior.longest)
    assert lengths.unique().numel() > 1


@every_prior_of_any_length
def test_padding_does_not_reach_the_loss(row):
    target, losses = row.target(), []
    lengths = torch.tensor(row.lengths).clamp(max=max(row.lengths) - 3)
    for fill in (0, 19):
        padded = pad(target[..., :-2], (0, 1), value=fill)
        for one, n in zip(padded, lengths.tolist(), strict=True):
            one[:, n:] = fill
        losses.append(row.prior.loss(padded, lengths, conds([3, 3, 2]), torch.Generator().manual_seed(0))["loss"])
    torch.testing.assert_close(*losses)


@every_prior
def test_a_gradient_reaches_every_parameter(row):
    cond = conds([3, 5, 4]).drop(0.5, torch.Generator().manual_seed(0))
    assert cond.tokens_dropped is not None and cond.tokens_dropped.any() and not cond.tokens_dropped.all()
    row.prior.zero_grad()
    row.prior.loss(row.target(), torch.tensor(row.lengths), cond, torch.Generator(), step=100)["loss"].backward()
    without = [name for name, p in row.prior.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without
    row.prior.zero_grad(set_to_none=True)


@every_prior
def test_what_is_saved_is_loaded(row, tmp_path):
    save_part(tmp_path / "prior", row.prior)
    again = load_part(tmp_path / "prior", PRIORS)
    assert again.config == row.prior.config
    assert int(again.steps_trained) == 1
    cond = conds([3, 2])
    with torch.inference_mode():
        assert torch.equal(again.sample(cond, [1, 2], **row.often)[0], row.sample(cond, [1, 2])[0])


@every_prior
def test_a_prior_that_was_never_trained_refuses(row):
    row.prior.steps_trained.zero_()
    try:
        with pytest.raises(ModelError, match="never trained"):
            row.sample(conds([2]), [0])
        row.sample(conds([2]), [0], allow_untrained=True)
    finally:
        row.prior.steps_trained.fill_(1)


@every_prior
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": -1.0}, '"guidance" is -1.0: input should be greater than or equal to 0'),
        ({"guidance": float("nan")}, '"guidance" is nan'),
        ({"volume": 2}, 'unknown key "volume"'),
    ],
)
def test_settings_that_can_not_be_are_named(row, settings, message):
    with pytest.raises(Error, match=message):
        row.sample(conds([2]), [0], **settings)


# What priors over codes promise, too.


@every_code_prior
@pytest.mark.parametrize("how", [{"top_k": 5, "temperature": 1.5}, {"top_p": 0.8}, {"greedy": True}])
def test_a_batch_equals_its_items_however_codes_are_drawn(row, how):
    cond, seeds = conds([2, 5, 3, 1, 4]), [4, 5, 6, 7, 8]
    made, columns = row.sample(cond, seeds, guidance=1.0, **how)
    for i, seed in enumerate(seeds):
        alone, length = row.sample(item(cond, i), [seed], guidance=1.0, **how)
        assert length == columns[i]
        assert torch.equal(alone[0], made[i, :, : columns[i]])


@every_code_prior
@torch.inference_mode()
def test_what_editing_asks_of_a_prior(row):
    """Likelihood, and either a latent with its verbs or maps of attention."""
    prior, codes, cond = row.prior, row.target()[:1], conds([3])
    columns = torch.tensor([codes.shape[-1]])
    assert float(prior.nll(codes, columns, cond, torch.Generator().manual_seed(0))) > 0
    if not prior.has_latent:
        assert all(one.shape == one.mT.shape for one in prior.attention_maps(codes, cond))
        return
    mean, log_var = prior.encode(codes, columns, cond)
    assert mean.shape == log_var.shape == (1, prior.latent)
    assert prior.vary(codes[0], 2, 0.5, cond=cond, seed=0)[0].shape[0] == 2
    assert prior.blend(codes[0], codes[0], 3, cond=cond)[0].shape[0] == 3


@every_code_prior
def test_padding_of_the_condition_reaches_nothing(row):
    cond, sequence = conds([2, 5, 3]), sequence_of(row, row.target())[:, :-1]
    batch = gpt(row)(sequence, cond)
    for i in range(3):
        alone = gpt(row)(sequence[i : i + 1], item(cond, i))
        torch.testing.assert_close(batch[i : i + 1], alone, atol=1e-5, rtol=0)


@every_code_prior
def test_a_dropped_condition_is_as_none_at_all(row):
    a, sequence = conds([4, 2, 3]), sequence_of(row, row.target())[:, :-1]
    torch.testing.assert_close(gpt(row)(sequence, a.null()), gpt(row)(sequence, None), atol=1e-5, rtol=0)


@every_sequential_prior
def test_the_end_comes_only_where_a_column_begins(row):
    model = gpt(row)
    logits = model(sequence_of(row, row.target())[:, :-1], conds([3, 2, 4]))
    if not (isinstance(model, GPTPrior) and model.config.end):
        assert logits.shape == (3, 24, 20), "no end, no choice of one"
        return
    assert logits.shape == (3, 24, 21)
    can_end = logits[..., -1].isfinite().all(0).nonzero().squeeze(1)
    assert can_end.tolist() == [3, 6, 9, 12, 15, 18, 21]


@every_sequential_prior
def test_what_is_begun_is_continued_as_if_it_had_been_sampled(row):
    cond, wanted = conds([3, 2, 4]), torch.tensor([8, 8, 8])
    whole, _ = row.sample(cond, [1, 2, 3], lengths=wanted)
    rows = row.lengths == WHOLE
    for begun in (1, 2) if rows else (1, 4, 7):
        start = whole[:, :begun] if rows else whole[:, :, :begun]
        again, columns = row.sample(cond, [1, 2, 3], lengths=wanted, start=start)
        assert torch.equal(again, whole)
        assert torch.equal(columns, wanted)


@pytest.mark.parametrize(
    ("name", "codes", "columns", "message"),
    [
        ("gpt", torch.full((1, 3, 4), 20), [4], "codes from 20 to 20 .* 0 to 19"),
        ("gpt", torch.zeros(1, 4, 4, dtype=torch.int64), [4], "4 rows .* 3 rows"),
        ("gpt", torch.zeros(1, 3, 9, dtype=torch.int64), [9], "9 columns .* 1 to 8 columns"),
        ("gpt over pictures", torch.zeros(1, 3, 4, dtype=torch.int64), [4], "4 columns .* 8 to 8 columns"),
        ("gpt-vae", torch.zeros(1, 3, 4, dtype=torch.int64), [5], "lengths of \\[5\\]"),
        ("gpt-vae", torch.full((1, 3, 4), -1), [4], "codes from -1"),
    ],
)
def test_codes_that_can_not_be_are_named(name, codes, columns, message):
    with pytest.raises(Error, match=message):
        ROWS[name].prior.loss(codes, torch.tensor(columns), conds([2]), torch.Generator())


@every_code_prior
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"lengths": torch.tensor([9])}, r"lengths of \[9\]"),
        ({"lengths": torch.tensor([2]), "start": torch.zeros(1, 3, 4, dtype=torch.int64)}, "4 to 8|8 to 8"),
        ({"start": torch.zeros(2, 3, 8, dtype=torch.int64)}, "2 items to continue"),
        ({"temperature": 0.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
    ],
)
def test_what_can_not_be_asked_for_is_named(row, how, message):
    with pytest.raises(Error, match=message):
        row.sample(conds([2]), [0], **how)


@every_code_prior
def test_conditions_that_can_not_be_read_are_named(row):
    wide = Cond(torch.zeros(1, 2, 9), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(Error, match=r"9 wide .* reads 16"):
        row.sample(wide, [0])
    with pytest.raises(Error, match="2 conditions came for 1"):
        row.sample(conds([2, 3]), [0])
