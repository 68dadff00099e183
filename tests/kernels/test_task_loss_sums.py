"""The loss kernel against a slow loop in float64: every implementation, in both amounts of memory."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_kernels import IGNORED_LABEL, cpu, logits, losses, task_loss_sums
from torch.utils.flop_counter import FlopCounterMode

NO_TASK = 255
VARIANTS = [
    pytest.param(("reference", "full", True), id="reference"),
    pytest.param(("cpu", "full", True), id="compiled-full"),
    pytest.param(("cpu", "low", True), id="compiled-low"),
    pytest.param(("cpu", "full", False), id="torch-full"),
    pytest.param(("cpu", "low", False), id="torch-low"),
]


@pytest.fixture(scope="module", params=VARIANTS)
def loss_sums(request):
    """`task_loss_sums` by one implementation, in tiles so small that small problems have several."""
    impl, memory, compiled = request.param
    operator = cpu.OPERATOR
    if impl == "cpu" and compiled and operator is None:
        pytest.skip("the operator is not built: no C++ compiler was there at `make setup`")
    if not compiled:
        cpu.OPERATOR = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logits, "_TILE_BYTES", {"cpu": 1})
        yield lambda *arguments: task_loss_sums(*arguments, impl=impl, memory=memory)
    cpu.OPERATOR = operator


def slow_task_loss_sums(hidden, weight, bias, labels, task_ids, num_tasks):
    """One row at a time, in float64."""
    sums = [torch.zeros((), dtype=torch.float64) for _ in range(num_tasks)]
    counts = torch.zeros(num_tasks, dtype=torch.int64)
    for row in range(len(labels)):
        task = int(task_ids[row])
        if labels[row] == IGNORED_LABEL or not 0 <= task < num_tasks:
            continue
        logits = weight.double() @ hidden[row].double()
        if bias is not None:
            logits = logits + bias.double()
        sums[task] = sums[task] + torch.logsumexp(logits, 0) - logits[labels[row]]
        counts[task] += 1
    return torch.stack(sums), counts


@st.composite
def problems(draw):
    n, d, v = (draw(st.integers(low, high)) for low, high in ((0, 12), (1, 9), (2, 300)))
    t = draw(st.sampled_from([1, 3, 10, NO_TASK]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    labels = torch.randint(0, v, (n,), generator=generator)
    labels[torch.rand(n, generator=generator) < 0.2] = IGNORED_LABEL
    tasks = torch.randint(0, t, (n,), generator=generator)
    tasks[torch.rand(n, generator=generator) < 0.2] = draw(st.sampled_from([NO_TASK, -1]))
    hidden = torch.randn(n, d, generator=generator)
    weight = torch.randn(v, d, generator=generator)
    bias = torch.randn(v, generator=generator) if draw(st.booleans()) else None
    upstream = torch.randn(t, generator=generator)
    return (
        hidden,
        weight,
        bias,
        labels,
        tasks.to(draw(st.sampled_from([torch.int64, torch.int16]))),
        t,
        upstream,
    )


def problem_of(num_rows=24, size=8, num_classes=301, num_tasks=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(num_rows, size, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(num_classes, size, generator=generator).to(dtype).requires_grad_()
    bias = torch.randn(num_classes, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(0, num_classes, (num_rows,), generator=generator)
    tasks = torch.randint(0, num_tasks, (num_rows,), generator=generator)
    return hidden, weight, bias, labels, tasks, num_tasks


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@settings(max_examples=50, deadline=None)
@given(problem=problems())
def test_sums_counts_and_gradients_equal_the_slow_loop(loss_sums, dtype, tolerance, problem):
    hidden, weight, bias, labels, tasks, t, upstream = problem
    leaves = [x.to(dtype).requires_grad_() for x in (hidden, weight, bias) if x is not None]
    twins = [x.detach().double().requires_grad_() for x in leaves]
    biases = [leaf if bias is not None else None for leaf in (leaves[-1], twins[-1])]

    sums, counts = loss_sums(leaves[0], leaves[1], biases[0], labels, tasks, t)
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


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_reference_is_differentiated_correctly_in_float64(has_bias):
    hidden, weight, bias, labels, tasks, t = problem_of(
        num_rows=6, size=3, num_classes=7, dtype=torch.float64
    )
    labels[1], tasks[2] = IGNORED_LABEL, NO_TASK
    parameters = (hidden, weight, bias) if has_bias else (hidden, weight)

    def sums(hidden, weight, bias=None):
        return task_loss_sums(hidden, weight, bias, labels, tasks, t)[0]

    assert torch.autograd.gradcheck(sums, parameters)


def test_no_row_at_all_gives_zero_sums_that_still_reach_every_parameter(loss_sums):
    weight, none = torch.randn(7, 3, requires_grad=True), torch.empty(0, dtype=torch.long)
    sums, counts = loss_sums(torch.empty(0, 3), weight, None, none, none, 2)
    sums.sum().backward()
    assert sums.tolist() == [0, 0]
    assert counts.tolist() == [0, 0]
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_gradients_pass_through_a_softmax_over_the_sums(loss_sums):
    """The gradient of log Σ exp: each task's upstream gradient depends on all sums."""
    hidden, weight, bias, labels, tasks, t = problem_of()
    sums, _ = loss_sums(hidden, weight, bias, labels, tasks, t)
    actual = torch.autograd.grad(torch.logsumexp(0.1 * sums, 0), (hidden, weight, bias))
    twins = [x.detach().double().requires_grad_() for x in (hidden, weight, bias)]
    slow_sums, _ = slow_task_loss_sums(*twins, labels, tasks, t)
    expected = torch.autograd.grad(torch.logsumexp(0.1 * slow_sums, 0), twins)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-5)


def test_a_second_backward_pass_gives_the_same_bits(loss_sums):
    hidden, weight, bias, labels, tasks, t = problem_of()
    sums, _ = loss_sums(hidden, weight, bias, labels, tasks, t)
    upstream = torch.tensor([1.0, -2.0, 0.0, 3.0])
    first = torch.autograd.grad(sums, (hidden, weight, bias), upstream, retain_graph=True)
    other = torch.autograd.grad(sums, (hidden, weight, bias), 2 * upstream, retain_graph=True)
    again = torch.autograd.grad(sums, (hidden, weight, bias), upstream)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(2 * a, b) for a, b in zip(first, other, strict=True))


def test_two_runs_give_the_same_bits(loss_sums):
    problem = problem_of(num_rows=200, dtype=torch.bfloat16)
    results = [loss_sums(*problem)[0] for _ in range(2)]
    assert torch.equal(results[0], results[1])


def test_losses_are_the_same_where_no_gradient_is_wanted(loss_sums):
    problem = problem_of()
    with torch.no_grad():
        sums, counts = loss_sums(*problem)
    assert not sums.requires_grad
    expected, expected_counts = loss_sums(*problem)
    torch.testing.assert_close(sums, expected.detach(), rtol=1e-6, atol=1e-6)
    assert torch.equal(counts, expected_counts)


def test_only_the_gradients_that_are_asked_for_are_computed(loss_sums):
    hidden, weight, bias, labels, tasks, t = problem_of()
    everything = torch.autograd.grad(
        loss_sums(hidden, weight, bias, labels, tasks, t)[0].sum(), (hidden, weight, bias)
    )
    for index, asked in enumerate((hidden, weight, bias)):
        frozen = [x if x is asked else x.detach() for x in (hidden, weight, bias)]
        (alone,) = torch.autograd.grad(loss_sums(*frozen, labels, tasks, t)[0].sum(), asked)
        assert torch.equal(alone, everything[index])


def test_inputs_need_not_be_contiguous(loss_sums):
    hidden, weight, bias, labels, tasks, t = problem_of()
    expected = torch.autograd.grad(
        loss_sums(hidden, weight, bias, labels, tasks, t)[0].sum(), (hidden, weight)
    )
    strided = torch.stack([hidden.detach()] * 2, dim=2)[:, :, 1].requires_grad_()
    transposed = weight.detach().t().contiguous().t().requires_grad_()
    every_second = [torch.stack([x.detach()] * 2, dim=1)[:, 0] for x in (bias, labels, tasks)]
    sums, _ = loss_sums(strided, transposed, *every_second, t)
    actual = torch.autograd.grad(sums.sum(), (strided, transposed))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


def test_a_weight_that_is_also_the_embedding_gets_both_gradients(loss_sums):
    _, weight, _, labels, tasks, t = problem_of()
    ids = torch.arange(24) % 5

    def gradient(sums_of, weight):
        return torch.autograd.grad(
            sums_of(weight[ids].tanh(), weight, None, labels, tasks, t)[0].sum(), weight
        )[0]

    expected = gradient(slow_task_loss_sums, weight.detach().double().requires_grad_())
    torch.testing.assert_close(gradient(loss_sums, weight).double(), expected, rtol=1e-4, atol=1e-5)


def test_autocast_computes_in_its_type_and_returns_gradients_in_that_of_the_parameters(loss_sums):
    hidden, weight, bias, labels, tasks, t = problem_of()
    with torch.autocast("cpu", torch.bfloat16):
        sums, _ = loss_sums(hidden, weight, bias, labels, tasks, t)
    narrow = [x.detach().bfloat16().requires_grad_() for x in (hidden, weight, bias)]
    expected, _ = loss_sums(*narrow, labels, tasks, t)
    assert torch.equal(sums, expected)
    gradients = torch.autograd.grad(sums.sum(), (hidden, weight, bias))
    for gradient, twin in zip(gradients, torch.autograd.grad(expected.sum(), narrow), strict=True):
        assert gradient.dtype == torch.float32
        assert torch.equal(gradient, twin.float())


def test_bf16_task_means_are_exact_enough_for_weights(loss_sums):
    """A mean loss that is itself bf16 is off by 1e-4 or more: log-sum-exp and loss must be fp32."""
    hidden, weight, bias, labels, tasks, t = problem_of(1_024, 64, 4_001, 4, torch.bfloat16)
    weight = weight.detach() * 0.1
    sums, _ = loss_sums(hidden, weight, bias, labels, tasks, t)
    expected, _ = task_loss_sums(hidden.double(), weight.double(), bias.double(), labels, tasks, t)
    torch.testing.assert_close(sums.double(), expected, rtol=5e-5, atol=0)


@pytest.mark.parametrize(("memory", "products"), [("full", 3), ("low", 4)])
def test_rows_that_are_left_out_take_part_in_no_matrix_product(memory, products):
    hidden, weight, _, labels, tasks, t = problem_of(num_rows=60)
    labels[:20], tasks[20:30] = IGNORED_LABEL, NO_TASK
    with FlopCounterMode(display=False) as flops:
        sums, counts = task_loss_sums(hidden, weight, None, labels, tasks, t, memory=memory)
        sums.sum().backward()
    assert counts.sum() == 30
    assert flops.get_total_flops() == products * 2 * 30 * weight.numel()


def test_auto_memory_goes_by_the_bytes_of_the_logits_and_says_so_once(monkeypatch, caplog):
    hidden, weight, _, labels, tasks, t = problem_of(num_rows=60)
    logits_bytes = 60 * len(weight) * 4
    losses._say_once.cache_clear()
    products = []
    with caplog.at_level(logging.INFO, "task_kernels"):
        for limit in (logits_bytes + 1, logits_bytes + 1, logits_bytes):
            monkeypatch.setattr(losses, "MAX_LOGITS_BYTES", limit)
            with FlopCounterMode(display=False) as flops:
                task_loss_sums(hidden, weight, None, labels, tasks, t)[0].sum().backward()
            products.append(flops.get_total_flops() // (2 * 60 * weight.numel()))
    assert products == [3, 3, 4]
    assert len(caplog.messages) == 2
    assert "memory full (the logits are kept for the backward pass)" in caplog.messages[0]
    assert "memory low (the logits are never in memory and computed twice)" in caplog.messages[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"hidden": torch.zeros(24, 9)},
            r"hidden \(24, 9\) and weight \(301, 8\) must be \[N, D\] and \[V, D\]",
        ),
        ({"labels": torch.zeros(23, dtype=torch.long)}, r"labels must be \[24\], not \[23\]"),
        ({"task_ids": torch.zeros(24, 1)}, r"task_ids must be \[24\], not \[24, 1\]"),
        ({"bias": torch.zeros(8)}, r"bias must be \[301\], not \[8\]"),
        (
            {"hidden": torch.zeros(24, 8).bfloat16()},
            "hidden is torch.bfloat16, weight torch.float32; cast one",
        ),
        (
            {"hidden": torch.zeros(24, 8).long(), "weight": torch.zeros(301, 8).long()},
            "hidden is torch.int64",
        ),
        ({"bias": torch.zeros(301).long()}, "bias is torch.int64; it must be floating point"),
        ({"labels": torch.zeros(24)}, "labels is torch.float32; it must hold integers"),
        ({"task_ids": torch.zeros(24).bool()}, "task_ids is torch.bool; it must hold integers"),
        ({"labels": torch.zeros(24, dtype=torch.long, device="meta")}, "labels is on meta, hidden on cpu"),
        ({"impl": "reference", "memory": "none"}, "memory 'none' is not one of auto, full, low"),
        ({"impl": "gpu"}, "impl 'gpu' is not one of auto, reference, cpu, triton"),
        ({"memory": "none"}, "memory 'none' is not one of auto, full, low"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    names = ("hidden", "weight", "bias", "labels", "task_ids", "num_tasks")
    with pytest.raises(ValueError, match=message):
        task_loss_sums(**{**dict(zip(names, problem_of(), strict=True)), **change})


def test_a_label_that_is_no_class_is_refused(loss_sums):
    hidden, weight, bias, labels, tasks, t = problem_of()
    labels[3] = len(weight)
    with pytest.raises((ValueError, IndexError), match=r"label 301 is not one of 301 classes|Target 301"):
        loss_sums(hidden, weight, bias, labels, tasks, t)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_narrow_integers_are_taken_by_their_values(loss_sums, dtype):
    """In 8 bits -100 is 156, and 300 classes are more than there are numbers."""
    hidden, weight, bias, labels, tasks, _ = problem_of(num_tasks=3)
    labels, num_tasks = labels % 120, 400
    labels[::2] = 156 if dtype == torch.uint8 else 99
    expected, expected_counts = loss_sums(hidden, weight, bias, labels, tasks, num_tasks)
    sums, counts = loss_sums(hidden, weight, bias, labels.to(dtype), tasks.to(dtype), num_tasks)
    assert torch.equal(sums, expected)
    assert torch.equal(counts, expected_counts)
    assert counts.sum() == len(labels)


def test_a_label_that_stands_for_many_rows_is_read_once_for_each(loss_sums):
    hidden, weight, bias, _, tasks, t = problem_of()
    one = torch.tensor([7]).expand(24)
    expected, _ = loss_sums(hidden, weight, bias, one.clone(), tasks, t)
    assert torch.equal(loss_sums(hidden, weight, bias, one, tasks, t)[0], expected)


def test_float64_stays_float64_under_autocast():
    problem = problem_of(dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        sums, _ = task_loss_sums(*problem)
    assert torch.equal(sums, task_loss_sums(*problem)[0])


def test_a_second_derivative_is_refused_rather_than_silently_zero():
    hidden, weight, bias, labels, tasks, t = problem_of()
    sums, _ = task_loss_sums(hidden, weight, bias, labels, tasks, t)
    with pytest.raises(RuntimeError, match="no second derivative but with impl='reference'"):
        torch.autograd.grad(sums.sum(), hidden, create_graph=True)


@pytest.mark.parametrize("wanted", [True, False])
def test_logits_are_kept_only_where_a_gradient_is_wanted(wanted):
    hidden, weight, _, labels, tasks, t = problem_of()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        task_loss_sums(hidden.detach(), weight.detach().requires_grad_(wanted), None, labels, tasks, t)
    assert ((24, 301) in kept) == wanted
