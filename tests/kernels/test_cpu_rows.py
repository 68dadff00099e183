"""The compiled passes over rows of logits against their twins in plain torch, and both against fp64."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_kernels import cpu, cpu_rows
from torch.nn import functional

CSRC = Path(__file__).parents[2] / "kernels/csrc/softmax_rows.cpp"
LABEL_ELSEWHERE = (-3, 1_000_000)


@pytest.fixture(scope="module", params=["compiled", "torch"])
def rows(request):
    if request.param == "torch":
        return cpu_rows
    if cpu.OPERATOR is None:
        pytest.skip("the operator is not built: no C++ compiler was there at `make setup`")
    return cpu.OPERATOR


@st.composite
def matrices(draw):
    num_rows, num_classes = draw(st.integers(0, 9)), draw(st.integers(1, 70))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    padding = draw(st.integers(0, 20))
    logits = 6 * torch.randn(num_rows, num_classes + padding, generator=generator)
    bias = torch.randn(num_classes, generator=generator) if draw(st.booleans()) else None
    labels = torch.randint(0, num_classes, (num_rows,), generator=generator)
    logits[:, num_classes:] = torch.nan  # what stands between rows is not read
    return logits.to(draw(st.sampled_from([torch.float32, torch.bfloat16])))[:, :num_classes], bias, labels


def exact(logits, bias, labels):
    """Losses, log-sum-exps and softmax − onehot in fp64."""
    x = logits.double() if bias is None else logits.double() + bias.double()
    gradient = x.softmax(dim=1)
    gradient[torch.arange(len(labels)), labels] -= 1
    return functional.cross_entropy(x, labels, reduction="none"), x.logsumexp(dim=1), gradient


def tolerance(dtype):
    return 1e-6 if dtype == torch.float32 else 4e-3


@settings(max_examples=60, deadline=None)
@given(matrix=matrices())
def test_logits_become_softmax_minus_onehot_and_losses_come_out(rows, matrix):
    logits, bias, labels = matrix
    expected_losses, _, expected = exact(logits, bias, labels)
    losses = torch.empty(len(logits))
    rows.softmax_minus_onehot_(logits, bias, labels, losses)
    torch.testing.assert_close(losses.double(), expected_losses, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(logits.double(), expected, rtol=tolerance(logits.dtype), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(matrix=matrices(), cuts=st.lists(st.integers(1, 69), max_size=3))
def test_log_sum_exp_comes_from_any_sequence_of_tiles(rows, matrix, cuts):
    logits, bias, labels = matrix
    _, expected, _ = exact(logits, bias, labels)
    before = logits.clone()
    peaks = torch.full((len(logits),), -torch.inf)
    sums, label_logits = torch.zeros(len(logits)), torch.zeros(len(logits))
    edges = sorted({0, logits.shape[1], *(cut for cut in cuts if cut < logits.shape[1])})
    for first, last in itertools.pairwise(edges):
        tile_bias = None if bias is None else bias[first:last]
        rows.add_log_sum_exp_(logits[:, first:last], tile_bias, labels - first, peaks, sums, label_logits)
    torch.testing.assert_close((peaks + sums.log()).double(), expected, rtol=2e-6, atol=2e-6)
    at_label = before.float().gather(1, labels[:, None])[:, 0] + (0 if bias is None else bias[labels])
    torch.testing.assert_close(label_logits, at_label)
    assert torch.equal(logits, before)


@settings(max_examples=60, deadline=None)
@given(matrix=matrices(), elsewhere=st.sampled_from(LABEL_ELSEWHERE))
def test_the_gradient_of_a_tile_is_made_from_the_log_sum_exp(rows, matrix, elsewhere):
    logits, bias, labels = matrix
    _, log_sum_exps, expected = exact(logits, bias, labels)
    untouched = logits.clone()
    rows.gradient_(logits, bias, labels, log_sum_exps.float())
    torch.testing.assert_close(logits.double(), expected, rtol=tolerance(logits.dtype), atol=2e-6)
    rows.gradient_(untouched, bias, torch.full_like(labels, elsewhere), log_sum_exps.float())
    expected[torch.arange(len(labels)), labels] += 1
    torch.testing.assert_close(untouched.double(), expected, rtol=tolerance(logits.dtype), atol=2e-6)


@pytest.mark.parametrize("place", [3, 37])  # in a full vector of lanes, and in the last, partial one
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_logit_that_is_not_finite_shows_in_the_loss(rows, place, value):
    logits, losses = torch.randn(2, 39), torch.empty(2)
    logits[0, place] = value
    labels = torch.tensor([1, 1])
    expected = functional.cross_entropy(logits, labels, reduction="none")
    rows.softmax_minus_onehot_(logits, None, labels, losses)
    assert not losses[0].isfinite()
    assert not expected[0].isfinite()
    torch.testing.assert_close(losses[1], expected[1])
    assert logits[0].isnan().any()
    assert logits[1].isfinite().all()


def test_a_class_of_logit_minus_infinity_has_probability_zero(rows):
    logits, losses = torch.randn(1, 39), torch.empty(1)
    logits[0, [2, 38]] = -torch.inf
    expected = functional.cross_entropy(logits, torch.tensor([5]), reduction="none")
    rows.softmax_minus_onehot_(logits, None, torch.tensor([5]), losses)
    torch.testing.assert_close(losses, expected)
    assert logits[0, [2, 38]].tolist() == [0, 0]


def test_a_tile_of_minus_infinity_alone_adds_nothing(rows):
    peaks, sums, label_logits = torch.full((1,), -torch.inf), torch.zeros(1), torch.zeros(1)
    labels = torch.tensor([20])
    rows.add_log_sum_exp_(torch.full((1, 19), -torch.inf), None, labels, peaks, sums, label_logits)
    rows.add_log_sum_exp_(torch.zeros(1, 8), None, labels - 19, peaks, sums, label_logits)
    torch.testing.assert_close(peaks + sums.log(), torch.log(torch.tensor([8.0])))


def test_large_logits_neither_overflow_nor_lose_the_loss(rows):
    logits, losses = torch.tensor([[3e4, 3e4 - 10, -3e4]]), torch.empty(1)
    rows.softmax_minus_onehot_(logits, None, torch.tensor([2]), losses)
    torch.testing.assert_close(losses, torch.tensor([6e4]))


def test_losses_do_not_depend_on_the_number_of_threads(rows):
    logits, bias, labels = torch.randn(13, 999), torch.randn(999), torch.randint(0, 999, (13,))
    results = []
    for num_threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        gradient, losses = logits.clone(), torch.empty(13)
        rows.softmax_minus_onehot_(gradient, bias, labels, losses)
        torch.set_num_threads(before)
        results.append((gradient, losses))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.skipif(cpu.OPERATOR is None, reason="the operator is not built: no C++ compiler")
def test_the_operator_refuses_a_label_that_is_no_class_and_leaves_subnormal_numbers_alone():
    logits, losses = torch.zeros(2, 4), torch.empty(2)
    with pytest.raises(RuntimeError, match="label 4 of row 1 is not one of 4 classes"):
        cpu.OPERATOR.softmax_minus_onehot_(logits, None, torch.tensor([0, 4]), losses)
    assert torch.equal(logits, torch.zeros(2, 4))
    assert (torch.tensor([1e-40]) * 0.5).item() > 0


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("flags", [[], ["-march=x86-64-v3"]], ids=["any x86-64", "AVX2"])
def test_processors_without_avx_512_compute_the_same(flags, tmp_path):
    """What the loader picks on other processors, compiled as the only version, in a process of its own."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("the processor lacks AVX2")
    root, library = Path(torch.__file__).parent, tmp_path / "rows.so"
    includes = [f"-I{root}/include", f"-L{root}/lib", "-ltorch_cpu"]
    macros = ["-DFOR_EACH_PROCESSOR=", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command = ["g++", "-O3", "-std=c++20", "-fPIC", "-shared", "-Wno-psabi", *macros, *flags, str(CSRC)]
    subprocess.run([*command, *includes, "-o", str(library)], check=True)
    script = """
import sys, torch
torch.ops.load_library(sys.argv[1])
for dtype, limit in ((torch.float32, 1e-6), (torch.bfloat16, 4e-3)):
    labels, losses = torch.randint(0, 1003, (7,)), torch.empty(7)
    logits = (5 * torch.randn(7, 1003)).to(dtype)
    exact = logits.double()
    torch.ops.task_kernels.softmax_minus_onehot_(logits, None, labels, losses)
    expected = torch.nn.functional.cross_entropy(exact, labels, reduction="none")
    torch.testing.assert_close(losses.double(), expected, rtol=1e-6, atol=1e-6)
    gradient = exact.softmax(1).scatter_add(1, labels[:, None], -torch.ones(7, 1).double())
    torch.testing.assert_close(logits.double(), gradient, rtol=limit, atol=1e-7)
print("same")
"""
    run = subprocess.run([sys.executable, "-c", script, str(library)], capture_output=True, text=True)
    assert run.stdout.strip() == "same", run.stderr
