"""The ways to compute losses per task that `loss_kernel.py` compares, and the problem they are given."""

import importlib
import inspect
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from unittest import mock

import task_kernels
import torch
from task_kernels.logits import empty_logits
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions, functional

PRODUCTS = "three matrix products"
PRODUCTS_IN_PLACE = "the products, our memory"
FULL, LOW, FALLBACK = "ours, memory=full", "ours, memory=low", "ours, torch fallback"
PLAIN, COMPILED = "plain torch", "torch.compile"
CHUNKED, CHUNKED_256 = "linear_cross_entropy", "linear_cross_entropy, chunks of 256 rows"
LIGER, CUT = "Liger", "cut-cross-entropy"
OURS = (FULL, LOW, FALLBACK)
BOUNDS = (PRODUCTS, PRODUCTS_IN_PLACE)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """Sizes of a problem."""

    dtype: str
    dims: int
    rows: int
    vocab: int
    num_tasks: int
    device: str

    @property
    def title(self) -> str:
        """For tables and plots."""
        return f"{self.dtype}, D = {self.dims}"


@dataclass(frozen=True)
class Problem:
    """hidden [N, D], weight [V, D], bias [V], to be differentiated; labels, task_ids [N]; upstream [T]."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    labels: Tensor
    task_ids: Tensor
    upstream: Tensor

    @property
    def leaves(self) -> dict[str, Tensor]:
        """What gets a gradient."""
        return {"hidden": self.hidden, "weight": self.weight, "bias": self.bias}


class Unavailable(Exception):  # noqa: N818 - it is no error
    """A peer that cannot run here; the message says why."""


Step = Callable[[Problem], object]
"""One forward and backward; what it returns are the sums [T], or in the three products the gradients."""


def make_problem(case: Case) -> Problem:
    """Random inputs whose logits have a standard deviation of 2, the same ones for the same case."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float) -> Tensor:
        values = torch.randn(shape, generator=generator) * scale
        return values.to(case.device, DTYPES[case.dtype]).requires_grad_()

    def integers(high: int) -> Tensor:
        return torch.randint(high, (case.rows,), generator=generator).to(case.device)

    return Problem(
        hidden=normal(case.rows, case.dims, scale=1),
        weight=normal(case.vocab, case.dims, scale=2 / case.dims**0.5),
        bias=normal(case.vocab, scale=0.5),
        labels=integers(case.vocab),
        task_ids=integers(case.num_tasks),
        upstream=torch.randn(case.num_tasks, generator=generator).to(case.device),
    )


def truth(problem: Problem, chunk: int = 256) -> tuple[Tensor, dict[str, Tensor]]:
    """The sums [T] and the gradients in float64, a chunk of rows at a time."""
    leaves = {name: leaf.detach().double().requires_grad_() for name, leaf in problem.leaves.items()}
    upstream = problem.upstream.double()
    sums = torch.zeros_like(upstream)
    parts = (part.split(chunk) for part in (leaves["hidden"], problem.labels, problem.task_ids))
    for hidden, labels, task_ids in zip(*parts, strict=True):
        logits = functional.linear(hidden, leaves["weight"], leaves["bias"])
        losses = functional.cross_entropy(logits, labels, reduction="none")
        sums.index_add_(0, task_ids, losses.detach())
        (losses * upstream[task_ids]).sum().backward()
    return sums, {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def three_products(problem: Problem) -> tuple[Tensor, Tensor]:
    """What all share: logits = H·Wᵀ, dH = G·W and dW = Gᵀ·H, the logits in the place of their gradient G."""
    with torch.no_grad():
        logits = torch.mm(problem.hidden, problem.weight.T)
        return torch.mm(logits, problem.weight), torch.mm(logits.T, problem.hidden)


def products_in_our_memory(problem: Problem) -> tuple[Tensor, Tensor]:
    """The three products with the logits where our kernel has them: in huge pages, in aligned rows."""
    with torch.no_grad():
        logits = empty_logits(len(problem.hidden), len(problem.weight), problem.hidden)
        torch.mm(problem.hidden, problem.weight.T, out=logits)
        return torch.mm(logits, problem.weight), torch.mm(logits.T, problem.hidden)


def backward(problem: Problem, sums: Tensor) -> Tensor:
    """Fresh gradients of Σ_t g_t · sum_t in the leaves; the sums [T]."""
    for leaf in problem.leaves.values():
        leaf.grad = None
    sums.backward(problem.upstream)
    return sums.detach()


def per_task(row_losses: Tensor, task_ids: Tensor, num_tasks: int) -> Tensor:
    """Sums [T] in fp32 of losses [N], for the peers that know no tasks."""
    return row_losses.new_zeros(num_tasks, dtype=torch.float32).index_add(0, task_ids, row_losses.float())


def ours(problem: Problem, memory: task_kernels.Memory) -> Tensor:
    """A step of this project's kernel."""
    sums, _ = task_kernels.task_loss_sums(
        problem.hidden,
        problem.weight,
        problem.bias,
        problem.labels,
        problem.task_ids,
        len(problem.upstream),
        memory=memory,
    )
    return backward(problem, sums)


def of_row_losses(row_losses: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Step:
    """A step of a peer that turns hidden, weight, bias and labels into losses [N]."""

    def step(problem: Problem) -> Tensor:
        losses = row_losses(problem.hidden, problem.weight, problem.bias, problem.labels)
        return backward(problem, per_task(losses, problem.task_ids, len(problem.upstream)))

    return step


def plain(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """As users write it: logits and losses in the type of the inputs."""
    return functional.cross_entropy(functional.linear(hidden, weight, bias), labels, reduction="none")


def fallback(device: str) -> Step:
    """Our kernel where there is no compiler."""
    if device != "cpu":
        raise Unavailable("a matter of the CPU")
    if not has_operator():
        raise Unavailable("there is no compiled operator: this is what memory=full runs")
    cpu = importlib.import_module("task_kernels.cpu")

    def step(problem: Problem) -> Tensor:
        with mock.patch.object(cpu, "OPERATOR", None):
            return ours(problem, "full")

    return step


def has_operator() -> bool:
    """Whether the CPU's operator was compiled."""
    return importlib.import_module("task_kernels.cpu").OPERATOR is not None


def compiled(_: str) -> Step:
    """`plain` and its sums per task, compiled as one for these very shapes."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        raise Unavailable("needs a C++ compiler")
    torch.compiler.reset()  # each case compiles from scratch: past 8 shapes torch would stop compiling

    def sums_of(
        hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, task_ids: Tensor, tasks: int
    ) -> Tensor:
        return per_task(plain(hidden, weight, bias, labels), task_ids, tasks)

    compiled_sums = torch.compile(sums_of, dynamic=False)

    def step(problem: Problem) -> Tensor:
        rows = (problem.labels, problem.task_ids, len(problem.upstream))
        return backward(problem, compiled_sums(problem.hidden, problem.weight, problem.bias, *rows))

    return step


def chunked(options: LinearCrossEntropyOptions) -> Step:
    """Torch's own chunked loss."""

    def row_losses(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        return functional.linear_cross_entropy(
            hidden, weight, labels, linear_bias=bias, reduction="none", options=options
        )

    return of_row_losses(row_losses)


def liger(device: str) -> Step:
    """Triton kernels of the package liger-kernel."""
    require("liger_kernel", device)
    function = importlib.import_module("liger_kernel.ops.fused_linear_cross_entropy")
    apply = function.LigerFusedLinearCrossEntropyFunction.apply
    defaults = (None, -100, 0.0, 0.0)  # no class weights, ignored label, no z-loss, no smoothing

    def row_losses(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        losses = apply(hidden, weight, labels, bias, *defaults, "none")
        return losses[0] if isinstance(losses, tuple) else losses

    return of_row_losses(row_losses)


def cut(device: str) -> Step:
    """Triton kernels of the package cut-cross-entropy."""
    require("cut_cross_entropy", device)
    function = importlib.import_module("cut_cross_entropy").linear_cross_entropy
    if "bias" not in inspect.signature(function).parameters:
        raise Unavailable("the installed version takes no bias")

    def row_losses(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        return function(hidden, weight, labels, bias=bias, reduction="none")

    return of_row_losses(row_losses)


def require(package: str, device: str) -> None:
    """Refuse where a package of GPU kernels is missing or has no GPU."""
    if find_spec(package) is None:
        raise Unavailable("not installed")
    if device != "cuda":
        raise Unavailable("needs a GPU")


VARIANTS: dict[str, Callable[[str], Step]] = {
    PRODUCTS: lambda device: three_products,
    PRODUCTS_IN_PLACE: lambda device: products_in_our_memory,
    FULL: lambda device: lambda problem: ours(problem, "full"),
    LOW: lambda device: lambda problem: ours(problem, "low"),
    FALLBACK: fallback,
    PLAIN: lambda device: of_row_losses(plain),
    COMPILED: compiled,
    CHUNKED: lambda device: chunked(LinearCrossEntropyOptions()),
    CHUNKED_256: lambda device: chunked(LinearCrossEntropyOptions(batch_chunk_size=256)),
    LIGER: liger,
    CUT: cut,
}
"""Given the device, the step of each; raises Unavailable."""
PEERS = tuple(name for name in VARIANTS if name not in (*BOUNDS, *OURS))
