"""The loss kernel against a slow loop in float64, and the weights against their definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_kernels import IGNORED_LABEL, softmax_weights, task_loss_sums

NO_TASK = 255


def slow_task_loss_sums(hidden, weight, bias, labels, task_ids, num_tasks):
    """One row at a time, in float64."""
    sums = [torch.zeros((), dtype=torch.float64) for _ in range(num_tasks)]
    counts = torch.zeros(num_tasks, dtype=torch.int64)
    for row in range(len(labels)):
        task = int(task_ids[row])
        if labels[row] == IGNORED_LABEL or task >= num_tasks:
            continue
        logits = weight.double() @ hidden[row].double()
        if bias is not None:
            logits = logits + bias.double()
        sums[task] = sums[task] + torch.logsumexp(logits, 0) - logits[labels[row]]
        counts[task] += 1
    return torch.stack(sums), counts


@st.composite
def problems(draw):
    n, d, v, t = (draw(st.integers(low, high)) for low, high in ((0, 12), (1, 9), (2, 17), (1, 10)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    labels = torch.randint(0, v, (n,), generator=generator)
    labels[torch.rand(n, generator=generator) < 0.2] = IGNORED_LABEL
    tasks = torch.randint(0, t, (n,), generator=generator)
    tasks[torch.rand(n, generator=generator) < 0.2] = NO_TASK
    hidden = torch.randn(n, d, generator=generator)
    weight = torch.randn(v, d, generator=generator)
    bias = torch.randn(v, generator=generator) if draw(st.booleans()) else None
    upstream = torch.randn(t, generator=generator)
    return hidden, weight, bias, labels, tasks, t, upstream


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@settings(max_examples=50, deadline=None)
@given(problem=problems())
def test_sums_counts_and_gradients_equal_the_slow_loop(dtype, tolerance, problem):
    hidden, weight, bias, labels, tasks, t, upstream = problem
    leaves = [x.to(dtype).requires_grad_() for x in (hidden, weight, bias) if x is not None]
    twins = [x.detach().double().requires_grad_() for x in leaves]
    biases = [leaf if bias is not None else None for leaf in (leaves[-1], twins[-1])]

    sums, counts = task_loss_sums(leaves[0], leaves[1], biases[0], labels, tasks, t)
    slow_sums, slow_counts = slow_task_loss_sums(twins[0], twins[1], biases[1], labels, tasks, t)

    assert sums.dtype == torch.float32
    assert torch.equal(counts, slow_counts)
    torch.testing.assert_close(sums.double(), slow_sums, rtol=tolerance, atol=tolerance)
    (sums * upstream).sum().backward()
    if slow_sums.requires_grad:
        (slow_sums * upstream).sum().backward()
    for leaf, twin in zip(leaves, twins, strict=True):
        expected = torch.zeros_like(twin) if twin.grad is None else twin.grad
        actual = torch.zeros_like(expected) if leaf.grad is None else leaf.grad.double()
        scale = max(1.0, float(expected.abs().max()) if expected.numel() else 0.0)
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * scale)


def test_no_row_at_all_gives_zero_sums_that_still_reach_every_parameter():
    weight = torch.randn(7, 3, requires_grad=True)
    sums, counts = task_loss_sums(
        torch.empty(0, 3), weight, None, torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), 2
    )
    sums.sum().backward()
    assert sums.tolist() == [0, 0]
    assert counts.tolist() == [0, 0]
    assert torch.equal(weight.grad, torch.zeros_like(weight))


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
