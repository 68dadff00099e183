"""The Triton kernels over rows of logits, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, beneath the interpreter

NAN, INF = float("nan"), float("inf")
IGNORED = -100
# Half a unit in the last place of a share below 1, a whole one for the interpreter, which truncates.
GRADIENT_ERROR = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}
DTYPES = pytest.mark.parametrize("dtype", GRADIENT_ERROR, ids=str)
SMALL_BLOCK = 1_024


@pytest.fixture(params=["on chip", "in a loop"])
def rows(request, kernels, monkeypatch):
    """The module, with every row visited in one of the two ways."""
    if request.param == "in a loop":
        monkeypatch.setattr(kernels.triton_rows, "MAX_CLASSES_ON_CHIP", 0)
        monkeypatch.setattr(kernels.triton_rows, "LOOP_BLOCK", SMALL_BLOCK)
    return kernels.triton_rows


def padded(logits, stride=None, fill=NAN):
    """The logits [N, V] as a view of rows `stride` apart, and the matrix that holds it, `fill` elsewhere."""
    n, v = logits.shape
    matrix = logits.new_full((n, stride or -(-v // 16) * 16), fill)
    matrix[:, :v] = logits
    return matrix[:, :v], matrix


def expected(logits, bias, labels):
    """Losses and gradient in float64; both 0 where the label is ignored."""
    x = logits.double() if bias is None else logits.double() + bias.double()
    kept = labels >= 0
    losses = functional.cross_entropy(x, labels.clamp(0), reduction="none")
    gradient = x.softmax(1) - functional.one_hot(labels.clamp(0), x.shape[1])
    return torch.where(kept, losses, 0.0), torch.where(kept[:, None], gradient, 0.0)


def random_problem(n, v, dtype, has_bias, seed, device):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(n, v, generator=generator)
    labels = torch.randint(0, v, (n,), generator=generator)
    labels[torch.rand(n, generator=generator) < 0.2] = IGNORED
    bias = torch.randn(v, generator=generator).to(device, dtype) if has_bias else None
    return logits.to(device, dtype), bias, labels.to(device)


@DTYPES
@pytest.mark.parametrize("way", ["on chip", "in a loop"])
@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 5),
    v=st.integers(1, 3 * SMALL_BLOCK),
    has_bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_losses_and_gradient_equal_float64(kernels, way, dtype, n, v, has_bias, seed):
    logits, bias, labels = random_problem(n, v, dtype, has_bias, seed, kernels.device)
    losses, gradient = expected(logits, bias, labels)
    view, _ = padded(logits)
    with pytest.MonkeyPatch.context() as patch:
        if way == "in a loop":
            patch.setattr(kernels.triton_rows, "MAX_CLASSES_ON_CHIP", 0)
            patch.setattr(kernels.triton_rows, "LOOP_BLOCK", SMALL_BLOCK)
        actual = kernels.triton_rows.softmax_minus_onehot_(view, bias, labels)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(view.double(), gradient, rtol=0, atol=GRADIENT_ERROR[dtype])


@DTYPES
def test_a_vocabulary_of_real_size(rows, kernels, dtype):
    logits, bias, labels = random_problem(8, 30_522, dtype, True, 0, kernels.device)
    losses, gradient = expected(logits, bias, labels)
    view, _ = padded(logits)
    actual = rows.softmax_minus_onehot_(view, bias, labels)
    torch.testing.assert_close(actual.double(), losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(view.double(), gradient, rtol=0, atol=GRADIENT_ERROR[dtype])


@pytest.mark.parametrize("stride", [48, 80])
def test_padding_to_a_multiple_of_16_may_hold_anything_and_what_lies_behind_it_is_left_alone(
    rows, kernels, stride
):
    logits, bias, labels = random_problem(5, 35, torch.bfloat16, True, 1, kernels.device)
    losses, gradient = expected(logits, bias, labels)
    view, matrix = padded(logits, stride, fill=NAN)
    matrix[:, 48:] = 7
    actual = rows.softmax_minus_onehot_(view, bias, labels)
    torch.testing.assert_close(actual.double(), losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(view.double(), gradient, rtol=0, atol=2**-8)
    assert (matrix[:, 48:] == 7).all()


@pytest.mark.parametrize("stride", [35, 37, 51])
def test_without_such_a_stride_no_other_column_is_touched(rows, kernels, stride):
    logits, bias, labels = random_problem(5, 35, torch.float32, True, 2, kernels.device)
    losses, gradient = expected(logits, bias, labels)
    view, matrix = padded(logits, stride, fill=7)
    actual = rows.softmax_minus_onehot_(view, bias, labels)
    torch.testing.assert_close(actual.double(), losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(view.double(), gradient, rtol=0, atol=1e-6)
    assert (matrix[:, 35:] == 7).all()


def test_an_ignored_row_has_no_loss_and_no_gradient_even_if_its_logits_are_nan(rows, kernels):
    logits, bias, labels = random_problem(3, 20, torch.float32, True, 3, kernels.device)
    labels[:] = torch.tensor([4, -1, IGNORED])
    logits[1, 5] = NAN
    view, _ = padded(logits)
    losses = rows.softmax_minus_onehot_(view, bias, labels)
    assert losses[0] > 0
    assert losses[1:].tolist() == [0, 0]
    assert not view[1:].any()


@pytest.mark.parametrize(
    ("logits", "is_nan"),
    [
        ([NAN, 1.0, 2.0], True),
        ([0.0, 1.0, NAN], True),
        ([NAN, NAN, NAN], True),
        ([0.0, INF, 2.0], True),
        ([-INF, -INF, -INF], True),
        ([0.0, 1.0, -INF], False),
    ],
)
def test_a_loss_is_nan_where_torchs_is(rows, kernels, logits, is_nan):
    x = torch.tensor([logits, [1.0, 2.0, 3.0]], device=kernels.device)
    labels = torch.tensor([1, 1], device=kernels.device)
    losses, gradient = expected(x, None, labels)
    view, _ = padded(x)
    actual = rows.softmax_minus_onehot_(view, None, labels)
    assert actual.isnan().tolist() == losses.isnan().tolist() == [is_nan, False]
    torch.testing.assert_close(actual.double(), losses, rtol=1e-6, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(view[1].double(), gradient[1], rtol=0, atol=1e-6)
    assert view[0].isnan().any() == is_nan


def test_impossible_classes_have_no_share_even_where_they_fill_the_first_blocks(rows, kernels):
    x = torch.randn(2, 3 * SMALL_BLOCK - 5, generator=torch.Generator().manual_seed(4)).to(kernels.device)
    x[:, : 2 * SMALL_BLOCK] = -INF
    labels = torch.tensor([2 * SMALL_BLOCK, 3 * SMALL_BLOCK - 6], device=kernels.device)
    losses, gradient = expected(x, None, labels)
    view, _ = padded(x)
    actual = rows.softmax_minus_onehot_(view, None, labels)
    torch.testing.assert_close(actual.double(), losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(view.double(), gradient, rtol=0, atol=1e-6)


def test_an_impossible_label_costs_infinitely_much(rows, kernels):
    view, _ = padded(torch.tensor([[0.0, -INF, 2.0], [0.0, 0.0, 0.0]], device=kernels.device))
    losses = rows.softmax_minus_onehot_(view, None, torch.tensor([1, 1], device=kernels.device))
    assert losses[0] == INF
    assert view[0, 1] == -1


def test_large_logits_neither_overflow_nor_lose_the_loss(rows, kernels):
    x = torch.tensor([[3e4, 3e4 - 2, -3e4], [-3e4, -3e4, -3e4]], device=kernels.device)
    labels = torch.tensor([1, 2], device=kernels.device)
    losses, _ = expected(x, None, labels)
    view, _ = padded(x)
    actual = rows.softmax_minus_onehot_(view, None, labels)
    torch.testing.assert_close(actual.double(), losses, rtol=5e-3, atol=0)


def test_a_label_beyond_the_classes_makes_the_loss_nan_and_writes_nowhere_else(rows, kernels):
    x = torch.zeros(2, 20, device=kernels.device)
    view, matrix = padded(x, 64, fill=7)
    losses = rows.softmax_minus_onehot_(view, None, torch.tensor([40, 3], device=kernels.device))
    assert losses.isnan().tolist() == [True, False]
    assert (matrix[:, 32:] == 7).all()


def test_no_rows_give_no_losses(rows, kernels):
    nothing = torch.empty(0, 20, device=kernels.device)
    labels = torch.empty(0, dtype=torch.int64, device=kernels.device)
    assert rows.softmax_minus_onehot_(nothing, None, labels).shape == (0,)


@pytest.mark.parametrize(("backend", "arch"), [("cuda", 80), ("cuda", 120), ("hip", "gfx942")])
@pytest.mark.parametrize("classes", [2, 5_000, 30_522, 32_768, 32_769, 1_000_000])
def test_a_row_stays_on_chip_where_a_block_of_1024_threads_can_hold_it(kernels, backend, arch, classes):
    target = kernels.triton_targets.Target(backend, arch)
    configuration = kernels.triton_rows.row_configuration(classes, target)
    assert configuration.on_chip == (classes <= 32_768)
    assert configuration.block >= classes or not configuration.on_chip
    assert 128 <= configuration.num_warps * target.warp_size <= 1_024


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(0, 1_500),
    num_tasks=st.sampled_from([1, 2, 9, 255]),
    dtype=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64]),
    seed=st.integers(0, 2**31),
)
def test_rows_are_summed_and_counted_by_task(kernels, n, num_tasks, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    losses = 9 * torch.rand(n, generator=generator)
    tasks = torch.randint(0, min(num_tasks + 2, 256), (n,), generator=generator)
    labels = torch.where(torch.rand(n, generator=generator) < 0.2, IGNORED, 5)
    losses[labels < 0] = NAN
    counted = (labels >= 0) & (tasks < num_tasks)
    expected_sums = torch.zeros(num_tasks, dtype=torch.float64)
    expected_sums.index_add_(0, tasks[counted], losses[counted].double())
    expected_counts = torch.bincount(tasks[counted], minlength=num_tasks)

    arguments = [x.to(kernels.device) for x in (losses, tasks.to(dtype), labels)]
    sums, counts = kernels.triton_rows.task_sums(*arguments, num_tasks)
    again, _ = kernels.triton_rows.task_sums(*arguments, num_tasks)

    assert (sums.dtype, counts.dtype) == (torch.float32, torch.int64)
    assert torch.equal(sums, again)
    assert torch.equal(counts.cpu(), expected_counts)
    torch.testing.assert_close(sums.cpu().double(), expected_sums, rtol=1e-6, atol=1e-6)


def test_a_counted_row_with_a_nan_loss_spoils_its_own_task_only(kernels):
    losses = torch.tensor([1.0, NAN, 3.0], device=kernels.device)
    tasks = torch.tensor([0, 1, 2], device=kernels.device)
    sums, _ = kernels.triton_rows.task_sums(losses, tasks, tasks, 3)
    assert sums.isnan().tolist() == [False, True, False]


def test_negative_task_ids_count_for_no_task_and_columns_of_a_matrix_may_be_given(kernels):
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0], device=kernels.device)
    columns = torch.tensor([[-1, 0], [0, 0], [255, 0], [0, 0]], device=kernels.device)
    sums, counts = kernels.triton_rows.task_sums(losses, columns[:, 0], columns[:, 1], 1)
    assert sums.tolist() == [10]
    assert counts.tolist() == [2]
