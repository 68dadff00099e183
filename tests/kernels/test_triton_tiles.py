"""The Triton kernels that keep no logits, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, beneath the interpreter

NAN, INF = float("nan"), float("inf")
IGNORED = -100
# fp32 products are true fp32. Narrow types are exact in products; their gradient is rounded once.
GRADIENT_ERROR = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}
DTYPES = pytest.mark.parametrize("dtype", GRADIENT_ERROR, ids=str)


@pytest.fixture(scope="module")
def tiles(kernels):
    """The module, on a device of five processors, so that the classes are split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.triton_tiles, "num_processors", lambda device: 5)
        yield kernels.triton_tiles


def random_problem(n, v, d, dtype, has_bias, seed, device):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, d, generator=generator)
    weight = torch.randn(v, d, generator=generator) / d**0.5
    bias = torch.randn(v, generator=generator).to(device, dtype) if has_bias else None
    labels = torch.randint(0, v, (n,), generator=generator)
    labels[torch.rand(n, generator=generator) < 0.2] = IGNORED
    return hidden.to(device, dtype), weight.to(device, dtype), bias, labels.to(device)


def logits_of(hidden, weight, bias):
    logits = hidden.double() @ weight.double().T
    return logits if bias is None else logits + bias.double()


def expected(hidden, weight, bias, labels):
    """Log-sum-exps, label logits and gradient in float64."""
    logits = logits_of(hidden, weight, bias)
    label = labels.clamp(0)[:, None]
    label_logits = torch.where(labels >= 0, logits.gather(1, label)[:, 0], 0.0)
    gradient = logits.softmax(1) - functional.one_hot(label[:, 0], len(weight))
    return logits.logsumexp(1), label_logits, torch.where(labels[:, None] >= 0, gradient, 0.0)


def gradient_of(tiles, hidden, weight, bias, labels, log_sum_exps, first, last):
    """Columns [first, last), in memory whose rows are padded with what must not be read."""
    stride = -(-(last - first) // 16) * 16
    gradient = hidden.new_full((len(hidden), stride), NAN)[:, : last - first]
    tiles.gradient_tile_(hidden, weight, bias, labels, log_sum_exps, first, gradient)
    return gradient


def check_against_float64(tiles, hidden, weight, bias, labels, first, last):
    log_sum_exps, label_logits, gradient = expected(hidden, weight, bias, labels)
    actual_sums, actual_logits = tiles.log_sum_exp(hidden, weight, bias, labels)
    actual = gradient_of(tiles, hidden, weight, bias, labels, actual_sums, first, last)
    assert actual_sums.dtype == actual_logits.dtype == torch.float32
    assert actual.dtype == hidden.dtype
    torch.testing.assert_close(actual_sums.double(), log_sum_exps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual_logits.double(), label_logits, rtol=1e-5, atol=1e-5)
    error = GRADIENT_ERROR[hidden.dtype]
    torch.testing.assert_close(actual.double(), gradient[:, first:last], rtol=0, atol=error)


@st.composite
def shapes(draw):
    n, v, d = draw(st.integers(1, 200)), draw(st.integers(1, 500)), draw(st.integers(1, 150))
    first = draw(st.integers(0, v - 1))
    return n, v, d, first, draw(st.integers(first + 1, v))


@DTYPES
@settings(max_examples=20, deadline=None)
@given(shape=shapes(), has_bias=st.booleans(), seed=st.integers(0, 2**31))
def test_log_sum_exp_label_logits_and_gradient_equal_float64(tiles, kernels, dtype, shape, has_bias, seed):
    n, v, d, first, last = shape
    problem = random_problem(n, v, d, dtype, has_bias, seed, kernels.device)
    check_against_float64(tiles, *problem, first, last)


@DTYPES
def test_a_vocabulary_of_real_size(tiles, kernels, dtype):
    problem = random_problem(8, 30_522, 64, dtype, True, 0, kernels.device)
    check_against_float64(tiles, *problem, 30_000, 30_522)


def test_rows_of_wider_matrices_need_no_copy(tiles, kernels):
    hidden, weight, bias, labels = random_problem(40, 60, 48, torch.float32, True, 1, kernels.device)
    check_against_float64(tiles, hidden[:, 5:25], weight[:, :20], bias[::1], labels, 3, 60)


def test_the_same_bits_come_out_again(tiles, kernels):
    hidden, weight, bias, labels = random_problem(130, 700, 40, torch.bfloat16, True, 2, kernels.device)
    first, again = (tiles.log_sum_exp(hidden, weight, bias, labels) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_a_nan_stays_in_its_row_and_an_ignored_row_has_no_gradient_all_the_same(tiles, kernels):
    hidden, weight, bias, labels = random_problem(4, 300, 20, torch.float32, True, 3, kernels.device)
    labels[:] = torch.tensor([7, 299, IGNORED, 8])
    hidden[1:3] = NAN
    sums, _ = tiles.log_sum_exp(hidden, weight, bias, labels)
    assert sums.isnan().tolist() == [False, True, True, False]
    gradient = gradient_of(tiles, hidden, weight, bias, labels, sums, 0, 300)
    assert gradient.isnan().any(1).tolist() == [False, True, False, False]
    assert not gradient[2].any()


def test_classes_that_a_bias_forbids_have_no_share_even_where_they_fill_whole_splits(tiles, kernels):
    hidden, weight, bias, labels = random_problem(3, 700, 20, torch.float32, True, 4, kernels.device)
    bias[:600] = -INF
    labels[:] = torch.tensor([600, 650, 699])
    check_against_float64(tiles, hidden, weight, bias, labels, 500, 700)


@pytest.mark.parametrize("level", [-3e4, 3e4])
def test_large_logits_do_not_overflow(tiles, kernels, level):
    hidden, weight, bias, labels = random_problem(3, 300, 20, torch.float32, True, 8, kernels.device)
    bias += level
    log_sum_exps, _, gradient = expected(hidden, weight, bias, labels)
    actual, _ = tiles.log_sum_exp(hidden, weight, bias, labels)
    torch.testing.assert_close(actual.double(), log_sum_exps, rtol=1e-6, atol=0)
    shares = gradient_of(tiles, hidden, weight, bias, labels, actual, 0, 300)
    torch.testing.assert_close(shares.double(), gradient, rtol=0, atol=5e-3)


def test_a_row_whose_every_class_is_forbidden_has_no_probability_at_all(tiles, kernels):
    hidden, weight, bias, labels = random_problem(3, 300, 20, torch.float32, True, 5, kernels.device)
    bias[:] = -INF
    sums, logits = tiles.log_sum_exp(hidden, weight, bias, labels.clamp(0))
    assert (sums - logits).isnan().all()


def test_a_label_beyond_the_classes_has_a_logit_of_nan(tiles, kernels):
    hidden, weight, bias, labels = random_problem(2, 30, 20, torch.float32, True, 6, kernels.device)
    labels[:] = torch.tensor([30, 29])
    _, logits = tiles.log_sum_exp(hidden, weight, bias, labels)
    assert logits.isnan().tolist() == [True, False]


def test_no_rows_give_empty_results(tiles, kernels):
    hidden, weight, bias, labels = random_problem(0, 30, 20, torch.float32, True, 7, kernels.device)
    sums, logits = tiles.log_sum_exp(hidden, weight, bias, labels)
    assert sums.shape == logits.shape == (0,)
    assert gradient_of(tiles, hidden, weight, bias, labels, sums, 10, 30).shape == (0, 20)


@pytest.mark.parametrize(
    ("row_blocks", "tiles_of_classes", "splits"), [(1, 3, 3), (1, 239, 20), (32, 239, 1)]
)
def test_classes_are_split_until_there_are_four_programs_for_a_processor(
    kernels, row_blocks, tiles_of_classes, splits
):
    assert kernels.triton_tiles.num_splits(row_blocks, tiles_of_classes, processors=5) == splits
