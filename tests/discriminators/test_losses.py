"""What discriminators teach, by hand and against Lumen's own losses."""

import pytest
import torch

from cymatic.discriminators.losses import (
    discriminator_loss,
    feature_loss,
    generator_loss,
    matching_loss,
    persuasion_loss,
    repulsion_loss,
)
from cymatic.discriminators.output import collapse, score_statistics

REAL, FAKE = [(torch.tensor([[2.0, 0.5]]), [])], [(torch.tensor([[-2.0, 0.0]]), [])]


def test_hinge_by_hand():
    assert discriminator_loss(REAL, FAKE).item() == pytest.approx((0 + 0.5) / 2 + (0 + 1) / 2)
    assert generator_loss(FAKE).item() == pytest.approx((3 + 1) / 2)
    assert discriminator_loss(REAL * 3, FAKE * 3) == discriminator_loss(REAL, FAKE)


def test_least_squares_by_hand():
    assert discriminator_loss(REAL, FAKE, "squares").item() == pytest.approx((1 + 0.25) / 2 + 4 / 2)
    assert generator_loss(FAKE, "squares").item() == pytest.approx((9 + 1) / 2)
    ideal, fooled = [(torch.ones(1, 3), [])], [(torch.zeros(1, 3), [])]
    assert discriminator_loss(ideal, fooled, "squares") == 0 == generator_loss(ideal, "squares")


def test_melgans_by_hand():
    ones, twos = torch.ones(2, 3, 4), torch.full((2, 3, 4), 2.0)
    real = [(ones, [ones, ones, ones, ones])] * 2
    fake = [(twos, [ones, ones, twos, twos]), (0.5 * ones, [ones, ones, ones, twos])]
    assert persuasion_loss(fake).item() == pytest.approx(-2.5)
    # Four layers with features are two strided ones, so 4 / 3 each; two scales, so half of it.
    assert matching_loss(real, fake).item() == pytest.approx(3 * 4 / 3 / 2)


def test_features_are_compared_in_parts_of_their_size():
    real, fake = [torch.full((2, 3), 4.0), torch.ones(2, 3)], [torch.full((2, 3), 2.0), torch.full((2, 3), 4.0)]
    assert feature_loss([(torch.zeros(1), real)], [(torch.zeros(1), fake)]).item() == pytest.approx((0.5 + 3) / 2)


def test_repulsion_is_strong_where_a_judge_says_the_same_and_weak_elsewhere():
    same, apart = torch.zeros(2, 1, 5), torch.full((2, 1, 5), 0.999)
    assert repulsion_loss([(same, [])], [(same, [])]).item() == pytest.approx(1.0)
    assert repulsion_loss([(apart, [])], [(same, [])]).item() == pytest.approx(1e-3)
    assert repulsion_loss([(apart, [])] * 3, [(same, [])] * 3).item() == pytest.approx(3e-3)
    real = (1e-3 * torch.ones(2, 1, 5)).requires_grad_()
    repulsion_loss([(real, [])], [(same, [])]).backward()
    assert (real.grad < 0).all(), "a step downhill leads away from the score of the made ones"


@pytest.mark.parametrize("version", ["head", "repulsion"])
def test_the_discriminators_side_is_lumens(reference, version):
    lumen = reference("seed_losses")
    real, fake = (
        [(lumen.inputs[f"logits_{side}_{i}"].clone().requires_grad_(), []) for i in range(lumen.config["scales"])]
        for side in ("real", "fake")
    )
    loss = discriminator_loss(real, fake)
    if version == "repulsion":
        loss = loss + lumen.config["separation"] / 1e-3 * repulsion_loss(real, fake)
    loss.backward()
    lumen.agrees(f"{version}/discriminator_loss", loss)
    for side, outputs in (("real", real), ("fake", fake)):
        for i, (scores, _) in enumerate(outputs):
            name = f"{version}/grad_disc_wrt_{side}_logits_{i}"
            torch.testing.assert_close(scores.grad, lumen.expected[name], atol=float(lumen.atol[name]), rtol=1e-5)


@pytest.mark.parametrize("version", ["head", "repulsion"])
def test_the_generators_side_is_lumens(reference, version):
    lumen = reference("seed_losses")
    inputs, layers, scales = lumen.inputs, range(lumen.config["n_feats"]), lumen.config["scales"]
    # Theirs has |mean real + 1e-3| below each term, and lets a gradient into the real features; ours leaves out both.
    real = [(torch.zeros(1), [inputs[f"feat_real_{i}"] + 1e-3 for i in layers])]
    shifted = [inputs[f"feat_fake_{i}"].clone().requires_grad_() for i in layers]
    fake = [(inputs[f"logits_fake_{i}"], []) for i in range(scales)]
    fool = persuasion_loss(fake) / scales if version == "head" else generator_loss(fake)
    weight = lumen.config["feature_multiplier"]
    loss = fool + weight * feature_loss(real, [(torch.zeros(1), [f + 1e-3 for f in shifted])])
    loss.backward()
    lumen.agrees(f"{version}/generator_loss", loss)
    for i, feature in enumerate(shifted):
        lumen.agrees(f"{version}/grad_gen_wrt_fake_feat_{i}", feature.grad)


def outputs(mean, spread, count=200, seed=0):
    return mean + spread * torch.randn(2, 1, count, generator=torch.Generator().manual_seed(seed)), []


def test_a_collapsed_judge_is_found_out():
    constant = [score_statistics(outputs(0.7, 1e-4, seed=i), outputs(0.7, 1e-4, seed=-i - 1)) for i in range(5)]
    blind = [score_statistics(outputs(0.1 * i, 1.0, seed=i), outputs(0.1 * i, 1.0, seed=i)) for i in range(5)]
    wrong = [score_statistics(outputs(-1.0, 1.0, seed=i), outputs(1.0, 1.0, seed=-i - 1)) for i in range(5)]
    good = [score_statistics(outputs(0.5, 1.0, seed=i), outputs(-0.5, 1.0, seed=-i - 1)) for i in range(5)]
    certain = [score_statistics(outputs(1.0, 0.0), outputs(-1.0, 0.0)) for i in range(5)]
    assert [collapse(some) for some in (constant, blind, wrong, good, certain)] == [
        "constant",
        "blind",
        "blind",
        None,
        None,
    ]
