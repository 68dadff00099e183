"""The task weights against their definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_kernels import softmax_weights

losses_and_validity = st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=1, max_size=12).map(
    lambda pairs: tuple(zip(*pairs, strict=True))
)


@settings(max_examples=100, deadline=None)
@given(values=losses_and_validity, alpha=st.floats(0, 20))
def test_weights_are_the_softmax_over_the_valid_tasks(values, alpha):
    losses, valid = torch.tensor(values[0], dtype=torch.float64), torch.tensor(values[1])
    weights = softmax_weights(losses, alpha, valid)
    expected = torch.zeros_like(losses)
    if valid.any():
        expected[valid] = torch.softmax(alpha * losses[valid], 0)
    torch.testing.assert_close(weights, expected)


def test_weights_are_detached_and_do_not_read_invalid_losses():
    losses = torch.tensor([1.0, float("nan"), 3.0], requires_grad=True)
    weights = softmax_weights(losses, 1.0, torch.tensor([True, False, True]))
    assert not weights.requires_grad
    torch.testing.assert_close(weights, torch.tensor([0.1192, 0.0, 0.8808]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("alpha", [-1.0, float("inf"), float("nan")])
def test_an_alpha_that_would_turn_the_weights_round_is_refused(alpha):
    with pytest.raises(ValueError, match="it must be finite and not below 0"):
        softmax_weights(torch.zeros(2), alpha, torch.ones(2, dtype=torch.bool))


def test_alpha_zero_weighs_alike_and_a_large_alpha_picks_the_worst():
    losses, valid = torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(softmax_weights(losses, 0.0, valid), torch.full((3,), 1 / 3))
    torch.testing.assert_close(softmax_weights(losses, 1e4, valid), torch.tensor([0.0, 0.0, 1.0]))


def test_the_weighted_gradient_is_that_of_the_smooth_maximum():
    """Σ w_t ∇L_t = ∇ (1/α) log mean exp(α L)."""
    alpha, x = 1.7, torch.randn(4, dtype=torch.float64, requires_grad=True)
    losses = torch.stack([(x**2).sum(), (x - 1).abs().sum(), (x.cos() * 2).sum()])
    weights = softmax_weights(losses, alpha, torch.ones(3, dtype=torch.bool))
    (step,) = torch.autograd.grad((weights * losses).sum(), x, retain_graph=True)
    (expected,) = torch.autograd.grad(torch.logsumexp(alpha * losses, 0) / alpha, x)
    torch.testing.assert_close(step, expected)
