"""`task_loss_sums` by Triton as a whole: its backward pass, and what it leaves out, against the reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_kernels import IGNORED_LABEL, logits, losses, task_loss_sums

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, beneath the interpreter
NO_TASK = 255


@pytest.fixture(scope="module", params=["full", "low"])
def triton_sums(request, kernels):
    """`task_loss_sums` by the interpreted kernels."""
    losses._module.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logits, "_TILE_BYTES", {"cpu": 1, "cuda": 1})  # several tiles in small problems
        yield lambda *arguments: task_loss_sums(*arguments, impl="triton", memory=request.param)
    losses._module.cache_clear()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@settings(max_examples=10, deadline=None)
@given(
    sizes=st.tuples(*(st.integers(1, high) for high in (40, 600, 40, 10))),
    has_bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_sums_counts_and_gradients_equal_the_reference(
    triton_sums, kernels, dtype, tolerance, sizes, has_bias, seed
):
    n, v, d, t = sizes
    generator = torch.Generator().manual_seed(seed)
    normal = [torch.randn(shape, generator=generator) for shape in ((n, d), (v, d), (v,))]
    leaves = [x.to(kernels.device, dtype).requires_grad_() for x in normal[: 3 if has_bias else 2]]
    labels = torch.randint(0, v, (n,), generator=generator)
    tasks = torch.randint(0, t, (n,), generator=generator)
    labels[torch.rand(n, generator=generator) < 0.2] = IGNORED_LABEL
    tasks[torch.rand(n, generator=generator) < 0.2] = NO_TASK
    upstream = torch.randn(t, generator=generator).to(kernels.device)
    rows = (labels.to(kernels.device), tasks.to(torch.uint8).to(kernels.device), t)

    results = []
    for compute, kind in ((triton_sums, dtype), (task_loss_sums, torch.float64)):
        twins = [leaf.detach().to(kind).requires_grad_() for leaf in leaves]
        sums, counts = compute(twins[0], twins[1], twins[2] if has_bias else None, *rows)
        gradients = torch.autograd.grad((sums * upstream).sum(), twins)
        results.append([counts.double(), sums.double(), *(gradient.double() for gradient in gradients)])
    for actual, expected in zip(*results, strict=True):
        scale = max(1.0, float(expected.detach().abs().max()))
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * scale)


def test_rows_without_a_label_leave_the_gradient_of_the_others_alone(triton_sums, kernels):
    hidden, weight = torch.randn(6, 8, device=kernels.device), torch.randn(40, 8, device=kernels.device)
    labels = torch.tensor([3, IGNORED_LABEL, 5, 7, IGNORED_LABEL, 1], device=kernels.device)
    hidden[labels < 0] = 1e4
    tasks, weight = torch.zeros_like(labels), weight.requires_grad_()
    kept = labels >= 0
    (all_rows,) = torch.autograd.grad(triton_sums(hidden, weight, None, labels, tasks, 1)[0].sum(), weight)
    few = triton_sums(hidden[kept], weight, None, labels[kept], tasks[kept], 1)
    torch.testing.assert_close(all_rows, torch.autograd.grad(few[0].sum(), weight)[0])


def test_a_task_without_rows_may_have_any_gradient(triton_sums, kernels):
    """1 / 0 for its mean is one that users get; rows that are left out must not take it up."""
    hidden, weight = torch.randn(6, 8, device=kernels.device), torch.randn(40, 8, device=kernels.device)
    labels = torch.tensor([3, IGNORED_LABEL, 5, 7, IGNORED_LABEL, 1], device=kernels.device)
    tasks = torch.tensor([0, 1, 0, 0, 2, 0], device=kernels.device)
    sums, _ = triton_sums(hidden, weight.requires_grad_(), None, labels, tasks, 2)
    (gradient,) = torch.autograd.grad(sums, weight, torch.tensor([1.0, torch.inf], device=kernels.device))
    assert gradient.isfinite().all()


def test_operands_need_not_be_contiguous(triton_sums, kernels):
    hidden = torch.randn(8, 6, device=kernels.device).t()
    weight = torch.randn(8, 40, device=kernels.device).t().requires_grad_()
    labels = torch.arange(12, device=kernels.device)[::2]
    tasks = torch.zeros(1, dtype=torch.long, device=kernels.device).expand(6)
    sums, _ = triton_sums(hidden, weight, None, labels, tasks, 1)
    expected, _ = task_loss_sums(hidden.double(), weight.double(), None, labels, tasks, 1)
    torch.testing.assert_close(sums.double(), expected, rtol=1e-5, atol=1e-5)


def test_triton_needs_a_gpu_or_its_interpreter(monkeypatch, kernels):
    losses._module.cache_clear()
    monkeypatch.setattr(kernels.triton_backend, "INTERPRETED", False)
    rows = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="impl 'triton' needs a GPU, or TRITON_INTERPRET=1 set before"):
        task_loss_sums(torch.zeros(2, 3), torch.zeros(4, 3), None, rows, rows, 1, impl="triton")
    losses._module.cache_clear()
