"""The task weights in one launch, against those in plain torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_kernels import softmax_weights

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, beneath the interpreter

NAN, INF = float("nan"), float("inf")
tasks = st.lists(
    st.tuples(st.floats(0, 50, width=32) | st.sampled_from([NAN, INF]), st.booleans()), max_size=20
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@settings(max_examples=100, deadline=None)
@given(tasks=tasks.filter(bool), alpha=st.floats(0, 20))
def test_weights_equal_those_in_plain_torch(kernels, dtype, tasks, alpha):
    losses = torch.tensor([loss for loss, _ in tasks], dtype=dtype, device=kernels.device)
    valid = torch.tensor([is_valid for _, is_valid in tasks], device=kernels.device)
    weights = kernels.triton_weights.softmax_weights(losses, alpha, valid)
    assert weights.dtype == dtype
    torch.testing.assert_close(weights, softmax_weights(losses, alpha, valid), equal_nan=True)


def test_invalid_losses_are_not_used_and_no_valid_task_gives_no_weight(kernels):
    losses = torch.tensor([1.0, NAN, 3.0], device=kernels.device, requires_grad=True)
    valid = torch.tensor([True, False, True], device=kernels.device)
    weights = kernels.triton_weights.softmax_weights(losses, 1.0, valid)
    assert not weights.requires_grad
    torch.testing.assert_close(weights.cpu(), torch.tensor([0.1192, 0.0, 0.8808]), atol=1e-4, rtol=0)
    assert kernels.triton_weights.softmax_weights(losses, 1.0, ~valid & valid).tolist() == [0, 0, 0]


def test_no_task_gives_no_weight(kernels):
    nothing = torch.empty(0, device=kernels.device)
    assert kernels.triton_weights.softmax_weights(nothing, 1.0, nothing > 0).shape == (0,)
