"""Equal relative progress."""

import pytest
import torch

from pipeline.objectives.famo import Famo


def test_at_first_the_average_of_log_losses_is_descended(stats_of):
    """With steps ∝ 1 / L, brought to sum 1."""
    found = Famo(3, lr=0.1).coefficients(stats_of([1.0, 2.0, 4.0]))
    assert found.tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_its_logits_move_as_autograd_and_torchs_adam_move_them(stats_of):
    """d = (∂ softmax(w) / ∂w)ᵀ (log L(before) − log L(after)), and Adam with weight decay."""
    sequence = [[7.0, 3.0, 5.0], [6.0, 2.5, 5.1], [5.8, 2.0, 5.0], [5.0, 1.9, 4.0]]
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1, weight_decay=1e-3)
    objective, before = Famo(3, lr=0.1), None
    for step, now in enumerate(sequence):
        losses = torch.tensor(now, dtype=torch.float64)
        shares = torch.softmax(logits.detach(), 0) / losses
        stats = stats_of(now, step=step)
        torch.testing.assert_close(objective.coefficients(stats), shares / shares.sum())
        objective.after_step(stats)
        if before is not None:
            delta = before.log() - losses.log()
            (logits.grad,) = torch.autograd.grad(torch.softmax(logits, 0), logits, grad_outputs=delta)
            optimizer.step()
        before = losses


def test_the_task_that_falls_least_gets_more_and_one_that_is_absent_is_not_judged(stats_of):
    objective = Famo(3, lr=0.1)
    objective.after_step(stats_of([4.0, 4.0, 4.0], [1, 1, 1]))
    objective.after_step(stats_of([2.0, 4.0, 4.0], [1, 1, 0], step=1))
    falling, standing, absent = objective.coefficients(stats_of([4.0, 4.0, 4.0], step=2)).tolist()
    assert falling < absent < standing


def test_the_first_loss_of_a_task_is_not_compared_with_what_stood_there_before(stats_of):
    objective = Famo(2, lr=0.1)
    objective.after_step(stats_of([4.0, 0.5], [1, 0], valid=[True, False]))
    objective.after_step(stats_of([4.0, 9.0], step=1))
    one, other = objective.coefficients(stats_of([4.0, 4.0], step=2)).tolist()
    assert one == other
