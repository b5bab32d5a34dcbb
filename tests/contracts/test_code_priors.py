"""What every prior over codes promises. A new one is one more row in ROWS."""

import pytest
import torch
from torch.nn.functional import normalize

from cymatic.cond import Cond
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.priors import CODE_PRIORS
from cymatic.priors.gpt import GPTConfig, GPTPrior
from cymatic.priors.gpt_vae import GPTVAE, GPTVAEConfig

SHAPE = dict(codes=20, rows=3, longest=8, width=32, depth=2, heads=2, cond_dim=16)
LEARNED = dict(positions="learned", prefix=8)


def built(config: GPTConfig | GPTVAEConfig) -> GPTPrior | GPTVAE:
    torch.manual_seed(0)
    prior = next(p for p in CODE_PRIORS if p.config_class is type(config))(config)
    for p in prior.parameters():  # at first all codes are about as likely, which would hide what tells them apart
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.25)
    prior.steps_trained.fill_(1)
    return prior.eval()


ROWS = {
    "gpt": built(GPTConfig(**SHAPE)),
    "gpt, learned positions": built(GPTConfig(**SHAPE, **LEARNED)),
    "gpt-vae": built(GPTVAEConfig(decoder=GPTConfig(**SHAPE), latent=8)),
    "gpt-vae, learned positions": built(
        GPTVAEConfig(decoder=GPTConfig(**SHAPE, **LEARNED), pool="mean", reduction="mean", encoder_depth=1)
    ),
}
every_prior = pytest.mark.parametrize("prior", ROWS.values(), ids=ROWS)


def test_every_prior_is_here():
    assert {type(prior) for prior in ROWS.values()} == set(CODE_PRIORS)


def conds(lengths: list[int]) -> Cond:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(len(lengths), max(lengths), 16, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Cond(tokens, mask, normalize((tokens * mask[..., None]).sum(1), dim=-1))


def item(cond: Cond, i: int) -> Cond:
    n = int(cond.mask[i].sum())
    return Cond(cond.tokens[i : i + 1, :n], cond.mask[i : i + 1, :n], cond.vector[i : i + 1])


def grids(count: int, columns: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randint(20, (count, 3, columns), generator=torch.Generator().manual_seed(seed))


def gpt(prior: GPTPrior | GPTVAE) -> GPTPrior:
    return prior.decoder if isinstance(prior, GPTVAE) else prior


@every_prior
@pytest.mark.parametrize("how", [{}, {"guidance": 2.0}, {"top_k": 5, "temperature": 1.5}, {"top_p": 0.8}])
def test_a_batch_equals_its_items(prior, how):
    cond, seeds = conds([2, 5, 3, 1, 4]), [4, 5, 6, 7, 8]
    codes, columns = prior.sample(cond, seeds, **how)
    assert codes.shape == (5, 3, int(columns.max()))
    for i, seed in enumerate(seeds):
        alone, length = prior.sample(item(cond, i), [seed], **how)
        assert length == columns[i]
        assert torch.equal(alone[0], codes[i, :, : columns[i]])
        assert not codes[i, :, columns[i] :].any()


@every_prior
def test_padding_of_the_condition_reaches_nothing(prior):
    cond, codes = conds([2, 5, 3]), grids(3).mT.flatten(1)
    batch = gpt(prior)(codes, cond)
    for i in range(3):
        alone = gpt(prior)(codes[i : i + 1], item(cond, i))
        torch.testing.assert_close(batch[i : i + 1], alone, atol=1e-5, rtol=0)


@every_prior
def test_same_seed_same_result_and_other_seed_another(prior):
    cond = conds([4])
    torch.manual_seed(1)
    first, _ = prior.sample(cond, [7], columns=torch.tensor([8]))
    torch.manual_seed(2)
    again, _ = prior.sample(cond, [7], columns=torch.tensor([8]))
    other, _ = prior.sample(cond, [8], columns=torch.tensor([8]))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_prior
def test_guidance_one_is_no_guidance_and_zero_ignores_the_condition(prior):
    a, b = item(conds([4, 2]), 0), item(conds([4, 2]), 1)
    columns = torch.tensor([8])

    def sample(cond, guidance):
        return prior.sample(cond, [1], columns=columns, guidance=guidance)[0]

    assert torch.equal(sample(a, 1.0), sample(a, 1.0 + 1e-6))
    assert torch.equal(sample(a, 0.0), sample(b, 0.0))
    assert torch.equal(sample(a, 0.0), sample(a.null(), 1.0))
    assert not torch.equal(sample(a, 1.0), sample(b, 1.0)), "the condition must reach the result"


@every_prior
def test_a_dropped_condition_is_as_none_at_all(prior):
    a = conds([4, 2])
    codes = grids(2).mT.flatten(1)
    torch.testing.assert_close(gpt(prior)(codes, a.null()), gpt(prior)(codes, None), atol=1e-5, rtol=0)


@every_prior
def test_the_end_comes_only_where_a_column_begins(prior):
    logits = gpt(prior)(grids(2, 8).mT.flatten(1), conds([3, 2]))
    assert logits.shape == (2, 25, 21)
    can_end = logits[..., -1].isfinite().all(0).nonzero().squeeze(1)
    assert can_end.tolist() == [3, 6, 9, 12, 15, 18, 21]
    _, columns = prior.sample(conds([3]).repeat(40), range(40))
    assert columns.min() >= 1
    assert columns.max() <= 8
    assert len(columns.unique()) > 1, "some must end early for this to show anything"


@every_prior
@pytest.mark.parametrize("how", [{"greedy": True}, {}, {"guidance": 3.0}])
def test_columns_that_are_asked_for_are_made(prior, how):
    wanted = torch.tensor([8, 1, 5])
    codes, columns = prior.sample(conds([3, 2, 2]), [1, 2, 3], columns=wanted, **how)
    assert torch.equal(columns, wanted)
    assert codes.shape == (3, 3, 8)
    assert not codes[1, :, 1:].any()


@every_prior
def test_what_is_begun_is_continued_as_if_it_had_been_sampled(prior):
    cond, wanted = conds([3, 2]), torch.tensor([8, 7])
    whole, _ = prior.sample(cond, [1, 2], columns=wanted)
    for begun in (1, 4, 7):
        again, columns = prior.sample(cond, [1, 2], columns=wanted, start=whole[:, :, :begun])
        assert torch.equal(again, whole)
        assert torch.equal(columns, wanted)
    mine = grids(2, 4, seed=5)
    assert torch.equal(prior.sample(cond, [1, 2], start=mine)[0][:, :, :4], mine)


@every_prior
def test_padding_does_not_reach_the_loss(prior):
    cond, columns, codes = conds([3, 3]), torch.tensor([6, 4]), grids(2)
    losses = []
    for fill in (0, 19):
        padded = torch.nn.functional.pad(codes, (0, 1), value=fill)
        padded[1, :, 4:] = fill
        losses.append(prior.loss(padded, columns, cond, torch.Generator().manual_seed(0))["loss"])
    torch.testing.assert_close(*losses)


@every_prior
def test_a_gradient_reaches_every_parameter(prior):
    cond = conds([3, 5, 4, 2]).drop(0.5, torch.Generator().manual_seed(0))
    assert cond.tokens_dropped.any() and not cond.tokens_dropped.all()
    prior.zero_grad()
    prior.loss(grids(4), torch.tensor([6, 5, 1, 6]), cond, torch.Generator())["loss"].backward()
    without = [name for name, p in prior.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without
    prior.zero_grad(set_to_none=True)


@every_prior
def test_what_is_saved_is_loaded(prior, tmp_path):
    save_part(tmp_path / "prior", prior)
    again = load_part(tmp_path / "prior", CODE_PRIORS)
    assert again.config == prior.config
    assert again.steps_trained == 1
    cond = conds([3, 2])
    assert torch.equal(again.sample(cond, [1, 2])[0], prior.sample(cond, [1, 2])[0])


@every_prior
def test_a_prior_that_was_never_trained_refuses(prior):
    prior.steps_trained.zero_()
    try:
        with pytest.raises(ModelError, match="never trained"):
            prior.sample(conds([2]), [0])
        prior.sample(conds([2]), [0], allow_untrained=True)
    finally:
        prior.steps_trained.fill_(1)


@pytest.mark.parametrize(
    ("row", "codes", "columns", "message"),
    [
        ("gpt", torch.full((1, 3, 4), 20), [4], "codes from 20 to 20 .* 0 to 19"),
        ("gpt", torch.zeros(1, 4, 4, dtype=torch.int64), [4], "4 rows .* 3 rows"),
        ("gpt", torch.zeros(1, 3, 9, dtype=torch.int64), [9], "9 columns .* 1 to 8 columns"),
        ("gpt-vae", torch.zeros(1, 3, 4, dtype=torch.int64), [5], "columns of \\[5\\]"),
        ("gpt-vae", torch.full((1, 3, 4), -1), [4], "codes from -1"),
    ],
)
def test_codes_that_can_not_be_are_named(row, codes, columns, message):
    with pytest.raises(Error, match=message):
        ROWS[row].loss(codes, torch.tensor(columns), conds([2]), torch.Generator())


@every_prior
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"columns": torch.tensor([9])}, "1 to 8|0 to 8"),
        ({"columns": torch.tensor([2]), "start": torch.zeros(1, 3, 4, dtype=torch.int64)}, "4 to 8"),
        ({"start": torch.zeros(2, 3, 4, dtype=torch.int64)}, "2 items to continue"),
        ({"temperature": 0.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
    ],
)
def test_what_can_not_be_asked_for_is_named(prior, how, message):
    with pytest.raises(Error, match=message):
        prior.sample(conds([2]), [0], **how)


@every_prior
def test_conditions_that_can_not_be_read_are_named(prior):
    wide = Cond(torch.zeros(1, 2, 9), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(Error, match=r"9 wide .* reads 16"):
        prior.sample(wide, [0])
    with pytest.raises(Error, match="2 conditions came for 1"):
        prior.sample(conds([2, 3]), [0])
