"""Losses and gradients of the chunked head, against torch's cross-entropy in fp64."""

import pytest
import torch
from torch import nn

from siglip_study.models import fast_layers
from siglip_study.models.fast_layers import head_cross_entropy

N, WIDTH, VOCABULARY = 7, 16, 50


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(N, WIDTH, generator=generator)
    targets = torch.randint(VOCABULARY, (N,), generator=generator)
    weights = torch.rand(N, generator=generator)
    head = nn.Linear(WIDTH, VOCABULARY, bias=True).requires_grad_(False)
    nn.init.normal_(head.weight, generator=generator)
    nn.init.normal_(head.bias, generator=generator)
    return hidden, head, targets, weights


def reference(hidden, head, targets, weights):
    hidden = hidden.double().requires_grad_()
    logits = hidden @ head.weight.double().T + head.bias.double()
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    (losses * weights).sum().backward()
    return losses.detach(), hidden.grad


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_losses_and_gradients_are_those_of_the_full_logits(case, chunk, monkeypatch):
    monkeypatch.setattr(fast_layers, "CHUNK", chunk)
    hidden, head, targets, weights = case
    hidden = hidden.clone().requires_grad_()
    losses = head_cross_entropy(hidden, head, targets)
    (losses * weights).sum().backward()
    expected, gradient = reference(hidden.detach(), head, targets, weights)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hidden.grad.double(), gradient, rtol=1e-5, atol=1e-6)
    assert head.weight.grad is None


def test_no_gradient_is_made_where_none_is_wanted(case):
    hidden, head, targets, _ = case
    losses = head_cross_entropy(hidden, head, targets)
    assert not losses.requires_grad
    with torch.no_grad():
        again = head_cross_entropy(hidden.clone().requires_grad_(), head, targets)
    torch.testing.assert_close(losses, again, rtol=0, atol=0)


def test_a_bf16_head_gives_fp32_losses_of_its_logits(case):
    hidden, head, targets, _ = case
    head = head.to(torch.bfloat16)
    losses = head_cross_entropy(hidden, head, targets)
    assert losses.dtype == torch.float32
    logits = head(hidden.bfloat16()).float()
    expected = nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)


def test_logits_far_from_zero_do_not_overflow():
    head = nn.Linear(1, 3, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    hidden = torch.tensor([[1e4]], requires_grad=True)
    losses = head_cross_entropy(hidden, head, torch.tensor([0]))
    losses.sum().backward()
    assert losses.item() == 0.0 and hidden.grad.item() == 0.0
