"""A pull towards latents that use all their numbers."""

import math

import torch

from cymatic.nn.whiteness import whiteness_loss


def test_white_latents_are_left_alone_and_others_are_not():
    white = torch.randn(8, 4, 5000)
    assert abs(whiteness_loss(white)) < 1e-3
    torch.testing.assert_close(whiteness_loss(2 * white), torch.tensor((4 - math.log(4) - 1) / 2), atol=0.01, rtol=0)
    twice = torch.cat([white[:, :1]] * 4, 1)
    assert whiteness_loss(twice) > 1  # each says what the three others say


def test_it_widens_what_is_narrow():
    z = torch.randn(4, 3, 200) * torch.tensor([2.0, 1e-3, 1.0])[:, None]
    z.requires_grad_()
    for _ in range(300):
        (gradient,) = torch.autograd.grad(whiteness_loss(z), z)
        z = (z - 200 * gradient).detach().requires_grad_()
    torch.testing.assert_close(z.detach().transpose(0, 1).flatten(1).std(1), torch.ones(3), atol=0.05, rtol=0)
